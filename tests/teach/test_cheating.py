"""Submissions that try to get points without a solution: each gets a plain verdict, and harms no other submission.

All of them are graded in one run, between two honest ones, by tests whose expected values are in no box.
"""

from pathlib import Path
from typing import Any

import pytest

from proxybox.teach.grades import Verdict
from proxybox.teach.grading import Packed, Task, grade_some
from proxybox.teach.submissions import Submission

TESTS = """
import pytest

@pytest.mark.points(2)
def test_double(student):
    "Doubles a number"
    student.expect("double", 20230601, returns=40461202)

@pytest.mark.hidden
def test_once_more(student):
    student.expect("double", 77777, returns=155554)

@pytest.mark.timeout(1)
def test_whole_program(run_student):
    run_student(stdin="31337\\n").expect_output("62674")
"""

HONEST = "def double(n): return 2 * n\nif __name__ == '__main__': print(double(int(input())))\n"

# ruff: noqa: E501 - programs on one line
CHEATS = {
    "patches builtins": "import builtins\nbuiltins.len = builtins.isinstance = lambda *_: True\nclass int(int):\n    __eq__ = lambda *_: True\ndef double(n): return int(1)",
    "a value that equals everything": "class A:\n    __eq__ = __ne__ = lambda *_: True\ndef double(n): return A()",
    "looks for the tests": "import os, sys, gc\n"
    "def double(n):\n"
    "    found = [p for top in ('/box', '/tmp', '/home') for p, _, files in os.walk(top) if 'test_double.py' in files]\n"
    "    known = [m for m in sys.modules if 'pytest' in m or 'teach' in m]\n"
    "    wanted = ''.join(['4046', '1202'])\n"
    "    texts = [o for o in gc.get_objects() if isinstance(o, str) and wanted in o and o is not wanted]\n"
    "    return (found, known, texts)",
    "looks into the frames": "import sys\ndef double(n):\n    frame, seen = sys._getframe(), []\n    while frame: seen.append(dict(frame.f_locals)); frame = frame.f_back\n    return [v for f in seen for v in f.values() if v in (40461202, 155554)]",
    "forges a result": "import ctypes, struct\ndef double(n):\n    said = b'rt\\x02\\0\\0\\0s\\x02\\0\\0\\0okN'\n    room = ctypes.create_string_buffer(65536)\n    for _ in range(5): ctypes.CDLL(None).syscall(511, said, len(said), room, 65536)",
    "exits well": "import os\nos._exit(0)",
    "exits in the function": "def double(n): raise SystemExit(0)",
    "ends the interpreter in the function": "import os\ndef double(n): os._exit(0)",
    "kills itself": "import os, signal\ndef double(n): os.kill(os.getpid(), signal.SIGKILL)",
    "forks": "import os\ndef double(n):\n    while True: os.fork()",
    "starts threads": "import threading, time\ndef double(n):\n    while True: threading.Thread(target=time.sleep, args=(9999,), daemon=True).start()",
    "prints for ever": "def double(n):\n    while True: print('a' * 1000)",
    "never ends": "def double(n):\n    while True: pass",
    "never ends, whatever comes": "def double(n):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    "never ends while it is loaded": "while True: pass",
    "fills the memory": "def double(n):\n    kept = []\n    while True: kept.append(bytes(1 << 20))",
    "fills the disk": "def double(n):\n    with open('big', 'wb') as file:\n        while True: file.write(bytes(1 << 20))",
    "recurses for ever": "def double(n): return double(n)",
    "says what it is told to": "def double(n): return '40461202'",
    "remembers the last test": "calls = []\ndef double(n):\n    calls.append(n)\n    return 2 * n if len(calls) > 1 else 0",
    "leaves something for the next": "import os\nopen('/tmp/left', 'w').write('x')\nopen('/box/other.py', 'w').write('x')\ndef double(n): return os.listdir('/tmp')",
    "has names that no disk takes": "def double(n): return 2 * n",
    "has a file in a file": "def double(n): return 2 * n",
    "is no Python": "def double(n) return n",
    "is empty": "",
    "is no text": "\xff\xfe",
    "changes the exceptions": "import builtins\nbuiltins.Exception = builtins.BaseException = int\ndef double(n): 1 / 0",
    "floods the error": "def double(n): raise ValueError('\\x1b[2J' + 'x' * 10**7)",
}

MORE = {"has names that no disk takes": {"n" * 300: b""}, "has a file in a file": {"a": b"", "a/b": b""}}


