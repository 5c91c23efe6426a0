"""The interpreter's own library: a host folder that is looked up only once.

Rules: the results are stored for the whole process and shared by all boxes with the same mount, so nothing here depends
on a box: no quota, no clock, no parent directory. A status is packed once. Inode numbers are computed from names, so
they are the same in every process. Later changes on the host are not seen. At most `CACHE_BYTES` of contents and
`CACHE_FILES` open files are kept.
"""

from __future__ import annotations

import errno
import os
import stat as st
import threading
from collections import OrderedDict
from collections.abc import Callable

import attrs

from proxybox.controller.abi import pack_stat
from proxybox.controller.perprocess import PerProcess
from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.inodes import ino_of
from proxybox.controller.vfs.nodes import (
    D_TYPES,
    X_OK,
    Credentials,
    Directory,
    Entry,
    Node,
    RegularFile,
    Stat,
    Superblock,
    Symlink,
    mode_permits,
)

CACHE_BYTES = 64 << 20
CACHE_FILES = 32
CACHED_SIZE = 4 << 20
"""Files up to this size are kept whole; larger ones are read through a descriptor that is kept open."""

MISSES = 32
"""A folder is listed when its entries are asked for, or after so many lookups of names that it does not have.

Most folders are never listed. To list every folder in which the first box of a process looks names up would take half
as long as its interpreter's start."""

DEVICE = 0x2F
_KINDS = (st.S_IFREG, st.S_IFDIR, st.S_IFLNK)


class _Contents:
    """Contents and descriptors kept for all libraries of this process; the least recently used are dropped first."""

    def __init__(self) -> None:
        self._whole: OrderedDict[LibraryFile, bytes] = OrderedDict()
        self._bytes = 0
        self._fds: OrderedDict[LibraryFile, int] = OrderedDict()

    def whole(self, file: LibraryFile) -> bytes:
        """All contents of a small file."""
        with _contents_lock():
            data = self._whole.get(file)
            if data is not None:
                self._whole.move_to_end(file)
                return data
        fd = file.library.host.open_file(file.relative, os.O_RDONLY)
        try:
            data = _read_all(fd, file.length)
        finally:
            os.close(fd)
        with _contents_lock():
            if file not in self._whole:
                self._whole[file] = data
                self._bytes += len(data)
                file.content = data
            while self._bytes > CACHE_BYTES and len(self._whole) > 1:
                old, gone = self._whole.popitem(last=False)
                old.content = None
                self._bytes -= len(gone)
        return data

    def part(self, file: LibraryFile, size: int, offset: int) -> bytes:
        """A part of a large file. It is read under the lock, so that no descriptor is closed while it is being read."""
        with _contents_lock():
            return os.pread(self._opened(file), size, offset)

    def descriptor(self, file: LibraryFile) -> int | None:
        """A new descriptor of a file, open for reading; None for one that was replaced since it was looked at."""
        with _contents_lock():
            fd = self._opened(file)
            seen, known = os.fstat(fd), file.stat()
            return os.dup(fd) if (seen.st_size, seen.st_mtime_ns) == (known.size, known.mtime_ns) else None

    def _opened(self, file: LibraryFile) -> int:
        fd = self._fds.get(file)
        if fd is None:
            fd = self._fds[file] = file.library.host.open_file(file.relative, os.O_RDONLY)
            while len(self._fds) > CACHE_FILES:
                os.close(self._fds.popitem(last=False)[1])
        else:
            self._fds.move_to_end(file)
        return fd


_contents = _Contents()
_contents_lock = PerProcess(threading.Lock)
_libraries: dict[tuple[bytes, bytes, int, int, bool], LibraryMount] = {}
_libraries_lock = PerProcess(threading.Lock)


