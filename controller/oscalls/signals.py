"""Signals that a guest sends to itself: dispositions, masks, sending, waiting, alarms.

The stub keeps the guest's real masks and handlers equal to the answers here. The driver sends the signals that are put
on `SignalState.outbox`. SIGKILL, SIGSTOP and SIGSYS can be neither blocked nor handled.
"""

import errno
import struct
from collections.abc import Callable
from typing import Annotated, Final

import attrs

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import Denied
from proxybox.controller.header import CALL_FAULTED
from proxybox.controller.oscalls import asked
from proxybox.controller.oscalls.clock import timeout
from proxybox.controller.roles import Addr, Int, SignalNumber, Size, Struct, TimeStruct, UInt
from proxybox.controller.world.clock import FOREVER_NS
from proxybox.controller.world.state import (
    SI_TKILL,
    SI_USER,
    UNTOUCHABLE,
    UNTOUCHABLE_MASK,
    GuestThread,
    World,
)

_SET_SIZE = 8
_SIGINFO = struct.Struct("<iii4xiI")
_DEFAULT_ACTION = bytes(32)
#: The limitation of calls that wait under a signal mask.
MASKED: Final = "the handler runs when the ordinary mask allows it"
_SS_AUTODISARM = -(1 << 31)  # bit 31 of an int


def mask_of(data: bytes | None) -> int:
    """Returns a sigset without the signals that cannot be blocked; 0 for None."""
    return 0 if data is None else int.from_bytes(data, "little") & ~UNTOUCHABLE_MASK


def check_set_size(size: int) -> None:
    """Raises OSError (EINVAL) unless a sigset is as large as the kernel's."""
    if size != _SET_SIZE:
        raise OSError(errno.EINVAL, "a sigset has 8 bytes")


def _check_number(number: int) -> None:
    if not 0 <= number <= abi.NSIG:
        raise OSError(errno.EINVAL, "no such signal")


@oscall(
    13,
    effect=CallEffect.SIGNALS,
    partial="a handler runs with all signals blocked, on its thread's stack",
    asked=asked.acting,
)
def rt_sigaction(
    world: World, sig: SignalNumber, act: Annotated[bytes | None, Struct(32)], oldact: Addr, sigsetsize: Size
) -> Reply:
    """rt_sigaction(2): the disposition of a signal."""
    check_set_size(sigsetsize)
    _check_number(sig)
    if sig == 0 or (act is not None and sig in UNTOUCHABLE):
        raise OSError(errno.EINVAL, "this signal cannot be handled")
    old = world.signals.actions.get(sig, _DEFAULT_ACTION)
    if act is not None:
        handler, flags, restorer, mask = abi.SIGACTION.unpack(act)
        world.signals.actions[sig] = abi.SIGACTION.pack(handler, flags, restorer, mask & ~UNTOUCHABLE_MASK)
    return (0, (oldact, old)) if oldact else 0


@oscall(14, effect=CallEffect.SIGNALS)
def rt_sigprocmask(
    world: World, thread: GuestThread, how: Int, set_: Annotated[bytes | None, Struct(8)], oldset: Addr,
    sigsetsize: Size,
) -> Reply:  # fmt: skip
    """rt_sigprocmask(2): the calling thread's mask."""
    check_set_size(sigsetsize)
    old = thread.sigmask
    if set_ is not None:
        mask = mask_of(set_)
        if how == abi.SIG_BLOCK:
            thread.sigmask = old | mask
        elif how == abi.SIG_UNBLOCK:
            thread.sigmask = old & ~mask
        elif how == abi.SIG_SETMASK:
            thread.sigmask = mask
        else:
            raise OSError(errno.EINVAL, "not SIG_BLOCK, SIG_UNBLOCK or SIG_SETMASK")
        world.signals.release()
    return (0, (oldset, abi.U64.pack(old))) if oldset else 0


@oscall(127, effect=CallEffect.SIGNALS)
def rt_sigpending(world: World, thread: GuestThread, set_: Addr, sigsetsize: Size) -> Reply:
    """rt_sigpending(2): the signals that are blocked and wait."""
    check_set_size(sigsetsize)
    return 0, (set_, abi.U64.pack(world.signals.pending_mask(thread)))


@oscall(130, effect=CallEffect.WAITS | CallEffect.SIGNALS, partial=MASKED)
def rt_sigsuspend(
    world: World, thread: GuestThread, mask: Annotated[bytes | None, Struct(8)], sigsetsize: Size
) -> Reply:
    """rt_sigsuspend(2): waits for a signal under another mask."""
    check_set_size(sigsetsize)
    if mask is None:
        raise OSError(errno.EFAULT, "no mask")
    return wait_masked(world, thread, mask, lambda: world.wait(lambda: None))


