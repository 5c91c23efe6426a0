"""Nodes kept in memory, with the behaviour and the errors of tmpfs(5).

Rules: a page or an inode is charged to the quota before it exists. Files are sparse: a page that was never written
takes no space. An unlinked file lives until its last description is closed. Files of copied worlds share their pages
until one of them is written (`MemoryFile.share_pages`).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Union

from proxybox.controller.abi import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    S_IFDIR,
)
from proxybox.controller.perprocess import PerProcess
from proxybox.controller.vfs.inodes import Inode, node_ino
from proxybox.controller.vfs.nodes import (
    D_TYPES,
    MAX_FILE_SIZE,
    Credentials,
    Directory,
    Entry,
    Node,
    RegularFile,
    Superblock,
    Symlink,
    in_portions,
)
from proxybox.controller.vfs.pageset import PageSet
from proxybox.controller.vfs.quota import PAGE, shrunk

if TYPE_CHECKING:
    from proxybox.controller.vfs.openfiles import OpenFile

SHORT_TARGET = 128
_ZEROS = bytes(PAGE)
_filling = PerProcess(threading.RLock)

TreeSource = Mapping[str, Union[str, bytes, "TreeSource"]]
"""A folder as Python data: a mapping of names to text, bytes, or further folders."""


class MemoryFile(Inode, RegularFile):
    """A sparse regular file: a dict of the pages that were written.

    _shared: whether another file uses the same dict, which must then be copied before it changes. _own: the pages that
    belong to this file alone since that copy, and may be changed in place; None when all do. _charged: the pages that
    were written or set aside (fallocate(2)); None when nothing was set aside.
    """

    __slots__ = ("_charged", "_own", "_pages", "_shared", "_size")

    def __init__(self, superblock: Superblock, mode: int, uid: int, gid: int) -> None:
        superblock.quota.charge_inode()
        super().__init__(superblock, mode, uid, gid)
        self._no_pages()
        self._size = 0

    def _no_pages(self) -> None:
        self._pages: dict[int, bytes | bytearray] = {}
        self._shared = False
        self._own: set[int] | None = None
        self._charged: PageSet | None = None

    def share_pages(self, other: MemoryFile) -> None:
        """Gives `other` the same contents. Later writes to one of the two files do not change the other."""
        other._pages, other._size, other._own = self._pages, self._size, None
        other._charged = None if self._charged is None else self._charged.copy()
        self._shared = other._shared = True

    def _own_pages(self) -> dict[int, bytes | bytearray]:
        """The pages, as a dict that belongs to this file alone."""
        if self._shared:
            self._pages, self._own, self._shared = dict(self._pages), set(), False
        return self._pages

    def size(self) -> int:
        return self._size

    def _extent(self) -> tuple[int, int]:
        return self._size, self._count() * (PAGE // 512)

    def _count(self) -> int:
        """How many pages are charged."""
        return len(self._pages) if self._charged is None else self._charged.count

    open = RegularFile.open  # not Inode's

    def free(self) -> None:
        self._drop_pages(0)
        super().free()

    def pread(self, size: int, offset: int) -> bytes:
        size = min(size, self._size - offset)
        if size <= 0:
            return b""
        if self.atime_ns <= self.mtime_ns:
            self.atime_ns = self.superblock.now()
        pages = self._pages
        first, start = divmod(offset, PAGE)
        if start + size <= PAGE:
            page = pages.get(first)
            return bytes(size) if page is None else bytes(page[start : start + size])
        last = (offset + size - 1) // PAGE
        get = pages.get
        parts = [get(index, _ZEROS) for index in range(first, last + 1)]
        if start:
            parts[0] = parts[0][start:]
        end = (offset + size) % PAGE
        if end:
            parts[-1] = parts[-1][:end]
        return b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> int:
        if not data:
            return 0
        if offset >= MAX_FILE_SIZE:
            raise OSError(errno.EFBIG, "past the largest offset")
        data = self._fit(data[: MAX_FILE_SIZE - offset], offset)
        pages, length = self._own_pages() if self._shared else self._pages, len(data)
        own = self._own
        index, start = divmod(offset, PAGE)
        done = 0
        while done < length:
            piece = data[done : done + PAGE - start]
            if len(piece) == PAGE:
                pages[index] = piece
            else:
                page = pages.get(index, _ZEROS)
                if page.__class__ is bytes or (own is not None and index not in own):
                    page = pages[index] = bytearray(page)
                    if own is not None:
                        own.add(index)
                page[start : start + len(piece)] = piece  # type: ignore[index]
            done += len(piece)
            index, start = index + 1, 0
        self._size = max(self._size, offset + length)
        self._lose_privileges()
        self.modified()
        return length

    def _fit(self, data: bytes, offset: int) -> bytes:
        """Charges the pages that `data` needs, and returns as much of `data` as there is space for.

        Raises ENOSPC when there is no space for any of it.
        """
        pages, charged = self._pages, self._charged
        first, last = offset // PAGE, (offset + len(data) - 1) // PAGE
        if charged is None:
            missing = [index for index in range(first, last + 1) if index not in pages]
        else:
            missing = charged.missing(first, last)
        if not missing:
            return data
        quota = self.superblock.quota
        free = quota.free_pages()
        if free < len(missing):
            room = missing[free] * PAGE - offset
            if room <= 0:
                quota.refuse("no space left in the box's memory filesystems")
            data, missing = data[:room], missing[:free]
        quota.charge_pages(len(missing))
        if charged is not None:
            charged.add(missing)
        return data

    def truncate(self, size: int) -> None:
        if size > MAX_FILE_SIZE:
            raise OSError(errno.EFBIG, "past the largest offset")
        if size < self._size or (size == self._size and self._charged is not None):  # frees pages set aside, too
            keep, rest = divmod(size, PAGE)
            self._drop_pages(keep + 1 if rest else keep)
            page = self._pages.get(keep) if rest else None
            if page is not None:
                self._own_pages()[keep] = page[:rest] + _ZEROS[rest:]
        self._size = size
        self._lose_privileges()
        self.modified()

    def allocate(self, offset: int, size: int, keep_size: bool) -> None:
        if offset + size > MAX_FILE_SIZE:
            raise OSError(errno.EFBIG, "past the largest offset")
        first, last = offset // PAGE, (offset + size - 1) // PAGE
        # A file cannot have more pages than the quota allows, so the range is bounded before it is looked at.
        quota = self.superblock.quota
        if last + 1 - first > quota.free_pages() + self._count():
            quota.refuse("no space left in the box's memory filesystems")
        if self._charged is None:
            self._charged = PageSet()
            self._charged.add(self._pages)
        quota.charge_pages(self._charged.count_missing(first, last))
        self._charged.fill(first, last)
        if not keep_size and offset + size > self._size:
            self._size = offset + size
        self._lose_privileges()
        self.modified()

    def seek_data(self, offset: int, hole: bool) -> int:
        if offset >= self._size:
            raise OSError(errno.ENXIO, "past the end of the file")
        pages, index = self._pages, offset // PAGE
        if hole:
            index = next(itertools.filterfalse(pages.__contains__, itertools.count(index)))
            return min(self._size, max(offset, index * PAGE))
        if index not in pages:
            index = min(filter(index.__lt__, pages), default=-1)
            if index < 0 or index * PAGE >= self._size:
                raise OSError(errno.ENXIO, "no data after that offset")
        return max(offset, index * PAGE)

    def _drop_pages(self, first: int) -> None:
        pages, count = self._pages, self._count()
        if first == 0:
            self._no_pages()
            self.superblock.quota.credit_pages(count)
            return
        last = self._size // PAGE
        if last - first < len(pages):
            gone = [index for index in range(first, last + 1) if index in pages]
        else:
            gone = [index for index in pages if index >= first]
        if gone:
            pages = self._own_pages()
        for index in gone:
            del pages[index]
        if gone:
            self._pages = shrunk(pages)
        if self._own:
            self._own.difference_update(gone)
            self._own = shrunk(self._own)
        if self._charged is not None:
            self._charged.cut(first)
        self.superblock.quota.credit_pages(count - self._count())

    def _lose_privileges(self) -> None:
        if self.mode & 0o6000:
            self.mode &= ~0o6000 if self.mode & 0o010 else ~0o4000


class MemorySymlink(Inode, Symlink):
    """A symbolic link in memory."""

    __slots__ = ("_target",)

    def __init__(self, superblock: Superblock, target: bytes, uid: int, gid: int) -> None:
        superblock.quota.charge_inode()
        super().__init__(superblock, 0o777, uid, gid)
        self._target = target
        if len(target) > SHORT_TARGET:
            try:
                superblock.quota.charge_pages(1)
            except OSError:
                superblock.quota.credit_inode()
                raise

    @property
    def target(self) -> bytes:
        return self._target

    def permits(self, creds: Credentials, mask: int) -> bool:
        return True

    def open(self, flags: int) -> OpenFile:
        return Symlink.open(self, flags)

    def _extent(self) -> tuple[int, int]:
        return len(self._target), 0

    def free(self) -> None:
        if len(self._target) > SHORT_TARGET:
            self.superblock.quota.credit_pages(1)
        super().free()


class MemoryDirectory(Inode, Directory):
    """A directory in memory. Its children may be nodes of any kind (devices, generated files).

    They can be made when they are first needed (`fill_later`): few programs look into /proc.
    """

    __slots__ = ("_fill", "children", "name", "parent")

    def __init__(
        self,
        superblock: Superblock,
        mode: int = 0o755,
        uid: int | None = None,
        gid: int | None = None,
    ) -> None:
        superblock.quota.charge_inode()
        super().__init__(
            superblock,
            mode,
            superblock.uid if uid is None else uid,
            superblock.gid if gid is None else gid,
        )
        self.nlink = 2
        self.parent: Directory | None = None
        self.name = b""
        self.children: dict[bytes, Node] = {}

    @property
    def lasts(self) -> bool:
        return True

    def fill_later(self, fill: Callable[[], dict[bytes, Node]]) -> None:
        """Sets a function that makes the children of an empty directory when they are first needed."""
        self._fill = fill
        with contextlib.suppress(AttributeError):  # a copy that is being made has no such field
            del self.children

    @property
    def filling(self) -> Callable[[], dict[bytes, Node]] | None:
        """The function that will make the children; None where they exist."""
        try:
            return object.__getattribute__(self, "_fill")  # type: ignore[no-any-return]
        except AttributeError:
            return None

    if not TYPE_CHECKING:  # with such a method, mypy would take every name for an attribute

        def __getattr__(self, name: str) -> dict[bytes, Node]:
            """Fills the directory: Python calls this for `children` when there are none."""
            if name != "children":
                raise AttributeError(f"a {type(self).__name__} has no {name}")
            with _filling():
                with contextlib.suppress(AttributeError):  # another thread has filled it meanwhile
                    return object.__getattribute__(self, name)
                self.children = self._fill()
                del self._fill
                return self.children

    def _extent(self) -> tuple[int, int]:
        return 20 * (len(self.children) + 2), 0

    def open(self, flags: int) -> OpenFile:
        return Directory.open(self, flags)

    def lookup(self, name: bytes) -> Node:
        node = self.find(name)
        if node is None:
            raise OSError(errno.ENOENT, "no such entry")
        return node

    def entries(self) -> list[Entry]:
        return _entries(self.children.items())

    def listing(self) -> Generator[None, None, list[Entry]]:
        return in_portions(list(self.children.items()), _entries)

    def is_removed(self) -> bool:
        return self.nlink == 0

    def is_empty(self) -> bool:
        return not self.children

    # --- changes ---

    def attach(self, name: bytes, node: Node) -> None:
        """Enters `node` under a free name. Raises EEXIST, or ENOENT when this directory was removed."""
        self._check_free(name)
        self._place(name, node)
        self.modified()
        self.superblock.forget()

    def _place(self, name: bytes, node: Node) -> None:
        self.children[name] = node
        if isinstance(node, MemoryDirectory):
            node.parent, node.name = self, name
            self.nlink += 1

    def detach(self, name: bytes) -> Node:
        """Removes an entry of any kind from the directory, and returns it."""
        node = self.lookup(name)
        self._displace(name)
        if node.kind == S_IFDIR:
            self.nlink -= 1
        self.modified()
        self.superblock.forget()
        return node

    def _displace(self, name: bytes) -> None:
        del self.children[name]
        self.children = shrunk(self.children)

    def _check_free(self, name: bytes) -> None:
        if self.is_removed():
            raise OSError(errno.ENOENT, "the directory was removed")
        if self.find(name) is not None:
            raise OSError(errno.EEXIST, "the name is taken")

    def _group(self, creds: Credentials) -> int:
        return self.gid if self.mode & 0o2000 else creds.gid

    def create(self, name: bytes, mode: int, creds: Credentials) -> Node:
        self._check_free(name)
        node = MemoryFile(self.superblock, mode, creds.uid, self._group(creds))
        self.attach(name, node)
        return node

    def tmpfile(self, mode: int, creds: Credentials) -> Node:
        node = MemoryFile(self.superblock, mode, creds.uid, self._group(creds))
        node.nlink = 0
        return node

    def mkdir(self, name: bytes, mode: int, creds: Credentials) -> Directory:
        self._check_free(name)
        node = self._new_directory(mode | self.mode & 0o2000, creds.uid, self._group(creds))
        self.attach(name, node)
        return node

    def _new_directory(self, mode: int, uid: int, gid: int) -> MemoryDirectory:
        return MemoryDirectory(self.superblock, mode, uid, gid)

    def symlink(self, name: bytes, target: bytes, creds: Credentials) -> Symlink:
        self._check_free(name)
        node = MemorySymlink(self.superblock, target, creds.uid, self._group(creds))
        self.attach(name, node)
        return node

    def link(self, name: bytes, node: Node) -> None:
        if node.superblock is not self.superblock or not isinstance(node, Inode):
            raise OSError(errno.EXDEV, "another filesystem")
        self._check_free(name)
        node.linked()
        self.attach(name, node)

    def unlink(self, name: bytes) -> None:
        node = self.lookup(name)
        if node.kind == S_IFDIR:
            raise OSError(errno.EISDIR, "a directory")
        self.detach(name)
        _lost_name(node)

    def rmdir(self, name: bytes) -> None:
        node = self.lookup(name)
        if not isinstance(node, MemoryDirectory):
            raise OSError(errno.ENOTDIR, "not a directory")
        if not node.is_empty():
            raise OSError(errno.ENOTEMPTY, "the directory has entries")
        self.detach(name)
        node.removed()

    def removed(self) -> None:
        """Records that this directory, which is empty, has lost its name."""
        self.nlink = 0
        self.changed()
        if self.opens == 0:  # otherwise closing its last description frees it
            self.free()

    def rename(self, name: bytes, newdir: Directory, newname: bytes, flags: int) -> None:
        if newdir.superblock is not self.superblock or not isinstance(newdir, MemoryDirectory):
            raise OSError(errno.EXDEV, "another filesystem")
        node = self.lookup(name)
        other = newdir.find(newname)
        if newdir.is_removed():
            raise OSError(errno.ENOENT, "the directory was removed")
        if flags & RENAME_NOREPLACE and other is not None:
            raise OSError(errno.EEXIST, "the name is taken")
        if flags & RENAME_EXCHANGE and other is None:
            raise OSError(errno.ENOENT, "nothing to exchange with")
        if other is node:
            return
        check_rename(self, node, newdir, other, exchange=bool(flags & RENAME_EXCHANGE))
        if other is not None and flags & RENAME_EXCHANGE:
            self.detach(name)
            newdir.detach(newname)
            self.attach(name, other)
        elif isinstance(other, Directory):
            newdir.rmdir(newname)
        elif other is not None:
            newdir.unlink(newname)
        if not flags & RENAME_EXCHANGE:
            self.detach(name)
        newdir.attach(newname, node)
        for moved in (node, other):
            if isinstance(moved, Inode) and (moved is node or flags & RENAME_EXCHANGE):
                moved.changed()

    def find(self, name: bytes) -> Node | None:
        """The entry of that name, or None."""
        return self.children.get(name)


def check_rename(olddir: Directory, node: Node, newdir: Directory, other: Node | None, *, exchange: bool) -> None:
    """Checks the kinds and loops that rename(2) refuses. Raises EINVAL, EISDIR, ENOTDIR, ENOTEMPTY."""
    if isinstance(node, Directory) and node.holds(newdir):
        raise OSError(errno.EINVAL, "a directory cannot go below itself")
    if isinstance(other, Directory) and other.holds(olddir):
        code = errno.EINVAL if exchange else errno.ENOTEMPTY
        raise OSError(code, "the target holds the source")
    if other is None or exchange:
        return
    if isinstance(node, Directory) and not isinstance(other, Directory):
        raise OSError(errno.ENOTDIR, "a directory cannot replace a file")
    if isinstance(other, Directory):
        if not isinstance(node, Directory):
            raise OSError(errno.EISDIR, "a file cannot replace a directory")
        if not other.is_empty():
            raise OSError(errno.ENOTEMPTY, "the target has entries")


def _entries(children: Iterable[tuple[bytes, Node]]) -> list[Entry]:
    return [(name, node_ino(node), D_TYPES[node.kind]) for name, node in children]


def _lost_name(node: Node) -> None:
    if isinstance(node, Inode):
        node.unlinked()


def from_tree(source: TreeSource, superblock: Superblock, *, writable_mode: bool = True) -> MemoryDirectory:
    """Makes a directory from Python data; text is stored as UTF-8.

    Files get mode 0644 and directories 0755 (0444 and 0555 when `writable_mode` is False); the owner is the
    superblock's. Raises ValueError for names that no directory can have and for trees that are too deep,
    OSError(ENOSPC).
    """
    root = MemoryDirectory(superblock, 0o755 if writable_mode else 0o555)
    _fill(root, source, 0o644 if writable_mode else 0o444, depth=0)
    return root


def _fill(directory: MemoryDirectory, source: TreeSource, file_mode: int, depth: int) -> None:
    if depth > 64:
        raise ValueError("a tree of folders deeper than 64")
    for text, content in source.items():
        name = text.encode("utf-8", "surrogateescape")
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name or len(name) > 255:
            raise ValueError(f"not a file name: {text!r}")
        owner = Credentials(directory.uid, directory.gid)
        if isinstance(content, Mapping):
            child = MemoryDirectory(directory.superblock, directory.mode & 0o777, owner.uid, owner.gid)
            directory.attach(name, child)
            _fill(child, content, file_mode, depth + 1)
        else:
            data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
            write_file(directory, name, data, file_mode)


def write_file(directory: MemoryDirectory, name: bytes, data: bytes, mode: int = 0o644) -> MemoryFile:
    """Makes a new file with contents. Raises OSError(ENOSPC) when they do not fit."""
    node = MemoryFile(directory.superblock, mode, directory.uid, directory.gid)
    directory.attach(name, node)
    if node.pwrite(data, 0) < len(data):
        directory.superblock.quota.refuse("no space left in the box's memory filesystems")
    return node
