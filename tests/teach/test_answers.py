"""How a test judges return values of a submission: a missing return, objects, generators, and whose mistake it was."""

import datetime
import itertools
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from proxybox.teach import objects, packing
from proxybox.teach.compare import alike
from proxybox.teach.grades import Grade
from proxybox.teach.grading import Packed, Task, grade_some, local_pool
from proxybox.teach.handles import SubmissionCall
from proxybox.teach.packing import pack, unpack
from proxybox.teach.settling import AT_FAULT
from proxybox.teach.submissions import Submission
from proxybox.teach.testoutput import SubmissionOutput

# ruff: noqa: E501 - programs on one line


def graded(tests: str, *codes: str, model: str = "", settings: str = "") -> tuple[Grade, ...]:
    files = {
        "exercise.toml": f"title = 'T'\ntext = 'T.'\n{settings}".encode(),
        "tests/test_it.py": f"import pytest, math, json\n{tests}".encode(),
    }
    if model:
        files["solutions/model.py"] = model.encode()
    given = tuple(
        Submission(student=str(place), files={"solution.py": code.encode()}) for place, code in enumerate(codes)
    )
    return grade_some(Task(exercise=Packed(files), submissions=given))


def told(grade: Grade) -> dict[str, tuple[str, str]]:
    return {test.name: (test.status, test.message) for test in grade.tests}


# --- a missing return -------------------------------------------------------------------------------------------------

USES = """
def helper(value): return value[0] + 1
@pytest.fixture
def first(student): return student.call("f", 2) + 1
def test_sum(student): assert student.call("f", 2) + 1 == 5
def test_method(student): assert student.call("f", 2).real == 4
def test_index(student): assert [1, 2, 3, 4, 5][student.call("f", 2)] == 5
def test_function(student): assert math.sqrt(student.call("f", 2)) == 2
def test_library(student): assert json.loads(str(student.call("f", 2)).replace("None", "")) == 4
def test_helper(student): assert helper([student.call("f", 2)]) == 5
def test_fixture(first): assert first == 5
def test_key(student): assert {4: 5}[student.call("f", 2)] == 5
def test_unpacked(student):
    a, b = student.call("f", 2), *student.call("g")
    assert (a, b) == (4, 4)
def test_loop(student):
    for each in student.call("g"):
        last = each
    assert last == 4
def test_raised_by_hand(student):
    if student.call("f", 2) is None:
        raise ValueError("the secret is 42")
def test_printed(run_student): assert int(run_student().stdout) == 4
def test_file(run_student): assert run_student().files["out.txt"] == b"4"
"""
MODEL = "def f(n): return n * n\ndef g(): return [4]\nif __name__ == '__main__':\n    print(4)\n    open('out.txt', 'w').write('4')\n"
MISSING = "def f(n): n * n\ndef g(): return []\n"


@pytest.fixture(scope="module")
def used() -> tuple[Grade, ...]:
    return graded(USES, MODEL, MISSING, model=MODEL)


def test_an_exception_of_a_test_that_uses_an_answer_is_a_wrong_answer(used: tuple[Grade, ...]) -> None:
    right, missing = used
    assert {test.status for test in right.tests} == {"ok"}
    assert {test.name: test.status for test in missing.tests} == {test.name: "wrong_answer" for test in missing.tests}
    found = told(missing)
    for name, kind in {
        "sum": "TypeError", "method": "AttributeError", "index": "TypeError", "function": "TypeError",
        "library": "JSONDecodeError", "helper": "TypeError", "fixture": "TypeError", "key": "KeyError",
        "raised by hand": "ValueError",
    }.items():  # fmt: skip
        assert found[name][1] == f"f(2) returned None, and the test cannot go on with that ({kind}).", name
    assert found["loop"][1] == "g() returned [], and the test cannot go on with that (UnboundLocalError)."
    assert (
        found["unpacked"][1] == "f(2) returned None.\ng() returned [].\nThe test cannot go on with that (ValueError)."
    )
    assert (
        found["printed"][1]
        == "the program printed nothing and wrote no file, and the test cannot go on with that (ValueError)."
    )
    assert "(KeyError)" in found["file"][1]


