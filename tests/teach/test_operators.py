"""Python's operators on a submission's objects have their usual meaning, and do not show a box the expected value."""

import operator
from typing import Any

import pytest

from proxybox.teach import operators
from proxybox.teach.grades import Grade, Verdict
from proxybox.teach.grading import Packed, Task, grade_some
from proxybox.teach.submissions import Submission

# ruff: noqa: E501 - programs on one line

RIGHT = """
class Clock:
    def __init__(self, minutes): self.minutes = minutes
    def __eq__(self, other): return isinstance(other, Clock) and self.minutes == other.minutes
    def __lt__(self, other): return self.minutes < other.minutes if isinstance(other, Clock) else NotImplemented
    def __hash__(self): return hash(self.minutes)
    def __add__(self, more): return Clock(self.minutes + getattr(more, "minutes", more))
    def __rsub__(self, more): return Clock(more - self.minutes)
    def __neg__(self): return Clock(-self.minutes)
    def __abs__(self): return abs(self.minutes)
    def __str__(self): return f"{self.minutes // 60:02}:{self.minutes % 60:02}"
    def __repr__(self): return f"Clock({self.minutes})"
    def __bool__(self): return self.minutes != 0
    def __int__(self): return self.minutes
class Shelf:
    def __init__(self, *books): self.books = list(books)
    def __len__(self): return len(self.books)
    def __getitem__(self, place): return self.books[place]
    def __setitem__(self, place, book): self.books[place] = book
    def __delitem__(self, place): del self.books[place]
    def __contains__(self, book): return book in self.books
    def __iadd__(self, other):
        self.books += other.books
        return self
    def last(self): return self.books[-1]
def clocks(): return [Clock(1), Clock(2)]
from collections import namedtuple
Point = namedtuple("Point", "x y")
Number = int
def points(): return [Point(1, 2), Point(3, 4)]
"""
#: The same classes without special methods except __init__.
PLAIN = """
class Clock:
    def __init__(self, minutes): self.minutes = minutes
class Shelf:
    def __init__(self, *books): self.books = list(books)
def clocks(): return [Clock(1), Clock(2)]
class Point:
    def __init__(self, x, y): self.x, self.y = x, y
class Number(Point):
    def __init__(self, x): self.x = x
def points(): return [Point(1, 2), Point(3, 4)]
"""
TESTS = """
def clock(student, minutes): return student.new("Clock", minutes)
def test_eq(student): assert clock(student, 3) == clock(student, 3)
def test_ne(student): assert not clock(student, 3) != clock(student, 3)
def test_lt(student): assert clock(student, 3) < clock(student, 4)
def test_gt(student): assert clock(student, 4) > clock(student, 3)
def test_hash(student): assert len({clock(student, 3), clock(student, 3)}) == 1
def test_add(student): assert clock(student, 3) + clock(student, 4) == clock(student, 7)
def test_add_a_value(student): assert clock(student, 3).call("__add__", 4) == clock(student, 7)
def test_reflected(student): assert clock(student, 3).call("__rsub__", 4) == clock(student, 1)
def test_neg(student): assert (-clock(student, 3)).get("minutes") == -3
def test_abs(student): assert abs(clock(student, -3)) == 3
def test_str(student): assert str(clock(student, 63)) == "01:03"
def test_format(student): assert f"{clock(student, 63)}" == "01:03"
def test_repr(student): assert repr(clock(student, 63)) == "Clock(63)"
def test_bool(student): assert not clock(student, 0)
def test_int(student): assert int(clock(student, 63)) == 63
def test_in_a_list(student): assert clock(student, 2) in student.call("clocks")
def test_of_a_list(student): assert student.call("clocks") == [clock(student, 1), clock(student, 2)]
def test_expected(student): student.expect("clocks", returns=[clock(student, 1), clock(student, 2)])
def test_len(student): assert len(student.new("Shelf", 1, 2)) == 2
def test_item(student): assert student.new("Shelf", 1, 2)[1] == 2
def test_setting_an_item(student):
    shelf = student.new("Shelf", 1, 2)
    shelf[1] = 3
    assert shelf.last() == 3
def test_deleting_an_item(student):
    shelf = student.new("Shelf", 1, 2)
    del shelf[1]
    assert shelf.last() == 1
def test_contains(student): student.new("Shelf", 1, 2).expect("__contains__", 2, returns=True)
def test_named_tuple(student): assert student.call("points") == [student.new("Point", 1, 2), student.new("Point", 3, 4)]
def test_named_tuples_expected(student): student.expect("points", returns=[student.new("Point", 1, 2), student.new("Point", 3, 4)])
def test_value(student): assert 2 + student.new("Number", 3) * 2 - student.new("Number", 1) < 8
def test_in_place(student):
    shelf = student.new("Shelf", 1)
    shelf += student.new("Shelf", 2)
    assert shelf.last() == 2
"""


