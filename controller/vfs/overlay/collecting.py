"""Walks an overlay and finds out what differs from the folder below.

Rules: there is no recursion, because a box may nest folders as deeply as it likes. Stored and read bytes stay within a
budget, whatever the box and the host's folder hold. An entry that has vanished from the host meanwhile is left out; a
file that cannot be read has no contents in its Change.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import attrs

from proxybox.controller.abi import PATH_MAX
from proxybox.controller.vfs.host.directory import HostDirectory
from proxybox.controller.vfs.nodes import Directory, Node, RegularFile, Symlink
from proxybox.controller.vfs.overlay.changes import MAX_DIFF_BYTES, Change, Origin
from proxybox.controller.vfs.overlay.files import OverlayFile
from proxybox.controller.vfs.overlay.layered import Layered, origin_of
from proxybox.controller.vfs.overlay.mount import OverlayDirectory, OverlayMount
from proxybox.controller.vfs.quota import Quota

SPARE_BYTES = 256 << 20
"""How much a box's changes may hold beyond what its quota has charged. Holes cost no quota, but are kept as zeros."""
OLD_BYTES = 64 << 20
PATH_BYTES = 64 << 20
MAX_CHANGES = 100_000


@attrs.define(slots=True, kw_only=True, eq=False)
class ChangesBudget:
    """How many bytes of a box's changes may still be stored; several overlays may share one budget.

    contents: new contents; a file beyond that has none in its Change. old: former contents. compared: files that are
    read for a comparison; a file beyond that counts as modified. paths: bytes of paths. changes: the number of changes.
    Changes beyond these two are not reported. left_out: how many entries were not reported, for that or another reason.
    A commit of the others could then lose moved files.
    """

    contents: int
    old: int = OLD_BYTES
    compared: int = SPARE_BYTES
    paths: int = PATH_BYTES
    changes: int = MAX_CHANGES
    left_out: int = 0

    @classmethod
    def of(cls, quota: Quota) -> ChangesBudget:
        """The budget for a box, or for one mount of it, that may store as much in memory as `quota` allows."""
        return cls(contents=min(quota.limit, quota.used_bytes + SPARE_BYTES))

    @property
    def is_spent(self) -> bool:
        """Whether no further change is reported."""
        return self.paths <= 0 or self.changes <= 0


def changes_of(overlay: OverlayMount, prefix: str = "", budget: ChangesBudget | None = None) -> list[Change]:
    """The added, modified and deleted entries, sorted by path; names begin with `prefix`.

    budget: a budget that several overlays share.
    """
    budget = ChangesBudget.of(overlay.superblock.quota) if budget is None else budget
    collector = _Collector(prefix, budget)
    collector.directory(overlay.root, b"")
    while (waiting := collector.later or collector.last) and not budget.is_spent:
        try:
            waiting.pop()()
        except OSError:  # from the host: the entry was removed, or cannot be read
            budget.left_out += 1
    budget.left_out += len(collector.later) + len(collector.last)
    collector.found.sort(key=lambda change: (change.path, change.kind != "deleted"))
    return collector.found


