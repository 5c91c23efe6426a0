"""The nodes of a filesystem, with the semantics of Linux inodes, and their permissions.

Rules: names and paths are bytes. A node never walks a path, and looks at credentials only in `permits` and `owned_by`:
namei.py checks permissions and then uses the mechanical methods here. A method that a kind of node does not support
fails with the errno of Linux.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Collection, Generator
from typing import TYPE_CHECKING, ClassVar, NoReturn, TypeVar

import attrs

from proxybox.controller import abi
from proxybox.controller.abi import (
    DT_CHR,
    DT_DIR,
    DT_FIFO,
    DT_LNK,
    DT_REG,
    DT_SOCK,
    R_OK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    W_OK,
    X_OK,
    pack_stat,
)
from proxybox.controller.costs.steps import Steps
from proxybox.controller.effects import Changes
from proxybox.controller.errors import Denied
from proxybox.controller.vfs.quota import Quota

# Only for types: README.md in this folder says why this import cycle stays.
if TYPE_CHECKING:
    from proxybox.controller.vfs.openfiles import DirectoryOpenFile, OpenFile, RegularOpenFile

D_TYPES = {
    S_IFREG: DT_REG, S_IFDIR: DT_DIR, S_IFLNK: DT_LNK,
    S_IFCHR: DT_CHR, S_IFIFO: DT_FIFO, S_IFSOCK: DT_SOCK,
}  # fmt: skip
"""The d_type of getdents64(2) for each kind of node."""

MAX_FILE_SIZE = (1 << 63) - 1
MAX_LEVELS = 1 << 15
"""How many folders within each other `Directory.holds` looks through."""

PORTION = 128
"""How many items of a long list one turn of a call handles."""

_T = TypeVar("_T")
_Made = TypeVar("_Made")

Entry = tuple[bytes, int, int]
"""A directory entry: name, inode number, d_type."""


@attrs.frozen(slots=True)
class Credentials:
    """The user, group and further groups of a caller, as the box sees them."""

    uid: int = 1000
    gid: int = 1000
    groups: frozenset[int] = frozenset()

    def in_group(self, gid: int) -> bool:
        """Whether `gid` is the caller's group or one of the further groups."""
        return gid == self.gid or gid in self.groups


@attrs.frozen(slots=True)
class Stat:
    """The fields of stat(2). Times are in nanoseconds, `size` in bytes, `blocks` in units of 512 bytes."""

    dev: int
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    blksize: int = 4096


@attrs.define(slots=True, kw_only=True, eq=False)
class Superblock:
    """The data that all nodes of one filesystem share.

    dev: the virtual device number. uid, gid: the owner shown for nodes that have none of their own. now: the box's
    clock in nanoseconds. clock_is_real: when False, no time that the host sets by itself (atime, ctime) is shown.
    forget: called when the namespace or a permission changes. steps: the steps of the box's calls. changes: where
    changes are reported, so that waiting calls of the box are tried again. shared: whether several boxes use this
    filesystem; a tree must not set fields of a shared superblock. pipe_bytes: how many bytes its pipes together may
    hold beyond their usual sizes. in_the_making: nodes with work that a call continues at its next turn.
    """

    dev: int = 1
    uid: int = 1000
    gid: int = 1000
    now: Callable[[], int] = time.time_ns
    clock_is_real: bool = True
    quota: Quota = attrs.field(factory=Quota)
    read_only: bool = False
    shared: bool = False
    forget: Callable[[], None] = lambda: None
    steps: Steps = attrs.field(factory=Steps)
    changes: Changes = attrs.field(factory=Changes)
    last_ino: int = 1
    pipe_bytes: int = 0
    in_the_making: set[object] = attrs.field(factory=set)

    def next_ino(self) -> int:
        """An inode number that no other inode of this filesystem has."""
        self.last_ino += 1
        return self.last_ino


def mode_permits(mode: int, uid: int, gid: int, creds: Credentials, mask: int) -> bool:
    """Whether a file with this mode and owner lets `creds` do `mask` (R_OK, W_OK, X_OK).

    As in path_resolution(7), the first class that fits decides; uid 0 may do everything except execute a file that
    nobody may execute.
    """
    if creds.uid == 0:
        return not (mask & X_OK) or mode & S_IFMT == S_IFDIR or bool(mode & 0o111)
    if creds.uid == uid:
        mode >>= 6
    elif creds.in_group(gid):
        mode >>= 3
    return mode & mask == mask


