"""The outline of a run: a few numbers for each call, so that runs of a million calls can be aligned in little memory.

Rule: the data stored for a call has a fixed size. The digests have a new random key for each comparison, so that nobody
can make a record with different calls that have equal digests.
"""

import os
from array import array
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import attrs

from proxybox.controller.calleffects import CallEffect
from proxybox.controller.oscalls.rows import names_of
from proxybox.records.differing.forms import Forms
from proxybox.records.record import RecordedCall

#: The most calls of a record that are compared, and the most printed bytes of each stream.
MOST_CALLS: Final = 4_000_000
MOST_PRINTED: Final = 8 << 20
#: Longer values are replaced by their length and digest.
_LONG: Final = 256
_NUMBERS: Final = (1 << 63) - 1
_DIGEST: Final = 1 << 63
_SIGINT: Final = 2
#: The size of a struct stat, and its part without the device, the inode number, the blocks and the times.
STAT_SIZE: Final = 144
_LASTING: Final = slice(16, 64)
CLONES: Final = names_of(CallEffect.STARTS)
#: The two parts of a clone's result: the thread's number, and its channel.
_TID, _CHANNEL = 16, 0xFFFF
#: The most threads that are distinguished; further threads count as the last one.
_MOST_THREADS: Final = 10_000
#: Calls by which threads wait for each other.
LOCKING: Final = names_of(CallEffect.LOCKS)


@attrs.define(eq=False)
class Track:
    """The calls of one thread, in their order.

    The arrays have an item for each call. numbers: the call's number. forms, asked, answers, clocks: digests of the
    form of its question, of the question itself, of its answer, and of the times of clocks and files that it got.
    prints: 1 if it prints, otherwise 0.
    """

    numbers: "array[int]" = attrs.field(factory=lambda: array("Q"))
    forms: "array[int]" = attrs.field(factory=lambda: array("Q"))
    asked: "array[int]" = attrs.field(factory=lambda: array("Q"))
    answers: "array[int]" = attrs.field(factory=lambda: array("Q"))
    clocks: "array[int]" = attrs.field(factory=lambda: array("Q"))
    prints: "array[int]" = attrs.field(factory=lambda: array("B"))


@attrs.define(eq=False)
class Outline:
    """A whole run. tracks: by thread, as `Threads` counts them. order: the thread of each call, in their order.

    begins: the number of the call with which the program itself begins, after the interpreter's own start; 1 if it is
    not known. printed: the output, by stream. is_whole: whether it has all calls.
    """

    tracks: dict[int, Track] = attrs.field(factory=dict)
    order: "array[int]" = attrs.field(factory=lambda: array("H"))
    printed: dict[int, bytearray] = attrs.field(factory=lambda: {0: bytearray(), 1: bytearray()})
    begins: int = 1
    calls: int = 0
    is_whole: bool = True


class Digests:
    """Makes numbers of 64 bits from the arguments of a call, and from its answer."""

    def __init__(self) -> None:
        self._key = os.urandom(16)

    def asked(self, call: RecordedCall, forms: Forms) -> tuple[int, int]:
        """Returns the number of a question, and that of its form."""
        whole, form = self._question(call.name, call.asked), forms.of(call)
        return whole, whole if form is call.asked else self._question(call.name, form)

    def _question(self, name: str, asked: Mapping[str, Any]) -> int:
        return self._of((name, *((key, self._short(value)) for key, value in asked.items())))

    def answer(self, call: RecordedCall) -> int:
        """Returns the number of an answer, without readings of clocks and times of files."""
        if not call.stored and not call.refusals and call.result is not None:  # the usual case
            return (call.result >> _TID if call.name in CLONES and call.result > 0 else call.result) & _NUMBERS
        stored = tuple((each.size, each.source, self._short(without_times(each.data))) for each in call.stored)
        refusals = tuple((each.call, each.errno, each.reason) for each in call.refusals)
        return self._of((call.result, stored, refusals)) | _DIGEST

    def clocks(self, call: RecordedCall, before: tuple[tuple[int, int], ...] = ()) -> int:
        """Returns the number of a call's clock readings, and of the times of files in its answer.

        before: clock readings that the thread reported before the call.
        """
        times = tuple(times_of(each.data) for each in call.stored) if call.stored else ()
        readings = before + call.clocks
        return self._of((readings, times)) if readings or any(times) else 0

    def _short(self, value: Any) -> Any:
        if isinstance(value, bytes) and len(value) > _LONG:
            return len(value), blake2b(value, digest_size=16, key=self._key).digest()
        return value

    def _of(self, value: Any) -> int:
        made = blake2b(repr(value).encode("utf-8", "backslashreplace"), digest_size=8, key=self._key)
        return int.from_bytes(made.digest(), "little")


