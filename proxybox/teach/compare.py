"""Compares output as judges do: token by token, with a tolerance for numbers (Kattis problem package format).

And compares values as Python does, except that True is not 1.
"""

import math
from collections import deque
from collections.abc import ItemsView, Iterator, Mapping, Set, ValuesView
from itertools import zip_longest
from numbers import Number
from typing import Any

from proxybox.teach.operators import Operators, own_value

_SHOWN = 60


def difference(output: str, expected: str, *, tolerance: float | None = None, lines: bool = False) -> str:
    """Describes where an output differs from the expected one; empty if it does not.

    White space only separates tokens. tolerance: how much numbers may differ, absolutely or relatively. lines: each
    line must have the same number of tokens.
    """
    if lines:
        return _by_lines(output.splitlines(), expected.splitlines(), tolerance)
    pairs = zip_longest(_tokens(output), _tokens(expected))
    for number, (got, wanted) in enumerate(pairs, 1):
        if got is None and wanted is not None:
            return f"the output ends where {_shown(wanted[0])} was expected"
        if wanted is None and got is not None:
            return f"there is more output than was expected: {_shown(got[0])} on line {got[1]}"
        if got and wanted and not same(got[0], wanted[0], tolerance):
            return f"{_shown(wanted[0])} was expected, and {_shown(got[0])} came (word {number}, line {got[1]})"
    return ""


def _by_lines(output: list[str], expected: list[str], tolerance: float | None) -> str:
    for number, (got, wanted) in enumerate(zip_longest(output, expected, fillvalue=""), 1):
        if found := difference(got, wanted, tolerance=tolerance):
            return f"line {number}: {found.replace(', line 1)', ')').replace(' on line 1', '')}"
    return ""


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(text.splitlines(), 1):
        for token in line.split():
            yield token, number


def same(got: str, wanted: str, tolerance: float | None) -> bool:
    """Whether two tokens are the same, or numbers that are close enough."""
    if got == wanted:
        return True
    if tolerance is None or "_" in got:  # 1_0 is a number in Python, but not for a judge
        return False
    try:
        first, second = float(got), float(wanted)
    except ValueError:
        return False
    return close(first, second, tolerance)


def close(first: float, second: float, tolerance: float) -> bool:
    """Whether two numbers differ by no more than the tolerance, absolutely or relatively; nan is close to no number."""
    try:
        return math.isclose(first, second, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # an int too large for a float
        return False


def _shown(token: str) -> str:
    return repr(token if len(token) <= _SHOWN else token[:_SHOWN] + "...")


# --- values -----------------------------------------------------------------------------------------------------------


def alike(value: Any, expected: Any, tolerance: float | None) -> bool:
    """Whether a value is the expected one: like ==, but True is not 1; numbers within a tolerance.

    An object of a subclass arrives as a value of its base type, so the expected value is treated like that, too: a
    Counter is a dict, a named tuple is a tuple, a frozenset is a set.
    """
    if isinstance(expected, Operators):  # an object of the submission
        return bool(value == expected)
    if isinstance(expected, bool) or isinstance(value, bool) or expected is None:
        return value is expected
    if isinstance(value, Operators):  # a container with attributes
        value = own_value(value)
    if isinstance(expected, Number) and isinstance(value, Number):
        return _same_number(value, expected, tolerance)
    for kind in (list, tuple, deque):
        if isinstance(expected, kind):
            return (
                isinstance(value, kind)
                and len(value) == len(expected)
                and all(alike(one, other, tolerance) for one, other in zip(value, expected, strict=True))
            )
    if isinstance(expected, ValuesView):  # a ValuesView is equal only to itself
        return isinstance(value, ValuesView) and alike(list(value), list(expected), tolerance)
    if isinstance(expected, ItemsView) and isinstance(value, ItemsView):
        return alike(dict(value), dict(expected), tolerance)
    if isinstance(expected, Set):
        return isinstance(value, Set) and _same_members(value, expected)
    if isinstance(expected, Mapping):
        return (
            isinstance(value, Mapping)
            and _same_members(value, expected)
            and all(alike(value[key], expected[key], tolerance) for key in expected)
        )
    if isinstance(expected, bytes | bytearray | memoryview):
        return isinstance(value, bytes) and value == bytes(expected)
    if isinstance(expected, str):
        return isinstance(value, str) and value == str.__str__(expected)
    return type(value) is type(expected) and bool(value == expected)


def _same_number(value: Any, expected: Any, tolerance: float | None) -> bool:
    try:
        if value == expected or tolerance is None:
            return bool(value == expected)
        if isinstance(value, complex) or isinstance(expected, complex):
            first, second = complex(value), complex(expected)
            return close(first.real, second.real, tolerance) and close(first.imag, second.imag, tolerance)
        return close(value, expected, tolerance)
    except (ArithmeticError, TypeError, ValueError):  # a signalling NaN, a number that is too large
        return False


def _same_members(value: Any, expected: Any) -> bool:
    try:
        return len(value) == len(expected) and set(map(_exactly, value)) == set(map(_exactly, expected))
    except TypeError:  # items of a dict whose values have no hash: they cannot be members of a set
        return False


def _exactly(value: Any) -> Any:
    """A key for comparing members of a set: True is not 1, though 1.0 is."""
    if isinstance(value, tuple):
        return tuple(map(_exactly, value))
    return (bool, value) if isinstance(value, bool) else value
