"""Dispositions, masks and signals to the guest itself."""

import errno
import struct

from proxybox.controller import abi
from proxybox.controller.effects import Blocked
from proxybox.controller.oscalls import signals
from proxybox.controller.world.state import FIRST_PID

HANDLER = abi.SIGACTION.pack(0x1000, 0, 0, (1 << 64) - 1)
USR1 = 10


def mask(*numbers):
    return abi.U64.pack(sum(1 << (number - 1) for number in numbers))


def block(box, *numbers):
    return box.value(signals.rt_sigprocmask, abi.SIG_SETMASK, mask(*numbers), 0, 8)


def sent(box):
    return [signal.number for signal in box.world.signals.outbox]


def test_dispositions_are_kept_without_what_cannot_be_masked(box):
    assert box.value(signals.rt_sigaction, USR1, HANDLER, 0, 8) == 0
    old = box.written(signals.rt_sigaction, USR1, None, 8, 8)
    handler, _, _, blocked = abi.SIGACTION.unpack(old)
    assert handler == 0x1000
    for number in (abi.SIGKILL, abi.SIGSTOP, abi.SIGSYS):
        assert not blocked >> (number - 1) & 1
        assert box.value(signals.rt_sigaction, number, HANDLER, 0, 8) == -errno.EINVAL
        assert box.value(signals.rt_sigaction, number, None, 8, 8) == 0
    for number in (0, -1, 65, 1 << 30):
        assert box.value(signals.rt_sigaction, number, HANDLER, 0, 8) == -errno.EINVAL
    assert box.value(signals.rt_sigaction, USR1, HANDLER, 0, 16) == -errno.EINVAL


def test_masks(box):
    assert block(box, USR1, abi.SIGSYS, abi.SIGKILL) == 0
    assert box.written(signals.rt_sigprocmask, 0, None, 8, 8) == mask(USR1)
    assert box.value(signals.rt_sigprocmask, abi.SIG_UNBLOCK, mask(USR1), 0, 8) == 0
    assert box.world.thread.sigmask == 0
    assert box.value(signals.rt_sigprocmask, 7, mask(USR1), 0, 8) == -errno.EINVAL


def test_a_handled_signal_goes_to_the_driver(box):
    box.value(signals.rt_sigaction, USR1, HANDLER, 0, 8)
    assert box.value(signals.kill, FIRST_PID, USR1) == 0
    assert box.value(signals.kill, 0, USR1) == 0
    assert box.value(signals.tgkill, FIRST_PID, FIRST_PID, USR1) == 0
    assert sent(box) == [USR1] * 3
    assert box.world.ending is None


def test_a_blocked_signal_waits_for_the_mask(box):
    box.value(signals.rt_sigaction, USR1, HANDLER, 0, 8)
    block(box, USR1)
    box.value(signals.kill, 0, USR1)
    box.value(signals.kill, 0, USR1)
    assert sent(box) == []
    assert box.written(signals.rt_sigpending, 8, 8) == mask(USR1)
    block(box)
    assert sent(box) == [USR1]


def test_default_actions(box):
    for ignored in (abi.SIGCHLD, abi.SIGWINCH, abi.SIGTSTP):
        assert box.value(signals.kill, 0, ignored) == 0
    assert box.world.ending is None
    assert box.value(signals.kill, 0, 0) == 0
    assert box.value(signals.kill, 0, abi.SIGTERM) == 0
    assert box.world.ending.signal == abi.SIGTERM


def test_sigkill_to_oneself_ends_the_box_even_blocked(box):
    block(box, *range(1, 65))
    assert box.value(signals.kill, FIRST_PID, abi.SIGKILL) == 0
    assert box.world.ending.signal == abi.SIGKILL


def test_nobody_else_can_be_signalled(box):
    assert box.value(signals.kill, 1, abi.SIGTERM) == -errno.ESRCH
    assert box.value(signals.kill, -77, abi.SIGTERM) == -errno.ESRCH
    assert box.value(signals.kill, FIRST_PID - 1, 0) == -errno.ESRCH
    assert box.value(signals.tgkill, FIRST_PID, FIRST_PID + 1, USR1) == -errno.ESRCH
    assert box.value(signals.tgkill, -1, FIRST_PID, USR1) == -errno.EINVAL
    assert box.value(signals.tkill, 0, USR1) == -errno.EINVAL
    assert box.value(signals.kill, FIRST_PID, 65) == -errno.EINVAL
    assert box.value(signals.kill, 0, abi.SIGSTOP) == -errno.EPERM
    assert box.world.ending is None


def test_a_signal_to_a_thread_waits_for_that_thread(box):
    box.value(signals.rt_sigaction, USR1, HANDLER, 0, 8)
    other = box.world.allocate_thread()
    block(box, USR1)
    assert box.value(signals.tkill, box.world.thread.tid, USR1) == 0
    assert sent(box) == []
    assert box.value(signals.kill, 0, USR1) == 0  # the other thread gets it
    assert sent(box) == [USR1]
    assert box.value(signals.tkill, other.tid, USR1) == 0
    assert box.world.signals.outbox[-1].thread is other


