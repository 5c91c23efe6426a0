"""Files whose contents are made when they are opened, and links whose text is computed when they are followed.

Rule: a description keeps the contents that were made for it, so that reading in pieces is consistent.
"""

from __future__ import annotations

from collections.abc import Callable

from proxybox.controller.abi import pack_stat
from proxybox.controller.vfs.inodes import Inode
from proxybox.controller.vfs.nodes import RegularFile, Stat, Superblock, Symlink
from proxybox.controller.vfs.openfiles import OpenFile, RegularOpenFile
from proxybox.policies.checks import as_bytes

Producer = Callable[[], bytes | str]


class GeneratedFile(Inode, RegularFile):
    """A read-only file; `produce` returns its contents each time that it is opened.

    sized: whether stat shows the length of the last contents; files of /proc show 0. An exception of `produce` other
    than OSError is a fault of that function's author, and is passed on to the caller.
    """

    __slots__ = ("_last", "_produce", "_sized")

    def __init__(self, superblock: Superblock, produce: Producer, *, mode: int = 0o444, sized: bool = True) -> None:
        super().__init__(superblock, mode, superblock.uid, superblock.gid)
        self._produce = produce
        self._sized = sized
        self._last: bytes | None = None

    def make(self) -> bytes:
        """Produces the contents now."""
        self._last = as_bytes("what the function of a mount returned", self._produce())
        return self._last

    def _extent(self) -> tuple[int, int]:
        if not self._sized:
            return 0, 0
        size = len(self.make() if self._last is None else self._last)
        return size, (size + 511) // 512

    def pread(self, size: int, offset: int) -> bytes:
        return self.make()[offset : offset + size]

    def free(self) -> None:
        """Credits nothing, because nothing was charged."""

    def open(self, flags: int) -> OpenFile:
        if flags & 3:
            self.refuse_change()
        return RegularOpenFile(OpenedContent(self, self.make()), flags)


class OpenedContent(RegularFile):
    """What a generated file contained when it was opened."""

    __slots__ = ("_data", "_origin")

    def __init__(self, origin: GeneratedFile, data: bytes) -> None:
        super().__init__(origin.superblock)
        self._origin = origin
        self._data = data

    def stat(self) -> Stat:
        return self._origin.stat()

    def stat_bytes(self) -> bytes:
        return pack_stat(self._origin.stat())

    def size(self) -> int:
        return len(self._data)

    def pread(self, size: int, offset: int) -> bytes:
        return self._data[offset : offset + size]

    def open(self, flags: int) -> OpenFile:
        return self._origin.open(flags)


class ComputedSymlink(Inode, Symlink):
    """A link whose text is computed when it is read, like those of /proc."""

    __slots__ = ("_compute",)
    stable = False

    def __init__(self, superblock: Superblock, compute: Callable[[], bytes]) -> None:
        super().__init__(superblock, 0o777, superblock.uid, superblock.gid)
        self._compute = compute

    @property
    def target(self) -> bytes:
        return self._compute()

    def free(self) -> None:
        """Credits nothing, because nothing was charged."""

    def open(self, flags: int) -> OpenFile:
        return Symlink.open(self, flags)
