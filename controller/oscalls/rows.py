"""Facts about calls from their rows, for code that reads calls but does not answer them.

Calls are looked up by name, because a record has its own numbers. A call without a row has no effects, and its
arguments no meaning. Importing this fills `dispatch.TABLE`.
"""

from collections.abc import Mapping
from typing import TypeVar

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import NUMBERS, TABLE, Row
from proxybox.controller.roles import Meaning

_T = TypeVar("_T")
_ALL = sum(effect.value for effect in CallEffect)


def row_of(name: str) -> Row | None:
    """Returns the row of a call; None where there is none."""
    return TABLE.get(NUMBERS.get(name, -1))


def meaning_of(name: str, argument: str) -> Meaning:
    """Returns what the value of an argument means."""
    row = row_of(name)
    return Meaning.NOTHING if row is None else row.meanings.get(argument, Meaning.NOTHING)


def paths_of(name: str) -> Mapping[str, str]:
    """Returns the arguments that are paths, each with the argument that says where it begins, as `Row.paths` has it."""
    row = row_of(name)
    return {} if row is None else row.paths


def numbers_of(effects: CallEffect, but_not: CallEffect = CallEffect.NONE) -> frozenset[int]:
    """Returns the numbers of the calls that have one of `effects` and none of `but_not`."""
    wanted, unwanted = effects.value, but_not.value
    return frozenset(
        number for number, row in TABLE.items() if row.effect.value & wanted and not row.effect.value & unwanted
    )


def names_of(effects: CallEffect, but_not: CallEffect = CallEffect.NONE) -> frozenset[str]:
    """Returns the names of the calls that have one of `effects` and none of `but_not`."""
    return frozenset(TABLE[number].name for number in numbers_of(effects, but_not))


def by_effect(answers: Mapping[CallEffect, _T], nothing: CallEffect) -> dict[str, _T]:
    """Returns the answer for each call that has one, by the name of the call.

    answers: the answers by effect, or by several effects that a call must have together; the answer with the most
    effects is used. nothing: the effects without an answer. Raises ValueError where an effect is in neither.
    """
    left = CallEffect(_ALL & ~nothing.value)
    for each in answers:
        left &= ~each
    if left:
        raise ValueError(f"{left}: give an answer, or say that there is nothing to do for a call that does this")
    widest = sorted(((each.value, answer) for each, answer in answers.items()), key=lambda each: -each[0].bit_count())
    found = {}
    for row in TABLE.values():
        does = row.effect.value
        for effects, answer in widest:
            if does & effects == effects:
                found[row.name] = answer
                break
    return found
