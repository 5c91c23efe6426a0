"""One change in a review: its heading, and its hunks."""

import hashlib
import os
from collections.abc import Collection, Iterator
from stat import S_ISGID, S_ISUID

import attrs

from proxybox.controller.vfs.host.attributes import GONE_ONCE_WRITTEN, has_acl, texts
from proxybox.controller.vfs.overlay.changes import MAX_DIFF_BYTES, Change
from proxybox.review.lines import DiffBudget, LineRange, joined, lines_of, parts_of, text_of
from proxybox.terminal.harmless import harmless, on_one_line


@attrs.frozen(slots=True, kw_only=True)
class Hunk:
    """A part of a change that can be accepted by itself.

    number: from 1, within its item. kind: "lines" (a part of a text), "mode" (permission bits), or "whole" (the change
    has only this hunk). lines: the text to show, as in a unified diff, with control characters as escapes.
    """

    number: int
    kind: str
    lines: tuple[str, ...]
    part: LineRange | None = attrs.field(default=None, repr=False)


@attrs.frozen(slots=True, kw_only=True)
class Item:
    """One change that can be accepted or rejected.

    number: from 1, within its review. change: the change of the box; its texts are a guest's. folder: the host folder
    of the change. hunks: its parts, at least one. refusal: why it cannot be written, whoever accepts it; empty if no
    reason is known.
    """

    number: int
    change: Change = attrs.field(repr=False)
    folder: str
    hunks: tuple[Hunk, ...] = attrs.field(repr=False)
    refusal: str = ""

    @property
    def name(self) -> str:
        """The path for people: on one line, with control characters as escapes."""
        return on_one_line(self.change.name)

    @property
    def heading(self) -> str:
        """One line: the kind of change and the path, with modes and sizes."""
        return heading(self.change)

    @property
    def notes(self) -> tuple[str, ...]:
        """Further information, one line each: ACLs and other attributes, and those that are not kept."""
        return tuple(on_one_line(note) for note in _notes(self.change))

    @property
    def diff(self) -> str:
        """The whole change as a unified diff for people: control characters are escapes."""
        first = "/dev/null" if self.change.kind == "added" else f"a/{self.name}"
        second = "/dev/null" if self.change.kind == "deleted" else f"b/{self.name}"
        lines = [line for hunk in self.hunks for line in hunk.lines]
        is_text = any(hunk.lines[:1] and hunk.lines[0].startswith("@@") for hunk in self.hunks)
        head = [f"--- {first}", f"+++ {second}"] if is_text else []
        return "".join(f"{line}\n" for line in (self.heading, *self.notes, *head, *lines))

    def with_hunks(self, accepted: Collection[int]) -> Change | None:
        """The change with only the hunks of these numbers; None if nothing is left of it."""
        change = self.change
        if not accepted:
            return None
        if len(accepted) == len(self.hunks):
            return change
        mode, content = change.old_mode, change.content
        if any(hunk.kind == "mode" and hunk.number in accepted for hunk in self.hunks):
            mode = change.mode
        parts = [hunk for hunk in self.hunks if hunk.part is not None]
        if parts and change.old is not None and content is not None:
            chosen = {index for index, hunk in enumerate(parts) if hunk.number in accepted}
            shown = [hunk.part for hunk in parts if hunk.part is not None]
            content = joined(lines_of(change.old), lines_of(content), shown, chosen)
        elif not any(hunk.kind == "whole" and hunk.number in accepted for hunk in self.hunks):
            content = change.old
        return attrs.evolve(change, mode=change.mode if mode is None else mode, content=content)


def heading(change: Change) -> str:
    """One line: the kind of change and the path, with modes and sizes."""
    what = {"dir": "folder", "symlink": "symbolic link"}.get(change.type, "file")
    facts = []
    if change.type != "symlink":
        facts.append(f"mode {_old_mode(change)} -> {_new_mode(change)}" if _is_new_mode(change) else _mode_of(change))
    if change.type == "file":
        before = None if change.origin is None else change.origin.size
        after = None if change.content is None else len(change.content)
        sizes = {"added": after, "deleted": before}.get(change.kind, after)
        if change.kind == "modified" and before is not None and after is not None and before != after:
            facts.append(f"{before:,} -> {after:,} bytes")
        elif sizes is not None:
            facts.append(f"{sizes:,} bytes")
    words = f" ({', '.join(facts)})" if facts else ""
    return f"{change.kind} {what} {on_one_line(change.name)}{words}"


def _mode_of(change: Change) -> str:
    return f"mode {_old_mode(change) if change.kind == 'deleted' else _new_mode(change)}"


def _is_new_mode(change: Change) -> bool:
    return change.kind == "modified" and change.old_mode not in (None, change.mode)


def _old_mode(change: Change) -> str:
    """The former mode; as in ls(1), a plus stands for an ACL, without which the mode does not say who may use it."""
    mode = change.mode if change.old_mode is None else change.old_mode
    return f"{mode:04o}{'+' if has_acl(change.old_attributes) else ''}"


def _new_mode(change: Change) -> str:
    return f"{change.mode:04o}{'+' if has_acl(change.attributes) else ''}"


