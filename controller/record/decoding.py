"""Decodes the bytes of a record to events (see events.py). Bytes that no encoder writes are refused."""

import struct
from collections.abc import Callable, Iterator
from typing import Final

from proxybox.controller.errors import RecordError
from proxybox.controller.header import MAX_CHANNELS, MAX_PATH, RING
from proxybox.controller.record.events import (
    CALL,
    END,
    FILE,
    HEAD,
    LARGE,
    LEFT_OUT,
    MOST_FILES,
    NO_REGISTER,
    NONE,
    OF_FILE,
    PART,
    PLACE,
    REPEATED,
    U16,
    U32,
    U64,
    UNIT_NS,
    VALUE,
    WINDOW,
    Answered,
    CallEvent,
    Clocks,
    Data,
    DenialEvent,
    Effect,
    EndEvent,
    Event,
    LeftOut,
    LibraryFileEvent,
    Mapped,
    OfFile,
    PrintedData,
    RecordedAnswer,
    Sent,
    StoredData,
    Window,
    held_by,
)
from proxybox.controller.wire.protocol import MAX_FRAME, MEMORY

#: The most effects of one call: refusals, pieces of output.
_MOST_EFFECTS: Final = 4096
#: The first field of a small request, which is its size, by the size of the rest.
_SIZES: Final = {size: U32.pack(size + 4) for size in range(MEMORY - 4, LARGE)}
#: The most answers without stored data that a reader shares, one for each value.
_MOST_ANSWERS: Final = 256


