"""What happened in a run, one event after another, as bytes and back.

    event  u8 code, then by the code (little-endian, as all of the wire):
    1  call             head, segment (the request)                           its answer comes later
    2  call             head, i64 value, segment                              answered at once
    3  call             head, i64 value, segment, u16 n, n writes             answered at once
    4  answer           head, i64 value, u16 n, n writes                      of an earlier call of the thread
    5  printed          u8 stream, u32 n                                      the first n bytes that the call passes
    6  printed          u8 stream, segment                                    these bytes
    7  refused          text name, text errno, text reason
    8  mapped           u16 file
    9  sent             u8 signal, u8 late                                    a signal to the guest
    10 no thread        -                                                     the kernel was told to refuse a clone
    11 file             u16 number, u64 size, 32 bytes SHA-256, text path
    12 ended            text status, text why, i32 exit code, i32 signal      by whom, see `EndEvent`
    13 time             u64 nanoseconds since the start
    14 clocks           head, u16 n, n x u8 clock, n x i64 nanoseconds

    head     u16 channel of the thread, u32 time since the event before, in units of 100 ns
    write    u8 register, u64 offset, segment     at that register's value + offset; register 255: at that address
    text     u16 n, n bytes of UTF-8
    segment  u32 n, n bytes
             REPEATED, u32 number            the same as an earlier segment (`Window`)
             OF_FILE, u16 file, u64 offset, u32 n    from a file of the interpreter's library
             LEFT_OUT, u32 n                 n bytes that the record does not tell

Events 5 to 8, and 14, belong to the call or answer that follows. A signal that follows an answer was sent before the
guest got it. Where a program can write down the same thing in two ways, both are read.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import attrs

from proxybox.controller.errors import RecordError
from proxybox.controller.header import MAX_CHANNELS, MAX_PATH, RING
from proxybox.controller.wire.protocol import MAX_FRAME, MEMORY

REPEATED, OF_FILE, LEFT_OUT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
NO_REGISTER: Final = 255
UNIT_NS: Final = 100
#: Segments from this size on are stored once, as long as they are in the window.
LARGE: Final = 4096
#: Bytes of earlier segments to which a later one can refer. A reader keeps as much in memory.
WINDOW: Final = 16 << 20
MOST_FILES: Final = 1 << 14
#: Effects of one call: refusals, pieces of output.
_MOST_EFFECTS: Final = 4096
#: No address of a guest is lower.
_LOWEST: Final = 1 << 16
_NONE: Final = -(1 << 31)

_HEAD = struct.Struct("<BHI")
_CALL = struct.Struct("<BHIqI")  # with the value, and the size of the segment that follows
_VALUE = struct.Struct("<q")
_PLACE = struct.Struct("<BQ")
_ONE_PLACE = struct.Struct("<HBQ")  # with their number, 1
_U16, _U32, _U64, _END = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<ii")
_FILE = struct.Struct("<HQ32s")
_PART = struct.Struct("<HQI")
#: The six registers of a request.
REGISTERS = struct.Struct("<8x6Q").unpack_from


@attrs.frozen(slots=True)
class OfFile:
    """A part of a file of the interpreter's library, by the file's number."""

    file: int
    offset: int
    size: int


@attrs.frozen(slots=True)
class LeftOut:
    """Bytes that the record does not tell."""

    size: int


Data: TypeAlias = bytes | OfFile | LeftOut


@attrs.frozen(slots=True)
class StoredData:
    """What an answer stores in the guest: at the value of a register of the request plus offset, or at an address."""

    register: int
    offset: int
    data: Data


@attrs.define(slots=True)
class RecordedAnswer:
    """What a call returned (>= 0 or -errno), and stored."""

    value: int
    stored: tuple[StoredData, ...] = ()


@attrs.frozen(slots=True)
class PrintedData:
    """What a call printed. data: None for the first `size` bytes that it passed."""

    stream: int
    size: int
    data: Data | None = None


@attrs.frozen(slots=True)
class DenialEvent:
    """A refusal by policy, as `audit.Denial` has it."""

    call: str
    errno: str
    reason: str


@attrs.frozen(slots=True)
class Mapped:
    """The call allows a mapping of a file of the library."""

    file: int


@attrs.frozen(slots=True)
class Clocks:
    """Readings of clocks that the guest has made by itself before the call, as its request has them."""

    raw: bytes

    def readings(self) -> tuple[tuple[int, int], ...]:
        """Returns them as (clock, nanoseconds)."""
        count = len(self.raw) // 9
        return tuple(zip(self.raw[:count], struct.unpack_from(f"<{count}q", self.raw, count), strict=True))


Effect: TypeAlias = PrintedData | DenialEvent | Mapped | Clocks


@attrs.define(slots=True)
class CallEvent:
    """A request of the thread on a channel. answer: None where another event answers it.

    is_plain: whether it was answered at once, by a number alone, and had no effects.
    """

    channel: int
    at_ns: int
    frame: bytes
    answer: RecordedAnswer | None = None
    effects: tuple[Effect, ...] = ()
    is_plain: bool = attrs.field(default=False, eq=False)


@attrs.define(slots=True)
class Answered:
    """The answer to a thread's earlier call."""

    channel: int
    at_ns: int
    answer: RecordedAnswer
    effects: tuple[Effect, ...] = ()


