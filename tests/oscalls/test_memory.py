"""Mappings of virtual files."""

import errno

import pytest

from proxybox.controller import abi
from proxybox.controller.oscalls import descriptors, memory, paths, pipes
from proxybox.controller.world.state import HIDDEN

READ, WRITE = abi.PROT_READ, abi.PROT_WRITE
SHARED, PRIVATE = abi.MAP_SHARED, abi.MAP_PRIVATE


def open_file(box, flags=abi.O_RDWR, path=b"/data/hello"):
    return box.value(paths.open_, path, flags, 0)


def mmap(box, fd, prot=READ, flags=PRIVATE, length=4096, offset=0):
    return box.value(memory.mmap, 0, length, prot, flags, fd, offset)


def test_a_mapping_outlives_its_descriptor(box):
    fd = open_file(box)
    hidden = mmap(box, fd, READ | WRITE, SHARED)
    assert hidden >= HIDDEN
    assert box.value(descriptors.close, fd) == 0
    assert box.value(paths.unlink, b"/data/hello") == 0
    assert box.written(descriptors.pread64, hidden, 8, 4096, 0) == b"hello, world\n"
    assert box.value(descriptors.pwrite64, hidden, b"HELLO", 5, 0) == 5
    assert box.written(descriptors.pread64, hidden, 8, 5, 0) == b"HELLO"
    assert abi.STAT.unpack(box.written(descriptors.fstat, hidden, 8))[8] == 13
    assert box.value(descriptors.close_range, 0, 0xFFFFFFFF, 0) == 0
    assert box.value(descriptors.close, hidden) == 0
    assert box.value(descriptors.pread64, hidden, 8, 1, 0) == -errno.EBADF
    assert box.value(descriptors.close, hidden) == -errno.EBADF


def test_a_mapping_never_makes_its_file_longer_nor_appends(box):
    hidden = mmap(box, open_file(box, abi.O_RDWR | abi.O_APPEND), READ | WRITE, SHARED)
    page = b"x" * 4096
    assert box.value(descriptors.pwrite64, hidden, page, 4096, 10) == 4096
    assert box.written(descriptors.pread64, hidden, 8, 4096, 0) == b"hello, worxxx"
    assert box.value(descriptors.pwrite64, hidden, page, 4096, (1 << 63) - 1) == 4096


def test_hidden_numbers_are_no_descriptors(box):
    hidden = mmap(box, open_file(box), READ | WRITE, SHARED)
    assert box.value(descriptors.read, hidden, 8, 1) == -errno.EBADF
    assert box.value(descriptors.dup, hidden) == -errno.EBADF
    assert box.value(descriptors.lseek, hidden, 0, 0) == -errno.EBADF
    private = mmap(box, open_file(box, abi.O_RDONLY), READ | WRITE, PRIVATE)
    assert box.value(descriptors.pwrite64, private, b"x", 1, 0) == -errno.EBADF


@pytest.mark.parametrize(
    ("flags", "prot", "kind", "code"),
    [
        (abi.O_WRONLY, READ, PRIVATE, errno.EACCES),
        (abi.O_WRONLY, WRITE, SHARED, errno.EACCES),
        (abi.O_RDONLY, WRITE, SHARED, errno.EACCES),
        (abi.O_PATH, READ, PRIVATE, errno.EBADF),
        (abi.O_RDWR, READ, 0, errno.EINVAL),
        (abi.O_RDWR, READ, PRIVATE | abi.MAP_LOCKED, errno.EINVAL),
        (abi.O_RDWR, READ, PRIVATE | 1 << 25, errno.EINVAL),
        (abi.O_RDWR, READ, abi.MAP_SHARED_VALIDATE | 1 << 25, errno.EOPNOTSUPP),
        (abi.O_RDWR, 64, PRIVATE, errno.EINVAL),
    ],
)
def test_mappings_are_refused_as_linux_does(box, flags, prot, kind, code):
    assert mmap(box, open_file(box, flags), prot, kind) == -code


def test_sizes_and_kinds(box):
    fd = open_file(box)
    assert mmap(box, fd, length=0) == -errno.EINVAL
    assert mmap(box, fd, offset=1) == -errno.EINVAL
    assert mmap(box, fd, length=(1 << 64) - 1) == -errno.ENOMEM
    assert mmap(box, fd, offset=(1 << 64) - 4096) == -errno.EOVERFLOW
    assert mmap(box, -1) == -errno.EBADF
    assert mmap(box, -1, flags=PRIVATE | abi.MAP_ANONYMOUS) == 0
    assert mmap(box, open_file(box, abi.O_RDONLY, b"/data")) == -errno.ENODEV
    assert mmap(box, box.value(pipes.eventfd, 0)) == -errno.ENODEV


def test_mappings_are_bounded(box, monkeypatch):
    monkeypatch.setattr(memory, "MAPPINGS_MAX", 3)
    fd = open_file(box)
    assert [mmap(box, fd) for _ in range(4)] == [HIDDEN, HIDDEN + 1, HIDDEN + 2, -errno.ENOMEM]
    box.call(descriptors.close, HIDDEN + 1)
    assert mmap(box, fd) == HIDDEN + 1


def test_what_the_stub_does_is_only_checked(box):
    assert box.value(memory.munmap, 4096, 4096) == 0
    assert box.value(memory.munmap, 1, 4096) == -errno.EINVAL
    assert box.value(memory.msync, 4096, 4096, 4) == 0
    assert box.value(memory.msync, 4096, 4096, 5) == -errno.EINVAL
    assert box.value(memory.mremap, 4096, 4096, 8192, 1, 0) == 0
    assert box.value(memory.mremap, 4096, 4096, 8192, 2, 0) == -errno.EINVAL
    assert box.value(memory.madvise, 4096, 4096, 3) == 0
    assert box.value(memory.madvise, 4096, 4096, 100) == -errno.EINVAL
