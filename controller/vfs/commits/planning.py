"""Plans a commit: which places of the host's folder change, and whether each may.

Rules: nothing is written here, and every reason against the commit is found before anything is written. A commit may
remove only what the box was shown: a folder that holds more is refused. A change within an added or deleted folder is
made together with that folder, in one step.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as st
from collections.abc import Callable, Sequence

import attrs

from proxybox.controller.vfs.commits.leading import LinkWalk
from proxybox.controller.vfs.commits.refusals import CommitRefused
from proxybox.controller.vfs.host import attributes, boundary
from proxybox.controller.vfs.overlay.changes import Change, Origin

OWN_PREFIX = b".proxybox-commit-"
"""How the name of the folder begins in which a commit is staged."""


@attrs.frozen
class Unit:
    """One place: the entry that is taken away from it, and the entry that comes there.

    below, gone: the changes in the folder that comes, and in the folder that is taken away.
    """

    path: bytes
    old: Change | None
    new: Change | None
    below: tuple[Change, ...] = ()
    gone: tuple[Change, ...] = ()


@attrs.frozen
class CommitPlan:
    """What a commit does.

    modes: the changed modes of folders that exist and stay. written: all changes that are made. hides: which names the
    box was not shown.
    """

    units: tuple[Unit, ...]
    modes: tuple[Change, ...]
    written: tuple[Change, ...]
    hides: Callable[[bytes], bool]


def plan(root: boundary.HostRoot, wanted: Sequence[Change], hides: Callable[[bytes], bool]) -> CommitPlan:
    """The plan for writing these changes to a folder. hides: names the box was not shown. Raises CommitRefused."""
    planner = _Planner(root, hides, wanted)
    planner.check()
    units, modes = planner.arrange()
    if planner.reasons:
        raise CommitRefused(planner.reasons)
    return CommitPlan(units, modes, tuple(wanted), hides)


class _Planner:
    def __init__(self, root: boundary.HostRoot, hides: Callable[[bytes], bool], wanted: Sequence[Change]) -> None:
        self.root = root
        self.hides = hides
        self.wanted = wanted
        self.deleted = {change.path: change for change in wanted if change.kind == "deleted"}
        self.coming = {change.path: change for change in wanted if change.kind != "deleted"}
        self.reasons: list[str] = []
        self._folders: dict[bytes, bool] = {}

    def refuse(self, change: Change, why: str) -> None:
        self.reasons.append(f"{change.name}: {why}")

    # --- each change ---

    def check(self) -> None:
        """Checks each change by itself, and then all links together."""
        for change in self.wanted:
            parts = change.path.split(b"/")
            if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
                self.refuse(change, "not a path inside the folder")
            elif any(part.startswith(OWN_PREFIX) for part in parts):
                self.refuse(change, "belongs to a commit that is not finished, or is its backup")
            elif change.type == "file" and change.kind != "deleted" and change.content is None:
                self.refuse(change, "too large to be kept, or not to be read")
            elif change.kind != "added":
                self._look(change)
        walk = LinkWalk(self.root, self.coming, self.deleted, self.hides)
        self.reasons += walk.refusals()

    def _look(self, change: Change) -> None:
        """Checks that a change's place holds what the box was shown: nothing, for an added entry."""
        try:
            found = look(self.root, change.path)
        except OSError as error:
            self.refuse(change, error.strerror or "cannot be looked at")
            return
        if change.kind == "added":
            if found is not None and change.path not in self.deleted:
                self.refuse(change, "appeared on the host meanwhile")
        elif found is None:
            self.refuse(change, "vanished from the host meanwhile")
        elif not is_still(self.root, change, found):
            self.refuse(change, "changed on the host meanwhile")

    def _look_at_folder(self, change: Change) -> None:
        """Checks that a new entry inherits the default ACL that the review has shown."""
        if change.like is not None or change.type == "symlink":
            return
        try:
            with self.root.directory_fd(_folder(change.path)) as fd:
                if attributes.default_acl(fd) == change.default:
                    return
        except OSError as error:
            self.refuse(change, error.strerror or "its folder cannot be looked at")
            return
        self.refuse(change, "the default ACL of its folder was changed on the host meanwhile")

    # --- all together ---

    def arrange(self) -> tuple[tuple[Unit, ...], tuple[Change, ...]]:
        """The places that change, and the folders whose mode changes."""
        below: dict[bytes, list[Change]] = {}
        inside: dict[bytes, bytes] = {}  # added folders, and for each the topmost added folder that contains it
        modes: list[Change] = []
        for path, change in sorted(self.coming.items()):
            top = inside.get(_folder(path))
            if top is not None:
                below[top].append(change)
            elif not self._is_folder(_folder(path)):
                self.refuse(change, "its folder is not there any more")
                below[path] = []
            elif change.type == "dir" and change.kind == "modified":
                modes.append(change)
            else:
                below[path] = []
                if change.kind == "added":
                    self._look(change)
                    self._look_at_folder(change)
            if change.type == "dir" and change.kind == "added":
                inside[path] = path if top is None else top
        taken = self._taken()
        for gone in taken.values():
            if gone[0].type == "dir":
                self.reasons += unshown(self.root, gone, self.hides)
        units = [
            Unit(
                path, self._old(path), self.coming.get(path), tuple(below.get(path, ())), tuple(taken.get(path, ())[1:])
            )
            for path in sorted({*below, *taken})
        ]
        return tuple(units), tuple(modes)

    def _taken(self) -> dict[bytes, list[Change]]:
        """The deletions by their topmost path: first the change of that path, then the changes within it."""
        taken: dict[bytes, list[Change]] = {}
        inside: dict[bytes, bytes] = {}
        for path, change in sorted(self.deleted.items()):
            top = inside[path] = inside.get(_folder(path), path)
            taken.setdefault(top, []).append(change)
        return taken

    def _old(self, path: bytes) -> Change | None:
        new = self.coming.get(path)
        return new if new is not None and new.kind == "modified" else self.deleted.get(path)

    def _is_folder(self, path: bytes) -> bool:
        """Whether a folder exists there now, and stays."""
        if path not in self._folders:
            found = None
            with contextlib.suppress(OSError):  # the caller may not look at it any more
                found = None if path in self.deleted else look(self.root, path)
            self._folders[path] = found is not None and st.S_ISDIR(found.st_mode)
        return self._folders[path]


