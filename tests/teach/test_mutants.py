"""Solutions whose functions return something useless, and tests that raise an exception because of that."""

import ast

import pytest

from proxybox.teach.grades import Verdict
from proxybox.teach.mutants import USELESS, mutants
from proxybox.teach.settling import AT_FAULT, is_open, settled
from proxybox.teach.submissions import Submission

SOLUTION = '''
"""A solution."""
class Shape:
    def __init__(self, side): self.side = side
    def area(self):
        """Its area."""
        def inner(): return 3
        return self.side ** 2 * inner()
    async def wait(self): return 1
def numbers(): yield 1
def shows(): print("x")
def stops(): return
if True:
    def called():
        while True:
            return Shape(3).area()
'''


def changed(code: str) -> dict[tuple[str, str], str]:
    found = mutants(Submission(student="a", files={"solution.py": code.encode()}), "solution.py")
    return {(each.function, each.returns): each.submission.files["solution.py"].decode() for each in found}


def test_each_function_that_returns_something_is_changed() -> None:
    found = changed(SOLUTION)
    assert {function for function, _ in found} == {"Shape.area", "Shape.wait", "called"}
    assert len(found) == 3 * len(USELESS)
    for (function, returns), code in found.items():
        name = function.rpartition(".")[2]
        bodies = [ast.unparse(node.body) for node in ast.walk(ast.parse(code)) if getattr(node, "name", "") == name]
        assert bodies == [f"return {ast.literal_eval(returns)!r}"]
        assert code.count("return") == SOLUTION.count("return") - (1 if function == "Shape.area" else 0)


@pytest.mark.parametrize("code", ["", "def f(:", "x = 1", "def f(): pass", "\0", "(" * 500])
def test_nothing_is_made_of_what_returns_nothing(code: str) -> None:
    assert changed(code) == {}


def test_ten_functions_at_most() -> None:
    assert len(changed("\n".join(f"def f{n}(): return {n}" for n in range(50)))) == 10 * len(USELESS)


def verdict(name: str, status: str, *, raised: bool) -> Verdict:
    return Verdict(
        name=name, status=status, fault="t.py:1: E" if raised else "", answers="f() returned 1" if raised else ""
    )


def test_models_decide_in_both_directions() -> None:
    given = [verdict("a", "wrong_answer", raised=True), verdict("b", "internal_error", raised=True),
             verdict("c", "wrong_answer", raised=False)]  # fmt: skip
    well = [verdict(name, "ok", raised=False) for name in "abc"]
    bad = [verdict(name, "internal_error", raised=True) for name in "abc"]
    assert [each.status for each in settled(given, [well])] == ["wrong_answer"] * 3
    assert [each.message for each in settled(given, [bad, well])][:2] == ["f() returned 1"] * 2
    found = settled(given, [bad])
    assert [each.status for each in found] == ["internal_error", "internal_error", "wrong_answer"]
    assert [each.message for each in found] == [AT_FAULT, AT_FAULT, ""]
    assert settled(given, []) == given, "without a model it stays"
    assert settled(given, [well[:2]]) == given, "as with one whose tests are others"


def test_models_are_asked_only_where_something_is_open() -> None:
    closed = [verdict("a", "ok", raised=False), Verdict(name="b", status="internal_error", fault="t.py:1: E")]
    assert not is_open(closed)
    assert is_open([*closed, verdict("c", "wrong_answer", raised=True)])
