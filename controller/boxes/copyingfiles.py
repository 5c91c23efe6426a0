"""Copies the nodes and open file descriptions of a world, so that the copy changes independently.

Rules: every object is copied once, by the function that is registered here for exactly its class. A class without such
a function is a fault of proxybox; its objects are never shared silently. The function makes the copy. It leaves objects
that may be nested deeply, or refer back to the object, to `later`, so that the depth of the recursion here does not
depend on the guest. Objects of the classes named by `shares` are shared: they never change, or belong to no box.
The content of a file is shared until it is written (memory.py).
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

from proxybox.controller.costs.descriptorshare import Allotment
from proxybox.controller.costs.steps import Steps
from proxybox.controller.effects import Changes
from proxybox.controller.vfs.descriptors import DescriptorTable
from proxybox.controller.vfs.host import boundary, library
from proxybox.controller.vfs.host.boundary import HostRoot
from proxybox.controller.vfs.host.directory import HostDirectory
from proxybox.controller.vfs.host.mount import HostMount
from proxybox.controller.vfs.host.nodes import HostFile, HostNode, HostSymlink
from proxybox.controller.vfs.host.use import FileCharge, HostUse
from proxybox.controller.vfs.inodes import Inode
from proxybox.controller.vfs.memory import MemoryDirectory, MemoryFile, MemorySymlink
from proxybox.controller.vfs.nodes import Credentials, Directory, Node, Superblock
from proxybox.controller.vfs.openfiles import (
    DirectoryOpenFile,
    HostOpenFile,
    Listings,
    OpenFile,
    PathOpenFile,
    RegularOpenFile,
)
from proxybox.controller.vfs.overlay.changes import Origin
from proxybox.controller.vfs.overlay.files import OverlayFile, OverlayOpenFile, OverlaySymlink
from proxybox.controller.vfs.overlay.layered import Layered
from proxybox.controller.vfs.overlay.mount import OverlayDirectory, OverlayMount
from proxybox.controller.vfs.pseudo.devices import (
    MemoryDevice,
    MemoryDeviceFile,
    NoTerminal,
    StandardFile,
    StandardStream,
    TerminalDevice,
)
from proxybox.controller.vfs.pseudo.generated import ComputedSymlink, GeneratedFile, OpenedContent
from proxybox.controller.vfs.pseudo.proc import FdDirectory, FdLink, LateEntries, LateText
from proxybox.controller.vfs.quota import Quota
from proxybox.controller.vfs.streams import AnonymousNode, Buffer, EventFile, PairEnd, PipeEnd, PipeNode, SocketNode
from proxybox.controller.vfs.tree import Tree

_T = TypeVar("_T")
How = Callable[["Copier", Any], Any]
Fill = Callable[["Copier", Any, Any], None]

_ATOMS = frozenset({type(None), bool, int, float, str, bytes})
_HOW: dict[type, How] = {}
_FIELDS: dict[type, tuple[str, ...]] = {}


def copies(kind: type) -> Callable[[How], How]:
    """Registers the function that copies objects of that class; subclasses are not included."""

    def register(how: How) -> How:
        _HOW[kind] = how
        return how

    return register


def shares(*kinds: type) -> None:
    """Registers classes whose objects are the same in all copies."""
    for kind in kinds:
        _HOW[kind] = lambda copier, old: old


def is_known(kind: type) -> bool:
    """Whether objects of that class can be copied or shared."""
    return kind in _HOW


class Copier:
    """Makes one copy of a world.

    closing: the exit stack that closes the host's resources of the copy. fill_later: whether folders in memory are
    filled when they are first needed. This is for originals that never change: few boxes look into /proc or /dev.
    """

    def __init__(self, closing: ExitStack, *, fill_later: bool = False) -> None:
        self.closing = closing
        self.fill_later = fill_later
        self._copies: dict[int, Any] = {}  # by the id of the original, which lives as long as its world
        self._unfilled: list[tuple[Fill, Any, Any]] = []
        self._weak: list[tuple[WeakValueDictionary[bytes, Any], WeakValueDictionary[bytes, Any]]] = []

    def of(self, old: _T) -> _T:
        """Returns the copy of an object; the copy may not be filled yet.

        Raises TypeError for a class that has no registered function.
        """
        new: _T | None = self._copies.get(id(old))
        if new is not None:
            return new
        how = _HOW.get(old.__class__)
        if how is None:
            raise TypeError(f"it is not said how a {old.__class__.__qualname__} is copied")
        made: _T = how(self, old)
        self._copies[id(old)] = made
        return made

    def stand_for(self, old: _T, new: _T) -> _T:
        """Makes `new`, which the caller has created, the copy of `old`; returns `new`."""
        self._copies[id(old)] = new
        return new

    def has(self, old: object) -> bool:
        """Whether the object has been copied already."""
        return id(old) in self._copies

    def later(self, fill: Fill, old: Any, new: Any) -> None:
        """Has `finish` call `fill`, to fill `new` from `old`: then no other object is half copied."""
        self._unfilled.append((fill, old, new))

    def weakly(self, old: WeakValueDictionary[bytes, Any], new: WeakValueDictionary[bytes, Any]) -> None:
        """Makes `finish` put into `new` the copies of those values of `old` to which other objects refer, too."""
        if old:
            self._weak.append((old, new))

    def finish(self) -> None:
        """Fills all objects that were passed to `later`."""
        unfilled = self._unfilled
        while unfilled:
            fill, old, new = unfilled.pop()
            fill(self, old, new)
        weak, self._weak = self._weak, []
        for was, now in weak:
            now.update({name: self.of(value) for name, value in was.items() if self.has(value)})

    def plain(self, old: _T, **replaced: Any) -> _T:
        """Returns a copy of an object whose fields are numbers, texts and bytes, but for those in `replaced`."""
        kind = old.__class__
        new = object.__new__(kind)
        for name in _fields(kind):
            if name in replaced:
                setattr(new, name, replaced[name])
                continue
            value = getattr(old, name)
            if value.__class__ not in _ATOMS:
                raise TypeError(f"it is not said how {kind.__qualname__}.{name} is copied")
            setattr(new, name, value)
        return new

    def function(self, old: Callable[..., Any]) -> Any:
        """Returns the function for the copy: a method of a copied object becomes the method of its copy."""
        if isinstance(old, types.MethodType):
            return types.MethodType(old.__func__, self.of(old.__self__))
        of_nobody = isinstance(old, types.BuiltinFunctionType) and isinstance(old.__self__, types.ModuleType)
        if of_nobody or isinstance(old, type) or (isinstance(old, types.FunctionType) and not old.__closure__):
            return old
        raise TypeError(f"it is not said how {old!r} is copied")


def _fields(kind: type) -> tuple[str, ...]:
    """Returns the names of all slots of a class. The class must have no other fields."""
    if kind not in _FIELDS:
        slots = [name for base in kind.__mro__ for name in getattr(base, "__slots__", ())]
        _FIELDS[kind] = tuple(name for name in slots if name != "__weakref__")
    return _FIELDS[kind]


# --- what is shared ---------------------------------------------------------------------------------------------------

shares(*_ATOMS, Credentials, Origin)
shares(library.LibraryMount, library.LibraryFile, library.AlteredFile, library.LibraryDirectory, library.LibrarySymlink)


# --- quotas, filesystems, the tree ------------------------------------------------------------------------------------


@copies(Quota)
def _quota(copier: Copier, old: Quota) -> Quota:
    return copier.plain(old, parent=copier.of(old.parent))


@copies(Superblock)
def _superblock(copier: Copier, old: Superblock) -> Superblock:
    if old.shared:
        return old
    of = copier.of
    return Superblock(  # written out: a world has ten of them
        dev=old.dev, uid=old.uid, gid=old.gid, now=copier.function(old.now), clock_is_real=old.clock_is_real,
        quota=of(old.quota), read_only=old.read_only, forget=copier.function(old.forget), steps=of(old.steps),
        changes=of(old.changes), last_ino=old.last_ino, pipe_bytes=old.pipe_bytes,
    )  # fmt: skip


@copies(Changes)
def _changes(copier: Copier, old: Changes) -> Changes:
    """Returns new, empty `Changes`: no call waits in the copy yet."""
    return Changes()


@copies(Steps)
def _steps(copier: Copier, old: Steps) -> Steps:
    new = Steps()
    new.left = old.left
    return new


@copies(Listings)
def _listings(copier: Copier, old: Listings) -> Listings:
    return copier.plain(old, reads=None)


@copies(Tree)
def _tree(copier: Copier, old: Tree) -> Tree:
    """Returns a tree with copies of the mounts, and with an empty cache of lookups."""
    new = object.__new__(Tree)
    new._followed, new._unfollowed, new._cached_for = {}, {}, None
    new.listings, new.steps = copier.of(old.listings), copier.of(old.steps)
    new._mounts, new._above = {}, {}
    for mounted in old._mounts.values():
        copier.stand_for(mounted, {})  # open directories refer to them, too
    copier.later(_fill_tree, old, new)
    return new


def _fill_tree(copier: Copier, old: Tree, new: Tree) -> None:
    of = copier.of
    new.root = of(old.root)
    for directory, mounted in old._mounts.items():
        new._mounts[of(directory)] = own = of(mounted)
        own.update({name: of(node) for name, node in mounted.items()})
    new._above = {of(node): (of(above), name) for node, (above, name) in old._above.items()}


# --- nodes in memory --------------------------------------------------------------------------------------------------


def _inode(copier: Copier, old: Any) -> Any:
    """Returns a copy with the status of an inode; this is most of the work, so the fields are written out."""
    new = object.__new__(old.__class__)
    new.superblock = copier.of(old.superblock)
    new.ino = old.ino
    new.mode = old.mode
    new.nlink = old.nlink
    new.uid = old.uid
    new.gid = old.gid
    new.opens = old.opens
    new.atime_ns = old.atime_ns
    new.mtime_ns = old.mtime_ns
    new.ctime_ns = old.ctime_ns
    return new


@copies(MemoryFile)
def _memory_file(copier: Copier, old: MemoryFile) -> MemoryFile:
    new: MemoryFile = _inode(copier, old)
    old.share_pages(new)
    return new


@copies(MemorySymlink)
def _memory_symlink(copier: Copier, old: MemorySymlink) -> MemorySymlink:
    new: MemorySymlink = _inode(copier, old)
    new._target = old._target
    return new


@copies(MemoryDirectory)
def _memory_directory(copier: Copier, old: MemoryDirectory) -> MemoryDirectory:
    new: MemoryDirectory = _inode(copier, old)
    new.name = old.name
    copier.later(_fill_directory, old, new)
    return new


def _fill_directory(copier: Copier, old: MemoryDirectory, new: MemoryDirectory) -> None:
    new.parent = copier.of(old.parent)
    if isinstance(old.filling, LateEntries):
        new.fill_later(copier.of(old.filling))
    elif copier.fill_later and old.__class__ is MemoryDirectory and old.children:
        new.fill_later(partial(_children_later, copier, old))
    else:
        new.children = _children(copier, old)


def _children(copier: Copier, old: MemoryDirectory) -> dict[bytes, Node]:
    of = copier.of
    return {name: of(child) for name, child in old.children.items()}


def _children_later(copier: Copier, old: MemoryDirectory) -> dict[bytes, Node]:
    children = _children(copier, old)
    copier.finish()
    return children


# --- overlays ---------------------------------------------------------------------------------------------------------


@copies(OverlayMount)
def _overlay_mount(copier: Copier, old: OverlayMount) -> OverlayMount:
    new = object.__new__(OverlayMount)
    new.superblock, new.lower, new.root = copier.of(old.superblock), copier.of(old.lower), copier.of(old.root)
    new.host, new.whiteouts = copier.of(old.host), old.whiteouts
    return new


def _layered(copier: Copier, new: Any, old: Layered) -> Any:
    new.called, new.charged, new.in_place, new.origin = old.called, old.charged, old.in_place, old.origin
    copier.later(_fill_layered, old, new)
    return new


def _fill_layered(copier: Copier, old: Layered, new: Layered) -> None:
    new.above, new.below = copier.of(old.above), copier.of(old.below)


@copies(OverlayFile)
def _overlay_file(copier: Copier, old: OverlayFile) -> Any:
    new = _layered(copier, _memory_file(copier, old), old)
    new._copying = None
    return new


@copies(OverlaySymlink)
def _overlay_symlink(copier: Copier, old: OverlaySymlink) -> Any:
    return _layered(copier, _memory_symlink(copier, old), old)


@copies(OverlayDirectory)
def _overlay_directory(copier: Copier, old: OverlayDirectory) -> Any:
    new = _layered(copier, _memory_directory(copier, old), old)
    new.whiteouts, new._gone, new._standing = dict(old.whiteouts), old._gone, WeakValueDictionary()
    copier.weakly(old._standing, new._standing)
    copier.later(_fill_lower, old, new)
    return new


def _fill_lower(copier: Copier, old: OverlayDirectory, new: OverlayDirectory) -> None:
    new.lower, new.heritage, new.mount = copier.of(old.lower), copier.of(old.heritage), copier.of(old.mount)
    new.displaced = {name: copier.of(directory) for name, directory in old.displaced.items()}


# --- nodes of the host ------------------------------------------------------------------------------------------------


@copies(HostRoot)
def _host_root(copier: Copier, old: HostRoot) -> HostRoot:
    return old.again()


@copies(Allotment)
def _allotment(copier: Copier, old: Allotment) -> Allotment:
    return old.again()


@copies(HostUse)
def _host_use(copier: Copier, old: HostUse) -> HostUse:
    """The charges of the copy continue from the original's. Descriptors are counted as the files are copied."""
    new = HostUse(copier.of(old.quota), copier.of(old.allotment))
    new._accounts = {file: FileCharge(account.names, account.pages.copy()) for file, account in old._accounts.items()}
    return new


