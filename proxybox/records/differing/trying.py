"""Finds out by replays which answers have led to a difference.

The first program runs again in a box from its record, with answers of the other run in place of its own. With all
differing answers, it must ask the other run's question at the parting. Then it runs with all answers except those of
one cause. If it still parts there, this cause is not needed; if it continues as in its record, the cause is needed. A
needed cause is also tried alone. A program may also part elsewhere: the time of PyPy's garbage collection depends on
hashes and clocks, and the collection closes files. Such a cause only "may have a part in it".
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from proxybox.controller.boxes.reading import RecordReader
from proxybox.controller.errors import RecordError
from proxybox.controller.record import events
from proxybox.controller.record.encoding import Encoder
from proxybox.controller.record.format import FrameKind, FrameWriter, frames
from proxybox.controller.record.parting import Divergence
from proxybox.records.differing.difference import Cause, Difference
from proxybox.records.differing.judging import CLOCKS, AnswerPair
from proxybox.records.differing.kinds import Weight
from proxybox.records.record import Record, RecordedCall
from proxybox.records.replaying import followed

#: The possible results.
LEADS, NEEDED, PART = "leads to it by itself", "it is needed", "may have a part in it"
SPARED, FAILS = "it is not needed", "cannot be told by replays"
_FRAME_BYTES: Final = 256 << 10
#: The most answers of the other run that are stored, and their most bytes.
_MOST: Final = 100_000
_MOST_BYTES: Final = 64 << 20


def tried(difference: Difference, **how: Any) -> Difference:
    """Returns a comparison with the results of replays; a cause that leads to the difference comes first.

    how: as for `replay`. Raises RecordError if the first record cannot be replayed here.
    """
    parting = difference.parting
    if parting is None or not parting.a.number or not parting.b.number:
        return difference
    groups = [_group(cause, difference) for cause in difference.causes]
    first, second = difference.names
    asked = _asked(first, parting.a.number), _asked(second, parting.b.number)
    trial = _Trial(first, second, *asked, difference.derived, how)
    everything = _given(difference.pairs)
    is_told = trial.comes(everything) == _PARTS
    causes = []
    for cause, group in zip(difference.causes, groups, strict=True):
        if group:
            cause = attrs.evolve(cause, tried=_came(trial, everything, group) if is_told else FAILS)
        causes.append(cause)
    causes.sort(key=_rank)
    return attrs.evolve(difference, causes=tuple(causes))


#: Answers by the numbers of their calls in both runs, each with whether it is a reading of clocks.
_RunInputs: TypeAlias = frozenset[tuple[int, int, bool]]


def _given(pairs: Iterable[AnswerPair]) -> _RunInputs:
    return frozenset((each.a, each.b, each.is_reading) for each in pairs)


def _group(cause: Cause, difference: Difference) -> _RunInputs:
    """Returns the answers of a cause; an empty set for a cause that is no answer."""
    if cause.found is None or not cause.found.call:
        return frozenset()
    return _given(
        each
        for each in difference.pairs
        if each.kind == cause.kind.name and (each.path == cause.found.path or cause.kind.weight > Weight.WORLD)
    )


def _came(trial: "_Trial", everything: _RunInputs, group: _RunInputs) -> str:
    without = trial.comes(everything - group)
    if without == _PARTS:
        return SPARED
    if trial.comes(group) == _PARTS:
        return LEADS
    return NEEDED if without == _GOES_ON else PART


def _rank(cause: Cause) -> int:
    """Returns the sort key of a cause, by the result of its replays; causes that were not tried come between."""
    return {LEADS: 0, NEEDED: 1, PART: 1, SPARED: 3}.get(cause.tried, 2)


def _asked(path: str, number: int) -> RecordedCall:
    with Record(path) as record:
        for call in record.calls():
            if call.number == number:
                return call
    raise RecordError("the record has changed while it was read")


#: The end of a replay: it parts as the other run does, it does not part, or it parts elsewhere.
_PARTS, _GOES_ON, _ELSEWHERE = "parts", "goes on", "elsewhere"


@attrs.frozen
class _Trial:
    """Replays of the first record. usual, asked: both calls where the runs part. derived: as in `Difference`."""

    first: str
    second: str
    usual: RecordedCall
    asked: RecordedCall
    derived: frozenset[int]
    how: Mapping[str, Any]

    def comes(self, pairs: _RunInputs) -> str:
        """Replays with these answers of the second record, and returns where the replay parts."""
        if not pairs:
            return _GOES_ON
        answers = _answers(self.second, {theirs for _, theirs, _ in pairs})
        inputs: dict[int, _Other] = {}
        for ours, theirs, is_reading in pairs:
            if theirs in answers:
                other, known = answers[theirs], inputs.setdefault(ours, _Other(None, None))
                inputs[ours] = _Other(known.answer, other.clocks) if is_reading else _Other(other.answer, known.clocks)
        handle, path = tempfile.mkstemp(prefix="proxybox-diff-", suffix=".pbx")
        os.close(handle)
        try:
            _write(path, self.first, inputs, self.usual.number)
            divergence = followed(path, loosely=self.derived, **self.how).divergence
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
        if divergence is None:
            return _GOES_ON
        return self._place(divergence, has_clocks=(self.usual.number, self.asked.number, True) in pairs)

    def _place(self, divergence: Divergence, *, has_clocks: bool) -> str:
        """Returns where a replay has parted. has_clocks: whether it gets the other run's clock readings there."""
        got = divergence.got
        if got is None or divergence.number != self.usual.number:
            return _ELSEWHERE
        if got.name == self.asked.name:
            passed = [name for name, value in self.asked.arguments.items() if isinstance(value, bytes)]
            is_same = all(got.arguments.get(name) == self.asked.arguments[name] for name in passed)
            return _PARTS if is_same else _ELSEWHERE
        if got.name == self.usual.name:
            return _GOES_ON  # it prints another value, such as a time
        if got.name in CLOCKS:  # other clocks than it got, so it does not follow the run that they are from
            return _GOES_ON if has_clocks else _PARTS
        return _ELSEWHERE


