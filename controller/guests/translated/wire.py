"""The wire of a translated guest, without any I/O.

    request   u8 N, N bytes `name(args)result`, then 8 bytes for each argument except `v`
    commands  any number of R Z W M F E, of which R Z M are answered by the guest, and then one result

The wire is that of https://foss.heptapod.net/pypy/pypy, branch sandbox-2: rpython/translator/sandbox. Raises
GuestMisbehaved for a malformed request.
"""

import functools
import re
import struct

import attrs

from proxybox.controller.errors import GuestMisbehaved

_SIGNATURE = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{0,120}\([ipf]{0,32}v?\)[ipfv]")
_U64 = struct.Struct("<Q")
_CODES = {"i": "q", "p": "Q", "f": "d"}


@attrs.define
class Request:
    """One call of a function.

    signature: such as "open(pii)i". arguments: ints, or floats for `f`.
    """

    signature: str
    arguments: tuple[int | float, ...]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.signature.partition("(")[0]

    @property
    def result(self) -> str:
        """The kind of its result: i, p, f or v."""
        return self.signature[-1]


def parse_request(data: bytes | bytearray) -> tuple[Request, int] | None:
    """Returns a request and its length in bytes, or None while it is incomplete. Raises GuestMisbehaved."""
    if not data:
        return None
    begin = 1 + data[0]
    if len(data) < begin:
        return None
    text, layout = _layout(bytes(data[1:begin]))
    if len(data) < begin + layout.size:
        return None
    return Request(text, layout.unpack_from(data, begin)), begin + layout.size


@functools.lru_cache(maxsize=1024)
def _layout(signature: bytes) -> tuple[str, struct.Struct]:
    """Returns a signature as text, and the layout of its arguments. Raises GuestMisbehaved."""
    if _SIGNATURE.fullmatch(signature) is None:
        raise GuestMisbehaved("a request without the name and signature of a function")
    text = signature.decode("ascii")
    codes = "".join(_CODES[kind] for kind in text[text.index("(") + 1 : -2] if kind != "v")
    return text, struct.Struct("<" + codes)  # `v` means no argument, and has no bytes


def read_memory(address: int, size: int) -> bytes:
    """Encodes a command to which the guest answers with `size` bytes from an address."""
    return b"R" + struct.pack("<QQ", address, size)


def read_string(address: int, most: int) -> bytes:
    """Encodes a command to which the guest answers with a length and the C string at an address, cut at `most`."""
    return b"Z" + struct.pack("<QQ", address, most)


def store(address: int, data: bytes) -> bytes:
    """Encodes a command by which the guest stores the bytes at an address. The guest does not answer it."""
    return b"W" + struct.pack("<QQ", address, len(data)) + data


def allocate(data: bytes) -> bytes:
    """Encodes a command by which the guest stores the bytes in new memory. The guest answers with their address."""
    return b"M" + _U64.pack(len(data)) + data


def free(address: int) -> bytes:
    """Encodes a command by which the guest frees memory that it has allocated."""
    return b"F" + _U64.pack(address)


def error(number: int) -> bytes:
    """Encodes a command that sets errno in the guest."""
    return b"E" + struct.pack("<i", number)


def answer(kind: str, value: float) -> bytes:
    """Encodes the result, of the kind that the request names."""
    if kind == "v":
        return b"v"
    if kind == "f":
        return b"f" + struct.pack("<d", value)
    return (b"i" if kind == "i" else b"p") + _U64.pack(int(value) & (1 << 64) - 1)


def parse_word(data: bytes | bytearray) -> int | None:
    """Returns a length or an address from an answer of the guest; None while it is incomplete."""
    return int(_U64.unpack_from(data)[0]) if len(data) >= _U64.size else None
