"""The times of the threads' calls, waits, refusals and output; the pictures are drawn from them.

Rule: a million calls take no more memory than a hundred thousand. Calls of the same kind and thread that are near each
other share a mark. "Near" means one microsecond at first; this distance is doubled each time that there are too many
marks.
"""

import heapq
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from proxybox.records.explaining.account import signal_name
from proxybox.records.lines import at_line
from proxybox.records.openfiles import waited
from proxybox.records.record import RecordedCall, RecordedSignal

#: The limit of marks must be larger than the number of marks at one time: each thread has eight kinds of them.
MOST_MARKS, MOST_WAITS = 60_000, 4000
#: The most characters of a mark's text.
LONGEST: Final = 160
#: The groups of calls, each drawn in one colour: a name, and the families of calls.
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "paths": ("paths", "directories", "attributes"),
    "descriptors": ("descriptors", "transfers", "control", "pipes"),
    "memory": ("memory",),
    "threads": ("process", "signals"),
    "time": ("clock", "polling"),
    "caller": ("reserved",),
    "others": (),
}
REFUSED, STDOUT, STDERR, SIGNAL = "refused", "stdout", "stderr", "signal"
#: The rows that belong to no thread.
PRINTED_ROW, SIGNAL_ROW = -1, -2
_GROUP_OF: Final = {family: group for group, families in GROUPS.items() for family in families}


@attrs.define(slots=True)
class Mark:
    """Some calls that are near each other. count: of calls, or of bytes printed. text: of the first one."""

    count: int
    text: str


@attrs.frozen(slots=True, order=True)
class ThreadWait:
    """A wait of a thread, in seconds."""

    seconds: float
    number: int
    thread: int
    at: float
    text: str


class Timeline:
    """Gathers marks and waits. ended: the last moment, in microseconds. calls: by thread."""

    def __init__(self) -> None:
        self.width = 1
        self.ended = 1
        self.calls: dict[int, int] = {}
        self.waits_left_out = 0
        self._marks: dict[tuple[int, int, str], Mark] = {}
        self._waits: list[ThreadWait] = []

    def add(self, call: RecordedCall, subject: str) -> None:
        """Adds one call."""
        took = waited(call)
        at = int(call.at * 1e6)
        self.ended = max(self.ended, at + int(took * 1e6) + 1)
        self.calls[call.thread] = self.calls.get(call.thread, 0) + 1
        what = f"{call.name} {subject[:LONGEST]}" if subject else call.name
        what += f" ({at_line(call.line)[-LONGEST:]})" if call.line is not None else ""
        self._mark(call.thread, at, _GROUP_OF.get(call.family, "others"), 1, what)
        for refused in call.refusals:
            self._mark(call.thread, at, REFUSED, 1, f"{refused.call} {subject}: {refused.reason}"[:LONGEST])
        for stream, data in call.printed:
            text = data[:LONGEST].decode("utf-8", "backslashreplace")
            self._mark(PRINTED_ROW, at, STDERR if stream else STDOUT, len(data), text)
        if took > 0:
            self._wait(ThreadWait(took, call.number, call.thread, call.at, what))

    def signals(self, received: list[RecordedSignal]) -> None:
        """Adds signals that the program got."""
        for each in received:
            at = int(each.at * 1e6)
            self.ended = max(self.ended, at + 1)
            self._mark(SIGNAL_ROW, at, SIGNAL, 1, signal_name(each.signal))

    def _mark(self, row: int, at: int, kind: str, count: int, text: str) -> None:
        key = row, at // self.width, kind
        if (mark := self._marks.get(key)) is not None:
            mark.count += count
            return
        self._marks[key] = Mark(count, text)
        while len(self._marks) > MOST_MARKS:
            self._merge()

    def _merge(self) -> None:
        self.width *= 2
        marks, self._marks = self._marks, {}
        for (row, place, kind), mark in marks.items():
            kept = self._marks.setdefault((row, place // 2, kind), mark)
            if kept is not mark:
                kept.count += mark.count

    def _wait(self, wait: ThreadWait) -> None:
        if len(self._waits) < MOST_WAITS:
            heapq.heappush(self._waits, wait)
        else:
            heapq.heappushpop(self._waits, wait)
            self.waits_left_out += 1

    def columns(self, count: int, most: int) -> tuple[int, dict[tuple[int, int], dict[str, Mark]]]:
        """Returns the width of a mark in columns, and the marks by row and column; `count` columns are the whole time.

        The width is 1 if this makes at most `most` marks; otherwise 2, 4 and so on.
        """
        width = 1
        while True:
            found: dict[tuple[int, int], dict[str, Mark]] = {}
            marks = 0
            for (row, place, kind), mark in self._marks.items():
                column = place * self.width * count // self.ended // width * width
                kinds = found.setdefault((row, column), {})
                if kind in kinds:
                    kinds[kind].count += mark.count
                else:
                    kinds[kind] = Mark(mark.count, mark.text)
                    marks += 1
            if marks <= most or width >= count:
                return width, found
            width *= 2

    @property
    def has_signals(self) -> bool:
        """Whether any signal came."""
        return any(row == SIGNAL_ROW for row, _, _ in self._marks)

    def waits(self) -> Iterator[ThreadWait]:
        """Yields the longest waits, in the order of time."""
        yield from sorted(self._waits, key=lambda wait: (wait.at, wait.number))
