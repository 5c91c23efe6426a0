"""Policies told in words and written out."""

import json
import tomllib

import pytest

from proxybox.policies import (
    PRESETS,
    Mount,
    Policy,
    PolicyError,
    explain_policy,
    explain_text,
    from_dict,
    from_toml,
    preset,
    to_dict,
    to_toml,
)
from proxybox.policies.declaring import Measure
from proxybox.policies.keys import keys

MOUNTS = [
    [Mount("/m", {"f": "x"}, mode="overlay", size="1M")],
    [Mount("/g", print)],
    [Mount("/n", "/srv", names=["*.csv"])],
]
ALONE = {"time.start", "time.rate", "network.access"}  # these have no other value on their own


def other_values(key):
    """Values that are not the default, from what is declared of a key."""
    if key.facts.measure is Measure.MOUNTS:
        return MOUNTS
    default = key.of(Policy())
    values = [*key.choices, key.facts.example, *([None] if key.is_optional else []), not default]
    if key.range is not None:
        values += [
            key.range.low,
            3 * (key.range.low or 1),
            default + 1 if isinstance(default, int | float) else default,
        ]
    return [value for value in values if value != default and is_one(key, value)]


def with_value(key, value):
    return Policy(**({key.section: {key.field.name: value}} if key.section else {key.field.name: value}))


def is_one(key, value):
    try:
        with_value(key, value)
    except PolicyError:
        return False
    return True


@pytest.mark.parametrize("key", keys().values(), ids=lambda key: key.name)
def test_every_key_is_told_of(key):
    values = other_values(key)
    assert bool(values) is (key.name not in ALONE), "give it an example in its declaration"
    for value in values:
        assert explain_text(with_value(key, value)) != explain_text(Policy()), (
            f"proxybox policy explain says nothing of {key.name} = {value!r}: declare(..., explain=...) has a sentence"
        )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_told_in_sections_and_written_out(name):
    policy = preset(name)
    assert len(explain_policy(policy)) == 12
    assert from_toml(to_toml(policy)) == policy
    assert from_dict(json.loads(json.dumps(to_dict(policy)))) == policy
    assert tomllib.loads(to_toml(policy)) == to_dict(policy) or not policy.filesystem.mounts


def test_a_seed_and_frozen_time_are_told():
    text = explain_text(Policy(time={"kind": "frozen", "at": "2026-01-01"}, randomness=42))
    assert "stand still at 2026-01-01 00:00:00 UTC" in text
    assert "seed 42" in text


def session_lines(**sections):
    (found,) = (
        section for section in explain_policy(Policy(**sections)) if section.title == "What holds for a session"
    )
    return list(found.lines)


def test_a_session_is_told_of():
    per_call, *rest = session_lines()
    assert "for each call anew" in per_call
    assert rest == [
        "It lasts until it is closed, whatever its calls use together.",
        "A call that meets a limit of time is interrupted; if it goes on for 500 ms, the session is ended.",
        "It cannot be copied.",
        "A value that goes in or comes out takes at most 1 MiB, encoded.",
    ]
    session = {"wall_time": "1h", "cpu_time": 90, "calls": 1, "branches": 1_000, "value_size": "1K", "grace": 0}
    assert session_lines(session=session) == [
        per_call,
        "All its calls together: 1 h from its start, 1 min 30 s of processor time, 1 OS call; then it is ended.",
        "A call that meets a limit of time ends the session at once.",
        "1,000 copies of it may live at once besides it.",
        "A value that goes in or comes out takes at most 1 KiB, encoded.",
    ]
    assert "1 copy of it may live at once besides it." in session_lines(session={"branches": 1})


@pytest.mark.parametrize(
    ("limit", "seen"),
    [({}, False), ({"limits.cpu_time": 1}, True), ({"session.wall_time": 1}, True), ({"session.cpu_time": 1}, True)],
)
def test_grace_is_told_of_where_a_limit_of_time_can_interrupt(limit, seen):
    sections = {"limits": {"wall_time": None, "cpu_time": None}, "session": {}}
    for key, value in limit.items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    assert any("limit of time" in line for line in session_lines(**sections)) is seen


def test_preloaded_modules_are_told_of_where_there_are_some():
    text = explain_text(Policy(preload=["xml.dom", "json"]))
    assert "imported before any untrusted code runs: xml.dom, json." in text
    assert "warm" not in explain_text(Policy())


def test_sessions_and_preloads_are_written_out():
    session = {"wall_time": 1.5, "calls": 9, "branches": 3, "value_size": "64M", "grace": 0}
    policy = Policy(preload=("json", "xml.dom"), session=session)
    assert to_dict(policy)["preload"] == ["json", "xml.dom"]
    assert to_dict(policy)["session"] == {**session, "cpu_time": "none"}
    assert 'preload = ["json", "xml.dom"]\n' in to_toml(policy)
    assert (
        '[session]\nwall_time = 1.5\ncpu_time = "none"\ncalls = 9\nbranches = 3\nvalue_size = "64M"\ngrace = 0\n'
    ) in to_toml(policy)
    assert from_toml(to_toml(policy)) == policy


def test_what_no_file_can_hold_is_told():
    for source in (print, b"\xff", {"a": {"b": b"\xff"}}):
        with pytest.raises(PolicyError, match=r"filesystem\.mounts\[0\]\.source"):
            to_toml(Policy(filesystem=[Mount("/a", source)]))
    with pytest.raises(PolicyError, match="not Unicode"):
        to_toml(Policy(environment={"variables": {"A": "\udcff"}}))


@pytest.mark.parametrize(("threads", "words"), [
    (0, "One thread: no other can be started."), (1, "One thread: no other can be started."), (2, "2 threads at once"),
    (1000, "256 threads at once"), (None, "256 threads at once"),
])  # fmt: skip
def test_as_many_threads_are_told_of_as_there_can_be(threads, words):
    assert words in explain_text(Policy(limits={"threads": threads}))
