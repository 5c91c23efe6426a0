"""Encodes plain values as bytes, and decodes them: the data that host and guest exchange.

    None, bool      a tag
    int             a tag and an i64, or a tag, u32 size and the bytes in two's complement; never text, which Python
                    limits in digits and which takes time quadratic in them
    float           a tag and a double
    str, bytes      a tag, u32 size, UTF-8 (lone surrogates too) or the bytes
    list, tuple, set, dict      a tag, u32 count, then the elements; for a dict each key and then its value
    datetime        a tag, a structure, and for an aware one its offset from UTC in microseconds

All numbers are little-endian. Only objects of these types are made; nothing is looked up by name or called. `decode`
accepts any bytes from anybody, and returns a value or raises ValueError, in time and memory linear in their number.

The guest imports the same file, in PyPy 3.9 to 3.11 and before the program. So it imports only modules that are loaded
there anyway, uses the syntax of 3.9, and imports datetime only for a datetime.
"""

from __future__ import annotations

import struct
import sys

TYPE_CHECKING = False  # importing typing would cost more than the rest of this file
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator
    from datetime import datetime
    from typing import Any, TypeVar

    Value = TypeVar("Value")
    Turns = Generator[None, None, Value]
    Encoder = Callable[[Any, bytearray, int, int], None]
    Decoder = Callable[[bytes, int], tuple[Any, int]]

#: How deep containers may be nested. It limits the recursion of `encode`.
MAX_DEPTH = 64
#: The most bytes of one encoding, unless the caller passes another limit. The format itself allows up to 4 GiB.
LIMIT = 1 << 20
#: The most keys of one dict or set that may have the same hash. Each is compared with all before it, so keys that were
#: chosen to have equal hashes would make it quadratic to build a dict.
SHARED_HASH = 64
#: In a dict or set with more keys than this, it is also checked how the hashes spread in its table. With fewer keys,
#: the worst that chosen hashes can cost is a small multiple of the time for decoding the keys.
FEW_KEYS = 512
#: The most steps through growing tables that all keys of one message may take together: STEPS, and STEPS_PER_KEY more
#: for each key. Random keys take 3 each, 12,000 multiples of 1 << 44 take 36 each.
STEPS, STEPS_PER_KEY = 1 << 19, 4
#: The most elements that are decoded, and steps that are taken, in one turn. It lasts some 100 us, and 1 ms for the
#: most expensive datetimes.
IN_ONE_TURN, STEPS_IN_ONE_TURN = 256, 1024
#: The most elements that may be compared to find that a key differs from all keys with the same hash.
COMPARED = 2048
#: How many neighbouring places of a table CPython tries before it jumps to another one (by perturbation, as
#: Objects/dictobject.c describes).
IN_DICT, IN_SET = 1, 10

NONE, TRUE, FALSE, INT, BIG, FLOAT, STR, BYTES, LIST, TUPLE, SET, DICT, NAIVE, AWARE = b"NTFiIdsbltSDnz"

_NONE, _TRUE, _FALSE = bytes([NONE]), bytes([TRUE]), bytes([FALSE])
_pack_int = struct.Struct("<Bq").pack
_pack_float = struct.Struct("<Bd").pack
_pack_head = struct.Struct("<BI").pack  # a tag with a size or a count
_read_i64 = struct.Struct("<q").unpack_from
_read_f64 = struct.Struct("<d").unpack_from
_read_u32 = struct.Struct("<I").unpack_from
_MOMENT = struct.Struct("<HBBBBBIB")  # year to second, microsecond, fold
_OFFSET = struct.Struct("<q")  # microseconds

_CAN = "None, bool, int, float, str, bytes, list, tuple, dict, set and datetime can"


class _Stranger(Exception):
    """An object that cannot be encoded, and why. `encode` adds its place in the value."""

    def __init__(self, found: object, why: str) -> None:
        super().__init__(found, why)
        self.found = found
        self.why = why


# --- out --------------------------------------------------------------------------------------------------------------


