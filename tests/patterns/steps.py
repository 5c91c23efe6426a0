"""A matcher of regular expressions that counts its steps. It backtracks as `re` does, with `re`'s own parser.

It is for short texts. Seconds on a busy machine say little; the steps are the same each time. Its matches are compared
with those of `re`, so that both understand a pattern in the same way.
"""

import re
import re._constants as c  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias

#: Matches the rest of the pattern from a position on; returns the position of the end, or None.
Go: TypeAlias = Callable[[int], int | None]
#: One part of a pattern: matches at a position, and then calls the rest.
Part: TypeAlias = Callable[[int, Go], int | None]
#: Larger limits of repeats count as this one: with {0,200} the cost of each start is bounded, but only a long text
#: shows the difference from {0,}.
_MANY = 8


class TooManySteps(Exception):
    """The number of steps has reached the limit."""


def parsed(pattern: "re.Pattern[Any]") -> Any:
    """Returns the structure of a pattern; for bytes, that of the pattern of characters with the same numbers."""
    flags = pattern.flags & ~re.UNICODE.value if isinstance(pattern.pattern, bytes) else pattern.flags
    return parser.parse(pattern.pattern, flags)


@cache
def _category(name: Any, flags: int) -> Callable[[str], bool]:
    letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[str(name).rsplit("_", 1)[-1]]
    found = re.compile(f"\\{letter}", re.ASCII if flags & re.ASCII else 0).fullmatch
    wanted = "_NOT_" not in str(name)
    return lambda char: bool(found(char)) is wanted


def one_of(kind: Any, argument: Any, flags: int) -> Callable[[str], bool] | None:
    """Returns the test of a part that matches one character; None for any other part."""
    if kind is c.ANY:
        return (lambda _: True) if flags & re.DOTALL else (lambda char: char != "\n")
    if kind in (c.LITERAL, c.NOT_LITERAL):
        return _in([(c.LITERAL, argument)], flags, kind is c.NOT_LITERAL)
    if kind is c.IN:
        is_negated = argument[0][0] is c.NEGATE
        return _in(argument[is_negated:], flags, is_negated)
    return None


def _in(items: list[Any], flags: int, is_negated: bool) -> Callable[[str], bool]:
    tests: list[Callable[[str], bool]] = []
    for kind, argument in items:
        if kind is c.LITERAL:
            tests.append(partial(lambda code, char: ord(char) == code, argument))
        elif kind is c.RANGE:
            tests.append(partial(lambda ends, char: ends[0] <= ord(char) <= ends[1], argument))
        else:
            tests.append(_category(argument, flags))

    def test(char: str) -> bool:
        cases = {char, char.lower(), char.upper()} if flags & re.IGNORECASE else {char}
        found = any(test(each) for test in tests for each in cases if len(each) == 1)
        return found is not is_negated

    return cache(test)


