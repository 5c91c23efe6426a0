"""Host folders and files as nodes: mounts of mode ro and rw.

Rules: a node holds names, never a host path; host.py opens them. Owners, device and inode numbers
are the box's. Set-id bits are neither shown nor stored. FIFOs, sockets, devices and, when asked
for, dotfiles do not exist: they are not listed and looking them up is ENOENT. In a box whose clock
is not real, what is written gets the box's time, and times that the host keeps are not shown.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from proxybox.controller.vfs import host
from proxybox.controller.vfs.hostdirectory import HostDirectory
from proxybox.controller.vfs.hostnodes import HostFile, shown_mode
from proxybox.controller.vfs.nodes import Node, Stat, Superblock
from proxybox.controller.vfs.quota import PAGE

MAX_INODES = 200_000
_SYSTEM = (b"usr", b"lib", b"lib32", b"lib64", b"bin", b"sbin", b"etc")
_HIDDEN_TARGET = b"/(outside)"


class HostMount:
    """A host folder (or one file of it) in the tree.

    source: a path in the host. superblock: the box's; `read_only` is set unless `writable`.
    target: where it will be mounted, so that absolute symlinks inside can be shown as paths in the
    box; those that lead elsewhere in the host are not shown. root: the node to mount. Lengths of
    what is written are charged to the superblock's quota. Raises SandboxStartError.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        superblock: Superblock,
        *,
        writable: bool = False,
        hide_dotfiles: bool = False,
        target: bytes = b"",
    ) -> None:
        superblock.read_only = not writable
        self.superblock = superblock
        self.hide_dotfiles = hide_dotfiles
        self.target = target.rstrip(b"/")
        self.open_nodes: WeakSet[HostFile] = WeakSet()
        self._inodes: dict[tuple[int, int], int] = {}
        self._charged: dict[tuple[int, int], int] = {}
        self._created: set[tuple[int, int]] = set()
        path = os.path.realpath(source)
        self.root: Node
        if os.path.isfile(path):
            folder, name = os.path.split(path)
            self.host = host.HostRoot(folder)
            self.root = HostFile(self, HostDirectory(self), os.fsencode(name))
        else:
            self.host = host.HostRoot(path)
            self.root = HostDirectory(self)

    def close(self) -> None:
        """Close every host descriptor; later calls fail with EBADF."""
        for node in list(self.open_nodes):
            node.close_fd()
        self.host.close()

    def hides(self, name: bytes) -> bool:
        """Whether entries of that name do not exist for the box."""
        return self.hide_dotfiles and name[:1] == b"."

    def virtual_ino(self, key: tuple[int, int]) -> int:
        """The box's inode number for a host (device, inode): numbered as they are first seen."""
        ino = self._inodes.get(key)
        if ino is None:
            if len(self._inodes) >= MAX_INODES:
                return int.from_bytes(hashlib.blake2b(b"%d %d" % key, digest_size=6).digest(), "little") | 1 << 48
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
            superblock.dev, self.virtual_ino((seen.st_dev, seen.st_ino)), shown_mode(seen),
            seen.st_nlink, superblock.uid, superblock.gid, 0, seen.st_size, seen.st_blocks,
            atime, seen.st_mtime_ns, ctime,
        )  # fmt: skip

    def show_target(self, text: bytes, depth: int) -> bytes:
        """A symlink's text without host paths. depth: how far below the root its directory lies."""
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

    # --- what is written ---

    def longest(self, seen: os.stat_result, size: int) -> int:
        """How long a file may become when it is to have `size` bytes."""
        old, free = _pages(seen.st_size), self.superblock.quota.free_pages()
        return size if _pages(size) - old <= free else max(seen.st_size, (old + free) * PAGE)

    def charge_growth(self, seen: os.stat_result, size: int) -> None:
        """Charge a file's growth to `size` bytes. ENOSPC."""
        more = _pages(size) - _pages(seen.st_size)
        if more > 0:
            self.superblock.quota.charge_pages(more)
            key = (seen.st_dev, seen.st_ino)
            self._charged[key] = self._charged.get(key, 0) + more

    def credit(self, seen: os.stat_result, was: int, size: int) -> None:
        """Give back what a file of `was` bytes was charged for beyond `size`, as far as the box wrote it."""
        key = (seen.st_dev, seen.st_ino)
        less = min(self._charged.get(key, 0), _pages(was) - _pages(size))
        if less > 0:
            self.superblock.quota.credit_pages(less)
            self._charged[key] -= less
            if not self._charged[key]:
                del self._charged[key]

    def forget_inode(self, seen: os.stat_result) -> None:
        """Note that the last name of a file is gone."""
        self.credit(seen, seen.st_size, 0)
        key = (seen.st_dev, seen.st_ino)
        self._inodes.pop(key, None)
        if key in self._created:
            self._created.discard(key)
            self.superblock.quota.credit_inode()

    @contextmanager
    def creating(self) -> Iterator[list[os.stat_result]]:
        """Charge an inode for what is made inside; its status is to be put into the list."""
        self.superblock.quota.charge_inode()
        made: list[os.stat_result] = []
        try:
            yield made
        finally:
            if made:
                self._created.add((made[0].st_dev, made[0].st_ino))
            else:
                self.superblock.quota.credit_inode()

    def stamp(self, fd: int) -> None:
        """Give what was changed the box's time, when that is not the host's."""
        if not self.superblock.clock_is_real:
            now = self.superblock.now()
            host.change_times(fd, now, now)

    def stamp_link(self, directory_fd: int, name: bytes) -> None:
        """As `stamp`, for a symlink."""
        if not self.superblock.clock_is_real:
            now = self.superblock.now()
            host.change_link_times(directory_fd, name, now, now)


def _pages(size: int) -> int:
    return (size + PAGE - 1) // PAGE
