"""What a test can request of a submission besides plain calls: exceptions, objects, functions, long lists."""

from pathlib import Path
from typing import Any

import pytest

from proxybox.teach.grades import Grade, Verdict
from proxybox.teach.grading import Packed, Task, grade_some
from proxybox.teach.submissions import Submission

# ruff: noqa: E501 - programs on one line


def graded(tests: str, *codes: str, settings: str = "") -> tuple[Grade, ...]:
    files = {
        "exercise.toml": f"title = 'T'\ntext = 'T.'\n{settings}".encode(),
        "tests/test_it.py": f"import re\nimport pytest\n{tests}".encode(),
    }
    given = tuple(
        Submission(student=f"s{number}", files={"solution.py": code.encode()}) for number, code in enumerate(codes)
    )
    return grade_some(Task(exercise=Packed(files), submissions=given))


def told(grade: Grade) -> dict[str, tuple[str, str]]:
    return {test.name: (test.status, test.message) for test in grade.tests}


# --- exceptions -------------------------------------------------------------------------------------------------------

RAISES = """
def test_class(student): student.raises(ValueError, "f", 1)
def test_base(student): student.raises(Exception, "f", 1)
def test_name(student): student.raises("ValueError", "f", 1)
def test_one_of_two(student): student.raises((KeyError, "ValueError"), "f", 1)
def test_words(student): student.raises(ValueError, "f", 1, match="less than [0-9]+")
def test_pattern(student): student.raises(ValueError, "f", 1, match=re.compile("LESS", re.I))
def test_own(student): student.raises("TooMuch", "g")
def test_own_is_an_arithmetic_error(student): student.raises(ArithmeticError, "g")
def test_no_object(student): student.raises(TypeError, "h")
"""


def test_exceptions_by_class_name_and_words() -> None:
    right = (
        "class TooMuch(ArithmeticError): pass\nValueError_, isinstance = ValueError, None\n"
        "def f(n): raise ValueError(f'less than {n}')\ndef g(): raise TooMuch('!')\ndef h(): raise TypeError('no')\n"
    )
    other = (
        "class ValueError(LookupError): pass\nclass TooMuch(Exception): pass\nclass A: pass\n"
        "def f(n): raise KeyError('x' * 2000 + 'less than 1')\ndef g(): raise TooMuch('!')\ndef h(): return A()\n"
    )
    first, second = graded(RAISES, right, other)
    assert {status for status, _ in told(first).values()} == {"ok"}, told(first)
    found = told(second)
    assert found["base"][0] == found["one of two"][0] == found["own"][0] == "ok"
    assert found["class"][1].endswith("on line 4; ValueError was to be raised.")
    assert found["own is an arithmetic error"][1].endswith("; ArithmeticError was to be raised.")
    assert found["no object"] == ("wrong_answer", "h() returned an A object, and TypeError was to be raised.")
    (third,) = graded(RAISES, "def f(n): raise ValueError('x' * 1000 + 'less than 1')\ndef g(): return 5\n")
    assert told(third)["words"] == (
        "wrong_answer",
        f"f(1) raised ValueError: {'x' * 200}..., on line 1; its message was to match 'less than [0-9]+'.",
    )
    assert told(third)["own"] == ("wrong_answer", "g() returned 5, and TooMuch was to be raised.")


EXITS = """
def test_own(student): student.raises(SystemExit, "f")
def test_base(student): student.raises((KeyError, BaseException), "f")
def test_another(student): student.raises(Exception, "f")
"""


def test_exit_is_an_exception_with_a_base() -> None:
    (only,) = graded(EXITS, "class Quit(SystemExit): pass\ndef f(): raise Quit(3)\n")
    assert told(only) == {
        "own": ("ok", ""),
        "base": ("ok", ""),
        "another": (
            "error",
            "f() ended with exit(), which a function is not to do; Exception was to be raised.",
        ),
    }


# --- tests that are at fault themselves -------------------------------------------------------------------------------

FAULTS = """
def helper(student):
    __tracebackhide__ = True
    raise ValueError("\\x1b]0;x")
def inner(student):
    return helper(student)
def test_hidden(student): inner(student)
def test_kind(student): student.raises(3, "f")
def test_pattern(student): student.raises(ValueError, "f", match="(")
def test_name(student): student.call("f()")
def test_function(student): student.call("f", [1, len])
def test_source(student): student.call("f", student.source("1 +"))
def test_statement(student): student.source("x = 1")
def test_method(student):
    thing = student.new("A")
    assert thing.size == 3
def test_other(student):
    kept.append(student.new("A"))
    kept[0].size()
    student.call("f", kept[0].size)
kept = []
@pytest.fixture
def broken(): raise LookupError("fixture")
def test_fixture(student, broken): pass
"""


