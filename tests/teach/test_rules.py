"""Rules: for each word a source that uses it and one that does not, hostile sources, and messages for wrong words."""

from collections.abc import Iterator

import pytest

from proxybox.policies.errors import PolicyError
from proxybox.teach.rules import BUILTINS, CONSTRUCTS, KINDS, MOST_SOURCE, Breach, RuleBox, Rules

_BOX: list[RuleBox] = []


@pytest.fixture(scope="module", autouse=True)
def _box() -> Iterator[None]:
    """One box for all tests."""
    with RuleBox() as box:
        _BOX[:] = [box]
        yield


def check_rules(source: str, rules: Rules) -> list[Breach]:
    return _BOX[0].check(source, rules)


#: For each word a source that uses it, with the line, and one that only nearly does.
WORDS = {
    "assert": ("x = 1\nassert x", 2, "'assert x'"),
    "break": ("while x:\n    break", 2, "# break"),
    "class": ("\n\nclass A: pass", 3, "def classes(): pass"),
    "comprehension": ("x = 1\ny = {a for a in 'b'}", 2, "for a in 'b': pass"),
    "continue": ("while x:\n    continue", 2, "x = 'continue'"),
    "decorator": ("@f\ndef g(): pass", 2, "def g(): return f(g)"),
    "del": ("del x", 1, "x = None"),
    "docstring": ("def f():\n    'says what'", 1, "def f():\n    # says what\n    pass"),
    "for": ("for a in b: pass", 1, "[a for a in b]"),
    "fstring": ("f'{x}'", 1, "'{x}'"),
    "function": ("def f(): pass", 1, "f = 1"),
    "global": ("def f():\n    global x", 2, "x = 1"),
    "if": ("x = 1 if y else 2", 1, "x = [1 for a in b if a]"),
    "import": ("x = 1\nfrom os import path", 2, "import_os = 1"),
    "lambda": ("sorted(x, key=lambda a: a)", 1, "def f(a): return a"),
    "loop": ("\nwhile x: pass\nfor a in b: pass", 2, "[a for a in b]"),
    "match": ("match x:\n    case 1: pass", 1, "match = 1"),
    "nonlocal": ("def f():\n    x = 1\n    def g():\n        nonlocal x", 4, "def f(): x = 1"),
    "recursion": ("\ndef f(n): return n and f(n - 1)", 2, "def f(n): return n\ndef g(n): return f(n)"),
    "slice": ("x[1:]", 1, "x[1]"),
    "try": ("try: x\nexcept E: pass", 1, "raise E"),
    "while": ("while x: pass", 1, "for a in b: pass"),
    "with": ("with open('a') as b: pass", 1, "b = open('a')"),
    "yield": ("def f():\n    yield 1", 2, "def f(): return 1"),
    "sorted": ("x = 1\nfind = sorted", 2, "x.sort()"),
    "eval": ("eval('1')", 1, "x.eval('1')"),
    "sum": ("sum(x)", 1, "sum = 0\nfor a in x: sum = sum + a"),
    "import:os": ("import os.path", 1, "import oscar"),
    "import:os.path": ("from os import path", 1, "import os"),
    "call:sum": ("sum(x)", 1, "f(sum)"),
    "call:area": ("def area(): pass\narea()", 2, "def area(): pass"),
    "method:append": ("x.append(1)", 1, "append(x, 1)"),
    "function:area": ("\ndef area(): pass", 2, "area = 1"),
    "function:Point.area": ("class Point:\n    def area(self): pass", 2, "class Point: pass\ndef area(): pass"),
    "class:Point": ("class Point: pass", 1, "def Point(): pass"),
    "docstring:area": ("def area():\n    'of it'", 1, "def area(): pass\ndef other():\n    'of it'"),
    "docstring:Point.area": ("class Point:\n    def area(self):\n        'of it'", 2, "class Point:\n    'one'"),
}


