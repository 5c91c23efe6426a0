"""What all nodes of one host mount share; see mount.py for the rules."""

from __future__ import annotations

import fnmatch
import os
import re
import stat as st
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.host.use import FileId, HostUse, identity
from proxybox.controller.vfs.inodes import ino_of
from proxybox.controller.vfs.nodes import Stat, Superblock
from proxybox.controller.vfs.quota import PAGE

MAX_INODES = 200_000
_SYSTEM = (b"usr", b"lib", b"lib32", b"lib64", b"bin", b"sbin", b"etc")
_HIDDEN_TARGET = b"/(outside)"
HIDDEN_NAMES = "names that begin with a dot are hidden in this mount"
"""Why a name is refused that the mount hides."""


def _names_of(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]


class HoldsDescriptor(Protocol):
    """A node that may hold a descriptor of the host."""

    def close_fd(self) -> None:
        """Closes the descriptor."""


def is_dotted(name: bytes) -> bool:
    """Whether a name is one that hide_dotfiles hides."""
    return name[:1] == b"."


def shown_mode(seen: os.stat_result) -> int:
    """The mode that a box sees: without set-id bits."""
    return seen.st_mode & (st.S_IFMT(seen.st_mode) | 0o1777)


class HostFilesystem:
    """What all nodes of one host mount share: the host folder, how the box sees it, and what the box was charged for.

    folder: a path in the host. The other arguments are those of HostMount. open_nodes: the nodes that hold a descriptor
    of the host. Raises SandboxStartError.
    """

    def __init__(
        self, folder: str, superblock: Superblock, *, writable: bool, hide_dotfiles: bool, target: bytes,
        use: HostUse | None, names: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        superblock.read_only = not writable
        self.superblock = superblock
        self.hide_dotfiles = hide_dotfiles
        self.names = None if names is None else re.compile("|".join(map(fnmatch.translate, names)))
        self.target = target.rstrip(b"/")
        self.use = HostUse(superblock.quota) if use is None else use
        self.open_nodes: WeakSet[HoldsDescriptor] = WeakSet()
        self._inodes: dict[FileId, int] = {}
        self.host = boundary.HostRoot(folder)

    def close(self) -> None:
        """Closes every host descriptor; later calls fail with EBADF."""
        for node in list(self.open_nodes):
            node.close_fd()
        self.host.close()

    def hides(self, name: bytes) -> bool:
        """Whether entries of that name are hidden from the box."""
        return self.hide_dotfiles and is_dotted(name)

    def shows_at_top(self, name: bytes) -> bool:
        """Whether the box sees an entry of that name directly in the mounted folder."""
        return self.names is None or self.names.match(os.fsdecode(name)) is not None

    def virtual_ino(self, key: FileId) -> int:
        """The box's inode number for a host (device, inode). Files are numbered in the order in which they are seen."""
        ino = self._inodes.get(key)
        if ino is None:
            if len(self._inodes) >= MAX_INODES:
                return ino_of(b"%d %d" % key)
            ino = self._inodes[key] = self.superblock.next_ino()
        return ino

    def show(self, seen: os.stat_result) -> Stat:
        """The host's status as the box sees it."""
        superblock = self.superblock
        if superblock.clock_is_real:
            atime, ctime = seen.st_atime_ns, seen.st_ctime_ns
        else:
            atime = ctime = seen.st_mtime_ns
        return Stat(
            superblock.dev, self.virtual_ino(identity(seen)), shown_mode(seen),
            seen.st_nlink, superblock.uid, superblock.gid, 0, seen.st_size, seen.st_blocks,
            atime, seen.st_mtime_ns, ctime,
        )  # fmt: skip

    def show_target(self, text: bytes, folder: list[bytes]) -> bytes:
        """A symlink's text without host paths, and without names that are not shown.

        folder: the names of the folders below the root in which the link is.
        """
        if self.names is not None and self._names_hidden(text, folder):
            return _HIDDEN_TARGET
        depth = len(folder)
        if text[:1] == b"/":
            source = self.host.path
            if text == source or text.startswith(source.rstrip(b"/") + b"/"):
                return self.target + text[len(source.rstrip(b"/")) :] or b"/"
            known = self.target == source or text.lstrip(b"/").split(b"/")[0] in _SYSTEM
            return text if known else _HIDDEN_TARGET
        for part in text.split(b"/"):
            depth += -1 if part == b".." else part not in (b"", b".")
            if depth < 0:
                return text if self.target == self.host.path else _HIDDEN_TARGET
        return text

    def _names_hidden(self, text: bytes, folder: list[bytes]) -> bool:
        """Whether a symlink's text has a name of the mounted folder that is not shown; no other link is followed."""
        root = _names_of(self.host.path)
        at = [] if text[:1] == b"/" else [*root, *folder]
        for name in _names_of(text):
            if name == b"..":
                del at[-1:]
                continue
            at.append(name)
            if at[:-1] == root and not self.shows_at_top(name):
                return True
        return False

    # --- what is written ---

    def forget_inode(self, file: FileId) -> None:
        """Forgets the number of a file that was deleted from the disk: the host may use its inode for another file."""
        self._inodes.pop(file, None)

    def charge_length(self, fd: int, file: FileId, size: int) -> list[int]:
        """Charges the pages that a file takes when it becomes `size` bytes long, or is written from there on.

        Charges nothing where the filesystem is known to support holes. Returns the charged pages. Raises ENOSPC.
        """
        if self.host.has_holes:
            return []
        was = os.fstat(fd).st_size
        return self.use.charge_length(file, was, size) if size > was else []

    @contextmanager
    def creating(self, *, new: bool = True, pages: int = 0) -> Iterator[list[os.stat_result]]:
        """Charges an inode for the name that is made inside the context, and the pages of its file.

        The body adds the status of the file to the yielded list. new: whether it is a new file, and not a further name
        of one. Raises ENOSPC.
        """
        quota = self.use.quota
        quota.charge_inode()
        made: list[os.stat_result] = []
        try:
            if pages > quota.free_pages():
                quota.refuse("no space left for what the box may write")
            yield made
        finally:
            if made:
                file = identity(made[0])
                self.use.named(file, new=new)
                self.use.charge_length(file, 0, pages * PAGE)
            else:
                quota.credit_inode()

    def stamp(self, fd: int) -> None:
        """Sets the times of a changed file to the box's time, when the box's clock is not the host's."""
        if not self.superblock.clock_is_real:
            now = self.superblock.now()
            boundary.change_times(fd, now, now)

    def stamp_link(self, directory_fd: int, name: bytes) -> None:
        """Like `stamp`, but for a symlink."""
        if not self.superblock.clock_is_real:
            now = self.superblock.now()
            boundary.change_link_times(directory_fd, name, now, now)