@attrs.frozen(slots=True)
class Sent:
    """A signal that was sent to the guest. late: while it computed; else with the answer before which it stands."""

    signal: int
    late: bool
    at_ns: int = 0


@attrs.frozen(slots=True)
class LibraryFileEvent:
    """A file of the interpreter's library, by its path in the box."""

    number: int
    size: int
    digest: bytes
    path: bytes


@attrs.frozen(slots=True)
class EndEvent:
    """How the guest ended. status: "" where it did so itself; else why the controller ended it."""

    status: str
    why: str
    exit_code: int | None
    signal: int | None


Event: TypeAlias = CallEvent | Answered | Sent | LibraryFileEvent | EndEvent


class Window:
    """The large segments that came last, by their numbers: the same ones by writer and reader."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._size = 0
        self.next = 0

    def add(self, data: bytes) -> bool:
        """Keeps the next large segment. Returns whether others are kept no longer."""
        self._kept[self.next] = data
        self.next += 1
        self._size += len(data)
        before = len(self._kept)
        while self._size > WINDOW and len(self._kept) > 1:
            self._size -= len(self._kept.popitem(last=False)[1])
        return len(self._kept) < before

    def get(self, number: int) -> bytes | None:
        """Returns a segment; None where it is not kept."""
        return self._kept.get(number)


# --- writing ----------------------------------------------------------------------------------------------------------


class Encoder:
    """Makes bytes of events, one after another. calls: how many requests there were so far."""

    def __init__(self, started_ns: int) -> None:
        self.calls = 0
        self._last_ns = self._started_ns = started_ns
        self._window: Window = Window()
        self._numbers: dict[tuple[int, bytes, bytes, bytes], int] = {}
        self._out: list[bytes] = []
        self.size = 0

    def take(self) -> bytes:
        """Returns the bytes of all events since the last call."""
        out, self._out, self.size = b"".join(self._out), [], 0
        return out

    def _put(self, *pieces: bytes) -> None:
        self._out += pieces
        self.size += sum(map(len, pieces))

    def _passed(self, now: int) -> int:
        """Returns the time since the last event. Time that is too long for that is told by an event of its own."""
        passed = max(0, now - self._last_ns) // UNIT_NS
        if passed >> 32:
            self._put(b"\x0d", _U64.pack(now - self._started_ns))
            passed = 0
            self._last_ns = now
        else:
            self._last_ns += passed * UNIT_NS
        return passed

    def plain_calls(self, notes: Iterable[tuple[Any, ...]], other: Callable[[tuple[Any, ...]], None]) -> None:
        """Many calls that were answered at once with a number, each as (None, channel, now, frame, value).

        It does what `call` does, in less time. other: called for each note of another kind.
        """
        out, pack, last, size, calls = self._out, _CALL.pack, self._last_ns, 0, 0
        for note in notes:
            if note[0] is None:
                _, channel, now, frame, value = note
                passed = (now - last) // UNIT_NS
                if 0 <= passed < 1 << 32 and len(frame) < LARGE:
                    last += passed * UNIT_NS
                    out.append(pack(2, channel, passed, value, len(frame) - 4))
                    out.append(frame[4:])
                    size += len(frame) + _CALL.size - 4
                    calls += 1
                    continue
            self._last_ns = last
            self.calls, calls = self.calls + calls, 0
            if note[0] is None:
                self.call(*note[1:])
            else:
                other(note)
            last = self._last_ns
        self._last_ns = last
        self.size += size
        self.calls += calls

    def call(self, channel: int, now: int, frame: bytes, value: int | None, stored: Sequence[StoredData] = ()) -> None:
        """A request, with its answer where it was answered at once."""
        self.calls += 1
        passed, size = self._passed(now), len(frame) - 4
        if value is not None and not stored and size < LARGE:  # nearly all
            self._put(_CALL.pack(2, channel, passed, value, size), frame[4:])
            return
        if value is not None and len(stored) == 1 and size < LARGE:  # most others: what is read
            (only,) = stored
            head = _CALL.pack(3, channel, passed, value, size)
            self._put(head, frame[4:], _ONE_PLACE.pack(1, only.register, only.offset))
            self._segment(only.data)
            return
        code = 1 if value is None else 3 if stored else 2
        self._put(_HEAD.pack(code, channel, passed))
        if value is not None:
            self._put(_VALUE.pack(value))
        self._segment(frame[4:])
        if stored:
            self._stored(stored)

    def answer(self, channel: int, now: int, value: int, stored: Sequence[StoredData]) -> None:
        """The answer to a call that had to wait."""
        self._put(_HEAD.pack(4, channel, self._passed(now)), _VALUE.pack(value))
        self._stored(stored)

    def _stored(self, stored: Sequence[StoredData]) -> None:
        self._put(_U16.pack(len(stored)))
        for each in stored:
            self._put(_PLACE.pack(each.register, each.offset))
            self._segment(each.data)

    def _segment(self, data: Data) -> None:
        if isinstance(data, OfFile):
            self._put(_U32.pack(OF_FILE), _PART.pack(data.file, data.offset, data.size))
        elif isinstance(data, LeftOut):
            self._put(_U32.pack(LEFT_OUT), _U32.pack(data.size))
        elif len(data) < LARGE:
            self._put(_U32.pack(len(data)), data)
        else:
            looks = _looks(data)
            known = self._numbers.get(looks)
            if known is not None and self._window.get(known) == data:
                self._put(_U32.pack(REPEATED), _U32.pack(known))
                return
            self._numbers[looks] = self._window.next
            self._put(_U32.pack(len(data)), data)
            if self._window.add(data):
                self._numbers = {key: at for key, at in self._numbers.items() if self._window.get(at) is not None}

    def printed(self, stream: int, size: int, data: bytes | None) -> None:
        """What the call that follows has printed; None: the first `size` bytes that it passes."""
        if data is None:
            self._put(bytes([5, stream]), _U32.pack(size))
        else:
            self._put(bytes([6, stream]))
            self._segment(data)

    def refused(self, refused: DenialEvent) -> None:
        """A refusal of the call that follows."""
        self._put(b"\x07", _text(refused.call), _text(refused.errno), _text(refused.reason))

    def mapped(self, file: int) -> None:
        """A mapping that the call that follows allows."""
        self._put(b"\x08", _U16.pack(file))

    def sent(self, signal: int, late: bool, now: int) -> None:
        """A signal to the guest."""
        if late:
            self._put(b"\x0d", _U64.pack(now - self._started_ns))
            self._last_ns = now
        self._put(bytes([9, signal, late]))

    def file(self, file: LibraryFileEvent) -> None:
        """A file of the library, before the first event that names it."""
        self._put(b"\x0b", _FILE.pack(file.number, file.size, file.digest), _bytes(file.path))

    def clocks(self, channel: int, now: int, readings: bytes) -> None:
        """Readings of clocks before the call that follows."""
        self._put(_HEAD.pack(14, channel, self._passed(now)), _U16.pack(len(readings) // 9), readings)

    def ended(self, ended: EndEvent) -> None:
        """The end of the guest."""
        numbers = (_NONE if each is None else each for each in (ended.exit_code, ended.signal))
        self._put(b"\x0c", _text(ended.status), _text(ended.why), _END.pack(*numbers))


def _looks(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Returns what tells nearly all segments apart. To hash all of them would cost more than to read them."""
    middle = len(data) // 2
    return len(data), data[:64], data[middle : middle + 64], data[-64:]