@copies(HostMount)
def _host_mount(copier: Copier, old: HostMount) -> HostMount:
    """Returns a mount with descriptors and accounts of its own; the host's files are the same for all copies."""
    new = object.__new__(HostMount)
    new.host = copier.of(old.host)
    new.open_nodes = WeakSet()
    copier.closing.callback(new.close)
    new.superblock, new.target = copier.of(old.superblock), old.target
    new.hide_dotfiles, new.names = old.hide_dotfiles, old.names
    new._inodes, new.use = dict(old._inodes), copier.of(old.use)
    copier.later(_fill_host_mount, old, new)
    return new


def _fill_host_mount(copier: Copier, old: HostMount, new: HostMount) -> None:
    new.root = copier.of(old.root)


def _host_node(copier: Copier, new: Any, old: HostNode) -> Any:
    new.superblock, new._mount, new._name = copier.of(old.superblock), copier.of(old._mount), old._name
    new._seen, new._seen_at = None, 0
    copier.later(_fill_host_node, old, new)
    return new


def _fill_host_node(copier: Copier, old: HostNode, new: HostNode) -> None:
    new._above = copier.of(old._above)


@copies(HostFile)
def _host_file(copier: Copier, old: HostFile) -> HostFile:
    new = object.__new__(HostFile)
    new._fd, new._held, new._taken = None, None, old._taken
    _host_node(copier, new, old)
    if old._held is not None:
        new._held = new._mount.use.hold(_opened_again(old._held.fd, old._held.mode), old._held.mode)
        new._fd = new._held.fd
        new._mount.open_nodes.add(new)
    return new