def test_nothing_of_the_test_is_in_what_a_student_reads(used: tuple[Grade, ...]) -> None:
    assert not any("secret" in test.message for test in used[1].tests)
    by_hand = next(test for test in used[1].tests if test.name == "raised by hand")
    assert by_hand.fault.startswith("tests/test_it.py:"), "its author is told all of it"
    assert "ValueError: the secret is 42" in by_hand.fault


FAULTS = """
def test_name(student): assert student.call("f", 2) == fuor
def test_kind(student): assert student.call("f", 2) + "" == 4
def test_arguments(student): assert helper(student.call("f", 2), 1) == 4
def test_words(student): assert student.call("f", 2) == 4, f"not {fuor}"
def helper(value): return value
def test_never_asked(student): assert {}["x"]
"""


def test_where_models_raise_too_the_test_is_at_fault() -> None:
    right, wrong = graded(FAULTS, MODEL, MISSING, model=MODEL)
    at_fault = ("internal_error", AT_FAULT)
    for name in ("name", "kind", "arguments", "never asked"):
        assert told(right)[name] == told(wrong)[name] == at_fault, name
    assert told(right)["words"] == ("ok", "")
    words = "f(2) returned None, and the test cannot go on with that (NameError)."
    assert told(wrong)["words"] == ("wrong_answer", words), "the words for a wrong one have a mistake, and it is wrong"


def test_without_a_model_it_is_the_exception_that_tells() -> None:
    (wrong,) = graded(USES + FAULTS, MISSING)
    found = {name: status for name, (status, _) in told(wrong).items()}
    assert {name for name, status in found.items() if status == "internal_error"} == {
        "name", "words", "never asked", "raised by hand",
    }  # fmt: skip
    typos = "def test_method(student):\n    student.call('f', 2)\n    student.cal('f')\ndef test_module(student):\n    student.call('f', 2)\n    math.sqroot(2)\n"
    (only,) = graded(typos, MODEL)
    assert {test.status for test in only.tests} == {"internal_error"}


@pytest.mark.full
def test_exercises_that_stay_ready_settle_as_well(tmp_path: Path) -> None:
    from proxybox.teach.ready import ReadyExercise

    files = {
        "exercise.toml": b"title = 'T'\ntext = 'T.'\n", "tests/test_it.py": f"import math, json, pytest\n{USES}{FAULTS}".encode(),
        "solutions/model.py": MODEL.encode(),
    }  # fmt: skip
    expected = grade_some(Task(exercise=Packed(files), submissions=tuple(
        Submission(student=name, files={"solution.py": code.encode()}) for name, code in (("a", MISSING), ("b", MODEL))
    )))  # fmt: skip
    ready = ReadyExercise(Packed(files))
    try:
        for grade, code in zip(expected, (MISSING, MODEL), strict=True):
            found = ready.grade(Submission(student=grade.student, files={"solution.py": code.encode()}))
            assert found == (grade, False)
    finally:
        ready.close()


