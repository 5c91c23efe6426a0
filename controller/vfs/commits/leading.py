"""Whether the symbolic links of a commit lead out of its folder.

Rules: one budget of steps for all links of a commit, whatever they say. A text is relative, has `..` at its beginning
only, and leads up no further than its folder lies deep; so does every link that it leads through. Where a commit makes
or removes links, none with `..` behind a name may stand in the folder: what that means would be the commit's to say.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as st
from collections.abc import Iterable, Mapping
from typing import Final

from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.host.links import goes_up_behind_a_name, steps_up
from proxybox.controller.vfs.overlay.changes import Change

MAX_LINKS: Final = 40
MAX_STEPS: Final = 2_000_000
"""A name costs 1, one that must be looked up on the host 16 and its depth: about two seconds in all."""
MAX_STANDING: Final = 500_000
"""How many entries of the folder are looked through for links with `..` behind a name."""

_ENDS: Final = b""  # no link has this text: a file, or nothing


class TooManySteps(Exception):
    """The budget is used up."""


class LinkWalk:
    """The links of one commit. coming, deleted: its changes by path."""

    def __init__(
        self, root: boundary.HostRoot, coming: Mapping[bytes, Change], deleted: Mapping[bytes, Change]
    ) -> None:
        self._root = root
        self._coming = coming
        self._deleted = deleted
        self._found: dict[bytes, bytes | None] = {}
        self.steps = 0

    def refusals(self) -> list[str]:
        """One line for each link that is not to be made."""
        reasons = []
        try:
            for change in self._coming.values():
                if change.type == "symlink" and (why := self._refusal(change)):
                    reasons.append(f"{change.name}: {why}")
        except TooManySteps:
            reasons.append("its links lead through too many names to follow them all")
        if any(change.type == "symlink" for change in (*self._coming.values(), *self._deleted.values())):
            reasons += self._standing()
        return reasons

    def _refusal(self, change: Change) -> str | None:
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
            del here[len(here) - ups :]
            pending.extend(name for name in reversed(text.split(b"/")) if name not in (b"", b".", b".."))
            text = self._next_link(here, pending)
        return None  # through more links than anybody follows it leads nowhere

    def _next_link(self, here: list[bytes], pending: list[bytes]) -> bytes | None:
        """Walk down, to the folder of the next link: its text. None when there is none."""
        while pending:
            here.append(pending.pop())
            self._pay(1)
            text = self._text_at(here)
            if text == _ENDS:
                return None  # behind it there is no way up, so it matters no more
            if text is not None:
                here.pop()
                return text
        return None

    def _text_at(self, here: list[bytes]) -> bytes | None:
        """The text of the link there, None for a folder."""
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
        """In the place of what stands there on the host, a link perhaps: nothing of that shows through."""
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
            return b"/refused"  # another filesystem, or not to be looked at: as a link that leads out

    def _pay(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise TooManySteps

    def _standing(self) -> Iterable[str]:
        """Links on the host whose meaning depends on names that this commit may change."""
        left, searched = [b""], 0
        while left:
            folder = left.pop()
            entries: list[tuple[bytes, int]] = []
            with contextlib.suppress(OSError):  # not the caller's to look at, or another filesystem's
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
