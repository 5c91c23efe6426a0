"""Reading, writing, duplicating, controlling, copying."""

import errno
import os
import struct

import pytest

from proxybox.controller import abi
from proxybox.controller.effects import Blocked
from proxybox.controller.oscalls import control, descriptors, paths, pipes, transfers

CWD = abi.AT_FDCWD


def open_file(box, path, flags=abi.O_RDWR, mode=0o666):
    return box.value(paths.openat, CWD, path, flags, mode)


def contents(box, path):
    fd = open_file(box, path, abi.O_RDONLY)
    data = box.written(descriptors.read, fd, 1, 1 << 20)
    box.call(descriptors.close, fd)
    return data


def test_write_seek_truncate(box):
    fd = open_file(box, b"/tmp/f", abi.O_CREAT | abi.O_RDWR)
    assert box.value(descriptors.write, fd, b"0123456789", 10) == 10
    assert box.value(descriptors.pwrite64, fd, b"ab", 2, 3) == 2
    assert box.value(descriptors.pwrite64, fd, b"ab", 2, -1) == -errno.EINVAL
    assert box.value(descriptors.lseek, fd, -2, abi.SEEK_END) == 8
    assert box.value(descriptors.ftruncate, fd, 9) == 0
    assert box.call(descriptors.read, fd, 7, 99) == (1, (7, b"8"))
    assert box.call(descriptors.pread64, fd, 7, 5, 0) == (5, (7, b"012ab"))
    assert box.value(descriptors.lseek, fd, -99, abi.SEEK_SET) == -errno.EINVAL
    assert box.value(descriptors.lseek, fd, 0, 17) == -errno.EINVAL
    assert box.value(descriptors.ftruncate, fd, -1) == -errno.EINVAL


def test_append_goes_to_the_end_and_access_modes_hold(box):
    fd = open_file(box, b"/data/hello", abi.O_WRONLY | abi.O_APPEND)
    assert box.value(descriptors.write, fd, b"!", 1) == 1
    assert contents(box, b"/data/hello") == b"hello, world\n!"
    assert box.value(descriptors.read, fd, 7, 1) == -errno.EBADF
    reader = open_file(box, b"/data/hello", abi.O_RDONLY)
    assert box.value(descriptors.write, reader, b"x", 1) == -errno.EBADF


def test_vectors_are_gathered_and_scattered(box):
    fd = open_file(box, b"/data/hello")
    iov = struct.pack("<QQQQQQ", 100, 5, 0, 0, 200, 50)
    assert box.call(descriptors.readv, fd, iov, 3) == (13, (100, b"hello"), (200, b", world\n"))
    assert box.call(descriptors.preadv, fd, iov, 3, 7, 0) == (6, (100, b"world"), (200, b"\n"))
    assert box.value(descriptors.readv, fd, iov, -1) == -errno.EINVAL
    assert box.value(descriptors.readv, fd, iov, 1025) == -errno.EINVAL
    assert box.value(descriptors.readv, fd, struct.pack("<QQ", 1, 1 << 63), 1) == -errno.EINVAL
    assert box.value(descriptors.writev, fd, b"abc", 2) == 3
    assert box.value(descriptors.preadv2, fd, iov, 3, 0, 0, 0x10) == -errno.EOPNOTSUPP


def test_huge_sizes_are_cut(box):
    fd = open_file(box, b"/data/sub/deep")
    assert box.value(descriptors.read, fd, 7, (1 << 64) - 1) == 10_000
    assert box.value(descriptors.pread64, fd, 7, (1 << 64) - 1, 0) == 10_000
    assert box.value(descriptors.fallocate, fd, 0, 1, (1 << 63) - 1) == -errno.EFBIG
    assert box.value(descriptors.fallocate, fd, 2, 0, 1) == -errno.EOPNOTSUPP


def test_duplicates_share_their_offset(box):
    fd = open_file(box, b"/data/hello")
    other = box.value(descriptors.dup, fd)
    box.call(descriptors.read, fd, 7, 5)
    assert box.call(descriptors.read, other, 7, 2) == (2, (7, b", "))
    assert box.value(descriptors.dup2, fd, 9) == 9
    assert box.value(descriptors.dup2, fd, fd) == fd
    assert box.value(descriptors.dup3, fd, fd, 0) == -errno.EINVAL
    assert box.value(descriptors.dup3, fd, 11, abi.O_CLOEXEC) == 11
    assert box.value(control.fcntl, 11, abi.F_GETFD, (0, None)) == abi.FD_CLOEXEC
    assert box.value(descriptors.dup2, fd, 1 << 40) == -errno.EBADF
    assert box.value(descriptors.close_range, 9, 20, 0) == 0
    assert box.value(descriptors.close, 9) == -errno.EBADF
    assert box.value(descriptors.close_range, 5, 4, 0) == -errno.EINVAL
    assert box.value(descriptors.close, -1) == -errno.EBADF