def encode(value: object, limit: int = LIMIT, parts: tuple[str, ...] = ()) -> bytes:
    """The encoding of a value.

    An object of a subclass is encoded as one of the type that it is derived from, a frozenset as a set, a bytearray or
    memoryview as bytes, an aware datetime with its UTC offset only.

    limit: the most bytes. parts: for a tuple that proxybox has made of the caller's objects: the names of its elements
    in error messages.

    Raises TypeError for an object that cannot be encoded, with its place in the value; ValueError for more than `limit`
    bytes and for containers nested deeper than MAX_DEPTH.
    """
    out = bytearray()
    try:
        _ENCODERS.get(type(value), _encode_other)(value, out, MAX_DEPTH, limit)
    except _Stranger as stranger:
        of, names = (value, parts) if parts and isinstance(value, tuple) else ((value,), ("value",))
        places = [_place(part, stranger.found, names[at]) for at, part in enumerate(of)]
        place = next(filter(None, places), "value")
        raise TypeError(f"{place}: {stranger.why}") from None
    if len(out) > limit:
        raise _too_large(limit)
    return bytes(out)


def _too_large(limit: int) -> ValueError:
    return ValueError(f"the value takes more than {limit:,} bytes")


def _encode_none(value: None, out: bytearray, room: int, limit: int) -> None:
    out += _NONE


def _encode_bool(value: bool, out: bytearray, room: int, limit: int) -> None:
    out += _TRUE if value else _FALSE


def _encode_int(value: int, out: bytearray, room: int, limit: int) -> None:
    if -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        out += _pack_int(INT, value)
    else:
        size = value.bit_length() // 8 + 1
        _put(BIG, value.to_bytes(size, "little", signed=True) if size <= limit else b"", size, out, limit)


def _encode_float(value: float, out: bytearray, room: int, limit: int) -> None:
    out += _pack_float(FLOAT, value)


def _encode_str(value: str, out: bytearray, room: int, limit: int) -> None:
    if len(value) > limit:
        raise _too_large(limit)
    data = value.encode("utf-8", "surrogatepass")
    _put(STR, data, len(data), out, limit)


def _encode_bytes(value: bytes, out: bytearray, room: int, limit: int) -> None:
    _put(BYTES, value, len(value), out, limit)


def _put(tag: int, data: bytes, size: int, out: bytearray, limit: int) -> None:
    """Adds bytes of a known size. The size is checked first, so that too many bytes are not copied."""
    if len(out) + size > limit:
        raise _too_large(limit)
    out += _pack_head(tag, size)
    out += data


def _begin(tag: int, count: int, out: bytearray, room: int, limit: int) -> None:
    """Adds the head of a container.

    Each container checks the size so far. This ends the encoding of a list that occurs many times in lists that occur
    many times themselves, which would grow exponentially.
    """
    if not room:
        raise ValueError(f"the value is nested deeper than {MAX_DEPTH}, or contains itself")
    if len(out) + count > limit:
        raise _too_large(limit)
    out += _pack_head(tag, count)


def _encode_list(value: list[Any], out: bytearray, room: int, limit: int) -> None:
    _begin(LIST, len(value), out, room, limit)
    for item in value:
        _ENCODERS.get(type(item), _encode_other)(item, out, room - 1, limit)


def _encode_tuple(value: tuple[Any, ...], out: bytearray, room: int, limit: int) -> None:
    _begin(TUPLE, len(value), out, room, limit)
    for item in value:
        _ENCODERS.get(type(item), _encode_other)(item, out, room - 1, limit)


def _encode_set(value: Collection[Any], out: bytearray, room: int, limit: int) -> None:
    _begin(SET, len(value), out, room, limit)
    for item in value:
        _ENCODERS.get(type(item), _encode_other)(item, out, room - 1, limit)
    if not _SAME_WHEN_ARRIVED.issuperset(map(type, value)):
        _check_keys(value, room, limit)


def _encode_dict(value: dict[Any, Any], out: bytearray, room: int, limit: int) -> None:
    _begin(DICT, len(value), out, room, limit)
    for key, item in value.items():
        _ENCODERS.get(type(key), _encode_other)(key, out, room - 1, limit)
        _ENCODERS.get(type(item), _encode_other)(item, out, room - 1, limit)
    if not _SAME_WHEN_ARRIVED.issuperset(map(type, value)):
        _check_keys(value, room, limit)


