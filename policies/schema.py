"""The JSON Schema (2020-12) of a policy file, for editors and for programs that write policies.

Rule: the schema accepts everything that `from_dict` accepts. It refuses what a schema can refuse: unknown keys, other
types, numbers out of their range, words that are none of the choices. Only `from_dict` checks combinations of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from proxybox.policies.checks import LOADER_VARIABLES, NumberRange, TextPattern
from proxybox.policies.declaring import Measure
from proxybox.policies.dumping import to_dict
from proxybox.policies.keys import PolicyKey, keys
from proxybox.policies.limits import EVER
from proxybox.policies.models import SECTIONS, Mount, Policy
from proxybox.policies.sizes import DURATION, NUMBER, SIZE

Schema = dict[str, Any]

_NO_LIMIT: Final = {"anyOf": [
    {"enum": ["none", "unlimited", None]},
    {"type": "string", "pattern": r"^\s*(?:[nN][oO][nN][eE]|[uU][nN][lL][iI][mM][iI][tT][eE][dD])\s*$"},
]}  # fmt: skip
#: The seconds from 1970 until 2200: the largest moment.
_MOST_SECONDS: Final = 7_258_118_400
_SIZE_TEXT: Final = {"type": "string", "pattern": rf"^\s*{SIZE.pattern}\s*$"}
_DURATION_TEXT: Final = {"type": "string", "pattern": rf"^\s*(?=\S)(?:{NUMBER.pattern}|{DURATION.pattern})\s*$"}
_TREE: Final = {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/tree"}]}}
_VARIABLE: Final = rf"^(?!{'|'.join(LOADER_VARIABLES)})[^=\u0000]+$"


def schema() -> Schema:
    """Returns the schema of a policy in a TOML file or a dict."""
    properties = {section: _section(section) for section in SECTIONS}
    properties |= {key.field.name: _key(key) for key in keys().values() if not key.section}
    extends = {"type": "string", "description": "The name of a preset, or another file, that this one changes."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A policy of proxybox",
        **_table({"extends": extends, **properties}),
        "$defs": {"tree": _TREE, "mount": _mount()},
    }


def _table(properties: Schema, required: Iterable[str] = ()) -> Schema:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, **needed, "additionalProperties": False}


def _section(section: str) -> Schema:
    found = {key.field.name: _key(key) for key in keys().values() if key.section == section}
    if section == "time":
        found["at"] = {**found["start"], "description": "The same as start."}
        return {"anyOf": [found["kind"], _table(found)]}
    if section == "network":
        return {"anyOf": [found["access"], _table(found)]}
    if section == "filesystem":
        return {"anyOf": [found["mounts"], _table(found)]}
    return _table(found)


def _mount() -> Schema:
    fields = [PolicyKey("filesystem.mounts", field) for field in attrs.fields(Mount)]
    found = {key.field.name: _key(key) for key in fields}
    found["content"] = {"type": "string", "description": "The content of one file, in place of a source."}
    text = {"type": "string", "description": "SRC:DST[:MODE]", "pattern": ".:."}
    return {"anyOf": [text, _table(found, ["target"])]}


def _key(key: PolicyKey) -> Schema:
    facts = key.facts
    forms = [_MEASURES[facts.measure](key)]
    if facts.measure is Measure.SIZE:
        forms.append(_SIZE_TEXT)
    elif facts.measure is Measure.DURATION:
        forms.append(_DURATION_TEXT)
    if key.range is not None and key.range.besides:
        forms.append({"const": key.range.besides})
    if key.is_optional:
        forms.append(_NO_LIMIT)
    found: Schema = {"description": key.described}
    found |= forms[0] if len(forms) == 1 else {"anyOf": forms}
    if facts.example is not None:
        found["examples"] = [facts.example]
    if not facts.default:
        data = to_dict(Policy())
        found["default"] = (data[key.section] if key.section else data)[key.field.name]
    return {**found, **facts.schema}


def _number(kind: str) -> Callable[[PolicyKey], Schema]:
    def made(key: PolicyKey) -> Schema:
        return {"type": kind, **({} if key.range is None else _bounds(key.range))}

    return made


def _bounds(numbers: NumberRange) -> Schema:
    high = int(numbers.high) if numbers.high == EVER else numbers.high
    return {"exclusiveMinimum" if numbers.above else "minimum": numbers.low, "maximum": high}


def _text(key: PolicyKey) -> Schema:
    validator = key.field.validator
    if not isinstance(validator, TextPattern):
        return {"type": "string"}
    return {"type": "string", "pattern": f"^(?:{validator.pattern.pattern})$", "maxLength": validator.maximum}


#: The schema of a value in each measure; sizes and durations may be texts, too.
_MEASURES: Final[dict[Measure, Callable[[PolicyKey], Schema]]] = {
    Measure.SIZE: _number("integer"),
    Measure.DURATION: _number("number"),
    Measure.COUNT: _number("integer"),
    Measure.NUMBER: _number("number"),
    Measure.MOMENT: lambda _: {"anyOf": [
        {"type": "string", "pattern": r"^\s*[0-9]{4}-?[0-9W]"},
        {"type": ["number", "null"], "minimum": 0, "maximum": _MOST_SECONDS},
    ]},
    Measure.WORD: lambda key: {"enum": list(key.choices)},
    Measure.FLAG: lambda _: {"type": "boolean"},
    Measure.TEXT: _text,
    Measure.PATH: lambda _: {"type": "string", "pattern": r"^(?!.*/\.\.(?:/|$))/"},
    Measure.TEXTS: lambda _: {"type": "array", "items": {"type": "string"}},
    Measure.MOUNTS: lambda _: {"type": "array", "items": {"$ref": "#/$defs/mount"}},
    Measure.SOURCE: lambda _: {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/tree"}]},
    Measure.VARIABLES: lambda _: {
        "type": "object", "propertyNames": {"pattern": _VARIABLE}, "additionalProperties": {"type": "string"},
    },
}  # fmt: skip
