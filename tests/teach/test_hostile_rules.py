"""Submissions that are expensive to check for rules: the trusted side parses none of them.

Memory is counted by tracemalloc: the bytes of Python's own objects.
"""

import ast
import tokenize
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxybox.policies import evolve
from proxybox.teach import facts, rules
from proxybox.teach.rules import MOST_SOURCE, MOST_TEXT, Breach, RuleBox, Rules

RULES = Rules(forbid=["sorted", "recursion"], require=["function:area"], max_lines=1000)

#: Sources whose check once took gigabytes or minutes.
DEAR = {
    "functions in a class with a long name": f"class {'A' * 150_000}:\n" + " def f():0\n" * 5_000,
    "imports from a module with a long name": f"from {'a' * 100_000} import "
    + ", ".join(f"a{n}" for n in range(20_000)),
    "long names in each other": "".join(f"{' ' * n}class {'A' * 2_000}{n}:\n" for n in range(90))
    + "".join(f"{' ' * 90}def f{n}(): 0\n" for n in range(500)),
    "half a million of names": "a," * (MOST_SOURCE // 2),
    "blanks": "if 1:\n" + (" " * 90 + "a\n") * 40_000,
    "blanks in a line": ("a" + " " * 40 + ",") * 90_000,
    "one line of all": "a=b;" * (MOST_SOURCE // 4),
    "comments in brackets": "[" + "#\n" * (MOST_TEXT // 3) + "]",
}


@pytest.fixture(scope="module")
def box() -> Iterator[RuleBox]:
    with RuleBox() as made:
        yield made


def peak(box: RuleBox, source: str) -> tuple[list[Breach], int]:
    """Returns the broken rules, and the most memory that the check took."""
    tracemalloc.start()
    try:
        return box.check(source, RULES), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", DEAR)
def test_what_is_dear_to_look_at_costs_its_own_box(box: RuleBox, name: str) -> None:
    box.check("x = 1", RULES)
    source = DEAR[name]
    seen, most = peak(box, source)
    assert seen, "there is no function area in it"
    assert all(each.message.isprintable() and len(each.message) < 300 for each in seen)
    assert most < 3 * len(source) + (4 << 20)
    assert [each.rule for each in box.check("def area(): return sorted(x)", RULES)] == ["forbid sorted"]


def test_nothing_of_a_submission_is_parsed_here(box: RuleBox, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("on the trusted side")

    for module, name in ((ast, "parse"), (tokenize, "generate_tokens"), (tokenize, "tokenize")):
        monkeypatch.setattr(module, name, refuse)
    found = box.check("#" * MOST_SOURCE + "\ndef area(): return area()", RULES)
    assert [each.rule for each in found] == ["forbid recursion"]


def test_no_submission_is_where_another_was(box: RuleBox) -> None:
    """An attack on a guest's parser reaches only a copy of the guest."""
    first = box._base()
    for source in ("(" * 10_000, DEAR["functions in a class with a long name"], "\0"):
        box.check(source, RULES)
    assert box._base() is first
    assert first.alive


FORGED = {
    "the end of the guest": "import os\ndef look_at(*_): os._exit(0)",
    "a crash": "import os, signal\ndef look_at(*_): os.kill(os.getpid(), signal.SIGSEGV)",
    "nothing": "def look_at(*_): return None",
    "no mapping": "def look_at(*_): return 7",
    "another key": "def look_at(*_): return {'student': 'ada'}",
    "a fault that there is not": "def look_at(*_): return {'fault': 'x' * 9}",
    "a fault that is no text": "def look_at(*_): return {'fault': [1]}",
    "too few lines": "def look_at(*_): return {'forbidden': [], 'required': []}",
    "lines that are none": "def look_at(*_): return {'forbidden': ['1', '2'], 'required': [1]}",
    "a line beyond all": "def look_at(*_): return {'forbidden': [1, 2], 'required': [10 ** 5000]}",
    "a count beyond all": "def look_at(*_): return {'forbidden': [1, 2], 'required': [1], 'lines': 10 ** 5000}",
    "a megabyte": "def look_at(*_): return {'fault': 'syntax', 'message': 'x' * (1 << 20)}",
    "an exception": "def look_at(*_): raise KeyError('x' * 100000)",
    "memory": "def look_at(*_): x = [bytes(1 << 20)]\n while 1: x += x",
}


def test_a_parser_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "facts.py").write_text("def look_at(*_):\n while True: pass")
    monkeypatch.setattr(facts, "__file__", str(tmp_path / "facts.py"))
    monkeypatch.setattr(rules, "_POLICY", evolve(rules._POLICY, limits={"cpu_time": 0.2}))
    with RuleBox() as box:
        assert box.check("x = 1", RULES) == [rules._NOT_LOOKED_AT["dear"]]


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_answer_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "facts.py").write_text(FORGED[name].replace("): x", "):\n x"))
    monkeypatch.setattr(facts, "__file__", str(tmp_path / "facts.py"))
    with RuleBox() as box:
        (breach,) = box.check("x = 1", RULES)
    assert breach == Breach(
        rule="", message="The file is no Python that can be read in the time and memory there is for it."
    )


def test_a_message_of_the_parser_is_made_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "facts.py").write_text(
        "def look_at(*_): return {'fault': 'syntax', 'message': '\\x1b[2J' + 'x' * 9999}"
    )
    monkeypatch.setattr(facts, "__file__", str(tmp_path / "facts.py"))
    with RuleBox() as box:
        (breach,) = box.check("x = 1", RULES)
    assert breach.message.isprintable()
    assert len(breach.message) < 300


def test_many_files_are_not_looked_at_beyond_what_one_may_be(box: RuleBox, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(RuleBox, "check", lambda _self, source, _rules: looked.append(len(source)) or [])
    found = box.check_all(["#" * (MOST_TEXT // 4)] * 500, RULES)
    assert looked == [MOST_TEXT // 4] * 4
    assert [each.message for each in found[-1]] == ["The file is too long: more than 256 KiB."]


def test_after_one_that_takes_too_much_no_other_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "facts.py").write_text(FORGED["the end of the guest"])
    monkeypatch.setattr(facts, "__file__", str(tmp_path / "facts.py"))
    with RuleBox() as box:
        assert len(box.check_all(["x = 1"] * 500, RULES)) == 1
