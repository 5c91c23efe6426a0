"""The part of a request that is compared: neither addresses, nor bytes that no handler reads."""

import json
import struct
from typing import Any

import pytest

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller import abi
from proxybox.controller.dispatch import TABLE, stub_table
from proxybox.controller.errors import GuestMisbehaved, RecordError
from proxybox.controller.header import ABSENT, CALL_OPEN, FAULT
from proxybox.controller.record import calls
from proxybox.controller.wire.protocol import encode_request

ROWS = calls.read_table(json.loads(json.dumps(calls.table())))
GARBAGE = 0x7F12_3456_789A_BCDE


def same(number: int, one: Any, other: Any) -> bool:
    """Returns whether two requests ask the same, each given as registers and memory."""
    return calls.same(ROWS[number], encode_request(number, *one), encode_request(number, *other))


def test_the_table_of_a_record_is_the_controllers() -> None:
    assert ROWS.keys() == TABLE.keys()
    assert all(ROWS[number].name == row.name for number, row in TABLE.items())
    assert calls.stub_rows(ROWS) == stub_table()


FLOCK = abi.FLOCK.pack(1, 0, 0, 5, 6, 77, 88)
OTHER_FLOCK = abi.FLOCK.pack(1, 0, 9, 5, 6, 78, 89)
STACK, OTHER_STACK = abi.STACK_T.pack(0x7000, 0, 0, 8192), abi.STACK_T.pack(0x9000, 0, 0, 8192)
ON = b"\1\0\0\0"
ACTION = abi.SIGACTION.pack(GARBAGE, 4, 1, 2)
OTHER_ACTION = abi.SIGACTION.pack(GARBAGE + 16, 4, 3, 2)


@pytest.mark.parametrize(
    ("number", "one", "other"),
    [
        (39, ((GARBAGE,),), ((0,),)),
        (0, ((3 | 7 << 32, 0x5000, 10),), ((3, 0x6000, 10, GARBAGE),)),
        (257, ((0, 1, 0, GARBAGE), (b"/a",)), ((0, 2, 0, 0), (b"/a",))),
        (CALL_OPEN, ((0, 1, 0, 7, 1, 5), (b"/a",)), ((0, 2, 0, 0, 2, 5), (b"/a",))),
        (72, ((3, 1, GARBAGE), (ABSENT,)), ((3, 1, 0), (ABSENT,))),
        (72, ((3, 6, 0x5000), (FLOCK,)), ((3, 6, 0x6000), (OTHER_FLOCK,))),
        (16, ((1, abi.TCGETS, 0x5000), (b"s" * 44,)), ((1, abi.TCGETS, 0x6000), (b"t" * 44,))),
        (16, ((1, abi.FIONBIO, 0x5000), (ON + b"s" * 40,)), ((1, abi.FIONBIO, 0x6000), (ON + b"t" * 40,))),
        (7, ((0x5000, 1, 0), (struct.pack("<iHH", 3, 1, 9),)), ((0x6000, 1, 0), (struct.pack("<iHH", 3, 1, 0),))),
        (233, ((4, 2, 5, GARBAGE), (b"x" * 12,)), ((4, 2, 5, 0), (ABSENT,))),
        (202, ((0x5000, 0, 1, 0, GARBAGE, GARBAGE), (ABSENT,)), ((0x6000, 0, 1, 0, 0, 0), (ABSENT,))),
        (13, ((2, 0x5000, 0, 8), (ACTION,)), ((2, 0x6000, 0, 8), (OTHER_ACTION,))),
        (131, ((0x5000, 0), (STACK,)), ((0x6000, 0), (OTHER_STACK,))),
        (157, ((3, GARBAGE), (ABSENT,)), ((3, 0), (ABSENT,))),
        (157, ((15, 0x5000), (b"name\0junk-------",)), ((15, 0x6000), (b"name\0other------",))),
        (280, ((0, 1, 2, 0), (b"/a", struct.pack("<4q", 7, 0x3FFFFFFF, 1, 2))),
              ((0, 1, 2, 0), (b"/a", struct.pack("<4q", 8, 0x3FFFFFFF, 1, 2)))),
        (19, ((3, 0x5000, 1), (struct.pack("<QQ", 0x7000, 10),)), ((3, 0x6000, 1), (struct.pack("<QQ", 0x8000, 10),))),
    ],
)  # fmt: skip
def test_what_is_not_read_is_not_compared(number: int, one: Any, other: Any) -> None:
    assert same(number, one, other)