def unshown(root: boundary.HostRoot, gone: Sequence[Change], hides: Callable[[bytes], bool]) -> list[str]:
    """Why a folder must not be removed: entries not shown to the box. gone: the folder, and all deletions in it."""
    top, known = gone[0], {change.path for change in gone}
    reasons: list[str] = []
    left, unseen = [top.path], 0
    while left:
        here = left.pop()
        try:
            entries = root.kinds(here, boundary.MAX_ENTRIES)
        except OSError as error:
            return [*reasons, f"{top.name}: cannot be looked through: {error.strerror}"]
        if len(entries) > boundary.MAX_ENTRIES:
            return [*reasons, f"{top.name}: a folder in it has more than {boundary.MAX_ENTRIES} entries"]
        for name, kind in entries:
            path = here + b"/" + name
            if path in known:
                if kind == st.S_IFDIR:
                    left.append(path)
            elif hides(name) or not kind:
                unseen += 1
            else:
                where = os.fsdecode(path[len(top.path) + 1 :])
                reasons.append(f"{top.name}: {where} in it appeared on the host meanwhile, or was not shown to the box")
    if unseen:
        what = "entry that is" if unseen == 1 else "entries that are"
        reasons.append(f"{top.name}: holds {unseen} {what} hidden from the box, and would go with it")
    return reasons


def _folder(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def look(root: boundary.HostRoot, path: bytes) -> os.stat_result | None:
    """The status of the entry at a path; of a link itself, not its target. None when there is no entry."""
    try:
        return root.look(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def is_still(root: boundary.HostRoot, change: Change, found: os.stat_result) -> bool:
    """Whether the entry with the status `found` is what the box was shown, with its owner, mode and attributes."""
    shown = change.origin
    try:
        with root.path_fd(change.path) as fd:
            now = Origin.at(fd)
    except OSError:  # it was removed, or may no longer be looked at
        return False
    if (now.dev, now.ino) != (found.st_dev, found.st_ino):
        return False
    if change.type == "dir":  # size and time depend on the folder's entries, which are checked one by one
        like = shown and attrs.evolve(shown, size=now.size, mtime_ns=now.mtime_ns)
        return st.S_ISDIR(found.st_mode) and like in (None, now)
    return shown == now
