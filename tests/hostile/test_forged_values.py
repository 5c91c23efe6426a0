"""Any bytes from a guest are a value or a ValueError, and their cost is bounded by their length.

There is no box here: `decode` gets the bytes that a guest could have sent. The tests count calls, steps and memory,
never seconds.
"""

import itertools
import os
import signal
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxybox.controller.callers import RaisedByCaller
from proxybox.controller.effects import Blocked
from proxybox.controller.exchange import values
from proxybox.controller.exchange.hostfunctions import HostFunction, HostFunctions
from proxybox.controller.exchange.port import Port
from proxybox.controller.exchange.values import FEW_KEYS, MAX_DEPTH, SHARED_HASH, decode, encode
from tests import sweeps

MERSENNE = 2**61 - 1  # the modulus of an int's hash
A_BIT_OF_ALL = [
    None, True, 1, 1 << 100, 1.5, "text \ud800", b"bytes", (1, "a"), {"k": [1], 2: (None,)}, {1, "x"},
    datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC), -(1 << 64),
]  # fmt: skip


def head(tag: int, count: int) -> bytes:
    return struct.pack("<BI", tag, count)


def whole(number: int) -> bytes:
    return struct.pack("<Bq", values.INT, number)


def dict_of(keys: list[bytes]) -> bytes:
    return head(values.DICT, len(keys)) + b"".join(key + b"N" for key in keys)


def set_of(keys: list[bytes]) -> bytes:
    return head(values.SET, len(keys)) + b"".join(keys)


def refused(data: bytes, limit: int = 1 << 20) -> str:
    with pytest.raises(ValueError) as seen:
        decode(data, limit)
    assert type(seen.value) is ValueError
    return str(seen.value)


def test_truncation_at_every_byte() -> None:
    data = encode(A_BIT_OF_ALL)
    for size in range(len(data)):
        refused(data[:size])


def test_trailing_bytes() -> None:
    for value in A_BIT_OF_ALL:
        assert "bytes follow" in refused(encode(value) + b"N")


def test_every_unknown_tag() -> None:
    known = set(values._DECODERS)
    for tag in set(range(256)) - known:
        assert "unknown tag" in refused(bytes([tag]) + bytes(100))


def test_every_byte_changed_to_every_byte() -> None:
    data = bytearray(encode(A_BIT_OF_ALL))
    for at in sweeps.every(3, len(data), first=0):
        before = data[at]
        for byte in range(256):
            data[at] = byte
            settles(bytes(data))
        data[at] = before


@pytest.mark.parametrize(
    "tag", [values.LIST, values.TUPLE, values.SET, values.DICT, values.STR, values.BYTES, values.BIG]
)
@pytest.mark.parametrize("count", [101, 1 << 20, 2**31, 2**32 - 1])
def test_count_bomb(tag: int, count: int) -> None:
    data = head(tag, count) + b"N" * 100
    assert "more elements than" in refused(data) or "beyond the end" in refused(data)
    assert peak(lambda: refused(data)) < 50_000


def test_count_bomb_within_count_bomb() -> None:
    """Each list claims as many elements as there are bytes left, so that every single claim is possible."""
    size, data = 2000, b""
    for _ in range(MAX_DEPTH):
        data = head(values.LIST, size) + data
    assert peak(lambda: refused(data + b"N" * size)) < 500_000


@pytest.mark.parametrize("tag", [values.LIST, values.TUPLE, values.SET, values.DICT])
def test_depth_bomb(tag: int) -> None:
    one = head(tag, 1) + (b"N" if tag == values.DICT else b"")
    assert "deeper than 64" in refused(one * 50_000 + b"N")


def test_depth_bomb_of_keys() -> None:
    assert "deeper than 64" in refused((head(values.DICT, 1) + head(values.TUPLE, 1)) * 50_000 + b"N")


@pytest.mark.parametrize("empty", [b"", b"\0", b"\xff"])
def test_empty_bytes_and_single_ones(empty: bytes) -> None:
    refused(empty)


