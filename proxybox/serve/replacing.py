"""Replaces files as a whole, so that a reader never sees a part of one.

`replace` needs space on the disk for the new content. `rewrite` has reserved that space in advance: beside the file
there is a spare file of the same size, which is written in place and then exchanged with it. So a change is possible on
a full disk, on filesystems that write in place (ext4, XFS, Btrfs, tmpfs). `read_rewritten` is its reader.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import tempfile
import time
from pathlib import Path
from typing import Final

from proxybox.controller.abi import RENAME_EXCHANGE
from proxybox.policies.regularfiles import regular

#: The sizes of files that are rewritten are multiples of this.
_BLOCK: Final = 16 << 10
_AT_FDCWD: Final = -100
#: How often a reader tries to open the current file.
_TRIES: Final = 100
#: ioctl_iflags(2).
_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
_NOCOW: Final = 0x00800000
#: Errors of a filesystem or a C library without the exchange of names.
_NO_EXCHANGE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})


def replace(path: Path, data: bytes) -> None:
    """Replaces a file's content as a whole; only this user may read it (mode 0600). Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


# --- with room that was taken beforehand ------------------------------------------------------------------------------


def rewrite(path: Path, text: bytes, *, room: int) -> bool:
    """Replaces a file's content as `replace` does, and reserves the space for the next time.

    text: newlines are added up to the size of the file. room: bytes that the next text may need. Returns whether they
    are reserved: then the next text of at most this size can be written on a full disk. The caller ensures that there
    is one writer at a time. Raises OSError.
    """
    spare = path.with_name(f"{path.name}.spare")
    size = -(-max(len(text), room) // _BLOCK) * _BLOCK
    descriptor = _open_spare(spare, path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for readers that have opened it under its earlier name
        _write(descriptor, text.ljust(os.fstat(descriptor).st_size, b"\n"), 0)
        has_room = _take_room(descriptor, size)
        os.utime(descriptor, ns=(time.time_ns(),) * 2)  # the kernel's own time is that of its last tick
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a file under the name that readers open is never locked
        _exchange(spare, path)
        _sync_folder(path.parent)
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError), open(_open_spare(spare, path), "rb") as file:
        return _take_room(file.fileno(), size) and has_room
    return False


def read_rewritten(path: Path, most: int) -> tuple[os.stat_result, bytes]:
    """Returns the status and the content of a file that `rewrite` has written, at most one byte more than `most`.

    Raises OSError, also for a file that is not regular.
    """
    for _ in range(_TRIES):
        descriptor = regular(str(path), os.O_RDONLY)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # it has just become the spare, which is being written
                continue
            if os.stat(path).st_ino == status.st_ino:
                return os.fstat(descriptor), file.read(most + 1)
    raise OSError(errno.EAGAIN, "it is changed all the time", str(path))


def _open_spare(spare: Path, path: Path) -> int:
    """Opens the spare, which gets the owner of the file or, if that does not exist, of its folder."""
    descriptor = open_beside(spare, path if path.exists() else path.parent)
    try:
        _write_in_place(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_beside(path: Path, like: Path) -> int:
    """Opens a file for reading and writing, and makes it if it is missing. Its owner is that of `like`.

    Raises OSError for a link of any kind, a file that is not regular, and a file of another user: the folder's owner,
    who may not be root, could use these to make root write or chown another file, or could write to the file later.
    """
    descriptor = regular(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if status.st_nlink > 1:
            raise OSError(errno.EMLINK, "it has another name, too (remove this one)", str(path))
        if not is_of_folder(status, path):
            raise OSError(errno.EPERM, "it belongs to another user than its folder (remove it, or chown it)", str(path))
        give(descriptor, like)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_of_folder(status: os.stat_result, path: Path) -> bool:
    """Returns whether the owner of a file is root, this user, or the owner of its folder, who may replace it anyway."""
    return status.st_uid in {0, os.geteuid(), path.parent.stat().st_uid}


def _write_in_place(descriptor: int) -> None:
    """Makes Btrfs write a new file in place, without need of new space (ioctl_iflags(2), FS_NOCOW_FL)."""
    if not os.fstat(descriptor).st_size:
        with contextlib.suppress(OSError):
            flags = struct.unpack("i", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(4)))[0]
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("i", flags | _NOCOW))


def give(descriptor: int, like: Path) -> None:
    """Changes the owner of a file that root has made to that of `like`, who needs to use it. Raises OSError."""
    if os.geteuid() == 0:
        owner = os.stat(like)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _write(descriptor: int, data: bytes, at: int) -> None:
    """Writes data from an offset on, and waits until it is on the disk. Raises OSError."""
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, at)
        left, at = left[written:], at + written
    os.fsync(descriptor)


def _take_room(descriptor: int, size: int) -> bool:
    """Extends a file to `size` if the disk has space, by writing: space that is only reserved may need more later."""
    has = os.fstat(descriptor).st_size
    try:
        _write(descriptor, b"\n" * (size - has), has)
    except OSError:
        return False
    return True


def _exchange(spare: Path, path: Path) -> None:
    """Renames a spare to `path`; the file there becomes the spare if names can be exchanged. Raises OSError."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if path.exists() and rename is not None:
        if not rename(_AT_FDCWD, os.fsencode(spare), _AT_FDCWD, os.fsencode(path), RENAME_EXCHANGE):
            return
        number = ctypes.get_errno()
        if number not in _NO_EXCHANGE:
            raise OSError(number, os.strerror(number), str(path))
    os.rename(spare, path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