def test_sigwait_takes_a_pending_signal(box):
    block(box, USR1, 34)
    wait = box.call(signals.rt_sigtimedwait, mask(USR1, 34), 0, None, 8)
    assert isinstance(wait, Blocked)
    assert wait.attempt() is None
    info = bytes(8) + struct.pack("<i", -1) + bytes(12) + abi.U64.pack(77) + bytes(96)
    assert box.value(signals.rt_sigqueueinfo, FIRST_PID, 34, info) == 0
    assert box.value(signals.kill, 0, USR1) == 0
    assert wait.attempt() == USR1
    number, (address, seen) = box.call(signals.rt_sigtimedwait, mask(34), 64, None, 8)
    assert (number, address, len(seen)) == (34, 64, 128)
    assert seen[:4] == struct.pack("<i", 34)
    assert seen[24:32] == abi.U64.pack(77)
    poll = box.call(signals.rt_sigtimedwait, mask(34), 0, abi.pack_timespec(0), 8)
    assert poll == -errno.EAGAIN


def test_sigsuspend_puts_the_mask_back(box):
    box.value(signals.rt_sigaction, USR1, HANDLER, 0, 8)
    block(box, USR1)
    wait = box.call(signals.rt_sigsuspend, mask(), 8)
    assert isinstance(wait, Blocked)
    assert box.world.thread.sigmask == 0
    assert wait.on_interrupt() == -errno.EINTR
    assert abi.U64.pack(box.world.thread.sigmask) == mask(USR1)
    box.value(signals.kill, 0, USR1)
    assert box.call(signals.rt_sigsuspend, mask(), 8) == -errno.EINTR
    assert sent(box) == [USR1]


def test_alternate_stacks(box):
    stack = abi.STACK_T.pack(0x7000, 0, 0, 8192)
    assert box.value(signals.sigaltstack, stack, 0) == 0
    assert box.written(signals.sigaltstack, None, 8) == stack
    small = abi.STACK_T.pack(0x7000, 0, 0, 100)
    assert box.value(signals.sigaltstack, small, 0) == -errno.ENOMEM
    odd = abi.STACK_T.pack(0x7000, 64, 0, 8192)
    assert box.value(signals.sigaltstack, odd, 0) == -errno.EINVAL


def test_a_flood_of_signals_is_bounded(box):
    block(box, 40)
    for _ in range(500):
        box.value(signals.kill, 0, 40)
    assert len(box.world.signals.pending) <= 64
    box.value(signals.rt_sigaction, USR1, HANDLER, 0, 8)
    for _ in range(500):
        box.value(signals.kill, 0, USR1)
    assert len(box.world.signals.outbox) <= 64


def test_a_full_queue_is_eagain_but_for_kill(box):
    """As beyond RLIMIT_SIGPENDING. But kill(2) does not fail then: one of its signals stands for all of its number."""
    block(box, 40, 41, USR1)
    value = bytes(8) + struct.pack("<i", -1) + bytes(116)
    for _ in range(64):
        assert box.value(signals.rt_sigqueueinfo, FIRST_PID, 40, value) == 0
    assert box.value(signals.rt_sigqueueinfo, FIRST_PID, 40, value) == -errno.EAGAIN
    assert box.value(signals.rt_tgsigqueueinfo, FIRST_PID, FIRST_PID, 41, value) == -errno.EAGAIN
    assert box.value(signals.tgkill, FIRST_PID, FIRST_PID, 41) == -errno.EAGAIN
    for _ in range(3):
        assert box.value(signals.kill, 0, 40) == box.value(signals.kill, 0, 41) == box.value(signals.kill, 0, USR1) == 0
    waiting = [signal.number for signal in box.world.signals.pending]
    assert [waiting.count(number) for number in (40, 41, USR1)] == [64, 1, 1]
    assert box.value(signals.rt_sigqueueinfo, FIRST_PID, abi.SIGCHLD, value) == 0, "one that nobody keeps"
    assert box.value(signals.rt_sigtimedwait, mask(40), 0, abi.pack_timespec(0), 8) == 40


def test_what_the_mask_lets_go_is_not_lost(box):
    for number in (USR1, 40):
        box.value(signals.rt_sigaction, number, HANDLER, 0, 8)
    block(box, USR1, 40)
    for _ in range(64):
        box.value(signals.kill, 0, 40)
    box.value(signals.kill, 0, USR1)
    block(box)
    assert sent(box) == [40] * 64 + [USR1]
    assert box.value(signals.tkill, FIRST_PID, 40) == -errno.EAGAIN, "they wait for the kernel now"
