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

from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.host.directory import HostDirectory
from proxybox.controller.vfs.host.nodes import HostFile, shown_mode
from proxybox.controller.vfs.host.use import FileId, HostUse, identity
from proxybox.controller.vfs.nodes import Node, Stat, Superblock
from proxybox.controller.vfs.quota import PAGE

MAX_INODES = 200_000
_SYSTEM = (b"usr", b"lib", b"lib32", b"lib64", b"bin", b"sbin", b"etc")
_HIDDEN_TARGET = b"/(outside)"


class HostMount:
    """A host folder (or one file of it) in the tree.

    source: a path in the host. superblock: the box's; `read_only` is set unless `writable`.
    target: where it will be mounted, so that absolute symlinks inside can be shown as paths in the
    box; those that lead elsewhere in the host are not shown. root: the node to mount. use: what the
    box has of the host already; it charges the quota that the superblock has. Raises SandboxStartError.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        superblock: Superblock,
        *,
        writable: bool = False,
        hide_dotfiles: bool = False,
        target: bytes = b"",
        use: HostUse | None = None,
    ) -> None:
        superblock.read_only = not writable
        self.superblock = superblock
        self.hide_dotfiles = hide_dotfiles
        self.target = target.rstrip(b"/")
        self.use = HostUse(superblock.quota) if use is None else use
        self.open_nodes: WeakSet[HostFile] = WeakSet()
        self._inodes: dict[FileId, int] = {}
        path = os.path.realpath(source)
        self.root: Node
        if os.path.isfile(path):
            folder, name = os.path.split(path)
            self.host = boundary.HostRoot(folder)
            self.root = HostFile(self, HostDirectory(self), os.fsencode(name))
        else:
            self.host = boundary.HostRoot(path)
            self.root = HostDirectory(self)

    def close(self) -> None:
        """Close every host descriptor; later calls fail with EBADF."""
        for node in list(self.open_nodes):
            node.close_fd()
        self.host.close()

    def hides(self, name: bytes) -> bool:
        """Whether entries of that name do not exist for the box."""
        return self.hide_dotfiles and name[:1] == b"."

    def virtual_ino(self, key: FileId) -> int:
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
            superblock.dev, self.virtual_ino(identity(seen)), shown_mode(seen),
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

    def forget_inode(self, file: FileId) -> None:
        """A file is gone from the disk: another may get its number."""
        self._inodes.pop(file, None)

    def charge_length(self, fd: int, file: FileId, size: int) -> list[int]:
        """Charge what a file takes when it becomes as long as `size`, or is written from there on: nothing where the
        filesystem is known to have holes. The pages that were charged. ENOSPC.
        """
        if self.host.has_holes:
            return []
        was = os.fstat(fd).st_size
        return self.use.charge_length(file, was, size) if size > was else []

    @contextmanager
    def creating(self, *, new: bool = True, pages: int = 0) -> Iterator[list[os.stat_result]]:
        """Charge an inode for the name that is made inside, and the pages of what it names; the status of that is to be
        put into the list. new: whether it is a new file, and not a further name for one. ENOSPC.
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
        """Give what was changed the box's time, when that is not the host's."""
        if not self.superblock.clock_is_real:
            now = self.superblock.now()
            boundary.change_times(fd, now, now)

    def stamp_link(self, directory_fd: int, name: bytes) -> None:
        """As `stamp`, for a symlink."""
        if not self.superblock.clock_is_real:
            now = self.superblock.now()
            boundary.change_link_times(directory_fd, name, now, now)
