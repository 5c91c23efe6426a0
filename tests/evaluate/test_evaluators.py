"""Evaluators: effects of an expression on the next one, boxes that break, threads, forks, closing."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import proxybox
from proxybox import (
    Evaluator,
    ExecutionError,
    SandboxClosedError,
    SandboxStartError,
    Status,
    TimeLimitExceeded,
    evaluating,
)
from proxybox.controller.errors import CannotCopy
from proxybox.evaluating import shared
from proxybox.evaluating.session import ExpressionBox, ExpressionSession
from tests import leaks

EACH_GUEST = True


@pytest.fixture(scope="module")
def fresh(guest_kind: str) -> Iterator[Evaluator]:
    with Evaluator(fresh=True, size=2, names={"table": [1]}, functions={"up": str.upper}, timeout=60) as evaluator:
        yield evaluator


@pytest.fixture
def kept(guest_kind: str) -> Iterator[Evaluator]:
    with Evaluator(timeout=60, size=2) as evaluator:
        yield evaluator


def pids() -> set[int]:
    return set(leaks.children())


# --- what one expression can do to the next ---------------------------------------------------------------------------

#: An attack, the next expression, and its correct value.
POISONS = {
    "builtins": ("setattr(__import__('builtins'), 'pow', lambda *x: 666)", "pow(2, 3)", 8),
    "modules": ("__import__('sys').modules.update(math=[1])", "hasattr(__import__('math'), 'pi')", True),
    "the library": ("setattr(__import__('json'), 'dumps', lambda x: 'no')", "__import__('json').dumps(1)", "1"),
    "names of all": ("__import__('__main__').__dict__.update(table=[666])", "table", [1]),
    "names that nobody has given": ("__import__('__main__').__dict__.update(new=1)", "'new' in globals()", False),
    "functions of the caller": ("__import__('__main__').__dict__.update(up=len)", "up('a')", "A"),
    "a file": ("print(1, file=open('/tmp/left', 'w'), flush=True)", "__import__('os').path.exists('/tmp/left')", False),
    "the folder": ("__import__('os').chdir('/tmp')", "__import__('os').getcwd()", "/box"),
    "recursion": ("__import__('sys').setrecursionlimit(50)", "(f := lambda n: n and f(n - 1))(80)", 0),
    "the environment": ("__import__('os').environ.update(A='1')", "'A' in __import__('os').environ", False),
}  # fmt: skip


@pytest.mark.parametrize("attack", POISONS)
def test_a_poisoned_box_is_not_the_next_one_s(fresh: Evaluator, attack: str) -> None:
    poison, look, good = POISONS[attack]
    fresh(poison)
    for _ in range(3):
        assert fresh(look) == good


@pytest.mark.parametrize("attack", ["builtins", "modules", "a file", "names that nobody has given"])
def test_a_kept_box_stays_poisoned(kept: Evaluator, attack: str) -> None:
    """This is documented: therefore there are fresh boxes."""
    poison, look, good = POISONS[attack]
    kept(poison)
    assert kept(look) != good


HOSTILE = [
    "().__class__.__base__.__subclasses__()[0].__name__",
    "__import__('os').system('touch /tmp/owned') and None",
    "open('/etc/shadow').read()",
    "__import__('subprocess').run(['id'])",
    "__import__('socket').create_connection(('127.0.0.1', 22), 1)",
    "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
    ".__init__.__globals__['system']('id')",
    "(lambda f: f.__globals__['__builtins__'])(lambda: 1)['open']('/root/.bashrc', 'w')",
    "__import__('os').kill(1, 9)",
    "eval(compile('1', '', 'eval').replace(co_code=bytes(200)))",
    "type('X', (), {'__eq__': lambda a, b: True, '__hash__': lambda a: 1})()",
    "'%' * 10**5 % ()",
    "'('.__mul__(10**5) and eval('(' * 10**5)",
    "(f := lambda n: f(n + 1))(0)",
]


@pytest.mark.parametrize("expression", HOSTILE)
def test_hostile_expressions_are_harmless(fresh: Evaluator, expression: str) -> None:
    """They fail, or return something of the box. They read nothing of the host, and the next expression works."""
    try:
        found = fresh(expression, timeout=30)
    except ExecutionError:
        pass
    else:
        assert found is None or isinstance(found, str | int)
    assert not os.path.exists("/tmp/owned")
    assert fresh("up('ok')") == "OK"


def test_a_fresh_box_has_names_functions_and_statements() -> None:
    setup = "import itertools\ndef first(rows): return next(itertools.islice(rows, 1, None))"
    with Evaluator(fresh=True, size=1, setup=setup, names={"rows": [1, 2]}, functions={"up": str.upper}) as fresh:
        for _ in range(4):
            assert fresh("first(iter(rows)), up(x), rows.append(1)", {"x": "a"}, timeout=60) == (2, "A", None)


def test_random_numbers_of_fresh_boxes_differ() -> None:
    with Evaluator(fresh=True, size=2, setup="import random, os", timeout=60) as fresh:
        assert len({fresh("random.random(), os.urandom(8)") for _ in range(5)}) == 5


def test_the_boxes_of_fresh_expressions_end_with_them(fresh: Evaluator) -> None:
    fresh("1")
    before = pids()
    for n in range(20):
        assert fresh("n * n", {"n": n}) == n * n
    assert len(pids()) <= len(before) + 2 * fresh.size


def test_where_no_session_can_be_copied_each_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(self: ExpressionSession) -> ExpressionSession:
        raise CannotCopy("not here")

    monkeypatch.setattr(ExpressionSession, "fork", cannot)
    with Evaluator(fresh=True, size=1, names={"table": [1]}, timeout=60) as fresh:
        for _ in range(3):
            assert fresh("table.append(2) or __import__('__main__').__dict__.update(a=1) or table") == [1, 2]
            assert fresh("'a' in globals()") is False


def test_an_original_that_has_died_is_replaced(fresh: Evaluator) -> None:
    fresh._supply._original.cancel()  # type: ignore[union-attr]
    for n in range(6):
        assert fresh("n, up('a')", {"n": n}) == (n, "A")


def test_when_no_copy_can_be_made_whoever_waits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: ExpressionSession) -> ExpressionSession:
        raise OSError("out of descriptors")

    with Evaluator(fresh=True, size=1, timeout=60) as fresh:
        assert fresh("1") == 1
        monkeypatch.setattr(ExpressionSession, "fork", fails)
        while fresh.ready:  # until no ready copies are left
            fresh("1")
        with pytest.raises(SandboxStartError, match="out of descriptors"):
            fresh("1")
        monkeypatch.undo()
        assert fresh("1 + 1") == 2


# --- boxes that break -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "status"),
    [
        ("__import__('os')._exit(3)", Status.ERROR),
        ("__import__('ctypes').string_at(8)", Status.CRASHED),
        ("'x' * 10**12", Status.MEMORY_LIMIT),
        ("print('x' * 10**6)", Status.OUTPUT_LIMIT),
    ],
)
def test_a_box_that_breaks_is_another_one_for_the_next(kept: Evaluator, expression: str, status: Status) -> None:
    kept("__import__('__main__').__dict__.update(mark=1)")
    assert kept("mark") == 1
    with pytest.raises(ExecutionError) as caught:
        kept(expression)
    assert caught.value.result.status == status
    assert kept("'mark' in globals()") is False


def test_an_expression_that_fails_keeps_its_box(kept: Evaluator) -> None:
    kept("__import__('__main__').__dict__.update(mark=1)")
    for expression in ("1 / 0", "1 +", "object()", "exit()"):
        with pytest.raises(ExecutionError):
            kept(expression)
    with pytest.raises(TypeError):
        kept("x", {"x": object()})
    assert kept("mark") == 1


def test_a_box_that_has_died_meanwhile_is_another_one(kept: Evaluator) -> None:
    session = kept._supply._idle[0]  # type: ignore[union-attr]
    session.cancel()
    while session.is_running:
        pass
    assert kept("1 + 1") == 2


def test_the_start_of_a_box_takes_no_time_from_an_expression(kept: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExecutionError):
        kept("__import__('os')._exit(3)")
    late, start = 0.0, ExpressionBox.expressions

    def slow(self: ExpressionBox) -> ExpressionSession:
        nonlocal late
        late += 1000
        return start(self)

    class Clock:
        monotonic = staticmethod(lambda: time.monotonic() + late)

    monkeypatch.setattr(ExpressionBox, "expressions", slow)
    for module in (evaluating.sessioncache, evaluating.supply):
        monkeypatch.setattr(module, "time", Clock)
    assert kept("1 + 1") == 2
    assert late == 1000


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_fresh", [False, True])
def test_many_threads(is_fresh: bool) -> None:
    with Evaluator(fresh=is_fresh, size=3, functions={"add": lambda a, b: a + b}, timeout=120) as evaluator:

        def work(n: int) -> Any:
            return [evaluator("add(n, x) if x % 3 else 1 / x", {"n": n, "x": x}) for x in range(1, 3)]

        with ThreadPoolExecutor(12) as threads:
            assert list(threads.map(work, range(40))) == [[n + 1, n + 2] for n in range(40)]
        assert evaluator.ready <= 3


def test_no_more_run_at_once_than_its_size() -> None:
    running, most, lock = 0, 0, threading.Lock()
    met = threading.Barrier(2)

    def meet() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        met.wait(60)
        with lock:
            running -= 1

    with Evaluator(size=2, functions={"meet": meet}, timeout=120) as evaluator, ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda n: evaluator("meet()"), range(6)))
    assert most == 2


def test_who_waits_longer_than_its_time_is_told() -> None:
    began, over = threading.Event(), threading.Event()

    def stay() -> None:
        began.set()
        over.wait(60)

    with Evaluator(size=1, functions={"stay": stay}) as evaluator, ThreadPoolExecutor(1) as threads:
        first = threads.submit(evaluator, "stay() or 1", timeout=120)
        began.wait(60)
        with pytest.raises(TimeLimitExceeded, match="1 expressions were being evaluated all the time") as caught:
            evaluator("1", timeout=0.05)
        assert caught.value.result.status == Status.TIME_LIMIT
        over.set()
        assert first.result() == 1
        assert evaluator("1 + 1", timeout=60) == 2


# --- closing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_fresh", [False, True])
def test_closing_while_expressions_run_and_wait(is_fresh: bool) -> None:
    began = threading.Event()
    evaluator = Evaluator(fresh=is_fresh, size=1, functions={"begin": began.set}, timeout=120)
    with ThreadPoolExecutor(2) as threads:
        runs = threads.submit(evaluator, "[begin(), *iter(int, 1)]")
        assert began.wait(60)
        waits = threads.submit(evaluator, "1")
        while not evaluator._supply._slots.waiting:  # type: ignore[union-attr]
            assert not waits.done()
        evaluator.close()
        with pytest.raises(ExecutionError) as caught:
            runs.result()
        assert caught.value.result.status == Status.CANCELLED
        with pytest.raises(SandboxClosedError, match="the evaluator is closed"):
            waits.result()
    with pytest.raises(SandboxClosedError, match="the evaluator is closed"):
        evaluator("1")
    assert evaluator.ready == 0
    evaluator.close()


def test_a_function_that_closes_its_evaluator() -> None:
    evaluator = Evaluator(functions={"close": lambda: evaluator.close()}, timeout=60)
    with pytest.raises(ExecutionError):
        evaluator("close()")


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_evaluate_keeps_its_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    shared.close()
    started: list[str] = []
    start = ExpressionBox.expressions
    monkeypatch.setattr(ExpressionBox, "expressions", lambda self: started.append("") or start(self))
    policy = proxybox.Policy(limits={"wall_time": 60})
    for n in range(5):
        assert proxybox.evaluate("f(n)", {"n": n}, {"f": lambda x: -x}, timeout=60) == -n
        assert proxybox.evaluate("n", {"n": n}, policy=policy) == n
        assert proxybox.evaluate("n", {"n": n}, policy=proxybox.Policy(limits={"wall_time": 60})) == n
    assert len(started) == 2
    for seconds in range(61, 61 + shared.MOST):
        assert proxybox.evaluate("1", policy=proxybox.Policy(limits={"wall_time": seconds})) == 1
    assert len(shared._kept) == shared.MOST
    assert proxybox.evaluate("2", policy=policy) == 2, "it was given up, and is made again"
    shared.close()
    assert proxybox.evaluate("1 + 1", timeout=60) == 2


def test_policies_that_are_told_in_any_way() -> None:
    shared.close()
    mount = proxybox.Mount("/data", {"a": b"1"})
    for policy in (
        proxybox.Policy(filesystem={"mounts": [mount]}),
        {"filesystem": {"mounts": [{"target": "/data", "source": {"a": b"1"}}]}},
    ):
        assert proxybox.evaluate("open('/data/a').read()", policy=policy, timeout=60) == "1"
    assert len(shared._kept) == 1
    assert proxybox.evaluate("__import__('time').time()", policy="strict", timeout=60) < 1_767_225_600 + 86400


# --- forks ------------------------------------------------------------------------------------------------------------

FORKS = """
import os, sys, proxybox

kept, fresh = proxybox.Evaluator(), proxybox.Evaluator(fresh=True, size=1)

def all_of_them(expression, **names):
    return [each(expression, names, timeout=60) for each in (proxybox.evaluate, kept, fresh)]

all_of_them("__import__('__main__').__dict__.update(mark=1)")
for n in range(2):
    pid = os.fork()
    if not pid:
        found = all_of_them("'mark' in globals(), n", n=n)
        kept.close()
        sys.exit(0 if found == [(False, n)] * 3 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
print(all_of_them("'mark' in globals()"))
"""


@pytest.mark.full
def test_a_caller_that_forks() -> None:
    """Each child has boxes of its own, and its end does not change those of the parent."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "0\n0\n[True, True, False]\n"
