#!/usr/bin/env python3
"""Writes the tables of keys and of presets in docs/policies.md from the declarations of a policy's fields.

`make policies` runs this; a test fails if the page differs.
"""

import re
from pathlib import Path

import attrs

from proxybox.policies import PRESETS, Mount, Policy, preset, to_dict
from proxybox.policies.dumping import toml_line
from proxybox.policies.keys import PolicyKey, keys
from proxybox.policies.models import SECTIONS
from tools.tables import filled, table

PAGE = Path(__file__).resolve().parent.parent / "docs/policies.md"
#: The parts of a description of values that are written so in a file: texts and lists.
_CODE = re.compile(r'"[^"]*"|\[[^\]]*\]')


def page(text: str) -> str:
    """Returns the page with new tables."""
    return filled(text, "tools/policytables.py", tables())


def tables() -> dict[str, str]:
    """Returns the tables by their names."""
    found = {section or "policy": _of_keys([key for key in keys().values() if key.section == section])
             for section in ("", *SECTIONS)}  # fmt: skip
    mounts = _of_keys([PolicyKey("filesystem.mounts", field) for field in attrs.fields(Mount)])
    return {**found, "filesystem.mounts": mounts, "presets": _of_presets()}


def _of_keys(found: list[PolicyKey]) -> str:
    has_order = any(key.facts.tightens for key in found)
    head = ["Key", "Values", "Default", "Meaning", *(["One run"] if has_order else [])]
    rows = []
    for key in found:
        values = "".join(_CODE.sub(r"`\g<0>`", part) if _CODE.match(part) else part.replace("*", r"\*")
                         for part in re.split(f"({_CODE.pattern})", key.values))  # fmt: skip
        row = [f"`{key.field.name}`", values, key.facts.default or f"`{_default(key)}`", key.facts.means]
        rows.append([*row, _order(key)] if has_order else row)
    return table(head, rows)


def _default(key: PolicyKey) -> str:
    data = to_dict(Policy())
    value = (data[key.section] if key.section else data)[key.field.name]
    return toml_line("_", value).removeprefix("_ = ")


def _order(key: PolicyKey) -> str:
    order = key.facts.tightens
    return ", ".join(f"`{word}`" for word in order) if isinstance(order, tuple) else "less" if order else ""


def _of_presets() -> str:
    policies = {name: preset(name) for name in PRESETS}
    rows = [
        [f"`{key.name}`", *(_short(key, policy) for policy in policies.values())]
        for key in keys().values()
        if len({key.of(policy) for policy in policies.values()}) > 1 and key.name != "time.start"
    ]
    return table(["Key", *policies], rows)


def _short(key: PolicyKey, policy: Policy) -> str:
    """Returns a value in its form in the table: mounts by their targets."""
    value = to_dict(policy)[key.section][key.field.name] if key.section else key.of(policy)
    return (", ".join(mount["target"] for mount in value) or "none") if isinstance(value, list) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    print("docs/policies.md")
