"""Connected pairs of streams, by which asyncio and others wake their event loops. There are no other sockets."""

import errno
import struct
from collections.abc import Callable
from typing import Annotated, Final

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Blocked, Reply, Write
from proxybox.controller.oscalls.control import Pointer
from proxybox.controller.oscalls.descriptors import iovec, later, scattered
from proxybox.controller.oscalls.pipes import install_pair
from proxybox.controller.roles import Addr, Buffer, Fd, Gather, Int, Size, SocketFamily, SocketKind, Soft, UInt, ULong
from proxybox.controller.vfs.openfiles import MAX_TRANSFER
from proxybox.controller.vfs.streams import PairEnd, stream_pair
from proxybox.controller.world.state import GuestThread, World

_TYPE_FLAGS: Final = abi.O_NONBLOCK | abi.O_CLOEXEC
_SHUT_RD, _SHUT_WR, _SHUT_RDWR = 0, 1, 2
_SO_TYPE, _SO_ERROR, _SO_SNDBUF, _SO_RCVBUF = 3, 4, 7, 8
_SO_PASSCRED, _SO_PEERCRED, _SO_ACCEPTCONN, _SO_PROTOCOL, _SO_DOMAIN = 16, 17, 30, 38, 39
_SO_REUSEADDR, _SO_KEEPALIVE, _SO_LINGER, _SO_RCVTIMEO, _SO_SNDTIMEO = 2, 9, 13, 20, 21
_SETTABLE: Final = frozenset({_SO_REUSEADDR, _SO_SNDBUF, _SO_RCVBUF, _SO_KEEPALIVE, _SO_LINGER, _SO_PASSCRED})
_BUFFER_SIZE: Final = 65536
#: Where these fields of struct msghdr are.
_NAME_LENGTH, _CONTROL_LENGTH, _FLAGS = 8, 40, 48
_ADDRESS: Final = struct.pack("<H", abi.AF_UNIX)
"""The address of both ends: a family, and no name."""


def _end(world: World, fd: int) -> PairEnd:
    file = world.descriptors.get(fd)
    if not isinstance(file, PairEnd):
        raise OSError(errno.ENOTSOCK, "not a socket")
    return file


@oscall(53, effect=CallEffect.CREATES | CallEffect.SOCKETS, partial="streams of AF_UNIX only")
def socketpair(world: World, domain: SocketFamily, kind: SocketKind, protocol: Int, sv: Addr) -> Reply:
    """socketpair(2): two connected AF_UNIX streams inside the box."""
    if domain != abi.AF_UNIX:
        raise OSError(errno.EOPNOTSUPP, "only AF_UNIX")
    if kind & ~(abi.SOCK_TYPE_MASK | _TYPE_FLAGS):
        raise OSError(errno.EINVAL, "unknown flags")
    if kind & abi.SOCK_TYPE_MASK != abi.SOCK_STREAM:
        raise OSError(errno.EOPNOTSUPP, "only streams")
    if protocol not in (0, abi.AF_UNIX):
        raise OSError(errno.EPROTONOSUPPORT, "no such protocol")
    return install_pair(world, sv, kind, stream_pair)


@oscall(48, effect=CallEffect.SOCKETS)
def shutdown(world: World, fd: Fd, how: Int) -> Reply:
    """shutdown(2): ends one direction, or both."""
    end = _end(world, fd)
    if how not in (_SHUT_RD, _SHUT_WR, _SHUT_RDWR):
        raise OSError(errno.EINVAL, "not SHUT_RD, SHUT_WR or SHUT_RDWR")
    end.shutdown(reading=how != _SHUT_WR, writing=how != _SHUT_RD)
    return 0


@oscall(44, effect=CallEffect.WRITES | CallEffect.SOCKETS, partial="into pairs only, without an address")
def sendto(
    world: World,
    thread: GuestThread,
    fd: Fd,
    buf: Annotated[bytes, Buffer("count")],
    count: Size,
    flags: Int,
    address: Addr,
    length: UInt,
) -> Reply:
    """sendto(2): sends into a pair, as send(2) does, without an address."""
    return _sent(world, thread, fd, buf, flags, is_addressed=address != 0)


