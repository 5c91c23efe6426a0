"""Plain values as JSON, there and back."""

import datetime
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxybox.jsonvalues import MAX_DEPTH, from_json, to_json

_leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
)  # fmt: skip
_keys = st.text() | st.integers() | st.tuples(st.integers(), st.text())
_values = st.recursive(
    _leaves,
    lambda below: st.lists(below) | st.tuples(below, below) | st.dictionaries(_keys, below) | st.sets(st.integers()),
)


@pytest.mark.full
@given(_values)
def test_there_and_back(value: object) -> None:
    again = from_json(json.loads(json.dumps(to_json(value))))
    assert again == value
    assert type(again) is type(value)


def test_what_json_has_no_number_for() -> None:
    assert math.isnan(from_json(to_json(math.nan)))
    assert [from_json(to_json(value)) for value in (math.inf, -math.inf, -(10**5000))] == [
        math.inf,
        -math.inf,
        -(10**5000),
    ]
    assert to_json(1 << 53) == {"$int": "0x20000000000000"}


@pytest.mark.parametrize("data", [
    {"$what": 1}, {"$int": 5}, {"$int": "five"}, {"$bytes": "*"}, {"$bytes": 1}, {"$float": "1"}, {"$tuple": {}},
    {"$dict": [[1]]}, {"$dict": [[1, 2, 3]]}, {"$dict": {}}, {"$set": [[1]]}, {"$dict": [[[1], 2]]}, {"$datetime": "x"},
    {"a": 1, "$b": 2},
])  # fmt: skip
def test_what_stands_for_nothing_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"\$|want"):
        from_json(data)


def test_depth_is_bounded_both_ways() -> None:
    value: object = 1
    data: object = 1
    for _ in range(MAX_DEPTH + 2):
        value, data = [value], [data]
    for convert in (to_json, from_json):
        with pytest.raises(ValueError, match="nested more than"):
            convert(value)


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="plain data"):
        to_json(object())
