"""The changes of a box in an overlay, as data that no longer depends on the box."""

from __future__ import annotations

import os
import stat as st

import attrs

from proxybox.controller.vfs.host import attributes
from proxybox.controller.vfs.host.attributes import Attributes

MAX_DIFF_BYTES = 1 << 20
"""The old contents of larger files are not kept for a diff."""


@attrs.frozen(slots=True)
class Origin:
    """The version of a host file that a node represented when it was read, and what a commit keeps of it.

    mode: its permission bits and set-id bits. attributes: its extended attributes, ACLs among them. names: how many
    hard links it has, in which two versions may differ.
    """

    dev: int
    ino: int
    size: int
    mtime_ns: int
    mode: int = 0
    uid: int = 0
    gid: int = 0
    attributes: Attributes = ()
    names: int = attrs.field(default=1, eq=False)

    @classmethod
    def of(cls, seen: os.stat_result, attributes: Attributes) -> Origin:
        """Makes an Origin from what fstat(2) returned, and from the file's attributes."""
        return cls(
            seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns,
            st.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, attributes, seen.st_nlink,
        )  # fmt: skip

    @classmethod
    def at(cls, fd: int) -> Origin:
        """Makes an Origin of the file behind a descriptor of any kind."""
        return cls.of(os.fstat(fd), attributes.read(fd))


@attrs.frozen(slots=True, kw_only=True)
class Change:
    """One entry that a box has added, modified or deleted.

    name: its path below the mount, after the requested prefix; undecodable bytes as surrogates. path: the path below
    the mount, as bytes. kind: "added", "modified" or "deleted". type: "file", "dir" or "symlink". mode: the permission
    bits. content: a file's new contents. target: a link's text. old: a file's former contents, when they are at most 1
    MiB. old_mode, old_target: the permission bits and the link's text of the old entry; None without one. origin: the
    host's file that a commit expects to find there; None without one. like: the host's file whose owner and attributes
    it gets, because it replaces that file or was moved from there; None for a new entry. default: the default ACL of
    the folder in which a new entry was made; None where there is none.
    """

    name: str
    path: bytes
    kind: str
    type: str
    mode: int
    content: bytes | None = attrs.field(default=None, repr=False)
    target: bytes | None = None
    old: bytes | None = attrs.field(default=None, repr=False)
    old_mode: int | None = None
    old_target: bytes | None = None
    origin: Origin | None = attrs.field(default=None, repr=False)
    like: Origin | None = attrs.field(default=None, repr=False)
    default: bytes | None = attrs.field(default=None, repr=False)

    @property
    def attributes(self) -> Attributes:
        """The extended attributes that it gets on the host, ACLs among them."""
        if self.kind == "deleted" or self.type == "symlink":
            return ()
        if self.like is None:
            return attributes.inherited(self.default, self.mode, is_folder=self.type == "dir")
        return attributes.at_mode(attributes.once_written(self.like.attributes), self.mode)

    @property
    def old_attributes(self) -> Attributes:
        """The extended attributes of the old entry."""
        return () if self.origin is None else self.origin.attributes

    def diff(self) -> str:
        """A unified diff; for anything that is not text, a line that says so."""
        before = _lines(self.old if self.kind != "added" else b"")
        after = _lines(self.content if self.kind != "deleted" else b"")
        if self.type != "file":
            return f"{self.kind} {self.type} {self.name}\n"
        if before is None or after is None:
            return f"Binary file {self.name} {self.kind}\n"
        first = "/dev/null" if self.kind == "added" else f"a/{self.name}"
        second = "/dev/null" if self.kind == "deleted" else f"b/{self.name}"
        import difflib

        text: list[str] = []
        for line in difflib.unified_diff(before, after, first, second):
            text.append(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n")
        return "".join(text)


def _lines(data: bytes | None) -> list[str] | None:
    if data is None or len(data) > MAX_DIFF_BYTES or b"\0" in data:
        return None
    try:
        return data.decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return None