def test_faults_of_a_test_are_told_to_its_author_alone() -> None:
    """The test's own line is shown, without proxybox's frames; a helper may hide itself as in pytest."""
    (only,) = graded(FAULTS, "def f(*a, **k): pass\nclass A:\n    def size(self): return 3\n")
    tests = {test.name: test for test in only.tests}
    assert {test.status for test in only.tests} == {"internal_error"}
    assert tests["hidden"].message == "The test itself is at fault, and not this program."
    assert tests["hidden"].fault == (
        "tests/test_it.py:8: ValueError: \\x1b]0;x\n"
        "  tests/test_it.py:9: in test_hidden\n    def test_hidden(student): inner(student)\n"
        "  tests/test_it.py:8: in inner\n    return helper(student)"
    )
    firsts = {name: test.fault.splitlines()[0] for name, test in tests.items()}
    for name, words in {
        "kind": "TypeError: raises: want an exception class, its name, or a tuple of these, got 3",
        "pattern": "missing ), unterminated subpattern at position 0",
        "name": "ValueError: 'f()' is no name of what a submission could have",
        "function": "TypeError: f([1, <built-in function len>]): a 'builtin_function_or_method' object cannot be sent: ",
        "source": "SyntaxError: ",
        "statement": "ValueError: want one expression, such as a lambda, or a def as the last statement",
        "method": "TypeError: A().size is a method, to be called; an attribute is read by .get('size')",
        "other": "TypeError: f(A().size): A().size is a method of an object: want a value, an object or a source",
        "fixture": "LookupError: fixture",
    }.items():
        assert words in firsts[name], firsts[name]
        assert firsts[name].startswith("tests/test_it.py:")


BEHIND = """
@pytest.fixture
def broken(student):
    yield
    raise LookupError("behind")
@pytest.fixture
def once_more(student):
    yield
    student.expect("f", 2, returns=2)
def test_fault(student, broken): student.expect("f", 1, returns=1)
def test_fault_of_a_wrong_one(student, broken): student.expect("f", 1, returns=3)
def test_last(student, once_more): student.expect("f", 1, returns=1)
def test_first(student, once_more): student.expect("f", 1, returns=3)
"""


def test_what_a_fixture_raises_behind_its_test_counts() -> None:
    right, wrong = graded(BEHIND, "def f(n): return n\n", "def f(n): return 1\n")
    fault = "The test itself is at fault, and not this program."
    first = ("wrong_answer", "f(1) returned 1, and 3 was expected.")
    assert told(right) == {
        "fault": ("internal_error", fault), "fault of a wrong one": ("internal_error", fault), "last": ("ok", ""), "first": first,
    }  # fmt: skip
    assert right.tests[0].fault.startswith("tests/test_it.py:7: LookupError: behind")
    assert (right.points, told(wrong)["first"]) == (1, first)
    assert told(wrong)["last"] == ("wrong_answer", "f(2) returned 1, and 2 was expected.")


# --- objects ----------------------------------------------------------------------------------------------------------

OBJECTS = """
def test_use(student):
    account = student.new("Account", 100, owner="Ada")
    assert account.deposit(5) == 105
    account.expect("deposit", amount=5, returns=110)
    assert account.get("balance") == 110
    assert account.call("__len__") == 3
    account.raises(ValueError, "withdraw", 500, match="500")
    student.expect_output("no")
def test_wrong(student): student.new("Account", 1).expect("deposit", 2, returns=4)
def test_itself(student):
    account = student.new("Account", 1)
    account.expect("same", returns=account)
    assert account.same().deposit(1) == 2
def test_another(student):
    first, second = student.new("Account", 1), student.new("Account", 2)
    student.expect("total", [first, {"x": (second, 4)}], returns=3)
    first.transfer(second, amount=1)
    assert [first.get("balance"), second.get("balance")] == [0, 3]
    third = second.new("copy")
    assert third.deposit(1) == 4
    assert second.get("balance") == 3
def test_factory(student): assert student.new("make").get("balance") == 7
def test_missing(student): student.new("Account", 1).nothing()
def test_no_attribute(student): student.new("Account", 1).get("nothing")
def test_no_method(student): student.new("Account", 1).balance()
def test_no_class(student): student.new("Acount", 1)
def test_other(student): student.new("Account", 1).expect("copy", returns=1)
def test_wrong_arguments(student): student.new("Account")
"""