@attrs.define
class _Other:
    """The other run's answer to a call, and its clock readings."""

    answer: events.RecordedAnswer | None
    clocks: events.Clocks | None


def _numbered(reader: RecordReader) -> Iterator[tuple[int, events.Event]]:
    """Yields all events, each call and each answer with the number of the call, and others with 0."""
    number = 0
    waiting: dict[int, int] = {}
    for event in reader.events():
        if isinstance(event, events.CallEvent):
            number += 1
            waiting[event.channel] = number
            yield number, event
        elif isinstance(event, events.Answered):
            yield waiting.get(event.channel, 0), event
        else:
            yield 0, event


def _answers(path: str, numbers: set[int]) -> dict[int, _Other]:
    found: dict[int, _Other] = {}
    size = 0
    with open(path, "rb") as file:
        for number, event in _numbered(RecordReader.open(file)):
            if number not in numbers or not isinstance(event, events.CallEvent | events.Answered):
                continue
            clocks = next((each for each in event.effects if isinstance(each, events.Clocks)), None)
            known = found.setdefault(number, _Other(None, None))
            known.answer, known.clocks = event.answer or known.answer, clocks or known.clocks
            stored = () if event.answer is None else event.answer.stored
            size += sum(len(each.data) for each in stored if isinstance(each.data, bytes))
            if len(found) >= _MOST or size > _MOST_BYTES:
                break
    return found


def _write(path: str, first: str, others: Mapping[int, _Other], end: int) -> None:
    """Writes the first record up to the call with number `end`, with other answers."""
    with open(first, "rb") as file:
        start = next(frames(file)).data
    encoder = Encoder(0)
    with open(first, "rb") as source, open(path, "wb") as target:
        writer = FrameWriter(target)
        writer.write(FrameKind.START, start)
        for number, event in _numbered(RecordReader.open(source)):
            other = others.get(number)
            _encode(encoder, event, other if other is not None and _can_be_given(other) else None)
            if encoder.size > _FRAME_BYTES:
                writer.write(FrameKind.EVENTS, encoder.take())
            if number == end:
                break
        writer.write(FrameKind.EVENTS, encoder.take())


def _can_be_given(other: _Other) -> bool:
    """Whether the answer is complete: parts of files are stored as numbers that the first record does not have."""
    return other.answer is None or all(isinstance(each.data, bytes) for each in other.answer.stored)


def _encode(encoder: Encoder, event: events.Event, other: _Other | None) -> None:
    if isinstance(event, events.CallEvent | events.Answered):
        answer = event.answer
        for effect in event.effects:
            if isinstance(effect, events.Clocks):
                clocks = effect if other is None or other.clocks is None else other.clocks
                encoder.clocks(event.channel, event.at_ns, clocks.raw)
            elif isinstance(effect, events.PrintedData):
                data = effect.data if isinstance(effect.data, bytes) else None
                encoder.printed(effect.stream, effect.size, data)
            elif isinstance(effect, events.DenialEvent):
                encoder.refused(effect)
            elif isinstance(effect, events.Mapped):
                encoder.mapped(effect.file)
        if answer is not None and other is not None and other.answer is not None:
            answer = other.answer
        if isinstance(event, events.CallEvent):
            value, stored = (None, ()) if answer is None else (answer.value, answer.stored)
            encoder.call(event.channel, event.at_ns, event.frame, value, stored)
        elif answer is not None:
            encoder.answer(event.channel, event.at_ns, answer.value, answer.stored)
    elif isinstance(event, events.Sent):
        encoder.sent(event.signal, event.late, event.at_ns)
    elif isinstance(event, events.LibraryFileEvent):
        encoder.file(event)
