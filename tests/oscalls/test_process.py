"""The guest's identity as it sees it, and what it may do with it."""

import errno
import struct

import pytest

from proxybox.controller import abi
from proxybox.controller.dispatch import TABLE
from proxybox.controller.errors import Denied
from proxybox.controller.header import THREAD_FLAGS
from proxybox.controller.oscalls import identity, process, randomness, refused
from proxybox.controller.world.state import FIRST_PID


def test_identity_is_the_policys(box):
    assert box.call(identity.getuid) == box.call(identity.geteuid) == 1000
    assert box.call(identity.getresgid, 8, 16, 24)[0] == 0
    assert box.value(identity.setuid, 1000) == 0
    assert box.value(identity.setuid, 0) == -errno.EPERM
    assert box.value(identity.setresuid, 0xFFFFFFFF, 1000, 0xFFFFFFFF) == 0
    assert box.value(identity.setgroups, 0, 0) == -errno.EPERM
    assert box.value(identity.getgroups, 0, 0) == 0
    assert box.value(identity.getpgid, 1) == -errno.ESRCH
    assert box.value(identity.setsid) == -errno.EPERM


def test_uname_tells_nothing_of_the_host(make_box):
    box = make_box(environment={"hostname": "lab"})
    name = box.written(identity.uname, 8)
    assert len(name) == 390
    assert name[65:70] == b"lab\0\0"


def test_limits_can_only_be_lowered(box):
    old = box.written(process.prlimit64, 0, abi.RLIMIT_NOFILE, None, 8)
    assert struct.unpack("<QQ", old) == (1024, 1024)
    lower = struct.pack("<QQ", 20, 20)
    assert box.value(process.prlimit64, 0, abi.RLIMIT_NOFILE, lower, 0) == 0
    assert box.world.descriptors.open_files == 20
    assert box.value(process.setrlimit, abi.RLIMIT_NOFILE, old) == -errno.EPERM
    assert box.value(process.setrlimit, abi.RLIMIT_NOFILE, struct.pack("<QQ", 9, 8)) == -errno.EINVAL
    assert box.value(process.prlimit64, 0, 16, None, 8) == -errno.EINVAL
    assert box.value(process.prlimit64, 1, 7, None, 8) == -errno.ESRCH


def test_cpus(make_box):
    box = make_box(environment={"cpu_count": 3})
    assert box.call(process.sched_getaffinity, 0, 128, 8) == (8, (8, abi.U64.pack(7)))
    assert box.value(process.sched_getaffinity, 0, 4, 8) == -errno.EINVAL
    assert box.value(process.sched_setaffinity, 0, 8, abi.U64.pack(8)) == -errno.EINVAL
    assert box.value(process.sched_setaffinity, 0, 8, abi.U64.pack(6 | 1 << 40)) == 0
    assert box.call(process.sched_getaffinity, FIRST_PID, 128, 8) == (8, (8, abi.U64.pack(6)))
    assert box.value(process.sched_setaffinity, 1, 8, abi.U64.pack(1)) == -errno.ESRCH


def test_cpus_are_a_threads_own(make_box):
    """A new thread starts with its parent's CPUs. Calls may name each thread by its id."""
    box = make_box(environment={"cpu_count": 100})
    high = 1 << 99
    assert box.value(process.sched_setaffinity, 0, 16, high.to_bytes(16, "little")) == 0
    box.value(process.clone, THREAD_FLAGS, 0, 0, 0, 0)
    tid = box.world.threads[1].tid
    assert box.call(process.sched_getaffinity, tid, 16, 8)[1] == (8, high.to_bytes(16, "little"))
    assert box.value(process.sched_setaffinity, tid, 1, b"\x03") == 0
    sets = [box.call(process.sched_getaffinity, each, 16, 8)[1][1] for each in (0, tid)]
    assert [int.from_bytes(each, "little") for each in sets] == [high, 3]


def test_threads_are_counted(make_box):
    box = make_box(limits={"threads": 3})
    flags = THREAD_FLAGS
    made = [box.value(process.clone, flags, 0, 0, 0, 0) for _ in range(3)]
    assert made == [FIRST_PID + 1 << 16 | 1, FIRST_PID + 2 << 16 | 2, -errno.EAGAIN]
    main, first, _ = box.world.threads
    box.world.thread = first
    assert box.value(process.exit_, 0) == 0
    assert first.exited
    assert first not in box.world.threads
    box.world.thread = main
    assert box.value(process.clone, flags, 0, 0, 0, 0) == FIRST_PID + 3 << 16 | 1


def test_forks_are_denied(box):
    for flags in (0x1200011, 0x4111, 0, THREAD_FLAGS | 1, (1 << 64) - 1):
        with pytest.raises(Denied) as error:
            process.clone(box.world, box.world.thread, flags, 0, 0, 0, 0)
        assert error.value.errno == errno.EPERM


def test_exit_group_keeps_what_the_guest_claims(box):
    assert box.value(process.exit_group, 259) == 0
    assert box.world.exit_code == 3


def test_the_threads_name(box):
    assert box.value(process.prctl, 15, (8, b"worker\0trailing!")) == 0
    assert box.written(process.prctl, 16, (8, None)) == b"worker".ljust(16, b"\0")
    assert box.value(process.prctl, 15, (0, None)) == -errno.EFAULT
    assert box.value(process.prctl, 22, (2, None)) == -errno.EINVAL
    assert box.value(process.prctl, 4, (1, None)) == -errno.EINVAL


def test_there_are_no_children(box):
    assert box.value(process.wait4, -1, 0, 0, 0) == -errno.ECHILD
    assert box.value(process.wait4, -1, 0, 1 << 20, 0) == -errno.EINVAL
    assert box.value(process.waitid, 0, 0, 0, 4, 0) == -errno.ECHILD


def test_every_refusal_has_its_number_once_and_its_reason(box):
    for number, name, _, code, reason in refused.DENIED + refused.ABSENT:
        row = TABLE[number]
        assert row.name == name
        with pytest.raises(OSError) as error:
            row.handler(box.world)
        assert error.value.errno == code
        assert reason


def test_sockets_are_denied_but_glibcs_own_question_is_not_recorded(box):
    with pytest.raises(Denied):
        refused.socket(box.world, 2, 1, 0)
    with pytest.raises(OSError) as error:
        refused.socket(box.world, 1, 0o2004001, 0)
    assert not isinstance(error.value, Denied)


def test_a_seed_repeats_and_cuts_do_not_matter(make_box):
    def take(box, *sizes):
        return b"".join(box.written(randomness.getrandom, 8, size, 0) for size in sizes)

    assert take(make_box(randomness=7), 3, 997, 5000) == take(make_box(randomness=7), 6000)
    assert take(make_box(randomness=7), 32) != take(make_box(randomness=8), 32)
    assert take(make_box(), 32) != take(make_box(), 32)


def test_getrandom_is_bounded(box):
    assert box.value(randomness.getrandom, 8, (1 << 64) - 1, 0) == 1 << 20
    assert box.value(randomness.getrandom, 8, 0, 0) == 0
    assert box.value(randomness.getrandom, 8, 1, 6) == -errno.EINVAL
    assert box.value(randomness.getrandom, 8, 1, 8) == -errno.EINVAL
