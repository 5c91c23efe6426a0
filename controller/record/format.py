"""The file of a record: frames, each compressed, and chained to all before it (docs/record-format.md).

    file   8 bytes of magic, u16 major, u16 minor, then frames
    frame  u8 kind, u8 packing, u16 0, u32 bytes stored, u32 bytes unpacked, 32 bytes of chain, the stored bytes

The chain of a frame is the BLAKE2b of the chain before it, of this frame's head and of its stored bytes. The chain
before the first frame is the BLAKE2b of the file's head. So no bit can change unseen, and a file whose writer was
killed can be read to its last whole frame. The chain has no key: anybody who can write the file can make another chain
(`signing`). Every size in a file is checked before it is used.
"""

import contextlib
import enum
import hashlib
import importlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

import attrs

from proxybox.controller.errors import RecordError

zstd: Any = None
with contextlib.suppress(ImportError):
    zstd = importlib.import_module("compression.zstd")  # since Python 3.14 (PEP 784)

MAGIC: Final = b"PBXR\r\n\x1a\n"
MAJOR: Final = 1
MINOR: Final = 0
HEAD: Final = struct.Struct("<8sHH")
FRAME: Final = struct.Struct("<BBHII32s")
#: The most bytes of one frame, stored and unpacked: two calls with everything that they may carry.
MOST_BYTES: Final = 8 << 20
CHAIN_SIZE: Final = 32
_PLAIN, _ZLIB, _ZSTD = 0, 1, 2
_LEVEL: Final = 1


class FrameKind(enum.IntEnum):
    """What a frame holds. A reader passes over kinds that it does not know."""

    START = 1  # JSON: the guest, its policy, how it was started, the table of calls
    EVENTS = 2  # events.py
    CONTENT = 3  # a piece of the contents that END names
    END = 4  # JSON: how the run has ended
    SIGNATURE = 5  # JSON: who vouches for everything before it


@attrs.frozen
class RecordFrame:
    """One frame. chain: of the file up to here, this frame included. ends_at: its end in the file."""

    kind: int
    data: bytes
    chain: bytes
    ends_at: int = 0


def _digest(*pieces: bytes) -> bytes:
    made = hashlib.blake2b(digest_size=CHAIN_SIZE)
    for piece in pieces:
        made.update(piece)
    return made.digest()


class FrameWriter:
    """Writes frames to a file.

    written: bytes of the file so far. Raises OSError where the file cannot be written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        head = HEAD.pack(MAGIC, MAJOR, MINOR)
        file.write(head)
        self.chain = _digest(head)
        self.written = len(head)

    @classmethod
    def after(cls, file: BinaryIO, chain: bytes) -> "FrameWriter":
        """Returns a writer that continues a file, whose chain so far is known."""
        writer = cls.__new__(cls)
        writer._file, writer.chain, writer.written = file, chain, file.tell()
        return writer

    def write(self, kind: FrameKind, data: bytes) -> None:
        """Adds a frame. When this returns, write(2) has been called for it."""
        if len(data) > MOST_BYTES:
            raise ValueError(f"a frame of {len(data)} bytes")
        packing, stored = _ZLIB if zstd is None else _ZSTD, b""
        stored = zlib.compress(data, _LEVEL) if zstd is None else zstd.compress(data, _LEVEL)
        if len(stored) >= len(data):
            packing, stored = _PLAIN, data
        before = struct.pack("<BBHII", kind, packing, 0, len(stored), len(data))
        self.chain = _digest(self.chain, before, stored)
        self._file.write(before + self.chain + stored)
        self._file.flush()
        self.written += FRAME.size + len(stored)


def appended(path: str | os.PathLike[str], kind: FrameKind, data: bytes, after: bytes) -> None:
    """Adds a frame to a record, whose chain so far is `after`.

    Raises RecordError for another record, for one that was changed, or whose last frame is not whole.
    """
    with open(path, "r+b") as file:
        chain, end = b"", HEAD.size
        for frame in frames(file):
            chain, end = frame.chain, file.tell()
        if not chain or end != file.seek(0, os.SEEK_END):
            raise RecordError("the record ends within a frame: nothing can be added to it")
        if chain != after:
            raise RecordError("the record is another one than it was: it is not signed")
        FrameWriter.after(file, chain).write(kind, data)


def frames(file: BinaryIO) -> Iterator[RecordFrame]:
    """Yields the frames of a file. A last one that is not whole, as a killed writer leaves it, is left out.

    Raises RecordError for a file that is no record, that is of another major version, or that was changed.
    """
    head = file.read(HEAD.size)
    if len(head) < HEAD.size or head[: len(MAGIC)] != MAGIC:
        raise RecordError("this is no record of a run")
    _, major, _ = HEAD.unpack(head)
    if major != MAJOR:
        raise RecordError(f"a record of format {major}: this proxybox reads format {MAJOR}")
    chain, at = _digest(head), HEAD.size
    while len(start := file.read(FRAME.size)) == FRAME.size:
        kind, packing, zero, stored_size, size, said = FRAME.unpack(start)
        if stored_size > MOST_BYTES or size > MOST_BYTES:
            raise RecordError(f"byte {at:,}: a frame claims {max(stored_size, size):,} bytes: the record is damaged")
        stored = file.read(stored_size)
        if len(stored) < stored_size:
            return
        chain = _digest(chain, start[:-CHAIN_SIZE], stored)
        if chain != said or zero:
            raise RecordError(f"byte {at:,}: the record was changed or damaged from here on (its chain breaks)")
        begun, at = at, at + FRAME.size + stored_size
        yield RecordFrame(kind, _unpacked(packing, stored, size, begun), chain, at)


def _unpacked(packing: int, stored: bytes, size: int, at: int) -> bytes:
    unpack = _UNPACK.get(packing)
    if unpack is None:
        newer = " (it is packed with Zstandard: read it with Python 3.14 or newer)" if packing == _ZSTD else ""
        raise RecordError(f"byte {at:,}: a frame that cannot be unpacked here{newer}")
    try:
        data = unpack(stored, size)
    except Exception:  # zlib.error, ZstdError: the bytes are not what they claim
        data = None
    if data is None or len(data) != size:
        raise RecordError(f"byte {at:,}: a frame is not as long as it claims: the record is damaged")
    return data


def _inflate(stored: bytes, size: int) -> bytes | None:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(stored, size + 1)
    return data if unpacker.eof and not unpacker.unused_data else None


def _unpack_zstd(stored: bytes, size: int) -> bytes | None:
    unpacker = zstd.ZstdDecompressor()
    data = unpacker.decompress(stored, size + 1)
    return data if unpacker.eof and not unpacker.unused_data else None


_UNPACK: Final[dict[int, Callable[[bytes, int], bytes | None]]] = {
    _PLAIN: lambda stored, _: stored,
    _ZLIB: _inflate,
    **({} if zstd is None else {_ZSTD: _unpack_zstd}),
}
