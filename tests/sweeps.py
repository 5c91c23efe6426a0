"""How much of a sweep comes. A sweep tries something at every line or call of something else, or in many ways.

The same tests come at every commit: `make test` and CI have a part of each sweep that is spread evenly over it.
`make full` sets PROXYBOX_FULL, and has all of it.

    @pytest.mark.cover(2)   of all combinations of a test's arguments come so many that each two values meet once
    @pytest.mark.cover(1)   so many that each value comes once
    @pytest.mark.sized(20)  20 of them, evenly
    @pytest.mark.full       comes with `make full` alone: programs of others, and whole tables

An attack is a value of an argument, or a test of its own: it comes at every commit.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

#: Whether all comes.
FULL = bool(os.environ.get("PROXYBOX_FULL"))


def spread(items: Iterable[T], size: int) -> list[T]:
    """So many of the items, evenly over all of them, the first and the last among them."""
    known = list(items)
    if FULL or size >= len(known):
        return known
    return [known[round(at * (len(known) - 1) / max(1, size - 1))] for at in range(size)]


def every(step: int, end: int, first: int = 1) -> range:
    """Numbers below `end`, where nobody knows before at which one a sweep is over.

    first: 0, or another one for each example, so that together they come to all numbers.
    """
    return range(min(first, 1), end) if FULL else range(first, end, step)


def tries(size: int, full: int) -> int:
    """How many examples are tried of those that are made at random."""
    return full if FULL else size


def covering(rows: Sequence[tuple[int, ...]], strength: int) -> list[int]:
    """Places of rows in which each `strength` values that stand together anywhere do so: all pairs, where it is 2.

    rows: the number of the value of each argument. Of rows that bring as much that is new, one comes whose values have
    come least often.
    """
    brings = [set(itertools.combinations(enumerate(row), min(strength, len(row)))) for row in rows]
    missing, used, chosen = set().union(*brings), Counter[tuple[int, int]](), list[int]()

    def merit(at: int) -> tuple[int, int]:
        return len(brings[at] & missing), -sum(used[each] for each in enumerate(rows[at]))

    while missing:
        best = max(range(len(rows)), key=merit)
        chosen.append(best)
        missing -= brings[best]
        used.update(enumerate(rows[best]))
    return sorted(chosen)
