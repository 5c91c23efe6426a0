"""A shorter way for functions that are an OS call with the same arguments and read at most one string of the guest.

That is nearly every call that a program makes. The arguments in a request have the form of the registers in a frame, so
they are copied and not decoded. Any other request is answered by libc.py, which reports its errors.
"""

import functools
import struct
from typing import Final

import attrs

from proxybox.controller.dispatch import NUMBERS, TABLE
from proxybox.controller.guests.translated.libc import SAME
from proxybox.controller.header import ABSENT, TOO_LONG, Fetch
from proxybox.controller.roles import Memory
from proxybox.controller.wire.protocol import MEMORY

_HEAD: Final = struct.Struct("<II")
_SIZE: Final = struct.Struct("<I")
_REGISTERS: Final = 48
_ABSENT, _TOO_LONG = _SIZE.pack(ABSENT), _SIZE.pack(TOO_LONG)


@attrs.frozen
class Direct:
    """A function that is answered by the shorter way.

    begin: the offset of the arguments in a request of `size` bytes. number: of the call. frame: its frame up to the
    registers, if it reads no memory. padding: the bytes after the arguments in the frame. text: the offset of the
    address of the string that it reads; 0 for none. longest: the most bytes of that string, with its NUL; limit: the
    same, encoded for the command.
    """

    begin: int
    size: int
    number: int
    frame: bytes
    padding: bytes
    text: int = 0
    longest: int = 0
    limit: bytes = b""

    def with_string(self, arguments: bytes, text: bytes | None) -> bytes:
        """Returns the frame of a call that reads a string. text: None where its address is NULL."""
        if text is None:
            piece = _ABSENT
        elif len(text) < self.longest and 0 not in text:
            piece = _SIZE.pack(len(text)) + text
        else:
            piece = _TOO_LONG
        return _HEAD.pack(MEMORY + len(piece), self.number) + arguments + self.padding + piece


@functools.cache
def table() -> dict[bytes, Direct]:
    """Returns these functions by the first bytes of a request: the length of the signature, and the signature."""
    found = (_direct(signature, NUMBERS[name]) for signature, name in SAME.items())
    return dict(filter(None, found))


def _direct(signature: str, number: int) -> tuple[bytes, Direct] | None:
    kinds = signature[signature.index("(") + 1 : signature.index(")")]
    memory = [(place, role) for place, (_, role) in enumerate(TABLE[number].parameters) if isinstance(role, Memory)]
    if len(memory) > 1 or not signature.endswith("i") or not set(kinds) <= {"i", "p"}:
        return None
    head = bytes([len(signature)]) + signature.encode()
    size = len(head) + 8 * len(kinds)
    padding = bytes(_REGISTERS - 8 * len(kinds))
    frame = _HEAD.pack(MEMORY, number)
    if not memory:
        return head, Direct(len(head), size, number, frame, padding)
    ((place, role),) = memory
    if role.fetch is not Fetch.STRING:
        return None
    limit = struct.pack("<Q", role.size)
    return head, Direct(len(head), size, number, frame, padding, len(head) + 8 * place, role.size, limit)
