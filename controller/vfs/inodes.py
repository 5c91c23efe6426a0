"""The status that nodes in memory store themselves: modes, owners, times, link counts."""

from __future__ import annotations

import errno
from _blake2 import blake2b  # hashlib would load OpenSSL, too, at each start of a command

from proxybox.controller.abi import NS, S_IFREG, STAT
from proxybox.controller.vfs.nodes import Credentials, Node, Stat, Superblock, mode_permits
from proxybox.controller.vfs.quota import PAGE

MAX_LINKS = 32_000
_MAX_TIME = (1 << 63) * NS - 1


def ino_of(name: bytes) -> int:
    """Returns an inode number that depends on `name` alone: at least 1 << 48, so beyond all that are counted."""
    return int.from_bytes(blake2b(name, digest_size=6).digest(), "little") | 1 << 48


class Inode(Node):
    """A node that stores its status fields itself, as every node in memory does."""

    __slots__ = ("atime_ns", "ctime_ns", "gid", "ino", "mode", "mtime_ns", "nlink", "opens", "uid")

    def __init__(self, superblock: Superblock, mode: int, uid: int, gid: int) -> None:
        self.superblock = superblock
        self.ino = superblock.next_ino()
        self.mode = self.kind | mode & 0o7777
        self.nlink = 1
        self.uid = uid
        self.gid = gid
        self.opens = 0
        self.atime_ns = self.mtime_ns = self.ctime_ns = superblock.now()

    def _extent(self) -> tuple[int, int]:
        """The size in bytes, and how many blocks of 512 bytes are allocated."""
        return 0, 0

    def stat(self) -> Stat:
        size, blocks = self._extent()
        return Stat(
            self.superblock.dev, self.ino, self.mode, self.nlink, self.uid, self.gid, 0,
            size, blocks, self.atime_ns, self.mtime_ns, self.ctime_ns,
        )  # fmt: skip

    def stat_bytes(self) -> bytes:
        size, blocks = self._extent()
        atime, mtime, ctime = self.atime_ns, self.mtime_ns, self.ctime_ns
        return STAT.pack(
            self.superblock.dev, self.ino, self.nlink, self.mode, self.uid, self.gid, 0, 0, size,
            PAGE, blocks, atime // NS, atime % NS, mtime // NS, mtime % NS, ctime // NS, ctime % NS,
            0, 0, 0,
        )  # fmt: skip

    def permits(self, creds: Credentials, mask: int) -> bool:
        return mode_permits(self.mode, self.uid, self.gid, creds, mask)

    def owned_by(self, creds: Credentials) -> bool:
        return creds.uid in (0, self.uid)

    def chmod(self, mode: int) -> None:
        self.mode = self.kind | mode & 0o7777
        self.changed()
        self.superblock.forget()

    def chown(self, uid: int, gid: int) -> None:
        if uid != -1:
            self.uid = uid
        if gid != -1:
            self.gid = gid
        if self.kind == S_IFREG and (uid, gid) != (-1, -1):
            self.mode &= ~0o4000 if not self.mode & 0o010 else ~0o6000
        self.changed()
        self.superblock.forget()

    def utimens(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        if atime_ns is not None:
            self.atime_ns = max(-_MAX_TIME, min(atime_ns, _MAX_TIME))
        if mtime_ns is not None:
            self.mtime_ns = max(-_MAX_TIME, min(mtime_ns, _MAX_TIME))
        self.changed()

    def changed(self) -> None:
        """Records a change of status."""
        self.ctime_ns = self.superblock.now()

    def modified(self) -> None:
        """Records a change of contents."""
        self.mtime_ns = self.ctime_ns = self.superblock.now()

    def linked(self) -> None:
        """Records one more name, and charges it as tmpfs does."""
        if self.nlink >= MAX_LINKS:
            raise OSError(errno.EMLINK, "too many links")
        if self.nlink > 0:  # an unnamed file was charged when it was made
            self.superblock.quota.charge_inode()
        self.nlink += 1
        self.changed()

    def unlinked(self) -> None:
        """Records one name less. A node without names and descriptions is freed."""
        self.nlink -= 1
        self.changed()
        if self.nlink > 0:
            self.superblock.quota.credit_inode()
        elif self.opens == 0:
            self.free()

    def opened(self) -> None:
        """Records one more description that refers to this node."""
        self.opens += 1

    def closed(self) -> None:
        """Records that a description is closed."""
        self.opens -= 1
        if self.opens == 0 and self.nlink == 0:
            self.free()

    def free(self) -> None:
        """Credits everything that the node was charged for."""
        self.superblock.quota.credit_inode()


def node_ino(node: Node) -> int:
    """The inode number of any node. A whole status is built only for a node that does not store the number."""
    return (node.ino if isinstance(node, Inode) else 0) or node.stat().ino
