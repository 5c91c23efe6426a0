"""Permissions, owners and times of files. `vfs/namei.py` checks who may change them."""

import errno
from typing import TYPE_CHECKING, Annotated

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.oscalls import asked
from proxybox.controller.oscalls.paths import check_flags, node_at
from proxybox.controller.roles import AtFlags, DirFd, Fd, Mode, OptionalPath, Path, TimeStruct, UInt
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.nodes import Node
from proxybox.controller.world.state import World

if TYPE_CHECKING:
    from proxybox.controller.vfs.openfiles import OpenFile

_CWD = abi.AT_FDCWD
_NO_ID = 0xFFFFFFFF
_NOW, _OMIT = abi.U64.pack(abi.UTIME_NOW), abi.U64.pack(abi.UTIME_OMIT)


def _own_node(file: "OpenFile") -> Node:
    if file.is_path_only:
        raise OSError(errno.EBADF, "opened with O_PATH")
    return file.node


@oscall(90, effect=CallEffect.ALTERS)
def chmod(world: World, path: Path, mode: Mode) -> Reply:
    """chmod(2): permission bits."""
    return fchmodat(world, _CWD, path, mode)


@oscall(91, effect=CallEffect.ALTERS)
def fchmod(world: World, fd: Fd, mode: Mode) -> Reply:
    """fchmod(2): permission bits of an open file."""
    namei.chmod(_own_node(world.descriptors.get(fd)), world.credentials, mode & 0o7777)
    return 0


@oscall(268, effect=CallEffect.ALTERS)
def fchmodat(world: World, dirfd: DirFd, path: Path, mode: Mode) -> Reply:
    """fchmodat(2), as the kernel has it: without flags."""
    return fchmodat2(world, dirfd, path, mode, 0)


@oscall(452, effect=CallEffect.ALTERS)
def fchmodat2(world: World, dirfd: DirFd, path: Path, mode: Mode, flags: AtFlags) -> Reply:
    """fchmodat2(2): permission bits; symbolic links have none."""
    check_flags(flags, abi.AT_SYMLINK_NOFOLLOW | abi.AT_EMPTY_PATH)
    node = node_at(world, dirfd, path, flags)
    if node.kind == abi.S_IFLNK:
        raise OSError(errno.EOPNOTSUPP, "a symbolic link")
    namei.chmod(node, world.credentials, mode & 0o7777)
    return 0


@oscall(92, effect=CallEffect.ALTERS)
def chown(world: World, path: Path, owner: UInt, group: UInt) -> Reply:
    """chown(2): owner and group."""
    return fchownat(world, _CWD, path, owner, group, 0)


@oscall(94, effect=CallEffect.ALTERS)
def lchown(world: World, path: Path, owner: UInt, group: UInt) -> Reply:
    """lchown(2): owner and group of a symbolic link itself."""
    return fchownat(world, _CWD, path, owner, group, abi.AT_SYMLINK_NOFOLLOW)


@oscall(93, effect=CallEffect.ALTERS)
def fchown(world: World, fd: Fd, owner: UInt, group: UInt) -> Reply:
    """fchown(2): owner and group of an open file."""
    return _chown(world, _own_node(world.descriptors.get(fd)), owner, group)


@oscall(260, effect=CallEffect.ALTERS)
def fchownat(world: World, dirfd: DirFd, path: Path, owner: UInt, group: UInt, flags: AtFlags) -> Reply:
    """fchownat(2): owner and group."""
    check_flags(flags, abi.AT_SYMLINK_NOFOLLOW | abi.AT_EMPTY_PATH)
    return _chown(world, node_at(world, dirfd, path, flags), owner, group)


def _chown(world: World, node: Node, owner: int, group: int) -> Reply:
    uid = -1 if owner == _NO_ID else owner
    gid = -1 if group == _NO_ID else group
    namei.chown(node, world.credentials, uid, gid)
    return 0


@oscall(280, effect=CallEffect.ALTERS, asked=asked.timing)
def utimensat(
    world: World,
    dirfd: DirFd,
    path: OptionalPath,
    times: Annotated[bytes | None, TimeStruct(32)],
    flags: AtFlags,
) -> Reply:
    """utimensat(2): access and modification times; without a path, those of the open file dirfd (futimens(3))."""
    if times is not None and times[8:16] == times[24:] == _OMIT:
        return 0
    check_flags(flags, abi.AT_SYMLINK_NOFOLLOW | abi.AT_EMPTY_PATH)
    node = _utime_node(world, dirfd, path, flags)
    now = world.clock.wall_ns()
    if times is None:
        return _utimens(world, node, now, now, True)
    touch = times[8:16] == times[24:] == _NOW
    return _utimens(world, node, _utime(times[:16], now), _utime(times[16:], now), touch)


def _utime_node(world: World, dirfd: int, path: bytes | None, flags: int) -> Node:
    if path is not None:
        return node_at(world, dirfd, path, flags)
    if dirfd == _CWD:
        raise OSError(errno.EFAULT, "no path")
    if flags:
        raise OSError(errno.EINVAL, "flags without a path")
    return _own_node(world.descriptors.get(dirfd))


def _utime(time: bytes, now: int) -> int | None:
    seconds, ns = abi.TIMESPEC.unpack(time)
    if ns == abi.UTIME_NOW:
        return now
    if ns == abi.UTIME_OMIT:
        return None
    if not 0 <= ns < abi.NS:
        raise OSError(errno.EINVAL, "not a time")
    return _clip(seconds) * abi.NS + int(ns)


def _clip(seconds: int) -> int:
    """Clamps seconds to the range of a filesystem with 64-bit nanoseconds."""
    return max(-(1 << 33), min(seconds, 1 << 33))


def _utimens(world: World, node: Node, atime: int | None, mtime: int | None, touch: bool) -> Reply:
    namei.utimens(node, world.credentials, atime, mtime, touch=touch)
    return 0


@oscall(132, effect=CallEffect.ALTERS)
def utime(world: World, path: Path, times: Annotated[bytes | None, TimeStruct(16)]) -> Reply:
    """utime(2): access and modification times in seconds."""
    now = world.clock.wall_ns()
    atime = mtime = now
    if times is not None:
        seconds = abi.TIMESPEC.unpack(times)
        atime, mtime = (_clip(each) * abi.NS for each in seconds)
    return _utimens(world, node_at(world, _CWD, path, 0), atime, mtime, times is None)


@oscall(235, effect=CallEffect.ALTERS)
def utimes(world: World, path: Path, times: Annotated[bytes | None, TimeStruct(32)]) -> Reply:
    """utimes(2): access and modification times in microseconds."""
    return futimesat(world, _CWD, path, times)


@oscall(261, effect=CallEffect.ALTERS)
def futimesat(world: World, dirfd: DirFd, path: Path, times: Annotated[bytes | None, TimeStruct(32)]) -> Reply:
    """futimesat(2): access and modification times in microseconds."""
    atime = mtime = world.clock.wall_ns()
    if times is not None:
        atime, mtime = _utimeval(times[:16]), _utimeval(times[16:])
    return _utimens(world, node_at(world, dirfd, path, 0), atime, mtime, times is None)


def _utimeval(time: bytes) -> int:
    seconds, microseconds = abi.TIMESPEC.unpack(time)
    if not 0 <= microseconds < 1_000_000:
        raise OSError(errno.EINVAL, "not a time")
    return _clip(seconds) * abi.NS + int(microseconds) * 1000
