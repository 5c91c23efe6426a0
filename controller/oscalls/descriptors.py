"""Reading, writing and managing open descriptors.

A wait comes from the open file description (`OpenFile.read` may return `Blocked`); here it becomes the wait of the
call. Numbers from HIDDEN on are mappings (oscalls/memory.py). Only the calls that the stub needs, to fill mappings,
write them back and close them, take these numbers.
"""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import attrs

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Blocked, Reply, Write
from proxybox.controller.header import MAX_PAYLOAD
from proxybox.controller.oscalls.stores import after_stores, forget
from proxybox.controller.roles import (
    Addr,
    Buffer,
    CloseFlags,
    Fd,
    Gather,
    Int,
    Long,
    OpenFlags,
    Size,
    UInt,
    ULong,
    Whence,
)
from proxybox.controller.world.state import HIDDEN, GuestThread, World

if TYPE_CHECKING:
    from proxybox.controller.vfs.openfiles import OpenFile

_FADVISE_MAX = 5


def later(world: World, wait: Blocked, done: Callable[[Any], Reply]) -> Reply:
    """Returns the wait of an open file description as a call's wait; `done` converts its value to the answer."""

    def attempt() -> Reply | None:
        value: Any = wait.attempt()
        return None if value is None else done(value)

    interrupted: Any = wait.on_interrupt
    return world.wait(attempt, on_interrupt=interrupted, host_fd=wait.host_fd, sources=wait.sources)


def room(world: World, thread: GuestThread, file: "OpenFile", at: int | None, size: int) -> int:
    """Returns how many bytes of a write of `size` bytes RLIMIT_FSIZE allows.

    at: the offset of the write, None for the description's own. Where nothing is allowed, it sends SIGXFSZ to the
    guest, and raises OSError (EFBIG).
    """
    limit = world.process.rlimits[abi.RLIMIT_FSIZE][0]
    if limit == abi.RLIM_INFINITY or file.node.kind != abi.S_IFREG or not size:
        return size
    if file.flags & abi.O_APPEND:
        at = _size(file)
    elif at is None:
        at = file.offset
    if at >= limit:
        too_large(world, thread)
    return min(size, limit - at)


def _size(file: "OpenFile") -> int:
    return int.from_bytes(file.stat_bytes()[48:56], "little")


def too_large(world: World, thread: GuestThread) -> NoReturn:
    """Answers an operation that would pass RLIMIT_FSIZE (setrlimit(2)): SIGXFSZ, and raises OSError (EFBIG)."""
    world.signals.raise_signal(abi.SIGXFSZ, thread)
    raise OSError(errno.EFBIG, "longer than RLIMIT_FSIZE")


def check_length(world: World, thread: GuestThread, size: int, length: int) -> None:
    """Checks RLIMIT_FSIZE for a file of `size` bytes that is to be `length` bytes long."""
    limit = world.process.rlimits[abi.RLIMIT_FSIZE][0]
    if limit != abi.RLIM_INFINITY and length > max(size, limit):
        too_large(world, thread)


def written(world: World, thread: GuestThread, file: "OpenFile", data: bytes) -> Reply:
    """Writes at the offset. Where a pipe has no reader, or loses it during the wait, the guest also gets SIGPIPE."""

    def piped(step: Callable[[], Any]) -> Any:
        try:
            return step()
        except BrokenPipeError:
            world.signals.raise_signal(abi.SIGPIPE, thread)
            raise

    fitting = data[: room(world, thread, file, None, len(data))]
    done = piped(lambda: file.write(fitting))
    if not isinstance(done, Blocked):
        return int(done)
    wait = attrs.evolve(done, attempt=lambda: piped(done.attempt))
    return later(world, wait, int)


@oscall(0, effect=CallEffect.READS)
@after_stores(0)
def read(world: World, thread: GuestThread, fd: Fd, buf: Addr, count: Size) -> Reply:
    """read(2): bytes from the offset on; of more than 1 MiB only a part is read."""
    data = world.descriptors.get(fd).read(count)
    if data.__class__ is bytes:
        return len(data), (buf, data)
    if isinstance(data, Blocked):
        return later(world, data, lambda got: (len(got), (buf, got)))
    return len(data), (buf, bytes(data))


@oscall(1, effect=CallEffect.WRITES)
@after_stores(0)
def write(world: World, thread: GuestThread, fd: Fd, buf: Annotated[bytes, Buffer("count")], count: Size) -> Reply:
    """write(2): bytes at the offset; of more than 1 MiB only a part is written."""
    file = world.descriptors.get(fd)
    if file.node.kind == abi.S_IFREG:
        return file.write(buf[: room(world, thread, file, None, len(buf))])
    return written(world, thread, file, buf)