ACCOUNT = """
list = dict = map = type = callable = getattr = len = isinstance = None  # as beginners name things
class Account:
    def __init__(self, balance, owner=""):
        self.balance = balance
    def deposit(self, amount):
        self.balance += amount
        return self.balance
    def withdraw(self, amount):
        print("no")
        if amount > self.balance:
            raise ValueError(f"{amount} is too much")
    def same(self): return self
    def copy(self): return Account(self.balance)
    def transfer(self, other, amount):
        self.balance -= amount
        other.balance += amount
    def __len__(self): return 3
def total(of): return of[0].balance + of[1]["x"][0].balance
def make(): return Account(7)
"""


def test_objects_stay_in_their_box() -> None:
    (only,) = graded(OBJECTS, ACCOUNT)
    found = told(only)
    for name in ("use", "itself", "another", "factory"):
        assert found[name] == ("ok", "")
    assert found["wrong"] == ("wrong_answer", "Account(1).deposit(2) returned 3, and 4 was expected.")
    assert found["missing"] == ("wrong_answer", "Account(1) has no nothing.")
    assert found["no attribute"] == ("wrong_answer", "Account(1) has no nothing.")
    assert found["no method"] == ("wrong_answer", "balance of Account(1) cannot be called.")
    words = "Acount is not defined: the submission needs a class of that name."
    assert found["no class"] == ("wrong_answer", words)
    assert found["other"] == ("wrong_answer", "Account(1).copy() returned an Account object, and 1 was expected.")
    assert "Account() raised TypeError: " in found["wrong arguments"][1]


def test_the_example_of_the_documents() -> None:
    """It does what the page says."""
    text = Path(__file__).parents[2].joinpath("docs/write-exercises.md").read_text()
    (example,) = [part for part in text.split("```python\n")[1:] if "student.new" in part]
    account = (
        "class Account:\n    def __init__(self, owner): self.balance = 0\n"
        "    def deposit(self, amount):\n        self.balance += amount\n        return self.balance\n"
        "    def withdraw(self, amount):\n        if amount > self.balance: raise ValueError('too much')\n"
        "        self.balance -= amount\n"
        "def transfer(first, second, amount):\n    first.withdraw(amount)\n    second.deposit(amount)\n"
    )
    right, wrong = graded(
        example.partition("```")[0], account, account.replace("+= amount", "= self.balance or amount")
    )
    assert [test.status for test in right.tests] == ["ok"] * 3
    assert right.tests[0].name == "Money can be deposited"
    words = "Account('Ada').deposit(5) returned 50, and 55 was expected."
    assert wrong.tests[0].message == words
    assert f"`{words}`" in text


HOSTILE = {
    "lies": "class Account:\n    def __init__(self, n): pass\n    def deposit(self, n): return True\n    balance = '105'\n",
    "returns what is huge": "class Account:\n    def __init__(self, n): pass\n"
    "    def deposit(self, n): return [0] * 10**8\n    @property\n    def balance(self): return b'x' * 10**8\n",
    "has every attribute": "class Account:\n    def __init__(self, n): pass\n    def __getattr__(self, name): return self\n"
    "    def __call__(self, *a, **k): return self\n    __eq__ = lambda *_: True\n",
    "has none": "class Account:\n    def __init__(self, n): pass\n"
    "    def __getattribute__(self, name): raise AttributeError('\\x1b[2J' * 10**6)\n",
    "never says": "class Account:\n    def __init__(self, n): pass\n    def __getattribute__(self, name):\n        while True: pass\n",
    "raises in __del__": "class Account:\n    def __init__(self, n): pass\n    def deposit(self, n): Account(1)\n"
    "    def __del__(self): raise SystemExit(0)\n",
    "raises nonsense": "class Account:\n    def __init__(self, n): pass\n    def deposit(self, n): raise type('X' * 10**6, (BaseException,), {})\n",
    "answers itself": "class Account: pass\nglobals()['__proxybox_objects__'] = None\n"
    "def exec(text, names): names['names']['__proxybox_objects__'] = lambda *a: ('object', 10**30)\n"
    "import builtins\nbuiltins.exec = exec\n",
    "answers with a number": "import builtins\ndef exec(text, names): names['names']['__proxybox_objects__'] = lambda *a: 105\n"
    "builtins.exec = exec\nAccount = 1\n",
    "answers with an object that is none": "import builtins\ndef exec(text, names):\n"
    "    names['names']['__proxybox_objects__'] = lambda *a: ('object', True)\nbuiltins.exec = exec\nAccount = 1\n",
    "has a metaclass": "class M(type):\n    __eq__ = lambda *_: True\n    __hash__ = lambda *_: 1\n"
    "class Account(metaclass=M):\n    def __init__(self, n): pass\n    def deposit(self, n): return self\n",
    "is a number": "class Account(int):\n    def deposit(self, n): return Account(105)\n    balance = 1\n",
}
CHEATED = """
def test_method(student): student.new("Account", 100).expect("deposit", 5, returns=106)
def test_attribute(student): assert student.new("Account", 100).get("balance") == 106, "the balance is another"
"""


