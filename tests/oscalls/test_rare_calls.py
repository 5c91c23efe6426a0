"""Calls that programs seldom make: their results, and how they fail."""

import errno
import struct

import pytest

from proxybox.controller.oscalls import attributes, descriptors, identity, paths, polling, process
from proxybox.controller.vfs.nodes import Credentials

HERE = -100
RDWR_CREAT = 0o102
CAPABILITIES = 0x20080522


@pytest.fixture
def file(box):
    """A descriptor of a new file in the box, open for reading and writing."""
    fd = box.value(paths.open_, b"/tmp/file", RDWR_CREAT, 0o600)
    assert fd >= 0
    return fd


def test_pwritev2(box, file):
    assert box.value(descriptors.pwritev2, file, b"abc", 1, 2, 0, 0) == 3
    assert box.value(descriptors.pwritev2, file, b"xy", 1, -1, 0, 0) == 2
    assert box.written(descriptors.pread64, file, 8, 9, 0) == b"xyabc"
    assert box.value(descriptors.pwritev2, file, b"abc", 1, 0, 0, 8) == -errno.EOPNOTSUPP


@pytest.mark.parametrize(
    ("call", "arguments", "wrong"),
    [
        (descriptors.syncfs, (), None),
        (descriptors.sync_file_range, (0, 0, 7), (-1, 0, 0)),
        (descriptors.fadvise64, (0, 0, 5), (0, 0, 6)),
        (descriptors.readahead, (0, 10), None),
    ],
)
def test_hints_change_nothing(box, file, call, arguments, wrong):
    assert box.value(call, file, *arguments) == 0
    assert box.value(call, 99, *arguments) == -errno.EBADF
    assert wrong is None or box.value(call, file, *wrong) == -errno.EINVAL


def test_fstatfs_is_statfs(box, file):
    assert box.written(paths.fstatfs, file, 8) == box.written(paths.statfs, b"/tmp/file", 8)
    assert box.value(paths.fstatfs, 99, 8) == -errno.EBADF


def test_fchmodat2(box, file):
    assert box.value(attributes.fchmodat2, HERE, b"/tmp/file", 0o640, 0) == 0
    status = box.written(paths.stat, b"/tmp/file", 8)
    assert struct.unpack_from("<I", status, 24)[0] & 0o7777 == 0o640
    assert box.value(paths.symlink, b"file", b"/tmp/link") == 0
    assert box.value(attributes.fchmodat2, HERE, b"/tmp/link", 0o640, 0x100) == -errno.EOPNOTSUPP
    assert box.value(attributes.fchmodat2, HERE, b"/tmp/file", 0o640, 0x8000) == -errno.EINVAL


def test_futimesat(box, file):
    times = struct.pack("<4q", 1, 500_000, 2, 0)
    assert box.value(attributes.futimesat, HERE, b"/tmp/file", times) == 0
    status = box.written(paths.stat, b"/tmp/file", 8)
    assert struct.unpack_from("<4q", status, 72) == (1, 500_000_000, 2, 0)
    assert box.value(attributes.futimesat, HERE, b"/tmp/file", struct.pack("<4q", 1, 1_000_000, 2, 0)) == -errno.EINVAL


def test_ids_of_files_are_told_and_not_changed(box):
    assert box.value(identity.setfsuid, 0) == box.world.credentials.uid
    assert box.value(identity.setfsgid, 0) == box.world.credentials.gid


def test_there_are_no_capabilities(box):
    assert box.written(identity.capget, struct.pack("<Ii", CAPABILITIES, 0), 8) == bytes(24)
    assert box.value(identity.capget, bytes(8), 8) == -errno.EINVAL
    assert box.value(identity.capget, None, 8) == -errno.EFAULT


def test_epoll_pwait2(box):
    epoll = box.value(polling.epoll_create1, 0)
    at_once = bytes(16)
    assert box.value(polling.epoll_pwait2, epoll, 8, 1, at_once, None, 8) == 0
    assert box.value(polling.epoll_pwait2, epoll, 8, 1, struct.pack("<qq", 0, -1), None, 8) == -errno.EINVAL


