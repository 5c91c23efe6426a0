"""The guest's only process: names, limits, usage, scheduling, threads, its end.

All ids are made up.
"""

import errno
from typing import Annotated, Final

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.errors import Denied
from proxybox.controller.header import CALL_NO_THREAD, FORK_ASKED, THREAD_FLAGS
from proxybox.controller.oscalls import asked
from proxybox.controller.oscalls.identity import check_own
from proxybox.controller.roles import Addr, Buffer, Int, Size, Soft, Struct, UInt, ULong
from proxybox.controller.world.state import HIDDEN, Ended, GuestThread, World

_RUSAGE_KINDS = frozenset({-1, 0, 1})  # CHILDREN, SELF, THREAD
_STARTED: Final = "not after the start"
_RSS_KIB = 50 * 1024
_PR_GET_PDEATHSIG, _PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 2, 3, 4
_PR_SET_NAME, _PR_GET_NAME, _PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 15, 16, 38, 39


# --- usage and limits -----------------------------------------------------------------------------


@oscall(98, effect=CallEffect.CLOCK, partial="CPU time alone; the memory is a constant")
def getrusage(world: World, who: Int, usage: Addr) -> Reply:
    """getrusage(2): CPU time by the box's CPU clock; the memory is a constant."""
    if who not in _RUSAGE_KINDS:
        raise OSError(errno.EINVAL, "not SELF, CHILDREN or THREAD")
    if who == -1:
        return 0, (usage, abi.pack_rusage(0, 0))
    cpu = world.clock.now_ns(abi.CLOCK_PROCESS_CPUTIME_ID)
    return 0, (usage, abi.pack_rusage(cpu, 0, _RSS_KIB))


@oscall(100, effect=CallEffect.CLOCK)
def times(world: World, buf: Addr) -> Reply:
    """times(2): CPU time and uptime in ticks of 10 ms."""
    ticks = world.clock.now_ns(abi.CLOCK_MONOTONIC) * abi.CLK_TCK // abi.NS
    cpu = world.clock.cpu_ns() * abi.CLK_TCK // abi.NS
    return (ticks, (buf, abi.TMS.pack(cpu, 0, 0, 0))) if buf else ticks