def test_open_files_are_limited(make_box):
    box = make_box(limits={"open_files": 8})
    opened = [open_file(box, b"/data/hello") for _ in range(10)]
    assert opened == [*range(8), -errno.EMFILE, -errno.EMFILE]
    assert box.value(pipes.pipe2, 8, 0) == -errno.EMFILE


def test_fcntl_flags(box):
    fd = open_file(box, b"/data/hello")
    assert box.value(control.fcntl, fd, abi.F_DUPFD, (10, None)) == 10
    assert box.value(control.fcntl, fd, abi.F_DUPFD_CLOEXEC, (10, None)) == 11
    assert box.value(control.fcntl, fd, abi.F_DUPFD, ((1 << 64) - 1, None)) == -errno.EINVAL
    assert box.value(control.fcntl, fd, abi.F_SETFL, (abi.O_NONBLOCK | abi.O_CREAT, None)) == 0
    flags = box.value(control.fcntl, fd, abi.F_GETFL, (0, None))
    assert flags & (abi.O_ACCMODE | abi.O_NONBLOCK | abi.O_CREAT) == abi.O_RDWR | abi.O_NONBLOCK
    assert box.value(control.fcntl, fd, 9999, (0, None)) == -errno.EINVAL
    assert box.value(control.fcntl, -1, abi.F_GETFD, (0, None)) == -errno.EBADF
    place = open_file(box, b"/data/hello", abi.O_PATH)
    assert box.value(control.fcntl, place, abi.F_SETFL, (0, None)) == -errno.EBADF


def test_record_locks_never_meet_another_owner(box):
    fd = open_file(box, b"/data/hello")
    lock = abi.FLOCK.pack(abi.F_WRLCK, abi.SEEK_SET, 0, 0, 0, 0, 0)
    assert box.value(control.fcntl, fd, abi.F_SETLK, (8, lock)) == 0
    answer = box.written(control.fcntl, fd, abi.F_GETLK, (8, lock))
    assert abi.FLOCK.unpack(answer)[0] == abi.F_UNLCK
    before = abi.FLOCK.pack(abi.F_WRLCK, abi.SEEK_SET, 0, -1, 0, 0, 0)
    assert box.value(control.fcntl, fd, abi.F_SETLK, (8, before)) == -errno.EINVAL
    assert box.value(control.fcntl, fd, abi.F_SETLK, (8, None)) == -errno.EFAULT


def test_flock_is_between_descriptions(box):
    one, other = open_file(box, b"/data/hello"), open_file(box, b"/data/hello")
    assert box.value(control.flock, one, abi.LOCK_EX) == 0
    assert box.value(control.flock, other, abi.LOCK_SH | abi.LOCK_NB) == -errno.EWOULDBLOCK
    wait = box.call(control.flock, other, abi.LOCK_EX)
    assert isinstance(wait, Blocked)
    assert wait.attempt() is None
    assert box.value(descriptors.close, one) == 0
    assert wait.attempt() == 0
    assert box.value(control.flock, other, abi.LOCK_UN) == 0
    assert box.world.flocks == {}
    assert box.value(control.flock, other, 99) == -errno.EINVAL


def test_ioctl_on_what_is_no_terminal(box):
    fd = open_file(box, b"/data/hello")
    assert box.value(control.ioctl, fd, abi.TCGETS, (8, bytes(44))) == -errno.ENOTTY
    assert box.written(control.ioctl, fd, abi.FIONREAD, (8, bytes(44))) == abi.INT.pack(13)
    assert box.value(control.ioctl, fd, abi.FIONREAD, (0, None)) == -errno.EFAULT
    assert box.value(control.ioctl, fd, abi.FIONBIO, (8, b"\1" + bytes(43))) == 0
    assert box.world.descriptors.get(fd).nonblocking
    assert box.value(control.ioctl, fd, abi.FIOCLEX, (0, None)) == 0
    assert box.world.descriptors.cloexec(fd)


