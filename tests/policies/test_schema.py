"""The JSON Schema of policies accepts what proxybox accepts, and refuses all that a schema can refuse."""

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from proxybox.policies import PRESETS, PolicyError, from_dict, preset, to_dict
from proxybox.policies.declaring import Measure
from proxybox.policies.keys import keys
from proxybox.policies.schema import schema

SCHEMA = json.loads(json.dumps(schema()))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


#: Bounds of all keys, values beside them, and values of each type.
VALUES = (
    None, True, False, 0, -1, 1, 2, 1.0, 0.5, -0.5, 1e300, 10**30, 1023, 1024, 7, 8, 32768, 32769, 1 << 20,
    (1 << 20) + 1, 16 << 20, (16 << 20) - 1, 1 << 30, (1 << 30) + 1, 1 << 31, 1 << 62, (1 << 62) + 1, (1 << 64) - 1,
    1 << 64, 60, 61, 366 * 86400, 366 * 86400 + 1, 7_258_118_400, 7_258_118_401,
    "", " ", "0", "-1", ".5", "1e3", "none", "None", "UNLIMITED", " none ", "true", "1K", "1 M", "1__0", "5s1h",
    "500ms", "0s", "15M", "a\0b", "/", "/a", "//a", "/a/", "/a/../b", "/a/..", "/..a", "a", "x" * 300,
    "\ud800", "a:/b", "ab:", [], [1], [""], ["a"], ["a", "a"], ["a.b"], ["a/b"], ["text/html"], ["1a"], [None],
    {}, {"a": 1}, {"a": "b"}, {"": "x"},
    "2020-01-01", "2020-W01-1", "now",
)  # fmt: skip


def beyond_a_schema(key, value, fault):
    """Whether a schema cannot know that proxybox refuses a value."""
    if isinstance(value, str):
        numbers = key.facts.measure in (Measure.SIZE, Measure.DURATION, Measure.MOMENT)  # a range of texts
        return numbers or "\ud800" in value
    if isinstance(value, float) and value.is_integer():  # in JSON, 1.0 is a whole number
        return key.facts.measure is not Measure.DURATION
    return "kind" in fault or "at most half of limits.memory" in fault  # these depend on several keys


@pytest.mark.parametrize("key", keys().values(), ids=lambda key: key.name)
def test_a_schema_and_proxybox_differ_in_no_value(key):
    differing = {}
    for value in VALUES:
        by_schema, fault = both(with_value(key, value))
        if by_schema is bool(fault) and not (by_schema and beyond_a_schema(key, value, fault)):
            differing[repr(value)[:60]] = fault
    assert not differing, f"mend policies/schema.py, or `schema` of the key's declaration: {differing}"


def both(policy):
    """Whether the schema accepts a policy, and proxybox's error; empty when there is none."""
    as_json = json.loads(json.dumps(policy, default=str))  # editors pass TOML's times as texts
    by_schema = VALIDATOR.is_valid(as_json)
    try:
        from_dict(policy)
    except PolicyError as error:
        return by_schema, str(error)
    return by_schema, ""


def takes(policy):
    """Whether proxybox accepts a policy. Asserts that the schema agrees."""
    by_schema, fault = both(policy)
    assert by_schema is not bool(fault), (
        f"of {policy} proxybox says {fault!r}, and policies/schema.py {'takes' if by_schema else 'refuses'} it"
    )
    return by_schema


def with_value(key, value):
    return {key.section: {key.field.name: value}} if key.section else {key.field.name: value}


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name):
    assert takes(to_dict(preset(name)))


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "policies/presets").iterdir()), ids=str)
def test_the_files_of_presets(path):
    assert takes(tomllib.loads(path.read_text()))


@pytest.mark.parametrize("key", keys().values(), ids=lambda key: key.name)
def test_values_of_each_key(key):
    facts, numbers = key.facts, key.range
    if key.name == "time.start":
        assert takes({"time": {"kind": "virtual", "start": facts.example}})
    elif facts.example is not None:
        assert takes(with_value(key, facts.example)), "its example"
    for word in key.choices if facts.measure is Measure.WORD else ():
        if key.name != "time.kind":  # a frozen time needs another key
            assert takes(with_value(key, word))
    assert not takes(with_value(key, [[]]))
    assert not takes(with_value(key, True)) or facts.measure is Measure.FLAG
    if facts.measure is not Measure.TEXT:
        assert takes(with_value(key, "none")) is (key.is_optional or "none" in key.choices)
    if numbers is not None and key.name != "time.rate":
        assert takes(with_value(key, numbers.low)) is not numbers.above
        assert not takes(with_value(key, numbers.low - 1))
    if facts.measure is Measure.SIZE:
        assert takes(with_value(key, "32M"))
    if facts.measure is Measure.DURATION:
        assert all(takes(with_value(key, text)) for text in ("500ms", "2.5", "1 s"))
        assert not takes(with_value(key, "soon"))


@pytest.mark.parametrize(("policy", "is_one"), [
    ({"time": "virtual"}, True), ({"time": {"kind": "frozen", "at": "2026-01-01"}}, True), ({"time": "warped"}, False),
    ({"network": "none"}, True), ({"filesystem": ["a:/b", {"target": "/c"}]}, True),
    ({"filesystem": {"mounts": [{"target": "/t", "source": {"a": "x", "b": {"c": "y"}}}]}}, True),
    ({"filesystem": {"mounts": [{"target": "/t", "content": "x"}]}}, True),
    ({"filesystem": {"mounts": [{"source": "x"}]}}, False), ({"limits": {"wal_time": 3}}, False), ({"x": 1}, False),
    ({"environment": {"variables": {"A": "1"}}}, True), ({"environment": {"variables": {"LD_PRELOAD": "x"}}}, False),
    ({"environment": {"user": "Bad User"}}, False), ({"limits": {"memory": "1 parsec"}}, False),
    ({"limits": {"wall_time": "1d2h3m4s5ms"}}, True), ({"limits": {"disk": "1_000KiB"}}, True), ({"extends": 3}, False),
])  # fmt: skip
def test_forms(policy, is_one):
    assert takes(policy) is is_one
