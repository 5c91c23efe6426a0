"""The keys of a policy, such as "limits.memory", with their declarations (declaring.py).

All code that needs a list of keys, or the text of a key's value, uses this module.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import attrs

from proxybox.policies.checks import NumberRange, OneOfWords
from proxybox.policies.declaring import FieldFacts, Measure, declared
from proxybox.policies.models import SECTIONS, Policy
from proxybox.policies.sizes import format_size, spoken_duration


@attrs.frozen
class PolicyKey:
    """One key.

    section: empty at the top level. field: the attribute of the section's class.
    """

    section: str
    field: attrs.Attribute[Any]

    @property
    def name(self) -> str:
        """The key as in files: "limits.memory"."""
        return f"{self.section}.{self.field.name}" if self.section else self.field.name

    @property
    def facts(self) -> FieldFacts:
        """Its declaration."""
        return declared(self.field)

    @property
    def values(self) -> str:
        """The accepted values, in words."""
        return self.facts.values or getattr(self.field.validator, "words", "")

    @property
    def described(self) -> str:
        """Its meaning and the accepted values, as plain text."""
        return f"{self.facts.means}. Values: {self.values}.".replace("`", "")

    @property
    def choices(self) -> tuple[str, ...]:
        """The accepted words, where it accepts nothing else."""
        if self.facts.measure is Measure.FLAG:
            return "true", "false"
        return self.field.validator.choices if isinstance(self.field.validator, OneOfWords) else ()

    @property
    def range(self) -> NumberRange | None:
        """The accepted numbers; None where it accepts none."""
        return self.field.validator if isinstance(self.field.validator, NumberRange) else None

    @property
    def is_optional(self) -> bool:
        """Whether it accepts "none": no limit."""
        return "None" in str(self.field.type) and self.facts.measure not in (Measure.MOMENT, Measure.SOURCE)

    def of(self, policy: Policy) -> Any:
        """Returns its value in a policy."""
        return getattr(getattr(policy, self.section) if self.section else policy, self.field.name)

    def in_words(self, value: Any) -> str:
        """Returns a value for people, who can write it so: "512M", "1 min 30 s", "1,000", "none"."""
        if value is None:
            return "none"
        if self.facts.measure is Measure.SIZE:
            return str(format_size(value))
        if self.facts.measure is Measure.DURATION:
            return spoken_duration(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        return f"{value:,}" if isinstance(value, int) else str(value)

    def looser(self, bound: Any, value: Any) -> str:
        """Returns the allowed values, where `value` is looser than `bound`; otherwise an empty text.

        For keys that one run may tighten.
        """
        order = self.facts.tightens
        if isinstance(order, tuple):
            allowed = order[order.index(bound) :]
            return "" if value in allowed else ", ".join(allowed)
        is_looser = bound is not None and (value is None or value > bound)
        return f"at most {self.in_words(bound)}" if is_looser else ""


@functools.cache
def keys() -> Mapping[str, PolicyKey]:
    """Returns all keys by their names: those of sections in the order of files, then those of the top level."""
    found = [PolicyKey(section, field) for section, cls in SECTIONS.items() for field in attrs.fields(cls)]
    found += [PolicyKey("", field) for field in attrs.fields(Policy) if field.name not in SECTIONS]
    return {key.name: key for key in found}


@functools.cache
def of_one_run(section: str) -> Mapping[str, PolicyKey]:
    """Returns the keys of a section that one run may have tighter than its policy, by their names in the section."""
    return {
        key.field.name: key for key in keys().values() if key.section == section and key.facts.tightens is not False
    }


#: The sections of the keys that one run may tighten.
OF_ONE_RUN = tuple(dict.fromkeys(key.section for key in keys().values() if key.facts.tightens))
