"""Events as bytes and back; and bytes that are no events."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxybox.controller.errors import RecordError
from proxybox.controller.record import events
from proxybox.controller.record.decoding import Decoder
from proxybox.controller.record.encoding import Encoder
from proxybox.controller.record.events import LARGE, CallEvent, RecordedAnswer, StoredData
from proxybox.controller.wire.protocol import encode_request


def decoded(data: bytes) -> list[events.Event]:
    return list(Decoder().events(data))


def requests() -> st.SearchStrategy[bytes]:
    memory = st.lists(st.binary(max_size=40) | st.just(bytes(LARGE)) | st.just(b"ab" * LARGE), max_size=2)
    return st.builds(
        lambda number, registers, pieces: encode_request(number, tuple(registers), tuple(pieces)),
        st.integers(0, 600), st.lists(st.integers(0, 2**64 - 1), max_size=6), memory,
    )  # fmt: skip


answers = st.builds(
    lambda value, pieces: (value, [StoredData(register, offset, data) for register, offset, data in pieces]),
    st.integers(-(2**63), 2**63 - 1),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**40), st.binary(max_size=30) | st.just(b"x" * LARGE)),
             max_size=3),
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 256), st.integers(0, 10**13), requests(), st.none() | answers), max_size=8))
def test_calls_are_read_as_they_were_written(calls: list[Any]) -> None:
    encoder, now, expected = Encoder(0), 0, []
    for channel, passed, frame, answer in calls:
        now += passed
        if answer is None:
            encoder.call(channel, now, frame, None)
            expected.append((channel, frame, None))
        else:
            value, stored = answer
            encoder.call(channel, now, frame, value, stored)
            expected.append((channel, frame, RecordedAnswer(value, tuple(stored))))
    read = decoded(encoder.take())
    assert [(each.channel, each.frame, each.answer) for each in read if isinstance(each, CallEvent)] == expected
    for event in read[-1:]:
        assert isinstance(event, CallEvent)
        assert 0 <= now - event.at_ns < events.UNIT_NS * (len(calls) + 1)


def test_many_plain_calls_are_the_same_as_one_by_one() -> None:
    notes = [(None, 0, 1_000 * at, encode_request(at, (at, 7)), -at) for at in range(300)]
    notes[100] = (None, 0, 10**13, encode_request(5), 5)  # a gap that is too long for a plain event
    notes[200] = (None, 0, 10**13 + 5, encode_request(1, (1,), (b"x" * 2 * LARGE,)), 5)
    together, alone = Encoder(0), Encoder(0)
    together.plain_calls(notes, lambda note: None)
    for note in notes:
        alone.call(*note[1:])
    assert together.size == alone.size
    assert together.take() == alone.take()


def test_the_same_contents_are_stored_once() -> None:
    encoder, data = Encoder(0), bytes(range(256)) * 1000
    for at in range(10):
        encoder.call(0, at, encode_request(0, (3, 4096)), len(data), [StoredData(1, 0, data)])
        encoder.call(0, at, encode_request(1, (1, 4096, len(data)), (data,)), len(data))
    written = encoder.take()
    assert len(written) < 3 * len(data)  # a request contains the size of its memory, too
    assert {each.answer.stored[0].data for each in decoded(written)
            if isinstance(each, CallEvent) and each.answer and each.answer.stored} == {data}  # fmt: skip


def test_writer_and_reader_forget_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "WINDOW", 5 * LARGE)
    encoder = Encoder(0)
    pieces = [bytes([at % 7]) * (LARGE + at % 3) for at in range(60)]
    for piece in pieces:
        encoder.call(0, 0, encode_request(0), 0, [StoredData(0, 0, piece)])
    read = [
        each.answer.stored[0].data for each in decoded(encoder.take()) if isinstance(each, CallEvent) and each.answer
    ]
    assert read == pieces


def test_all_other_events() -> None:
    encoder = Encoder(0)
    file = events.LibraryFileEvent(3, 10, bytes(32), b"/usr/lib/x.py")
    encoder.file(file)
    encoder.mapped(3)
    encoder.printed(1, 5, None)
    encoder.printed(0, 2, b"ab")
    encoder.refused(events.DenialEvent("openat", "EACCES", "why"))
    encoder.clocks(2, 500, b"\x01" + (77).to_bytes(8, "little"))
    encoder.call(2, 1000, encode_request(0), None)
    encoder.sent(14, True, 2000)
    encoder.answer(2, 3000, 7, [StoredData(255, 4096, events.OfFile(3, 1, 2)), StoredData(0, 0, events.LeftOut(9))])
    encoder.ended(events.EndEvent("time_limit", "limits.wall_time", None, 9))
    named, call, sent, answered, ended = decoded(encoder.take())
    assert named == file
    assert isinstance(call, CallEvent)
    assert call.effects == (
        events.Mapped(3), events.PrintedData(1, 5), events.PrintedData(0, 2, b"ab"),
        events.DenialEvent("openat", "EACCES", "why"), events.Clocks(b"\x01" + (77).to_bytes(8, "little")),
    )  # fmt: skip
    clocks = call.effects[-1]
    assert isinstance(clocks, events.Clocks)
    assert clocks.readings() == ((1, 77),)
    assert sent == events.Sent(14, True, 2000)
    assert isinstance(answered, events.Answered)
    assert answered.answer == RecordedAnswer(
        7, (StoredData(255, 4096, events.OfFile(3, 1, 2)), StoredData(0, 0, events.LeftOut(9)))
    )
    assert ended == events.EndEvent("time_limit", "limits.wall_time", None, 9)


# --- bytes that no encoder has written --------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_forged_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(RecordError):
        decoded(data)


@given(st.data())
def test_changed_events_are_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    encoder = Encoder(0)
    encoder.file(events.LibraryFileEvent(0, 10, bytes(32), b"/usr/lib/x.py"))
    encoder.clocks(0, 500, b"\x01" + bytes(8))
    encoder.call(
        0, 1, encode_request(0, (3,)), 5, [StoredData(1, 0, b"x" * LARGE), StoredData(1, 0, events.OfFile(0, 1, 2))]
    )
    encoder.call(0, 1, encode_request(1, (3,), (b"x" * LARGE,)), 5)
    encoder.printed(0, 3, b"abc")
    encoder.call(0, 1, encode_request(1), None)
    encoder.answer(0, 2, 3, [])
    encoder.ended(events.EndEvent("", "", 0, None))
    written = bytearray(encoder.take())
    for _ in range(data.draw(st.integers(1, 4))):
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RecordError):
        decoded(bytes(written[: data.draw(st.integers(0, len(written)))]))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x00", "kind 0"),
        (b"\xff", "kind 255"),
        (b"\x01" + b"\xff\xff" + bytes(4), "channel 65535"),
        (b"\x01" + bytes(6) + (5).to_bytes(4, "little") + bytes(5), "impossible size"),
        (b"\x01" + bytes(6) + b"\xff\xff\xff\xff" + bytes(4), "segment 0"),
        (b"\x08\x00\x00", "not named"),
        (b"\x09\x00\x00", "signal 0"),
        (b"\x09\x41\x00", "signal 65"),
        (b"\x0b" + bytes(20), "cut off"),
        (b"\x0e" + bytes(6) + b"\xff\xff", "impossible size"),
        (b"\x04" + bytes(6) + bytes(8) + b"\x01\x00\x07" + bytes(12), "register 7"),
        (b"\x06\x00" + (0xFFFFFFFE).to_bytes(4, "little") + bytes(14), "not named"),
    ],
)  # fmt: skip
def test_events_that_make_no_sense_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(RecordError, match=why):
        decoded(data)
