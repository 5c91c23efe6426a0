"""Near-duplicates: renamed copies are found, different programs and the starter are not."""

import random
import time
import tokenize
from pathlib import Path

import pytest

from proxybox.teach import similar as module
from proxybox.teach.grades import Grade, GradeBook
from proxybox.teach.similar import SimilarPair, compare, fingerprints, similar, tokens

A = """
def total(values, limit):
    result = 0
    for value in values:
        if value > limit and value % 2 == 0:
            result += value * 3
        elif value < 0:
            result -= abs(value)
    while result > 1000:
        result //= 2
    return sorted([result, limit, len(values)])
"""
COPY = A.replace("result", "r").replace("values", "xs").replace("1000", "77")
OTHER = """
import math
class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y
    def length(self):
        return math.sqrt(self.x ** 2 + self.y ** 2)
    def __repr__(self):
        return f"<{self.x}, {self.y}>"
print({k: [Point(k, j) for j in range(k)] for k in range(9)}, end="")
"""


def _book(*codes: str) -> GradeBook:
    return GradeBook(title="t", grades=[Grade(student=f"s{i}", code=code) for i, code in enumerate(codes)])


def test_renamed_copy() -> None:
    (pair,) = similar(_book(A, COPY, OTHER))
    assert (pair.first, pair.second, pair.share) == ("s0", "s1", 1.0)


def test_what_is_the_same_is_found_however_short() -> None:
    starter = "name = input()\n"
    book = _book("print(1)\n", "print(1)  \r\n\n", "print(2)\n", starter, starter, "", "\n")
    found = compare(book, starter)
    assert found.pairs == (SimilarPair("s0", "s1", 1.0, is_identical=True),)
    assert found.too_short == tuple(f"s{i}" for i in range(7))


def test_what_is_identical_comes_before_what_is_alike() -> None:
    found = compare(_book(A, COPY, OTHER, OTHER, "x = 1\n"))
    assert [(pair.first, pair.second, pair.is_identical) for pair in found.pairs] == [
        ("s2", "s3", True), ("s0", "s1", False),
    ]  # fmt: skip
    assert found.too_short == ("s4",)


def test_starter_does_not_count() -> None:
    assert similar(_book(A, COPY), starter=A) == ()


def test_no_python() -> None:
    assert fingerprints("'''" + A) != frozenset()
    for odd in ("\0\0", "\ud800" * 50, "(" * 5000, "  x\n y\n", ""):
        fingerprints(odd)


def test_two_hundred() -> None:
    codes = [(A + OTHER) * (2 + i % 3) for i in range(200)]
    start = time.process_time()
    similar(_book(*codes))
    assert time.process_time() - start < 2


SOURCE = r'''
def f(a):
    # why: "
    if a == 'x\'y':

        return [a,
  1_0]
    return rb"""'\"""" * 0x2
'''


def test_what_does_not_count() -> None:
    wanted = "def n ( n ) : > if n = = 0 : > return [ n , 0 ] < return 0 * 0 <"
    assert tokens(SOURCE + "\nx") == [*wanted.split(), "n"]
    assert tokens(SOURCE + "'''\ndef f(a") == [*wanted.split(), "'", "'", "'", "def", "n", "(", "n"]


# --- submissions that are made to cost whoever compares them ----------------------------------------------------------


def noise(seed: int, size: int = 30_000) -> str:
    """Returns code with as many fingerprints as possible."""
    return "".join(random.Random(seed).choices("+-*/%()[]{},:;.<>=!&|^~@", k=size))


def test_fingerprints_of_one_are_bounded() -> None:
    assert len(fingerprints(noise(0))) == module._MOST_MARKS
    (pair,) = similar(_book(noise(0), noise(0), noise(1)))
    assert pair.share == 1
    groups = module._groups({seed: fingerprints(noise(seed)) for seed in range(4)})
    assert sum(len(owners) * count for owners, count in groups) <= 4 * module._MOST_MARKS


@pytest.mark.parametrize("quote", ['"""', "'''", '\\"""', '"', "'", "f'''", "\\"])
def test_texts_without_end_are_taken_apart_once(quote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Python's tokenizer."""
    monkeypatch.setattr(tokenize, "generate_tokens", None)
    for unit in (quote, quote + "\n", quote + " a ", quote + "\\"):
        source = unit * 20_000
        assert len(tokens(source)) <= len(source)


def test_comparisons_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that most submissions share are left out first: two copies are still found."""
    monkeypatch.setattr(module, "_MOST_COMPARED", 1_000)
    rest = [A + OTHER + noise(number, 400) for number in range(60)]
    found = similar(_book(noise(99, 4_000), *rest, noise(99, 4_000)))
    assert [(pair.first, pair.second, pair.share) for pair in found] == [("s0", "s61", 1)]


def test_the_documentation_says_how_many_pairs_are_told() -> None:
    page = Path(__file__).resolve().parents[2] / "docs/grades.md"
    bound = f"At most {module.MOST_PAIRS:,} pairs are told"
    assert bound in page.read_text(), f"docs/grades.md: say {bound!r}, as MOST_PAIRS in proxybox/teach/similar.py does"


def test_pairs_are_bounded_and_nobody_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of pairs grows with the square of a class in which all submissions are equal."""
    monkeypatch.setattr(module, "MOST_PAIRS", 20)
    pairs = similar(_book(*["x = 1"] * 30, *["y = 2"] * 3))
    assert len(pairs) == 29 + 3
    assert all(pair.is_identical for pair in pairs)
    assert len({name for pair in pairs for name in (pair.first, pair.second)}) == 33
    seen = similar(_book(*[f"{noise(0, 500)}\n# {number}\n" for number in range(10)]))
    assert len(seen) == 20
    assert {(pair.share, pair.is_identical) for pair in seen} == {(1, False)}