class Decoder:
    """Decodes one frame after another to events. Raises RecordError for bytes that no encoder writes."""

    def __init__(self) -> None:
        self._window: Window = Window()
        self._now = 0
        self._effects: list[Effect] = []
        self._effects_size = 0
        self._has_ended = False
        self._answers: dict[int, RecordedAnswer] = {}  # those that many calls share
        self.files: dict[int, LibraryFileEvent] = {}

    def events(self, data: bytes) -> Iterator[Event]:
        """Yields the events of a frame's bytes."""
        at, whole, effects = 0, len(data), self._effects
        head, of_head, sizes, answers = CALL.size, CALL.unpack_from, _SIZES, self._answers
        while at < whole:
            begun = at
            if self._has_ended:
                raise RecordError("an event after the end of the guest: the record is damaged")
            try:
                if data[at] == 2 and not effects:  # nearly all events
                    _, channel, passed, value, size = of_head(data, at)
                    begins = at + head
                    end = begins + size
                    if size in sizes and end <= whole and channel < MAX_CHANNELS:
                        self._now = now = self._now + passed * UNIT_NS
                        at = end
                        answer = answers.get(value)
                        if answer is None:
                            answer = RecordedAnswer(value)
                            if len(answers) < _MOST_ANSWERS:
                                answers[value] = answer
                        yield CallEvent(channel, now, sizes[size] + data[begins:end], answer, (), True)
                        continue
                event, at = self._event(data, at)
            except (struct.error, IndexError):
                raise RecordError(
                    f"an event is cut off at byte {begun:,} of its frame: the record is damaged"
                ) from None
            if event is not None:
                yield event

    def _event(self, data: bytes, at: int) -> tuple[Event | None, int]:
        code = data[at]
        if 1 <= code <= 4 or code == 14:
            _, channel, passed = HEAD.unpack_from(data, at)
            if channel >= MAX_CHANNELS:
                raise RecordError(f"a call on channel {channel}: the record is damaged")
            self._now += passed * UNIT_NS
            return self._of_thread(code, channel, data, at + HEAD.size)
        return self._other(code, data, at + 1)

    def _of_thread(self, code: int, channel: int, data: bytes, at: int) -> tuple[Event | None, int]:
        value, frame = None, b""
        stored: tuple[StoredData, ...] = ()
        if code == 14:
            (count,) = U16.unpack_from(data, at)
            raw = data[at + 2 : at + 2 + 9 * count]
            if len(raw) != 9 * count or not 0 < count <= RING:
                raise RecordError("readings of clocks of an impossible size: the record is damaged")
            self._has(Clocks(raw))
            return None, at + 2 + len(raw)
        if code != 1:
            (value,) = VALUE.unpack_from(data, at)
            at += VALUE.size
        if code != 4:
            rest, at = self._segment(data, at)
            if not isinstance(rest, bytes) or not MEMORY <= len(rest) + 4 <= MAX_FRAME:
                raise RecordError("a request of an impossible size: the record is damaged")
            frame = U32.pack(len(rest) + 4) + rest
        if code >= 3:
            stored, at = self._stored(data, at)
        effects = tuple(self._effects)
        self._effects.clear()
        self._effects_size = 0
        answer = None if value is None else RecordedAnswer(value, stored)
        if code == 4:
            return Answered(channel, self._now, RecordedAnswer(value or 0, stored), effects), at
        return CallEvent(channel, self._now, frame, answer, effects), at

    def _stored(self, data: bytes, at: int) -> tuple[tuple[StoredData, ...], int]:
        (count,), stored, size = U16.unpack_from(data, at), [], 0
        at += 2
        for _ in range(count):
            register, offset = PLACE.unpack_from(data, at)
            if register > 5 and register != NO_REGISTER:
                raise RecordError(f"an answer by register {register}: the record is damaged")
            piece, at = self._segment(data, at + PLACE.size)
            size += len(piece) if isinstance(piece, bytes) else piece.size
            if size > MAX_FRAME:
                raise RecordError("an answer that stores more than any does: the record is damaged")
            stored.append(StoredData(register, offset, piece))
        return tuple(stored), at

    def _segment(self, data: bytes, at: int) -> tuple[Data, int]:
        (size,) = U32.unpack_from(data, at)
        at += 4
        if size == REPEATED:
            (number,) = U32.unpack_from(data, at)
            known = self._window.get(number)
            if known is None:
                raise RecordError(f"segment {number} is not known any more: the record is damaged")
            return known, at + 4
        if size == OF_FILE:
            part = OfFile(*PART.unpack_from(data, at))
            if part.file not in self.files or part.size > MAX_FRAME or part.offset >= 1 << 62:
                raise RecordError("a part of a file that was not named: the record is damaged")
            return part, at + PART.size
        if size == LEFT_OUT:
            (size,) = U32.unpack_from(data, at)
            return LeftOut(size), at + 4
        piece = data[at : at + size]
        if len(piece) != size:
            raise IndexError
        if size >= LARGE:
            self._window.add(piece)
        return piece, at + size

    def _other(self, code: int, data: bytes, at: int) -> tuple[Event | None, int]:
        read = _READERS.get(code)
        if read is None:
            raise RecordError(f"an event of kind {code}, which no record of this format has")
        return read(self, data, at)

    def _has(self, effect: Effect) -> None:
        """Adds an effect of the call that follows, and stores it until that call is decoded."""
        self._effects.append(effect)
        self._effects_size += held_by(effect)
        if len(self._effects) > _MOST_EFFECTS or self._effects_size > WINDOW:
            raise RecordError("a call with more effects than any has: the record is damaged")

    def _printed_argument(self, data: bytes, at: int) -> tuple[None, int]:
        self._has(PrintedData(data[at] & 1, U32.unpack_from(data, at + 1)[0]))
        return None, at + 5

    def _printed(self, data: bytes, at: int) -> tuple[None, int]:
        piece, end = self._segment(data, at + 1)
        self._has(PrintedData(data[at] & 1, len(piece) if isinstance(piece, bytes) else piece.size, piece))
        return None, end

    def _refused(self, data: bytes, at: int) -> tuple[None, int]:
        name, at = _read_text(data, at)
        number, at = _read_text(data, at)
        reason, at = _read_text(data, at)
        self._has(DenialEvent(name, number, reason))
        return None, at

    def _mapped(self, data: bytes, at: int) -> tuple[None, int]:
        (number,) = U16.unpack_from(data, at)
        if number not in self.files:
            raise RecordError("a mapping of a file that was not named: the record is damaged")
        self._has(Mapped(number))
        return None, at + 2

    def _sent(self, data: bytes, at: int) -> tuple[Event, int]:
        signal, late = data[at], data[at + 1]
        if not 1 <= signal <= 64:
            raise RecordError(f"signal {signal}: the record is damaged")
        return Sent(signal, bool(late), self._now), at + 2

    def _file(self, data: bytes, at: int) -> tuple[Event, int]:
        number, size, digest = FILE.unpack_from(data, at)
        path, at = _read_bytes(data, at + FILE.size)
        if len(path) > MAX_PATH or len(self.files) >= MOST_FILES:
            raise RecordError("a file with a path that is too long, or one too many: the record is damaged")
        file = self.files[number] = LibraryFileEvent(number, size, digest, path)
        return file, at

    def _ended(self, data: bytes, at: int) -> tuple[Event, int]:
        status, at = _read_text(data, at)
        why, at = _read_text(data, at)
        code, signal = (None if each == NONE else each for each in END.unpack_from(data, at))
        self._has_ended = True
        return EndEvent(status, why, code, signal), at + END.size

    def _time(self, data: bytes, at: int) -> tuple[None, int]:
        self._now = max(self._now, U64.unpack_from(data, at)[0])
        return None, at + 8


_READERS: Final[dict[int, Callable[[Decoder, bytes, int], tuple[Event | None, int]]]] = {
    5: Decoder._printed_argument,
    6: Decoder._printed,
    7: Decoder._refused,
    8: Decoder._mapped,
    9: Decoder._sent,
    11: Decoder._file,
    12: Decoder._ended,
    13: Decoder._time,
}


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = U16.unpack_from(data, at)
    piece = data[at + 2 : at + 2 + size]
    if len(piece) != size:
        raise IndexError
    return piece, at + 2 + size


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    piece, at = _read_bytes(data, at)
    return piece.decode("utf-8", "backslashreplace"), at
