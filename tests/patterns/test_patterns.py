"""The time of every regular expression of the product is linear in the length of its text.

A guest, a client or a stranger's file can block a thread of ours by a text for which a pattern tries all ways. So
each pattern is found in the sources, and tried on texts that are made from its own structure (`worst.py`). Steps
are counted, not seconds (`steps.py`).

If this fails: make a repeat possessive (`\\s*+`), or require that it begins where a row of its characters begins
(`(?<!\\s)\\s+`), or anchor the pattern. A pattern that never sees more than a few characters belongs in BOUNDED.
"""

import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from proxybox import explanations
from tests.patterns import steps, worst
from tests.patterns.steps import Counting, TooManySteps
from tests.patterns.tree import Use, uses

#: The number of repetitions in the shorter texts; the longer ones have four times as many. The steps of a linear
#: pattern then grow by 4, those of a quadratic one by 16. The limit is FACTOR.
COUNT, FACTOR = 24, 5.5
#: Patterns that need not be linear, because their text is short.
BOUNDED = {
    "proxybox/commands.py: _WORD": "the 200 characters before a cursor",
    "proxybox/kernel/sanitising.py: _LAST_WORD": "40 characters",
}
#: Patterns that are made at run time.
MADE_LATER = {
    "proxybox/explanations.py: OF_EXCEPTIONS": "those of its table: below",
    "proxybox/teach/student.py: match": "written by whoever writes the tests, and used in their box",
    "controller/vfs/host/filesystem.py: '|'.join(map(fnmatch.translate, names))":
        "from a policy's own words, for names of at most 255 bytes",
}  # fmt: skip
FOUND = uses()
EXPLAINED = [
    Use(f"proxybox/explanations.py: {found.pattern}", ("search",), found) for _, found, _ in explanations.OF_EXCEPTIONS
]
PATTERNS = [use for use in (*FOUND, *EXPLAINED) if use.pattern is not None]


def deep(work: Callable[[], None]) -> None:
    """Does work that recurses for each character of a text."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    before, size = sys.getrecursionlimit(), threading.stack_size(256 << 20)
    sys.setrecursionlimit(100_000)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        sys.setrecursionlimit(before)
        threading.stack_size(size)
    if raised:
        raise raised[0]


def growth(pattern: "re.Pattern[Any]", methods: tuple[str, ...]) -> tuple[float, str]:
    """Returns the largest factor by which steps grow when a text gets four times as long, and that text."""
    counting, most = Counting(pattern), (1.0, "")
    for short, long in zip(worst.texts(pattern, COUNT), worst.texts(pattern, 4 * COUNT), strict=True):
        for method in methods:
            try:
                counting.run(method, short)
                before = counting.steps
                counting.run(method, long)
            except TooManySteps:
                return float("inf"), f"{method}: {short!r}"
            if counting.steps > 8 * len(long):
                most = max(most, (counting.steps / before, f"{method}: {short!r}"))
    return most


@pytest.mark.sized(19)
@pytest.mark.parametrize("use", PATTERNS, ids=lambda use: use.place)
def test_it_is_linear(use: Use) -> None:
    def look() -> None:
        assert use.pattern is not None
        found, text = growth(use.pattern, use.methods)
        if use.place in BOUNDED:
            assert found > FACTOR, "it is linear: take it out of BOUNDED"
        else:
            assert found <= FACTOR, f"four times the text takes {found:.0f} times as many steps: {text}"

    deep(look)


def test_what_is_made_later_is_listed() -> None:
    """All that are listed exist, too."""
    assert {use.place for use in FOUND if use.pattern is None} == MADE_LATER.keys()
    assert BOUNDED.keys() <= {use.place for use in FOUND}
    assert len(FOUND) > 100


@pytest.mark.parametrize("use", PATTERNS, ids=lambda use: use.place)
def test_the_matcher_means_what_re_means(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its steps would mean nothing."""
    monkeypatch.setattr(steps, "_MANY", 1 << 30)
    pattern = use.pattern
    assert pattern is not None

    def compare() -> None:
        counting = Counting(pattern, 1 << 30)
        for text in worst.texts(pattern, 5)[::3]:
            plain = text.encode("latin-1", "replace") if isinstance(pattern.pattern, bytes) else text
            text = plain.decode("latin-1") if isinstance(plain, bytes) else text
            for method in use.methods:
                found = [getattr(pattern, method)(plain)] if "match" in method else list(pattern.finditer(plain))
                ends = [each.end() for each in found if each is not None]
                assert counting.run(method, text) == (ends[:1] if method == "search" else ends), (method, text)

    deep(compare)


SLOW = [r"(a+)+b", r"\s+x", r"(a|a)*c", r"\d+\.?\d*x", r"'(\w+)[\w.]*'", r"(?s).*a.*b.*c", r"(\w+)\1x", r"(a|b|ab)*?c"]
QUICK = [r"\s*+x", r"(?<!\s)\s+x", r"(?>a+)b", r"(?:[^'\\]|\\.)*+'", r"\A\w+x", r"[^/]*:"]


@pytest.mark.sized(5)
@pytest.mark.parametrize("text", SLOW)
def test_a_slow_pattern_is_found(text: str) -> None:
    deep(lambda: None if growth(re.compile(text), ("search",))[0] > FACTOR else pytest.fail(text))


@pytest.mark.parametrize("text", QUICK)
def test_a_quick_pattern_is_none(text: str) -> None:
    method = "match" if text in (r"[^/]*:", r"\s*+x", r"(?>a+)b", r"(?:[^'\\]|\\.)*+'") else "search"
    deep(lambda: None if growth(re.compile(text), (method,))[0] <= FACTOR else pytest.fail(text))
