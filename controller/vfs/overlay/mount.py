"""An overlay: reads go to a folder below, and writes stay in memory.

Rules: nothing below is ever changed, except by a commit (../commits), when the caller asks for it. A node represents
the one below until it is written; then the whole node is copied up and charged. An entry that was removed or renamed
leaves a whiteout, which records what it hides. Names, links, permissions and times work as in memory.py, from which
everything here inherits. A name that the mount below hides is free: an entry that the box makes there is in this layer
alone, and no commit writes it. So nothing of the host may be moved to such a name: a commit would lose it.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Generator
from weakref import WeakValueDictionary

from proxybox.controller.abi import RENAME_EXCHANGE, S_IFDIR, pack_stat
from proxybox.controller.errors import Denied
from proxybox.controller.vfs.host.directory import HostDirectory
from proxybox.controller.vfs.host.filesystem import HIDDEN_NAMES
from proxybox.controller.vfs.host.links import MAX_SEARCHED, refuse_behind_a_name, refuse_moving_links
from proxybox.controller.vfs.host.nodes import HostNode
from proxybox.controller.vfs.memory import MemoryDirectory
from proxybox.controller.vfs.nodes import (
    Credentials,
    Directory,
    Entry,
    Node,
    RegularFile,
    Stat,
    Superblock,
    Symlink,
    finished,
    in_portions,
)
from proxybox.controller.vfs.overlay.changes import Change as Change
from proxybox.controller.vfs.overlay.changes import Origin
from proxybox.controller.vfs.overlay.files import OverlayFile, OverlaySymlink
from proxybox.controller.vfs.overlay.layered import Layered, LayeredDirectory, identity_of, origin_of
from proxybox.controller.vfs.quota import shrunk

FIRST_OWN_INO = 1 << 32
"""Inode numbers from here on are the overlay's own; smaller ones belong to the folder below."""
WHITEOUTS_IN_A_PAGE = 6
"""One page is charged for so many whiteouts: each takes some 460 bytes and its name."""
FOLDER_WHITEOUT = 5
"""A folder's whiteout counts as so many: it takes 3.4 KB, because it remembers what the box was shown of the folder."""