def _check_keys(keys: Collection[Any], room: int, limit: int) -> None:
    """Refuses keys that change in the encoding in such a way that they are not hashable, or equal to each other."""
    arrived = set()
    for key in keys:
        out = bytearray()
        _ENCODERS.get(type(key), _encode_other)(key, out, room - 1, limit)
        try:
            arrived.add(decode(bytes(out), limit))
        except TypeError:
            raise _Stranger(key, "a frozenset in a key arrives as a set, which cannot be one") from None
    if len(arrived) != len(keys):
        raise ValueError("two keys, or two elements of a set, would be the same one when they arrive")


def _encode_other(value: object, out: bytearray, room: int, limit: int) -> None:
    """Encodes an object whose type is derived from one of the types, or converted to one of them."""
    # By methods of the base types: str() of an enum's member, for example, gives its name, not its value.
    if isinstance(value, int):
        _encode_int(int.__index__(value), out, room, limit)
    elif isinstance(value, float):
        _encode_float(float.__float__(value), out, room, limit)
    elif isinstance(value, str):
        _encode_str(str.__str__(value), out, room, limit)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        _encode_bytes(memoryview(value).tobytes(), out, room, limit)
    elif isinstance(value, list):
        _encode_list(list(value), out, room, limit)
    elif isinstance(value, tuple):
        _encode_tuple(tuple(value), out, room, limit)
    elif isinstance(value, (set, frozenset)):
        _encode_set(frozenset(value), out, room, limit)
    elif isinstance(value, dict):
        _encode_dict(dict(value.items()), out, room, limit)
    elif "datetime" in sys.modules and isinstance(value, sys.modules["datetime"].datetime):
        _encode_datetime(value, out)
    else:
        raise _Stranger(value, f"a {type(value).__name__!r} object cannot cross the boundary; {_CAN}")


def _encode_datetime(value: datetime, out: bytearray) -> None:
    offset = value.utcoffset()
    out.append(NAIVE if offset is None else AWARE)
    out += _MOMENT.pack(
        value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, value.fold
    )
    if offset is not None:
        out += _OFFSET.pack((offset.days * 86_400 + offset.seconds) * 1_000_000 + offset.microseconds)


def _place(value: object, wanted: object, here: str) -> str:
    """The place of an object in a value that contains it, for an error message; "" where it is not found."""
    if value is wanted:
        return here
    for inner, place in _inside(value, here):
        found = _place(inner, wanted, place)
        if found:
            return found
    return ""


def _inside(value: object, here: str) -> Iterator[tuple[object, str]]:
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield item, f"{here}[{index}]"
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield item, f"an element of {here}"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key, f"a key of {here}"
            yield item, f"{here}[{_short(key)}]"


def _short(key: object) -> str:
    """A key as an error message shows it. An int with too many digits has no repr, and a str may be very long."""
    if isinstance(key, str):
        return ascii(key[:40])
    if key is None or isinstance(key, float) or (isinstance(key, int) and key.bit_length() < 256):
        return repr(key)
    return "..."


# --- in ---------------------------------------------------------------------------------------------------------------


def decode(data: bytes, limit: int = LIMIT) -> Any:
    """The value that `data` encodes.

    Raises ValueError, and nothing else, for bytes that are not exactly one well-formed encoding of at most `limit`
    bytes.
    """
    if len(data) > limit:
        raise _too_large(limit)
    try:
        return _all_of(data, at_once(_decode(_Message(data))))
    except _MALFORMED as error:
        raise ValueError(f"not a value: {_why(error)}") from None


def scalar(data: bytes, at: int) -> tuple[Any] | None:
    """The value that is encoded from `at` to the end of `data`, in a tuple; None where that is no single scalar."""
    try:
        decoder = _DECODERS[data[at]]
        value, end = (None, -1) if decoder is None else decoder(data, at + 1)
    except (ValueError, *_MALFORMED):
        return None
    return (value,) if end == len(data) else None


def decoding(data: bytes, limit: int = LIMIT) -> Turns[Any]:
    """`decode` in turns, for a caller that does other work in between: a generator that returns the value."""
    if len(data) > limit:
        raise _too_large(limit)
    try:
        return _all_of(data, (yield from _decode(_Message(data))))
    except _MALFORMED as error:
        raise ValueError(f"not a value: {_why(error)}") from None


def at_once(turns: Turns[Value]) -> Value:
    """Carries out all turns, one after another, and returns the result."""
    try:
        while True:
            next(turns)
    except StopIteration as end:
        value: Value = end.value
        return value


