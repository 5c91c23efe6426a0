"""The differences of two versions of a text, line by line, as parts that can be accepted one by one.

Rules: lines are bytes and end only at a line feed, so the parts that are accepted join to exactly the bytes that were
compared. A guest chooses both texts, so the work is bounded: at the bound, a part is longer than necessary, but still
right.
"""

import difflib
import itertools
from collections.abc import Collection, Sequence

import attrs

_CONTEXT = 3
#: The cost of examining a line, in comparisons of two lines.
_EACH_LINE = 3


@attrs.define
class DiffBudget:
    """The work that is left for a review.

    steps: comparisons of lines. shown, lines: bytes and lines of the texts that are shown.
    """

    steps: int = 20_000_000
    shown: int = 16 << 20
    lines: int = 500_000


@attrs.frozen
class LineRange:
    """A range of lines that are replaced by others, with the context around them: indexes from 0, ends excluded."""

    old: tuple[int, int]
    new: tuple[int, int]
    edits: tuple[tuple[str, int, int, int, int], ...]


def text_of(data: bytes | None) -> bool:
    """Whether the bytes are text that can be shown: UTF-8 without NUL."""
    if data is None or b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def lines_of(data: bytes) -> list[bytes]:
    """The lines, each with its line feed; the last one may have none."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def parts_of(old: Sequence[bytes], new: Sequence[bytes], work: DiffBudget) -> list[LineRange]:
    """The parts in which the lines differ, in order."""
    matcher = _Matcher(old, new, work)
    return [
        LineRange((edits[0][1], edits[-1][2]), (edits[0][3], edits[-1][4]), tuple(edits))
        for edits in matcher.get_grouped_opcodes(_CONTEXT)
    ]


def joined(old: Sequence[bytes], new: Sequence[bytes], parts: Sequence[LineRange], accepted: Collection[int]) -> bytes:
    """The text with the parts of these indexes in the new version, and the others in the old one."""
    lines: list[bytes] = []
    end = 0
    for index, part in enumerate(parts):
        lines += old[end : part.old[0]]
        lines += new[slice(*part.new)] if index in accepted else old[slice(*part.old)]
        end = part.old[1]
    lines += old[end:]
    return b"".join(lines)


class _Matcher(difflib.SequenceMatcher[bytes]):
    """difflib's matcher with a bound on comparisons. After the bound, it finds nothing in common in the rest."""

    a: Sequence[bytes]
    b2j: dict[bytes, list[int]]

    def __init__(self, old: Sequence[bytes], new: Sequence[bytes], work: DiffBudget) -> None:
        super().__init__(None, old, new)
        self._work = work
        self._before = [0, *itertools.accumulate(_EACH_LINE + len(self.b2j.get(line, ())) for line in old)]

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        end = len(self.a) if ahi is None else ahi
        cost = self._before[end] - self._before[alo]
        if cost > self._work.steps:
            return difflib.Match(alo, blo, 0)
        self._work.steps -= cost
        return super().find_longest_match(alo, ahi, blo, bhi)