@pytest.mark.sized(27)
@pytest.mark.parametrize("word", WORDS)
def test_each_word_both_ways(word: str) -> None:
    has, line, has_not = WORDS[word]
    forbid, require = Rules(forbid=[word]), Rules(require=[word])
    (found,) = check_rules(has, forbid)
    assert (found.rule, found.line) == (f"forbid {word}", line)
    assert found.message.startswith("This exercise is to be solved without ")
    assert check_rules(has_not, forbid) == []
    assert check_rules(has, require) == []
    (missing,) = check_rules(has_not, require)
    assert (missing.rule, missing.line) == (f"require {word}", None)
    assert missing.message.startswith("This exercise is to be solved with ")


def test_no_word_is_left_out() -> None:
    assert CONSTRUCTS.keys() <= WORDS.keys()
    assert {word.partition(":")[0] for word in WORDS if ":" in word} == KINDS.keys()
    assert {"sorted", "eval", "input", "open"} <= BUILTINS
    assert not {"copyright", "ValueError", "__import__"} & BUILTINS


#: For each case a word, and a source that does not use its meaning.
NOT_FORBIDDEN = {
    "two local functions of one name": (
        "recursion",
        "def a(n):\n def helper(n): return b(n)\n return helper(n)\n"
        "def b(n):\n def helper(n): return n\n return helper(n)",
    ),
    "a parameter hides a function": ("recursion", "def f(x): return solve(abs, x)\ndef solve(f, x): return f(x)"),
    "an inner function of the outer's name": ("recursion", "def f(x):\n def f(y): return y\n return f(x)"),
    "an inner lambda of the outer's name": ("recursion", "def f(x):\n f = lambda y: y\n return f(x)"),
    "a method of another object": ("recursion", "class T:\n def size(self): return self.left.size()"),
    "a mention that is no call": ("recursion", "def f(x): return map(f, x)"),
    "annotations": ("list", "def f(xs: list[int], *a: list) -> list: pass\ny: dict[str, list] = {}"),
    "isinstance": ("list", "isinstance(x, list) or issubclass(x, (int, list))"),
    "a class pattern": ("int", "match x:\n case int(): pass"),
    "patterns bind": ("max", "match x:\n case [min, max]: max(1)\n case [a, *max]: max(1)"),
    "a pattern's rest binds": ("max", "match x:\n case {1: a, **max}: max"),
    "**parameters bind": ("dict", "def f(**dict): return dict"),
    "except binds": ("input", "try: pass\nexcept E as input: input"),
    "for binds": ("sum", "def f():\n for sum in x: print(sum)"),
    "with binds": ("input", "with x as input: input"),
    "import binds": ("open", "from x import open\nopen"),
    "walrus binds": ("sum", "def f(): return [sum for a in x if (sum := a)]"),
    "a comprehension binds": ("sum", "[sum for sum in x]"),
    "global binds": ("sum", "def f():\n global sum\n sum = 1\ndef g(): return sum"),
    "the customary end of a file": ("if", "if __name__ == '__main__':\n f()"),
    "a module of one's own": ("import:math", "from .math import x\nfrom . import math"),
}
#: For each case a word, and a source that uses it, which was once missed.
FORBIDDEN = {
    "a method is no function": ("open", "class A:\n def open(self): return open('a')"),
    "a field is no variable": ("input", "class A:\n input: str\ndef f(): return input()"),
    "a local name is not another's": ("sum", "def f(sum): return sum\ndef g(x): return sum(x)"),
    "a call in an annotation": ("sorted", "y: sorted(x) = 1"),
    "if with else": ("if", "if __name__ == '__main__':\n f()\nelse: g()"),
    "a default": ("list", "def f(list=list): return list"),
    "a real call by a local function": ("recursion", "def f(x):\n def g(): return f(x)\n return g()"),
    "a lambda with a name": ("function:area", "area = lambda w, h: w * h"),
}
REQUIRED = {
    "a method of a part": ("recursion", "class T:\n def size(self): return self.left.size()"),
    "a mention": ("recursion", "def depth(t): return max(map(depth, t))"),
    "a mention in a lambda": ("recursion", "def depth(t): return max(map(lambda c: depth(c), t))"),
    "a method called open": ("open", "class A:\n def open(self): return open('a')"),
    "a field called input": ("call:input", "class A:\n input: str\nx = input()"),
    "a lambda with a name": ("function:area", "area = lambda w, h: w * h"),
}