def graded(tests: str, *codes: str, model: str = "") -> tuple[Grade, ...]:
    files = {
        "exercise.toml": b"title = 'T'\ntext = 'T.'\n[limits]\ncpu_time = 2\nwall_time = 6\n",
        "tests/test_it.py": f"import pytest\n{tests}".encode(),
    }
    if model:
        files["solutions/model.py"] = model.encode()
    given = tuple(Submission(student=f"s{n}", files={"solution.py": code.encode()}) for n, code in enumerate(codes))
    return grade_some(Task(exercise=Packed(files), submissions=given))


def by_name(grade: Grade) -> dict[str, Verdict]:
    return {test.name: test for test in grade.tests if test.possible}


def test_operators_are_those_of_the_class() -> None:
    right, plain = graded(TESTS, RIGHT, PLAIN)
    assert {name: test.message for name, test in by_name(right).items() if not test.passed} == {}
    # without own methods Python's default is used, as usual: no test passes, and no test is at fault
    assert [name for name, test in by_name(plain).items() if test.passed] == []
    assert {test.status for test in by_name(plain).values()} == {"wrong_answer", "error"}
    seen = by_name(plain)
    assert seen["len"].message.startswith("len(Shelf(1, 2)) raised TypeError: ")
    assert seen["add a value"].message.startswith("Clock(3) + 4 raised TypeError: unsupported operand")
    assert seen["reflected"].message.startswith("4 - Clock(3) raised TypeError: unsupported operand")


LISTS = """
class NoLength:
    def __iter__(self): return iter([1, 2])
class WrongLength(NoLength):
    def __len__(self): return "2"
"""


def test_lists_are_made_of_what_has_no_length() -> None:
    tests = "".join(
        f"def test_{name}(student): assert list(student.new('{name}')) == [1, 2]\n"
        f"def test_len_of_{name}(student): len(student.new('{name}'))\n"
        for name in ("NoLength", "WrongLength")
    )
    found = by_name(graded(tests, LISTS)[0])
    assert {name: test.status for name, test in found.items()} == {
        "NoLength": "ok", "WrongLength": "ok", "len of NoLength": "error", "len of WrongLength": "error",
    }  # fmt: skip


ATTRIBUTES = """
def test_set(student):
    clock = student.new("Clock", 1)
    clock.minutes = 5
    assert clock.get("minutes") == 5
def test_object(student):
    clock, other = student.call("clocks")
    clock.minutes = other
    assert clock.get("minutes") is other
def test_refused(student):
    student.new("Fixed").minutes = 5
"""


def test_attributes_can_be_set() -> None:
    (grade,) = graded(ATTRIBUTES, RIGHT + "class Fixed:\n    minutes = property(lambda self: 1)\n")
    seen = by_name(grade)
    assert [seen["set"].status, seen["object"].status] == ["ok", "ok"]
    assert seen["refused"].status == "error"
    assert seen["refused"].message.startswith("Fixed().minutes = 5 raised AttributeError")