def test_copies_between_files(box):
    source = open_file(box, b"/data/sub/deep", abi.O_RDONLY)
    target = open_file(box, b"/tmp/copy", abi.O_CREAT | abi.O_RDWR)
    assert box.value(transfers.sendfile, target, source, (0, None), 1 << 30) == 10_000
    assert box.value(transfers.sendfile, target, source, (0, None), 1 << 30) == 0
    assert contents(box, b"/tmp/copy") == b"x" * 10_000
    at = (64, abi.U64.pack(9_990))
    reply = box.call(transfers.copy_file_range, source, at, target, (0, None), 100, 0)
    assert reply == (10, (64, abi.U64.pack(10_000)))
    assert box.value(transfers.sendfile, target, source, (64, None), 1) == -errno.EFAULT
    reader, _ = struct.unpack("<ii", box.written(pipes.pipe2, 8, 0))
    assert box.value(transfers.sendfile, target, reader, (0, None), 1) == -errno.EINVAL


def test_memfd_is_charged_to_the_box(make_box):
    box = make_box(limits={"disk": "64K"})
    fd = box.value(transfers.memfd_create, b"name", 1)
    assert box.value(descriptors.write, fd, b"x" * (1 << 20), 1 << 20) < 1 << 17
    assert box.value(transfers.memfd_create, b"n" * 300, 0) == -errno.EINVAL


def test_what_libffi_keeps_open_is_in_no_programs_way(make_box):
    box = make_box(limits={"open_files": 100})
    assert [box.value(transfers.memfd_create, name, 1) for name in (b"libffi", b"libffi", b"other")] == [92, 93, 0]


def test_a_pipe_waits_and_breaks(box):
    reader, writer = struct.unpack("<ii", box.written(pipes.pipe2, 8, 0))
    wait = box.call(descriptors.read, reader, 7, 10)
    assert isinstance(wait, Blocked)
    assert wait.attempt() is None
    assert box.value(descriptors.write, writer, b"abc", 3) == 3
    assert wait.attempt() == (3, (7, b"abc"))
    box.call(descriptors.close, reader)
    box.world.signals.actions[abi.SIGPIPE] = abi.SIGACTION.pack(abi.SIG_IGN, 0, 0, 0)
    assert box.value(descriptors.write, writer, b"abc", 3) == -errno.EPIPE
    assert box.world.ending is None
    del box.world.signals.actions[abi.SIGPIPE]
    assert box.value(descriptors.write, writer, b"abc", 3) == -errno.EPIPE
    assert box.world.ending.signal == abi.SIGPIPE


def test_a_reader_that_goes_away_ends_a_waiting_write(box):
    reader, writer = struct.unpack("<ii", box.written(pipes.pipe2, 8, 0))
    wait = box.call(descriptors.write, writer, bytes(100_000), 100_000)
    assert isinstance(wait, Blocked)
    assert box.value(descriptors.read, reader, 7, 50_000) == 50_000
    assert wait.attempt() == 100_000
    fill = 65_536 - 50_000
    assert box.value(descriptors.write, writer, bytes(fill), fill) == fill
    wait = box.call(descriptors.write, writer, b"x", 1)
    box.call(descriptors.close, reader)
    with pytest.raises(BrokenPipeError):
        wait.attempt()
    assert box.world.ending.signal == abi.SIGPIPE


def test_eventfd_counts(box):
    fd = box.value(pipes.eventfd2, 3, abi.O_NONBLOCK)
    assert box.value(descriptors.write, fd, abi.U64.pack(4), 8) == 8
    assert box.call(descriptors.read, fd, 7, 8) == (8, (7, abi.U64.pack(7)))
    assert box.value(descriptors.read, fd, 7, 8) == -errno.EAGAIN
    assert box.value(descriptors.read, fd, 7, 4) == -errno.EINVAL


def test_an_open_for_which_there_is_no_number_makes_and_empties_nothing(side):
    """As on Linux, the number is allocated first. Otherwise a repeated call would find that the file exists."""
    side.put(b"/tmp/full", b"contents")
    while (fd := side.call("open", b"/dev/null", os.O_RDONLY, 0)) >= 0:
        last = fd
    assert fd == -errno.EMFILE
    assert side.call("open", b"/tmp/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) == -errno.EMFILE
    assert side.call("open", b"/tmp/full", os.O_WRONLY | os.O_TRUNC, 0) == -errno.EMFILE
    side.call("close", last)
    assert side.get(b"/tmp/full") == b"contents"
    assert side.call("open", b"/tmp/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) == last
