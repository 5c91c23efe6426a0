"""Declarations of a policy's fields, besides their type, default, converter and validator.

All lists and descriptions of fields are made from these declarations (keys.py reads them): `--set`, limits of one run
and their models in the service, `proxybox policy explain` and `schema`, the proposals of `learn`, the tables of
docs/policies.md, and the list of fields in the docstring of each class.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

_METADATA: Final = "proxybox"


class Measure(enum.Enum):
    """The kind of a field's values, which decides how they are written, read, and shown to people."""

    SIZE = "bytes"
    DURATION = "seconds"
    COUNT = "a whole number"
    NUMBER = "a number"
    MOMENT = "a point in time"
    WORD = "one of a few words"
    FLAG = "true or false"
    TEXT = "a text"
    PATH = "an absolute path in the box"
    TEXTS = "a list of texts"
    MOUNTS = "a list of mounts"
    SOURCE = "what a mount shows"
    VARIABLES = "a table of texts"


@attrs.frozen(kw_only=True, eq=False)
class FieldFacts:
    """The declaration of one field.

    measure: the kind of its values. means: a clause in Markdown, for the documentation: names of other fields of the
    section are in backquotes. values: the accepted values, in words; empty where its validator has words. default: its
    default in words, where the default is no value.

    tightens: whether one run may have a tighter value than its policy: True where a smaller number is tighter; or all
    words, the loosest first. steps: the values that `proxybox learn` proposes, one at a time.

    noun: what it counts, in the singular. explain: the sentence of `proxybox policy explain`, with {} for the value.
    explain_none: the sentence where there is no limit. Both are empty where explain.py explains the field together with
    others.

    example: a value that is not the default, as in a file. schema: keywords of JSON Schema besides those that follow
    from measure and validator.
    """

    measure: Measure
    means: str
    values: str = ""
    default: str = ""
    tightens: bool | tuple[str, ...] = False
    steps: tuple[int, ...] = ()
    noun: str = ""
    explain: str = ""
    explain_none: str = ""
    example: Any = None
    schema: Mapping[str, Any] = attrs.field(factory=dict)


def declare(measure: Measure, means: str, **more: Any) -> dict[str, FieldFacts]:
    """Returns the `metadata` of a field of a policy. more: the other fields of FieldFacts."""
    return {_METADATA: FieldFacts(measure=measure, means=means, **more)}


def declared(field: attrs.Attribute[Any]) -> FieldFacts:
    """Returns the declaration of a field. Raises TypeError where there is none."""
    facts = field.metadata.get(_METADATA)
    if not isinstance(facts, FieldFacts):
        raise TypeError(f"{field.name}: give it metadata=declare(...), see policies/declaring.py")
    return facts


def described(doc: str | None, fields: Iterable[attrs.Attribute[Any]]) -> str | None:
    """Returns the docstring of a class with a list of its declared fields: `name: meaning.`, as in other docstrings."""
    lines = [
        f"    {field.name}: {declared(field).means.replace('`', '')}."
        for field in fields
        if _METADATA in field.metadata
    ]
    return "\n".join([(doc or "").rstrip(), "", *lines, "    "]) if lines else doc