@oscall(
    46,
    effect=CallEffect.WRITES | CallEffect.SOCKETS,
    partial="into pairs only, with neither address nor ancillary data",
)
def sendmsg(
    world: World,
    thread: GuestThread,
    fd: Fd,
    iov: Annotated[bytes, Gather("iovcnt")],
    iovcnt: ULong,
    flags: Int,
    more: Int,
) -> Reply:
    """sendmsg(2): sends pieces of memory into a pair. The stub passes the fields of the structure (stub_trap.c).

    more: whether there is an address, or ancillary data.
    """
    if more:
        raise OSError(errno.EOPNOTSUPP, "no datagrams and no ancillary data")
    _check_pieces(iovcnt)
    return _sent(world, thread, fd, iov, flags)


def _check_pieces(count: int) -> None:
    if count > abi.IOV_MAX:
        raise OSError(errno.EMSGSIZE, "more than 1,024 pieces")


def _sent(world: World, thread: GuestThread, fd: int, data: bytes, flags: int, *, is_addressed: bool = False) -> Reply:
    """Sends into a pair. Returns the answer."""
    end = _end(world, fd)
    if flags & ~(abi.MSG_DONTWAIT | abi.MSG_NOSIGNAL):
        raise OSError(errno.EOPNOTSUPP, "unknown flags")
    if is_addressed:
        raise OSError(errno.EISCONN, "connected already")
    try:
        done = end.write(data)
    except BrokenPipeError:
        if not flags & abi.MSG_NOSIGNAL:
            world.signals.raise_signal(abi.SIGPIPE, thread)
        raise
    if not isinstance(done, Blocked):
        return done
    if flags & abi.MSG_DONTWAIT:
        return _now(done)
    return later(world, done, int)


def _now(wait: Blocked) -> Reply:
    """Returns the answer of a write that does not wait: the number of bytes written, or -EAGAIN."""
    reply = wait.attempt()
    if reply is None:
        reply = (wait.on_interrupt and wait.on_interrupt()) or -errno.EAGAIN
    return -errno.EAGAIN if reply == -errno.EINTR else reply


@oscall(45, effect=CallEffect.READS | CallEffect.SOCKETS, partial="from pairs only, with MSG_PEEK and MSG_DONTWAIT")
def recvfrom(
    world: World,
    fd: Fd,
    buf: Addr,
    count: Size,
    flags: Int,
    address: Addr,
    length: Annotated[Pointer, Soft(4)],
) -> Reply:
    """recvfrom(2): receives from a pair, as recv(2) does; MSG_PEEK and MSG_DONTWAIT are known."""
    named = [(length[0], bytes(4))] if address and length[0] else []

    def received(data: bytes) -> Reply:
        writes: list[Write] = [(buf, data), *named]
        return len(data), *writes

    return _received(world, fd, min(count, MAX_TRANSFER), flags, received)


@oscall(47, effect=CallEffect.READS | CallEffect.SOCKETS, partial="from pairs only, without ancillary data")
def recvmsg(
    world: World,
    fd: Fd,
    iov: Annotated[bytes, Buffer("iovcnt", 16)],
    iovcnt: ULong,
    flags: Int,
    more: Int,
    message: Addr,
) -> Reply:
    """recvmsg(2): receives from a pair into pieces of memory. The stub passes the structure's fields (stub_trap.c).

    more: whether there is room for an address, or for ancillary data: neither ever comes. message: the structure.
    """
    _check_pieces(iovcnt)
    pieces = iovec(iov, iovcnt)
    none = [(message + _NAME_LENGTH, bytes(4)), (message + _CONTROL_LENGTH, bytes(8)), (message + _FLAGS, bytes(4))]

    def received(data: bytes) -> Reply:
        return scattered(pieces, data, *none)

    return _received(world, fd, sum(length for _, length in pieces), flags, received)


