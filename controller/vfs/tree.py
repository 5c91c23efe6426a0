"""The tree of a box: its mounts, and the only place where a guest's path is walked.

Rules: a path is walked with the caller's credentials, and only in the virtual tree; the target of a symlink is walked
like any other path. Each call has a limited number of steps (`steps`). Results are kept only for absolute paths whose
every step is stable, and all of them are dropped when the namespace or a permission changes.
"""

from __future__ import annotations

import errno

from proxybox.controller.abi import NAME_MAX, PATH_MAX, X_OK
from proxybox.controller.costs.steps import Steps
from proxybox.controller.vfs.memory import MemoryDirectory
from proxybox.controller.vfs.nodes import Credentials, Directory, Node, Superblock, Symlink
from proxybox.controller.vfs.openfiles import Listings

MAX_SYMLINKS = 40
MAX_CACHED = 20_000
MAX_CACHED_PATH = 256
"""Longer paths are walked each time. If they were kept, a box could fill the controller's memory with them."""
_SLASH = 0x2F


class Tree:
    """All that a box can see.

    root: the directory at "/"; by default an empty one in memory. listings: the entries that the open directories of
    the box store. steps: the steps that one call of the box may take.
    """

    __slots__ = ("_above", "_cached_for", "_failed", "_followed", "_mounts", "_unfollowed", "listings", "root", "steps")

    def __init__(self, root: Directory | None = None, steps: Steps | None = None) -> None:
        self.root: Directory = root or MemoryDirectory(Superblock())
        self._mounts: dict[Directory, dict[bytes, Node]] = {}
        self._above: dict[Directory, tuple[Directory, bytes]] = {}
        self._followed: dict[bytes, Node | int] = {}
        self._unfollowed: dict[bytes, Node | int] = {}
        self._cached_for: Credentials | None = None
        self.listings = Listings()
        self.steps = steps or Steps()
        self._adopt(self.root)

    def _adopt(self, node: Node) -> None:
        """Lets the filesystem of `node` use this tree's `forget` and `steps`, unless several boxes share it."""
        if not node.superblock.shared:
            node.superblock.forget = self.forget
            node.superblock.steps = self.steps

    # --- mounts ---

    def mount(self, target: bytes, node: Node) -> None:
        """Mounts `node` at an absolute path, and makes missing folders on the way in memory.

        A later mount at the same place covers the earlier one. Raises ValueError when `target` is not an absolute path,
        or when the same directory is already mounted elsewhere.
        """
        parts = [part for part in target.split(b"/") if part]
        if not target.startswith(b"/") or b".." in parts or b"." in parts:
            raise ValueError(f"not an absolute path: {target!r}")
        if node in self._above:
            raise ValueError(f"mounted twice, the second time at {target!r}")
        self._adopt(node)
        self.forget()
        if not parts:
            if not isinstance(node, Directory):
                raise ValueError("only a directory can be mounted at /")
            self.root = node
            return
        directory = self._make_way(parts[:-1])
        self._mounts.setdefault(directory, {})[parts[-1]] = node
        if isinstance(node, Directory):
            self._above[node] = (directory, parts[-1])

    def _make_way(self, parts: list[bytes]) -> Directory:
        directory = self.root
        for name in parts:
            node = self._mounts.get(directory, {}).get(name)
            if node is None:
                try:
                    node = directory.lookup(name)
                except OSError as error:
                    if error.errno != errno.ENOENT:
                        raise
                    node = self._way_station(directory, name)
            if not isinstance(node, Directory):
                raise ValueError(f"not a directory on the way to a mount: {name!r}")
            directory = node
        return directory

    def _way_station(self, directory: Directory, name: bytes) -> Directory:
        """Makes a folder that only leads to a mount: an entry in a memory directory, a mount in any other."""
        superblock = directory.superblock
        if isinstance(directory, MemoryDirectory) and type(directory) is MemoryDirectory:
            return directory.mkdir(name, 0o755, Credentials(directory.uid, directory.gid))
        station = MemoryDirectory(Superblock(uid=superblock.uid, gid=superblock.gid, now=superblock.now))
        station.superblock.read_only = True
        self._adopt(station)
        self._mounts.setdefault(directory, {})[name] = station
        self._above[station] = (directory, name)
        return station

    def mounts(self) -> list[tuple[bytes, Node]]:
        """All mounts with their paths, the root first, for /proc/mounts."""
        found: list[tuple[bytes, Node]] = [(b"/", self.root)]
        for directory, names in self._mounts.items():
            base = self.path_of(directory).rstrip(b"/")
            found += [(base + b"/" + name, node) for name, node in names.items()]
        return found

    def mounted_in(self, directory: Directory) -> dict[bytes, Node]:
        """The names in `directory` on which something is mounted, with the mounted nodes."""
        return self._mounts.get(directory, {})

    def is_mountpoint(self, directory: Directory, name: bytes) -> bool:
        """Whether something is mounted on that name. If so, it cannot be removed or renamed (EBUSY)."""
        return name in self._mounts.get(directory, {})

    # --- steps ---

    def lookup(self, directory: Directory, name: bytes) -> Node:
        """One step down: the entry of that name, or what is mounted on it. Raises ENOENT, ENAMETOOLONG."""
        if len(name) > NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "a name of more than 255 bytes")
        mounted = self._mounts.get(directory)
        if mounted is not None:
            node = mounted.get(name)
            if node is not None:
                return node
        return directory.lookup(name)

    def parent_of(self, directory: Directory) -> Directory:
        """One step up, which may lead out of a mount; the root is its own parent."""
        above = self._above.get(directory)
        if above is not None:
            return above[0]
        return directory.parent or directory

    def path_of(self, directory: Directory) -> bytes:
        """The absolute path of a directory, for getcwd(2). Raises ENOENT when it was removed, ENAMETOOLONG."""
        names: list[bytes] = []
        step, size = directory, 1
        while step is not self.root:
            if step.is_removed():
                raise OSError(errno.ENOENT, "the directory was removed")
            above = self._above.get(step)
            if above is not None:
                step, name = above
            elif step.parent is not None:
                name, step = step.name, step.parent
            else:
                raise OSError(errno.ENOENT, "the directory is not in the tree")
            names.append(name)
            size += len(name) + 1
            if size > PATH_MAX:
                raise OSError(errno.ENAMETOOLONG, "too deep a directory")
        return b"/" + b"/".join(reversed(names))

    # --- walking ---

    def forget(self) -> None:
        """Drops the kept results. Called when an entry was made, renamed or removed, or when its mode changed."""
        if self._followed:
            self._followed.clear()
        if self._unfollowed:
            self._unfollowed.clear()

    def resolve(self, path: bytes, start: Directory, creds: Credentials, *, follow: bool = True) -> Node:
        """The node at `path`, seen from `start`; `follow` says whether a final symlink is followed.

        Raises ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EACCES as path_resolution(7) says.
        """
        cache = self._followed if follow else self._unfollowed
        found = cache.get(path)
        if found is not None and creds is self._cached_for:
            if found.__class__ is int:
                raise OSError(found, "kept")
            return found  # type: ignore[return-value]
        stable = path[:1] == b"/"
        try:
            node, stable = self._walk(path, start, creds, follow, stable)
        except _Unfound as error:
            if error.stable:
                self._keep(cache, path, creds, error.errno or errno.ENOENT)
            raise OSError(error.errno, error.strerror) from None
        if stable:
            self._keep(cache, path, creds, node)
        return node

    def is_kept(self, path: bytes, follow: bool) -> bool:
        """Whether the result that `resolve` has just returned is stored until `forget` is called."""
        return path in (self._followed if follow else self._unfollowed)

    def _keep(self, cache: dict[bytes, Node | int], path: bytes, creds: Credentials, found: Node | int) -> None:
        if len(path) > MAX_CACHED_PATH:
            return
        if creds is not self._cached_for or len(cache) >= MAX_CACHED:
            self.forget()
            self._cached_for = creds
        cache[path] = found

    def resolve_parent(self, path: bytes, start: Directory, creds: Credentials) -> tuple[Directory, bytes, bool]:
        """The directory that holds the last name of `path`, that name, and whether slashes follow the name.

        The name may be b"." or b".."; it is b"" when the path is the root itself. Raises the errors of `resolve`, and
        EACCES also when the directory gives no search permission.
        """
        _check_path(path)
        stripped = path.rstrip(b"/")
        if not stripped:
            return self.root, b"", True
        head, slash, name = stripped.rpartition(b"/")
        directory: Node = start
        if slash:
            directory = self.resolve(head + b"/", start, creds)
        if not isinstance(directory, Directory):
            raise OSError(errno.ENOTDIR, "not a directory")
        if not directory.permits(creds, X_OK):
            raise OSError(errno.EACCES, "no search permission")
        return directory, name, len(stripped) < len(path)

    def _walk(self, path: bytes, start: Directory, creds: Credentials, follow: bool, stable: bool) -> tuple[Node, bool]:
        _check_path(path)
        current: Node = self.root if path[0] == _SLASH else start
        must_be_directory = path[-1] == _SLASH
        names = _names(path)
        self.steps.take(len(names))
        links = 0
        mounts = self._mounts
        while names:
            name = names.pop()
            if not isinstance(current, Directory):
                raise _Unfound(errno.ENOTDIR, "not a directory", stable)
            if not current.permits(creds, X_OK):
                raise OSError(errno.EACCES, "no search permission")
            if name == b".":
                continue
            if name == b"..":
                current = self.parent_of(current)
                continue
            if len(name) > NAME_MAX:
                raise OSError(errno.ENAMETOOLONG, "a name of more than 255 bytes")
            stable = stable and current.stable
            mounted = mounts.get(current)
            node = mounted.get(name) if mounted else None
            if node is None:
                try:
                    node = current.lookup(name)
                except OSError as error:
                    if error.errno == errno.ENOENT:
                        raise _Unfound(errno.ENOENT, "no such entry", stable) from None
                    raise
            if isinstance(node, Symlink) and (follow or must_be_directory or names):
                links += 1
                if links > MAX_SYMLINKS:
                    raise OSError(errno.ELOOP, "too many symbolic links")
                jump = node.jump()
                if jump is not None:
                    current, stable = jump, False
                    continue
                stable = stable and node.stable
                target = node.target
                if not target:
                    raise OSError(errno.ENOENT, "an empty symbolic link")
                if target[0] == _SLASH:
                    current = self.root
                if target[-1] == _SLASH and not names:
                    must_be_directory = True
                further = _names(target)
                self.steps.take(len(further) + 1)
                names += further
                continue
            current = node
        if must_be_directory and not isinstance(current, Directory):
            raise _Unfound(errno.ENOTDIR, "not a directory", stable)
        return current, stable


def _names(path: bytes) -> list[bytes]:
    """The names of a path, the last one first."""
    names = [*filter(None, path.split(b"/"))]
    names.reverse()
    return names


class _Unfound(OSError):
    """ENOENT or ENOTDIR; `stable` says whether the same path would fail in the same way the next time."""

    def __init__(self, code: int, why: str, stable: bool) -> None:
        super().__init__(code, why)
        self.stable = stable


def _check_path(path: bytes) -> None:
    if not path:
        raise OSError(errno.ENOENT, "an empty path")
    if len(path) >= PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "a path of more than 4095 bytes")
