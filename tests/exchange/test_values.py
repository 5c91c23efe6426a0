"""Values across the boundary: they arrive unchanged, in CPython and in PyPy. Errors name the place of a wrong value."""

import enum
import math
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxybox.controller.exchange import values
from proxybox.controller.exchange.values import MAX_DEPTH, decode, encode

SOURCE = Path(values.__file__).resolve()

# The values are the text of a program, so that PyPy can make the same values.
VALUES = """
from datetime import datetime, timedelta, timezone
HOUR = timedelta(hours=1)
VALUES = [
    None, True, False,
    0, 1, -1, 255, -256, 2**31, 2**63 - 1, -2**63, 2**63, -2**63 - 1, 2**64, 1 << 127, -1 << 127, -1 << 135,
    1 << 40_000,
    0.0, -0.0, 1.5, 5e-324, 1.7976931348623157e308, float("inf"), -float("inf"), float("nan"),
    "", "a", "\\0", "h\\xe9llo", "\\u20ac", "\\U0001f600", "\\ud800", "\\ud83d\\ude00", "\\udcff" * 3, "x" * 70_000,
    b"", b"\\0\\xff", bytes(range(256)) * 9,
    [], [None], [[], [[]]], [1, "a", b"b", 1.0, None, True],
    (), (1,), (1, (2, (3, ()))), ("name", (1, 2), {}),
    {}, {"a": 1, "b": [2]}, {1: 2, None: 3, b"b": 4, (1, "x"): 5, 1.5: 6}, {"z": 0, "a": 1}, {(): ()},
    set(), {1, "a", None}, {(1, 2), (2, 1)}, {"a" * n for n in range(100)}, {n: n for n in range(10_000)},
    {1 << n: n for n in range(1000)},
    datetime(2020, 2, 29, 23, 59, 59, 999_999), datetime.min, datetime.max, datetime(2020, 10, 25, 2, 30, fold=1),
    datetime(2020, 1, 1, tzinfo=timezone.utc), datetime(2020, 1, 1, fold=1, tzinfo=timezone(-5 * HOUR)),
    datetime.min.replace(tzinfo=timezone(23 * HOUR)), datetime.max.replace(tzinfo=timezone(-23 * HOUR)),
    datetime(1900, 1, 1, tzinfo=timezone(timedelta(minutes=19, seconds=32, microseconds=130_001))),
    datetime(1900, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))),
    {datetime(2020, 1, 1): 1, datetime(2020, 1, 1, tzinfo=timezone.utc): 2},
]

def exact(value):
    "What two values have in common exactly when they are the same, types and signs and order of keys included."
    if type(value) in (list, tuple):
        return type(value), [exact(item) for item in value]
    if type(value) is set:
        return set, sorted(repr(exact(item)) for item in value)
    if type(value) is dict:
        return dict, [(exact(key), exact(item)) for key, item in value.items()]
    if type(value) is float:
        return float, value.hex()
    if type(value) is datetime:
        return datetime, value.replace(tzinfo=None), value.fold, value.utcoffset()
    return type(value), value
"""
names: dict[str, Any] = {}
exec(VALUES, names)
exact = names["exact"]


@pytest.mark.parametrize("value", names["VALUES"], ids=lambda value: ascii(type(value).__name__))
def test_what_goes_in_comes_out(value: Any) -> None:
    arrived = decode(encode(value))
    assert exact(arrived) == exact(value)
    assert type(arrived) is type(value)


def test_an_offset_comes_back_as_a_timezone() -> None:
    arrived = decode(encode(datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2), "name"))))
    assert type(arrived.tzinfo) is timezone
    assert arrived.tzname() == "UTC+02:00"


PROGRAM = f"""
import sys
before = set(sys.modules)
import values
assert "datetime" not in sys.modules or "datetime" in before, "datetime is not for everybody"
assert not set(sys.modules) - before - {{"values", "struct", "_struct", "__future__"}}
{VALUES}
theirs = values.decode(sys.stdin.buffer.read(), 1 << 24)
assert len(theirs) == len(VALUES)
for one, other in zip(theirs, VALUES):
    assert exact(one) == exact(other), (one, other)
    assert exact(values.decode(values.encode(other))) == exact(other), other
sys.stdout.buffer.write(values.encode(VALUES, 1 << 24))
"""


@pytest.mark.parametrize("interpreter", ["pypy3", sys.executable])
def test_both_sides_understand_each_other(interpreter: str) -> None:
    """The file alone, as it is mounted in the guest, in an interpreter without any other module of proxybox."""
    program = f"import sys\nsys.dont_write_bytecode = True\nsys.path.insert(0, {str(SOURCE.parent)!r})\n{PROGRAM}"
    sent = encode(names["VALUES"], 1 << 24)
    done = subprocess.run([interpreter, "-c", program], input=sent, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert exact(decode(done.stdout, 1 << 24)) == exact(names["VALUES"])


def test_the_file_has_the_syntax_of_python_3_9() -> None:
    import ast

    ast.parse(SOURCE.read_text(), feature_version=(3, 9))


class Number(enum.IntEnum):
    ONE = 1


class Flag(enum.IntFlag):
    BIG = 1 << 70


class Word(str, enum.Enum):  # noqa: UP042 - its str() is not its value, which is the point
    A = "a"


class Real(float):
    def __float__(self) -> float:
        raise AssertionError("asked for no reason")


class Text(str):
    def __str__(self) -> str:
        return "another"


class Moment(datetime):
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Number.ONE, 1),
        (Flag.BIG, 1 << 70),
        (Word.A, "a"),
        (Real(1.5), 1.5),
        (Text("a"), "a"),
        (Moment(2020, 1, 1, fold=1), datetime(2020, 1, 1, fold=1)),
        (Point(1, [2]), (1, [2])),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (frozenset({1, 2}), {1, 2}),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        ({Number.ONE: Word.A}, {1: "a"}),
        ({Point(1, 2)}, {(1, 2)}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, memoryview) else repr(value),
)
def test_a_subclass_arrives_as_what_it_is_derived_from(value: Any, arrives: Any) -> None:
    arrived = decode(encode(value))
    assert exact(arrived) == exact(arrives)


