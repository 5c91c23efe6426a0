"""What expressions mean: Python's own semantics, values by copy, names that are not kept, functions, limits, errors."""

import datetime
import functools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import proxybox
from proxybox import Evaluator, ExecutionError, HostFunction, Status

EACH_GUEST = True

#: The time limit is long enough for a busy machine.
evaluate = functools.partial(proxybox.evaluate, timeout=60)


@pytest.fixture(scope="module")
def kept(guest_kind: str) -> Iterator[Evaluator]:
    with Evaluator(timeout=60) as evaluator:
        yield evaluator


def fault(evaluator: Callable[..., Any], *args: Any, **options: Any) -> proxybox.Result:
    """Returns the result in the exception of a failed expression."""
    with pytest.raises(ExecutionError) as caught:
        evaluator(*args, **options)
    return caught.value.result


def error_of(evaluator: Callable[..., Any], *args: Any, **options: Any) -> proxybox.GuestError:
    """Returns the error of a failed expression."""
    error = fault(evaluator, *args, **options).error
    assert error is not None
    return error


# --- semantics --------------------------------------------------------------------------------------------------------

ORDER: dict[str, Any] = {"total": 120.5, "items": ["tea", "cake"], "who": {"name": "Ada", "tags": {"vip"}}}


@pytest.mark.parametrize(
    "expression",
    [
        "total",
        "total * 2 if total > 100 else 0",
        "'tea' in items and 'vip' in who['tags']",
        "[name.upper() for name in items if len(name) <= len(items) + 2]",
        "{key: [total for _ in items] for key in who}",
        "sorted(items, key=lambda item: (len(item), total))",
        "(lambda f: f(f, 10))(lambda f, n: 1 if n < 2 else n * f(f, n - 1))",
        "(half := total / 2) + half",
        "[last := item for item in items] and last",
        "[[y for y in range(x) if y < total] for x in range(3)]",
        "f'{total:.2f} {items[0]!r:>8}'",
        "eval('total + 1'), globals()['items'], [eval('total') for _ in items]",
        "sum(map(lambda n: n * total, range(10)))",
        "__import__('math').floor(total)",
        "  total",
        "(total +\n 1)",
        "2 ** 200, b'bytes', None, total",
    ],
)
def test_an_expression_means_what_it_means_to_python(kept: Evaluator, expression: str) -> None:
    assert kept(expression, ORDER) == eval(expression, {**ORDER})


def test_values_of_all_kinds_go_and_come() -> None:
    when = datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC)
    value = (None, True, -(10**40), 1.5, "t\ud800\0", b"\0", [1, [2]], (), {"k": {3}}, when)
    assert evaluate("x", {"x": value}) == value
    flat = {"a": None, "b": False, "c": 10**40, "d": -0.0, "e": "t\ud800\0", "f": math.inf}
    found = evaluate("a, b, c, d, e, f", flat)
    assert found == tuple(flat.values())
    assert math.copysign(1, found[3]) == -1
    assert math.isnan(evaluate("x", {"x": math.nan}))


def test_a_mapping_of_another_type_will_do_for_names(kept: Evaluator) -> None:
    assert kept("a - b", OrderedDict(a=3, b=1)) == 2


def test_the_names_are_python_s_own_and_those_that_are_given(kept: Evaluator) -> None:
    assert kept("len(x)", {"x": "four"}) == 4
    assert kept("len", {"len": 3}) == 3
    assert kept("len('abc')") == 3
    assert error_of(kept, "missing('a')").type == "NameError"


# --- copies -----------------------------------------------------------------------------------------------------------


def test_what_an_expression_changes_is_a_copy(kept: Evaluator) -> None:
    rows = [[1], [2]]
    assert kept("rows.append(3) or rows[0].append(rows) or len(rows)", {"rows": rows}) == 3
    assert rows == [[1], [2]]
    value = kept("rows", {"rows": rows})
    assert value == rows
    assert value is not rows