@oscall(34, effect=CallEffect.WAITS | CallEffect.SIGNALS)
def pause(world: World) -> Reply:
    """pause(2): waits for a signal."""
    return world.wait(lambda: None)


@oscall(128, effect=CallEffect.WAITS | CallEffect.SIGNALS)
def rt_sigtimedwait(
    world: World,
    thread: GuestThread,
    set_: Annotated[bytes | None, Struct(8)],
    info: Addr,
    time: Annotated[bytes | None, TimeStruct(16)],
    sigsetsize: Size,
) -> Reply:
    """rt_sigtimedwait(2): takes a pending signal of a set, or waits for one."""
    check_set_size(sigsetsize)
    if set_ is None:
        raise OSError(errno.EFAULT, "no set")
    mask = mask_of(set_)

    def attempt() -> Reply | None:
        signal = world.signals.take(thread, mask)
        if signal is None:
            return None
        if info == 0:
            return signal.number
        head = _SIGINFO.pack(signal.number, 0, signal.code, world.process.pid, world.credentials.uid)
        return signal.number, (
            info,
            (head + abi.U64.pack(signal.value & abi.RLIM_INFINITY)).ljust(128, b"\0"),
        )

    return world.wait(attempt, timeout(time), lambda: -errno.EAGAIN)


@oscall(
    131,
    effect=CallEffect.SIGNALS,
    partial="kept and not used: handlers run on the stack of their thread",
    asked=asked.stacking,
)
def sigaltstack(world: World, thread: GuestThread, stack: Annotated[bytes | None, Struct(24)], old: Addr) -> Reply:
    """sigaltstack(2): the calling thread's stack for handlers."""
    before = thread.altstack
    if stack is not None:
        address, flags, _, size = abi.STACK_T.unpack(stack)
        mode = flags & ~_SS_AUTODISARM
        if mode not in (0, abi.SS_ONSTACK, abi.SS_DISABLE):
            raise OSError(errno.EINVAL, "unknown flags")
        if mode == abi.SS_DISABLE:
            address = size = 0
        elif size < abi.MINSIGSTKSZ:
            raise OSError(errno.ENOMEM, "too small a stack")
        thread.altstack = abi.STACK_T.pack(address, abi.SS_DISABLE if mode == abi.SS_DISABLE else 0, 0, size)
    return (0, (old, before)) if old else 0


def wait_masked(world: World, thread: GuestThread, mask: bytes, call: Callable[[], Reply]) -> Reply:
    """Waits under another signal mask, and returns the answer, which restores the old mask."""
    old, thread.sigmask = thread.sigmask, mask_of(mask)
    outbox = len(world.signals.outbox)

    def restored(step: Callable[[], Reply | None]) -> Reply | None:
        try:
            reply = step()
        except OSError:
            thread.sigmask = old
            raise
        if reply is not None and not isinstance(reply, Blocked):
            thread.sigmask = old
        return reply

    world.signals.release()
    interrupted = len(world.signals.outbox) > outbox
    reply = restored(lambda: -errno.EINTR if interrupted else call())
    if not isinstance(reply, Blocked):
        return 0 if reply is None else reply
    inner = reply
    return attrs.evolve(
        inner,
        attempt=lambda: restored(inner.attempt),
        on_timeout=inner.on_timeout and (lambda: restored(inner.on_timeout or (lambda: 0)) or 0),
        on_interrupt=lambda: restored(inner.on_interrupt or (lambda: -errno.EINTR)) or 0,
    )


# --- sending --------------------------------------------------------------------------------------


def _send(world: World, sig: int, thread: GuestThread | None, code: int, value: int = 0) -> Reply:
    _check_number(sig)
    if sig == abi.SIGSTOP:
        raise Denied(errno.EPERM, "a box cannot be stopped")
    if sig == abi.SIGSYS:
        raise Denied(errno.EPERM, "SIGSYS carries the box's own OS calls")
    if sig:
        world.signals.raise_signal(sig, thread, code, value)
    return 0


def _check_target(world: World, pid: int) -> None:
    """Raises OSError (ESRCH) unless `pid`, as kill(2) reads it, means the only process of the box."""
    process = world.process
    if pid not in (process.pid, 0, -1, -process.pgid):
        raise OSError(errno.ESRCH, "there is no other process")


@oscall(62, effect=CallEffect.SENDS, partial="signals to the box's own process only")
def kill(world: World, pid: Int, sig: SignalNumber) -> Reply:
    """kill(2): to the guest's own process or group; there is no other."""
    _check_number(sig)
    _check_target(world, pid)
    return _send(world, sig, None, SI_USER)