def _opened_again(fd: int, mode: int) -> int:
    """Opens a file again, so that the copy has its own offset: a box reads the position after an append from it.

    A file that may not be opened any more is shared.
    """
    try:
        return boundary.reopen(fd, mode)
    except OSError:
        return os.dup(fd)


@copies(HostSymlink)
def _host_symlink(copier: Copier, old: HostSymlink) -> Any:
    return _host_node(copier, object.__new__(HostSymlink), old)


@copies(HostDirectory)
def _host_directory(copier: Copier, old: HostDirectory) -> Any:
    new = _host_node(copier, object.__new__(HostDirectory), old)
    new._gone, new._children = old._gone, WeakValueDictionary()
    copier.weakly(old._children, new._children)
    return new


# --- what the box makes up --------------------------------------------------------------------------------------------


@copies(LateText)
def _told(copier: Copier, old: LateText) -> LateText:
    return LateText(copier.of(old.facts), copier.function(old.tell))


@copies(LateEntries)
def _late_entries(copier: Copier, old: LateEntries) -> LateEntries:
    return LateEntries(copier.of(old.root), copier.of(old.facts))


@copies(GeneratedFile)
def _generated_file(copier: Copier, old: GeneratedFile) -> GeneratedFile:
    """A function that the policy names belongs to the caller, and all copies call the same one."""
    new: GeneratedFile = _inode(copier, old)
    new._produce = copier.of(old._produce) if isinstance(old._produce, LateText) else old._produce
    new._sized, new._last = old._sized, old._last
    return new


