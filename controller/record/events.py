"""The events of a run, and their encoding.

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
             LEFT_OUT, u32 n                 n bytes that the record leaves out

Events 5 to 8, and 14, belong to the call or answer that follows. A signal that follows an answer was sent before the
guest got it. Where one thing can be encoded in two ways, readers accept both.
"""

import struct
from collections import OrderedDict
from typing import Final, TypeAlias

import attrs

REPEATED, OF_FILE, LEFT_OUT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
NO_REGISTER: Final = 255
UNIT_NS: Final = 100
#: Segments from this size on are stored once, as long as they are in the window.
LARGE: Final = 4096
#: Bytes of earlier segments to which a later one can refer. A reader keeps that many in memory.
WINDOW: Final = 16 << 20
MOST_FILES: Final = 1 << 14
NONE: Final = -(1 << 31)

HEAD = struct.Struct("<BHI")
CALL = struct.Struct("<BHIqI")  # with the answer's value, and the size of the segment that follows
VALUE = struct.Struct("<q")
PLACE = struct.Struct("<BQ")
ONE_PLACE = struct.Struct("<HBQ")  # with the number of writes, 1
U16, U32, U64, END = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<ii")
FILE = struct.Struct("<HQ32s")
PART = struct.Struct("<HQI")
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
    """Bytes that the record leaves out."""

    size: int


Data: TypeAlias = bytes | OfFile | LeftOut


@attrs.frozen(slots=True)
class StoredData:
    """Data that an answer stores in the guest, at the value of a register plus `offset`, or at that address."""

    register: int
    offset: int
    data: Data


@attrs.define(slots=True)
class RecordedAnswer:
    """The value that a call returned (>= 0 or -errno), and the data that it stored."""

    value: int
    stored: tuple[StoredData, ...] = ()


@attrs.frozen(slots=True)
class PrintedData:
    """The output of a call. data: None for the first `size` bytes that it passed."""

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
    """Readings of clocks that the guest has made by itself before the call, encoded as in its request."""

    raw: bytes

    def readings(self) -> tuple[tuple[int, int], ...]:
        """Returns pairs of clock and nanoseconds."""
        count = len(self.raw) // 9
        return tuple(zip(self.raw[:count], struct.unpack_from(f"<{count}q", self.raw, count), strict=True))


Effect: TypeAlias = PrintedData | DenialEvent | Mapped | Clocks


@attrs.define(slots=True)
class CallEvent:
    """A request of the thread on a channel. answer: None where a later event has it.

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
    """A signal that was sent to the guest. late: while the guest computed; otherwise just before an answer."""

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
    """How the guest ended. status: "" where it ended by itself; otherwise why the controller ended it."""

    status: str
    why: str
    exit_code: int | None
    signal: int | None


Event: TypeAlias = CallEvent | Answered | Sent | LibraryFileEvent | EndEvent


class Window:
    """The latest large segments, by their numbers. Writers and readers have the same ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._size = 0
        self.next = 0

    def add(self, data: bytes) -> bool:
        """Adds the next large segment. Returns whether older ones were dropped."""
        self._kept[self.next] = data
        self.next += 1
        self._size += len(data)
        before = len(self._kept)
        while self._size > WINDOW and len(self._kept) > 1:
            self._size -= len(self._kept.popitem(last=False)[1])
        return len(self._kept) < before

    def get(self, number: int) -> bytes | None:
        """Returns a segment; None where it was dropped."""
        return self._kept.get(number)


def held_by(effect: Effect) -> int:
    """Returns how many bytes, or characters, an effect keeps in memory, besides itself."""
    if isinstance(effect, Clocks):
        return len(effect.raw)
    if isinstance(effect, DenialEvent):
        return len(effect.call) + len(effect.errno) + len(effect.reason)
    return len(effect.data) if isinstance(effect, PrintedData) and isinstance(effect.data, bytes) else 0