@oscall(17, effect=CallEffect.READS)
@after_stores(0)
def pread64(world: World, thread: GuestThread, fd: Fd, buf: Addr, count: Size, offset: Long) -> Reply:
    """pread(2): bytes at an offset."""
    if offset < 0:
        raise OSError(errno.EINVAL, "a negative offset")
    if fd >= HIDDEN:
        data = mapping(world, fd).node.pread(min(count, MAX_PAYLOAD), offset)
    else:
        data = world.descriptors.get(fd).pread(min(count, MAX_PAYLOAD), offset)
    return len(data), (buf, data)


@oscall(18, effect=CallEffect.WRITES)
@after_stores(0)
def pwrite64(
    world: World, thread: GuestThread, fd: Fd, buf: Annotated[bytes, Buffer("count")], count: Size, offset: Long
) -> Reply:
    """pwrite(2): bytes at an offset."""
    if offset < 0:
        raise OSError(errno.EINVAL, "a negative offset")
    if fd >= HIDDEN:
        return _write_back(world, fd, buf, offset)
    file = world.descriptors.get(fd)
    return file.pwrite(buf[: room(world, thread, file, offset, len(buf))], offset)


def mapping(world: World, fd: int) -> Any:
    """Returns the open file description of a mapping's number. Raises OSError (EBADF)."""
    file = world.mappings.get(fd)
    if file is None:
        raise OSError(errno.EBADF, "not a mapping")
    return file


def _write_back(world: World, fd: int, data: bytes, offset: int) -> int:
    """Writes back what a shared mapping changed.

    A mapping never makes its file longer, and O_APPEND does not apply to it.
    """
    file = mapping(world, fd)
    if not file.may_write:
        raise OSError(errno.EBADF, "not open for writing")
    inside = data[: max(0, file.node.size() - offset)]
    if inside:
        file.node.pwrite(inside, offset)
    return len(data)


# --- vectors --------------------------------------------------------------------------------------


def _check_count(iovcnt: int) -> None:
    if not 0 <= iovcnt <= abi.IOV_MAX:
        raise OSError(errno.EINVAL, "more than 1,024 pieces")


def iovec(data: bytes, iovcnt: int) -> list[tuple[int, int]]:
    """Returns (address, length) pairs of an iovec array, cut at 1 MiB in total. Raises OSError (EINVAL)."""
    _check_count(iovcnt)
    room, pieces = MAX_PAYLOAD, []
    for start in range(0, len(data) & ~15, 16):
        address, length = abi.RLIMIT.unpack_from(data, start)
        if length >> 63:
            raise OSError(errno.EINVAL, "a negative length")
        length = min(length, room)
        room -= length
        if length:
            pieces.append((address, length))
    return pieces


def scattered(pieces: list[tuple[int, int]], data: bytes, *more: Write) -> Reply:
    """Returns the answer that spreads `data` over the pieces of an iovec. more: other writes of the answer."""
    writes: list[Write] = [*more]
    start = 0
    for address, length in pieces:
        if start >= len(data):
            break
        writes.append((address, data[start : start + length]))
        start += length
    return len(data), *writes


@oscall(19, effect=CallEffect.READS)
@after_stores(0)
def readv(world: World, thread: GuestThread, fd: Fd, iov: Annotated[bytes, Buffer("iovcnt", 16)], iovcnt: Int) -> Reply:
    """readv(2): read, spread over several pieces of memory."""
    file = world.descriptors.get(fd)
    pieces = iovec(iov, iovcnt)
    data = file.read(sum(length for _, length in pieces))
    if isinstance(data, Blocked):
        return later(world, data, lambda got: scattered(pieces, got))
    return scattered(pieces, data)


@oscall(20, effect=CallEffect.WRITES)
@after_stores(0)
def writev(world: World, thread: GuestThread, fd: Fd, iov: Annotated[bytes, Gather("iovcnt")], iovcnt: Int) -> Reply:
    """writev(2): write, gathered from several pieces of memory."""
    _check_count(iovcnt)
    return written(world, thread, world.descriptors.get(fd), iov)


@oscall(295, effect=CallEffect.READS)
@after_stores(0)
def preadv(
    world: World,
    thread: GuestThread,
    fd: Fd,
    iov: Annotated[bytes, Buffer("iovcnt", 16)],
    iovcnt: Int,
    offset: Long,
    high: ULong,
) -> Reply:
    """preadv(2): readv at an offset."""
    if offset < 0:
        raise OSError(errno.EINVAL, "a negative offset")
    pieces = iovec(iov, iovcnt)
    data = world.descriptors.get(fd).pread(sum(length for _, length in pieces), offset)
    return scattered(pieces, data)


