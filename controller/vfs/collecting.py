"""Walks an overlay and says what differs from the folder below."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import attrs

from proxybox.controller.abi import PATH_MAX
from proxybox.controller.vfs.changes import MAX_DIFF_BYTES, Change, Origin
from proxybox.controller.vfs.nodes import Directory, Node, RegularFile, Symlink
from proxybox.controller.vfs.overlay import Layered, OverlayDirectory, origin_of

SPARE_BYTES = 256 << 20
"""New contents are kept up to what the box was charged for, and so much more. A file beyond that has
no content in its Change: the zeros of sparse files would fill the controller's memory."""
MAX_CHANGES = 100_000


def collect(root: OverlayDirectory, prefix: str) -> list[Change]:
    """All changes below `root`, sorted by path."""
    collector = _Collector(prefix, root.superblock.quota.used_bytes + SPARE_BYTES)
    collector.later.append(lambda: collector.directory(root, b""))
    while collector.later:  # a list, not recursion: a box may nest folders as deeply as it likes
        collector.later.pop()()
    collector.found.sort(key=lambda change: (change.path, change.kind != "deleted"))
    return collector.found


@attrs.define(slots=True)
class _Collector:
    """prefix: of names. budget: how many bytes of new contents may still be kept."""

    prefix: str
    budget: int
    found: list[Change] = attrs.field(factory=list)
    later: list[Callable[[], None]] = attrs.field(factory=list)

    def directory(self, directory: OverlayDirectory, path: bytes) -> None:
        for name in sorted({*directory.children, *directory.whiteouts}):
            where = path + b"/" + name if path else name
            node = directory.children.get(name)
            hidden = name in directory.whiteouts
            below = _below(directory, name) if hidden else None
            if node is None:
                if below is not None:
                    self.deleted(where, below, directory.whiteouts[name])
            elif hidden and below is not None:
                self.replaced(where, node, below, directory.whiteouts[name])
            elif isinstance(node, Layered) and node.in_place:
                self.changed_in_place(where, node, directory)
            else:
                self.added(where, node)

    def changed_in_place(self, path: bytes, node: Layered, directory: OverlayDirectory) -> None:
        below = _below(directory, node.called)
        if isinstance(node, OverlayDirectory):
            if below is not None and node.below is None and _mode(node) != _mode(below):
                self.add("modified", path, node, origin=node.origin)
            self.later.append(lambda: self.directory(node, path))
        elif isinstance(node, RegularFile) and node.below is None:
            self.compared(path, node, below, node.origin)

    def replaced(self, path: bytes, node: Node, below: Node, origin: Origin | None) -> None:
        if isinstance(node, RegularFile) and isinstance(below, RegularFile):
            self.compared(path, node, below, origin)
        elif isinstance(node, Symlink) and isinstance(below, Symlink):
            if node.target != below.target:
                self.add("modified", path, node, origin=origin)
        else:
            self.deleted(path, below, origin)
            self.added(path, node)

    def compared(self, path: bytes, node: RegularFile, below: Node | None, origin: Origin | None) -> None:
        """A file that stands where one stood: modified when its contents or its mode differ."""
        old = _read(below, MAX_DIFF_BYTES) if isinstance(below, RegularFile) else None
        if (
            isinstance(below, RegularFile)
            and _mode(below) == _mode(node)
            and below.size() == node.size()
            and (old == _read(node, MAX_DIFF_BYTES) if old is not None else _same(node, below))
        ):
            return
        self.add("modified", path, node, old=old, origin=origin)

    def added(self, path: bytes, node: Node) -> None:
        self.add("added", path, node)
        if isinstance(node, Directory):
            self.each(path, node, self.added)

    def deleted(self, path: bytes, below: Node, origin: Origin | None) -> None:
        old = _read(below, MAX_DIFF_BYTES) if isinstance(below, RegularFile) else None
        self.keep("deleted", path, below, old=old, origin=origin)
        if isinstance(below, Directory):
            self.each(path, below, lambda where, inner: self.deleted(where, inner, origin_of(inner)))

    def each(self, path: bytes, directory: Directory, visit: Callable[[bytes, Node], None]) -> None:
        """Visit the entries of a folder later. What no path can name is left out."""
        for name, _, _ in directory.entries():
            where = path + b"/" + name
            if len(where) < PATH_MAX:
                self.later.append(partial(_visit, visit, where, directory, name))

    def add(
        self, kind: str, path: bytes, node: Node, *, old: bytes | None = None, origin: Origin | None = None
    ) -> None:
        content = None
        if isinstance(node, RegularFile):
            content = _read(node, self.budget)
            self.budget -= len(content or b"")
        self.keep(kind, path, node, content=content, old=old, origin=origin)

    def keep(
        self,
        kind: str,
        path: bytes,
        node: Node,
        *,
        content: bytes | None = None,
        old: bytes | None = None,
        origin: Origin | None = None,
    ) -> None:
        if len(self.found) < MAX_CHANGES:
            target = node.target if isinstance(node, Symlink) and kind != "deleted" else None
            change = Change(
                name=self.prefix_name(path),
                path=path,
                kind=kind,
                type=_type(node),
                mode=_mode(node),
                content=content,
                target=target,
                old=old,
                origin=origin,
            )
            self.found.append(change)

    def prefix_name(self, path: bytes) -> str:
        name = os.fsdecode(path)
        return f"{self.prefix.rstrip('/')}/{name}" if self.prefix else name


def _below(directory: OverlayDirectory, name: bytes) -> Node | None:
    try:
        return directory.lower.lookup(name) if directory.lower is not None else None
    except OSError:
        return None


def _type(node: Node) -> str:
    if isinstance(node, Directory):
        return "dir"
    return "symlink" if isinstance(node, Symlink) else "file"


def _mode(node: Node) -> int:
    return node.stat().mode & 0o1777


def _visit(visit: Callable[[bytes, Node], None], path: bytes, directory: Directory, name: bytes) -> None:
    visit(path, directory.lookup(name))


def _read(node: RegularFile, limit: int) -> bytes | None:
    size = node.size()
    return None if size > limit else b"".join(_pieces(node, size))


def _pieces(node: RegularFile, size: int) -> list[bytes]:
    pieces, offset = [], 0
    while offset < size and (piece := node.pread(1 << 20, offset)):
        pieces.append(piece)
        offset += len(piece)
    return pieces


def _same(one: RegularFile, other: RegularFile) -> bool:
    size, offset = one.size(), 0
    while offset < size:
        piece = one.pread(1 << 20, offset)
        if piece != other.pread(1 << 20, offset):
            return False
        offset += max(1, len(piece))
    return True
