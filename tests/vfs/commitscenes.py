"""Helpers for tests of commits: overlays over host folders, states of trees, hosts with failing calls, interrupted
commits.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from proxybox.controller.abi import RENAME_EXCHANGE
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.commits import apart
from proxybox.controller.vfs.commits.committing import Target, commit
from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.host.mount import HostMount
from proxybox.controller.vfs.nodes import Credentials, Directory, Superblock, Symlink
from proxybox.controller.vfs.overlay.changes import Change
from proxybox.controller.vfs.overlay.collecting import ChangesBudget, changes_of
from proxybox.controller.vfs.overlay.mount import OverlayMount
from proxybox.controller.vfs.quota import Quota
from proxybox.controller.vfs.tree import Tree

State = dict[str, tuple[str, int, bytes]]
"""What stands at each path: kind, mode, contents or link text."""

CALLS = {
    os: ("chmod", "fchmod", "fsync", "ftruncate", "link", "mkdir", "rename", "rmdir", "symlink", "unlink", "write"),
    boundary: ("create_file", "rename"),
}
"""Everything by which a commit changes the host, its journal included."""


@contextmanager
def overlay_over(folder: Path, **options: bool) -> Iterator[OverlayMount]:
    mount = HostMount(str(folder), Superblock(uid=1000, gid=1000), hide_dotfiles=options.get("hide_dotfiles", True))
    assert isinstance(mount.root, Directory)
    try:
        yield OverlayMount(mount.root, Superblock(uid=1000, gid=1000, quota=Quota(bytes=16 << 20)))
    finally:
        mount.close()


def commit_overlay(overlay: OverlayMount, changes: Sequence[Change] | None = None) -> list[Change]:
    """Writes changes, by default all, to the host folder below."""
    assert overlay.host is not None
    budget = ChangesBudget.of(overlay.superblock.quota)
    wanted = changes_of(overlay, budget=budget) if changes is None else changes
    return commit([Target(overlay.host.host, wanted, overlay.host.hides, budget.left_out)])


def on_host(folder: Path) -> State:
    """The state of a host folder, with hidden names and a commit's own folder."""
    found: State = {}
    _look(folder, "", found)
    return found


def _look(folder: Path, where: str, found: State) -> None:
    for name in os.listdir(folder):
        path, key = folder / name, where + name
        seen = path.lstat()
        mode = stat.S_IMODE(seen.st_mode)
        if stat.S_ISLNK(seen.st_mode):
            found[key] = "link", 0o777, os.fsencode(os.readlink(path))
            continue
        path.chmod(mode | 0o700)  # whatever mode the box has set
        try:
            if stat.S_ISDIR(seen.st_mode):
                found[key] = "folder", mode, b""
                _look(path, key + "/", found)
            else:
                found[key] = "file", mode, path.read_bytes()
        finally:
            path.chmod(mode)


def in_box(overlay: OverlayMount) -> State:
    """The state of the overlay as the box sees it."""
    found: State = {}
    left: list[tuple[str, Directory]] = [("", overlay.root)]
    while left:
        where, directory = left.pop()
        for name, _, _ in directory.entries():
            node, key = directory.lookup(name), where + os.fsdecode(name)
            if isinstance(node, Directory):
                found[key] = "folder", node.stat().mode & 0o7777, b""
                left.append((key + "/", node))
            elif isinstance(node, Symlink):
                found[key] = "link", 0o777, node.target
            else:
                found[key] = "file", node.stat().mode & 0o7777, node.whole()  # type: ignore[attr-defined]
    return found