def test_no_name_stays(kept: Evaluator) -> None:
    assert kept("[a, (b := 2), [c := n for n in range(3)]]", {"a": 1})[:2] == [1, 2]
    for name in "abc":
        assert error_of(kept, name).type == "NameError"
    assert kept("globals().update(d=1) or d") == 1
    assert error_of(kept, "d").type == "NameError"


def test_names_of_the_evaluator_are_as_they_were_for_every_expression() -> None:
    with Evaluator(names={"table": {"a": [1]}, "rate": 0.5}, timeout=60) as kept:
        assert kept("table['a'].append(2) or table.update(b=rate) or table") == {"a": [1, 2], "b": 0.5}
        assert kept("table") == {"a": [1]}
        assert kept("rate, table", {"rate": 2}) == (2, {"a": [1]})
        assert kept("rate") == 0.5


def test_statements_before_the_first_expression() -> None:
    setup = "import math\nfrom collections import Counter\ndef double(x): return 2 * x * rate\n"
    with Evaluator(setup=setup, names={"rate": 10}, timeout=60) as kept:
        assert kept("double(math.floor(x)), Counter('aab')['a']", {"x": 1.5}) == (20, 2)
    with pytest.raises(ExecutionError, match="ZeroDivisionError") as caught:
        Evaluator(setup="x = 1\nx / 0")
    error = caught.value.result.error
    assert error is not None
    assert 'File "<setup>", line 2' in error.traceback


# --- functions --------------------------------------------------------------------------------------------------------


def test_functions_are_called_by_their_names() -> None:
    prices = {"tea": 3, "cake": 5}
    with Evaluator(functions={"price": prices.get}, timeout=60) as kept:
        assert kept("sum(map(price, basket))", {"basket": ["tea", "cake", "tea"]}) == 11
        assert kept("price(x, -1)", {"x": "gold"}) == -1
        assert kept("price(x) + more(1, by=2)", {"x": "tea"}, {"more": lambda n, by: n + by}) == 6
        assert error_of(kept, "more(1, 2)").type == "NameError"
        assert kept("price(1)", functions={"price": lambda n: "another"}) == "another"
        assert kept("price('tea')") == 3
    assert evaluate("f(20) + g(1)", {}, {"f": lambda n: n * 2, "g": lambda n: n + 1}) == 42


def test_a_function_gets_and_gives_copies() -> None:
    rows: list[int] = []
    assert evaluate("f(x).append(1) or f(x)", {"x": [5]}, {"f": lambda x: x.append(6) or rows}) == []
    assert rows == []


def test_what_a_function_raises_is_raised_in_the_expression() -> None:
    class Mine(Exception):
        pass

    def fails(kind: str) -> None:
        raise {"mine": Mine, "value": ValueError}[kind]("told")

    error = error_of(evaluate, "fails('value')", functions={"fails": fails})
    assert (error.type, error.message) == ("ValueError", "told")
    assert error_of(evaluate, "fails('mine')", functions={"fails": fails}).message == "Mine: told"
    error = error_of(evaluate, "fails(1)", functions={"fails": lambda n: object()})
    assert "cannot cross" in error.message


def test_a_function_with_a_timeout_of_its_own() -> None:
    over = threading.Event()
    function = HostFunction(over.wait, timeout=0.05)
    try:
        assert error_of(evaluate, "wait()", functions={"wait": function}).type == "TimeoutError"
    finally:
        over.set()


def test_functions_of_one_expression_cannot_be_called_by_the_next(kept: Evaluator) -> None:
    assert kept("setattr(__import__('sys'), 'taken', secret) or secret()", functions={"secret": lambda: 7}) == 7
    error = error_of(kept, "__import__('sys').taken()")
    assert error.type == "OSError"
    assert error_of(kept, "__import__('sys').taken()", functions={"f": len}).type == "ValueError"