@pytest.fixture(scope="module")
def cheated() -> dict[str, Grade]:
    settings = "[limits]\ncpu_time = 1\nwall_time = 3\n"
    return dict(zip(HOSTILE, graded(CHEATED, *HOSTILE.values(), settings=settings), strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_objects_that_cheat(cheated: Any, name: str) -> None:
    """They get no points, the test is never at fault, and messages are short and harmless."""
    for test in cheated[name].tests:
        assert test.points == 0
        assert test.status not in ("ok", "internal_error", "skipped"), test
        assert test.message
        assert len(test.message) < 1000
        assert not set(test.message + test.output) & set("\x1b\x00\x07")


# --- functions, and long lists ----------------------------------------------------------------------------------------

FUNCTIONS = """
def test_lambda(student): student.expect("apply", student.source("lambda x: x + 1"), 3, returns=4)
def test_keyword(student): student.expect("apply", f=student.source("lambda x: -x"), value=3, returns=-3)
def test_among_others(student):
    student.expect("all_of", [student.source("abs"), student.source("lambda x: x * 2")], -3, returns=[3, -6])
def test_def(student):
    twice = student.source('''
        import math
        def twice(x):
            return math.floor(x * 2)
    ''')
    student.expect("apply", twice, 1.5, returns=4)
def test_calls(student):
    student.raises("ZeroDivisionError", "apply", student.source("lambda x: 1 // x"), 0)
"""


def test_functions_as_arguments() -> None:
    (only,) = graded(
        FUNCTIONS,
        "def apply(f, value): return f(value)\ndef all_of(fs, value): return [f(value) for f in fs]\nabs = floor = None\n",
    )
    found = told(only)
    assert found.pop("def") == ("wrong_answer", "apply(twice, 1.5) returned 3, and 4 was expected.")
    assert set(found.values()) == {("ok", "")}


LONG = """
NUMBERS = list(range(10**6))
def test_both_ways(student): student.expect("double", NUMBERS, returns=[2 * each for each in NUMBERS])
def test_wrong(student): student.expect("same", NUMBERS, returns=NUMBERS[1:])
def test_too_long(student): student.call("long")
"""


@pytest.mark.full
def test_a_million_numbers() -> None:
    """As an argument and as a result, within the default limits."""
    code = (
        "def double(of): return [2 * each for each in of]\ndef same(of): return of\ndef long(): return ['a'] * 10**7\n"
    )
    (only,) = graded(LONG, code)
    found = told(only)
    assert found["both ways"] == ("ok", "")
    assert found["wrong"][0] == "wrong_answer"
    assert found["wrong"][1].startswith("same([0, 1, 2, 3")
    assert len(found["wrong"][1]) < 1000
    assert found["too long"] == (
        "wrong_answer", "long() returned what cannot be compared: the value takes more than 10,485,760 bytes.",
    )  # fmt: skip
    (small, large) = graded(LONG, code, code + "#" * (2 << 20), settings="[session]\nvalue_size = '2M'\n")
    words = "The file is larger than 2,097,152 bytes."
    assert {(test.status, test.message) for test in large.tests} == {("error", words)}, "no test is to blame for that"
    assert {test.status for test in small.tests[:2]} == {"internal_error"}, "what a policy says is kept"
    assert isinstance(small.tests[0], Verdict)
