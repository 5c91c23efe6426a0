"""The files of a live box, as its caller reads and changes them: in the program's tree, with the program's rights.

Rules: none of the program's code runs for this. Only regular files are read and written: a read from a device or a pipe
could wait forever. The caller bounds the sizes.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator

import attrs

from proxybox.controller import abi
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.host.nodes import HostFile
from proxybox.controller.vfs.memory import MemoryFile
from proxybox.controller.vfs.nodes import Directory, Node, RegularFile, Symlink
from proxybox.controller.vfs.openfiles import RegularOpenFile
from proxybox.controller.vfs.quota import PAGE
from proxybox.controller.vfs.tree import MAX_SYMLINKS
from proxybox.controller.world.state import World

#: Bytes of one piece of a file.
PIECE = 1 << 18
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


@attrs.frozen
class FileEntry:
    """One name in a folder.

    type: "file", "directory", "link" or "other". size: in bytes. mtime: seconds since 1970.
    """

    name: str
    type: str
    size: int
    mode: int
    mtime: float


class DiskLimitReached(OSError):
    """A limit of the box leaves no room for a file: ENOSPC, with a message that names the limit."""

    def __init__(self, why: str, path: str) -> None:
        super().__init__(errno.ENOSPC, why, path)


def read(world: World, path: str, limit: int) -> bytes:
    """Returns the content of a regular file.

    Raises OSError as open(2) does, and EFBIG for more than `limit` bytes: a file with holes may have any size.
    """
    return _readable(world, path, limit).whole()


def pieces(world: World, path: str, limit: int) -> Iterator[bytes]:
    """Yields the content of a regular file in pieces. Raises what `read` does, at once."""
    node = _readable(world, path, limit)

    def each() -> Iterator[bytes]:
        offset, size = 0, node.size()
        while offset < size and (piece := node.pread(min(PIECE, size - offset), offset)):
            yield piece
            offset += len(piece)

    return each()


def _readable(world: World, path: str, limit: int) -> RegularFile:
    node = _resolve(world, path)
    namei.need(node, world.credentials, abi.R_OK)
    if isinstance(node, Directory):
        raise _error(errno.EISDIR, path)
    if not isinstance(node, RegularFile):
        raise _error(errno.EINVAL, path)
    if node.size() > limit:
        raise _error(errno.EFBIG, path)
    return node


# --- writing ----------------------------------------------------------------------------------------------------------


def room(world: World, path: str, size: int = 0, *, parents: bool = False) -> int:
    """Returns how many bytes may be written to a file. Changes nothing, except that `parents` makes folders above it.

    Raises OSError where the file cannot be written, and DiskLimitReached where `size` bytes are too many.
    """
    return _place(world, path, parents=parents).check(size)


def write(world: World, path: str, data: Iterable[bytes], size: int, *, parents: bool = False) -> None:
    """Makes a regular file, or replaces its content. data: pieces, `size` bytes in all.

    parents: makes missing folders above it too. An old file stays until all is written; then the new file takes its
    name. A file is changed in place in these cases: it is the host's own, and a new file would not have its owner, ACL
    and extended attributes; it has another name; its folder cannot be changed; or there is no room for both files.
    Raises OSError as open(2) and write(2) do, and DiskLimitReached before anything is changed.
    """
    place = _place(world, path, parents=parents)
    place.check(size)
    if place.node is None:
        _make(world, place, place.name, data)
    elif place.is_replaced(size):
        _replace(world, place, place.node, data)
    else:
        _fill(world, place, place.name, data)


@attrs.frozen
class _Place:
    """Where a file is written. directory, name: its place after all links are followed. node: the file there now."""

    world: World
    path: str
    directory: Directory
    name: bytes
    node: RegularFile | None

    def check(self, size: int) -> int:
        """Returns for how many bytes there is room. Raises OSError."""
        quota, left = self.directory.superblock.quota, None
        if self.node is None:
            namei.may_create(self.directory, self.world.credentials)
            left = quota.free_inodes()
        else:
            namei.need(self.node, self.world.credentials, abi.W_OK)
        found = quota.free_pages() * PAGE + _given_back(self.node)
        if isinstance(self.node, HostFile) and size > (there := self.node.room()):  # the old content is removed first
            raise OSError(errno.ENOSPC, f"the host's disk has room for {there:,} bytes", self.path)
        if left == 0:
            raise DiskLimitReached("limits.files leaves no room for another file", self.path)
        if size > found:
            raise DiskLimitReached(f"limits.disk leaves room for {found:,} bytes, and the file has {size:,}", self.path)
        return found

    def is_replaced(self, size: int) -> bool:
        """Whether a new file can replace the file that exists."""
        quota, creds = self.directory.superblock.quota, self.world.credentials
        if self.node is None or isinstance(self.node, HostFile):
            return False
        if self.node.stat().nlink > 1 or self.node.superblock is not self.directory.superblock:
            return False
        try:
            namei.may_create(self.directory, creds)
            namei.may_delete(self.world.tree, self.directory, self.name, self.node, creds)
        except OSError:
            return False
        return size <= quota.free_pages() * PAGE and quota.free_inodes() != 0


def _place(world: World, path: str, *, parents: bool) -> _Place:
    encoded, start, creds = _encoded(path), world.cwd, world.credentials
    if parents:
        namei.make_folders(world.tree, encoded, start, creds, 0o777, world.umask)
    world.steps.renew()
    for _ in range(MAX_SYMLINKS + 1):
        directory, name, trailing = world.tree.resolve_parent(encoded, start, creds)
        if not name or name in (b".", b"..") or trailing:
            raise _error(errno.EISDIR, path)
        try:
            node: Node | None = world.tree.lookup(directory, name)
        except FileNotFoundError:
            node = None
        if isinstance(node, Symlink) and (jump := node.jump()) is None:
            encoded, start = node.target, directory
            continue
        node = jump if isinstance(node, Symlink) else node
        if node is None or isinstance(node, RegularFile):
            return _Place(world, path, directory, name, node)
        raise _error(errno.EISDIR if isinstance(node, Directory) else errno.EINVAL, path)
    raise _error(errno.ELOOP, path)


def _given_back(node: RegularFile | None) -> int:
    """The bytes that are freed when a file is changed in place: none, where it only shows a file below an overlay."""
    is_own = isinstance(node, MemoryFile) and getattr(node, "file_below", None) is None
    return node.stat().blocks * 512 if is_own and node is not None else 0


def _replace(world: World, place: _Place, old: RegularFile, data: Iterable[bytes]) -> None:
    beside = place.name[:200] + b"." + secrets.token_hex(6).encode() + b".part"
    creds, mode = world.credentials, old.stat().mode & 0o777
    _make(world, place, beside, data)
    try:
        namei.chmod(world.tree.lookup(place.directory, beside), creds, mode)
        namei.rename(world.tree, beside, place.directory, place.name, place.directory, creds)
    except BaseException:
        namei.unlink(world.tree, beside, place.directory, creds)
        raise


def _make(world: World, place: _Place, name: bytes, data: Iterable[bytes]) -> None:
    """Makes a file whose name is free. When that fails, the file is removed again."""
    try:
        _fill(world, place, name, data)
    except BaseException:
        with contextlib.suppress(OSError):
            namei.unlink(world.tree, name, place.directory, world.credentials)
        raise


def _fill(world: World, place: _Place, name: bytes, data: Iterable[bytes]) -> None:
    flags = abi.O_WRONLY | abi.O_CREAT | abi.O_TRUNC
    file = namei.open_file(world.tree, name, place.directory, world.credentials, flags, 0o666, world.umask)
    try:
        if not isinstance(file, RegularOpenFile):
            raise _error(errno.EINVAL, place.path)
        for piece in data:
            world.steps.renew()
            while piece:
                piece = piece[file.write(piece) :]
    finally:
        file.close()


def listing(world: World, path: str) -> list[FileEntry]:
    """Returns the entries of a folder, sorted by name; for a file, its own entry. Raises OSError as opendir(3) does."""
    node = _resolve(world, path)
    if not isinstance(node, Directory):
        return [_entry(os.path.basename(path), node)]
    namei.need(node, world.credentials, abi.R_OK | abi.X_OK)
    names = {name for name, *_ in node.entries()} | set(world.tree.mounted_in(node))
    found = []
    for name in sorted(names - {b".", b".."}):
        world.steps.renew()
        try:
            found.append(_entry(os.fsdecode(name), world.tree.lookup(node, name)))
        except OSError:  # removed on the host meanwhile
            continue
    return found


def _resolve(world: World, path: str) -> Node:
    world.steps.renew()
    try:
        return world.tree.resolve(_encoded(path), world.cwd, world.credentials)
    except OSError as error:
        raise _error(error.errno or errno.EIO, path) from None


def _encoded(path: str) -> bytes:
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        raise _error(errno.EILSEQ, path) from None
    if b"\0" in encoded:
        raise _error(errno.EINVAL, path)
    return encoded


def _entry(name: str, node: Node) -> FileEntry:
    status = node.stat()
    size = len(node.target) if isinstance(node, Symlink) else status.size
    return FileEntry(
        name, _KINDS.get(status.mode & 0o170000, "other"), size, status.mode & 0o7777, status.mtime_ns / 1e9
    )


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
