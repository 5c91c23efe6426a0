"""Aligns the calls of two threads: finds equal calls by their questions, at any place.

Rule: the work is bounded for any calls. Most calls of two runs are the same, so equal stretches are skipped in large
steps. Where two runs part, `difflib` looks for the next common stretch, in windows that become larger. When the work
reaches its limit, the rest is not aligned, and the result says so.
"""

from array import array
from difflib import SequenceMatcher
from typing import Final

import attrs

#: The sizes of windows for the search of the next common stretch, each with the least length of this stretch.
_WINDOWS: Final = ((64, 2), (512, 4), (4096, 8))
#: The most calls that are compared in windows, and the most stretches of an alignment.
MOST_WORK: Final = 3_000_000
MOST_SPANS: Final = 20_000
#: Numbers that are compared at once, and how many are compared one by one before that.
_STEP: Final = 1 << 13
_NEAR: Final = 16


@attrs.frozen(slots=True)
class Span:
    """A stretch of two threads: first[a_from:a_to] and second[b_from:b_to]. same: whether both ask the same there."""

    same: bool
    a_from: int
    a_to: int
    b_from: int
    b_to: int


@attrs.define
class Alignment:
    """The stretches of two threads, in their order. given_up: whether the last of them were not aligned."""

    spans: list[Span] = attrs.field(factory=list)
    given_up: bool = False

    def add(self, span: Span) -> None:
        """Adds a stretch, unless it is empty. A stretch that continues the last one is joined with it."""
        if span.a_from == span.a_to and span.b_from == span.b_to:
            return
        last = self.spans[-1] if self.spans else None
        if last is not None and last.same == span.same:
            self.spans[-1] = attrs.evolve(last, a_to=span.a_to, b_to=span.b_to)
        else:
            self.spans.append(span)


def align(first: "array[int]", second: "array[int]") -> Alignment:
    """Aligns two sequences of numbers."""
    made = Alignment()
    ends = _common_end(first, second)
    a_end, b_end = len(first) - ends, len(second) - ends
    a = b = work = 0
    while a < a_end or b < b_end:
        common = 0
        if first[a : a + 1] == second[b : b + 1]:
            common = min(alike(first, second, a, b), a_end - a, b_end - b)
        made.add(Span(True, a, a + common, b, b + common))
        a, b = a + common, b + common
        if a == a_end or b == b_end or work > MOST_WORK or len(made.spans) > MOST_SPANS:
            made.given_up = a < a_end and b < b_end
            made.add(Span(False, a, a_end, b, b_end))
            break
        for window, least in _WINDOWS:
            a_to, b_to = min(a + window, a_end), min(b + window, b_end)
            work += a_to - a + b_to - b
            if a_to == a_end and b_to == b_end:
                least = 1
            found = _found(first, a, a_to, second, b, b_to, window, least)
            if found:
                break
            if a_to == a_end and b_to == b_end:
                break
        for span in found or [Span(False, a, a_to, b, b_to)]:
            made.add(span)
            a, b = span.a_to, span.b_to
    made.add(Span(True, a_end, len(first), b_end, len(second)))
    return made


def _found(
    first: "array[int]", a: int, a_to: int, second: "array[int]", b: int, b_to: int, window: int, least: int
) -> list[Span]:
    """Returns the stretches of a window up to the last common one that is long enough; none if there is none."""
    # In large windows, frequent calls are ignored (autojunk): to compare all pairs of them would take too long.
    matcher = SequenceMatcher(None, first[a:a_to], second[b:b_to], autojunk=window > _WINDOWS[0][0])
    blocks = [block for block in matcher.get_matching_blocks() if block.size]
    while blocks and blocks[-1].size < least:
        blocks.pop()
    spans: list[Span] = []
    a_at, b_at = a, b
    for block in blocks:
        spans.append(Span(False, a_at, a + block.a, b_at, b + block.b))
        a_at, b_at = a + block.a + block.size, b + block.b + block.size
        spans.append(Span(True, a_at - block.size, a_at, b_at - block.size, b_at))
    return spans


def alike(first: "array[int]", second: "array[int]", a: int = 0, b: int = 0, end: int | None = None) -> int:
    """Returns how many equal numbers two sequences have from a and b on. end: where to stop in the first sequence."""
    most = min((len(first) if end is None else end) - a, len(second) - b)
    at, near = 0, min(most, _NEAR)
    while at < near and first[a + at] == second[b + at]:
        at += 1
    if at < near:
        return at
    while at < most and first[a + at : a + at + _STEP] == second[b + at : b + at + _STEP]:
        at += _STEP
    while at < most and first[a + at] == second[b + at]:
        at += 1
    return min(at, most)


def _common_end(first: "array[int]", second: "array[int]") -> int:
    """Returns how many equal numbers two sequences have at their ends, without their common beginning."""
    most = min(len(first), len(second)) - alike(first, second)
    at = 0
    while at < most and first[len(first) - at - 1] == second[len(second) - at - 1]:
        at += 1
    return at
