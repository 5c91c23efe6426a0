"""Copies from descriptor to descriptor, and files in memory without a name."""

import errno
from typing import TYPE_CHECKING, Annotated

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply, Write
from proxybox.controller.header import MAX_PAYLOAD
from proxybox.controller.oscalls.control import Pointer
from proxybox.controller.oscalls.descriptors import room
from proxybox.controller.oscalls.stores import after_stores
from proxybox.controller.roles import Fd, Size, Soft, Text, UInt
from proxybox.controller.vfs.memory import MemoryFile
from proxybox.controller.world.state import GuestThread, World

if TYPE_CHECKING:
    from proxybox.controller.vfs.openfiles import OpenFile

_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_NOEXEC_SEAL, _MFD_EXEC = 1, 2, 8, 16
_MEMFD_NAME_MAX = 249
#: libffi keeps its machine code in a file that stays open: it gets a high number, so that programs get the usual low
#: ones.
_LIBFFI = b"libffi"


def _offset(pointer: Pointer) -> int | None:
    """Returns the value of an optional offset argument. Raises OSError (EFAULT, EINVAL)."""
    address, data = pointer
    if address == 0:
        return None
    if data is None:
        raise OSError(errno.EFAULT, "no offset there")
    offset = int.from_bytes(data, "little", signed=True)
    if offset < 0:
        raise OSError(errno.EINVAL, "a negative offset")
    return offset


def _copy(source: "OpenFile", start: int | None, target: "OpenFile", at: int | None, count: int) -> int:
    """Copies at most 1 MiB. Where an offset was not given, the description's own is used and moved."""
    count = min(count, MAX_PAYLOAD)
    first = source.offset if start is None else start
    data = source.pread(count, first)
    if not data:
        return 0
    if at is None:
        done = target.write(data)
        if not isinstance(done, int):
            raise OSError(errno.EINVAL, "a regular file does not wait")
    else:
        done = target.pwrite(data, at)
    if start is None:
        source.offset = first + done  # not += : both may be one description
    return done


def _moved(pointer: Pointer, start: int | None, done: int) -> list[Write]:
    return [] if start is None else [(pointer[0], abi.U64.pack(start + done))]


def _check_regular(*files: "OpenFile") -> None:
    """Raises OSError (EINVAL) for anything but regular files, so that callers fall back on read and write."""
    if any(file.node.kind != abi.S_IFREG for file in files):
        raise OSError(errno.EINVAL, "only between regular files")


@oscall(40, effect=CallEffect.READS | CallEffect.WRITES, partial="between regular files only")
@after_stores(0, 1)
def sendfile(
    world: World, thread: GuestThread, out_fd: Fd, in_fd: Fd, offset: Annotated[Pointer, Soft(8)], count: Size
) -> Reply:
    """sendfile(2): copies between regular files; EINVAL for others, so that callers fall back."""
    source, target = world.descriptors.get(in_fd), world.descriptors.get(out_fd)
    source.need_read()
    target.need_write()
    if target.flags & abi.O_APPEND:
        raise OSError(errno.EINVAL, "the target appends")
    if count == 0:
        return 0
    _check_regular(source, target)
    start = _offset(offset)
    done = _copy(source, start, target, None, room(world, thread, target, None, count))
    return done, *_moved(offset, start, done)


@oscall(326, effect=CallEffect.READS | CallEffect.WRITES, partial="between regular files only")
@after_stores(0, 2)
def copy_file_range(
    world: World,
    thread: GuestThread,
    in_fd: Fd,
    in_offset: Annotated[Pointer, Soft(8)],
    out_fd: Fd,
    out_offset: Annotated[Pointer, Soft(8)],
    count: Size,
    flags: UInt,
) -> Reply:
    """copy_file_range(2): copies between regular files."""
    source, target = world.descriptors.get(in_fd), world.descriptors.get(out_fd)
    source.need_read()
    target.need_write()
    for file in (source, target):
        if file.node.kind == abi.S_IFDIR:
            raise OSError(errno.EISDIR, "a directory")
    _check_regular(source, target)
    if flags:
        raise OSError(errno.EINVAL, "unknown flags")
    if target.flags & abi.O_APPEND:
        raise OSError(errno.EBADF, "the target appends")
    start, at = _offset(in_offset), _offset(out_offset)
    count = room(world, thread, target, at, min(count, MAX_PAYLOAD))
    first = source.offset if start is None else start
    second = target.offset if at is None else at
    if source.node is target.node and first < second + count and second < first + count:
        raise OSError(errno.EINVAL, "the ranges overlap")
    done = _copy(source, start, target, at, count)
    moved = _moved(in_offset, start, done) + _moved(out_offset, at, done)
    return done, *moved


@oscall(319, effect=CallEffect.CREATES, partial="without seals and huge pages")
def memfd_create(world: World, name: Text, flags: UInt) -> Reply:
    """memfd_create(2): a file in memory without a name, within the box's disk limit; no seals."""
    known = _MFD_CLOEXEC | _MFD_ALLOW_SEALING | _MFD_NOEXEC_SEAL | _MFD_EXEC
    if flags & ~known or len(name) > _MEMFD_NAME_MAX:
        raise OSError(errno.EINVAL, "unknown flags, or too long a name")
    minimum = max(3, world.descriptors.open_files - 8) if name == _LIBFFI else 0
    return world.descriptors.install(nameless(world), bool(flags & _MFD_CLOEXEC), minimum)


def nameless(world: World) -> "OpenFile":
    """Returns a new open file in memory that has no name."""
    uid, gid = world.credentials.uid, world.credentials.gid
    return MemoryFile(world.anonymous, 0o777, uid, gid).open(abi.O_RDWR)