def _all_of(data: bytes, found: tuple[Any, int]) -> Any:
    value, end = found
    if end != len(data):
        raise ValueError("not a value: bytes follow it")
    return value


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"unknown tag {error}"
    if isinstance(error, UnicodeDecodeError):
        return "a str that is no UTF-8"
    if isinstance(error, TypeError):
        return "a key that cannot be one"
    return "a moment that never is" if isinstance(error, OverflowError) else "it ends too early"


def _decode(data: _Message) -> Turns[tuple[Any, int]]:
    """The first value in `data`, and the offset of its end."""
    around: list[tuple[int, list[Any], int]] = []  # containers that are not complete yet, the outermost first
    tag, items, missing = NONE, [], 1  # the container that is being filled; at first, a list for the value itself
    at, left = 0, IN_ONE_TURN
    while True:
        while missing:
            left -= 1
            if not left:
                yield
                left = IN_ONE_TURN
            decoder = _DECODERS[data[at]]
            if decoder is not None:
                item, at = decoder(data, at + 1)
                items.append(item)
                missing -= 1
                continue
            if len(around) == MAX_DEPTH:
                raise ValueError(f"not a value: nested deeper than {MAX_DEPTH}")
            around.append((tag, items, missing))
            tag, items = data[at], []
            missing = _read_u32(data, at + 1)[0] * (2 if tag == DICT else 1)
            at += 5
            if missing > len(data) - at:
                raise ValueError("not a value: a count of more elements than there are bytes for")
        if not around:
            return items[0], at
        if tag == LIST:
            whole: Any = items
        elif tag == TUPLE:
            whole = tuple(items)
        elif len(items) <= SHARED_HASH and tuple not in map(type, items):
            whole = _whole_small(tag, items)
        else:
            whole = yield from (_whole_set if tag == SET else _whole_dict)(data, items)
        tag, items, missing = around.pop()
        items.append(whole)
        missing -= 1


def first_text(data: bytes, count: int) -> str:
    """The first element, a str, of an encoded tuple of `count` elements. The others are not decoded.

    Raises ValueError where there is no such tuple or str.
    """
    if data[:6] != _pack_head(TUPLE, count) + bytes([STR]):
        raise ValueError(f"not a tuple of {count} that begins with a str")
    try:
        return _decode_str(data, 6)[0]
    except (struct.error, UnicodeDecodeError):
        raise ValueError("not a value: a str that ends too early, or is no UTF-8") from None


class _Message(bytes):
    """The bytes that are decoded. left: the steps that its keys may still take in tables."""

    left = STEPS


def _decode_none(data: bytes, at: int) -> tuple[None, int]:
    return None, at


def _decode_true(data: bytes, at: int) -> tuple[bool, int]:
    return True, at


def _decode_false(data: bytes, at: int) -> tuple[bool, int]:
    return False, at


def _decode_int(data: bytes, at: int) -> tuple[int, int]:
    return _read_i64(data, at)[0], at + 8


def _decode_big(data: bytes, at: int) -> tuple[int, int]:
    begin, end = _extent(data, at)
    value = int.from_bytes(data[begin:end], "little", signed=True)
    # Each number has one encoding. Otherwise a million zero bytes could be sent as an expensive 0.
    if end - begin != value.bit_length() // 8 + 1 or -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
        raise ValueError("not a value: an int is longer than it must be")
    return value, end


def _decode_float(data: bytes, at: int) -> tuple[float, int]:
    return _read_f64(data, at)[0], at + 8


def _decode_str(data: bytes, at: int) -> tuple[str, int]:
    begin, end = _extent(data, at)
    return data[begin:end].decode("utf-8", "surrogatepass"), end


def _decode_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    begin, end = _extent(data, at)
    return data[begin:end], end


def _extent(data: bytes, at: int) -> tuple[int, int]:
    """Where the bytes begin and end that follow their size, which is at offset `at`."""
    (size,) = _read_u32(data, at)
    at += 4
    if size > len(data) - at:
        raise ValueError("not a value: a size reaches beyond the end")
    return at, at + size