class OverlayMount:
    """An overlay over `lower`, which may be any directory. root: the node to mount.

    superblock: a superblock for this overlay alone, whose quota pays for what is written. host: the mount below, when
    that is a mount of the host and its changes may therefore be committed. Then the guest cannot make a link with `..`
    behind a name (../host/links.py), nor move an entry of the host to a name that commits do not write.
    """

    def __init__(self, lower: Directory, superblock: Superblock) -> None:
        self.superblock = superblock
        superblock.last_ino = max(superblock.last_ino, FIRST_OWN_INO)
        self.lower = lower
        self.host = lower.mount if isinstance(lower, HostNode) else None
        self.whiteouts = 0  # the weight of the whiteouts of all folders; it never decreases
        self.root = OverlayDirectory(self, lower, None, b"")

    def check_whiteouts(self, *names: tuple[OverlayDirectory, bytes]) -> None:
        """Checks that there is room for the whiteouts of those names.

        Raises ENOSPC, as overlayfs does when its upper filesystem is full.
        """
        pages = self._pages_for(FOLDER_WHITEOUT * len(names))
        if pages > self.superblock.quota.free_pages() and any(each.leaves_whiteout(name) for each, name in names):
            self.superblock.quota.refuse("no space left for the names of what was removed")

    def charge_whiteout(self, weight: int) -> None:
        """Charges one whiteout. `check_whiteouts` has made sure that there is room, before the call did anything."""
        self.superblock.quota.charge_pages(self._pages_for(weight))
        self.whiteouts += weight

    def _pages_for(self, more: int) -> int:
        return -(-(self.whiteouts + more) // WHITEOUTS_IN_A_PAGE) - -(-self.whiteouts // WHITEOUTS_IN_A_PAGE)


class OverlayDirectory(LayeredDirectory):
    """A folder of the overlay.

    lower: the folder below whose entries show through; None for a new folder. whiteouts: the names below that do not
    show through, with the origin of what they hide. displaced: the folders among them, which know the entries that the
    box was shown. heritage: the nearest host folder above a new folder.
    """

    stable = False

    def __init__(
        self,
        mount: OverlayMount,
        lower: Directory | None,
        above: OverlayDirectory | None,
        name: bytes,
        *,
        mode: int = 0,
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        superblock = mount.superblock
        if lower is None:
            MemoryDirectory.__init__(self, superblock, mode, uid, gid)
            self.below, self.above, self.called = None, above, name
            self.charged, self.in_place = True, False
            self.origin = None
        else:
            self.superblock = superblock
            self._stand_for(lower, above, name)
            self.origin = identity_of(lower)
            self.children = {}
            self.parent, self.name = above, name
        self.mount = mount
        self.lower = lower
        self.heritage: HostDirectory | None = None
        self.whiteouts: dict[bytes, Origin | None] = {}
        self.displaced: dict[bytes, OverlayDirectory] = {}
        self._standing: WeakValueDictionary[bytes, Layered] = WeakValueDictionary()
        self._gone = False

    @property
    def lasts(self) -> bool:
        return self.lower is None or self.lower.lasts

    def stat(self) -> Stat:
        shown = super().stat()
        # A link count of 1 means that subdirectories are not counted.
        return Stat(
            shown.dev, shown.ino, shown.mode, 0 if self._gone else 1, shown.uid, shown.gid, 0, 4096,
            8, shown.atime_ns, shown.mtime_ns, shown.ctime_ns,
        )  # fmt: skip

    def stat_bytes(self) -> bytes:
        return pack_stat(self.stat())

    def copy_up(self) -> None:
        if self.below is None:
            return
        try:
            shown = self.below.stat()
        except OSError:  # it was removed on the host: from now on this node makes up its own status
            owner, now = self.superblock, self.superblock.now()
            shown = Stat(owner.dev, owner.next_ino(), S_IFDIR | 0o755, 1, owner.uid, owner.gid, 0,
                         4096, 8, now, now, now)  # fmt: skip
        self._take_status(shown)

    def changed(self) -> None:
        self.copy_up()
        super().changed()

    def modified(self) -> None:
        self.copy_up()
        super().modified()

    def is_removed(self) -> bool:
        return self._gone

    def removed(self) -> None:
        self._gone = True
        super().removed()

    # --- entries ---

    def find(self, name: bytes) -> Node | None:
        node = self.children.get(name)
        if node is not None:
            return node
        below = self._find_below(name)
        if below is None:
            return None
        standing = self._standing.get(name)
        if standing is not None and standing.kind == below.kind:
            if standing.below is not None and not isinstance(standing, OverlayDirectory):
                standing.below = below  # the node that was just looked up, with its fresh status
            return standing
        made = self._stand_in(name, below)
        if made is not None:
            self._standing[name] = made
        return made

    def _find_below(self, name: bytes) -> Node | None:
        if self.lower is None or name in self.whiteouts:
            return None
        try:
            return self.lower.lookup(name)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def _stand_in(self, name: bytes, below: Node) -> Layered | None:
        if isinstance(below, RegularFile):
            return OverlayFile(below, self, name)
        if isinstance(below, Directory):
            return OverlayDirectory(self.mount, below, self, name)
        return OverlaySymlink(below, self, name) if isinstance(below, Symlink) else None

    def entries(self) -> list[Entry]:
        return finished(self.listing())

    def listing(self) -> Generator[None, None, list[Entry]]:
        found = yield from super().listing()
        if self.lower is not None:
            below = yield from self.lower.listing()
            found += yield from in_portions(below, self._shown)
        return sorted(found)

    def _shown(self, below: list[Entry]) -> list[Entry]:
        """The entries below that show through."""
        return [entry for entry in below if entry[0] not in self.children and entry[0] not in self.whiteouts]

    def has_others(self, names: Collection[bytes]) -> bool:
        if any(name not in names for name in self.children):
            return True
        return self.lower is not None and self.lower.has_others({*self.whiteouts, *self.children, *names})

    def is_empty(self) -> bool:
        return not self.has_others(())

    # --- changes ---

    def _check_committed(self, node: Node | None, name: bytes) -> None:
        """Raises EACCES for a node of the host that would get a name here which commits do not write."""
        host = self.mount.host
        if host is None or node is None:
            return
        here: LayeredDirectory = self
        while not host.hides(name):
            self.superblock.steps.take(1)
            if here.above is None:
                return
            here, name = here.above, here.called
        if _has_what_is_below(node):
            raise Denied(errno.EACCES, HIDDEN_NAMES)

    def host_folder(self) -> HostDirectory | None:
        """The host's folder whose default ACL new entries get; that of the folder above, when this folder is new."""
        return self.lower if isinstance(self.lower, HostDirectory) else self.heritage

    def permitted_by_default(self) -> int | None:
        folder = self.host_folder()
        try:
            return None if folder is None else folder.permitted_by_default()
        except OSError:  # it was removed on the host, and nothing can be committed to it
            return None

    def symlink(self, name: bytes, target: bytes, creds: Credentials) -> Symlink:
        if self.mount.host is not None:
            refuse_behind_a_name(target)
        return super().symlink(name, target, creds)

    def link(self, name: bytes, node: Node) -> None:
        self._check_committed(node, name)
        super().link(name, node)

    def unlink(self, name: bytes) -> None:
        self.mount.check_whiteouts((self, name))
        super().unlink(name)

    def rmdir(self, name: bytes) -> None:
        self.mount.check_whiteouts((self, name))
        super().rmdir(name)

    def rename(self, name: bytes, newdir: Directory, newname: bytes, flags: int) -> None:
        if isinstance(newdir, OverlayDirectory):
            if self.mount.host is not None:
                self._check_moved(name, newdir, newname)
                if flags & RENAME_EXCHANGE:
                    newdir._check_moved(newname, self, name)
            self.mount.check_whiteouts((self, name), (newdir, newname))
        super().rename(name, newdir, newname, flags)

    def _check_moved(self, name: bytes, newdir: OverlayDirectory, newname: bytes) -> None:
        node = self.find(name)
        newdir._check_committed(node, newname)
        if newdir is not self and isinstance(node, Directory):
            refuse_moving_links(node)

    def _place(self, name: bytes, node: Node) -> None:
        super()._place(name, node)
        if isinstance(node, Layered) and node.above is None:  # a hard link does not change where the node is
            node.above, node.called, node.in_place = self, name, False
        if isinstance(node, OverlayDirectory):
            node.heritage = self.host_folder()

    def leaves_whiteout(self, name: bytes) -> bool:
        """Whether the removal of that name must be recorded, because there is an entry below it."""
        home = self._at_home(name)
        is_below = (home is not None and home.in_place) or self._find_below(name) is not None
        return is_below and name not in self.whiteouts

    def _at_home(self, name: bytes) -> Layered | None:
        node = self.find(name)
        return node if isinstance(node, Layered) and node.is_at(self, name) else None

    def _displace(self, name: bytes) -> None:
        home = self._at_home(name)
        in_place = home is not None and home.in_place
        if in_place or self._find_below(name) is not None:
            origin = None
            if home is not None and in_place:
                origin = home.origin or (origin_of(home.below) if home.below else None)
            if name not in self.whiteouts:
                self.mount.charge_whiteout(FOLDER_WHITEOUT if isinstance(home, OverlayDirectory) else 1)
                self.whiteouts[name] = origin
            if in_place and isinstance(home, OverlayDirectory):
                self.displaced[name] = home
        self.children.pop(name, None)
        self._standing.pop(name, None)
        self.children = shrunk(self.children)
        if home is not None:
            home.above, home.in_place = None, False

    def _new_directory(self, mode: int, uid: int, gid: int) -> MemoryDirectory:
        return OverlayDirectory(self.mount, None, None, b"", mode=mode, uid=uid, gid=gid)


def _has_what_is_below(node: Node) -> bool:
    """Whether a node is from the folder below, or a folder of the box with such a node, or with too many to check."""
    left, searched = [node], 0
    while left:
        each = left.pop()
        if isinstance(each, Layered) and not (isinstance(each, OverlayDirectory) and each.lower is None):
            return True
        if isinstance(each, MemoryDirectory):
            searched += len(each.children)
            if searched > MAX_SEARCHED:
                return True
            left += each.children.values()
    return False