def test_a_function_that_evaluates_expressions() -> None:
    """The inner evaluation does not wait for the box of the outer one."""
    with Evaluator(size=1, timeout=60) as kept:

        def nested(n: int) -> int:
            found: int = kept("n and 1 + nested(n - 1)", {"n": n}, {"nested": nested})
            return found

        assert kept("nested(5)", functions={"nested": nested}) == 5
        apart = HostFunction(nested, timeout=60)
        assert kept("nested(3)", functions={"nested": apart}) == 3
        error = error_of(kept, "nested(1000)", functions={"nested": nested})
        assert (error.type, "deep" in error.message) == ("HostError", True)
        assert kept.ready == 1


# --- limits -----------------------------------------------------------------------------------------------------------

ENDLESS = "(lambda: [0 for _ in iter(int, 1)])()"


@pytest.mark.parametrize(
    "expression", [ENDLESS, f"__import__('contextlib').suppress(BaseException).__exit__(*[None] * 3) or {ENDLESS}"]
)
def test_an_endless_expression_is_ended(kept: Evaluator, expression: str) -> None:
    with pytest.raises(proxybox.TimeLimitExceeded, match=r"limits\.wall_time"):
        kept(expression, timeout=0.2)
    assert kept("1 + 1") == 2


def test_an_expression_is_ended_without_a_word(kept: Evaluator) -> None:
    """A session's time limit would interrupt it first: it could handle the interrupt, and continue for a while."""
    seen: list[int] = []
    stay = "def stay():\n while True:\n  try:\n   while True: pass\n  except BaseException: tell(1)"
    stubborn = f"[exec({stay!r}, globals()), stay()]"
    assert fault(kept, stubborn, functions={"tell": seen.append}, timeout=0.2).status == Status.TIME_LIMIT
    assert seen == []
    assert kept("1 + 1") == 2


def test_a_memory_bomb(kept: Evaluator) -> None:
    with pytest.raises(proxybox.MemoryLimitExceeded):
        kept("[bytearray(1 << 20) for _ in iter(int, 1)]", timeout=60)
    with pytest.raises(proxybox.MemoryLimitExceeded):
        kept("'x' * 10**12")
    assert kept("1 + 1") == 2


def test_too_much_output_and_a_crash(kept: Evaluator) -> None:
    assert fault(kept, "print('x' * 10**6)").status == Status.OUTPUT_LIMIT
    assert fault(kept, "__import__('ctypes').string_at(8)").status == Status.CRASHED
    assert kept("print('a line')") is None


def test_the_policy_s_limits_hold_and_the_caller_s_timeout_instead_of_them() -> None:
    with Evaluator("strict", limits={"wall_time": 0.1}) as kept:
        assert fault(kept, ENDLESS).why.startswith("limits.wall_time")
        assert kept(f"sum(range({10**6}))", timeout=60) == 499_999_500_000
    with Evaluator(timeout=0.1) as kept:
        assert fault(kept, ENDLESS).why.startswith("limits.wall_time")
    with Evaluator(limits={"cpu_time": 0.1}) as kept:
        assert fault(kept, ENDLESS, timeout="none").why.startswith("limits.cpu_time")


def test_the_sizes_of_what_crosses() -> None:
    with Evaluator(session={"value_size": "64K"}, timeout=60) as kept:
        assert kept("len(x)", {"x": "a" * 60_000}) == 60_000
        with pytest.raises(ValueError, match=r"takes more than [\d,]+ bytes"):
            kept("len(x)", {"x": "a" * 400_000})
        with pytest.raises(proxybox.PolicyError, match=r"expression: want at most 64 KiB \(session\.value_size\), got"):
            kept("1 +" + " " * 70_000 + "1")
        assert "takes more than" in error_of(kept, "'a' * 70_000").message
        with pytest.raises(proxybox.PolicyError, match="names: want at most 10,000 names, got 10,001"):
            kept("1", {f"a{n}": 0 for n in range(10_001)})
        assert kept("a9 + a1999", {f"a{n}": n for n in range(2000)}) == 2008


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_expression_that_fails_says_where(kept: Evaluator) -> None:
    error = error_of(kept, "(total +\n missing)", {"total": 1})
    assert error.type == "NameError"
    assert 'File "<expression>", line 2, in <module>\n    missing)' in error.traceback
    assert "/usr/lib/proxybox" not in error.traceback


