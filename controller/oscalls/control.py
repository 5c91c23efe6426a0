"""fcntl, flock and ioctl: operations on a descriptor other than reading and writing.

There is one process, so POSIX record locks never meet another owner. Locks of flock(2) belong to open file
descriptions, and can conflict. Open file description locks could too; they are not offered.
"""

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.oscalls import asked
from proxybox.controller.roles import FcntlCommand, Fd, FlockKind, IoctlRequest, Soft
from proxybox.controller.vfs.streams import PipeEnd
from proxybox.controller.world.state import World

if TYPE_CHECKING:
    from proxybox.controller.vfs.openfiles import OpenFile

#: A pointer that may be NULL: its register, and the bytes that it points to, where they can be read.
Pointer = tuple[int, bytes | None]

_SETTABLE = abi.O_APPEND | abi.O_NONBLOCK | abi.O_ASYNC | abi.O_DIRECT | abi.O_NOATIME
_NOT_STATUS = abi.O_CREAT | abi.O_EXCL | abi.O_NOCTTY | abi.O_TRUNC | abi.O_CLOEXEC
_F_UNLCK_LEASE = 2
_INT_MAX = 0x7FFFFFFF


def _int(register: int) -> int:
    """Returns a register as the C int that the kernel reads from it."""
    value = register & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


# --- fcntl ----------------------------------------------------------------------------------------


@oscall(
    72,
    effect=CallEffect.DUPLICATES,
    partial="without open file description locks, leases and signals",
    asked=asked.controlling,
)
def fcntl(world: World, fd: Fd, cmd: FcntlCommand, arg: Annotated[Pointer, Soft(32)]) -> Reply:
    """fcntl(2): flags, duplicates and locks of a descriptor."""
    file = world.descriptors.get(fd)
    if file.is_path_only and cmd not in _ON_PATHS:
        raise OSError(errno.EBADF, "opened with O_PATH")
    command = _FCNTL.get(cmd)
    if command is None:
        raise OSError(errno.EINVAL, "no such command here")
    return command(world, fd, file, arg)


_Command = Callable[[World, int, "OpenFile", Pointer], Reply]