def without_times(data: bytes | None) -> bytes | None:
    """Returns the stored data of an answer; of a struct stat, only the part that does not differ in equal runs."""
    return data[_LASTING] if data is not None and len(data) == STAT_SIZE else data


def times_of(data: bytes | None) -> bytes:
    """Returns the numbers and times in a struct stat; b"" for other data."""
    return data[: _LASTING.start] + data[_LASTING.stop : 120] if data is not None and len(data) == STAT_SIZE else b""


@attrs.define(eq=False)
class Threads:
    """Numbers the threads: 0 is the main thread, and the others are numbered in the order of their starts.

    A record identifies threads by their channels, which are used again after a thread has ended.
    """

    _known: dict[int, int] = attrs.field(factory=dict)
    _begun: int = 0

    def of(self, call: RecordedCall) -> int:
        """Returns the thread of the next call, and adds a thread that the call starts."""
        thread = self._known.get(call.thread, call.thread)
        if call.name in CLONES and call.result is not None and call.result > 0:
            self._begun = min(self._begun + 1, _MOST_THREADS)
            self._known[call.result & _CHANNEL] = self._begun
        return thread


def outline(calls: Iterable[RecordedCall], digests: Digests, script: bytes = b"") -> Outline:
    """Reads the calls of a run. script: the path of the program in the box, b"" if it has none.

    When a thread has no more room for clock readings, it reports them by a separate call. These readings are added to
    the thread's next call, because the program does not decide how many such calls there are. Waits for locks are left
    out, because they depend on the timing of threads. The ends of threads are left out, because the process may end
    before them.
    """
    made, threads, forms = Outline(), Threads(), Forms()
    readings: dict[int, tuple[tuple[int, int], ...]] = {}
    named = prepared = 0
    for call in calls:
        if made.calls >= MOST_CALLS:
            made.is_whole = False
            break
        made.calls += 1
        if call.name == "clocks":
            readings[call.thread] = readings.get(call.thread, ())[-1:] + call.clocks
            continue
        thread = threads.of(call)
        if call.name in LOCKING or call.name == "exit":
            continue
        track = made.tracks.get(thread)
        if track is None:
            track = made.tracks[thread] = Track()
        track.numbers.append(call.number)
        whole, form = digests.asked(call, forms)
        track.asked.append(whole)
        track.forms.append(form)
        track.prints.append(bool(call.printed))
        track.answers.append(digests.answer(call))
        track.clocks.append(digests.clocks(call, readings.pop(call.thread, ()) if readings else ()))
        made.order.append(thread & 0xFFFF)
        if not named and begins_program(call.name, call.asked, script):
            named = call.number
        if not prepared and call.name == "rt_sigaction" and call.asked.get("sig") == _SIGINT:
            prepared = call.number
        for stream, data in call.printed:
            printed = made.printed.setdefault(stream & 1, bytearray())
            printed += data[: MOST_PRINTED - len(printed)]
    made.begins = named or prepared or 1
    return made


def begins_program(name: str, asked: Mapping[str, Any], script: bytes) -> bool:
    """Whether the interpreter begins the program with this call: it names the program's file, or requests a command."""
    if name == "exchange":
        message = asked.get("message")
        return isinstance(message, bytes) and message[:1] == b"r"
    return bool(script) and asked.get("path") == script
