"""Sweeps: something happens at every line, or every call, of something else, or is tried in many ways.

All of one takes half a minute and more. So a run of the whole suite (`make test`) takes a sixth of them, another sixth
for each commit; where PROXYBOX_SWEEP is not set, as by hand, all of them come.

A test whose arguments are ways of trying one and the same thing says so: `@pytest.mark.sweep("layer", "moment")`. For
each value of its other arguments one of so many parts of these ways comes, and one way at the least; without names, all
of its arguments are ways. What its arguments attack or check is thus tried at every commit, each in another way. In
files with EACH_GUEST the kind of guest is such a way for every test, and each test comes with one of the two.

What takes long and tries us with programs of others (JupyterLab, nbgrader, Dask, matplotlib, browsers) is marked
`@pytest.mark.seldom`: it comes at one commit out of so many. A file that is marked comes as a whole. No attack is; in
folders where all tests are, an attack has `parts=1`.
"""

import os
import random
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

PARTS = 6
SELDOM = 3


def _drawn(text: str, parts: int) -> int:
    """A number below `parts`, which is always the same one for a text."""
    return random.Random(text).randrange(parts)


def part(items: Iterable[T], parts: int = PARTS, name: str = "") -> list[T]:
    """Those of the items that are tried: one of so many parts, and one item at the least. With another name, another
    part."""
    word, all_of_them = os.environ.get("PROXYBOX_SWEEP", ""), list(items)
    if not word:
        return all_of_them
    return all_of_them[_drawn(f"{word} {name}", min(parts, len(all_of_them))) :: parts]


def comes(name: str, parts: int = 2) -> bool:
    """Whether what has this name is in this commit's part of so many."""
    word = os.environ.get("PROXYBOX_SWEEP", "")
    return not word or _drawn(f"{word} {name}", parts) == 0


def few(tries: int, parts: int = 3) -> int:
    """How many tries there are of what is tried at random."""
    return tries // parts if os.environ.get("PROXYBOX_SWEEP", "") else tries


def numbers(end: int) -> list[int]:
    """Those from 1 to `end` that are tried."""
    return part(range(1, end))