class LibraryMount:
    """A host folder for all boxes that mount it at `target`; made by `library`."""

    def __init__(self, source: bytes, target: bytes, uid: int, gid: int, may_be_mapped: bool) -> None:
        self.may_be_mapped = may_be_mapped
        self.target = target
        self.superblock = Superblock(dev=DEVICE, uid=uid, gid=gid, read_only=True, shared=True)
        self.host = boundary.HostRoot(source)
        try:
            self.root = LibraryDirectory(self, b"", self.host.look(b""), None, b"")
        except BaseException:  # a Ctrl-C, too
            self.host.close()
            raise

    def ino(self, relative: bytes) -> int:
        """An inode number that depends only on the path in the box."""
        path = self.target + b"/" + relative
        return ino_of(path)


def library(
    source: str | os.PathLike[str], target: bytes, *, uid: int = 0, gid: int = 0, may_be_mapped: bool = False
) -> LibraryMount:
    """The library at `source`, as it is mounted at `target`: the same object for all boxes.

    uid, gid: the owner that is shown (root, as for a system's own files). may_be_mapped: whether a guest may share the
    pages of its files with the host's other processes (SECURITY.md, side channels).

    Raises SandboxStartError when the folder is missing or must not be shown.
    """
    key = (os.path.realpath(os.fsencode(source)), target, uid, gid, may_be_mapped)
    with _libraries_lock():
        found = _libraries.get(key)
        if found is None:
            found = _libraries[key] = LibraryMount(*key)
        return found


class LibraryNode(Node):
    """The base of library nodes, whose status never changes."""

    __slots__ = ("_bytes", "_stat", "library", "relative")

    def __init__(self, mount: LibraryMount, relative: bytes, seen: os.stat_result) -> None:
        super().__init__(mount.superblock)
        self.library = mount
        self.relative = relative
        mode = seen.st_mode & (st.S_IFMT(seen.st_mode) | 0o1777)
        is_directory = st.S_ISDIR(mode)
        # Link counts and access times change on the host, so the host's values are not used.
        self._stat = Stat(
            DEVICE, mount.ino(relative), mode, 2 if is_directory else 1,
            mount.superblock.uid, mount.superblock.gid, 0, 4096 if is_directory else seen.st_size,
            8 if is_directory else (seen.st_size + 511) // 512,
            seen.st_mtime_ns, seen.st_mtime_ns, seen.st_mtime_ns,
        )  # fmt: skip
        self._bytes = pack_stat(self._stat)

    @property
    def lasts(self) -> bool:
        return True

    def stat(self) -> Stat:
        return self._stat

    def stat_bytes(self) -> bytes:
        return self._bytes

    def permits(self, creds: Credentials, mask: int) -> bool:
        stat = self._stat
        return mode_permits(stat.mode, stat.uid, stat.gid, creds, mask)


class LibraryFile(LibraryNode, RegularFile):
    """A file of the library. `content` is set once the file was read, as long as there is room in the cache."""

    __slots__ = ("content", "length")

    def __init__(self, mount: LibraryMount, relative: bytes, seen: os.stat_result) -> None:
        super().__init__(mount, relative, seen)
        self.length = seen.st_size
        self.content: bytes | None = None

    def size(self) -> int:
        return self.length

    def unchanging(self, most: int) -> bytes | None:
        content = self.pread(self.length, 0) if self.length <= most else None
        return content if content is not None and len(content) == self.length else None

    def host_descriptor(self) -> int | None:
        if not self.library.may_be_mapped:
            return None
        try:
            return _contents.descriptor(self)
        except OSError:  # the host's file was removed, or no descriptors are left
            return None

    def pread(self, size: int, offset: int) -> bytes:
        content = self.content
        if content is None:
            if offset >= self.length:
                return b""
            if self.length > CACHED_SIZE:
                return _contents.part(self, min(size, self.length - offset), offset)
            content = _contents.whole(self)
        return content[offset : offset + size]


