"""A record in the formats of tools that show where time goes: folded stacks, and Chrome's trace events."""

import json
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, TextIO

from proxybox.controller.audit import Decision, OSCall
from proxybox.controller.record.parting import Frame
from proxybox.records.lines import at_line
from proxybox.records.openfiles import LONGEST_PATH, text_of, waited
from proxybox.records.record import RecordedCall, RecordedSignal
from proxybox.terminal import strace
from proxybox.terminal.harmless import on_one_line

#: The most different stacks that are counted, the most characters of all of them, and of a text in an event.
MOST_STACKS, MOST_FOLDED, LONGEST = 50_000, 64 << 20, 300
#: The most characters of a file with a part for each call.
MOST_WRITTEN = 1 << 30
#: Arguments that point to memory that the answer fills.
_FILLED: Final = frozenset({"buf", "answer"})


def as_oscall(call: RecordedCall) -> OSCall:
    """Returns a recorded call in the form for an audit, with the data that it has read in place of the address."""
    arguments = {name: _plain(value) for name, value in call.arguments.items()}
    filled = next((name for name in arguments if name in _FILLED and isinstance(arguments[name], int)), None)
    if filled and len(call.stored) == 1 and call.stored[0].data is not None:
        arguments[filled] = call.stored[0].data
    name = call.name if call.name.isascii() else ascii(call.name)
    made = OSCall(name, 0, call.family, arguments, call.thread, result=call.result, errno=call.errno)
    if call.refusals:
        made.decision, made.reason = Decision.DENIED, on_one_line(call.refusals[0].reason)
    elif call.family == "unknown":
        made.decision = Decision.UNKNOWN
    return made


def _plain(value: Any) -> Any:
    """Returns the bytes of an argument that is an address with stored bytes; without stored bytes, the address."""
    if isinstance(value, tuple):
        address, data = value if len(value) == 2 else (None, None)
        value = data if isinstance(data, bytes) else address
    return value[:LONGEST_PATH] if isinstance(value, bytes) else value


class Bounded:
    """A file with a part for each call, up to a size limit. left_out: how many parts were left out."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._room = file, MOST_WRITTEN
        self.left_out = 0

    def write(self, text: str) -> None:
        """Writes a part, unless it exceeds the limit or an earlier part did."""
        if self.left_out or len(text) > self._room:
            self.left_out += 1
        else:
            self._room -= len(text)
            self._file.write(text)


class Folded:
    """Stacks of family, call and subject, with how often each came, or how long it waited in microseconds.

    If a call has a Python stack, this stack is used in place of the family. left_out: calls that were counted as
    "others", because a program can have any number of stacks of any depth.
    """

    def __init__(self, *, by_time: bool) -> None:
        self._by_time = by_time
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._texts: dict[Frame, str] = {}  # shared by all stacks, because a program can make them long
        self._room = MOST_FOLDED
        self.left_out = 0

    def add(self, call: RecordedCall, subject: str) -> None:
        """Counts one call."""
        count = round(waited(call) * 1e6) if self._by_time else 1
        if count > 0:
            frames = [self._text(each) for each in reversed(call.stack)] or [_frame(call.family)]
            stack = (*frames, _frame(call.name), _frame(subject[:LONGEST]))
            if stack not in self._counts and not self._has_room(stack):
                self.left_out += 1
                stack = ("others", "others", "")
            self._counts[stack] += count

    def _has_room(self, stack: tuple[str, ...]) -> bool:
        size = sum(map(len, stack)) + len(stack)
        if size > self._room or len(self._counts) >= MOST_STACKS:
            return False
        self._room -= size
        return True

    def _text(self, frame: Frame) -> str:
        text = self._texts.get(frame)
        if text is None:
            text = self._texts[frame] = _frame(f"{frame.function} ({at_line(frame)})")
        return text

    def signals(self, received: list[RecordedSignal]) -> None:
        """Ignores signals: they are in no stack."""

    def lines(self) -> Iterator[str]:
        """Yields the lines that flamegraph.pl, speedscope and others read."""
        for stack, count in sorted(self._counts.items()):
            yield f"{';'.join(filter(None, stack))} {count}\n"


@lru_cache(1024)
def _frame(text: str) -> str:
    """Returns a text for use in a stack."""
    return on_one_line(text).replace(";", "\\x3b")


class TraceEvents:
    """Writes Chrome's trace event format call by call: a track for each thread, waits as slices."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._events = Bounded(file)
        self._threads: set[int] = set()
        file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
        self._write({"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "program"}}, first=True)

    def _write(self, event: dict[str, Any], *, first: bool = False) -> None:
        self._events.write(("" if first else ",\n") + json.dumps(event, separators=(",", ":")))

    @property
    def left_out(self) -> int:
        """How many events were left out."""
        return self._events.left_out

    def add(self, call: RecordedCall, subject: str) -> None:
        """Writes one call, and its output."""
        tid = call.thread + 1
        if call.thread not in self._threads:
            self._threads.add(call.thread)
            name = {"name": f"thread {call.thread}"}
            self._write({"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": name})
        arguments: dict[str, Any] = {"call": call.number, "result": call.result}
        if subject:
            arguments["subject"] = on_one_line(subject[:LONGEST])
        if call.line is not None:
            arguments["line"] = on_one_line(at_line(call.line))
        if call.errno is not None:
            arguments["error"] = call.errno
        if call.refusals:
            arguments["refused"] = on_one_line(call.refusals[0].reason[:LONGEST])
        family = f"{call.family},refused" if call.refusals and call.family != "refused" else call.family
        event = {"name": call.name, "cat": family, "pid": 1, "tid": tid, "ts": _us(call.at), "args": arguments}
        if (took := waited(call)) > 0:
            self._write({"ph": "X", **event, "dur": _us(took)})
        else:
            self._write({"ph": "i", "s": "t", **event})
        for stream, data in call.printed:
            text = on_one_line(text_of(data[:LONGEST]))
            self._write({
                "ph": "i", "s": "p", "name": "stderr" if stream else "stdout", "cat": "output", "pid": 1, "tid": tid,
                "ts": _us(call.at), "args": {"text": text, "bytes": len(data)},
            })  # fmt: skip

    def signals(self, received: list[RecordedSignal]) -> None:
        """Writes signals that the program got."""
        for each in received:
            name = strace.argument("kill", "sig", each.signal)
            self._write({"ph": "i", "s": "p", "name": f"signal {name}", "cat": "signals", "pid": 1, "tid": 1,
                         "ts": _us(each.at)})  # fmt: skip

    def finish(self) -> None:
        """Writes the end."""
        self._file.write("\n]}\n")


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 1)
