"""The files of a live box, as its caller reads and changes them: in the program's tree, with the program's rights.

Rules: none of the program's code runs for this. Only regular files are read and written: a read from a device or a pipe
may have to wait, and nothing would end the wait. The caller bounds the sizes.
"""

import errno
import os
import stat

import attrs

from proxybox.controller import abi
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.nodes import Directory, Node, RegularFile, Symlink
from proxybox.controller.vfs.openfiles import RegularOpenFile
from proxybox.controller.world.state import World

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


def read(world: World, path: str, limit: int) -> bytes:
    """Returns the content of a regular file.

    Raises OSError as open(2) does, and EFBIG for more than `limit` bytes: a file with holes may have any size.
    """
    node = _resolve(world, path)
    namei.need(node, world.credentials, abi.R_OK)
    if isinstance(node, Directory):
        raise _error(errno.EISDIR, path)
    if not isinstance(node, RegularFile):
        raise _error(errno.EINVAL, path)
    if node.size() > limit:
        raise _error(errno.EFBIG, path)
    return node.whole()


def write(world: World, path: str, data: bytes, *, parents: bool = False) -> None:
    """Makes a regular file, or replaces its content.

    parents: makes missing folders above it too. Raises OSError as open(2) and write(2) do; limits.disk applies.
    """
    if parents:
        namei.make_folders(world.tree, _encoded(path), world.cwd, world.credentials, 0o777, world.umask)
    try:
        node = _resolve(world, path)
        if not isinstance(node, RegularFile):
            raise _error(errno.EISDIR if isinstance(node, Directory) else errno.EINVAL, path)
    except FileNotFoundError:
        pass
    flags = abi.O_WRONLY | abi.O_CREAT | abi.O_TRUNC
    file = namei.open_file(world.tree, _encoded(path), world.cwd, world.credentials, flags, 0o666, world.umask)
    try:
        if not isinstance(file, RegularOpenFile):
            raise _error(errno.EINVAL, path)
        while data:
            data = data[file.write(data) :]
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