@oscall(296, effect=CallEffect.WRITES)
@after_stores(0)
def pwritev(
    world: World,
    thread: GuestThread,
    fd: Fd,
    iov: Annotated[bytes, Gather("iovcnt")],
    iovcnt: Int,
    offset: Long,
    high: ULong,
) -> Reply:
    """pwritev(2): writev at an offset."""
    _check_count(iovcnt)
    if offset < 0:
        raise OSError(errno.EINVAL, "a negative offset")
    file = world.descriptors.get(fd)
    return file.pwrite(iov[: room(world, thread, file, offset, len(iov))], offset)


def _check_rwf(flags: int) -> None:
    """Accepts the hints and sync flags of preadv2(2); RWF_NOWAIT and RWF_APPEND are not offered."""
    if flags & ~0x7:
        raise OSError(errno.EOPNOTSUPP, "unknown flags")


@oscall(327, effect=CallEffect.READS, partial="RWF_NOWAIT is not offered")
def preadv2(
    world: World,
    thread: GuestThread,
    fd: Fd,
    iov: Annotated[bytes, Buffer("iovcnt", 16)],
    iovcnt: Int,
    offset: Long,
    high: ULong,
    flags: UInt,
) -> Reply:
    """preadv2(2): preadv with flags; offset -1 stands for the current offset."""
    _check_rwf(flags)
    if offset == -1:
        return readv(world, thread, fd, iov, iovcnt)
    return preadv(world, thread, fd, iov, iovcnt, offset, high)


@oscall(328, effect=CallEffect.WRITES, partial="RWF_APPEND and RWF_NOWAIT are not offered")
def pwritev2(
    world: World,
    thread: GuestThread,
    fd: Fd,
    iov: Annotated[bytes, Gather("iovcnt")],
    iovcnt: Int,
    offset: Long,
    high: ULong,
    flags: UInt,
) -> Reply:
    """pwritev2(2): pwritev with flags; offset -1 stands for the current offset."""
    _check_rwf(flags)
    if offset == -1:
        return writev(world, thread, fd, iov, iovcnt)
    return pwritev(world, thread, fd, iov, iovcnt, offset, high)


# --- the file behind the descriptor ---------------------------------------------------------------


@oscall(5, effect=CallEffect.STATUS)
def fstat(world: World, fd: Fd, statbuf: Addr) -> Reply:
    """fstat(2): status of an open file."""
    if fd >= HIDDEN:
        return 0, (statbuf, mapping(world, fd).stat_bytes())
    return 0, (statbuf, world.descriptors.get(fd).stat_bytes())


@oscall(8, effect=CallEffect.SEEKS)
def lseek(world: World, fd: Fd, offset: Long, whence: Whence) -> Reply:
    """lseek(2): moves the offset."""
    return world.descriptors.get(fd).seek(offset, whence)


@oscall(77, effect=CallEffect.RESIZES)
@after_stores(0)
def ftruncate(world: World, thread: GuestThread, fd: Fd, length: Long) -> Reply:
    """ftruncate(2): sets the length of an open file."""
    file = world.descriptors.get(fd)
    if length < 0:
        raise OSError(errno.EINVAL, "a negative length")
    if file.node.kind == abi.S_IFREG:
        check_length(world, thread, _size(file), length)
    file.truncate(length)
    return 0


@oscall(285, effect=CallEffect.RESIZES, partial="only the default mode and KEEP_SIZE")
def fallocate(world: World, thread: GuestThread, fd: Fd, mode: Int, offset: Long, length: Long) -> Reply:
    """fallocate(2): reserves space; punching holes and moving ranges are not offered."""
    file = world.descriptors.get(fd)
    if file.is_path_only:
        raise OSError(errno.EBADF, "opened with O_PATH")
    if offset < 0 or length <= 0:
        raise OSError(errno.EINVAL, "a negative offset or no length")
    if mode & ~abi.FALLOC_FL_KEEP_SIZE:
        raise OSError(errno.EOPNOTSUPP, "only the default mode and KEEP_SIZE")
    file.need_write()
    if file.node.kind == abi.S_IFREG:
        if offset + length > (1 << 63) - 1:
            raise OSError(errno.EFBIG, "past the largest file")
        if not mode:
            check_length(world, thread, _size(file), offset + length)
    file.allocate(offset, length, bool(mode))
    return 0


