"""The plugin by hand: as a teacher runs pytest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUBMISSION = """
def area(a, b):
    print('in area')
    return a + b

def boom():
    return 1 / 0

def ask():
    return input()

if __name__ == '__main__':
    with open('out.txt', 'w') as file:
        file.write(input())
    import sys
    print(open('given.txt').read(), sys.argv[1:])
"""

TESTS = """
import pytest

@pytest.mark.points(2)
def test_area(student):
    student.expect("area", 3, b=4, returns=12)

def test_printed(student):
    student.call("area", 1, 2)
    student.expect_output("in area")

def test_boom(student):
    student.raises("ZeroDivisionError", "boom")

def test_boom_is_told(student):
    student.call("boom")

def test_another_exception(student):
    student.raises("ValueError", "boom")

def test_missing(student):
    student.call("nothing")

def test_nobody_to_ask(student):
    student.call("ask")

def test_words(student):
    assert student.call("area", 1, 1) == 1, "one by one is one"

def test_run(run_student):
    run = run_student("typed", ["--fast"], {"given.txt": b"given"})
    run.expect_output("given ['--fast']")
    assert run.files == {"out.txt": b"typed"}
"""


def run(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "proxybox.teach.plugin", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60).stdout


def test_by_hand(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(SUBMISSION)
    (tmp_path / "test_theirs.py").write_text(TESTS)
    told = run(tmp_path, "--submission", "theirs.py", "--strict-markers")
    for words in (
        "Failed: area(3, b=4) returned 7, and 12 was expected.",
        "Failed: boom() raised ZeroDivisionError: division by zero, on line 7.",
        "Failed: boom() raised ZeroDivisionError: division by zero, on line 7; ValueError was to be raised.",
        "Failed: nothing is not defined: the submission needs a function of that name.",
        "Failed: ask() raised EOFError, on line 10.",
        "AssertionError: one by one is one",
        "6 failed, 3 passed",
    ):
        assert words in told, told


@pytest.mark.parametrize(
    ("words", "told"),
    [((), "pytest --submission FILE"), (("--submission", "nothing.py"), "nothing.py: No such file or directory")],
)
def test_what_is_missing(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    (tmp_path / "test_theirs.py").write_text("def test(student): pass")
    assert told in run(tmp_path, *words)