EQUALS_ALL = """
class Any:
    def __init__(self, *given): pass
    def __getattr__(self, name): return lambda *given: self
    for name in "eq ne lt le gt ge bool contains".split(): locals()[f"__{name}__"] = lambda *given: True
    for name in "add sub mul truediv pow mod radd rsub rmul rtruediv rpow rmod abs neg float round".split():
        locals()[f"__{name}__"] = lambda *given: 0.0
    __hash__ = None
def f(*given): return Any()
Clock = Any
"""
WITH_VALUES = """
def test_eq(student): assert student.call("f") == 5
def test_eq_reflected(student): assert 5 == student.call("f")
def test_not_ne(student): assert not student.call("f") != 5
def test_lt(student): assert 0 < student.call("f") < 7
def test_near(student): assert abs(student.call("f") - 5) < 0.01
def test_near_reflected(student): assert abs(5 - student.call("f")) < 0.01
def test_approx(student): assert student.call("f") == pytest.approx(5)
def test_in(student): assert 5 in student.call("f")
def test_in_a_list(student): assert student.call("f") in [5, 6]
def test_of_an_object(student): assert abs(student.new("Clock", 1).minutes() - 5) < 0.01
def test_expected(student): student.expect("f", returns=5)
def test_near_expected(student): student.expect("f", returns=5, tolerance=1e9)
def test_len(student): assert len(student.call("f")) == 3
def test_text(student): assert str(student.call("f")) == "5"
"""


def test_what_claims_to_be_everything_gains_nothing() -> None:
    for test in by_name(graded(WITH_VALUES, EQUALS_ALL)[0]).values():
        assert test.status in ("wrong_answer", "error"), test
        assert test.message, test


def test_arguments_are_copies_and_lists_in_the_box_are_not() -> None:
    tests = """
def test_copy(student):
    numbers = [3, 1]
    student.call("sort", numbers)
    assert numbers == [3, 1]
def test_in_the_box(student):
    numbers = student.new("list", [3, 1])
    student.call("sort", numbers)
    assert list(numbers) == [1, 3]
    assert numbers == [1, 3]
"""
    (grade,) = graded(tests, "def sort(numbers): numbers.sort()")
    assert {test.status for test in by_name(grade).values()} == {"ok"}


def test_the_output_of_a_comparison_is_not_that_of_the_call() -> None:
    code = """
class A:
    def __eq__(self, other):
        print("==")
        return True
def f():
    print("f")
    return A()
"""
    tests = """
def test_output(student):
    student.expect("f", returns=student.new("A"))
    student.expect_output("f")
"""
    (grade,) = graded(tests, code)
    assert by_name(grade)["output"].passed, grade


def test_what_an_operator_raises_here_is_the_submissions() -> None:
    tests = """
def test_division(student): assert 1 / student.new("Number", 0) == 1
def test_no_number(student): assert student.new("Number", 0) + "x" == 1
def test_no_value(student): assert student.new("sorted", [3]) < 5
def test_no_name(student): assert student.new("Number", 0) == fuor
"""
    (grade,) = graded(tests, "Number = int")
    found = {name: test.status for name, test in by_name(grade).items()}
    assert found.pop("no name") == "internal_error"
    assert set(found.values()) == {"wrong_answer"}


#: A box that claims a type which the operation cannot have.
CLAIMS = """
import builtins
builtins.__proxybox_objects__ = lambda action, *_: ("object", (0, "x")) if action == "new" else ("value", [])
Clock = None
"""


def test_claims_of_another_type_are_not_the_tests_fault() -> None:
    tests = "\n".join(
        f"def test_{name}(student): {name}(student.new('Clock', 1))"
        for name in ("str", "repr", "format", "len", "hash", "bool", "int", "float")
    )
    for test in by_name(graded(tests, CLAIMS, model=RIGHT)[0]).values():
        assert (test.status, "no answer that makes sense" in test.message) == ("error", True), test


@pytest.mark.parametrize("name", sorted({*operators._INFIX, "neg", "pos", "invert", "contains", "getitem"}))
def test_operators_have_pythons_names(name: str) -> None:
    assert callable(getattr(operator, name))
    assert operators._OPERANDS[name]
    for each in (f"__{name.strip('_')}__",):
        operands: list[Any] = [1] * (operators._OPERANDS[name][0] - 1)
        assert operators.operation(each, 0, operands) == (name, (0, *operands))
        assert name == "contains" or hasattr(operators.Operators, each)