@contextmanager
def each_call(before: Callable[[int], None]) -> Iterator[list[int]]:
    """Calls `before` with the number of each call that changes the host, before the call. Yields a list with the
    count.
    """
    count = [0]

    def watched(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            count[0] += 1
            before(count[0])
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, names in CALLS.items():
            for name in names:
                patch.setattr(module, name, watched(getattr(module, name)))
        yield count


def failing_at(number: int, code: int = errno.EIO) -> Callable[[int], None]:
    def before(count: int) -> None:
        if count == number:
            raise OSError(code, os.strerror(code))

    return before


def failing_from(number: int) -> Callable[[int], None]:
    def before(count: int) -> None:
        if count >= number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return before


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Does the work in a process that is killed before its call of that number. Returns whether there was such a
    call.
    """
    pid = os.fork()
    if pid == 0:
        try:

            def before(count: int) -> None:
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            with each_call(before):
                work()
            os._exit(0)
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


class Guest:
    """Calls of a program in the box, by paths below the overlay. The box may refuse them."""

    def __init__(self, overlay: OverlayMount) -> None:
        self._tree = Tree(overlay.root)
        self._start = overlay.root
        self._me = Credentials(1000, 1000)
        self._written = 0
        self.umask = 0

    def __call__(self, name: str, *arguments: Any) -> int:
        """Makes the call `name`. Returns 0, or the errno."""
        try:
            getattr(self, name)(*(os.fsencode(each) if isinstance(each, str) else each for each in arguments))
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def write(self, path: bytes) -> None:
        """Writes contents that no other file has."""
        self._written += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        file = namei.open_file(self._tree, path, self._start, self._me, flags, 0o644)
        file.write(b"written %d in the box" % self._written)
        file.close()

    def create(self, path: bytes, mode: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        namei.open_file(self._tree, path, self._start, self._me, flags, mode, self.umask).close()

    def mkdir(self, path: bytes, mode: int = 0o755) -> None:
        namei.mkdir(self._tree, path, self._start, self._me, mode, self.umask)

    def rmdir(self, path: bytes) -> None:
        namei.rmdir(self._tree, path, self._start, self._me)

    def unlink(self, path: bytes) -> None:
        namei.unlink(self._tree, path, self._start, self._me)

    def symlink(self, text: bytes, path: bytes) -> None:
        namei.symlink(self._tree, text, path, self._start, self._me)

    def link(self, old: bytes, new: bytes) -> None:
        node = self._tree.resolve(old, self._start, self._me, follow=False)
        namei.link(self._tree, node, new, self._start, self._me)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        namei.rename(self._tree, old, self._start, new, self._start, self._me, flags)

    def chmod(self, path: bytes, mode: int) -> None:
        namei.chmod(self._tree.resolve(path, self._start, self._me), self._me, mode)


def populate(folder: Path, tree: list[tuple[str, str]]) -> None:
    """Makes the (kind, path) pairs of a tree where possible.

    A pair that does not fit to earlier ones is skipped. In a "closed" folder nothing can be changed.
    """
    for number, (kind, name) in enumerate(tree):
        path = folder / name
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind in ("folder", "closed"):
                path.mkdir(exist_ok=kind == "closed")
            elif kind == "link":
                path.symlink_to(os.path.basename(name))
            else:
                with path.open("x") as file:
                    file.write(f"content {number} of the host's")
    for kind, name in reversed(tree):
        if kind == "closed" and (folder / name).is_dir() and not (folder / name).is_symlink():
            (folder / name).chmod(0o555)


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Runs the block as another user than root, to whom permissions apply."""
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextmanager
def lower_layer(folder: Path) -> Iterator[None]:
    """Acts like overlayfs: folders of a lower layer, which are all those that exist now, cannot be moved."""
    lower = {(os.lstat(folder).st_dev, os.lstat(path).st_ino) for path, _, _ in os.walk(folder)}
    rename = boundary.rename

    def is_lower(fd: int, name: bytes) -> bool:
        with suppress(OSError):
            seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
            return stat.S_ISDIR(seen.st_mode) and (seen.st_dev, seen.st_ino) in lower
        return False

    def moved(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int) -> None:
        if is_lower(old_fd, old) or (flags & RENAME_EXCHANGE and is_lower(new_fd, new)):
            raise OSError(errno.EXDEV, "refused by the host")
        rename(old_fd, old, new_fd, new, flags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boundary, "rename", moved)
        patch.setattr(boundary, "filesystem_type", lambda fd: apart.OVERLAYFS)
        yield
