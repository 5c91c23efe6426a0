"""Policies told in words and written out."""

import json
import tomllib

import attrs
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
from proxybox.policies.models import SECTIONS

OTHER_VALUES = {
    "filesystem.mounts": [
        [Mount("/m", {"f": "x"}, mode="overlay", size="1M")],
        [Mount("/g", print)],
    ],
    "filesystem.box": ["ro", "rw", "memory"],
    "filesystem.hide_dotfiles": [False],
    "time.kind": ["virtual"],
    "time.sleep": ["skip"],
    "output.limit": [None, "2M"],
    "output.lines": [10],
    "output.on_excess": ["end"],
    "output.escapes": ["raw", "neutralise"],
    "limits.wall_time": [None, 7],
    "limits.cpu_time": [None, 7],
    "limits.memory": [None, "99M"],
    "limits.disk": [None, "99M"],
    "limits.files": [None, 7],
    "limits.open_files": [None, 9],
    "limits.threads": [None, 0, 7],
    "limits.calls": [None, 7],
    "environment.variables": [{"A": "1"}],
    "environment.user": ["ann"],
    "environment.uid": [7],
    "environment.gid": [7],
    "environment.hostname": ["host"],
    "environment.locale": ["de_DE.UTF-8"],
    "environment.cpu_count": [2],
    "environment.cwd": ["/"],
    "environment.home": ["/h"],
    "randomness": [1],
    "on_denied": ["end"],
    "require_layers": [["landlock"]],
}
ALONE = {"time.start", "time.rate", "network.access"}  # these have no other value on their own


def test_the_table_above_has_every_key():
    keys = {field.name for field in attrs.fields(Policy)} - SECTIONS.keys()
    for section, cls in SECTIONS.items():
        keys |= {f"{section}.{field.name}" for field in attrs.fields(cls)}
    assert keys == OTHER_VALUES.keys() | ALONE


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in OTHER_VALUES.items() for value in values])
def test_every_key_is_told_of(key, value):
    section, _, name = key.rpartition(".")
    policy = Policy(**({section: {name: value}} if section else {name: value}))
    assert explain_text(policy) != explain_text(Policy())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_told_in_sections_and_written_out(name):
    policy = preset(name)
    assert len(explain_policy(policy)) == 11
    assert from_toml(to_toml(policy)) == policy
    assert from_dict(json.loads(json.dumps(to_dict(policy)))) == policy
    assert tomllib.loads(to_toml(policy)) == to_dict(policy) or not policy.filesystem.mounts


def test_a_seed_and_frozen_time_are_told():
    text = explain_text(Policy(time={"kind": "frozen", "at": "2026-01-01"}, randomness=42))
    assert "stand still at 2026-01-01 00:00:00 UTC" in text
    assert "seed 42" in text


def test_what_no_file_can_hold_is_told():
    for source in (print, b"\xff", {"a": {"b": b"\xff"}}):
        with pytest.raises(PolicyError, match=r"filesystem\.mounts\[0\]\.source"):
            to_toml(Policy(filesystem=[Mount("/a", source)]))
    with pytest.raises(PolicyError, match="not Unicode"):
        to_toml(Policy(environment={"variables": {"A": "\udcff"}}))