def test_an_order_that_was_changed_is_kept() -> None:
    value = OrderedDict(a=1, b=2)
    value.move_to_end("a")
    assert list(decode(encode(value))) == ["b", "a"]


class Foo:
    pass


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Foo(), "value"),
        ([1, Foo()], "value[1]"),
        ({"a": [0, 1, 2, Foo()]}, "value['a'][3]"),
        ({(1, 2): {7: Foo()}}, "value[...][7]"),
        ({"x" * 1000: Foo()}, f"value['{'x' * 40}']"),
        ({1 << 20_000: Foo()}, "value[...]"),
        ({"a": {Foo(): 1}}, "a key of value['a']"),
        ([{Foo()}], "an element of value[0]"),
        (OrderedDict(a=Point(1, Foo())), "value['a'][1]"),
    ],
)
def test_what_cannot_cross_says_where_it_stands(value: Any, place: str) -> None:
    with pytest.raises(TypeError) as seen:
        encode(value)
    assert str(seen.value).startswith(f"{place}: a 'Foo' object cannot cross the boundary; None, bool, int")


def test_what_cannot_cross_is_named_by_who_has_given_it() -> None:
    with pytest.raises(TypeError, match=r"^kwargs\['a'\]\[1\]: a 'Foo' object cannot cross"):
        encode(("call", (1, 2), {"a": [0, Foo()]}), parts=("", "args", "kwargs"))


@pytest.mark.parametrize("value", [1j, object, len, range(3), iter([]), timedelta(1), datetime(2020, 1, 1).date(), ...])
def test_nothing_else_crosses(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        encode([value])


@pytest.mark.parametrize("key", [frozenset(), (1, (frozenset({1}),))], ids=repr)
def test_a_key_that_arrives_as_none_is_refused(key: Any) -> None:
    for value in ({key: 1}, {key}):
        with pytest.raises(TypeError, match="of value: a frozenset in a key arrives as a set"):
            encode(value)


def test_keys_that_become_the_same_one_are_refused() -> None:
    class Odd(tzinfo):
        def utcoffset(self, _: datetime | None) -> timedelta:
            return timedelta(0)

        def dst(self, _: datetime | None) -> None:
            return None

    class Other(str):
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    for value in ({"a": 1, Other("a"): 2}, {"a", Other("a")}):
        with pytest.raises(ValueError, match="the same one"):
            encode(value)
    assert decode(encode({datetime(2020, 1, 1, tzinfo=Odd()): 1})) == {datetime(2020, 1, 1, tzinfo=UTC): 1}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_a_scalar_behind_what_is_known() -> None:
    """It returns what `decode` returns, or None."""
    for value in (None, True, False, 7, -1, 1 << 80, 2.5, "", "word", b"bytes"):
        data = b"head" + values.encode(value)
        assert values.scalar(data, 4) == (values.decode(data[4:]),)
        assert values.scalar(data + b"\0", 4) is None
        assert values.scalar(data[:-1], 4) is None
    for value in ([], (1,), {1}, {1: 2}):
        assert values.scalar(values.encode(value), 0) is None
    assert values.scalar(b"", 0) is values.scalar(b"\xff", 0) is None
    assert values.scalar(bytes([values.STR]) + b"\1\0\0\0\xff", 0) is None


def test_depth_has_an_end() -> None:
    assert decode(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    cycle: list[Any] = []
    cycle.append({"itself": cycle})
    for value in (nested(MAX_DEPTH + 1), cycle):
        with pytest.raises(ValueError, match="deeper than 64, or contains itself"):
            encode(value)


def test_a_list_that_is_held_again_and_again_ends_at_the_limit() -> None:
    value: list[Any] = []
    for _ in range(MAX_DEPTH - 1):
        value = [value, value]  # written out: 2**63 lists
    with pytest.raises(ValueError, match="more than 1,048,576 bytes"):
        encode(value)


@pytest.mark.parametrize("value", ["x" * 100, "\U0001f600" * 25, b"x" * 100, 1 << 800, [None] * 100, list(range(12))])
def test_the_limit_is_that_of_the_encoding(value: Any) -> None:
    size = len(encode(value))
    assert decode(encode(value, size), size) == value
    for call in (lambda: encode(value, size - 1), lambda: decode(encode(value), size - 1)):
        with pytest.raises(ValueError, match=f"more than {size - 1} bytes"):
            call()


PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary()
    | st.datetimes() | st.integers(-(2**200), 2**200)
    | st.datetimes(timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))))
)  # fmt: skip
KEYS = PLAIN.filter(lambda key: key == key) | st.tuples(st.integers(), st.text())
ANY = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner) | st.sets(KEYS, max_size=5)
    ),
)


@given(ANY)
def test_any_value_comes_back(value: Any) -> None:
    assert exact(decode(encode(value))) == exact(value)


def test_nans_are_keys_that_equal_nothing() -> None:
    arrived = decode(encode({math.nan: 1, -math.nan: 2}))
    assert list(arrived.values()) == [1, 2]
    assert all(math.isnan(key) for key in arrived)