@copies(OpenedContent)
def _snapshot(copier: Copier, old: OpenedContent) -> OpenedContent:
    return copier.plain(old, superblock=copier.of(old.superblock), _origin=copier.of(old._origin))


@copies(ComputedSymlink)
def _computed_symlink(copier: Copier, old: ComputedSymlink) -> ComputedSymlink:
    new: ComputedSymlink = _inode(copier, old)
    new._compute = copier.of(old._compute)
    return new


@copies(FdDirectory)
def _fd_directory(copier: Copier, old: FdDirectory) -> FdDirectory:
    new: FdDirectory = _inode(copier, old)
    new._facts, new.name = copier.of(old._facts), old.name
    copier.later(_fill_fd_directory, old, new)
    return new


def _fill_fd_directory(copier: Copier, old: FdDirectory, new: FdDirectory) -> None:
    new.parent = copier.of(old.parent)


@copies(FdLink)
def _fd_link(copier: Copier, old: FdLink) -> FdLink:
    new: FdLink = _inode(copier, old)
    new._facts, new._fd = copier.of(old._facts), old._fd
    return new


@copies(NoTerminal)
def _no_terminal(copier: Copier, old: NoTerminal) -> NoTerminal:
    return copier.plain(old, superblock=copier.of(old.superblock))