@pytest.mark.parametrize("name", NOT_FORBIDDEN)
def test_who_is_not_accused(name: str) -> None:
    word, source = NOT_FORBIDDEN[name]
    assert check_rules(source, Rules(forbid=[word])) == []


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_is_seen(name: str) -> None:
    word, source = FORBIDDEN[name]
    assert [each.rule for each in check_rules(source, Rules(forbid=[word]))] == [f"forbid {word}"]


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_enough(name: str) -> None:
    word, source = REQUIRED[name]
    assert check_rules(source, Rules(require=[word])) == []


@pytest.mark.parametrize("padding", ["# it's long\n", "\n", "pass  # and so on\n" + "#" * 5_000 + "\n"])
def test_comments_do_not_make_a_file_too_long(padding: str) -> None:
    source = padding * (2 * MOST_SOURCE // len(padding)) + "import os\n"
    assert [each.rule for each in check_rules(source, Rules(forbid=["import"]))] == ["forbid import"]
    assert [each.rule for each in check_rules(source * 9, Rules(forbid=["import"]))] == [""]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("def a(n): return b(n)\ndef b(n): return c(n)\n\ndef c(n): return b(n)", 2),
        ("class T:\n    def size(self): return self.size()", 2),
        ("class T:\n    def size(self): return T.size(self)", 2),
        ("f = lambda n: n and f(n - 1)", 1),
        ("def out():\n    def inner(n): return inner(n - 1)\n    return inner(3)", 2),
        ("class T:\n    def items(self): return items(self)", None),
        ("class T:\n    def append(self, x): self.items.append(x)", None),
        ("def f(n): return g(n)\n\nf(3)", None),
    ],
)
def test_recursion_by_way_of_others(source: str, line: int | None) -> None:
    assert [each.line for each in check_rules(source, Rules(forbid=["recursion"]))] == ([line] if line else [])


def test_lines_of_code() -> None:
    source = "x = 1\n\n# a comment\ny = 2\nz = 3\n"
    assert check_rules(source, Rules(max_lines=3)) == []
    (breach,) = check_rules(source, Rules(max_lines=2))
    assert breach.message == "The file has 3 lines of code, and at most 2 are wanted."
    assert breach.line == 5


def test_several_are_told_in_order() -> None:
    found = check_rules("import os\nfor a in b: pass", Rules(forbid=["loop", "import"], require=["class"], max_lines=1))
    assert [each.message for each in found] == [
        "This exercise is to be solved without a loop.",
        "This exercise is to be solved without import.",
        "This exercise is to be solved with a class.",
        "The file has 2 lines of code, and at most 1 are wanted.",
    ]


