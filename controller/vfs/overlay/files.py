"""Files and links of an overlay: a file is copied up, whole, when it is first opened for writing."""

from __future__ import annotations

import errno
from collections.abc import Generator

from proxybox.controller.abi import O_ACCMODE, O_RDONLY, O_TRUNC
from proxybox.controller.effects import AnotherTurn
from proxybox.controller.vfs.memory import MemoryFile, MemorySymlink
from proxybox.controller.vfs.nodes import (
    Credentials,
    Node,
    RegularFile,
    Symlink,
)
from proxybox.controller.vfs.openfiles import OpenFile, RegularOpenFile
from proxybox.controller.vfs.overlay.changes import Change as Change
from proxybox.controller.vfs.overlay.layered import Layered, LayeredDirectory, origin_of
from proxybox.controller.vfs.quota import PAGE

COPY_PIECE = 1 << 18


def _next_data(file: Node, offset: int, size: int) -> int:
    """The offset of the next byte that is not in a hole; `size` when there is none."""
    try:
        return file.seek_data(offset, hole=False) if isinstance(file, RegularFile) else offset
    except OSError as error:
        return size if error.errno == errno.ENXIO else offset


class OverlayFile(Layered, MemoryFile):
    """A file of the folder below, or its copy in memory. _copying: a copy that is being made."""

    def __init__(self, below: RegularFile, above: LayeredDirectory, name: bytes) -> None:
        self.superblock = above.superblock
        self._stand_for(below, above, name)
        self._no_pages()
        self._size = 0
        self._copying: Generator[None, None, None] | None = None

    @property
    def file_below(self) -> RegularFile | None:
        """The file below that is read, as long as it was not copied up."""
        return self.below if isinstance(self.below, RegularFile) else None

    def copy_up(self, keep_data: bool = True) -> None:
        """Copies the file below into memory. Raises ENOSPC, and AnotherTurn while there is more to copy."""
        below = self.file_below
        if below is None:
            return
        if not keep_data:
            self._stop_copying()
        if self._copying is None:
            self._copying = self._copy(below, keep_data)
            self.superblock.in_the_making.add(self)
        try:
            next(self._copying)
        except StopIteration:
            self._stop_copying()
        except OSError:
            self._stop_copying()
            raise
        else:
            raise AnotherTurn

    def _stop_copying(self) -> None:
        copying, self._copying = self._copying, None
        self.superblock.in_the_making.discard(self)
        if copying is not None:
            copying.close()

    def _copy(self, below: RegularFile, keep_data: bool) -> Generator[None, None, None]:
        """Does the work of `copy_up`. Yields where a turn may end; when it is stopped there, it undoes everything."""
        shown = below.stat()
        source = below.open(O_RDONLY)
        quota = self.superblock.quota
        try:
            origin = origin_of(source.node)
            quota.charge_inode()
            try:
                if keep_data:
                    yield from self._copy_pages(source)
                if origin is not None and origin_of(source.node) != origin:
                    raise OSError(errno.EIO, "the file changed on the host while it was copied")
            except (OSError, GeneratorExit):
                self._drop_pages(0)
                self._size = 0
                quota.credit_inode()
                raise
        finally:
            source.close()
        self.charged = True
        self.origin = origin
        self._take_status(shown)

    def free(self) -> None:
        self._stop_copying()
        super().free()

    def _copy_pages(self, source: OpenFile) -> Generator[None, None, None]:
        quota = self.superblock.quota
        size = self.size()
        if size > quota.free_pages() * PAGE:  # checked before reading: the file may be huge and consist of holes
            quota.refuse("no space left to copy a file that is changed")
        offset = 0
        while (offset := _next_data(source.node, offset, size)) < size and (piece := source.pread(COPY_PIECE, offset)):
            holds_data = piece != bytes(len(piece))
            if holds_data and MemoryFile.pwrite(self, piece, offset) < len(piece):
                quota.refuse("no space left to copy a file that is changed")
            offset += len(piece)
            if offset < size:
                yield
        self._size = size

    def size(self) -> int:
        below = self.file_below
        return self._size if below is None else below.size()

    def open(self, flags: int) -> OpenFile:
        if flags & (O_ACCMODE | O_TRUNC):
            self.copy_up(keep_data=not flags & O_TRUNC)
        below = self.file_below
        if below is None:
            return super().open(flags)
        return OverlayOpenFile(self, flags, below.open(O_RDONLY))

    def pread(self, size: int, offset: int) -> bytes:
        below = self.file_below
        return super().pread(size, offset) if below is None else below.pread(size, offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        self.copy_up()
        return super().pwrite(data, offset)

    def truncate(self, size: int) -> None:
        self.copy_up(keep_data=size > 0)
        super().truncate(size)

    def allocate(self, offset: int, size: int, keep_size: bool) -> None:
        self.copy_up()
        super().allocate(offset, size, keep_size)

    def seek_data(self, offset: int, hole: bool) -> int:
        below = self.file_below
        return super().seek_data(offset, hole) if below is None else below.seek_data(offset, hole)


class OverlayOpenFile(RegularOpenFile):
    """A file that was opened for reading before it was copied up. It also sees later writes to the copy."""

    __slots__ = ("_lower", "_overlay")

    def __init__(self, node: OverlayFile, flags: int, lower: OpenFile) -> None:
        super().__init__(node, flags)
        self._overlay = node
        self._lower: OpenFile | None = lower
        if isinstance(lower.node, RegularFile):
            self._file = lower.node

    def _follow(self) -> None:
        if self._lower is not None and self._overlay.below is None:
            self._lower.close()
            self._lower = None
            self._file = self._overlay

    def read(self, size: int) -> bytes:
        self._follow()
        return super().read(size)

    def pread(self, size: int, offset: int) -> bytes:
        self._follow()
        return super().pread(size, offset)

    def seek(self, offset: int, whence: int) -> int:
        self._follow()
        return super().seek(offset, whence)

    def size(self) -> int:
        self._follow()
        return super().size()

    def close(self) -> None:
        super().close()
        if self._lower is not None:
            self._lower.close()
            self._lower = None


class OverlaySymlink(Layered, MemorySymlink):
    """A symlink of the folder below; its text cannot change."""

    def __init__(self, below: Symlink, above: LayeredDirectory, name: bytes) -> None:
        self.superblock = above.superblock
        self._stand_for(below, above, name)
        self._target = below.target

    def copy_up(self) -> None:
        if self.below is not None:
            self.origin = origin_of(self.below)
            self._take_status(self.below.stat())

    def permits(self, creds: Credentials, mask: int) -> bool:
        return True
