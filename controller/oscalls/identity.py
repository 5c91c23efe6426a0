"""The identity that the guest sees: made-up process ids, and the policy's user, group and host name."""

import errno
from typing import Annotated, Final

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.errors import Denied
from proxybox.controller.roles import Addr, Int, Mode, Struct, UInt
from proxybox.controller.world.state import GuestThread, World

_SAME = 0xFFFFFFFF
_USER: Final = "the user is the policy's"


@oscall(39, effect=CallEffect.IDENTITY)
def getpid(world: World) -> Reply:
    """getpid(2): the process id."""
    return world.process.pid


@oscall(110, effect=CallEffect.IDENTITY)
def getppid(world: World) -> Reply:
    """getppid(2): the made-up id of a parent, which is not in the box."""
    return world.process.ppid


@oscall(186, effect=CallEffect.IDENTITY)
def gettid(world: World, thread: GuestThread) -> Reply:
    """gettid(2): the calling thread's id."""
    return thread.tid


@oscall(102, effect=CallEffect.NONE)
def getuid(world: World) -> Reply:
    """getuid(2): the user id."""
    return world.credentials.uid


@oscall(107, effect=CallEffect.NONE)
def geteuid(world: World) -> Reply:
    """geteuid(2): the same user id."""
    return world.credentials.uid


@oscall(104, effect=CallEffect.NONE)
def getgid(world: World) -> Reply:
    """getgid(2): the group id."""
    return world.credentials.gid


@oscall(108, effect=CallEffect.NONE)
def getegid(world: World) -> Reply:
    """getegid(2): the same group id."""
    return world.credentials.gid


@oscall(118, effect=CallEffect.NONE)
def getresuid(world: World, ruid: Addr, euid: Addr, suid: Addr) -> Reply:
    """getresuid(2): the user id, three times."""
    uid = abi.UINT.pack(world.credentials.uid)
    return 0, (ruid, uid), (euid, uid), (suid, uid)


@oscall(120, effect=CallEffect.NONE)
def getresgid(world: World, rgid: Addr, egid: Addr, sgid: Addr) -> Reply:
    """getresgid(2): the group id, three times."""
    gid = abi.UINT.pack(world.credentials.gid)
    return 0, (rgid, gid), (egid, gid), (sgid, gid)


@oscall(115, effect=CallEffect.NONE)
def getgroups(world: World, size: Int, list_: Addr) -> Reply:
    """getgroups(2): the supplementary groups."""
    groups = sorted(world.credentials.groups)
    if size == 0 or not groups:
        return len(groups)
    if size < len(groups):
        raise OSError(errno.EINVAL, "more groups than there is room for")
    return len(groups), (list_, b"".join(abi.UINT.pack(group) for group in groups))


def _stay(wanted: tuple[int, ...], own: int) -> Reply:
    """Answers a change of ids: they can only be set to their present values. Raises Denied."""
    if all(each in (own, _SAME) for each in wanted):
        return 0
    raise Denied(errno.EPERM, _USER)


@oscall(105, effect=CallEffect.NONE, partial="to the id that it is")
def setuid(world: World, uid: UInt) -> Reply:
    """setuid(2): the id can only be set to its present value."""
    if uid == _SAME:
        raise OSError(errno.EINVAL, "not an id")
    return _stay((uid,), world.credentials.uid)


@oscall(106, effect=CallEffect.NONE, partial="to the id that it is")
def setgid(world: World, gid: UInt) -> Reply:
    """setgid(2): the id can only be set to its present value."""
    if gid == _SAME:
        raise OSError(errno.EINVAL, "not an id")
    return _stay((gid,), world.credentials.gid)


@oscall(113, effect=CallEffect.NONE, partial="to the ids that they are")
def setreuid(world: World, ruid: UInt, euid: UInt) -> Reply:
    """setreuid(2): the ids can only be set to their present values."""
    return _stay((ruid, euid), world.credentials.uid)


@oscall(114, effect=CallEffect.NONE, partial="to the ids that they are")
def setregid(world: World, rgid: UInt, egid: UInt) -> Reply:
    """setregid(2): the ids can only be set to their present values."""
    return _stay((rgid, egid), world.credentials.gid)