@pytest.mark.parametrize(
    ("number", "one", "other"),
    [
        (0, ((3, 0x5000, 10),), ((4, 0x5000, 10),)),
        (0, ((3, 0x5000, 10),), ((3, 0x5000, 11),)),
        (0, ((3, 0x5000, 10),), ((3, 0, 10),)),
        (1, ((1, 0x5000, 2), (b"ab",)), ((1, 0x5000, 2), (b"ac",))),
        (257, ((0, 1, 0, 0), (b"/a",)), ((0, 1, 0, 0), (b"/b",))),
        (257, ((0, 1, 0x40, 0o600), (b"/a",)), ((0, 1, 0x40, 0o644), (b"/a",))),
        (257, ((0, 1, 0, 0), (b"/a",)), ((0, 1, 0, 0), (FAULT,))),
        (CALL_OPEN, ((0, 1, 0, 0, 1, 5), (b"/a",)), ((0, 1, 0, 0, 1, 6), (b"/a",))),
        (72, ((3, 2, 1), (ABSENT,)), ((3, 2, 0), (ABSENT,))),
        (72, ((3, 6, 1), (FLOCK,)), ((3, 6, 1), (abi.FLOCK.pack(1, 0, 0, 5, 7, 77, 88),))),
        (16, ((1, abi.FIONBIO, 0x5000), (bytes(44),)), ((1, abi.FIONBIO, 0x5000), (b"\1" + bytes(43),))),
        (16, ((1, 0x5402, 0x5000), (bytes(44),)), ((1, 0x5402, 0x5000), (b"\1" + bytes(43),))),
        (7, ((1, 1, 0), (struct.pack("<iHH", 3, 1, 0),)), ((1, 1, 0), (struct.pack("<iHH", 3, 4, 0),))),
        (13, ((2, 1, 0, 8), (ACTION,)), ((2, 1, 0, 8), (abi.SIGACTION.pack(1, 4, 1, 2),))),
        (157, ((15, 1), (b"name\0-----------",)), ((15, 1), (b"nama\0-----------",))),
        (19, ((3, 1, 1), (struct.pack("<QQ", 1, 10),)), ((3, 1, 1), (struct.pack("<QQ", 1, 11),))),
    ],
)  # fmt: skip
def test_what_is_read_is_compared(number: int, one: Any, other: Any) -> None:
    assert not same(number, one, other)


def test_an_open_of_an_earlier_stub_is_compared_with_todays() -> None:
    """Its mode's upper half was the descriptor to close, plus one; its last register was the room for the answer."""
    row = next(row for row in calls.table() if row[0] == CALL_OPEN)
    path = row[3][1]
    parameters = [row[3][0], path, row[3][2], ["mode", "Q", False], ["place", "Q", True], ["room", "Q", False]]
    earlier = calls.read_table([[*row[:3], parameters]])[CALL_OPEN]
    for closed, flags in ((5, 0), (-1, abi.O_CREAT)):
        theirs = encode_request(CALL_OPEN, (1, 2, flags, closed + 1 << 32 | 0o644, 3, 9), (b"/a",))
        ours = [encode_request(CALL_OPEN, (1, 4, flags, 0o644, 5, each), (b"/a",)) for each in (closed, 6)]
        assert [calls.same(earlier, each, theirs) for each in ours] == [True, False]
        assert not calls.same(earlier, encode_request(CALL_OPEN, (1, 4, flags, 0o644, 5, closed), (b"/b",)), theirs)


def test_a_malformed_request_is_the_guests_fault() -> None:
    with pytest.raises(GuestMisbehaved):
        ROWS[1].asked(encode_request(1, (1, 2, 3)))
    with pytest.raises(GuestMisbehaved):
        calls.number_of(b"short")


@pytest.mark.parametrize(
    "table",
    [
        None, {}, [[1]], [["1", "a", "b", []]], [[-1, "a", "b", []]], [[1, "a", "b", [["x", "i4x"]]]],
        [[1, "a", "b", [["x", "8s", False]]]], [[1, "a", "b", [["x", 9, 1, "", False, False]]]],
        [[1, "a", "b", [["x", 2, 1 << 30, "", False, False]]]], [[1, "a", "b", [["x", 2, 1, "nobody", False, False]]]],
        [[1, "a", "b", [["x", "q", False], ["x", "q", False]]]],
        [[1, "a", "b", [[f"x{k}", "q", False] for k in range(7)]]], [[n, "a", "b", []] for n in range(2000)],
    ],
)  # fmt: skip
def test_a_table_that_makes_no_sense_is_refused(table: Any) -> None:
    with pytest.raises(RecordError, match="table of calls"):
        calls.read_table(table)


def test_names_of_a_table_are_never_code() -> None:
    hostile = "x): __import__('os').system('id')#"
    for row in ([1, hostile, "b", []], [1, "a", "b", [[hostile, "q", False]]]):
        with pytest.raises(RecordError, match="table of calls"):
            calls.read_table([row])
    keyword = calls.read_table([[1, "a", "b", [["import", "q", False], ["world", "q", False]]]])[1]
    assert keyword.asked(encode_request(1, (5, 6))) == {"import": 5, "world": 6}
