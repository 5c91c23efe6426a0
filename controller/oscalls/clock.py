"""Clocks and sleeps; `controller/world/clock.py` has the time policies.

Reads of a clock are not counted: in a box with real time the stub makes most of them itself
(`Dispatcher.stub_settings`).
"""

import errno
from typing import Annotated, Final

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.errors import Denied
from proxybox.controller.header import CALL_CLOCKS
from proxybox.controller.roles import Addr, ClockId, Int, TimeStruct
from proxybox.controller.world.state import World

_POLICYS: Final = "the clock is the policy's"


def clock_of(world: World, clock_id: int) -> int:
    """Returns a clock id as the `Clock` knows it.

    The ids of pthread_getcpuclockid(3) become the two CPU clocks. Raises OSError (EINVAL) for a clock of a device or
    of another process.
    """
    if clock_id >= 0:
        return clock_id
    owner, per_thread = ~(clock_id >> 3), bool(clock_id & 4)
    if clock_id & 3 == 3:
        raise OSError(errno.EINVAL, "a clock of a device")
    if per_thread and (owner == 0 or world.thread_by_tid(owner) is not None):
        return abi.CLOCK_THREAD_CPUTIME_ID
    if not per_thread and owner in (0, world.process.pid):
        return abi.CLOCK_PROCESS_CPUTIME_ID
    raise OSError(errno.EINVAL, "a clock of another process")


def duration(time: bytes | None) -> int:
    """Returns the nanoseconds of a timespec. Raises OSError (EFAULT without one, EINVAL for an invalid time)."""
    if time is None:
        raise OSError(errno.EFAULT, "no timespec")
    ns = abi.unpack_timespec(time)
    if ns is None:
        raise OSError(errno.EINVAL, "not a time")
    return ns


def timeout(time: bytes | None) -> int | None:
    """Returns the nanoseconds of an optional timespec; None means no limit. Raises OSError (EINVAL)."""
    return None if time is None else duration(time)


@oscall(228, effect=CallEffect.CLOCK, counted=False)
def clock_gettime(world: World, clock_id: ClockId, timespec: Addr) -> Reply:
    """clock_gettime(2): the time of a clock."""
    now = world.clock.now_ns(clock_id if clock_id >= 0 else clock_of(world, clock_id))
    return 0, (timespec, abi.pack_timespec(now))


@oscall(229, effect=CallEffect.NONE, counted=False)
def clock_getres(world: World, clock_id: ClockId, timespec: Addr) -> Reply:
    """clock_getres(2): the resolution of a clock."""
    resolution = world.clock.resolution_ns(clock_of(world, clock_id))
    return 0 if timespec == 0 else (0, (timespec, abi.pack_timespec(resolution)))


@oscall(96, effect=CallEffect.CLOCK, counted=False, partial="the timezone is always UTC")
def gettimeofday(world: World, timeval: Addr, timezone: Addr) -> Reply:
    """gettimeofday(2): the wall clock; the timezone is always UTC."""
    writes = []
    if timeval:
        writes.append((timeval, abi.pack_timeval(world.clock.now_ns(abi.CLOCK_REALTIME))))
    if timezone:
        writes.append((timezone, bytes(8)))
    return 0, *writes


@oscall(201, effect=CallEffect.CLOCK, counted=False)
def time(world: World, tloc: Addr) -> Reply:
    """time(2): the wall clock in seconds."""
    seconds = world.clock.now_ns(abi.CLOCK_REALTIME) // abi.NS
    return seconds if tloc == 0 else (seconds, (tloc, abi.U64.pack(seconds & abi.RLIM_INFINITY)))


@oscall(CALL_CLOCKS, "clocks", effect=CallEffect.NONE, counted=False)
def clocks(world: World) -> Reply:
    """A call of the stub, not of Linux: it carries readings of clocks where a run is recorded."""
    raise OSError(errno.ENOSYS, "only the readings that come with it matter")


@oscall(35, effect=CallEffect.SLEEPS)
def nanosleep(world: World, request: Annotated[bytes | None, TimeStruct(16)], remain: Addr) -> Reply:
    """nanosleep(2): waits by the monotonic clock."""
    return _sleep(world, abi.CLOCK_MONOTONIC, 0, duration(request), remain)


@oscall(230, effect=CallEffect.SLEEPS, partial="CPU clocks cannot be waited for")
def clock_nanosleep(
    world: World,
    clock_id: ClockId,
    flags: Int,
    request: Annotated[bytes | None, TimeStruct(16)],
    remain: Addr,
) -> Reply:
    """clock_nanosleep(2): waits for a time, or with TIMER_ABSTIME until a time."""
    if flags & ~abi.TIMER_ABSTIME:
        raise OSError(errno.EINVAL, "unknown flags")
    if clock_id < 0 or clock_id in (abi.CLOCK_PROCESS_CPUTIME_ID, abi.CLOCK_THREAD_CPUTIME_ID):
        raise OSError(errno.EOPNOTSUPP, "CPU clocks cannot be waited for")
    return _sleep(world, clock_id, flags, duration(request), remain)


def _sleep(world: World, clock_id: int, flags: int, ns: int, remain: int) -> Reply:
    absolute = bool(flags & abi.TIMER_ABSTIME)
    ends = world.clock.peek_ns(clock_id) + (0 if absolute else ns)

    def interrupted() -> Reply:
        if absolute or remain == 0:
            return -errno.EINTR
        left = max(0, ends - world.clock.peek_ns(clock_id))
        return -errno.EINTR, (remain, abi.pack_timespec(left))

    return world.wait(lambda: None, ns, clock_id=clock_id, absolute=absolute, on_interrupt=interrupted, only_time=True)


@oscall(227, effect=CallEffect.SYSTEM, refused=_POLICYS)
def clock_settime(world: World, clock_id: ClockId, timespec: Addr) -> Reply:
    """clock_settime(2): refused, as for any ordinary user."""
    raise Denied(errno.EPERM, _POLICYS)


@oscall(164, effect=CallEffect.SYSTEM, refused=_POLICYS)
def settimeofday(world: World, timeval: Addr, timezone: Addr) -> Reply:
    """settimeofday(2): refused, as for any ordinary user."""
    raise Denied(errno.EPERM, _POLICYS)


@oscall(305, effect=CallEffect.SYSTEM, refused=_POLICYS)
def clock_adjtime(world: World, clock_id: ClockId, timex: Addr) -> Reply:
    """clock_adjtime(2): refused."""
    raise Denied(errno.EPERM, _POLICYS)


@oscall(159, effect=CallEffect.SYSTEM, refused=_POLICYS)
def adjtimex(world: World, timex: Addr) -> Reply:
    """adjtimex(2): refused."""
    raise Denied(errno.EPERM, _POLICYS)
