"""`sys.setrecursionlimit(10**6)` is a common first line: PyPy would reserve a box's whole memory for it."""

import pytest

import proxybox
from proxybox.policies import evolve, preset
from proxybox.program import Program

pytestmark = pytest.mark.pypy

LIMITS = {"wall_time": 300, "cpu_time": 100}

#: The JIT compiles the first recursion, which makes the return from the error as expensive as possible.
PROGRAM = """
import sys
sys.setrecursionlimit(10**6)
def depth(left):
    return 0 if left == 0 else 1 + depth(left - 1)
print(depth(20_000), sys.getrecursionlimit())
try:
    depth(10**9)
except RecursionError as error:
    print(error)
sys.setrecursionlimit(500)
print(sys.getrecursionlimit())
for wrong in (0, 1 << 40, "1"):
    try:
        sys.setrecursionlimit(wrong)
    except Exception as error:
        print(type(error).__name__)
"""
SAID = "20000 1000000\nmaximum recursion depth exceeded\n500\nValueError\nOverflowError\nTypeError\n"

THREAD = """
import sys, threading
threading.stack_size(1 << 29)
sys.setrecursionlimit(10**6)
def depth(left):
    return 0 if left == 0 else 1 + depth(left - 1)
def main():
    print(depth(30_000))
    try:
        depth(10**9)
    except RecursionError as error:
        print(error)
thread = threading.Thread(target=main)
thread.start()
thread.join()
print(threading.stack_size(), threading.stack_size(1 << 20), threading.stack_size(0))
"""


@pytest.mark.sized(1)
@pytest.mark.parametrize("name", ["strict", "default"])
def test_a_program_that_asks_for_a_million_levels_runs_and_gets_the_error_where_it_goes_too_deep(name: str) -> None:
    with proxybox.Sandbox(policy=evolve(preset(name), limits=LIMITS)) as box:
        cold = box.run(PROGRAM)
        with box.session() as session:
            warm = box.run(PROGRAM)
            called = session.exec(PROGRAM)
    for result in (cold, warm, called):
        assert (result.status, result.stdout) == ("ok", SAID), result.stderr


def test_a_program_on_the_command_line_is_no_other() -> None:
    """With -c, PyPy does nothing between its own start and the program's first line."""
    text = "import sys; sys.setrecursionlimit(10**6); print(sys.getrecursionlimit())"
    with proxybox.Sandbox(warm=False) as box:
        assert box.run_program(Program(words=("-c", text))).stdout == "1000000\n"


def test_a_large_stack_for_a_thread_is_as_large_as_the_recursion_can_use() -> None:
    result = proxybox.run(THREAD, limits=LIMITS)
    assert (result.status, result.stdout) == (
        "ok", "30000\nmaximum recursion depth exceeded\n536870912 0 1048576\n",
    ), result.stderr  # fmt: skip
