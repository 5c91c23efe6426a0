"""Reads two runs in step, for their wanted calls.

Rule: a call is stored until its counterpart in the other run has been read. The total size of such calls is bounded;
beyond this, the oldest ones are left out.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Final

import attrs

from proxybox.records.differing.difference import CallPair, CallPlace
from proxybox.records.differing.judging import AnswerDifference, AnswerPair, Descriptors, Judge, Seen, with_path
from proxybox.records.differing.showing import line_of
from proxybox.records.record import RecordedCall

#: The most bytes of calls that wait for their counterparts.
_MOST_HELD: Final = 64 << 20
#: The most clock readings of one thread that are stored until its next call.
_MOST_READINGS: Final = 4096
#: How many of the first and of the last differences of one kind are stored with their texts.
_MOST_OF_KIND: Final = 500
#: The most bytes of a call's buffer that are stored.
_MOST_PASSED: Final = 1 << 16


@attrs.define(eq=False)
class Reading:
    """Reads two runs in step, for the wanted calls.

    wanted: as `comparing._wanted` returns it. numbers: of the calls of each run that are shown.
    """

    judge: Judge
    wanted: dict[int, tuple[int, bool]]
    numbers: tuple[set[int], set[int]]
    left_out: int = 0
    pairs: list[AnswerPair] = attrs.field(factory=list)
    _first: dict[str, list[AnswerDifference]] = attrs.field(factory=dict)
    _last: "dict[str, deque[AnswerDifference]]" = attrs.field(factory=dict)
    texts: tuple[dict[int, str], dict[int, str]] = attrs.field(factory=lambda: ({}, {}))
    passed: tuple[dict[int, bytes], dict[int, bytes]] = attrs.field(factory=lambda: ({}, {}))
    _held: tuple[dict[int, Seen], dict[int, Seen]] = attrs.field(factory=lambda: ({}, {}))
    _size: int = 0
    _order: "deque[tuple[int, int]]" = attrs.field(factory=lambda: deque())

    def read(self, first: Iterable[RecordedCall], second: Iterable[RecordedCall]) -> None:
        """Reads both runs, up to the last call that is wanted."""
        theirs = {number: (own, answers) for own, (number, answers) in self.wanted.items()}
        sides = (self._side(0, first, self.wanted), self._side(1, second, theirs))
        is_going = [True, True]
        while any(is_going):
            for side in (0, 1):
                is_going[side] = is_going[side] and next(sides[side], None) is not None

    @property
    def found(self) -> list[AnswerDifference]:
        """The differing answers in their order; if one kind has many, only the first and the last ones."""
        kept = chain(*self._first.values(), *self._last.values())
        return sorted(kept, key=lambda each: each.a)

    def _keep(self, found: AnswerDifference) -> None:
        kind = found.kind.name
        self.pairs.append(AnswerPair(found.a, found.b, found.is_reading, kind, found.path))
        first = self._first.setdefault(kind, [])
        if len(first) < _MOST_OF_KIND:
            first.append(found)
        else:
            self._last.setdefault(kind, deque(maxlen=_MOST_OF_KIND)).append(found)

    def _side(self, side: int, calls: Iterable[RecordedCall], wanted: Mapping[int, tuple[int, bool]]) -> Iterator[bool]:
        descriptors = Descriptors()
        readings: dict[int, tuple[tuple[int, int], ...]] = {}
        left = len(self.numbers[side] | wanted.keys())
        for call in calls:
            if not left:
                return
            if call.name == "clocks":
                readings[call.thread] = (readings.get(call.thread, ()) + call.clocks)[-_MOST_READINGS:]
                continue
            before = readings.pop(call.thread, ()) if readings else ()
            left -= call.number in wanted or call.number in self.numbers[side]
            if call.number in wanted:
                self._pair(side, with_path(descriptors, call, before), *wanted[call.number])
            if call.number in self.numbers[side]:
                self.texts[side][call.number] = line_of(call)
                buffer = call.asked.get("buf")
                if isinstance(buffer, bytes):
                    self.passed[side][call.number] = buffer[:_MOST_PASSED]
            descriptors.follow(call)
            yield True

    def _pair(self, side: int, seen: Seen, counterpart: int, answers: bool) -> None:
        other = self._held[1 - side].pop(counterpart, None)
        if other is not None:
            self._size -= _size_of(other.call)
            pair = (seen, other) if side == 0 else (other, seen)
            for found in self.judge.judge(*pair, answers=answers):
                self._keep(found)
            return
        self._held[side][seen.call.number] = seen
        self._order.append((side, seen.call.number))
        self._size += _size_of(seen.call)
        while self._size > _MOST_HELD and self._order:
            dropped = self._held[self._order[0][0]].pop(self._order.popleft()[1], None)
            if dropped is not None:
                self._size -= _size_of(dropped.call)
                self.left_out += 1

    def place(self, side: int, number: int) -> CallPlace:
        """Returns a call to show."""
        return CallPlace(number, self.texts[side].get(number, "the thread asks nothing more" if not number else "?"))

    def row(self, how: str, thread: int, a: int, b: int, *skipped: int) -> CallPair:
        """Returns two calls to show side by side."""
        first, second = (self.place(side, number) if number else None for side, number in ((0, a), (1, b)))
        return CallPair(how, thread, first, second, (skipped[0], skipped[1]))


def _size_of(call: RecordedCall) -> int:
    passed = sum(len(each) for each in call.asked.values() if isinstance(each, bytes))
    return 1000 + passed + sum(len(each.data or b"") for each in call.stored)