@pytest.mark.full
def test_tests_of_the_model_solutions_leave_no_records(tmp_path: Path) -> None:
    files = {
        "exercise.toml": b"title = 'T'\ntext = 'T.'\n",
        "tests/test_it.py": f"import math, json, pytest\n{FAULTS}".encode(),
        "solutions/model.py": b"",  # every test fails with it
    }
    given = tuple(Submission(student=name, files={"solution.py": MISSING.encode()}) for name in ("a", "b"))
    grades = grade_some(Task(exercise=Packed(files), submissions=given, records=str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert {len(test.records) for grade in grades for test in grade.tests if not test.passed} == {1}


# --- what cannot be sent ----------------------------------------------------------------------------------------------

KINDS = """
import collections, datetime, decimal, fractions
class Dog: pass
def value(name): return {
    "range": lambda: range(3), "generator": lambda: (each for each in [1]), "map": lambda: map(str, [1]),
    "zip": lambda: zip([1], [2]), "object": lambda: Dog(), "class": lambda: Dog, "function": lambda: value,
    "inside": lambda: [1, {"a": (Dog(), range(2))}], "keys": lambda: {"a": 1}.keys(), "values": lambda: {"a": 1}.values(),
    "deque": lambda: collections.deque([1, 2]), "fraction": lambda: fractions.Fraction(1, 2),
    "decimal": lambda: decimal.Decimal("1.10"), "complex": lambda: 1 + 2j, "date": lambda: datetime.date(2026, 10, 1),
    "span": lambda: datetime.timedelta(1, 2, 3), "set of objects": lambda: {Dog()}, "frozen": lambda: frozenset([1]),
    "counter": lambda: collections.Counter("aab"), "coroutine": lambda: wait(), "module": lambda: decimal,
    "deep": lambda: nested(100), "itself": lambda: endless(),
}[name]()
async def wait(): pass
def nested(levels): return [nested(levels - 1)] if levels else 1
def endless():
    found = [Dog()]
    found.append(found)
    return found
"""


def asked(*expressions: str) -> dict[str, tuple[str, str]]:
    tests = "import collections, datetime, decimal, fractions\n" + "\n".join(
        f"def test_{place}(student): {expression}" for place, expression in enumerate(expressions)
    )
    (only,) = graded(tests, KINDS)
    return dict(zip(expressions, told(only).values(), strict=True))


def test_what_cannot_be_sent_is_told_for_what_it_is() -> None:
    what = {
        "range": "range(0, 3)", "generator": "a generator", "map": "a map object", "zip": "a zip object",
        "object": "a Dog object", "class": "the class Dog", "function": "a function",
        "inside": "[1, {'a': (a Dog object, range(0, 2))}]", "keys": "dict_keys(['a'])", "values": "dict_values([1])",
        "deque": "deque([1, 2])", "fraction": "Fraction(1, 2)", "decimal": "Decimal('1.10')", "complex": "(1+2j)",
        "date": "datetime.date(2026, 10, 1)", "set of objects": "a set object", "coroutine": "a coroutine",
        "module": "a module",
    }  # fmt: skip
    expressions = {name: f'student.expect("value", "{name}", returns=[0, 1])' for name in what}
    found = asked(*expressions.values())
    for name, expression in expressions.items():
        words = f"value('{name}') returned {what[name]}, and [0, 1] was expected."
        assert found[expression] == ("wrong_answer", words)


def test_values_of_pythons_own_types_are_compared_by_value() -> None:
    wanted = {
        "range": "range(0, 3, 1)", "keys": "{'a'}", "deque": "collections.deque([1, 2])", "fraction": "fractions.Fraction(2, 4)",
        "decimal": "decimal.Decimal('1.1')", "complex": "1 + 2j", "date": "datetime.date(2026, 10, 1)",
        "span": "datetime.timedelta(1, 2, 3)", "frozen": "frozenset({1})", "counter": "collections.Counter('aba')",
    }  # fmt: skip
    found = asked(
        *(f'student.expect("value", "{name}", returns={value})' for name, value in wanted.items()),
        *(f'assert student.call("value", "{name}") == {value}' for name, value in wanted.items()),
        'student.expect("value", "fraction", returns=0.5)',
        'student.expect("value", "complex", returns=1.0000001 + 2j, tolerance=1e-3)',
    )
    assert {status for status, _ in found.values()} == {"ok"}, found
    wrong = asked(*(f'student.expect("value", "{name}", returns="x")' for name in wanted))
    assert {status for status, _ in wrong.values()} == {"wrong_answer"}


#: Sets and dicts: one that the submission returns, and a different one.
KEYED = {
    "{frozenset([1, 2]), frozenset([2, 3])}": "{frozenset([1, 2])}",
    "{frozenset([frozenset([1])])}": "{frozenset([frozenset([2])])}",
    "{datetime.date(2026, 1, 1): 2}": "{datetime.date(2026, 1, 2): 2}",
    "{datetime.date(2026, 1, 1)}": "{datetime.date(2026, 1, 1), 1}",
    "{fractions.Fraction(1, 2): [fractions.Fraction(1, 3)]}": "{fractions.Fraction(1, 2): [fractions.Fraction(1, 4)]}",
    "{decimal.Decimal('1.5'), 1j, range(3)}": "{decimal.Decimal('1.5'), 1j, range(4)}",
    "[{(1, frozenset([2])): datetime.timedelta(3)}]": "[{(1, frozenset([2])): datetime.timedelta(4)}]",
    "{datetime.date(2026, 1, 1): 2}.keys()": "{datetime.date(2026, 1, 3): 2}.keys()",
}


DERIVED = """
import collections, datetime, decimal, fractions
kinds = [datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction, complex, collections.deque]
derived = {kind.__name__: type("Own", (kind,), {}) for kind in kinds}
def f(name, *given): return derived[name](*given)
def keys(*given): return {derived["datetime"](*given): 1}
def read_only(): return [__import__("types").MappingProxyType({1: {2}})]
"""


def test_of_a_derived_type_comes_the_type_that_it_is_derived_from() -> None:
    tests = """
import collections, datetime, decimal, fractions
def test_datetime(student): student.expect("f", "datetime", 2026, 1, 2, 3, 4, 5, 6, returns=datetime.datetime(2026, 1, 2, 3, 4, 5, 6))
def test_date(student): student.expect("f", "date", 2026, 1, 2, returns=datetime.date(2026, 1, 2))
def test_time(student): student.expect("f", "time", 1, 2, 3, 4, returns=datetime.time(1, 2, 3, 4))
def test_timedelta(student): student.expect("f", "timedelta", 1, 2, 3, returns=datetime.timedelta(1, 2, 3))
def test_decimal(student): student.expect("f", "Decimal", "0.10", returns=decimal.Decimal("0.10"))
def test_fraction(student): student.expect("f", "Fraction", 1, 3, returns=fractions.Fraction(1, 3))
def test_complex(student): student.expect("f", "complex", 1, 2, returns=1 + 2j)
def test_deque(student): student.expect("f", "deque", [1, 2], returns=collections.deque([1, 2]))
def test_key(student): student.expect("keys", 2026, 1, 2, returns={datetime.datetime(2026, 1, 2): 1})
def test_read_only(student): student.expect("read_only", returns=[{1: {2}}])
def test_no_date(student): student.raises("X", "f", "datetime", 2026, 1, 2)
"""
    found = told(graded(tests, DERIVED)[0])
    last = found.pop("no date")
    assert found == dict.fromkeys(found, ("ok", ""))
    assert last == (
        "wrong_answer",
        "f('datetime', 2026, 1, 2) returned datetime.datetime(2026, 1, 2, 0, 0), and X was to be raised.",
    )


def test_sets_and_dicts_with_keys_that_are_not_plain_are_compared_by_value() -> None:
    """For example dates and sets of sets: by == in the test, and by `expect`; as results and as arguments."""
    code = (
        "import datetime, decimal, fractions\ndef same(value): return value\n"
        f"def value(n): return [{', '.join(f'lambda: {each}' for each in KEYED)}][n]()\n"
    )
    right, wrong = [], []
    for place, (value, another) in enumerate(KEYED.items()):
        right += [
            f"assert student.call('value', {place}) == {value}",
            f"student.expect('value', {place}, returns={value})",
        ]
        wrong += [f"assert student.call('value', {place}) == {another}"]
        wrong += [f"student.expect('value', {place}, returns={another})"]
        if "keys()" not in value:
            right += [f"student.expect('same', {value}, returns={value})"]
    tests = "import datetime, decimal, fractions\n" + "\n".join(
        f"def test_{place}(student): {each}" for place, each in enumerate([*right, *wrong])
    )
    (only,) = graded(tests, code)
    statuses = [status for status, _ in told(only).values()]
    assert statuses == ["ok"] * len(right) + ["wrong_answer"] * len(wrong), told(only)


def test_many_members_of_a_set_that_are_not_plain_are_one_object() -> None:
    code = "import datetime\ndef f(n): return {datetime.date.fromordinal(1 + day) for day in range(n)}\n"
    tests = (
        "def test_some(student): assert len(student.call('f', 1000)) == 1000\n"
        "def test_many(student): student.expect('f', 1001, returns={1})\n"
    )
    (only,) = graded(tests, code)
    assert list(told(only).values()) == [
        ("ok", ""), ("wrong_answer", "f(1001) returned a set object, and {1} was expected."),
    ]  # fmt: skip


def test_an_assertion_without_words_tells_what_was_answered() -> None:
    """For a range, a generator and so on, as for any value. A message of the teacher is shown alone."""
    tests = """
def test_range(student): assert student.call("f", 3) == [0, 1, 2]
def test_generator(student): assert student.call("g", 3) == [0, 1, 2]
def test_two(student): assert student.call("f", 2) == student.call("g", 2)
def test_words(student): assert student.call("f", 3) == [0, 1, 2], "A list is wanted."
def test_nothing(student): assert 1 == 2
"""
    code = "def f(n): return range(n)\ndef g(n): yield from range(n)\n"
    packed = Packed({"exercise.toml": b"title = 'T'\ntext = 'T.'\n", "tests/test_it.py": tests.encode()})
    task = Task(exercise=packed, submissions=(Submission(student="a", files={"solution.py": code.encode()}),))
    with local_pool(1) as pool:  # in this process, pytest would rewrite the tests' assertions
        (only,) = pool.submit(grade_some, task).result()
    else_ = "The test expects something else."
    assert told(only) == {
        "range": ("wrong_answer", f"f(3) returned range(0, 3).\n{else_}"),
        "generator": ("wrong_answer", f"g(3) returned a generator.\n{else_}"),
        "two": ("wrong_answer", f"f(2) returned range(0, 2).\ng(2) returned a generator.\n{else_}"),
        "words": ("wrong_answer", "A list is wanted."),
        "nothing": ("wrong_answer", ""),
    }


#: Expressions that need what a box does not have, with the explanation (endings of runs, kernel, prompt).
LACKING = {
    "__import__('socket').create_connection(('a.example', 80))": "this box has no network",
    "__import__('subprocess').run(['ls'])": "no other program can be started in this box",
    "__import__('numpy')": "numpy is not part of this box",
    "open('/etc/x', 'w')": "/etc is not part of this box",
}


def test_what_a_box_has_not_is_told_in_a_verdict_too() -> None:
    code = "def own(): return [][1]\n" + "".join(f"def f{at}(): {each}\n" for at, each in enumerate(LACKING))
    tests = "def test_own(student): student.expect('own', returns=1)\n" + "".join(
        f"def test_{at}(student): student.expect('f{at}', returns=1)\n" for at in range(len(LACKING))
    )
    (only,) = graded(tests, code)
    own, *others = (message for _, message in told(only).values())
    assert own == "own() raised IndexError: list index out of range, on line 1."
    for (_, words), message in zip(LACKING.items(), others, strict=True):
        first, last = message.split("\n")
        assert " raised " in first
        assert last.startswith(words)


def test_arguments_of_pythons_own_types() -> None:
    tests = """
import collections, datetime, decimal, fractions
@pytest.mark.parametrize("value", [range(3), collections.deque([1]), fractions.Fraction(1, 3), decimal.Decimal("0.1"), 1j,
                                   datetime.date(2026, 1, 2), datetime.timedelta(3), datetime.time(1, 2), [range(2), {"a": 1j}]])
def test_same(student, value): student.expect("same", value, returns=value)
"""
    (only,) = graded(tests, "def same(value): return value\n")
    assert {test.status for test in only.tests} == {"ok"}, told(only)


def test_what_is_too_large_is_told_as_an_object() -> None:
    """A loop of the test over a large range ends."""
    code = "import fractions, decimal\ndef f(n): return [range(10**9), fractions.Fraction(3**99_999, 2), decimal.Decimal('1E+9999')][n]\n"
    tests = "def test_it(student): assert [list(student.call('f', 0))[:2]] == [0, 1]\n" + "".join(
        f"def test_{n}(student): student.expect('f', {n}, returns=0)\n" for n in range(3)
    )
    (only,) = graded(tests, code)
    assert told(only) == {
        "it": ("wrong_answer", "a loop over f(0) gave more than 100,000 values."),
        "0": ("wrong_answer", "f(0) returned a range object, and 0 was expected."),
        "1": ("wrong_answer", "f(1) returned a Fraction object, and 0 was expected."),
        "2": ("wrong_answer", "f(2) returned a Decimal object, and 0 was expected."),
    }


def test_what_is_too_much_is_told_as_that() -> None:
    deep, itself = asked('student.call("value", "deep")', 'student.expect("value", "itself", returns=1)').values()
    words = "value('deep') returned what cannot be compared: the value is nested deeper than 64, or contains itself."
    assert deep == ("wrong_answer", words)
    told = "value('itself') returned [a Dog object, a list object], and 1 was expected."
    assert itself == ("wrong_answer", told)


# --- objects ----------------------------------------------------------------------------------------------------------

PEOPLE = """
class Person:
    def __init__(self, name="", kind=None, self_=None): self.name, self.kind, self.friend, self.friends = name, kind, None, []
    def meet(self, other): self.friend = other; self.friends.append(other); return other
    def named(self, name, match=None): return self if name == self.name else None
    def __iter__(self): return iter([self.name, 2])
def find(people, name):
    for each in people:
        if each.name == name: return each
def count(most):
    number = 0
    while most is None or number < most:
        yield number
        number += 1
ada = Person("Ada")
def call(name, kind, call, action): return [name, kind, call, action]
def fails(name, kind): raise ValueError(name)
"""
OBJECTS = """
def test_keywords(student):
    person = student.new("Person", name="Ada", kind="x")
    assert [person.get("name"), person.get("kind")] == ["Ada", "x"]
    assert person.named(name="Ada") is person
    person.expect("named", name="Ada", returns=person)
    student.expect("call", name=1, kind=2, call=3, action=4, returns=[1, 2, 3, 4])
    assert student.call("call", name=1, kind=2, call=3, action=4) == [1, 2, 3, 4]
    student.raises(ValueError, "fails", name="n", kind="k", match="n")
def test_attributes(student):
    ada, bob = student.new("Person", "Ada"), student.new("Person", "Bob")
    assert ada.get("friend") is None
    assert ada.meet(bob) is bob
    assert ada.get("friend") is bob
    assert ada.get("friends") == [bob]
    assert ada.get("friend").get("name") == "Bob"
    student.expect("find", [ada, bob], "Bob", returns=bob)
def test_none(student):
    ada = student.new("Person", "Ada")
    assert student.new("find", [ada], "Bob") is None
    assert ada.new("named", "Bob") is None
    assert student.new("find", [ada], "Ada") is ada
def test_variable(student):
    assert student.get("ada").get("name") == "Ada"
    assert student.get("ada") is student.get("ada")
def test_loops(student):
    assert list(student.call("count", 3)) == [0, 1, 2]
    assert [*student.new("Person", "Ada")] == ["Ada", 2]
    assert student.call("count", None).call("__next__") == 0
def test_output_of_a_call(student):
    person = student.new("Person", "Ada")
    assert person.get("name") == "Ada"
    assert student.last == "Person('Ada')"
def test_wrong(student): student.new("Person", "Ada").expect("named", "Ada", returns=None)
def test_not_found(student): assert student.new("find", [], "Bob").get("name") == "Bob"
def test_no_end(student): list(student.call("count", None))
def test_no_loop(student): list(student.get("find"))
def test_no_variable(student): student.get("bob")
def test_other_object(student):
    person = student.new("Person", "Ada")
    student.expect("find", [person], "Ada", returns=student.new("Person", "Ada"))
"""


def test_objects_in_attributes_results_and_loops() -> None:
    (only,) = graded(OBJECTS, PEOPLE)
    found = told(only)
    for name in ("keywords", "attributes", "none", "variable", "loops", "output of a call"):
        assert found.pop(name) == ("ok", ""), name
    assert found == {
        "wrong": ("wrong_answer", "Person('Ada').named('Ada') returned a Person object, and None was expected."),
        "not found": (
            "wrong_answer",
            "find([], 'Bob') returned None, and the test cannot go on with that (AttributeError).",
        ),
        "no end": ("wrong_answer", "a loop over count(None) gave more than 100,000 values."),
        "no loop": ("wrong_answer", "find is a function, which holds no values to go through."),
        "no variable": ("wrong_answer", "bob is not defined: the submission needs a variable of that name."),
        "other object": (
            "wrong_answer",
            "find([Person('Ada')], 'Ada') returned a Person object, and another one was expected.",
        ),
    }


def test_sessions_take_the_same_keywords() -> None:
    import proxybox

    with proxybox.Sandbox() as sandbox, sandbox.session() as session:
        session.exec("def f(name, self): return [name, self]")
        assert session.call("f", name="Ada", self=1).value == ["Ada", 1]


def test_what_was_not_imported_is_not_there() -> None:
    """A submission without its import fails as it does outside of proxybox."""
    (only,) = graded("def test_it(student): student.call('f')\n", "def f(): return sys.argv\n")
    assert only.tests[0].status == "error"
    assert "NameError" in only.tests[0].message


# --- how values are packed --------------------------------------------------------------------------------------------


def unresolved(kind: str, held: Any) -> Any:
    raise ValueError(kind)


@pytest.mark.parametrize(
    "packed",
    [
        None, 3, (), ("value",), ("value", 1, 2), (3, 4), ("list", 3), ("list", [3]), ("tuple", [("value",)]),
        ("dict", ({"a": 1}, [("value", 1)])), ("dict", ({"a": True}, [("value", 1)])), ("dict", ([], [])), ("dict", 3),
        ("dict", ({"a": 0, "b": 0}, [("value", 1)])), ("dict", ({"a": "x"}, [("value", 1)])), ("known", 3),
        ("known", ("eval", ("value", ["1"]))), ("known", ("range", ("value", [1, 2, 0]))), ("known", ("range", ("value", []))),
        ("known", ("range", ("value", "abc"))), ("known", ("complex", ("value", ["x" * 9]))), ("known", ("Fraction", ("value", [1, 0]))),
        ("known", ("Fraction", ("value", [1 << 100_000, 3]))), ("known", ("Decimal", ("value", ["1E+999999"]))),
        ("known", ("Decimal", ("value", ["9" * 10_000]))), ("known", ("Decimal", ("value", ["x"]))), ("known", ("Decimal", ("value", [1 << 9]))),
        ("known", ("Fraction", ("value", ["1e999999999"]))), ("known", ("range", ("value", [10**12]))), ("known", ("range", ("value", [10**400]))),
        ("known", ("complex", ("value", ["1"]))), ("known", ("date", ("value", [b"1234"]))), ("known", ("date", ("value", [0, 0, 0]))), ("known", ("timedelta", ("value", [10**12]))), ("known", ("dict_keys", ("value", [1]))),
        ("set", 3), ("set", [3]), ("set", [("value", [1])]), ("set", [("value", 1), ("value", 1)]), ("set", [("object", (0, "x"))]),
        ("frozenset", [("list", [])]), ("set", [("value", place) for place in range(1001)]),
        ("set", [("value", place * ((1 << 61) - 1)) for place in range(17)]), ("set", [("known", ("Decimal", ("value", ["sNaN"])))]),
        ("pairs", 3), ("pairs", ([("value", 1)], [])), ("pairs", ([("value", [])], [("value", 1)])),
        ("pairs", ([("value", 1), ("value", 1.0)], [("value", 1), ("value", 2)])),
        ("object", 3), ("known", (["x"], ("value", []))), ("known", ("deque", ("value", 3))), ("known", ("deque", ("object", 3))),
    ],
)  # fmt: skip
def test_what_a_box_answers_may_be_anything(packed: Any) -> None:
    with pytest.raises(ValueError):
        unpack(packed, unresolved)


@pytest.mark.parametrize(
    "value",
    [range(5), 1j, Fraction(1, 3), Decimal("NaN"), Decimal("0.10"), datetime.date(2026, 1, 1), datetime.time(1, 2, 3, 4),
     datetime.timedelta(-1, 2, 3), [range(2), (1j,)], {"a": range(1), 2: [1j]}, {1: 2}, [[[]]], {(1, 2): range(1)},
     {frozenset({1})}, {(1, frozenset({2})): {1j}}, {Fraction(1, 2): 3}, {frozenset({frozenset({1j})})}],
)  # fmt: skip
def test_what_is_packed_comes_out_again(value: Any) -> None:
    again = unpack(pack(value, objects.hold), unresolved)
    assert repr(again) == repr(value)


def test_a_box_understands_all_that_tests_send() -> None:
    """Both sides run packing.py, and each name is a type of Python."""
    for name, (module, *_) in packing._KNOWN.items():
        assert isinstance(getattr(__import__(module), name), type)


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [(2, True, False), ({1}, {1.0}, True), ({1}, {True}, False), ((1, 2), [1, 2], False), (range(2), [0, 1], False),
     (Decimal("sNaN"), 1, False), (b"a", bytearray(b"a"), True), ({"a": 1}.keys(), {"a"}, True), (1, Fraction(1), True)],
)  # fmt: skip
def test_equal_as_python_says(value: Any, expected: Any, same: bool) -> None:
    assert alike(value, expected, None) is same


@pytest.mark.parametrize("value", [Decimal("sNaN"), Decimal("NaN"), 10**400, float("nan"), True, "1"], ids=str)
@pytest.mark.parametrize("expected", [1, 1.0, 1 + 2j, Fraction(1, 3), Decimal(1), Decimal("sNaN"), 10**401], ids=str)
def test_no_value_makes_a_comparison_of_numbers_raise(value: Any, expected: Any) -> None:
    """Otherwise the test would seem to be wrong."""
    assert not alike(value, expected, 0.1)


def test_an_answer_is_told_as_it_came() -> None:
    heard, value = SubmissionOutput(), [3, 1, 2]
    heard.answered(SubmissionCall(action="call", target=None, name="f"), "f()", value, "")
    value.sort()
    assert heard.used_in(IndexError()).startswith("f() returned [3, 1, 2], and")


class Counted(list[Any]):
    """A list that counts how often it is iterated."""

    times = 0

    def __iter__(self) -> Any:
        Counted.times += 1
        return super().__iter__()


@pytest.mark.parametrize("inside", [(), (object(),)])
def test_what_refers_to_itself_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, inside: tuple[object, ...]) -> None:
    """For example the nodes of a doubly linked list."""
    monkeypatch.setattr(packing, "_PACKED_LEVELS", 12)
    nodes = [Counted() for _ in range(12)]
    for one, other in itertools.pairwise(nodes):
        one += [other, *inside]
        other.append(one)
    assert packing.is_plain(nodes[0], 12) is (not inside)
    pack(nodes[0], lambda each: ("object", (id(each), "")))
    assert Counted.times < 1000


def test_nodes_that_know_each_other() -> None:
    code = (
        "class P: pass\n"
        "def f(n):\n    a, b = {'value': 1, 'before': None}, {'value': 2}\n    a['behind'] = b\n    b['before'] = a\n"
        "    b['behind'] = a\n    if n: b['who'] = P()\n    return a\n"
    )
    tests = (
        "def test_plain(student): student.expect('f', 0, returns=1)\n"
        "def test_objects(student): assert student.call('f', 1)['behind']['value'] == 2\n"
    )
    (grade,) = graded(tests, code)
    found = told(grade)
    assert found["plain"][0] == "wrong_answer"
    assert "contains itself" in found["plain"][1]
    assert found["objects"] == ("ok", "")
