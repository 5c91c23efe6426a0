"""The base of all nodes of an overlay: each represents a node below until it is changed, then has its own state."""

from __future__ import annotations

from proxybox.controller.abi import pack_stat
from proxybox.controller.vfs.host.nodes import HostNode
from proxybox.controller.vfs.inodes import Inode
from proxybox.controller.vfs.memory import MemoryDirectory
from proxybox.controller.vfs.nodes import (
    Credentials,
    Node,
    Stat,
)
from proxybox.controller.vfs.overlay.changes import Change as Change
from proxybox.controller.vfs.overlay.changes import Origin


def origin_of(node: Node) -> Origin | None:
    """The Origin of a node below; None when that node is not on the host."""
    return Origin.of(node.look(), node.attributes()) if isinstance(node, HostNode) else None


def identity_of(node: Node) -> Origin | None:
    """The same without attributes: cheaper, for a folder that is only walked through."""
    return Origin.of(node.look(), ()) if isinstance(node, HostNode) else None


class Layered(Inode):
    """A node that represents one below until it is changed.

    below: that node; None once it was copied up. above, called: the folder and name where this node is; above is None
    when it was removed. in_place: whether this node is where the node below is. charged: whether the quota has paid for
    it.
    """

    # No slots: Python cannot join two bases that both have slots.

    above: LayeredDirectory | None
    below: Node | None
    called: bytes
    charged: bool
    in_place: bool
    origin: Origin | None

    def _stand_for(self, below: Node, above: LayeredDirectory | None, name: bytes) -> None:
        self.below, self.above, self.called = below, above, name
        self.charged = False
        self.in_place = True
        self.origin = None
        self.nlink = 1
        self.opens = self.ino = self.mode = self.uid = self.gid = 0
        self.atime_ns = self.mtime_ns = self.ctime_ns = 0

    def _take_status(self, shown: Stat) -> None:
        """Makes `shown`, the status of the node below, this node's own status."""
        self.ino, self.mode, self.uid, self.gid = shown.ino, shown.mode, shown.uid, shown.gid
        self.atime_ns, self.mtime_ns, self.ctime_ns = shown.atime_ns, shown.mtime_ns, shown.ctime_ns
        self.below = None
        self.pin()

    def is_at(self, above: LayeredDirectory, name: bytes) -> bool:
        """Whether that is this node's first name, and not a hard link to it."""
        return self.above is above and self.called == name

    def copy_up(self) -> None:
        """Copies the node below, charges the copy, and uses it from now on. Raises ENOSPC."""
        raise NotImplementedError

    def pin(self) -> None:
        """Enters this node and the folders above it in their parents, because it now has its own state."""
        node: Layered = self
        while node.above is not None and node.above.children.get(node.called) is not node:
            node.above.children[node.called] = node
            node = node.above

    def stat(self) -> Stat:
        if self.below is None:
            return super().stat()
        shown = self.below.stat()
        return Stat(
            self.superblock.dev, shown.ino, shown.mode, 1, shown.uid, shown.gid, 0, shown.size,
            shown.blocks, shown.atime_ns, shown.mtime_ns, shown.ctime_ns,
        )  # fmt: skip

    def stat_bytes(self) -> bytes:
        return super().stat_bytes() if self.below is None else pack_stat(self.stat())

    def permits(self, creds: Credentials, mask: int) -> bool:
        return super().permits(creds, mask) if self.below is None else self.below.permits(creds, mask)

    def owned_by(self, creds: Credentials) -> bool:
        return super().owned_by(creds) if self.below is None else self.below.owned_by(creds)

    def chmod(self, mode: int) -> None:
        self.copy_up()
        super().chmod(mode)

    def chown(self, uid: int, gid: int) -> None:
        self.copy_up()
        super().chown(uid, gid)

    def utimens(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self.copy_up()
        super().utimens(atime_ns, mtime_ns)

    def linked(self) -> None:
        self.copy_up()
        super().linked()

    def free(self) -> None:
        if self.charged:
            super().free()


class LayeredDirectory(Layered, MemoryDirectory):
    """A folder of an overlay, as the nodes in it know it."""