class AlteredFile(LibraryFile):
    """A file of the library with other contents, which are made once and kept."""

    __slots__ = ()

    def __init__(self, origin: LibraryFile, alter: Callable[[bytes], bytes]) -> None:
        super().__init__(origin.library, origin.relative, origin.library.host.look(origin.relative))
        self.content = content = alter(origin.pread(origin.length, 0))
        self.length = len(content)
        self._stat = attrs.evolve(self._stat, size=self.length, blocks=(self.length + 511) // 512)
        self._bytes = pack_stat(self._stat)

    def host_descriptor(self) -> int | None:
        return None

    def pread(self, size: int, offset: int) -> bytes:
        content = self.content or b""
        return content[offset : offset + size]


class LibrarySymlink(LibraryNode, Symlink):
    """A symlink of the library."""

    __slots__ = ("_target",)

    def __init__(self, mount: LibraryMount, relative: bytes, seen: os.stat_result) -> None:
        super().__init__(mount, relative, seen)
        self._target = mount.host.read_link(relative)
        source = mount.host.path
        if self._target.startswith(source + b"/"):
            self._target = mount.target + self._target[len(source) :]

    @property
    def target(self) -> bytes:
        return self._target

    def permits(self, creds: Credentials, mask: int) -> bool:
        return True


class LibraryDirectory(LibraryNode, Directory):
    """A folder of the library. It is listed at most once, and each entry is read at its first lookup."""

    __slots__ = ("_children", "_entries", "_kinds", "_misses", "_open_to_all", "name", "parent")

    def __init__(
        self,
        mount: LibraryMount,
        relative: bytes,
        seen: os.stat_result,
        parent: Directory | None,
        name: bytes,
    ) -> None:
        super().__init__(mount, relative, seen)
        self.parent = parent
        self.name = name
        self._children: dict[bytes, Node] = {}
        self._kinds: dict[bytes, int] | None = None
        self._entries: list[Entry] = []
        self._misses = 0
        self._open_to_all = self._stat.mode & 0o111 == 0o111

    def permits(self, creds: Credentials, mask: int) -> bool:
        if mask == X_OK and self._open_to_all:
            return True
        return super().permits(creds, mask)

    def _path(self, name: bytes) -> bytes:
        return self.relative + b"/" + name if self.relative else name

    def _list(self) -> dict[bytes, int]:
        kinds = self._kinds
        if kinds is None:
            listed = self.library.host.list_directory(self.relative)
            self._entries = [(name, self.library.ino(self._path(name)), D_TYPES[kind]) for name, kind, _ in listed]
            kinds = self._kinds = {name: kind for name, kind, _ in listed}
        return kinds

    def lookup(self, name: bytes) -> Node:
        node = self._children.get(name)
        if node is not None:
            return node
        if self._misses >= MISSES:
            self._list()
        if self._kinds is not None and name not in self._kinds:
            raise OSError(errno.ENOENT, "no such entry")
        try:
            return self._children.setdefault(name, self._look(name))
        except FileNotFoundError:
            self._misses += 1
            raise

    def _look(self, name: bytes) -> Node:
        relative = self._path(name)
        seen = self.library.host.look(relative)
        kind = st.S_IFMT(seen.st_mode)
        if kind == st.S_IFREG:
            return LibraryFile(self.library, relative, seen)
        if kind == st.S_IFLNK:
            return LibrarySymlink(self.library, relative, seen)
        if kind == st.S_IFDIR:
            return LibraryDirectory(self.library, relative, seen, self, name)
        raise OSError(errno.ENOENT, "neither file, folder nor link on the host")

    def entries(self) -> list[Entry]:
        self._list()
        return self._entries


def library_file(source: str | os.PathLike[str], target: bytes, *, uid: int = 0, gid: int = 0) -> Node:
    """One file of the host, kept in the same way as a library; for instance /etc/ld.so.cache."""
    folder, name = os.path.split(os.path.realpath(source))
    above, _, _ = target.rpartition(b"/")
    mount = library(folder, above or b"/", uid=uid, gid=gid)
    return mount.root.lookup(os.fsencode(name))


def altered_file(source: str | os.PathLike[str], target: bytes, alter: Callable[[bytes], bytes]) -> LibraryFile | None:
    """Like `library_file`, with the contents that `alter` returns; None unless it is a small regular file."""
    node = library_file(source, target)
    return AlteredFile(node, alter) if isinstance(node, LibraryFile) and node.length <= CACHED_SIZE else None


def _read_all(fd: int, size: int) -> bytes:
    pieces = []
    while size > 0 and (piece := os.read(fd, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