@oscall(74, effect=CallEffect.NONE, partial="changes nothing")
def fsync(world: World, fd: Fd) -> Reply:
    """fsync(2): changes nothing, because written data is already in the file."""
    world.descriptors.get(fd).fsync()
    return 0


@oscall(75, effect=CallEffect.NONE, partial="changes nothing")
def fdatasync(world: World, fd: Fd) -> Reply:
    """fdatasync(2): as fsync."""
    world.descriptors.get(fd).fsync()
    return 0


@oscall(162, effect=CallEffect.NONE, partial="changes nothing")
def sync(world: World) -> Reply:
    """sync(2): changes nothing; the host flushes nothing for a guest."""
    return 0


@oscall(306, effect=CallEffect.NONE, partial="changes nothing")
def syncfs(world: World, fd: Fd) -> Reply:
    """syncfs(2): as sync."""
    world.descriptors.get(fd)
    return 0


@oscall(277, effect=CallEffect.NONE, partial="changes nothing")
def sync_file_range(world: World, fd: Fd, offset: Long, count: Long, flags: UInt) -> Reply:
    """sync_file_range(2): as fsync, of a range."""
    file = world.descriptors.get(fd)
    if file.is_path_only:
        raise OSError(errno.EBADF, "opened with O_PATH")
    if offset < 0 or count < 0 or flags & ~7:
        raise OSError(errno.EINVAL, "not a range, or unknown flags")
    if file.node.kind not in (abi.S_IFREG, abi.S_IFDIR):
        raise OSError(errno.ESPIPE, "no range")
    return 0


@oscall(221, effect=CallEffect.NONE, partial="a hint that changes nothing")
def fadvise64(world: World, fd: Fd, offset: Long, length: Long, advice: Int) -> Reply:
    """posix_fadvise(2): a hint that changes nothing."""
    file = world.descriptors.get(fd)
    if file.is_path_only:
        raise OSError(errno.EBADF, "opened with O_PATH")
    if file.node.kind == abi.S_IFIFO:
        raise OSError(errno.ESPIPE, "a pipe")
    if not 0 <= advice <= _FADVISE_MAX or length < 0:
        raise OSError(errno.EINVAL, "unknown advice")
    return 0


@oscall(187, effect=CallEffect.NONE, partial="a hint that changes nothing")
def readahead(world: World, fd: Fd, offset: Long, count: Size) -> Reply:
    """readahead(2): a hint that changes nothing."""
    file = world.descriptors.get(fd)
    file.need_read()
    if file.node.kind != abi.S_IFREG:
        raise OSError(errno.EINVAL, "not a regular file")
    return 0


# --- numbers --------------------------------------------------------------------------------------


@oscall(3, effect=CallEffect.CLOSES)
def close(world: World, fd: Fd) -> Reply:
    """close(2): closes a descriptor, or a mapping that the stub no longer needs."""
    if fd >= HIDDEN:
        file = mapping(world, fd)
        del world.mappings[fd]
        forget(world, fd)
        file.release()
        return 0
    world.descriptors.close(fd)
    return 0


@oscall(436, effect=CallEffect.CLOSES)
def close_range(world: World, first: UInt, last: UInt, flags: CloseFlags) -> Reply:
    """close_range(2): closes descriptors, or marks them close-on-exec.

    CLOSE_RANGE_UNSHARE changes nothing, since there is no other process that shares the descriptors.
    """
    if first > last or flags & ~(abi.CLOSE_RANGE_CLOEXEC | abi.CLOSE_RANGE_UNSHARE):
        raise OSError(errno.EINVAL, "not a range, or unknown flags")
    if flags & abi.CLOSE_RANGE_CLOEXEC:
        world.descriptors.cloexec_range(first, last)
    else:
        world.descriptors.close_range(first, last)
    return 0


@oscall(32, effect=CallEffect.DUPLICATES)
def dup(world: World, fd: Fd) -> Reply:
    """dup(2): another descriptor for the same description."""
    return world.descriptors.dup(fd)


@oscall(33, effect=CallEffect.DUPLICATES)
def dup2(world: World, fd: Fd, newfd: Fd) -> Reply:
    """dup2(2): dup, with a number that the guest chooses."""
    return world.descriptors.dup2(fd, newfd)


@oscall(292, effect=CallEffect.DUPLICATES)
def dup3(world: World, fd: Fd, newfd: Fd, flags: OpenFlags) -> Reply:
    """dup3(2): dup2 with O_CLOEXEC; equal numbers are an error."""
    if flags & ~abi.O_CLOEXEC or fd == newfd:
        raise OSError(errno.EINVAL, "unknown flags, or the same number twice")
    return world.descriptors.dup2(fd, newfd, bool(flags))