def _notes(change: Change) -> Iterator[str]:
    if not _is_new_mode(change):  # otherwise they are shown with it
        yield from texts(change.old_attributes if change.kind == "deleted" else change.attributes)
    origin = change.origin
    if origin is None or change.kind != "modified" or change.type != "file":
        return
    for name, _ in origin.attributes:
        if name in GONE_ONCE_WRITTEN:
            yield f"{name} goes, as when anybody writes to the file"
    if origin.mode & (S_ISUID | S_ISGID):
        yield "its set-id bits go, as when anybody writes to the file"
    if origin.names > 1:
        yield f"the file has {origin.names} names (hard links): under the others it stays as it was"
    if origin.uid != os.geteuid() != 0:
        yield f"the file belongs to user {origin.uid}; the new one will be yours"


def hunks_of(change: Change, work: DiffBudget) -> tuple[Hunk, ...]:
    """The hunks of a change. work: the budget that is left for this review."""
    if change.type != "file":
        return (_whole(_of_no_file(change)),)
    before = b"" if change.kind == "added" else change.old
    after = b"" if change.kind == "deleted" else change.content
    if before is None or after is None or not _is_shown(before, after, work):
        return _unshown(change)
    old, new = lines_of(before), lines_of(after)
    if change.kind != "modified":
        lines = _lines(old, new, LineRange((0, len(old)), (0, len(new)), (("replace", 0, len(old), 0, len(new)),)))
        return (_whole(lines if old or new else ("(an empty file)",)),)
    parts = parts_of(old, new, work)
    hunks = [Hunk(number=0, kind="lines", lines=_lines(old, new, part), part=part) for part in parts]
    return _numbered([*_mode(change), *hunks]) or (_whole(()),)


def _is_shown(before: bytes, after: bytes, work: DiffBudget) -> bool:
    """Whether both are texts, and short enough to be shown. The text that is shown is taken from the budget."""
    size, lines = len(before) + len(after), before.count(b"\n") + after.count(b"\n")
    if max(len(before), len(after)) > MAX_DIFF_BYTES or size > work.shown or lines > work.lines:
        return False
    if not (text_of(before) and text_of(after)):
        return False
    work.shown -= size
    work.lines -= lines
    return True


def _unshown(change: Change) -> tuple[Hunk, ...]:
    """The hunks of a file that is not shown: its sizes and digests. Without old contents, the mode has no own hunk."""
    lines = []
    if change.kind != "added":
        size = "of unknown size" if change.origin is None else f"{change.origin.size:,} bytes"
        lines.append(f"-({_what(change.old)}{size}{_digest(change.old)})")
    if change.kind != "deleted":
        size = "too large to be kept, or not to be read" if change.content is None else f"{len(change.content):,} bytes"
        lines.append(f"+({_what(change.content)}{size}{_digest(change.content)})")
    if change.kind != "modified" or change.old is None:
        return (_whole((*(line for hunk in _mode(change) for line in hunk.lines), *lines)),)
    hunks = _mode(change)
    if change.old != change.content:
        hunks.append(_whole(tuple(lines)))
    return _numbered(hunks)


def _what(data: bytes | None) -> str:
    if data is None:
        return ""
    return "a large text, " if text_of(data) else "binary, "


def _digest(data: bytes | None) -> str:
    return "" if data is None else f", SHA-256 {hashlib.sha256(data).hexdigest()}"


def _mode(change: Change) -> list[Hunk]:
    if not _is_new_mode(change):
        return []
    before, after = texts(change.old_attributes), texts(change.attributes)
    lines = [
        f"-mode {_old_mode(change)}",
        *(f"-{each}" for each in before if each not in after),
        f"+mode {_new_mode(change)}",
        *(f"+{each}" for each in after if each not in before),
        *(f" {each}" for each in after if each in before),
    ]
    return [Hunk(number=1, kind="mode", lines=tuple(map(on_one_line, lines)))]


def _of_no_file(change: Change) -> tuple[str, ...]:
    if change.type == "dir":
        return tuple(line for hunk in _mode(change) for line in hunk.lines)
    lines = []
    if change.old_target is not None:
        lines.append(f"-leads to {on_one_line(change.old_target.decode('utf-8', 'surrogateescape'))}")
    if change.target is not None and change.kind != "deleted":
        lines.append(f"+leads to {on_one_line(change.target.decode('utf-8', 'surrogateescape'))}")
    return tuple(lines)


def _whole(lines: tuple[str, ...]) -> Hunk:
    return Hunk(number=1, kind="whole", lines=lines)


def _numbered(hunks: list[Hunk]) -> tuple[Hunk, ...]:
    return tuple(attrs.evolve(hunk, number=number) for number, hunk in enumerate(hunks, 1))


def _lines(old: list[bytes], new: list[bytes], part: LineRange) -> tuple[str, ...]:
    """The lines of the part in a unified diff."""
    lines = [f"@@ -{_range(*part.old)} +{_range(*part.new)} @@"]
    for tag, first, end, new_first, new_end in part.edits:
        if tag == "equal":
            lines += [shown for line in old[first:end] for shown in _line(" ", line)]
        else:
            lines += [shown for line in old[first:end] for shown in _line("-", line)]
            lines += [shown for line in new[new_first:new_end] for shown in _line("+", line)]
    return tuple(lines)


def _range(first: int, end: int) -> str:
    return f"{first + 1 if end > first else first},{end - first}"


def _line(mark: str, line: bytes) -> list[str]:
    text = harmless(line.removesuffix(b"\n").decode()).replace("\r", "\\r").replace("\n", "\\n")
    return [mark + text] if line.endswith(b"\n") else [mark + text, "\\ No newline at end of file"]