@oscall(99, effect=CallEffect.CLOCK, partial="made up of the policy's limits, but for the uptime")
def sysinfo(world: World, info: Addr) -> Reply:
    """sysinfo(2): the box's uptime, and its memory limit as the machine's memory."""
    memory = int(world.policy.limits.memory or 1 << 30)
    uptime = world.clock.now_ns(abi.CLOCK_MONOTONIC) // abi.NS
    return 0, (info, abi.pack_sysinfo(uptime, memory, memory // 2, 1))


def _limit(world: World, resource: int) -> tuple[int, int]:
    limit = world.process.rlimits.get(resource)
    if limit is None:
        raise OSError(errno.EINVAL, "no such resource")
    return limit


def _set_limit(world: World, resource: int, new: bytes) -> None:
    """Lowers a limit, or raises the soft one as far as the hard one. Raises OSError (EINVAL, EPERM)."""
    _, hard = _limit(world, resource)
    soft, ceiling = abi.RLIMIT.unpack(new)
    if soft > ceiling:
        raise OSError(errno.EINVAL, "the soft limit is above the hard one")
    if ceiling > hard:
        raise Denied(errno.EPERM, "a hard limit is the policy's")
    world.process.rlimits[resource] = (soft, ceiling)
    if resource == abi.RLIMIT_NOFILE:
        world.descriptors.open_files = min(soft, HIDDEN)


@oscall(302, effect=CallEffect.NONE, partial="limits are lowered only")
def prlimit64(world: World, pid: Int, resource: UInt, new: Annotated[bytes | None, Struct(16)], old: Addr) -> Reply:
    """prlimit(2): what the policy allows; the guest may lower it for itself."""
    check_own(world, pid)
    before = _limit(world, resource)
    if new is not None:
        _set_limit(world, resource, new)
    return (0, (old, abi.RLIMIT.pack(*before))) if old else 0


@oscall(97, effect=CallEffect.NONE)
def getrlimit(world: World, resource: UInt, limit: Addr) -> Reply:
    """getrlimit(2): what the policy allows."""
    return 0, (limit, abi.RLIMIT.pack(*_limit(world, resource)))


@oscall(160, effect=CallEffect.NONE, partial="limits are lowered only")
def setrlimit(world: World, resource: UInt, limit: Annotated[bytes | None, Struct(16)]) -> Reply:
    """setrlimit(2): the guest may lower its limits."""
    if limit is None:
        raise OSError(errno.EFAULT, "no limit given")
    _set_limit(world, resource, limit)
    return 0


# --- scheduling -----------------------------------------------------------------------------------


def _every_cpu(world: World) -> int:
    return (1 << world.policy.environment.cpu_count) - 1


@oscall(204, effect=CallEffect.NONE)
def sched_getaffinity(world: World, thread: GuestThread, pid: Int, size: Size, mask: Addr) -> Reply:
    """sched_getaffinity(2): as many cpus as the policy says, or those of them that the thread has named."""
    check_own(world, pid)
    every = _every_cpu(world)
    needed = (every.bit_length() + 63) // 64 * 8
    if size < needed or size % 8:
        raise OSError(errno.EINVAL, "too small a cpu set")
    chosen = (world.thread_by_tid(pid) or thread).cpus or every
    return needed, (mask, chosen.to_bytes(needed, "little"))


@oscall(203, effect=CallEffect.NONE, partial="which CPUs a thread is told of")
def sched_setaffinity(
    world: World, thread: GuestThread, pid: Int, size: Size, mask: Annotated[bytes, Buffer("size")]
) -> Reply:
    """sched_setaffinity(2): which of the box's cpus a thread sees. It has no other effect."""
    check_own(world, pid)
    wanted = int.from_bytes(mask, "little") & _every_cpu(world)
    if not wanted:
        raise OSError(errno.EINVAL, "none of the box's cpus")
    (world.thread_by_tid(pid) or thread).cpus = wanted
    return 0


@oscall(309, effect=CallEffect.NONE, partial="always the first CPU")
def getcpu(world: World, cpu: Addr, node: Addr) -> Reply:
    """getcpu(2): always the first cpu."""
    return 0, *((address, bytes(4)) for address in (cpu, node) if address)


@oscall(145, effect=CallEffect.NONE, partial="always SCHED_OTHER")
def sched_getscheduler(world: World, pid: Int) -> Reply:
    """sched_getscheduler(2): SCHED_OTHER."""
    check_own(world, pid)
    return 0


@oscall(144, effect=CallEffect.NONE, partial="SCHED_OTHER with priority 0 only")
def sched_setscheduler(world: World, pid: Int, policy: Int, param: Annotated[bytes | None, Struct(4)]) -> Reply:
    """sched_setscheduler(2): SCHED_OTHER with priority 0, or refused."""
    check_own(world, pid)
    if param is None:
        raise OSError(errno.EINVAL, "no parameters")
    if policy == 0 and param == bytes(4):
        return 0
    if policy not in (0, 1, 2, 3, 5) or policy in (0, 3, 5):
        raise OSError(errno.EINVAL, "not a policy with that priority")
    raise Denied(errno.EPERM, "no real-time scheduling")


@oscall(143, effect=CallEffect.NONE, partial="always priority 0")
def sched_getparam(world: World, pid: Int, param: Addr) -> Reply:
    """sched_getparam(2): priority 0."""
    check_own(world, pid)
    return 0, (param, bytes(4))


@oscall(142, effect=CallEffect.NONE, partial="priority 0 only")
def sched_setparam(world: World, pid: Int, param: Annotated[bytes | None, Struct(4)]) -> Reply:
    """sched_setparam(2): priority 0 only."""
    check_own(world, pid)
    if param != bytes(4):
        raise OSError(errno.EINVAL, "SCHED_OTHER has priority 0")
    return 0


@oscall(146, effect=CallEffect.NONE)
def sched_get_priority_max(world: World, policy: Int) -> Reply:
    """sched_get_priority_max(2): 99 for real-time policies, else 0."""
    return _priority(policy, 99)


@oscall(147, effect=CallEffect.NONE)
def sched_get_priority_min(world: World, policy: Int) -> Reply:
    """sched_get_priority_min(2): 1 for real-time policies, else 0."""
    return _priority(policy, 1)


def _priority(policy: int, real_time: int) -> int:
    if policy in (0, 3, 5, 6):
        return 0
    if policy in (1, 2):
        return real_time
    raise OSError(errno.EINVAL, "no such policy")


@oscall(148, effect=CallEffect.NONE, partial="always 4 ms")
def sched_rr_get_interval(world: World, pid: Int, timespec: Addr) -> Reply:
    """sched_rr_get_interval(2): 4 ms."""
    check_own(world, pid)
    return 0, (timespec, abi.pack_timespec(4_000_000))


@oscall(24, effect=CallEffect.LOCKS)
def sched_yield(world: World) -> Reply:
    """sched_yield(2): native in the guest; this answers calls that reach the controller anyway."""
    return 0


@oscall(140, effect=CallEffect.NONE)
def getpriority(world: World, which: Int, who: Int) -> Reply:
    """getpriority(2): the kernel answers 20 minus the nice value."""
    if which not in (0, 1, 2):
        raise OSError(errno.EINVAL, "not PROCESS, PGRP or USER")
    if which == 0:
        check_own(world, who)
    return 20 - world.process.nice


@oscall(141, effect=CallEffect.NONE, partial="only upwards, and without an effect")
def setpriority(world: World, which: Int, who: Int, nice: Int) -> Reply:
    """setpriority(2): the nice value may rise; it is only a number, without an effect."""
    if which not in (0, 1, 2):
        raise OSError(errno.EINVAL, "not PROCESS, PGRP or USER")
    if which == 0:
        check_own(world, who)
    nice = max(-20, min(19, nice))
    if nice < world.process.nice:
        raise OSError(errno.EACCES, "only upwards")
    world.process.nice = nice
    return 0


# --- threads and the end --------------------------------------------------------------------------


@oscall(56, effect=CallEffect.STARTS | CallEffect.IDENTITY, partial="threads as pthread_create(3) makes them only")
def clone(
    world: World, thread: GuestThread, flags: ULong, stack: Addr, parent_tid: Addr, child_tid: Addr, tls: Addr
) -> Reply:
    """clone(2): a thread with the flags of pthread_create(3), or, where `World.on_fork` is set, a copy of the process.

    There are at most `limits.threads` threads. The answer to the stub is `thread id << 16 | channel`; wire.h has the
    answer to a fork.
    """
    if flags == FORK_ASKED and world.on_fork is not None:
        return world.on_fork()
    if flags != THREAD_FLAGS:
        raise Denied(errno.EPERM, "fork is refused")
    child = world.allocate_thread(thread)
    return child.tid << 16 | child.channel


@oscall(CALL_NO_THREAD, "no_thread", effect=CallEffect.NONE, counted=False)
def no_thread(world: World, tid: Int, error: Int) -> Reply:
    """A call of the stub, not of Linux: the kernel refused the thread of a granted clone(2) with `error`."""
    thread = world.thread_by_tid(tid)
    if thread is None or thread.calls:
        raise OSError(errno.ESRCH, "no thread that has not begun yet")
    world.end_thread(thread)
    return 0


@oscall(218, effect=CallEffect.IDENTITY)
def set_tid_address(world: World, thread: GuestThread, address: Addr) -> Reply:
    """set_tid_address(2): the stub clears the word itself."""
    return thread.tid


@oscall(273, effect=CallEffect.NONE, partial="accepted; robust mutexes end with the process")
def set_robust_list(world: World, head: Addr, size: Size) -> Reply:
    """set_robust_list(2): accepted; robust mutexes end with the process."""
    if size != 24:
        raise OSError(errno.EINVAL, "a robust list head has 24 bytes")
    return 0


@oscall(60, effect=CallEffect.ENDS)
def exit_(world: World, thread: GuestThread, status: Int) -> Reply:
    """exit(2): ends the calling thread.

    With the last thread the box ends, even if the process continues natively.
    """
    world.end_thread(thread)
    if not world.threads:
        world.exit_code = status & 0xFF
        world.on_exit()
        world.end(Ended(None))
    return 0


@oscall(231, effect=CallEffect.ENDS)
def exit_group(world: World, status: Int) -> Reply:
    """exit_group(2): notes the exit status that the guest claims.

    The box of a warm guest ends here, without a wait for its process.
    """
    world.exit_code = status & 0xFF
    world.on_exit()
    if world.port is not None:
        world.end(Ended(None))
    return 0


@oscall(61, effect=CallEffect.WAITS, partial="there are no children")
def wait4(world: World, pid: Int, status: Addr, options: Int, usage: Addr) -> Reply:
    """wait4(2): there are no children."""
    if options & ~0xE000000B:
        raise OSError(errno.EINVAL, "unknown options")
    raise OSError(errno.ECHILD, "no children")


@oscall(247, effect=CallEffect.WAITS, partial="there are no children")
def waitid(world: World, idtype: Int, id_: UInt, info: Addr, options: Int, usage: Addr) -> Reply:
    """waitid(2): there are no children."""
    if options & ~0xEF00000F & 0xFFFFFFFF or not options & 0xE or not 0 <= idtype <= 3:
        raise OSError(errno.EINVAL, "unknown options")
    raise OSError(errno.ECHILD, "no children")


@oscall(
    157,
    effect=CallEffect.NONE,
    partial="the name of a thread, and options that tell that nothing is privileged",
    asked=asked.process_control,
)
def prctl(world: World, thread: GuestThread, option: Int, arg: Annotated[tuple[int, bytes | None], Soft(16)]) -> Reply:
    """prctl(2): the calling thread's name, and options which report that nothing is privileged."""
    address, data = arg
    if option == _PR_SET_NAME:
        if data is None:
            raise OSError(errno.EFAULT, "no name")
        thread.name = data[:15].partition(b"\0")[0]
        return 0
    if option == _PR_GET_NAME:
        return 0, (address, thread.name[:15].ljust(16, b"\0"))
    if option == _PR_GET_PDEATHSIG:
        return 0, (address, bytes(4))
    if option == _PR_GET_DUMPABLE:
        return 0
    if option == _PR_GET_NO_NEW_PRIVS:
        return 1
    if (option, address) == (_PR_SET_NO_NEW_PRIVS, 1) or (option, address) == (_PR_SET_DUMPABLE, 0):
        return 0
    raise OSError(errno.EINVAL, "no such option here")


@oscall(158, effect=CallEffect.NONE, refused=_STARTED)
def arch_prctl(world: World, code: Int, address: ULong) -> Reply:
    """arch_prctl(2): refused; the loader has already set everything."""
    raise OSError(errno.EINVAL, _STARTED)


@oscall(135, effect=CallEffect.NONE, partial="PER_LINUX, which cannot be changed")
def personality(world: World, persona: ULong) -> Reply:
    """personality(2): PER_LINUX, which cannot be changed."""
    if persona in (0, 0xFFFFFFFF):
        return 0
    raise Denied(errno.EPERM, "the personality is fixed")
