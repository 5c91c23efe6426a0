"""The wire: which bytes are accepted, which are a breach, and that nothing else can happen."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.header import REPLY, REPLY_WRITE
from proxybox.controller.wire.protocol import MAX_FRAME, MEMORY, RequestReader, encode_reply, encode_request


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Returns `data` in pieces, cut at the given places."""
    places = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(st.integers(0, 2**32 - 1), st.binary(max_size=5000), st.lists(st.integers(0, 10_000)))
def test_a_request_arrives_whole_wherever_it_is_cut(number: int, memory: bytes, places: list[int]) -> None:
    frame = encode_request(number, (1, 2, 3), (memory,))
    reader = RequestReader()
    received = [reader.receive(piece) for piece in cut(frame, places)]
    assert received[:-1] == [None] * (len(received) - 1)
    assert received[-1] == frame
    assert reader.receive(frame) == frame, "the reader is ready for the next one"


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_any_bytes_are_a_frame_a_part_of_one_or_a_breach(data: bytes, places: list[int]) -> None:
    reader = RequestReader()
    try:
        for piece in cut(data, places):
            frame = reader.receive(piece)
            assert frame is None or len(frame) >= MEMORY
        reader.end()
    except GuestMisbehaved:
        pass


@pytest.mark.parametrize("size", [0, 1, MEMORY - 1, MAX_FRAME + 1, 2**32 - 1])
def test_a_lying_length_is_a_breach_before_anything_is_kept(size: int) -> None:
    reader = RequestReader()
    with pytest.raises(GuestMisbehaved):
        reader.receive(size.to_bytes(4, "little") + b"\0" * 8)


def test_a_length_that_comes_in_single_bytes_is_checked_too() -> None:
    reader = RequestReader()
    *first, last = (bytes([byte]) for byte in (3).to_bytes(4, "little"))
    for byte in first:
        assert reader.receive(byte) is None
    with pytest.raises(GuestMisbehaved):
        reader.receive(last)


def test_bytes_behind_a_frame_are_a_breach() -> None:
    frame = encode_request(39)
    with pytest.raises(GuestMisbehaved, match="follow"):
        RequestReader().receive(frame + b"\0")
    reader = RequestReader()
    reader.receive(frame[:10])
    with pytest.raises(GuestMisbehaved, match="follow"):
        reader.receive(frame[10:] + b"\0")


def test_an_end_inside_a_frame_is_a_breach_and_one_between_frames_is_not() -> None:
    reader = RequestReader()
    reader.end()
    reader.receive(encode_request(39)[:20])
    with pytest.raises(GuestMisbehaved, match="short"):
        reader.end()


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=300)), max_size=4),
)
def test_a_reply_says_its_size_and_holds_its_writes(value: int, writes: list[tuple[int, bytes]]) -> None:
    data = encode_reply(value, tuple(writes))
    size, count, seen = REPLY.unpack_from(data)
    assert (size, count, seen) == (len(data), len(writes), value)
    at = REPLY.size
    for address, content in writes:
        assert REPLY_WRITE.unpack_from(data, at) == (address, len(content))
        at += REPLY_WRITE.size
        assert data[at : at + len(content)] == content
        at += len(content)
    assert at == len(data)