@copies(MemoryDevice)
def _memory_device(copier: Copier, old: MemoryDevice) -> MemoryDevice:
    return copier.plain(old, superblock=copier.of(old.superblock), produce=copier.function(old.produce))


@copies(StandardStream)
@copies(TerminalDevice)
def _standard_stream(copier: Copier, old: StandardStream) -> StandardStream:
    of = copier.of
    return copier.plain(old, superblock=of(old.superblock), source=of(old.source), sink=of(old.sink))


# --- streams ----------------------------------------------------------------------------------------------------------


@copies(Buffer)
def _buffer(copier: Copier, old: Buffer) -> Buffer:
    return copier.plain(old, data=old.data[old.start :], start=0, _changes=copier.of(old._changes))


@copies(PipeNode)
def _pipe_node(copier: Copier, old: PipeNode) -> PipeNode:
    new: PipeNode = _inode(copier, old)
    new.buffer = copier.of(old.buffer)
    return new


@copies(SocketNode)
@copies(AnonymousNode)
def _anonymous_node(copier: Copier, old: Inode) -> Any:
    return _inode(copier, old)


# --- open descriptions ------------------------------------------------------------------------------------------------


def description(copier: Copier, old: OpenFile, *links: str, **replaced: Any) -> Any:
    """Returns a copy of an open file description.

    links: names of fields that hold objects which are copied too.
    """
    of = copier.of
    location: tuple[Directory, bytes] | None = None
    if old.location is not None:
        location = of(old.location[0]), old.location[1]
    on_close = frozenset(copier.function(forget) for forget in old.on_close)
    replaced.update({name: of(getattr(old, name)) for name in links})
    return copier.plain(old, node=of(old.node), location=location, on_close=on_close, **replaced)


def _with(*links: str) -> How:
    return lambda copier, old: description(copier, old, *links)


copies(PathOpenFile)(_with())
copies(RegularOpenFile)(_with("_file"))
copies(HostOpenFile)(_with("_file"))
copies(OverlayOpenFile)(_with("_file", "_lower", "_overlay"))
copies(MemoryDeviceFile)(_with("_device"))
copies(StandardFile)(_with("_stream"))
copies(PipeEnd)(_with("_buffer", "_pipe"))
copies(PairEnd)(_with("_incoming", "_outgoing"))
copies(EventFile)(_with())


@copies(DirectoryOpenFile)
def _directory_open_file(copier: Copier, old: DirectoryOpenFile) -> Any:
    of, mounted, snapshot = copier.of, old._mounted, old._snapshot
    return description(
        copier, old, "_above", "_directory", "_listings",
        _mounted=of(mounted) if copier.has(mounted) else {name: of(node) for name, node in mounted.items()},
        _snapshot=None if snapshot is None else list(snapshot), _listing=None,
    )  # fmt: skip


@copies(DescriptorTable)
def _descriptor_table(copier: Copier, old: DescriptorTable) -> DescriptorTable:
    files: dict[int, OpenFile] = {}
    copier.later(_fill_descriptor_table, old._files, files)
    return copier.plain(old, _files=files, _cloexec=set(old._cloexec))


def _fill_descriptor_table(copier: Copier, old: dict[int, OpenFile], new: dict[int, OpenFile]) -> None:
    new.update({fd: copier.of(file) for fd, file in old.items()})


__all__ = ["Copier", "copies", "description", "is_known", "shares"]