def in_portions(items: list[_T], make: Callable[[list[_T]], list[_Made]]) -> Generator[None, None, list[_Made]]:
    """Applies `make` to portions of the items and joins the results; yields where a turn of a call may end."""
    made: list[_Made] = []
    for start in range(0, len(items), PORTION):
        if start:
            yield
        made += make(items[start : start + PORTION])
    return made


def finished(work: Generator[None, None, _T]) -> _T:
    """Runs a generator, as `in_portions` makes it, to its end, and returns its result."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            done: _T = stop.value
            return done


class Node:
    """An inode. `kind` is the file type part (S_IFMT) of its mode."""

    __slots__ = ("__weakref__", "superblock")

    kind: ClassVar[int] = 0

    def __init__(self, superblock: Superblock) -> None:
        self.superblock = superblock

    @property
    def lasts(self) -> bool:
        """Whether only calls of the box change the status: those that make or change an entry, a mode, times."""
        return False

    def stat(self) -> Stat:
        """The status as in stat(2)."""
        raise NotImplementedError

    def unchanging(self, most: int) -> bytes | None:
        """The content of a file that can never change, if it has at most `most` bytes; otherwise None."""
        return None

    def host_descriptor(self) -> int | None:
        """A new descriptor of the host, open for reading, of a file that can never change; None for any other.

        The caller owns it. It may be passed to a guest, which maps the file.
        """
        return None

    def stat_bytes(self) -> bytes:
        """The struct stat of this node, 144 bytes."""
        return pack_stat(self.stat())

    def permits(self, creds: Credentials, mask: int) -> bool:
        """Whether the mode bits let `creds` do `mask`. Read-only mounts are not considered."""
        stat = self.stat()
        return mode_permits(stat.mode, stat.uid, stat.gid, creds, mask)

    def owned_by(self, creds: Credentials) -> bool:
        """Whether `creds` may do what is reserved to the owner."""
        return creds.uid == 0 or self.stat().uid == creds.uid

    def chmod(self, mode: int) -> None:
        """Sets the permission bits (07777)."""
        self.refuse_change()

    def chown(self, uid: int, gid: int) -> None:
        """Sets owner and group; -1 leaves an id as it is."""
        self.refuse_change()

    def utimens(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Sets the times, in nanoseconds since the epoch; None leaves a time as it is."""
        self.refuse_change()

    def open(self, flags: int) -> OpenFile:
        """A new open file description. `flags` are those of open(2); the caller has already checked permissions."""
        raise OSError(errno.ENXIO, "this kind of file cannot be opened")

    def refuse_change(self) -> NoReturn:
        """Raises the error for a change of something immutable: EROFS on a read-only mount, otherwise EPERM."""
        if self.superblock.read_only:
            raise Denied(errno.EROFS, "mounted read-only")
        raise OSError(errno.EPERM, "this kind of file cannot be changed")