HOSTILE = {
    "nested parentheses": "(" * 10_000 + ")" * 10_000,
    "nested brackets that do not end": "[" * 10_000,
    "NUL": "x = 1\0",
    "attributes": "a" + ".a" * 100_000,
    "calls": "a" + "()" * 100_000,
    "indices": "a" + "[0]" * 80_000,
    "sums": "1" + "+1" * 100_000,
    "signs": "-" * 200_000 + "1",
    "not not": "not " * 60_000 + "1",
    "lambdas": "lambda:" * 30_000 + "1",
    "choices": "1 if 1 else " * 20_000 + "1",
    "elif": "if a: pass\n" + "elif a: pass\n" * 20_000,
    "indented": "".join(" " * depth + "if 1:\n" for depth in range(500)),
    "a long number": "1" * 100_000,
    "surrogates": "x = '\ud800'",
    "fstrings": "f'{" * 300,
    "a control character": "x = \x1b[2J",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sources_get_a_plain_message(name: str) -> None:
    (breach,) = check_rules(HOSTILE[name], Rules(forbid=["import"]))
    assert breach.rule == ""
    assert breach.message.startswith("The file is no ")
    assert breach.message.endswith(".")
    assert breach.message.isprintable()
    assert len(breach.message) < 300


def test_five_megabytes() -> None:
    (breach,) = check_rules("x = 1\n" * 900_000, Rules(forbid=["import"]))
    assert breach.message == "The file is too long: more than 256 KiB."


@pytest.mark.sized(2)
@pytest.mark.parametrize(
    ("unit", "end"),
    [
        ("x = 1\n", ""), ("a,", ""), ("a=", "1"), ("def f(): f()\n", ""), ("import a.b.c\n", ""),
        ("@a\n", "def g(): pass"), ("'a' ", ""), ("f'{a}' ", ""),
        ("isinstance(a, b)\n", ""), ("[a for a in b]\n", ""),
    ],
)  # fmt: skip
def test_large_sources_are_read(unit: str, end: str) -> None:
    source = unit * ((MOST_SOURCE - 20) // len(unit)) + end
    assert [each.rule for each in check_rules(source, Rules(require=["while"]))] == ["require while"]


def test_a_doubtful_escape_is_no_fault() -> None:
    assert check_rules(r"x = '\d'", Rules(forbid=["import"])) == []


def test_where_a_syntax_error_is() -> None:
    (breach,) = check_rules("x = 1\ndef f()\n    pass\n", Rules(max_lines=9))
    assert breach.message == "The file is no Python: expected ':', on line 2."
    assert breach.line == 2


def test_without_rules_nothing_is_looked_at() -> None:
    assert not Rules()
    assert check_rules("(", Rules()) == []


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["improt"], "rules.forbid[0]: there is no such rule, got 'improt'; did you mean \"import\"?"),
        (["loop", "loops"], "rules.forbid[1]: there is no such rule, got 'loops'; did you mean \"loop\"?"),
        (["def"], 'did you mean "function"?'),
        (["sortd"], 'did you mean "sorted"?'),
        (["calls:sum"], 'did you mean "call:sum"?'),
        (["def:area"], 'did you mean "function:area"?'),
        (["call:sum()"], 'did you mean "call:sum"?'),
        (["method:list.append"], 'did you mean "method:append"?'),
        (["call:"], 'want a name after the colon, such as "call:area"'),
        (["zzzzzz"], "allowed: assert, break, class, comprehension"),
        ([3], "rules.forbid[0]: want a word in quotes, got 3"),
        ("import", 'want a list of words, such as ["import", "call:sum"], got \'import\'; did you mean ["import"]?'),
        (None, "rules.forbid: want a list of words"),
    ],
)
def test_what_is_no_rule(words: object, seen: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Rules(forbid=words)  # type: ignore[arg-type]
    assert seen in str(caught.value)


@pytest.mark.parametrize("lines", [0, -1, True, "30", 1.5, 10**9])
def test_what_is_no_number_of_lines(lines: object) -> None:
    with pytest.raises(PolicyError, match=r"rules\.max_lines: want a whole number of lines"):
        Rules(max_lines=lines)  # type: ignore[arg-type]


def test_all_faults_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        Rules(forbid=["a b", "x:y"], require="loop", max_lines="many")  # type: ignore[arg-type]
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["rules.forbid[0]", "rules.forbid[1]", "rules.require", "rules.max_lines"]


def test_no_rule_may_contradict_another() -> None:
    with pytest.raises(PolicyError, match=r'rules\.require: "loop" cannot be required and forbidden'):
        Rules(forbid=["loop"], require=["loop"])