@attrs.define(slots=True, eq=False)
class _Collector:
    """Collects the changes of one overlay.

    prefix: put before names. later: work that is still to be done. last: work that is done after all of that.
    """

    prefix: str
    budget: ChangesBudget
    found: list[Change] = attrs.field(factory=list)
    later: list[Callable[[], None]] = attrs.field(factory=list)
    last: list[Callable[[], None]] = attrs.field(factory=list)

    def directory(self, directory: OverlayDirectory, path: bytes) -> None:
        for name in sorted({*directory.children, *directory.whiteouts}, reverse=True):
            self.later.append(partial(self.entry, directory, path, name))

    def entry(self, directory: OverlayDirectory, path: bytes, name: bytes) -> None:
        where = path + b"/" + name if path else name
        node = directory.children.get(name)
        hidden = name in directory.whiteouts
        below = _below(directory, name) if hidden else None
        if node is None:
            if below is not None:
                self.taken(where, directory, name, below)
        elif hidden and below is not None:
            self.replaced(where, node, directory, name, below)
        elif isinstance(node, Layered) and node.in_place and node.is_at(directory, name):
            self.changed_in_place(where, node, directory)
        else:
            self.comes(where, node, directory)

    def comes(self, path: bytes, node: Node, directory: OverlayDirectory) -> None:
        """Plans to read an added entry after all deleted entries.

        If the host writes to a moved file in between, the commit then sees that the deleted file has changed, and never
        writes old contents to the new place.
        """
        self.last.append(partial(self.added, directory.host_folder(), path, node))

    def changed_in_place(self, path: bytes, node: Layered, directory: OverlayDirectory) -> None:
        below = _below(directory, node.called)
        if isinstance(node, OverlayDirectory):
            if below is not None and node.below is None and _mode(node) != _mode(below):
                self.add("modified", path, node, was=below, origin=_whole(node.origin, below))
            self.later.append(lambda: self.directory(node, path))
        elif isinstance(node, RegularFile) and node.below is None:
            self.compared(path, node, below, node.origin)

    def replaced(self, path: bytes, node: Node, directory: OverlayDirectory, name: bytes, below: Node) -> None:
        origin = directory.whiteouts[name]
        if isinstance(node, RegularFile) and isinstance(below, RegularFile):
            self.compared(path, node, below, origin)
        elif isinstance(node, Symlink) and isinstance(below, Symlink):
            if node.target != below.target:
                self.add("modified", path, node, was=below, origin=origin)
        else:
            self.taken(path, directory, name, below)
            self.comes(path, node, directory)

    def compared(self, path: bytes, node: RegularFile, below: Node | None, origin: Origin | None) -> None:
        """Compares a file with the old one in its place: it is modified when its contents or its mode differ."""
        old = self.old(below)
        if not (isinstance(below, RegularFile) and _mode(below) == _mode(node) and self.same(node, below, old)):
            self.add("modified", path, node, was=below, old=old, origin=origin)

    def same(self, node: RegularFile, below: RegularFile, old: bytes | None) -> bool:
        """Whether the contents are those of the file below. False when the budget is too small to compare them."""
        size = node.size()
        if size != below.size():
            return False
        if old is not None:
            return old == _read(node, MAX_DIFF_BYTES)
        if size > self.budget.compared:
            return False
        self.budget.compared -= size
        return _same(node, below)

    def old(self, below: Node | None) -> bytes | None:
        """The former contents, for a diff."""
        return _read(below, min(MAX_DIFF_BYTES, self.budget.old)) if isinstance(below, RegularFile) else None

    def added(self, folder: HostDirectory | None, path: bytes, node: Node) -> None:
        """Reports a node and everything in it. folder: the host's folder whose default ACL it gets if it is new."""
        self.add("added", path, node, folder=folder)
        if isinstance(node, Directory):
            lower = node.lower if isinstance(node, OverlayDirectory) else None
            self.each(path, node, partial(self.added, lower if isinstance(lower, HostDirectory) else folder))

    def taken(self, path: bytes, directory: OverlayDirectory, name: bytes, below: Node) -> None:
        """Reports the entry `below`, for which `directory` has a whiteout, as deleted."""
        self.deleted(path, below, directory.whiteouts[name])
        displaced = directory.displaced.get(name)
        if displaced is not None and isinstance(below, Directory):
            self.later.append(partial(self.taken_within, path, displaced))

    def taken_within(self, path: bytes, moved: OverlayDirectory) -> None:
        """Reports the entries that the box was shown in a removed or moved folder as deleted.

        Entries that were added or changed there since are not reported, so that the commit finds them and stops.
        """
        if moved.lower is not None:
            self.each(path, moved.lower, partial(self.taken_entry, moved))

    def taken_entry(self, moved: OverlayDirectory, path: bytes, below: Node) -> None:
        name = path.rpartition(b"/")[2]
        node = moved.children.get(name)
        if name in moved.whiteouts:
            self.taken(path, moved, name, below)
        elif node is None:
            if not moved.is_removed():  # it shows through in the folder's new place
                self.moved_unread(path, below)
        elif isinstance(node, Layered) and node.in_place and node.is_at(moved, name):
            self.deleted(path, below, node.origin if node.below is None else origin_of(below))
            if isinstance(node, OverlayDirectory):
                self.later.append(partial(self.taken_within, path, node))

    def moved_unread(self, path: bytes, below: Node) -> None:
        self.deleted(path, below, origin_of(below))
        if isinstance(below, Directory):
            self.each(path, below, self.moved_unread)

    def deleted(self, path: bytes, below: Node, origin: Origin | None) -> None:
        if isinstance(below, Directory):
            origin = _whole(origin, below)
        self.keep("deleted", path, below, was=below, old=self.old(below), origin=origin)

    def each(self, path: bytes, directory: Directory, visit: Callable[[bytes, Node], None]) -> None:
        """Plans to visit the entries of a folder."""
        for name, _, _ in directory.entries():
            self.later.append(partial(self.visit, visit, path, directory, name))

    def visit(self, visit: Callable[[bytes, Node], None], path: bytes, directory: Directory, name: bytes) -> None:
        """Visits an entry, or leaves it out when its path is too long for any call."""
        where = path + b"/" + name
        if len(where) < PATH_MAX:
            visit(where, directory.lookup(name))
        else:
            self.budget.left_out += 1

    def add(
        self,
        kind: str,
        path: bytes,
        node: Node,
        *,
        was: Node | None = None,
        old: bytes | None = None,
        origin: Origin | None = None,
        folder: HostDirectory | None = None,
    ) -> None:
        content = None
        if isinstance(node, RegularFile):
            content = _read(node, self.budget.contents)
            self.budget.contents -= len(content or b"")
        like = origin if kind == "modified" else _like(node)
        default = _default_acl(folder) if like is None and folder is not None else None
        self.keep(kind, path, node, was=was, content=content, old=old, origin=origin, like=like, default=default)

    def keep(
        self,
        kind: str,
        path: bytes,
        node: Node,
        *,
        was: Node | None = None,
        content: bytes | None = None,
        old: bytes | None = None,
        origin: Origin | None = None,
        like: Origin | None = None,
        default: bytes | None = None,
    ) -> None:
        target = node.target if isinstance(node, Symlink) and kind != "deleted" else None
        old_target = was.target if isinstance(was, Symlink) else None
        change = Change(
            name=self.prefix_name(path),
            path=path,
            kind=kind,
            type=_type(node),
            mode=_mode(node),
            content=content,
            target=target,
            old=old,
            old_mode=None if was is None else _mode(was),
            old_target=old_target,
            origin=origin,
            like=like,
            default=default,
        )
        self.found.append(change)
        self.budget.old -= len(old or b"")
        self.budget.paths -= len(change.name) + len(path) + len(target or b"") + len(old_target or b"")
        self.budget.paths -= len(default or b"") + sum(_size(each) for each in (origin, like) if each is not None)
        self.budget.changes -= 1

    def prefix_name(self, path: bytes) -> str:
        name = os.fsdecode(path)
        return f"{self.prefix.rstrip('/')}/{name}" if self.prefix else name


