"""The part of a sweep that runs. A sweep tries something at every line or call of something else, or in many ways.

The same tests run at every commit: `make test` and CI run a part of each sweep, spread evenly over it.
`make full` sets PROXYBOX_FULL, and runs all of it.

    @pytest.mark.cover(2)   of a test's combinations of arguments, enough that each two values meet
    @pytest.mark.cover(1)   enough that each value occurs
    @pytest.mark.sized(20)  20 of them, evenly
    @pytest.mark.full       runs only in `make full`: programs of others, whole tables, and what takes long and proves
                            little that shorter tests do not
    EACH_GUEST = True       of a file, its tests with guests of the second kind: the first one, and what only they have

An attack is a value of an argument, or a test of its own: it runs at every commit.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")

#: Whether everything runs.
FULL = bool(os.environ.get("PROXYBOX_FULL"))


def spread(items: Iterable[T], size: int) -> list[T]:
    """Returns `size` of the items, evenly spread, including the first and the last."""
    known = list(items)
    if FULL or size >= len(known):
        return known
    return [known[round(at * (len(known) - 1) / max(1, size - 1))] for at in range(size)]


def every(step: int, end: int, first: int = 1) -> range:
    """Returns numbers below `end`, for sweeps whose end is not known before.

    first: 0, or another one for each example, so that together the examples have all numbers.
    """
    return range(min(first, 1), end) if FULL else range(first, end, step)


def tries(size: int, full: int) -> int:
    """Returns how many random examples are tried."""
    return full if FULL else size


def covering(rows: Sequence[tuple[int, ...]], strength: int) -> list[int]:
    """Returns the places of enough rows that each `strength` values that occur together do so in one of them.

    rows: the number of the value of each argument. Of rows with equally many new combinations, that with the rarest
    values is taken.
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
