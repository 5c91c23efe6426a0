"""The file of a record: any change in it is detected, and no size in it is trusted."""

import io
import random
import struct
import zlib

import pytest

from proxybox.controller.errors import RecordError
from proxybox.controller.record import format as form
from proxybox.controller.record.format import FRAME, HEAD, MOST_BYTES, FrameKind, FrameWriter
from tests.recordings.rewriting import read_whole


def made(*pieces: bytes) -> bytes:
    file = io.BytesIO()
    writer = FrameWriter(file)
    for piece in pieces:
        writer.write(FrameKind.EVENTS, piece)
    return file.getvalue()


def test_what_is_written_is_read() -> None:
    pieces = (b"", b"a", b"abc" * 1000, random.Random(1).randbytes(5000))
    assert [frame.data for frame in read_whole(made(*pieces))] == list(pieces)


def test_every_changed_bit_is_seen() -> None:
    data = made(b"first" * 20, b"second", b"")
    whole = read_whole(data)
    for at in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            try:
                read = read_whole(bytes(broken))
            except RecordError:
                continue
            assert read == whole[: len(read)], f"bit {bit} of byte {at}"
            assert len(read) < len(whole), f"bit {bit} of byte {at} was not seen"


def test_a_file_that_was_cut_off_is_read_to_its_last_whole_frame() -> None:
    data = made(b"first", b"second", b"third")
    ends = [HEAD.size]
    for piece in read_whole(data):
        ends.append(ends[-1] + FRAME.size + len(piece.data))
    for size in range(HEAD.size, len(data)):
        assert len(read_whole(data[:size])) == sum(end <= size for end in ends[1:])


def test_frames_in_another_order_are_seen() -> None:
    first, second = made(b"first"), made(b"second")
    with pytest.raises(RecordError, match="chain breaks"):
        read_whole(first + second[HEAD.size :])


@pytest.mark.parametrize("data", [b"", b"PBXR", b"\x7fELF" + bytes(100), made()[:-1]])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError, match="no record"):
        read_whole(data)


def test_another_major_version_is_refused() -> None:
    with pytest.raises(RecordError, match="format 2"):
        read_whole(HEAD.pack(form.MAGIC, 2, 0))


def forged(stored: bytes, size: int, packing: int = 1, claims: int | None = None) -> bytes:
    """Returns a record with one frame of any contents, with a valid hash chain."""
    head = HEAD.pack(form.MAGIC, form.MAJOR, form.MINOR)
    before = struct.pack("<BBHII", FrameKind.EVENTS, packing, 0, len(stored) if claims is None else claims, size)
    chain = form._digest(form._digest(head), before, stored)
    return head + before + chain + stored


def test_a_bomb_does_not_go_off() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    for size in (10, MOST_BYTES):
        with pytest.raises(RecordError, match="not as long as it claims"):
            read_whole(forged(bomb, size))


def test_lengths_that_are_forged_cost_nothing() -> None:
    for data in (forged(b"x", MOST_BYTES + 1), forged(b"x", 1, claims=MOST_BYTES + 1), forged(b"x", 0xFFFFFFFF)):
        with pytest.raises(RecordError, match="claims"):
            read_whole(data)


@pytest.mark.parametrize("packing", [2, 3, 255])
def test_an_unknown_packing_is_refused(packing: int) -> None:
    with pytest.raises(RecordError, match=r"cannot be unpacked|not as long"):
        read_whole(forged(b"x", 1, packing))


def test_what_follows_the_packed_bytes_is_seen() -> None:
    with pytest.raises(RecordError, match="not as long"):
        read_whole(forged(zlib.compress(b"data") + b"more", 4))


def test_a_frame_that_is_too_large_is_not_written() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        FrameWriter(io.BytesIO()).write(FrameKind.EVENTS, bytes(MOST_BYTES + 1))


def test_a_frame_is_written_whole_or_the_error_is_raised() -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        FrameWriter(full)