def test_scheduling_is_told_and_not_changed(box):
    assert box.written(process.sched_getparam, 0, 8) == bytes(4)
    assert box.value(process.sched_setparam, 0, bytes(4)) == 0
    assert box.value(process.sched_setparam, 0, b"\1\0\0\0") == -errno.EINVAL
    assert box.written(process.sched_rr_get_interval, 0, 8) == struct.pack("<qq", 0, 4_000_000)
    assert box.value(process.sched_getparam, 4, 8) == -errno.ESRCH


def test_what_the_c_library_tells_of_a_thread(box):
    assert box.value(process.set_tid_address, 8) == box.world.thread.tid
    assert box.value(process.set_robust_list, 8, 24) == 0
    assert box.value(process.set_robust_list, 8, 23) == -errno.EINVAL


def test_a_thread_that_was_not_made(box):
    child = box.world.allocate_thread(box.world.thread)
    assert box.value(process.no_thread, child.tid, errno.EAGAIN) == 0
    assert box.value(process.no_thread, child.tid, errno.EAGAIN) == -errno.ESRCH, "it has ended"
    box.world.thread.calls = 1
    assert box.value(process.no_thread, box.world.thread.tid, 0) == -errno.ESRCH, "it has begun"


@pytest.mark.parametrize(
    ("call", "arguments", "answer"),
    [
        (process.personality, (0,), 0), (process.personality, (0xFFFFFFFF,), 0),
        (process.personality, (0xFFFFFFFE,), -errno.EPERM), (process.sched_setscheduler, (0, 0, None), -errno.EINVAL),
        (process.sched_setscheduler, (0, 0, bytes(4)), 0), (process.sched_setscheduler, (0, 1, bytes(4)), -errno.EPERM),
        (process.sched_setscheduler, (0, 2, bytes(4)), -errno.EPERM),
        (process.sched_setscheduler, (0, 0, b"1234"), -errno.EINVAL),
        (process.sched_setscheduler, (0, 4, bytes(4)), -errno.EINVAL),
        (process.getpriority, (0, 0), 20), (process.getpriority, (1, 77), 20), (process.getpriority, (2, 77), 20),
        (process.getrusage, (-1, 8), (0, (8, bytes(144)))),
        (process.prctl, (16, (8, None)), (0, (8, b"pypy3".ljust(16, b"\0")))),
        (process.wait4, (-1, 0, 0xE000000B, 0), -errno.ECHILD), (process.wait4, (-1, 0, 0, 0), -errno.ECHILD),
        (identity.setuid, (1000,), 0), (identity.setuid, (0,), -errno.EPERM), (identity.setgid, (0,), -errno.EPERM),
        (identity.setuid, (0xFFFFFFFF,), -errno.EINVAL), (identity.setgid, (0xFFFFFFFF,), -errno.EINVAL),
        (identity.setresgid, (1000, 0xFFFFFFFF, 1000), 0), (identity.setresgid, (1000, 0, 1000), -errno.EPERM),
        (identity.getgroups, (0, 8), 2), (identity.getgroups, (1, 8), -errno.EINVAL),
        (identity.getgroups, (2, 8), (2, (8, struct.pack("<II", 7, 9)))),
    ],
)  # fmt: skip
def test_what_is_answered_of_the_process(box, call, arguments, answer):
    box.world.credentials = Credentials(1000, 1000, frozenset({9, 7}))
    assert box.call(call, *arguments) == answer


def test_utime_takes_seconds(box, file):
    assert box.value(attributes.utime, b"/tmp/file", struct.pack("<qq", 5, 1 << 40)) == 0
    status = struct.unpack_from("<18Q", box.written(paths.stat, b"/tmp/file", 8))
    assert (status[9:11], status[11:13]) == ((5, 0), (1 << 33, 0))
    assert box.value(attributes.utime, b"/tmp/file", None) == 0
    assert struct.unpack_from("<18Q", box.written(paths.stat, b"/tmp/file", 8))[11] == 1_800_005_000