@pytest.mark.parametrize("number", [0, 1, -1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("size", [0, 1, 8, 9, 100_000])
def test_an_int_longer_than_it_must_be(number: int, size: int) -> None:
    raw = number.to_bytes(max(size, 9), "little", signed=True)[:size]
    assert "longer than it must be" in refused(head(values.BIG, size) + raw)


def test_huge_int() -> None:
    number = (1 << 8_000_000) - 1
    assert decode(encode(number)) == number  # more digits than int() accepts: decoding uses no text
    assert "longer" in refused(head(values.BIG, 1_000_000) + encode(number)[5:-3] + b"\0\0")


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xc0\x80", b"\xe2\x82", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\x80"]
)
def test_text_that_is_no_utf8(text: bytes) -> None:
    assert "UTF-8" in refused(head(values.STR, len(text)) + text)


def test_surrogate_text_stays_as_it_is() -> None:
    """Two surrogate halves stay two characters. They do not become one that a check of the halves has missed."""
    text = decode(head(values.STR, 6) + b"\xed\xa0\xbd\xed\xb8\x80")
    assert [*map(ord, text)] == [0xD83D, 0xDE00]


@pytest.mark.parametrize(
    "key", [head(values.LIST, 0), head(values.DICT, 0), head(values.SET, 0)], ids=["list", "dict", "set"]
)
def test_keys_that_cannot_be_keys(key: bytes) -> None:
    for one in (key, head(values.TUPLE, 1) + key):
        assert "a key that cannot be one" in refused(dict_of([one]))
        assert "a key that cannot be one" in refused(set_of([one]))


@pytest.mark.parametrize(
    "twice", [(1, 1), (1, True), (0.0, -0.0), ("a", "a"), (None, None), (2**80, 2.0**80), ((1,), (1.0,))]
)
def test_a_key_twice(twice: tuple[Any, Any]) -> None:
    keys = [encode(key) for key in twice]
    assert "comes twice" in refused(dict_of(keys))
    assert "comes twice" in refused(set_of(keys))


def test_nan_keys() -> None:
    """NaNs are unequal even to themselves, so they are different keys. They may all have the same hash."""
    nans = [struct.pack("<BQ", values.FLOAT, 0x7FF8000000000000 + n) for n in range(1000)]
    settles(dict_of(nans))
    settles(set_of(nans))