@oscall(117, effect=CallEffect.NONE, partial="to the ids that they are")
def setresuid(world: World, ruid: UInt, euid: UInt, suid: UInt) -> Reply:
    """setresuid(2): the ids can only be set to their present values."""
    return _stay((ruid, euid, suid), world.credentials.uid)


@oscall(119, effect=CallEffect.NONE, partial="to the ids that they are")
def setresgid(world: World, rgid: UInt, egid: UInt, sgid: UInt) -> Reply:
    """setresgid(2): the ids can only be set to their present values."""
    return _stay((rgid, egid, sgid), world.credentials.gid)


@oscall(122, effect=CallEffect.NONE, partial="changes nothing")
def setfsuid(world: World, uid: UInt) -> Reply:
    """setfsuid(2): changes nothing and returns the id, as the kernel does where a change is not permitted."""
    return world.credentials.uid


@oscall(123, effect=CallEffect.NONE, partial="changes nothing")
def setfsgid(world: World, gid: UInt) -> Reply:
    """setfsgid(2): changes nothing and returns the id."""
    return world.credentials.gid


@oscall(116, effect=CallEffect.NONE, refused=_USER)
def setgroups(world: World, size: Int, list_: Addr) -> Reply:
    """setgroups(2): refused, as for any ordinary user."""
    raise Denied(errno.EPERM, _USER)


def check_own(world: World, pid: int) -> None:
    """Raises OSError (ESRCH) unless `pid` is the process, one of its threads, or 0."""
    if pid not in (0, world.process.pid) and world.thread_by_tid(pid) is None:
        raise OSError(errno.ESRCH, "there is no other process")


@oscall(111, effect=CallEffect.IDENTITY)
def getpgrp(world: World) -> Reply:
    """getpgrp(2): the process group."""
    return world.process.pgid


@oscall(121, effect=CallEffect.IDENTITY)
def getpgid(world: World, pid: Int) -> Reply:
    """getpgid(2): the process group."""
    check_own(world, pid)
    return world.process.pgid


@oscall(109, effect=CallEffect.NONE)
def setpgid(world: World, pid: Int, pgid: Int) -> Reply:
    """setpgid(2): makes the process the leader of its own group."""
    if pgid < 0:
        raise OSError(errno.EINVAL, "not a process group")
    check_own(world, pid)
    if world.process.sid == world.process.pid or pgid not in (
        0,
        world.process.pid,
        world.process.pgid,
    ):
        raise OSError(errno.EPERM, "no such process group in this session")
    world.process.pgid = world.process.pid
    return 0


@oscall(124, effect=CallEffect.IDENTITY)
def getsid(world: World, pid: Int) -> Reply:
    """getsid(2): the session."""
    check_own(world, pid)
    return world.process.sid


@oscall(112, effect=CallEffect.NONE)
def setsid(world: World) -> Reply:
    """setsid(2): a new session; refused for a process group leader."""
    if world.process.pgid == world.process.pid:
        raise OSError(errno.EPERM, "a process group leader")
    world.process.sid = world.process.pgid = world.process.pid
    return world.process.sid


@oscall(125, effect=CallEffect.NONE, partial="there are no capabilities")
def capget(world: World, header: Annotated[bytes | None, Struct(8)], data: Addr) -> Reply:
    """capget(2): no capabilities."""
    if header is None:
        raise OSError(errno.EFAULT, "no header")
    if header[:4] != abi.UINT.pack(0x20080522):
        raise OSError(errno.EINVAL, "only version 3 of the interface")
    return (0, (data, bytes(24))) if data else 0


@oscall(63, effect=CallEffect.NONE, partial="the host name is the policy's, the rest is made up")
def uname(world: World, buf: Addr) -> Reply:
    """uname(2): Linux, with the policy's host name."""
    host = world.policy.environment.hostname
    return 0, (buf, abi.pack_utsname("Linux", host, "6.1.0-proxybox", "#1 SMP", "x86_64", "(none)"))


@oscall(95, effect=CallEffect.NONE)
def umask(world: World, mask: Mode) -> Reply:
    """umask(2): sets the file mode creation mask and returns the old one."""
    old, world.umask = world.umask, mask & 0o777
    return old
