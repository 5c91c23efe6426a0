"""Near-duplicates: renamed copies are found, different ones and the starter are not."""

import time

from proxybox.teach.grades import Grade, GradeBook
from proxybox.teach.similar import fingerprints, similar

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
