"""Calls that take numbers, on descriptors of each kind: the same results and errors as on the kernel of this host."""

import ctypes
import errno
import itertools
import os
import socket
import tempfile
from collections.abc import Callable, Iterator

import pytest

from proxybox.controller import abi
from proxybox.controller.oscalls import control, descriptors, identity, paths, pipes, process, sockets

_SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
_SYSCALL.restype = ctypes.c_long
_FILES = {
    "rw": os.O_RDWR, "ro": os.O_RDONLY, "wo": os.O_WRONLY, "append": os.O_RDWR | os.O_APPEND, "path": os.O_PATH,
}  # fmt: skip
KINDS = [*_FILES, "folder", "pipe", "pipe's end", "socket"]
OFFSETS = [-(1 << 63), -1, 0, 3, 5000, (1 << 63) - 1]
CALLS = [
    (8, descriptors.lseek, itertools.product(OFFSETS, range(-1, 7))),
    (77, descriptors.ftruncate, [(-1,), (5,), (9000,), (5000,)]),
    (285, descriptors.fallocate, itertools.product((0, 1, 2), (-1, 0, 9000), (-1, 0, 10, (1 << 63) - 1))),
    (74, descriptors.fsync, [()]), (75, descriptors.fdatasync, [()]),
    (277, descriptors.sync_file_range, itertools.product((-1, 0), (-1, 0, 10), (0, 7, 8))),
    (221, descriptors.fadvise64, itertools.product((-1, 0), (-1, 0), (-1, 0, 5, 6))),
    (187, descriptors.readahead, [(0, 10)]), (72, "fcntl", [
        (abi.F_SETFD, 0), (abi.F_GETFD, 0), (abi.F_SETFD, 3), (abi.F_GETFD, 0), (abi.F_SETFD, 2), (abi.F_GETFD, 0),
        (abi.F_SETFL, abi.O_NONBLOCK | abi.O_RDWR), (abi.F_GETFL, 0), (abi.F_SETFL, abi.O_APPEND), (abi.F_GETFL, 0),
        (abi.F_SETFL, 0), (abi.F_GETFL, 0), (abi.F_DUPFD, -1), (abi.F_DUPFD, 1 << 30), (abi.F_GETPIPE_SZ, 0),
        (abi.F_SETPIPE_SZ, 5000), (abi.F_GETPIPE_SZ, 0), (abi.F_SETPIPE_SZ, -1), (abi.F_GETOWN, 0), (abi.F_GETSIG, 0),
        (abi.F_SETOWN, 0), (abi.F_GETLEASE, 0), (9999, 0), (-1, 0),
    ]),
    (73, control.flock, [(kind | wait,) for kind in (0, 1, 2, 3, 8, 64) for wait in (4, 0)]),
    (292, "dup3", [(0,), (abi.O_CLOEXEC,), (abi.O_APPEND,)]),
]  # fmt: skip
#: The end of a folder is after the last entry, as in ext4; tmpfs has no such end.
_OF_THE_FILESYSTEM = [("folder", descriptors.lseek, os.SEEK_END)]


def native(number: int, *arguments: int) -> int:
    result = _SYSCALL(number, *map(ctypes.c_long, arguments))
    return int(result) if result >= 0 else -ctypes.get_errno()


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest, box) -> Iterator[tuple[str, int, int]]:
    """The kind, a descriptor of the host, and one of the box for the same kind of file."""
    kind = request.param
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        others: list[int] = []
        if kind in _FILES:
            with open(f"{folder}/f", "wb") as file:
                file.write(b"x" * 100)
            fd = box.value(paths.open_, b"/tmp/f", os.O_CREAT | os.O_WRONLY, 0o644)
            box.value(descriptors.write, fd, b"x" * 100, 100)
            theirs = os.open(f"{folder}/f", _FILES[kind])
            ours = box.value(paths.open_, b"/tmp/f", _FILES[kind], 0)
        elif kind == "folder":
            theirs, ours = os.open(folder, os.O_RDONLY), box.value(paths.open_, b"/tmp", os.O_RDONLY, 0)
        elif kind == "socket":
            pair = socket.socketpair()
            theirs, *others = (each.detach() for each in pair)
            ours = int.from_bytes(box.written(sockets.socketpair, 1, 1, 0, 8)[:4], "little")
        else:
            ends = os.pipe()
            end = kind == "pipe's end"
            theirs, others = ends[end], [ends[not end]]
            ours = int.from_bytes(box.written(pipes.pipe, 8)[4 * end :][:4], "little")
        yield kind, theirs, ours
        for fd in (theirs, *others):
            os.close(fd)


@pytest.mark.parametrize(("number", "handler", "arguments"), [(*each[:2], [*each[2]]) for each in CALLS])
def test_on_a_descriptor(
    box, both: tuple[str, int, int], number: int, handler: Callable[..., object] | str, arguments: list[tuple[int, ...]]
) -> None:
    kind, theirs, ours = both
    differ = []
    for each in arguments:
        if (kind, handler, each[-1:]) in [(*case[:2], (case[2],)) for case in _OF_THE_FILESYSTEM]:
            continue
        if handler == "fcntl":
            call = (control.fcntl, ours, each[0], (each[1], None))
            expected = native(number, theirs, *each)
        elif handler == "dup3":
            call = (descriptors.dup3, ours, ours, *each)
            expected = native(number, theirs, theirs, *each)
        else:
            call, expected = (handler, ours, *each), native(number, theirs, *each)
        got = box.value(*call)
        if got != expected:
            differ.append((each, got, expected))
    print(kind, number, differ)
    assert not differ, "(arguments, our answer, Linux's)"
    if kind in _FILES:
        status = abi.STAT.unpack(box.written(descriptors.fstat, ours, 8))
        assert status[8] == os.fstat(theirs).st_size


PROCESS = [
    (146, process.sched_get_priority_max, [(policy,) for policy in range(-1, 6)]),
    (147, process.sched_get_priority_min, [(policy,) for policy in range(-1, 6)]),
    (145, process.sched_getscheduler, [(0,), (999_999_999,)]),
    (140, process.getpriority, [(-1, 0), (3, 0), (0, 999_999_999)]),
    (141, process.setpriority, [(-1, 0, 0), (3, 0, 0), (0, 999_999_999, 0)]),
    (121, identity.getpgid, [(999_999_999,)]), (124, identity.getsid, [(999_999_999,)]),
    (109, identity.setpgid, [(0, -1), (999_999_999, 0)]), (135, process.personality, [(0xFFFFFFFF,)]),
    (61, process.wait4, [(-1, 0, 0x10, 0), (-1, 0, 1 << 26, 0)]),
    (247, process.waitid, [(4, 0, 0, 4, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0x10, 0), (-1, 0, 0, 4, 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("number", "handler", "arguments"), PROCESS)
def test_of_the_process(box, number: int, handler: Callable[..., object], arguments: list[tuple[int, ...]]) -> None:
    got = [box.value(handler, *each) for each in arguments]
    assert got == [native(number, *each) for each in arguments]
    assert -errno.ENOSYS not in got
