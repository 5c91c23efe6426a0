"""The plugin by hand: as a teacher runs pytest."""

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


def run(pytester: pytest.Pytester, *words: str) -> pytest.RunResult:
    """As a teacher would, without the plugins of this suite; proxybox's own has to be found by its entry point."""
    return pytester.runpytest_subprocess("-q", "-p", "no:timeout", "-p", "no:cacheprovider", *words, timeout=60)


def test_by_hand(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("theirs.py").write_text(SUBMISSION)
    pytester.makepyfile(test_theirs=TESTS)
    result = run(pytester, "--submission", "theirs.py", "--strict-markers")
    result.assert_outcomes(failed=6, passed=3)
    for words in (
        "Failed: area(3, b=4) returned 7, and 12 was expected.",
        "Failed: boom() raised ZeroDivisionError: division by zero, on line 7.",
        "Failed: boom() raised ZeroDivisionError: division by zero, on line 7; ValueError was to be raised.",
        "Failed: nothing is not defined: the submission needs a function of that name.",
        "Failed: ask() raised EOFError, on line 10.",
        "AssertionError: one by one is one",
    ):
        assert words in result.stdout.str()


@pytest.mark.parametrize(
    ("words", "told"),
    [((), "pytest --submission FILE"), (("--submission", "nothing.py"), "nothing.py: No such file or directory")],
)
def test_what_is_missing(pytester: pytest.Pytester, words: tuple[str, ...], told: str) -> None:
    pytester.makepyfile("def test(student): pass")
    result = run(pytester, *words)
    result.assert_outcomes(errors=1)
    assert told in result.stdout.str()


def test_help_and_marks(pytester: pytest.Pytester) -> None:
    assert "--submission=PATH" in run(pytester, "--help").stdout.str()
    marks = run(pytester, "--markers").stdout.str()
    for mark in ("points(n)", "hidden", "timeout(seconds)"):
        assert f"@pytest.mark.{mark}:" in marks