MOMENT = [2020, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(("field", "lie"), [(0, 0), (0, 10_000), (1, 0), (1, 13), (2, 0), (2, 32), (3, 24), (4, 60), (5, 60), (6, 1_000_000), (6, 2**32 - 1), (7, 2), (7, 255)])  # fmt: skip
def test_moments_that_never_are(field: int, lie: int) -> None:
    moment = [*MOMENT]
    moment[field] = lie
    raw = struct.pack("<HBBBBBIB", *moment)
    refused(bytes([values.NAIVE]) + raw)
    refused(bytes([values.AWARE]) + raw + bytes(8))


@pytest.mark.parametrize("offset", [86_400_000_000, -86_400_000_000, 2**63 - 1, -(2**63)])
def test_offsets_of_a_day_and_more(offset: int) -> None:
    refused(bytes([values.AWARE]) + struct.pack("<HBBBBBIBq", *MOMENT, offset))


@pytest.mark.parametrize("year", [1, 9999])
def test_moments_at_the_ends_of_time_are_keys(year: int) -> None:
    """In UTC these keys are before the first or after the last year; they can still be hashed and compared."""
    keys = [
        bytes([values.AWARE]) + struct.pack("<HBBBBBIBq", year, month, day, 0, 0, 0, 0, 0, offset)
        for month, day in ((1, 1), (12, 31))
        for offset in (86_399_999_999, -86_399_999_999)
    ]
    assert len(decode(set_of(keys))) == len(decode(dict_of(keys))) == 4


# --- cost -------------------------------------------------------------------------------------------------------------


def chosen(count: int) -> dict[str, list[bytes]]:
    """Lists of different keys with the same hash, by kind."""
    ints = [n * MERSENNE + 5 for n in range(1, count + 1)]
    return {
        "ints": [encode(n) for n in ints],
        "negative ints": [encode(-n) for n in ints],
        "tuples": [encode(("a", n)) for n in ints],
        "deep tuples": [encode(((((n,),),),)) for n in ints],
        "floats and ints": [encode(5.0), *(encode(n) for n in ints[1:])],
    }


@pytest.mark.cover(2)
@pytest.mark.parametrize("kind", chosen(1))
@pytest.mark.parametrize("form", [dict_of, set_of])
@pytest.mark.parametrize("count", [SHARED_HASH + 1, 1000, 8192])
def test_collision_bomb(kind: str, form: Callable[[list[bytes]], bytes], count: int) -> None:
    keys = chosen(count)[kind]
    message = refused(form(keys))
    assert "same hash" in message or "chosen to collide" in message
    assert len(decode(form(keys[:SHARED_HASH]))) == SHARED_HASH, "a few are no attack"


def test_collision_bomb_among_honest_keys() -> None:
    keys = chosen(SHARED_HASH + 1)["ints"] + [whole(n) for n in range(10, 2000)]
    assert "same hash" in refused(dict_of(keys))


def chain(bits: int) -> list[int]:
    """Small ints with different hashes that all take the same way through a dict's table of 1 << bits places.

    The first ints fill the places of that way; each of the others begins somewhere on it.
    """
    size = 1 << bits
    way, place = [], 1
    for _ in range(size // 2):
        way.append(place)
        place = (5 * place + 1) % size
    position = {place: index for index, place in enumerate(way)}
    late = []
    for number in range(size, size << 10):
        place, perturb = number % size, number
        while place in position and perturb:
            perturb >>= 5
            place = (place * 5 + perturb + 1) % size
        if position.get(place, size) < len(way) // 2:
            late.append(number)
            if len(way) + len(late) == size * 2 // 3 - 2:
                return way + late
    raise AssertionError("too few")


def test_collision_bomb_of_different_hashes() -> None:
    """A message of 870 KB with such ints, 17 bits, once kept a controller busy for five seconds: only equal hashes were
    limited.
    """
    numbers = chain(13)
    assert len(set(map(hash, numbers))) == len(numbers) > FEW_KEYS
    assert "chosen to collide" in refused(dict_of([whole(n) for n in numbers]))


def test_collision_bombs_in_one_message_share_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bomb is small enough to be decoded alone. A message full of them is refused after few steps."""
    one = dict_of([whole(n) for n in chain(10)])
    assert len(decode(one)) > FEW_KEYS
    steps, walk = [], values._Table._walk

    def counted(table: Any, key: int, place: int) -> tuple[int, int]:
        found = walk(table, key, place)
        steps.append(found[1])
        return found

    monkeypatch.setattr(values._Table, "_walk", counted)
    count = (1 << 20) // len(one)
    assert "chosen to collide" in refused(head(values.LIST, count) + one * count)
    assert sum(steps) < 2 * values.STEPS


def test_a_call_of_no_function_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name and the function's size limit are checked before decoding. Without that a message of 1 MiB kept a
    controller busy for 1.6 s.
    """
    decoded: list[int] = []
    monkeypatch.setattr(values, "decoding", lambda data, limit: decoded.append(len(data)))
    functions = HostFunctions({"known": HostFunction(len, size=1000)}, 1 << 20)
    arguments = set_of([whole(n) for n in range(1000)])
    for name in ("unknown", "known"):
        call = head(values.TUPLE, 3) + encode(name) + head(values.TUPLE, 1) + arguments + encode({})
        answer = functions.call(call, lambda: None)
        assert isinstance(answer, bytes)
        assert b"ValueError" in answer
    assert decoded == []


@pytest.mark.parametrize(
    "data",
    [
        b"", b"t", head(values.TUPLE, 2) + encode("known") + b"N", head(values.TUPLE, 3) + b"NNN",
        head(values.TUPLE, 3) + head(values.STR, 100) + b"known", head(values.TUPLE, 3) + head(values.STR, 1) + b"\xff",
        head(values.TUPLE, 3) + set_of([whole(1)]) + b"NN", head(values.TUPLE, 3) + head(values.STR, 2**32 - 1),
        head(values.TUPLE, 3) + encode("known") + b"t", head(values.TUPLE, 3) + encode("known") + b"NN",
    ],
)  # fmt: skip
def test_what_is_no_call_of_a_function(data: bytes) -> None:
    answer = HostFunctions({"known": len}, 1 << 20).call(data, lambda: None)
    assert isinstance(answer, bytes)
    assert decode(answer)[:2] == ("error", "ValueError")


@pytest.mark.parametrize("shift", [0, 1, 8, 12, 20, 32, 44, 56])
@pytest.mark.parametrize("form", [dict_of, set_of])
def test_honest_keys_are_no_bomb(shift: int, form: Callable[[list[bytes]], bytes]) -> None:
    """Addresses, pages, nanoseconds: keys with equal low bits are accepted."""
    keys = [n << shift for n in range(12_288)]
    assert set(decode(form([encode(key) for key in keys]))) == set(keys)


def test_honest_keys_of_other_types_are_no_bomb() -> None:
    grid = {(x, y): None for x in range(100) for y in range(100)}
    halves = {n / 8: None for n in range(10_000)}
    texts = {str(n): None for n in range(40_000)}
    for value in (grid, halves, texts, set(grid), set(halves), set(texts)):
        assert decode(encode(value)) == value


def test_the_table_that_steps_are_counted_in_is_cpythons() -> None:
    """The order of a set's elements shows their places in the table. So this test fails if another CPython places them
    differently.
    """
    for numbers in ([*range(0, 50_000, 7)], [n << 20 for n in range(20_000)], [n * 0x9E3779B97F4A7C15 % MERSENNE for n in range(90_000)]):  # fmt: skip
        table, built = values._Table(values.IN_SET), set()
        assert values.at_once(table.fill(numbers, 1 << 24)) > 0
        for number in numbers:
            built.add(number)
        assert table.in_order() == list(built)


def longest_turn(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How many turns decoding takes, and the most elements and table places that it visits in one turn."""
    looks, turns, longest = 0, 0, 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal looks
            found = function(*args)
            looks += found[1] if function is walk else 1
            return found

        return call

    walk = values._Table._walk
    with monkeypatch.context() as patch:
        patch.setattr(values._Table, "_walk", counted(walk))
        for tag, decoder in values._DECODERS.items():
            if decoder is not None:
                patch.setitem(values._DECODERS, tag, counted(decoder))
        work = values.decoding(data, 1 << 24)
        while True:
            before = looks
            try:
                next(work)
            except (StopIteration, ValueError):
                return turns, max(longest, looks - before)
            turns += 1
            longest = max(longest, looks - before)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode([0] * 100_000), id="a list"),
        pytest.param(encode([[[]] * 3] * 30_000), id="lists"),
        pytest.param(encode(set(range(100_000))), id="a set"),
        pytest.param(encode({n: n for n in range(50_000)}), id="a dict"),
        pytest.param(dict_of([whole(n) for n in chain(13)]), id="a bomb"),
        pytest.param(set_of([whole(1)] * 100_000), id="all alike"),
    ],
)
def test_a_long_message_is_decoded_in_turns(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Messages of 100 KB to 1 MiB are decoded in turns, so that other boxes are served between them."""
    turns, longest = longest_turn(data, monkeypatch)
    assert turns > 50
    assert longest <= 20 * values.IN_ONE_TURN


def test_a_long_call_of_a_function_waits_for_its_turns() -> None:
    """Other calls of the box are answered between the turns, and the long call's answer is right."""
    port = Port(1 << 20, HostFunctions({"total": sum, "word": str}, 1 << 20))
    numbers = list(range(50_000))
    for kind, at in ((b"*", 0), (b"+", 1 << 18), (b".", 1 << 19)):
        message = encode(("total", (numbers,), {}))
        piece = (b"h" if kind == b"*" else b"") + message[at : {0: 1 << 18, 1 << 18: 1 << 19}.get(at)]
        reply = port.exchange(0, kind + piece, 4096, 1 << 16)
    turns = 0
    while isinstance(reply, Blocked):
        assert reply.unfinished
        other = port.exchange(1, b"h" + encode(("word", (turns,), {})), 4096, 1 << 16)
        assert isinstance(other, tuple)
        assert decode(other[1][1]) == ("ok", str(turns))
        turns += 1
        again = reply.attempt()
        if again is not None:
            reply = again
    assert turns > 50
    assert isinstance(reply, tuple)
    assert decode(reply[1][1]) == ("ok", sum(numbers))


def test_a_long_call_of_a_function_is_interrupted_as_any() -> None:
    """A signal ends the wait. The guest's handler runs, and then the guest continues the call or begins another one."""
    port = Port(1 << 20, HostFunctions({"total": sum}, 1 << 20))
    message = b"h" + encode(("total", (list(range(50_000)),), {}))
    reply = port.exchange(0, message, 4096, 1 << 16)
    for _ in range(10):
        assert isinstance(reply, Blocked)
        assert reply.on_interrupt is None  # so the call is answered EINTR
        reply = port.exchange(0, b"w", 4096, 1 << 16)
    reply = port.exchange(0, b"h" + encode(("total", ([1, 2],), {})), 4096, 1 << 16)
    assert isinstance(reply, tuple)
    assert decode(reply[1][1]) == ("ok", 3)
    reply = port.exchange(0, message, 4096, 1 << 16)
    while isinstance(reply, Blocked):
        reply = port.exchange(0, b"w", 4096, 1 << 16)
    assert isinstance(reply, tuple)
    assert decode(reply[1][1]) == ("ok", sum(range(50_000)))


def test_many_long_calls_at_once_are_decoded_one_after_another() -> None:
    """Seven threads call with nearly the largest arguments: each gets its answer, and only one message is being decoded
    at a time.
    """
    port = Port(1 << 20, HostFunctions({"total": sum}, 1 << 20))
    message = b"h" + encode(("total", (list(range(100_000)),), {}))
    waits = {channel: port.exchange(channel, message, 4096, 1 << 16) for channel in range(7)}
    answers = []
    while waits:
        for channel, reply in [*waits.items()]:
            assert isinstance(reply, Blocked)
            again = reply.attempt()
            if isinstance(again, tuple):
                answers.append(decode(again[1][1]))
                del waits[channel]
        assert sum(work.has_begun for work in port._works) <= 1
    assert answers == [("ok", sum(range(100_000)))] * 7


def test_what_a_signal_raises_in_a_function_leaves_nothing_behind_that_others_wait_for() -> None:
    def leave(_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(100)

    port = Port(1 << 20, HostFunctions({"leave": leave, "total": sum}, 1 << 20))
    reply = port.exchange(0, b"h" + encode(("leave", ([1] * 10_000,), {})), 4096, 1 << 16)
    assert isinstance(reply, Blocked)

    def go_on() -> None:
        while True:
            reply.attempt()

    with pytest.raises(RaisedByCaller) as raised:
        go_on()
    assert isinstance(raised.value.error, KeyboardInterrupt)
    assert not port._works


def test_many_named_arguments() -> None:
    functions = HostFunctions({"f": len}, 1 << 20)
    port = Port(1 << 20, functions)
    reply = port.exchange(0, b"h" + encode(("f", (), {str(n): n for n in range(20_000)})), 4096, 1 << 16)
    while isinstance(reply, Blocked):
        reply = reply.attempt() or reply
    assert isinstance(reply, tuple)
    assert "are named" in str(decode(reply[1][1]))


NOON = datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize("form", [dict_of, set_of])
@pytest.mark.parametrize("item", [None, 1, NOON], ids=["None", "int", "moment"])
def test_long_keys_with_the_same_hash(form: Callable[[list[bytes]], bytes], item: object) -> None:
    """64 keys are too few for a flood of hashes. But comparing each with all before it would take a second for each
    MiB, in one step.
    """
    tails = itertools.product((-1, -2), repeat=6)
    keys = [(*([item] * 700), *tail) for tail in tails]
    assert len({hash(key) for key in keys}) == 1
    assert "long keys with the same hash" in refused(form([encode(key) for key in keys]))
    assert len(decode(form([encode(key) for key in keys[:3]]))) == 3


def test_honest_keys_with_the_same_hash_are_no_bomb() -> None:
    """-1 and -2 have the same hash, and so have points around zero."""
    points = dict.fromkeys(itertools.product(range(-12, 12), repeat=3))
    board = {(*([0] * 81), *tail): None for tail in itertools.product((-1, -2), repeat=4)}
    for value in (points, board, set(points), set(board)):
        assert decode(encode(value, 1 << 24), 1 << 24) == value


def peak(call: Callable[[], object]) -> int:
    """The peak of memory that a call takes, in bytes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


SWOLLEN = {
    "None": b"N",
    "empty lists": head(values.LIST, 0),
    "empty dicts": head(values.DICT, 0),
    "empty sets": head(values.SET, 0),
    "tuples of one": head(values.TUPLE, 1) + b"N",
    "lists of one": head(values.LIST, 1) + b"N",
    "dicts of one": head(values.DICT, 1) + b"NN",
    "sets of one": head(values.SET, 1) + b"N",
    "dicts of six": dict_of([b"N", b"T", b"F", b"s\0\0\0\0", b"b\0\0\0\0", b"t\0\0\0\0"]),
    "short texts": head(values.STR, 3) + "€".encode(),
    "moments": bytes([values.AWARE]) + struct.pack("<HBBBBBIBq", *MOMENT, 1),
}
#: The most bytes of memory for each byte of a message: a set, the largest empty value, takes 5 bytes of a message.
WORST_FACTOR = 64


@pytest.mark.parametrize("kind", SWOLLEN)
def test_swollen_memory(kind: str) -> None:
    count = (200_000 - 5) // len(SWOLLEN[kind])
    data = head(values.LIST, count) + SWOLLEN[kind] * count
    assert peak(lambda: decode(data)) < WORST_FACTOR * len(data)


@pytest.mark.parametrize("form", [dict_of, set_of])
@pytest.mark.parametrize("count", [2731, 2800, 10_924])
def test_swollen_memory_of_keys(form: Callable[[list[bytes]], bytes], count: int) -> None:
    """The numbers of keys are just beyond those at which tables grow."""
    for keys in (
        [whole(n) for n in range(count)],
        [head(values.STR, 3) + n.to_bytes(3, "big") for n in range(count) if not n & 0x808080],
    ):
        data = form(keys)
        assert peak(partial(decode, data)) < WORST_FACTOR * len(data)


def test_swollen_text() -> None:
    """One character beyond the others makes all characters take four bytes."""
    text = encode("a" * 200_000 + "\U0001f600")
    assert peak(lambda: decode(text)) < 10 * len(text)


def calls_of(data: bytes) -> int:
    """How many function calls decoding takes."""
    count = 0

    def counted(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        decode(data)
    except ValueError:
        pass
    finally:
        sys.setprofile(None)
    return count


@given(st.binary(max_size=2000) | st.lists(st.sampled_from([*SWOLLEN.values(), head(values.LIST, 9), head(values.DICT, 3)])).map(b"".join))  # fmt: skip
def test_calls_are_no_more_than_bytes(data: bytes) -> None:
    assert calls_of(data) < 4 * len(data) + 20


# --- any bytes --------------------------------------------------------------------------------------------------------


def settles(data: bytes) -> None:
    """Asserts that the bytes are no value, or a value that is the same after encoding and decoding."""
    try:
        value = decode(data)
    except ValueError:
        return
    again = encode(value)
    assert len(again) == len(data)
    assert same(decode(again), value)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, where NaNs count as equal."""
    return one == other or encode(one) == encode(other) or "nan" in repr(one) == repr(other)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    settles(data)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(values._DECODERS)), st.integers(0, 4), st.binary(max_size=6)), max_size=30
    )
)
def test_any_bytes_that_look_like_values(pieces: list[tuple[int, int, bytes]]) -> None:
    """Tags and small counts are at places where they can be valid, so that decoding of most goes far."""
    settles(
        b"".join(
            bytes([tag]) + (head(0, count)[1:] + more if tag in b"sbltSDI" else more) for tag, count, more in pieces
        )
    )
    settles(
        head(values.LIST, len(pieces))
        + b"".join(bytes([tag]) + bytes([count, 0, 0, 0]) + more for tag, count, more in pieces)
    )
