"""Reads a record: the program, each call with its answer, and the end of the run."""

import errno
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Self

import attrs

from proxybox import argumentchecks
from proxybox.controller.boxes.reading import RecordReader
from proxybox.controller.boxes.replayed import policy_of
from proxybox.controller.dispatch import unknown_name
from proxybox.controller.errors import GuestMisbehaved, RecordError
from proxybox.controller.record import events
from proxybox.controller.record.calls import number_of
from proxybox.controller.record.exactness import Inexact
from proxybox.controller.record.parting import Frame
from proxybox.policies import Policy
from proxybox.result import Result, result_of

#: The most signals of one record that are stored: a program can send itself any number.
_MOST_SIGNALS = 100_000


@attrs.frozen
class Stored:
    """Data that an answer has stored in the program's memory. data: None if the record leaves it out.

    source: the file of the interpreter's library from which it was read, "" for other data.
    """

    size: int
    data: bytes | None
    source: str = ""


@attrs.define
class RecordedCall:
    """One OS call of a recorded run.

    number: from 1 on, in the order in which the calls came. thread: the channel of the thread that made it. at, took:
    seconds from the start of the record, and until the answer; took is None for a call that was never answered.
    arguments: by the names of the man page, with the bytes that the program's memory had. asked: the same, without
    memory that the call does not read; this is used to compare calls. result: as the kernel returns it. refusals: each
    with its reason. printed: its output, as (stream, bytes). clocks: clock readings that the program made just before.
    line: of the program's own code that made the call, if a replay has found it (lines.py). stack: all frames, from the
    innermost one on.
    """

    number: int
    thread: int
    at: float
    name: str
    family: str
    arguments: Mapping[str, Any]
    asked: Mapping[str, Any]
    result: int | None = None
    took: float | None = None
    stored: tuple[Stored, ...] = ()
    refusals: tuple[events.DenialEvent, ...] = ()
    printed: tuple[tuple[int, bytes], ...] = ()
    clocks: tuple[tuple[int, int], ...] = ()
    line: Frame | None = None
    stack: tuple[Frame, ...] = ()

    @property
    def errno(self) -> str | None:
        """The name of the error in its answer; None if it succeeded."""
        if self.result is None or not -4095 <= self.result < 0:
            return None
        return errno.errorcode.get(-self.result, str(-self.result))


@attrs.frozen
class RecordedSignal:
    """A signal that the program got. late: sent while no call was answered. after: the number of the call before."""

    signal: int
    late: bool
    after: int
    at: float


class Record:
    """The record of a run, in a file.

    with Record(path) as record:
        print(record.guest, record.program)
        for each in record.calls(): ...
        print(record.result)

    Raises RecordError, here and during reading, for a file that is no complete record of this format, or that was
    changed. It can be read once, from its beginning to its end.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = argumentchecks.path("path", path)
        self._file: BinaryIO = open(self.path, "rb")  # noqa: SIM115 - `__exit__` closes it
        try:
            self.reader = RecordReader.open(self._file)
        except BaseException:
            self._file.close()
            raise
        self._events = self.reader.events()
        self.signals: list[RecordedSignal] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _told(self, *keys: str) -> Any:
        value: Any = self.reader.start
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    @property
    def guest(self) -> str:
        """The interpreter's name, such as pypy3.11."""
        return str(self._told("guest", "name") or "")

    @property
    def recorded(self) -> str:
        """When the run began, in UTC (ISO 8601)."""
        return str(self._told("recorded") or "")

    @property
    def argv(self) -> tuple[str, ...]:
        """The interpreter's arguments, beginning with its own path in the box."""
        argv = self._told("argv")
        return tuple(map(str, argv)) if isinstance(argv, list) else ()

    @property
    def environment(self) -> Mapping[str, str]:
        """The program's environment variables."""
        variables = self._told("environment")
        return {str(name): str(value) for name, value in variables.items()} if isinstance(variables, dict) else {}

    @property
    def policy(self) -> Policy:
        """The policy of the run, without the contents of mounts that were passed as data."""
        return policy_of(self.reader.start)

    @property
    def result(self) -> Result | None:
        """The result of the run; this reads all calls. None in a record that was cut off."""
        for _ in self.calls():
            pass
        return None if self.reader.run is None else result_of(self.reader.run, self.policy)

    @property
    def inexact(self) -> Inexact | None:
        """The place from which on a replay may differ, as the end of the record says; None if there is none."""
        for _ in self.calls():
            pass
        return self.reader.inexact

    def calls(self) -> Iterator[RecordedCall]:
        """Yields each call with its answer, in the order of the answers."""
        waiting: dict[int, tuple[RecordedCall, bytes]] = {}
        number = 0
        for event in self._events:
            if isinstance(event, events.CallEvent):
                number += 1
                call = self._call(number, event)
                if event.answer is None:
                    self._caused(call, event.frame, event.effects)
                    waiting[event.channel] = call, event.frame
                else:
                    self._answer(call, event.frame, event.answer, event.effects, event.at_ns)
                    yield call
            elif isinstance(event, events.Answered):
                if event.channel not in waiting:
                    raise RecordError("an answer to no call: the record is damaged")
                call, frame = waiting.pop(event.channel)
                self._answer(call, frame, event.answer, event.effects, event.at_ns)
                yield call
            elif isinstance(event, events.Sent) and len(self.signals) < _MOST_SIGNALS:
                self.signals.append(RecordedSignal(event.signal, event.late, number, event.at_ns / 1e9))
        for call, _ in sorted(waiting.values(), key=lambda each: each[0].number):
            yield call

    def _call(self, number: int, event: events.CallEvent) -> RecordedCall:
        row = self.reader.rows.get(number_of(event.frame))
        at = event.at_ns / 1e9
        if row is None:
            return RecordedCall(number, event.channel, at, unknown_name(number_of(event.frame)), "unknown", {}, {})
        try:
            arguments, asked = row.both(event.frame)
        except GuestMisbehaved:
            arguments, asked = {}, {}
        return RecordedCall(number, event.channel, at, row.name, row.family, arguments, asked)

    def _answer(
        self,
        call: RecordedCall,
        frame: bytes,
        answer: events.RecordedAnswer,
        effects: tuple[events.Effect, ...],
        at_ns: int,
    ) -> None:
        call.result = answer.value
        call.took = at_ns / 1e9 - call.at
        call.stored = tuple(self._stored(each.data) for each in answer.stored)
        self._caused(call, frame, effects)

    def _caused(self, call: RecordedCall, frame: bytes, effects: tuple[events.Effect, ...]) -> None:
        """Adds the effects of a call, either when the call comes, or with its answer."""
        call.refusals += tuple(each for each in effects if isinstance(each, events.DenialEvent))
        call.printed += tuple(
            (each.stream, frame[60 : 60 + each.size] if each.data is None else self._stored(each.data).data or b"")
            for each in effects if isinstance(each, events.PrintedData)
        )  # fmt: skip
        call.clocks += tuple(
            reading for each in effects if isinstance(each, events.Clocks) for reading in each.readings()
        )  # fmt: skip

    def _stored(self, data: events.Data) -> Stored:
        if isinstance(data, bytes):
            return Stored(len(data), data)
        if isinstance(data, events.LeftOut):
            return Stored(data.size, None)
        file = self.reader.decoder.files[data.file]
        return Stored(data.size, None, file.path.decode("utf-8", "backslashreplace"))
