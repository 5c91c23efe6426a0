"""docs/policies.md and the code say the same."""

import re
from pathlib import Path

import attrs
import pytest

from proxybox.policies import PRESETS, Mount, Policy, from_toml, preset, to_dict
from proxybox.policies.models import SECTIONS

TEXT = (Path(__file__).parents[2] / "docs/policies.md").read_text()


def chapter(title):
    return re.split(r"^#{2,3} ", TEXT.partition(f" {title}\n")[2], flags=re.MULTILINE)[0]


def rows(title):
    """{key: its other cells} of the tables of a chapter, keys in backquotes."""
    table = {}
    for line in chapter(title).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" |")]
        for key in re.findall(r"`([\w.]+)`", cells[0]) if line.startswith("| `") else ():
            table.setdefault(key, cells[1:])
    return table


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_there_with_its_default(section):
    table = rows(f"`[{section}]`")
    defaults = to_dict(Policy())[section]
    assert {field.name for field in attrs.fields(SECTIONS[section])} <= table.keys()
    for key, default in defaults.items():
        written = table[key][1].strip("`")
        if written == "by kind":
            continue
        assert from_toml(f"[{section}]\n{key} = {written}") == Policy(), key
        assert defaults[key] == default


def test_the_keys_of_mounts_and_of_the_top_level_are_there():
    assert {field.name for field in attrs.fields(Mount)} == rows("`[[filesystem.mounts]]`").keys()
    top = {field.name for field in attrs.fields(Policy)} - SECTIONS.keys()
    assert top == rows("Top level").keys()


def flat(name):
    data = to_dict(preset(name))
    pairs = {key: value for key, value in data.items() if key not in SECTIONS}
    return pairs | {f"{section}.{key}": value for section in SECTIONS for key, value in data[section].items()}


def cell(value):
    """A value as the table has it: mounts by their targets."""
    return (", ".join(mount["target"] for mount in value) or "none") if isinstance(value, list) else str(value)


def test_the_table_of_presets():
    presets = {name: flat(name) for name in PRESETS}
    differing = {
        key
        for name in PRESETS
        for key, value in presets[name].items()
        if value != presets["default"].get(key) and key != "time.start"
    }
    table = rows("The presets")
    assert table.keys() == differing
    for key, cells in table.items():
        assert cells == [cell(presets[name][key]) for name in PRESETS], key