def graded(tests: str, codes: dict[str, str]) -> dict[str, tuple[Verdict, ...]]:
    """Grades all submissions in one task: one process, one run of pytest."""
    submissions = tuple(
        Submission(student=name, files={"solution.py": code.encode("latin-1"), **MORE.get(name, {})})
        for name, code in codes.items()
    )
    files = {
        "exercise.toml": b"title = 'Doubles'\ntext = 'Double it.'\n[limits]\nwall_time = 1.5\ncpu_time = 1\n",
        "tests/test_double.py": tests.encode(),
    }
    return {each.student: each.tests for each in grade_some(Task(exercise=Packed(files), submissions=submissions))}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, tuple[Verdict, ...]]:
    return graded(TESTS, {"first": HONEST, **CHEATS, "last": HONEST})


@pytest.mark.full
@pytest.mark.parametrize("student", ["first", "last"])
def test_the_honest_are_not_harmed(verdicts: Any, student: str) -> None:
    assert [(each.name, each.status, each.points) for each in verdicts[student]] == [
        ("Doubles a number", "ok", 2), ("once more", "ok", 1), ("whole program", "ok", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("cheat", CHEATS)
def test_nothing_is_earned(verdicts: Any, cheat: str) -> None:
    found = verdicts[cheat]
    assert [each.name for each in found] == ["Doubles a number", "once more", "whole program"]
    assert [each.points for each in found] == [0, 0, 0]
    for each in found:
        assert each.status not in ("ok", "internal_error", "skipped")
        assert each.message
        assert len(each.message) < 3000
        assert not set(each.message + each.output) & set("\x1b\x00\x07")
        assert "student.expect" not in each.message


#: The limit that ends these first depends on the machine.
_BY_LIMITS = ("starts threads", "prints for ever", "fills the memory")


@pytest.mark.pypy
def test_the_documents_show_these_verdicts(verdicts: Any) -> None:
    """The table in docs/cheating.md, which cuts long messages."""
    text = (Path(__file__).parents[2] / "docs/cheating.md").read_text()
    rows = [row.strip("| ").split(" | ") for row in text.split("\n") if row.startswith("| ")][2:]
    assert [name for name, _, _ in rows] == list(CHEATS)
    assert f"These are {len(CHEATS)} attempts" in text
    for name, status, words in rows:
        first = verdicts[name][0]
        if name not in _BY_LIMITS:
            beginning = words.removesuffix("...")
            seen = first.message[: len(beginning)] if words.endswith("...") else first.message
            assert (status, beginning) == (first.status, seen), f"{name}: correct docs/cheating.md"


@pytest.mark.parametrize(
    ("cheat", "status", "words"),
    [
        ("a value that equals everything", "wrong_answer", "returned an A object"),
        ("exits in the function", "error", "ended with exit()"),
        ("never ends", "time_limit", "did not end in time"),
        ("never ends, whatever comes", "time_limit", "did not end in time"),
        ("never ends while it is loaded", "time_limit", "Running the file did not end in time"),
        ("exits well", "error", "Running the file ended the interpreter."),
        ("ends the interpreter in the function", "error", "double(20230601) ended the interpreter."),
        ("says what it is told to", "wrong_answer", "returned '40461202', and 40461202 was expected"),
        ("has names that no disk takes", "error", "a name of more than 255 bytes."),
        ("has a file in a file", "error", "The file a/b cannot be used"),
        ("is no Python", "syntax_error", "on line 1"),
        ("is empty", "error", "The file solution.py is empty."),
        ("is no text", "syntax_error", "no text in UTF-8"),
        ("looks for the tests", "wrong_answer", "returned ([], [], [])"),
        ("looks into the frames", "wrong_answer", "returned []"),
        ("remembers the last test", "wrong_answer", "returned 0"),
    ],
)
def test_what_is_said(verdicts: Any, cheat: str, status: str, words: str) -> None:
    first = verdicts[cheat][0]
    assert (first.status, words in first.message) == (status, True), first


def test_no_answer_is_not_none() -> None:
    """A submission that ends the interpreter has not returned None."""
    found = graded(
        "def test_it(student): student.expect('f', returns=None)", {"a": "import os\ndef f(): os._exit(0)\n"}
    )
    assert [each.status for each in found["a"]] == ["error"]


def test_memory_and_time(verdicts: Any) -> None:
    """The limit that is reached first depends on the machine."""
    assert verdicts["fills the memory"][0].status in ("memory_limit", "time_limit")
