"""Whether the symbolic links of a commit lead out of its folder.

Rules: all links of a commit share one budget of steps, whatever their texts are. A text must be relative, may have `..`
only at its beginning, and may lead up no further than to the folder that is committed to; and it may not lead to a name
that is hidden from the box. The same holds for every link that it leads through. Where a commit makes or removes links,
the folder may contain no link with `..` behind a name, because the commit could change what that link means.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as st
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.host.links import goes_up_behind_a_name, names_in, steps_up
from proxybox.controller.vfs.overlay.changes import Change

MAX_LINKS: Final = 40
MAX_STEPS: Final = 2_000_000
"""The budget: a name costs 1, or 16 and its depth when it must be looked up on the host. About two seconds in all."""
MAX_STANDING: Final = 500_000
"""How many entries of the folder are searched for links with `..` behind a name."""

_ENDS: Final = b""  # stands for a file or for nothing; no link has this text


class TooManySteps(Exception):
    """The budget is used up."""


class LinkWalk:
    """The links of one commit. coming, deleted: its changes by path. hides: which names were hidden from the box."""

    def __init__(
        self,
        root: boundary.HostRoot,
        coming: Mapping[bytes, Change],
        deleted: Mapping[bytes, Change],
        hides: Callable[[bytes], bool],
    ) -> None:
        self._root = root
        self._coming = coming
        self._deleted = deleted
        self._hides = hides
        self._found: dict[bytes, bytes | None] = {}
        self.steps = 0

    def refusals(self) -> list[str]:
        """One line for each link that must not be made."""
        reasons = []
        try:
            for change in self._coming.values():
                if change.type == "symlink" and (why := self.refusal(change)):
                    reasons.append(f"{change.name}: {why}")
        except TooManySteps:
            reasons.append("its links lead through too many names to follow them all")
        if any(change.type == "symlink" for change in (*self._coming.values(), *self._deleted.values())):
            reasons += self._standing()
        return reasons

    def refusal(self, change: Change) -> str | None:
        """Why the link must not be made; None when it may. Raises TooManySteps."""
        here = change.path.split(b"/")[:-1]
        pending: list[bytes] = []
        text: bytes | None = change.target or b"/"
        for _ in range(MAX_LINKS + 1):
            if text is None:
                return None
            self._pay(len(text) // 2 + 1)
            if goes_up_behind_a_name(text):
                return "a symbolic link with .. behind a name, or one that leads to such a link"
            ups = steps_up(text)
            if text[:1] == b"/" or ups > len(here):
                return "a symbolic link that leads out of the folder"
            names = names_in(text)
            if any(map(self._hides, names)):
                return "a symbolic link that leads to a name that is hidden from the box"
            del here[len(here) - ups :]
            pending.extend(reversed(names))
            text = self._next_link(here, pending)
        return None  # it leads nowhere: the kernel follows no more links than that

    def _next_link(self, here: list[bytes], pending: list[bytes]) -> bytes | None:
        """Walks down to the folder of the next link, and returns that link's text; None when there is none."""
        while pending:
            here.append(pending.pop())
            self._pay(1)
            text = self._text_at(here)
            if text == _ENDS:
                return None  # no `..` can follow, so the rest does not matter
            if text is not None:
                here.pop()
                return text
        return None

    def _text_at(self, here: list[bytes]) -> bytes | None:
        """The text of the link there; None for a folder, _ENDS for anything else."""
        path = b"/".join(here)
        change = self._coming.get(path)
        if change is not None:
            return (change.target or _ENDS) if change.type == "symlink" else None if change.type == "dir" else _ENDS
        if path in self._deleted or self._is_in_new_folder(path):
            return _ENDS
        if path not in self._found:
            self._pay(16 + len(here))
            self._found[path] = self._text_on_host(path)
        return self._found[path]

    def _is_in_new_folder(self, path: bytes) -> bool:
        """Whether `path` is in a folder that the commit adds. Then no entry of the host is visible there."""
        above = self._coming.get(path.rpartition(b"/")[0])
        return above is not None and above.type == "dir" and above.kind == "added"

    def _text_on_host(self, path: bytes) -> bytes | None:
        try:
            with self._root.path_fd(path) as fd:
                kind = st.S_IFMT(os.fstat(fd).st_mode)
                if kind == st.S_IFLNK:
                    return os.readlink(b"", dir_fd=fd)
                return None if kind == st.S_IFDIR else _ENDS
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                return _ENDS
            return b"/refused"  # another filesystem, or it cannot be looked at: treated like a link that leads out

    def _pay(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise TooManySteps

    def _standing(self) -> Iterable[str]:
        """Refusals for links on the host whose meaning depends on names that this commit may change."""
        left, searched = [b""], 0
        while left:
            folder = left.pop()
            entries: list[tuple[bytes, int]] = []
            with contextlib.suppress(OSError):  # the caller may not look at it, or it is on another filesystem
                entries = self._root.kinds(folder, MAX_STANDING - searched)
            searched += len(entries)
            if searched > MAX_STANDING:
                yield f"it changes links, and the folder has more than {MAX_STANDING} entries, any of which may be one"
                return
            for name, kind in entries:
                path = folder + b"/" + name if folder else name
                if path in self._deleted:
                    continue
                if kind == st.S_IFDIR:
                    left.append(path)
                elif kind == st.S_IFLNK and path not in self._coming and goes_up_behind_a_name(self._text(path)):
                    yield f"{os.fsdecode(path)}: this link has .. behind a name, so that other links may not change"

    def _text(self, path: bytes) -> bytes:
        with contextlib.suppress(OSError):
            return self._root.read_link(path)
        return b""