CONTAINERS = """
from collections import Counter, OrderedDict, defaultdict, deque
class Node(dict):
    def __init__(self, name, *nodes):
        super().__init__({node.name: node for node in nodes})
        self.name, self.nodes = name, list(nodes)
class Pile(list):
    pass
class Liar(Pile):
    def __eq__(self, other): return True
    __hash__ = None
def tree(): return Node("root", Node("left"), Node("right"))
def pile(*given, kind=Pile):
    made = kind(given)
    made.name = "pile"
    return made
def liar(*given): return pile(*given, kind=Liar)
def plain(): return [Counter("a"), OrderedDict(a=1), defaultdict(int, a=1), Pile([1]), deque([1])]
"""
WITH_ATTRIBUTES = """
from collections import Counter
def test_attributes(student):
    tree = student.call("tree")
    assert tree.get("name") == "root"
    assert [node.get("name") for node in tree.get("nodes")] == ["left", "right"]
    assert tree.get("nodes")[0].get("nodes") == []
def test_contents(student):
    student.expect("tree", returns={"left": {}, "right": {}})
    assert student.call("tree") == {"left": {}, "right": {}}
    assert {"left": {}, "right": {}} == student.call("tree")
    assert list(student.call("tree")) == ["left", "right"]
    assert student.call("tree")["left"].get("name") == "left"
def test_others(student):
    student.expect("pile", 1, [2], returns=[1, [2]])
    assert student.call("pile", 1, 2) + [3] == [1, 2, 3]
    assert len(student.call("pile", 1, 2)) == 2
def test_plain(student):
    assert student.call("plain") == [Counter("a"), {"a": 1}, {"a": 1}, [1], __import__("collections").deque([1])]
def test_kind(student): student.expect("pile", 1, returns=(1,))
def test_liar(student): assert student.call("liar", 1) == [2]
def test_liar_expected(student): student.expect("liar", 1, returns=[2])
"""


def test_containers_with_attributes_have_these_and_what_they_hold() -> None:
    seen = by_name(graded(WITH_ATTRIBUTES, CONTAINERS)[0])
    assert {name: test.status for name, test in seen.items()} == {
        "attributes": "ok", "contents": "ok", "others": "ok", "plain": "ok",
        "kind": "wrong_answer", "liar": "wrong_answer", "liar expected": "wrong_answer",
    }, seen  # fmt: skip
    assert seen["kind"].message == "pile(1) returned a Pile object, and (1,) was expected."


SLOW = """
class Slow(list):
    def __iter__(self):
        x = 0
        for i in range(25000000): x += i
        return super().__iter__()
def row(number):
    made = Slow([number])
    made.name = "row"
    return made
def rows(): return [row(number) for number in range(500)]
"""


@pytest.mark.sized(1)
@pytest.mark.parametrize("test", [
    "def test_slow(student): student.expect('rows', returns=[[number] for number in range(500)])",
    "def test_slow(student): assert student.call('rows') == [[number] for number in range(500)]",
])  # fmt: skip
def test_the_values_of_many_objects_take_no_more_time_than_one_call(test: str) -> None:
    """Each value is read within its limit. A right result would mean that all of them were read."""
    (seen,) = graded(test, SLOW)[0].tests
    assert (seen.status, seen.fault) == ("time_limit", ""), seen
    assert "did not end in time" in seen.message


def test_many_objects_that_tell_their_values_at_once_are_compared() -> None:
    quick = SLOW.replace("range(25000000)", "()")
    (seen,) = graded("def test_it(student): student.expect('rows', returns=[[n] for n in range(500)])", quick)[0].tests
    assert seen.status == "ok", seen


SLICES = """
def test_some(student): assert student.call("pile", 1, 2, 3)[1:] == [2, 3]
def test_every_other(student): assert student.call("pile", 1, 2, 3)[::2] == [1, 3]
def test_set(student):
    made = student.call("pile", 1, 2)
    made[:1] = [5, 6]
    assert made == [5, 6, 2]
def test_to_a_number_of_the_submission(student): assert student.call("pile", 1, 2)[:student.new("one")] == [1]
def test_no_list(student): assert student.call("pile", 1, kind=student.new("Thing"))[1:2] == [2]
"""
SLICED = f"{CONTAINERS}\ndef one(): return 1\ndef Thing(): return lambda given: thing\nclass thing: pass\n"


def test_an_object_that_a_test_slices_is_not_the_tests_fault() -> None:
    seen = by_name(graded(SLICES, SLICED)[0])
    assert {name: (test.status, test.fault) for name, test in seen.items()} == {
        "some": ("ok", ""), "every other": ("ok", ""), "set": ("ok", ""),
        "to a number of the submission": ("ok", ""), "no list": ("error", ""),
    }, seen  # fmt: skip
    assert "[1:2] raised TypeError: " in seen["no list"].message
