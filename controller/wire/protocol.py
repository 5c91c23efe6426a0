"""The wire protocol: decodes and encodes frames, without any I/O.

Every size that comes from a guest is checked here before it is used. Bytes that are not a well-formed frame raise
`GuestMisbehaved`. There is no third outcome, and no guest byte may cause another exception.

    request  u32 size of the frame, u32 call number, u64 x 6 registers, then for each argument that the stub
             fetched from memory, in order: u32 length or a marker, and the bytes
    reply    u32 size of the frame, u32 number of writes, i64 value, then for each write: u64 address, u32 length,
             the bytes

One call is outstanding per channel, so bytes after a frame are an error as well.
"""

import struct

from proxybox.controller.effects import Write
from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.header import MAX_PAYLOAD, REPLY, REPLY_WRITE, REQUEST, RING, WITH_CLOCKS

_ONE_WRITE = struct.Struct("<IIqQI")
_U32 = struct.Struct("<I")
_U16 = struct.Struct("<H")
#: WITH_CLOCKS in the last byte of a request's number, which is frame[7].
CLOCKS = WITH_CLOCKS >> 24

#: Where the registers begin in a request, and where the fetched memory begins.
REGISTERS = 8
MEMORY = REQUEST.size

#: The size of the longest frame: one payload, two more paths or structures, the header.
MAX_FRAME = MAX_PAYLOAD + 64 * 1024


#: For each number of registers: the rest of a request.
_PADDING = tuple((0,) * (6 - count) for count in range(7))
#: Instead of a size: the bytes were no request.
_BROKEN = -1


class RequestReader:
    """Puts the requests of one channel together from the pieces that arrive.

    After an error it accepts nothing: each further call raises GuestMisbehaved, too.
    """

    __slots__ = ("_begun", "_wanted")

    def __init__(self) -> None:
        self._begun = bytearray()  # one buffer, so that many small pieces take no more memory
        self._wanted = 0

    @property
    def missing(self) -> int:
        """The bytes that the current frame still lacks; 0 between frames, and while its size is not known."""
        return self._wanted - len(self._begun) if self._wanted else 0

    def receive(self, data: bytes) -> bytes | None:
        """Returns the frame that `data` completes, or None. Raises GuestMisbehaved."""
        if not data:
            return None
        begun = self._begun
        try:
            if not begun and len(data) >= 4:
                wanted = frame_size(data)
                if wanted == len(data):
                    return data
            elif self._wanted == _BROKEN:
                raise GuestMisbehaved("bytes follow what was no request")
            else:
                wanted = self._wanted
            begun += data
            if not wanted and len(begun) >= 4:
                wanted = frame_size(begun)
            if wanted and len(begun) > wanted:
                raise GuestMisbehaved("bytes follow a request")
        except GuestMisbehaved:
            self._begun, self._wanted = bytearray(1), _BROKEN
            raise
        if wanted and len(begun) == wanted:
            self._begun, self._wanted = bytearray(), 0
            return bytes(begun)
        self._wanted = wanted
        return None

    def end(self) -> None:
        """Notes that the channel has ended. Raises GuestMisbehaved when it ended inside a frame."""
        if self._begun and self._wanted != _BROKEN:
            raise GuestMisbehaved(f"the channel ended {self.missing} bytes short of a whole request")


def frame_size(data: bytes | bytearray) -> int:
    """Returns the size that a frame of at least four bytes claims. Raises GuestMisbehaved for an impossible size."""
    (size,) = _U32.unpack_from(data)
    if not MEMORY <= size <= MAX_FRAME:
        raise GuestMisbehaved(f"a request claims {size} bytes; {MEMORY} to {MAX_FRAME} are possible")
    return int(size)


def without_clocks(frame: bytes) -> tuple[bytes, bytes]:
    """Divides a request with WITH_CLOCKS into the plain request and the readings.

    n readings are n bytes with the clocks, then n numbers of 64 bits with the times in nanoseconds. Raises
    GuestMisbehaved.
    """
    (count,) = _U16.unpack_from(frame, len(frame) - 2)
    begin = len(frame) - 2 - 9 * count
    if begin < MEMORY or not 0 < count <= RING:
        raise GuestMisbehaved(f"a request with {count} readings of clocks, of which there is no room for as many")
    plain = _U32.pack(begin) + frame[4:7] + bytes([frame[7] & ~CLOCKS]) + frame[8:begin]
    return plain, frame[begin:-2]


def encode_reply(value: int, writes: tuple[Write, ...] = ()) -> bytes:
    """Returns the frame that answers a call."""
    if not writes:
        return REPLY.pack(16, 0, value)
    if len(writes) == 1:
        address, data = writes[0]
        return _ONE_WRITE.pack(28 + len(data), 1, value, address, len(data)) + data
    parts = [b""]
    for address, data in writes:
        parts += (REPLY_WRITE.pack(address, len(data)), data)
    size = REPLY.size + sum(map(len, parts))
    parts[0] = REPLY.pack(size, len(writes), value)
    return b"".join(parts)


def encode_request(number: int, registers: tuple[int, ...] = (), memory: tuple[bytes | int, ...] = ()) -> bytes:
    """Returns a request as the stub sends it, for guests and tests without a stub; an int in `memory` is a marker."""
    tail = b""
    for item in memory:
        tail += _U32.pack(item) if isinstance(item, int) else _U32.pack(len(item)) + item
    padded = (*registers, *_PADDING[len(registers)])
    if registers and min(registers) < 0:
        padded = tuple(value & (1 << 64) - 1 for value in padded)
    return REQUEST.pack(MEMORY + len(tail), number, *padded) + tail
