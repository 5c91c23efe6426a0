"""Texts for which a pattern may take long, made from the pattern's own structure.

For each repeat: what may come before it, then what it may repeat, many times, then what makes the rest fail.
"""

import re
import re._constants as c  # type: ignore[import-not-found]
from collections.abc import Iterator
from itertools import islice, product
from typing import Any

from tests.patterns.steps import one_of, parsed

#: Characters of each class that patterns know, and of none.
_ANY = "a1 \n!\0Zé_'\"/"
#: The most kinds of characters that are combined. MOST: texts for one pattern.
_KINDS, MOST = 7, 240


def texts(pattern: "re.Pattern[Any]", count: int) -> list[str]:
    """Returns texts in which something is repeated `count` times: for any count the same texts, in the same order."""
    tree = parsed(pattern)
    alphabet = _alphabet(list(tree), tree.state.flags)
    found: dict[str, None] = {}
    for before, body, after in [("", "", ""), *_places(list(tree), alphabet, tree.state.flags)]:
        pumps = dict.fromkeys([body, *alphabet, *("".join(pair) for pair in product(alphabet, repeat=2))])
        for pump, start, end in product(filter(None, pumps), {before: 0, "": 0}, _ends(after, alphabet)):
            found[start + pump * count + end] = None
    step = max(1, len(found) // MOST)
    return list(islice(found, 0, None, step))


def _ends(after: str, alphabet: list[str]) -> dict[str, None]:
    return dict.fromkeys(["", alphabet[-1], after[:-1] + alphabet[-1], after])


def _characters(items: list[Any], flags: int) -> Iterator[tuple[str, Any]]:
    """Yields the characters that a pattern names, each with the test of its part."""
    for kind, argument in items:
        test = one_of(kind, argument, flags)
        if test is not None:
            named = [argument] if kind in (c.LITERAL, c.NOT_LITERAL) else []
            if kind is c.IN:
                named = [what for one, what in argument if one is c.LITERAL]
                named += [end for one, what in argument if one is c.RANGE for end in what]
            yield "".join(map(chr, named)), test
        for body in _bodies(kind, argument):
            yield from _characters(body, flags)


def _bodies(kind: Any, argument: Any) -> list[list[Any]]:
    if kind in (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT):
        return [list(argument[2])]
    if kind is c.SUBPATTERN:
        return [list(argument[3])]
    if kind is c.BRANCH:
        return [list(each) for each in argument[1]]
    if kind is c.ATOMIC_GROUP:
        return [list(argument)]
    if kind in (c.ASSERT, c.ASSERT_NOT):
        return [list(argument[1])]
    return []


def _alphabet(items: list[Any], flags: int) -> list[str]:
    """Returns one character for each set of characters that a pattern treats alike; the last one matches least."""
    found = list(_characters(items, flags))
    kinds: dict[tuple[bool, ...], str] = {}
    for char in "".join(named for named, _ in found) + _ANY:
        kinds.setdefault(tuple(test(char) for _, test in found), char)
    ordered = sorted(kinds.items(), key=lambda kind: -sum(kind[0]))
    chosen = [char for _, char in ordered]
    return [*chosen[: _KINDS - 1], chosen[-1]] if len(chosen) > _KINDS else chosen


def _sample(items: list[Any], alphabet: list[str], flags: int) -> str:
    """Returns a text that may match: the first alternative of each choice, one repetition of each repeat."""
    made = ""
    for kind, argument in items:
        test = one_of(kind, argument, flags)
        if test is not None:
            named = "".join(named for named, _ in _characters([(kind, argument)], flags))
            made += next((char for char in named + "".join(alphabet) + _ANY if test(char)), "")
        elif kind not in (c.ASSERT, c.ASSERT_NOT, c.AT):
            bodies = _bodies(kind, argument)
            made += _sample(bodies[0], alphabet, flags) if bodies else ""
    return made


def _places(
    items: list[Any], alphabet: list[str], flags: int, before: str = "", after: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yields for each repeat texts that match what is before it, what it repeats, and what is after it."""
    for number, (kind, argument) in enumerate(items):
        start = before + _sample(items[:number], alphabet, flags)
        end = _sample(items[number + 1 :], alphabet, flags) + after
        for body in _bodies(kind, argument):
            if kind in (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT):
                yield start, _sample(body, alphabet, flags), end
            yield from _places(body, alphabet, flags, start, end)
