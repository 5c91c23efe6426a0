"""Compares output as judges do: token by token, with a tolerance for numbers (Kattis problem package format)."""

import math
from collections.abc import Iterator
from itertools import zip_longest

_SHOWN = 60


def difference(output: str, expected: str, *, tolerance: float | None = None, lines: bool = False) -> str:
    """Where an output differs from what was expected, in words; empty where it does not.

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
