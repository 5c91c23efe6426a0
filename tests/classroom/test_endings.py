"""The text that a student and the teacher read about the end of a run."""

from typing import Any

import pytest

from proxybox.classroom.endings import ended, in_a_line, loop_of

FRAME = '  File "main.py", line {}, in <module>\n'


def result(kind: str = "", message: str = "", traceback: str = "", **seen: Any) -> dict[str, Any]:
    error = {"type": kind, "message": message, "traceback": traceback} if kind else None
    return {"status": "error", "why": "", "truncated": False, "hint": "", **seen, "error": error}


def interrupted(*lines: int, status: str = "time_limit") -> dict[str, Any]:
    traceback = "".join(["Traceback (most recent call last):\n", *map(FRAME.format, lines), "KeyboardInterrupt\n"])
    why = "limits.cpu_time; the call was interrupted, the session goes on"
    return result("KeyboardInterrupt", "", traceback, status=status, why=why)


@pytest.mark.parametrize(("code", "lines", "loop"), [
    ("while True: pass", (1,), 1),
    ("n = 0\nwhile True:\n    n += 1\n", (3,), 2),
    ("for n in range(9):\n\n    # more\n    if n:\n        n += 1\n    n += 2\n", (6,), 1),
    ("for n in iter(int, 1):\n    while n:\n        pass\n    n += 2\n", (4,), 1),
    ("def f():\n    return sum(range(10**9))\nwhile True:\n    f()\n", (4, 2), 3),
    ("def f():\n    for n in iter(int, 1):\n        pass\nwhile True:\n    f()\n", (5, 3), 2),
    ("while True:\n    def f():\n        return 1\n", (3,), None),
    ("x = 1\nx ** x ** x\n", (2,), None),
    ("for_ever = 1\nwhile_ = 2\n", (2,), None),
    ("pass", (9,), None),
])  # fmt: skip
def test_the_loop_in_which_a_program_was_when_time_was_up(code: str, lines: tuple[int, ...], loop: int | None) -> None:
    seen = ended(interrupted(*lines), "main.py", code)
    assert (seen["line"], seen["loop"], seen["why"]) == (lines[-1], loop, "")
    assert in_a_line(seen) == f"time limit (line {loop or lines[-1]})"


def test_a_loop_is_found_in_time_that_grows_with_the_text() -> None:
    assert loop_of("\n" * 200_000 + "    x\n" * 200_000, 400_000) is None


def test_what_python_thinks_was_meant_stays() -> None:
    for more in (". Did you mean: 'print'?", ". Did you forget to import 'pritn'?"):
        message = "name 'pritn' is not defined"
        traceback = f"Traceback (most recent call last):\n{FRAME.format(1)}NameError: {message}{more}\n"
        seen = ended(result("NameError", message, traceback), "main.py", "")
        assert seen["error"]["message"] == message + more
        assert in_a_line(seen) == f"NameError: {message}{more} (line 1)"
    seen = ended(result("ValueError", "x", "T\nValueError: x\n. Did you mean: 'y'?"), "main.py", "")
    assert seen["error"]["message"] == "x"


@pytest.mark.parametrize("status", ["time_limit", "memory_limit", "call_limit", "disk_limit", "denied", "crashed"])
def test_the_teacher_reads_no_field_of_a_policy(status: str) -> None:
    seen = ended(result(status=status, why="limits.cpu_time; the session has ended"), "main.py", "")
    assert in_a_line(seen) == status.replace("_", " ")