def _thread(world: World, tid: int) -> GuestThread:
    thread = world.thread_by_tid(tid) if tid > 0 else None
    if tid <= 0:
        raise OSError(errno.EINVAL, "not a thread id")
    if thread is None:
        raise OSError(errno.ESRCH, "no such thread")
    return thread


@oscall(200, effect=CallEffect.SENDS)
def tkill(world: World, tid: Int, sig: SignalNumber) -> Reply:
    """tkill(2): to one of the guest's own threads."""
    _check_number(sig)
    return _send(world, sig, _thread(world, tid), SI_TKILL)


@oscall(234, effect=CallEffect.SENDS)
def tgkill(world: World, tgid: Int, tid: Int, sig: SignalNumber) -> Reply:
    """tgkill(2): to one of the guest's own threads."""
    _check_number(sig)
    thread = _thread(world, tid)
    if tgid <= 0:
        raise OSError(errno.EINVAL, "not a process id")
    if tgid != world.process.pid:
        raise OSError(errno.ESRCH, "no such process")
    return _send(world, sig, thread, SI_TKILL)


def _queued(info: bytes | None) -> tuple[int, int]:
    """Returns (si_code, si_value) of a siginfo that a guest sends to itself."""
    if info is None:
        raise OSError(errno.EFAULT, "no siginfo")
    return int.from_bytes(info[8:12], "little", signed=True), int.from_bytes(info[24:32], "little")


@oscall(129, effect=CallEffect.SENDS, partial="signals to the box's own process only", asked=asked.queueing)
def rt_sigqueueinfo(world: World, pid: Int, sig: SignalNumber, info: Annotated[bytes | None, Struct(128)]) -> Reply:
    """rt_sigqueueinfo(2): to the guest's own process, with a value."""
    code, value = _queued(info)
    _check_number(sig)
    _check_target(world, pid if pid > 0 else 1 << 30)
    return _send(world, sig, None, code, value)


@oscall(297, effect=CallEffect.SENDS, asked=asked.queueing)
def rt_tgsigqueueinfo(
    world: World, tgid: Int, tid: Int, sig: SignalNumber, info: Annotated[bytes | None, Struct(128)]
) -> Reply:
    """rt_tgsigqueueinfo(2): to one of the guest's own threads, with a value."""
    code, value = _queued(info)
    _check_number(sig)
    thread = _thread(world, tid)
    _check_target(world, tgid if tgid > 0 else 1 << 30)
    return _send(world, sig, thread, code, value)


# --- alarms ---------------------------------------------------------------------------------------


@oscall(37, effect=CallEffect.TIMERS)
def alarm(world: World, seconds: UInt) -> Reply:
    """alarm(2): SIGALRM after some seconds of the box's time."""
    left, _ = world.timer_left(abi.ITIMER_REAL)
    world.set_timer(abi.ITIMER_REAL, seconds * abi.NS, 0)
    whole, rest = divmod(left, abi.NS)
    return whole + (1 if rest >= abi.NS // 2 or (left and not whole) else 0)


def _itimerval(world: World, which: int) -> bytes:
    left, interval = world.timer_left(which)
    return abi.pack_timeval(interval) + abi.pack_timeval(left)


@oscall(36, effect=CallEffect.CLOCK)
def getitimer(world: World, which: Int, value: Addr) -> Reply:
    """getitimer(2): the time that is left of an interval timer."""
    if not abi.ITIMER_REAL <= which <= abi.ITIMER_PROF:
        raise OSError(errno.EINVAL, "no such timer")
    return 0, (value, _itimerval(world, which))


@oscall(38, effect=CallEffect.TIMERS, partial="the timers of CPU time run roughly")
def setitimer(world: World, which: Int, new: Annotated[bytes | None, TimeStruct(32)], old: Addr) -> Reply:
    """setitimer(2): ITIMER_REAL runs by the box's clock, the others by CPU time, roughly."""
    if not abi.ITIMER_REAL <= which <= abi.ITIMER_PROF:
        raise OSError(errno.EINVAL, "no such timer")
    before = _itimerval(world, which)
    interval, value = (0, 0) if new is None else (abi.unpack_timeval(new[:16]), abi.unpack_timeval(new[16:]))
    if interval is None or value is None:
        raise OSError(errno.EINVAL, "not a time")
    world.set_timer(which, min(value, FOREVER_NS), min(interval, FOREVER_NS))
    return (0, (old, before)) if old else 0


# --- the stub's own ---------------------------------------------------------------------------------------------------


@oscall(CALL_FAULTED, effect=CallEffect.NONE)
def fault(world: World, signal: SignalNumber) -> Reply:
    """A call of the stub's, not of Linux: a fault without a handler is about to end the process."""
    world.on_exit()
    return 0