@pytest.mark.parametrize("expression", ["1 +", "x = 1", "import os", "", "for", "await x", "1; 2", "a b", "'"])
def test_what_is_no_expression(kept: Evaluator, expression: str) -> None:
    with pytest.raises(ExecutionError, match="syntax error") as caught:
        kept(expression)
    result = caught.value.result
    assert result.status == Status.SYNTAX_ERROR
    assert result.error is not None
    assert 'File "<expression>", line ' in result.error.traceback


def test_what_raises_a_syntax_error_itself_is_no_syntax_error(kept: Evaluator) -> None:
    assert fault(kept, "eval('1 +')").status == Status.ERROR


@pytest.mark.parametrize(
    "expression", ["exit()", "__import__('sys').exit()", "__import__('sys').exit(3)", "[].__class__(1 for _ in exit())"]
)
def test_an_exit_is_no_value(kept: Evaluator, expression: str) -> None:
    result = fault(kept, expression)
    assert result.status == Status.ERROR
    assert result.error is not None
    assert result.error.type == "SystemExit"


@pytest.mark.parametrize(
    "expression", ["object()", "len", "lambda: 1", "(n for n in 'a')", "[object()]", "__builtins__"]
)
def test_a_value_that_is_no_plain_data(kept: Evaluator, expression: str) -> None:
    with pytest.raises(ExecutionError, match="cannot cross the boundary"):
        kept(expression)


@pytest.mark.parametrize(
    ("arguments", "error", "seen"),
    [
        ((1,), TypeError, r"expression: want an expression \(str\), got 1"),
        (("1", [1]), TypeError, r'names: want a mapping of names to values, got \[1\]: write {"name": value}'),
        (("1", {1: 2}), TypeError, r"names: want names that are text \(str\), got 1"),
        (("1", {"a b": 2}), proxybox.PolicyError, "names: want names that an expression can have"),
        (("1", {"a": [object()]}), TypeError, r"names\['a'\]\[0\]: a 'object' object cannot cross"),
        (("1", {}, [len]), TypeError, "functions: want a mapping of names to functions"),
        (("1", {}, {"f": 1}), proxybox.PolicyError, "functions: f: want a function, not int"),
        (("1", {}, {"a b": len}), proxybox.PolicyError, "functions: 'a b' is no name"),
        (("1", {"f": 1}, {"f": len}), proxybox.PolicyError, "names, functions: 'f' is in both"),
    ],
)
def test_arguments_that_make_no_sense(
    kept: Evaluator, arguments: tuple[Any, ...], error: type[Exception], seen: str
) -> None:
    with pytest.raises(error, match=seen):
        kept(*arguments)
    with pytest.raises(proxybox.PolicyError, match="timeout"):
        kept("1", timeout=-1)
    assert kept.ready == 1, "its box was not used for that"


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"size": 0}, "size: want a whole number of 1 or more"),
        ({"fresh": 1}, "fresh: want True or False"),
        ({"setup": b"x"}, "setup: want source text"),
        ({"names": {"x y": 1}}, "names: want names"),
        ({"names": {"x": object()}}, r"names\['x'\]: a 'object' object cannot cross"),
        ({"names": {"x": 1}, "functions": {"x": len}}, "'x' is in both"),
        ({"policy": "nonesuch"}, "there is no preset"),
        ({"nonesuch": 1}, "nonesuch"),
    ],
)
def test_evaluators_that_make_no_sense(options: dict[str, Any], seen: str) -> None:
    with pytest.raises((TypeError, ValueError), match=seen):
        Evaluator(**options)


def test_a_coroutine_function_is_refused() -> None:
    async def later() -> None:
        pass

    with pytest.raises(proxybox.PolicyError, match="later is a coroutine function"):
        evaluate("later()", functions={"later": later})