def _whole_small(tag: int, items: list[Any]) -> set[Any] | dict[Any, Any]:
    """Makes a set or dict that is too small to be made slow by chosen keys."""
    value = set(items) if tag == SET else dict(zip(items[::2], items[1::2]))  # noqa: B905 - strict= is not in 3.9
    if len(value) != (len(items) if tag == SET else len(items) // 2):
        raise ValueError(_TWICE)
    return value


def _whole_set(data: _Message, items: list[Any]) -> Turns[set[Any]]:
    cuts = yield from _looked_at(data, items, IN_SET)
    value: set[Any] = set()
    for begin, end in _between(cuts):
        value.update(items[begin:end])
        if end < len(items):
            yield
    if len(value) != len(items):
        raise ValueError(_TWICE)
    return value


def _whole_dict(data: _Message, items: list[Any]) -> Turns[dict[Any, Any]]:
    """Makes a dict in turns. items: each key and then its value."""
    keys = items[::2]
    cuts = yield from _looked_at(data, keys, IN_DICT)
    value: dict[Any, Any] = {}
    for begin, end in _between(cuts):
        value.update(zip(keys[begin:end], items[2 * begin + 1 : 2 * end : 2]))  # noqa: B905 - strict= is not in 3.9
        if end < len(keys):
            yield
    if len(value) != len(keys):
        raise ValueError(_TWICE)
    return value


def _between(cuts: list[int]) -> Iterator[tuple[int, int]]:
    return zip(cuts, cuts[1:])  # noqa: B905, RUF007 - neither strict= nor pairwise is in 3.9


def _looked_at(data: _Message, keys: list[Any], span: int) -> Turns[list[int]]:
    """Checks keys, and cuts them into portions of which one per turn is put into the dict or set.

    Returns the offsets of the cuts, from 0 to the number of keys. Raises ValueError for keys that were chosen to make
    the dict or set slow: many with one hash, hashes that collide in the table, or long keys with the same hash, which
    are slow to compare. The hashes of str and bytes depend on a secret. Those of numbers, of tuples of them and of
    aware datetimes do not.
    """
    kinds = set(map(type, keys))
    is_light = tuple not in kinds
    if kinds <= _TEXT or (is_light and len(keys) <= SHARED_HASH):
        return [*range(0, len(keys), IN_ONE_TURN), len(keys)]
    hashes: list[int] = []
    for begin in range(0, len(keys), IN_ONE_TURN):
        hashes += map(hash, keys[begin : begin + IN_ONE_TURN])
        yield
    if len(hashes) > FEW_KEYS:  # first, since such hashes make `seen` below slow, too
        yield from _refuse_crowds(data, hashes, span)
    seen: dict[int, int] = {}
    cuts, cost = [0], 0
    for at, one in enumerate(hashes):
        before = seen.get(one, 0)
        if before == SHARED_HASH:  # honest keys can share hashes: powers of two have only 61
            raise ValueError(f"not a value: more than {SHARED_HASH} keys with the same hash")
        seen[one] = before + 1
        compared = before * _weight(keys[at]) if before and not is_light else 0
        if compared > COMPARED:
            raise ValueError("not a value: long keys with the same hash")
        cost += 1 + compared
        if cost > IN_ONE_TURN:
            cuts.append(at + 1)
            cost = 0
            yield
    return cuts if cuts[-1] == len(keys) else [*cuts, len(keys)]


def _weight(key: Any) -> int:
    """The number of elements of a key, with those of tuples in it. Counting stops soon after COMPARED."""
    if type(key) is not tuple:
        return 1
    weight = 1
    for item in key:
        weight += _weight(item)
        if weight > COMPARED:
            break
    return weight


def _refuse_crowds(data: _Message, hashes: list[int], span: int) -> Turns[None]:
    """Counts the steps that CPython would take to put the hashes into a growing table, and refuses too many.

    The count is made in a table of our own. Different hashes can be chosen that all try the same taken places, which
    takes steps quadratic in their number. A dict of such keys must not even exist: each copy of it takes the steps
    again.
    """
    data.left = yield from _Table(span).fill(hashes, data.left + STEPS_PER_KEY * len(hashes))
    if data.left < 0:
        raise ValueError("not a value: the hashes of its keys are chosen to collide")


class _Table:
    """A model of where CPython puts hashes in the table of a dict or a set."""

    def __init__(self, span: int) -> None:
        self._span = span
        self._empty(8)

    def _empty(self, size: int) -> None:
        self._size = size
        self._taken = bytearray(size)
        self._hashes: list[int] = []  # of a dict, in the order of insertion
        self._places: list[int | None] = [None] * size if self._span == IN_SET else []  # of a set, by place
        # The table grows when it has this many entries: two thirds of a dict's places, three fifths of a set's.
        self._full = size * 2 // 3 if self._span == IN_DICT else -(-(size - 1) * 3 // 5)

    def in_order(self) -> list[int]:
        """The hashes in the order in which a dict (by insertion) or a set (by place) iterates over its keys."""
        return self._hashes if self._span == IN_DICT else [one for one in self._places if one is not None]

    def fill(self, hashes: list[int], left: int) -> Turns[int]:
        """Puts all hashes in, and grows as needed. Returns how many of `left` steps remain; below 0 if too few."""
        count = 0
        while left >= 0:
            more = hashes[count : self._full]
            left = yield from self._put(more, left)
            count += len(more)
            if count == len(hashes):
                break
            again = self.in_order()
            self._empty(self._size * (2 if self._span == IN_DICT or count > 50_000 else 4))
            left = yield from self._put(again, left)
        return left

    def _put(self, hashes: list[int], left: int) -> Turns[int]:
        """Puts each hash into its first free place. In a set, trying a row of ten places counts as three steps."""
        size, span, taken, places = self._size, self._span, self._taken, self._places
        mask, due = size - 1, left - STEPS_IN_ONE_TURN
        for one in hashes:
            left -= 1
            place = one & mask
            if taken[place]:
                place, steps = self._walk(one, place)
                left -= steps
            if left < due:
                if left < 0:
                    return left
                yield
                due = left - STEPS_IN_ONE_TURN
            taken[place] = 1
            if span == IN_SET:
                places[place] = one
        if span == IN_DICT:
            self._hashes += hashes
        return left

    def _walk(self, one: int, place: int) -> tuple[int, int]:
        """The free place of a hash whose first place is taken, and the number of steps to it."""
        size, span, taken = self._size, self._span, self._taken
        perturb, steps = one & 0xFFFFFFFFFFFFFFFF, 0
        while taken[place]:
            if span == IN_SET:
                steps += 2
                free = taken.find(0, place, place + (span if place + span <= size else 1))
                if free >= 0:
                    return free, steps
            steps += 1
            perturb >>= 5
            place = (place * 5 + perturb + 1) & (size - 1)
        return place, steps


def _decode_naive(data: bytes, at: int) -> tuple[datetime, int]:
    from datetime import datetime

    year, month, day, hour, minute, second, microsecond, fold = _MOMENT.unpack_from(data, at)
    return datetime(year, month, day, hour, minute, second, microsecond, fold=fold), at + _MOMENT.size


def _decode_aware(data: bytes, at: int) -> tuple[datetime, int]:
    from datetime import timedelta, timezone

    value, at = _decode_naive(data, at)
    (offset,) = _OFFSET.unpack_from(data, at)
    return value.replace(tzinfo=timezone(timedelta(microseconds=offset))), at + 8


#: The other exceptions of decoding malformed bytes. `decode` converts them to ValueError.
_MALFORMED = (IndexError, struct.error, KeyError, UnicodeDecodeError, TypeError, OverflowError)
_TWICE = "not a value: a key of a dict, or an element of a set, comes twice"
_TEXT = frozenset({str, bytes})

#: Types whose objects, when decoded, are equal exactly when they were equal before, and can still be keys.
_SAME_WHEN_ARRIVED = frozenset({type(None), bool, int, float, str, bytes})

_ENCODERS: dict[type, Encoder] = {
    type(None): _encode_none,
    bool: _encode_bool,
    int: _encode_int,
    float: _encode_float,
    str: _encode_str,
    bytes: _encode_bytes,
    list: _encode_list,
    tuple: _encode_tuple,
    set: _encode_set,
    dict: _encode_dict,
}

#: The decoder of each tag; None for a container.
_DECODERS: dict[int, Decoder | None] = {
    NONE: _decode_none,
    TRUE: _decode_true,
    FALSE: _decode_false,
    INT: _decode_int,
    BIG: _decode_big,
    FLOAT: _decode_float,
    STR: _decode_str,
    BYTES: _decode_bytes,
    LIST: None,
    TUPLE: None,
    SET: None,
    DICT: None,
    NAIVE: _decode_naive,
    AWARE: _decode_aware,
}