def _received(world: World, fd: int, size: int, flags: int, received: Callable[[bytes], Reply]) -> Reply:
    """Receives from a pair. Returns the answer that `received` makes from the data."""
    end = _end(world, fd)
    if flags & ~(abi.MSG_DONTWAIT | abi.MSG_PEEK | abi.MSG_NOSIGNAL | abi.MSG_CMSG_CLOEXEC):
        raise OSError(errno.EOPNOTSUPP, "unknown flags")
    take = end.peek if flags & abi.MSG_PEEK else end.take

    def attempt() -> Reply | None:
        data = take(size)
        return None if data is None else received(data)

    if flags & abi.MSG_DONTWAIT or end.nonblocking:
        reply = attempt()
        if reply is None:
            raise BlockingIOError(errno.EAGAIN, "nothing there yet")
        return reply
    return world.wait(attempt, sources=(end.sources(),))


@oscall(51, effect=CallEffect.SOCKETS, partial="an address without a name")
def getsockname(world: World, fd: Fd, address: Addr, length: Annotated[Pointer, Soft(4)]) -> Reply:
    """getsockname(2): an address without a name."""
    _end(world, fd)
    return _sized(address, length, _ADDRESS)


@oscall(52, effect=CallEffect.SOCKETS, partial="an address without a name")
def getpeername(world: World, fd: Fd, address: Addr, length: Annotated[Pointer, Soft(4)]) -> Reply:
    """getpeername(2): an address without a name."""
    end = _end(world, fd)
    if end.hangup():
        raise OSError(errno.ENOTCONN, "the other end is gone")
    return _sized(address, length, _ADDRESS)


def _sized(address: int, length: Pointer, data: bytes, *, option: bool = False) -> Reply:
    """Returns the answer that stores `data` and its length. Before, `length` points to the size of the buffer."""
    if length[1] is None:
        raise OSError(errno.EFAULT, "no length")
    room = int.from_bytes(length[1], "little", signed=True)
    if room < 0:
        raise OSError(errno.EINVAL, "a negative length")
    stored = data[:room]
    size = len(stored) if option else len(data)
    writes = [(address, stored)] if stored else []
    writes.append((length[0], abi.INT.pack(size)))
    return 0, *writes


@oscall(55, effect=CallEffect.SOCKETS, partial="of SOL_SOCKET only")
def getsockopt(world: World, fd: Fd, level: Int, name: Int, value: Addr, length: Annotated[Pointer, Soft(4)]) -> Reply:
    """getsockopt(2): the options of a connected stream."""
    _end(world, fd)
    if level != abi.SOL_SOCKET:
        raise OSError(errno.EOPNOTSUPP, "only SOL_SOCKET")
    uid, gid = world.credentials.uid, world.credentials.gid
    values = {
        _SO_TYPE: abi.INT.pack(abi.SOCK_STREAM),
        _SO_DOMAIN: abi.INT.pack(abi.AF_UNIX),
        _SO_SNDBUF: abi.INT.pack(_BUFFER_SIZE),
        _SO_RCVBUF: abi.INT.pack(_BUFFER_SIZE),
        _SO_LINGER: bytes(8),
        _SO_RCVTIMEO: bytes(16),
        _SO_SNDTIMEO: bytes(16),
        _SO_PEERCRED: struct.pack("<iII", world.process.pid, uid, gid),
    }
    zero = {_SO_ERROR, _SO_REUSEADDR, _SO_KEEPALIVE, _SO_PASSCRED, _SO_ACCEPTCONN, _SO_PROTOCOL}
    data = values.get(name, bytes(4) if name in zero else None)
    if data is None:
        raise OSError(errno.ENOPROTOOPT, "no such option")
    return _sized(value, length, data, option=True)


@oscall(54, effect=CallEffect.SOCKETS, partial="accepts options that make no difference")
def setsockopt(world: World, fd: Fd, level: Int, name: Int, value: Addr, length: UInt) -> Reply:
    """setsockopt(2): accepts options that make no difference."""
    _end(world, fd)
    if level != abi.SOL_SOCKET or name not in _SETTABLE:
        raise OSError(errno.ENOPROTOOPT, "no such option")
    if not 4 <= length <= _BUFFER_SIZE:
        raise OSError(errno.EINVAL, "not the length of an option")
    return 0
