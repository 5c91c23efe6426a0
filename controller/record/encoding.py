"""Encodes the events of a run (see events.py)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from proxybox.controller.record.events import (
    CALL,
    END,
    FILE,
    HEAD,
    LARGE,
    LEFT_OUT,
    NO_REGISTER,
    NONE,
    OF_FILE,
    ONE_PLACE,
    PART,
    PLACE,
    REGISTERS,
    REPEATED,
    U16,
    U32,
    U64,
    UNIT_NS,
    VALUE,
    Data,
    DenialEvent,
    EndEvent,
    LeftOut,
    LibraryFileEvent,
    OfFile,
    StoredData,
    Window,
)
from proxybox.controller.wire.protocol import MAX_FRAME

#: No address of a guest is lower.
_LOWEST: Final = 1 << 16


class Encoder:
    """Encodes events, one after another. calls: the number of requests so far."""

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
        """Returns the time since the last event, in units of 100 ns. A longer time becomes a separate event."""
        passed = max(0, now - self._last_ns) // UNIT_NS
        if passed >> 32:
            self._put(b"\x0d", U64.pack(now - self._started_ns))
            passed = 0
            self._last_ns = now
        else:
            self._last_ns += passed * UNIT_NS
        return passed

    def plain_calls(self, notes: Iterable[tuple[Any, ...]], other: Callable[[tuple[Any, ...]], None]) -> None:
        """Encodes calls that were answered at once with a number. The note of one: (None, channel, now, frame, value).

        It does the same as `call`, in less time. other: called for each note of another kind.
        """
        out, pack, last, size, calls = self._out, CALL.pack, self._last_ns, 0, 0
        for note in notes:
            if note[0] is None:
                _, channel, now, frame, value = note
                passed = (now - last) // UNIT_NS
                if 0 <= passed < 1 << 32 and len(frame) < LARGE:
                    last += passed * UNIT_NS
                    out.append(pack(2, channel, passed, value, len(frame) - 4))
                    out.append(frame[4:])
                    size += len(frame) + CALL.size - 4
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
        """Encodes a request, with its answer where it was answered at once."""
        self.calls += 1
        passed, size = self._passed(now), len(frame) - 4
        if value is not None and not stored and size < LARGE:  # nearly all
            self._put(CALL.pack(2, channel, passed, value, size), frame[4:])
            return
        if value is not None and len(stored) == 1 and size < LARGE:  # most others: calls that read
            (only,) = stored
            head = CALL.pack(3, channel, passed, value, size)
            self._put(head, frame[4:], ONE_PLACE.pack(1, only.register, only.offset))
            self._segment(only.data)
            return
        code = 1 if value is None else 3 if stored else 2
        self._put(HEAD.pack(code, channel, passed))
        if value is not None:
            self._put(VALUE.pack(value))
        self._segment(frame[4:])
        if stored:
            self._stored(stored)

    def answer(self, channel: int, now: int, value: int, stored: Sequence[StoredData]) -> None:
        """Encodes the answer to a call that had to wait."""
        self._put(HEAD.pack(4, channel, self._passed(now)), VALUE.pack(value))
        self._stored(stored)

    def _stored(self, stored: Sequence[StoredData]) -> None:
        self._put(U16.pack(len(stored)))
        for each in stored:
            self._put(PLACE.pack(each.register, each.offset))
            self._segment(each.data)

    def _segment(self, data: Data) -> None:
        if isinstance(data, OfFile):
            self._put(U32.pack(OF_FILE), PART.pack(data.file, data.offset, data.size))
        elif isinstance(data, LeftOut):
            self._put(U32.pack(LEFT_OUT), U32.pack(data.size))
        elif len(data) < LARGE:
            self._put(U32.pack(len(data)), data)
        else:
            looks = _looks(data)
            known = self._numbers.get(looks)
            if known is not None and self._window.get(known) == data:
                self._put(U32.pack(REPEATED), U32.pack(known))
                return
            self._numbers[looks] = self._window.next
            self._put(U32.pack(len(data)), data)
            if self._window.add(data):
                self._numbers = {key: at for key, at in self._numbers.items() if self._window.get(at) is not None}

    def printed(self, stream: int, size: int, data: bytes | None) -> None:
        """Encodes the output of the call that follows. data: None for the first `size` bytes of the call's own data."""
        if data is None:
            self._put(bytes([5, stream]), U32.pack(size))
        else:
            self._put(bytes([6, stream]))
            self._segment(data)

    def refused(self, refused: DenialEvent) -> None:
        """Encodes a refusal of the call that follows."""
        self._put(b"\x07", _text(refused.call), _text(refused.errno), _text(refused.reason))

    def mapped(self, file: int) -> None:
        """Encodes a mapping that the call that follows allows."""
        self._put(b"\x08", U16.pack(file))

    def sent(self, signal: int, late: bool, now: int) -> None:
        """Encodes a signal to the guest."""
        if late:
            self._put(b"\x0d", U64.pack(now - self._started_ns))
            self._last_ns = now
        self._put(bytes([9, signal, late]))

    def file(self, file: LibraryFileEvent) -> None:
        """Encodes a library file, before the first event that names it."""
        self._put(b"\x0b", FILE.pack(file.number, file.size, file.digest), _bytes(file.path))

    def clocks(self, channel: int, now: int, readings: bytes) -> None:
        """Encodes the readings of clocks before the call that follows."""
        self._put(HEAD.pack(14, channel, self._passed(now)), U16.pack(len(readings) // 9), readings)

    def ended(self, ended: EndEvent) -> None:
        """Encodes the end of the guest."""
        numbers = (NONE if each is None else each for each in (ended.exit_code, ended.signal))
        self._put(b"\x0c", _text(ended.status), _text(ended.why), END.pack(*numbers))


def _looks(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Returns a key that differs for nearly all segments. Hashing a whole segment would cost more than reading it."""
    middle = len(data) // 2
    return len(data), data[:64], data[middle : middle + 64], data[-64:]


def _bytes(data: bytes) -> bytes:
    data = data[:0xFFFF]
    return U16.pack(len(data)) + data


def _text(text: str) -> bytes:
    return _bytes(text.encode("utf-8", "backslashreplace")[:0xFFF0])


def placed(frame: bytes, writes: Iterable[tuple[int, Data]]) -> list[StoredData]:
    """Returns the writes of an answer, each relative to a register of its request that points there or just before."""
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