def _below(directory: OverlayDirectory, name: bytes) -> Node | None:
    try:
        return directory.lower.lookup(name) if directory.lower is not None else None
    except OSError:
        return None


def _like(node: Node) -> Origin | None:
    """The host's file that a node represented before it was changed or moved."""
    below = node.lower if isinstance(node, OverlayDirectory) else node.below if isinstance(node, OverlayFile) else None
    if below is None:
        return node.origin if isinstance(node, OverlayFile) else None
    try:
        return origin_of(below)
    except OSError:  # it was removed: its contents cannot be read, either
        return None


def _default_acl(folder: HostDirectory) -> bytes | None:
    try:
        return folder.default_acl()
    except OSError:  # the folder was removed, which the commit notices
        return None


def _size(origin: Origin) -> int:
    return sum(len(name) + len(value or b"") for name, value in origin.attributes)


def _whole(origin: Origin | None, below: Node) -> Origin | None:
    """The complete origin of a folder; `origin` itself when another folder is there by now."""
    found = origin_of(below)
    is_same = origin is None or found is None or (origin.dev, origin.ino) == (found.dev, found.ino)
    return found if is_same else origin


def _type(node: Node) -> str:
    if isinstance(node, Directory):
        return "dir"
    return "symlink" if isinstance(node, Symlink) else "file"


def _mode(node: Node) -> int:
    return node.stat().mode & 0o1777


def _read(node: RegularFile, limit: int) -> bytes | None:
    try:
        return None if node.size() > limit else node.whole()
    except OSError:  # the controller's user cannot read it, or it was removed
        return None


def _same(one: RegularFile, other: RegularFile) -> bool:
    size, offset = one.size(), 0
    try:
        while offset < size:
            piece = one.pread(1 << 20, offset)
            if piece != other.pread(1 << 20, offset):
                return False
            offset += max(1, len(piece))
    except OSError:  # as in `_read`: they cannot be compared
        return False
    return True