def _dupfd(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    return world.descriptors.dup(fd, _int(arg[0]))


def _dupfd_cloexec(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    return world.descriptors.dup(fd, _int(arg[0]), cloexec=True)


def _getfd(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    return abi.FD_CLOEXEC if world.descriptors.cloexec(fd) else 0


def _setfd(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    world.descriptors.set_cloexec(fd, bool(arg[0] & abi.FD_CLOEXEC))
    return 0


def _getfl(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    is_large = file.node.kind in (abi.S_IFREG, abi.S_IFDIR, abi.S_IFCHR) and not file.is_path_only
    return file.flags & ~_NOT_STATUS | (abi.O_LARGEFILE if is_large else 0)


def _setfl(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    file.flags = file.flags & ~_SETTABLE | arg[0] & _SETTABLE
    return 0


def _own(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    return 0


def _setown(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    if _int(arg[0]) not in (0, world.process.pid, -world.process.pgid):
        raise OSError(errno.ESRCH, "there is no other process")
    return 0


def _lease(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    return _F_UNLCK_LEASE


def _pipe_size(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    if not isinstance(file, PipeEnd):
        raise OSError(errno.EBADF, "not a pipe")
    return file.capacity()


def _set_pipe_size(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    if not isinstance(file, PipeEnd):
        raise OSError(errno.EBADF, "not a pipe")
    return file.set_capacity(_int(arg[0]))


def _lock_argument(file: "OpenFile", arg: Pointer, *, ofd: bool) -> tuple[int, int, int]:
    """Returns (type, start, end) of a struct flock; end is exclusive. Raises OSError (EFAULT, EINVAL, EOVERFLOW)."""
    if arg[1] is None:
        raise OSError(errno.EFAULT, "no struct flock")
    kind, whence, _, start, length, pid, _ = abi.FLOCK.unpack(arg[1])
    if kind not in (abi.F_RDLCK, abi.F_WRLCK, abi.F_UNLCK) or (ofd and pid):
        raise OSError(errno.EINVAL, "not a lock")
    if whence == abi.SEEK_CUR:
        start += file.offset
    elif whence == abi.SEEK_END:
        start += int.from_bytes(file.stat_bytes()[48:56], "little")
    elif whence != abi.SEEK_SET:
        raise OSError(errno.EINVAL, "unknown whence")
    if length < 0:
        start, length = start + length, -length
    end = start + length if length else 1 << 63
    if start < 0:
        raise OSError(errno.EINVAL, "before the beginning")
    if end > 1 << 63:
        raise OSError(errno.EOVERFLOW, "past the largest file")
    return kind, start, end


def _getlk(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    """Answers that there is no conflicting lock: there is no other process that could hold one."""
    kind, _, _ = _lock_argument(file, arg, ofd=False)
    if kind == abi.F_UNLCK or arg[1] is None:
        raise OSError(errno.EINVAL, "asks for no lock")
    return 0, (arg[0], struct.pack("<h", abi.F_UNLCK) + arg[1][2:])


def _setlk(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    kind, _, _ = _lock_argument(file, arg, ofd=False)
    if (kind == abi.F_RDLCK and not file.may_read) or (kind == abi.F_WRLCK and not file.may_write):
        raise OSError(errno.EBADF, "not open for that kind of lock")
    return 0


def _no_ofd(world: World, fd: int, file: "OpenFile", arg: Pointer) -> Reply:
    _lock_argument(file, arg, ofd=True)
    raise OSError(errno.EINVAL, "open file description locks are not offered; flock(2) is")


_FCNTL: dict[int, _Command] = {
    abi.F_DUPFD: _dupfd,
    abi.F_DUPFD_CLOEXEC: _dupfd_cloexec,
    abi.F_GETFD: _getfd,
    abi.F_SETFD: _setfd,
    abi.F_GETFL: _getfl,
    abi.F_SETFL: _setfl,
    abi.F_GETLK: _getlk,
    abi.F_SETLK: _setlk,
    abi.F_SETLKW: _setlk,
    abi.F_OFD_GETLK: _no_ofd,
    abi.F_OFD_SETLK: _no_ofd,
    abi.F_OFD_SETLKW: _no_ofd,
    abi.F_SETOWN: _setown,
    abi.F_GETOWN: _own,
    abi.F_GETSIG: _own,
    abi.F_GETLEASE: _lease,
    abi.F_GETPIPE_SZ: _pipe_size,
    abi.F_SETPIPE_SZ: _set_pipe_size,
}
_ON_PATHS = frozenset({abi.F_DUPFD, abi.F_DUPFD_CLOEXEC, abi.F_GETFD, abi.F_SETFD, abi.F_GETFL})


# --- flock ----------------------------------------------------------------------------------------


@oscall(73, effect=CallEffect.NONE)
def flock(world: World, fd: Fd, operation: FlockKind) -> Reply:
    """flock(2): a lock of a whole file, between open file descriptions."""
    file = world.descriptors.get(fd)
    kind = operation & ~abi.LOCK_NB
    if kind not in (abi.LOCK_SH, abi.LOCK_EX, abi.LOCK_UN):
        raise OSError(errno.EINVAL, "not LOCK_SH, LOCK_EX or LOCK_UN")
    if file.is_path_only:
        raise OSError(errno.EBADF, "opened with O_PATH")
    key = file.stat_bytes()[:16]  # device and inode
    if kind == abi.LOCK_UN:
        world.unlock(file)
        return 0

    def attempt() -> Reply | None:
        world.unlock(file)
        if file.references <= 0:
            return 0  # closed during the wait: the lock would be released at once
        if any(key == locked and abi.LOCK_EX in (kind, held) for locked, held in world.flocks.values()):
            return None
        world.flocks[file] = key, kind
        file.on_close |= {world.unlock}
        return 0

    if operation & abi.LOCK_NB:
        if attempt() is None:
            raise BlockingIOError(errno.EWOULDBLOCK, "locked by another description")
        return 0
    return world.wait(attempt)


# --- ioctl ----------------------------------------------------------------------------------------


@oscall(
    16,
    effect=CallEffect.NONE,
    partial="of terminals, and FIOCLEX, FIONREAD, FIONBIO and FIOASYNC",
    asked=asked.to_device,
)
def ioctl(world: World, fd: Fd, request: IoctlRequest, arg: Annotated[Pointer, Soft(44)]) -> Reply:
    """ioctl(2): the requests of isatty(3) and similar functions; all others are ENOTTY."""
    file = world.descriptors.get(fd)
    if file.is_path_only:
        raise OSError(errno.EBADF, "opened with O_PATH")
    if request in (abi.FIOCLEX, abi.FIONCLEX):
        world.descriptors.set_cloexec(fd, request == abi.FIOCLEX)
        return 0
    if request == abi.FIONREAD:
        return 0, (_need(arg), abi.INT.pack(min(file.available(), _INT_MAX)))
    if request in (abi.FIONBIO, abi.FIOASYNC):
        _need(arg)
        flag = abi.O_NONBLOCK if request == abi.FIONBIO else abi.O_ASYNC
        on = any((arg[1] or b"")[:4])
        file.flags = file.flags | flag if on else file.flags & ~flag
        return 0
    if not file.is_tty:
        raise OSError(errno.ENOTTY, "not a terminal")
    return _terminal(world, request, arg)


def _need(arg: Pointer) -> int:
    """Returns the address of a pointer. Raises OSError (EFAULT) where it is NULL or cannot be read."""
    if arg[0] == 0 or arg[1] is None:
        raise OSError(errno.EFAULT, "no memory there")
    return arg[0]


#: glibc 2.42 and later use those of the second line.
_SETS_TERMIOS = frozenset(
    {abi.TCSETS, abi.TCSETSW, abi.TCSETSF,
     abi.TCSETS2, abi.TCSETSW2, abi.TCSETSF2}
)  # fmt: skip


def _terminal(world: World, request: int, arg: Pointer) -> Reply:
    if request == abi.TCGETS:
        return 0, (_need(arg), world.termios)
    if request == abi.TCGETS2:
        return 0, (_need(arg), world.termios + struct.pack("<II", 38400, 38400))
    if request in _SETS_TERMIOS:
        _need(arg)
        world.termios = (arg[1] or b"")[: abi.TERMIOS.size].ljust(abi.TERMIOS.size, b"\0")
        world.stdin.show_typing(world.stdin.echoes())
        return 0
    if request == abi.TIOCGWINSZ:
        return 0, (_need(arg), abi.WINSIZE.pack(*world.stdout.winsize, 0, 0))
    if request == abi.TIOCSWINSZ:
        _need(arg)
        rows, columns, _, _ = abi.WINSIZE.unpack((arg[1] or b"")[:8].ljust(8, b"\0"))
        world.stdout.winsize = (rows, columns)
        return 0
    if request in (abi.TIOCGPGRP, abi.TIOCGSID):
        ids = {abi.TIOCGPGRP: world.process.pgid, abi.TIOCGSID: world.process.sid}
        return 0, (_need(arg), abi.INT.pack(ids[request]))
    if request in (abi.TIOCSPGRP, abi.TCFLSH, abi.TCXONC, abi.TCSBRK):
        return 0
    raise OSError(errno.ENOTTY, "no such request here")