def _bytes(data: bytes) -> bytes:
    data = data[:0xFFFF]
    return _U16.pack(len(data)) + data


def _text(text: str) -> bytes:
    return _bytes(text.encode("utf-8", "backslashreplace")[:0xFFF0])


def placed(frame: bytes, writes: Iterable[tuple[int, Data]]) -> list[StoredData]:
    """Returns what an answer stores, each by the register of its request that points there or just before it."""
    registers = REGISTERS(frame)
    found = []
    for address, data in writes:
        if address in registers:
            found.append(StoredData(registers.index(address), 0, data))
            continue
        below = max((each for each in registers if each <= address < each + MAX_FRAME), default=None)
        register = NO_REGISTER if below is None or below < _LOWEST else registers.index(below)
        found.append(StoredData(register, address - (0 if register == NO_REGISTER else registers[register]), data))
    return found


# --- reading ----------------------------------------------------------------------------------------------------------

#: The first field of a request, its size, for what is kept as its size without that field: of small ones.
_SIZES: Final = {size: _U32.pack(size + 4) for size in range(MEMORY - 4, LARGE)}


#: Answers without anything stored, of which a reader keeps one for each value.
_MOST_ANSWERS: Final = 256


class Decoder:
    """Makes events of the bytes of one frame after another. Raises RecordError for what no encoder writes."""

    def __init__(self) -> None:
        self._window: Window = Window()
        self._now = 0
        self._effects: list[Effect] = []
        self._effects_size = 0
        self._has_ended = False
        self._answers: dict[int, RecordedAnswer] = {}  # those that stand for many calls
        self.files: dict[int, LibraryFileEvent] = {}

    def events(self, data: bytes) -> Iterator[Event]:
        """Yields the events of a frame's bytes."""
        at, whole, effects = 0, len(data), self._effects
        head, of_head, sizes, answers = _CALL.size, _CALL.unpack_from, _SIZES, self._answers
        while at < whole:
            begun = at
            if self._has_ended:
                raise RecordError("an event after the end of the guest: the record is damaged")
            try:
                if data[at] == 2 and not effects:  # nearly all
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
            _, channel, passed = _HEAD.unpack_from(data, at)
            if channel >= MAX_CHANNELS:
                raise RecordError(f"a call on channel {channel}: the record is damaged")
            self._now += passed * UNIT_NS
            return self._of_thread(code, channel, data, at + _HEAD.size)
        return self._other(code, data, at + 1)

    def _of_thread(self, code: int, channel: int, data: bytes, at: int) -> tuple[Event | None, int]:
        value, frame = None, b""
        stored: tuple[StoredData, ...] = ()
        if code == 14:
            (count,) = _U16.unpack_from(data, at)
            raw = data[at + 2 : at + 2 + 9 * count]
            if len(raw) != 9 * count or not 0 < count <= RING:
                raise RecordError("readings of clocks of an impossible size: the record is damaged")
            self._has(Clocks(raw))
            return None, at + 2 + len(raw)
        if code != 1:
            (value,) = _VALUE.unpack_from(data, at)
            at += _VALUE.size
        if code != 4:
            rest, at = self._segment(data, at)
            if not isinstance(rest, bytes) or not MEMORY <= len(rest) + 4 <= MAX_FRAME:
                raise RecordError("a request of an impossible size: the record is damaged")
            frame = _U32.pack(len(rest) + 4) + rest
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
        (count,), stored, size = _U16.unpack_from(data, at), [], 0
        at += 2
        for _ in range(count):
            register, offset = _PLACE.unpack_from(data, at)
            if register > 5 and register != NO_REGISTER:
                raise RecordError(f"an answer by register {register}: the record is damaged")
            piece, at = self._segment(data, at + _PLACE.size)
            size += len(piece) if isinstance(piece, bytes) else piece.size
            if size > MAX_FRAME:
                raise RecordError("an answer that stores more than any does: the record is damaged")
            stored.append(StoredData(register, offset, piece))
        return tuple(stored), at

    def _segment(self, data: bytes, at: int) -> tuple[Data, int]:
        (size,) = _U32.unpack_from(data, at)
        at += 4
        if size == REPEATED:
            (number,) = _U32.unpack_from(data, at)
            known = self._window.get(number)
            if known is None:
                raise RecordError(f"segment {number} is not known any more: the record is damaged")
            return known, at + 4
        if size == OF_FILE:
            part = OfFile(*_PART.unpack_from(data, at))
            if part.file not in self.files or part.size > MAX_FRAME or part.offset >= 1 << 62:
                raise RecordError("a part of a file that was not named: the record is damaged")
            return part, at + _PART.size
        if size == LEFT_OUT:
            (size,) = _U32.unpack_from(data, at)
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
        """Adds an effect to those of the call that follows, which are kept until it comes."""
        self._effects.append(effect)
        self._effects_size += held_by(effect)
        if len(self._effects) > _MOST_EFFECTS or self._effects_size > WINDOW:
            raise RecordError("a call with more effects than any has: the record is damaged")

    def _printed_argument(self, data: bytes, at: int) -> tuple[None, int]:
        self._has(PrintedData(data[at] & 1, _U32.unpack_from(data, at + 1)[0]))
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
        (number,) = _U16.unpack_from(data, at)
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
        number, size, digest = _FILE.unpack_from(data, at)
        path, at = _read_bytes(data, at + _FILE.size)
        if len(path) > MAX_PATH or len(self.files) >= MOST_FILES:
            raise RecordError("a file with a path that is too long, or one too many: the record is damaged")
        file = self.files[number] = LibraryFileEvent(number, size, digest, path)
        return file, at

    def _ended(self, data: bytes, at: int) -> tuple[Event, int]:
        status, at = _read_text(data, at)
        why, at = _read_text(data, at)
        code, signal = (None if each == _NONE else each for each in _END.unpack_from(data, at))
        self._has_ended = True
        return EndEvent(status, why, code, signal), at + _END.size

    def _time(self, data: bytes, at: int) -> tuple[None, int]:
        self._now = max(self._now, _U64.unpack_from(data, at)[0])
        return None, at + 8


def held_by(effect: Effect) -> int:
    """Returns how many bytes, or characters, an effect keeps in memory, besides itself."""
    if isinstance(effect, Clocks):
        return len(effect.raw)
    if isinstance(effect, DenialEvent):
        return len(effect.call) + len(effect.errno) + len(effect.reason)
    return len(effect.data) if isinstance(effect, PrintedData) and isinstance(effect.data, bytes) else 0


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
    (size,) = _U16.unpack_from(data, at)
    piece = data[at + 2 : at + 2 + size]
    if len(piece) != size:
        raise IndexError
    return piece, at + 2 + size


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    piece, at = _read_bytes(data, at)
    return piece.decode("utf-8", "backslashreplace"), at