class RegularFile(Node):
    """A file with contents at offsets."""

    __slots__ = ()
    kind = S_IFREG
    description: ClassVar[type[RegularOpenFile]]  # openfiles.py sets it

    def size(self) -> int:
        """Length in bytes."""
        return self.stat().size

    def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes at `offset`; b"" at or after the end."""
        raise NotImplementedError

    def whole(self) -> bytes:
        """All contents, read in pieces, up to the size at the start: later growth of a host's file is ignored."""
        pieces, offset, size = [], 0, self.size()
        while offset < size and (piece := self.pread(1 << 20, offset)):
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Writes at `offset`. Returns how much was written: less than all when space runs out. Raises ENOSPC, EFBIG."""
        self.refuse_change()

    def append(self, data: bytes) -> tuple[int, int]:
        """Writes at the end. Returns how much was written, and the offset behind it. Raises ENOSPC, EFBIG."""
        end = self.size()
        done = self.pwrite(data, end)
        return done, end + done

    def truncate(self, size: int) -> None:
        """Sets the length. Added bytes read as zeros and take no space."""
        self.refuse_change()

    def allocate(self, offset: int, size: int, keep_size: bool) -> None:
        """fallocate(2) in its default mode, or with FALLOC_FL_KEEP_SIZE."""
        raise OSError(errno.EOPNOTSUPP, "no preallocation here")

    def seek_data(self, offset: int, hole: bool) -> int:
        """lseek(2) with SEEK_DATA or SEEK_HOLE. Where holes are unknown, the whole file counts as data."""
        size = self.size()
        if offset >= size:
            raise OSError(errno.ENXIO, "past the end of the file")
        return size if hole else offset

    def open(self, flags: int) -> OpenFile:
        if flags & abi.O_TRUNC:
            self.truncate(0)
        return self.description(self, flags)


class Symlink(Node):
    """A symbolic link. stable: whether its text changes only when an entry changes."""

    __slots__ = ()
    kind = S_IFLNK
    stable: ClassVar[bool] = True

    @property
    def target(self) -> bytes:
        """The text that readlink(2) returns."""
        raise NotImplementedError

    def jump(self) -> Node | None:
        """The node that a magic link (/proc/self/fd/0) leads to; None for an ordinary link."""
        return None

    def permits(self, creds: Credentials, mask: int) -> bool:
        return True

    def open(self, flags: int) -> OpenFile:
        raise OSError(errno.ELOOP, "a symbolic link")


class Directory(Node):
    """A directory. It has one parent, and knows its own name there (b"" for a root).

    stable: whether its entries change only through this object, so that results of walks may be kept. The methods that
    change entries are mechanical: they check existence, but not permissions.
    """

    __slots__ = ()
    kind = S_IFDIR
    stable: ClassVar[bool] = True
    description: ClassVar[type[DirectoryOpenFile]]  # openfiles.py sets it
    parent: Directory | None  # slots in the concrete classes
    name: bytes

    def lookup(self, name: bytes) -> Node:
        """The entry of that name. Raises ENOENT. Callers never ask for "." and ".."."""
        raise NotImplementedError

    def entries(self) -> list[Entry]:
        """All entries except "." and "..", in an order that is the same each time."""
        raise NotImplementedError

    def listing(self) -> Generator[None, None, list[Entry]]:
        """Like `entries`, but yields where a turn of the call may end."""
        yield from ()
        return self.entries()

    def has_others(self, names: Collection[bytes]) -> bool:
        """Whether there is an entry whose name is not one of `names`."""
        return any(name not in names for name, _, _ in self.entries())

    def is_removed(self) -> bool:
        """Whether it was removed while it is still in use."""
        return False

    def is_empty(self) -> bool:
        """Whether it has no entries."""
        return not self.entries()

    def permitted_by_default(self) -> int | None:
        """The permission bits that a default ACL of the directory permits; None when it has none."""
        return None

    def mode_of_new(self, mode: int, umask: int) -> int:
        """The mode of a new entry: without the umask, or, as in acl(5), as far as a default ACL permits it."""
        permitted = self.permitted_by_default()
        return mode & ~umask if permitted is None else mode & (permitted | 0o7000)

    def create(self, name: bytes, mode: int, creds: Credentials) -> Node:
        """Makes a new regular file. Raises EEXIST, ENOSPC."""
        self.refuse_change()

    def tmpfile(self, mode: int, creds: Credentials) -> Node:
        """Makes a new regular file without a name (O_TMPFILE)."""
        raise OSError(errno.EOPNOTSUPP, "no unnamed files here")

    def mkdir(self, name: bytes, mode: int, creds: Credentials) -> Directory:
        """Makes a new directory. Raises EEXIST, ENOSPC."""
        self.refuse_change()

    def symlink(self, name: bytes, target: bytes, creds: Credentials) -> Symlink:
        """Makes a new symbolic link. Raises EEXIST, ENOSPC."""
        self.refuse_change()

    def link(self, name: bytes, node: Node) -> None:
        """Adds a name for `node`, which must not be a directory. Raises EEXIST, EXDEV."""
        self.refuse_change()

    def unlink(self, name: bytes) -> None:
        """Removes an entry that is not a directory. Raises ENOENT, EISDIR."""
        self.refuse_change()

    def rmdir(self, name: bytes) -> None:
        """Removes an empty directory. Raises ENOENT, ENOTDIR, ENOTEMPTY."""
        self.refuse_change()

    def rename(self, name: bytes, newdir: Directory, newname: bytes, flags: int) -> None:
        """rename(2) in one filesystem, with RENAME_NOREPLACE or RENAME_EXCHANGE. Raises EXDEV for two filesystems."""
        self.refuse_change()

    def holds(self, other: Directory) -> bool:
        """Whether `other` is this directory or lies below it in the filesystem. Raises ELOOP when it lies too deep."""
        step: Directory | None = other
        for _ in range(MAX_LEVELS):
            if step is None or step is self:
                return step is self
            step = step.parent
        raise OSError(errno.ELOOP, "too many folders within each other")

    def open(self, flags: int) -> OpenFile:
        return self.description(self, flags)


__all__ = [
    "D_TYPES", "MAX_FILE_SIZE", "R_OK", "W_OK", "X_OK", "Credentials", "Directory", "Entry", "Node",
    "RegularFile", "Stat", "Superblock", "Symlink", "mode_permits",
]  # fmt: skip