class Counting:
    """A pattern, and the steps that it takes. limit: more steps raise TooManySteps."""

    def __init__(self, pattern: "re.Pattern[Any]", limit: int = 1_000_000) -> None:
        tree = parsed(pattern)
        self._text = ""
        self._groups: dict[int, tuple[int, int]] = {}
        self._limit = limit
        self.steps = 0
        self._whole = self._sequence(list(tree), tree.state.flags | (pattern.flags & re.ASCII))

    def run(self, method: str, text: str) -> list[int]:
        """Does what the pattern's method does with a text. Returns the ends of its matches; `steps` begins at 0."""
        self._text, self.steps = text, 0
        ends = []
        if method in ("match", "fullmatch"):
            whole = (lambda at: at if at == len(text) else None) if method == "fullmatch" else (lambda at: at)
            end = self._at(0, whole)
            return [] if end is None else [end]
        start = 0
        while start <= len(text):
            end = self._at(start, lambda at: at)
            if end is not None:
                ends.append(end)
                if method == "search":
                    break
            start = max(end or 0, start + 1)
        return ends

    def _at(self, start: int, go: Go) -> int | None:
        self._groups = {}
        self._step()
        return self._whole(start, go)

    def _step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > self._limit:
            raise TooManySteps

    # --- the parts ----------------------------------------------------------------------------------------------------

    def _sequence(self, items: list[Any], flags: int) -> Part:
        parts = [self._part(kind, argument, flags) for kind, argument in items]
        if len(parts) == 1:
            return parts[0]

        def run(at: int, go: Go, number: int = 0) -> int | None:
            if number == len(parts):
                return go(at)
            return parts[number](at, lambda end: run(end, go, number + 1))

        return run

    def _part(self, kind: Any, argument: Any, flags: int) -> Part:
        test = one_of(kind, argument, flags)
        if test is not None:
            return partial(self._one, test)
        if kind in (c.MAX_REPEAT, c.MIN_REPEAT, c.POSSESSIVE_REPEAT):
            least, most, body = argument
            return self._repeat(kind, min(least, _MANY), len_of(most), list(body), flags)
        if kind is c.SUBPATTERN:
            group, added, taken, body = argument
            return partial(self._group, group, self._sequence(list(body), (flags | added) & ~taken))
        if kind is c.BRANCH:
            return partial(self._branch, [self._sequence(list(each), flags) for each in argument[1]])
        if kind is c.ATOMIC_GROUP:
            return partial(self._atomic, self._sequence(list(argument), flags))
        if kind in (c.ASSERT, c.ASSERT_NOT):
            way, body = argument
            width = body.getwidth()[1] if way < 0 else 0
            return partial(self._look, self._sequence(list(body), flags), width, kind is c.ASSERT)
        if kind is c.AT:
            return partial(self._place, str(argument), flags)
        if kind is c.GROUPREF:
            return partial(self._again, argument)
        raise NotImplementedError(f"{kind}: say here what it does")

    def _one(self, test: Callable[[str], bool], at: int, go: Go) -> int | None:
        self._step()
        return go(at + 1) if at < len(self._text) and test(self._text[at]) else None

    def _repeat(self, kind: Any, least: int, most: int, body: list[Any], flags: int) -> Part:
        test = one_of(*body[0], flags) if len(body) == 1 else None
        whole = self._sequence(body, flags)
        if kind is c.POSSESSIVE_REPEAT:
            return partial(self._possessive, whole, least, most)
        if kind is c.MAX_REPEAT and test is not None:
            return partial(self._row, test, least, most)

        def run(at: int, go: Go, count: int = 0, last: int = -1) -> int | None:
            self._step()
            if kind is c.MIN_REPEAT and count >= least and (end := go(at)) is not None:
                return end
            if count < most and (at != last or count < least):
                end = whole(at, lambda after: run(after, go, count + 1, at))
                if end is not None:
                    return end
            return go(at) if kind is c.MAX_REPEAT and count >= least else None

        return run

    def _row(self, test: Callable[[str], bool], least: int, most: int, at: int, go: Go) -> int | None:
        """Matches a greedy repeat of one character."""
        text, end = self._text, at
        while end - at < most and end < len(text) and test(text[end]):
            end += 1
        self._step(end - at)
        for each in range(end, at + least - 1, -1):
            self._step()
            if (found := go(each)) is not None:
                return found
        return None

    def _possessive(self, whole: Part, least: int, most: int, at: int, go: Go) -> int | None:
        count = 0
        while count < most:
            self._step()
            end = whole(at, lambda after: after)
            if end is None or end == at:
                break
            at, count = end, count + 1
        return go(at) if count >= least else None

    def _group(self, group: int | None, body: Part, at: int, go: Go) -> int | None:
        before = self._groups.get(group or 0)

        def close(end: int) -> int | None:
            if group is not None:
                self._groups[group] = (at, end)
            return go(end)

        found = body(at, close)
        if found is None and group is not None:
            self._groups.pop(group, None)
            if before is not None:
                self._groups[group] = before
        return found

    def _branch(self, bodies: list[Part], at: int, go: Go) -> int | None:
        for body in bodies:
            self._step()
            if (found := body(at, go)) is not None:
                return found
        return None

    def _atomic(self, body: Part, at: int, go: Go) -> int | None:
        end = body(at, lambda after: after)
        return None if end is None else go(end)

    def _look(self, body: Part, width: int, wanted: bool, at: int, go: Go) -> int | None:
        self._step()
        found = at - width >= 0 and body(at - width, lambda end: end) is not None
        return go(at) if found is wanted else None

    def _place(self, name: str, flags: int, at: int, go: Go) -> int | None:
        text, is_word = self._text, _category("CATEGORY_WORD", flags)
        if "BOUNDARY" in name:
            sides = [0 <= each < len(text) and is_word(text[each]) for each in (at - 1, at)]
            found = (sides[0] != sides[1]) is ("NON" not in name)
        elif "BEGINNING" in name:
            found = at == 0 or ("STRING" not in name and bool(flags & re.MULTILINE) and text[at - 1] == "\n")
        else:
            found = at == len(text) or ("STRING" not in name and self._is_line_end(at, flags))
        self._step()
        return go(at) if found else None

    def _is_line_end(self, at: int, flags: int) -> bool:
        return self._text[at] == "\n" and (bool(flags & re.MULTILINE) or at == len(self._text) - 1)

    def _again(self, group: int, at: int, go: Go) -> int | None:
        if group not in self._groups:
            return None
        start, end = self._groups[group]
        self._step(end - start + 1)
        return go(at + end - start) if self._text.startswith(self._text[start:end], at) else None


def len_of(most: Any) -> int:
    """Returns the number of repeats that counts for a limit in a pattern."""
    return 1 << 30 if most is c.MAXREPEAT else min(int(most), _MANY)
