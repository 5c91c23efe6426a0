"""The pytest plugin, as a teacher runs it by hand."""

import subprocess
import sysconfig
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


@pytest.fixture(autouse=True)
def _no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """This suite's plugins take four times as long to load as all of pytest."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, *words: str, plugin: str = "proxybox.teach.plugin") -> pytest.RunResult:
    """Runs pytest as a teacher would."""
    return pytester.runpytest_subprocess("-q", "-p", plugin, "-p", "no:cacheprovider", *words, timeout=60)


def test_what_pytest_prints_of_a_submission_is_harmless(pytester: pytest.Pytester) -> None:
    """In a run by hand: messages, differences, and the output of a test."""
    pytester.path.joinpath("theirs.py").write_text("def f(): print('\\x1b]0;owned\\x07\\ra\\u202e\\nb')\nf()\n")
    pytester.makepyfile(
        test_theirs="""
        import warnings
        import pytest
        def test_output(run_student):
            run_student().expect_output("42")
        def test_words(student):
            student.call("f")
            print(student.stdout)
            assert student.stdout == "a\\nb\\n", student.stdout
        def test_lines(student):
            student.call("f")
            assert student.stdout.splitlines() == []
        def test_expected_to_fail(student):
            student.call("f")
            pytest.xfail(student.stdout)
        def test_warning(student):
            student.call("f")
            warnings.warn(student.stdout)
            """
    )
    for workers in ("0", "2"):
        result = run(pytester, "--submission", "theirs.py", "-vv", "-ra", "-p", "xdist", "-n", workers)
        result.assert_outcomes(failed=3, passed=1, xfailed=1, warnings=1)
        text = result.stdout.str()
        assert text.count("owned") >= 7
        assert not set(text) & set("\x1b\x07\r\u202e"), ascii(text)


def test_by_hand(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by its entry point, with all plugins that are installed."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.path.joinpath("theirs.py").write_text(SUBMISSION)
    pytester.makepyfile(test_theirs=TESTS)
    result = run(pytester, "--submission", "theirs.py", "--strict-markers", plugin="no:timeout")
    result.assert_outcomes(failed=6, passed=3)
    for words in (
        "Failed: area(3, b=4) returned 7, and 12 was expected.",
        "Failed: boom() raised ZeroDivisionError: division by zero, on line 7.",
        "Failed: boom() raised ZeroDivisionError: division by zero, on line 7; ValueError was to be raised.",
        "Failed: nothing is not defined: the submission needs a function of that name.",
        "Failed: ask() raised EOFError",
        "AssertionError: one by one is one",
    ):
        assert words in result.stdout.str()


def test_a_failure_by_hand_shows_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    """The frames below it are not shown."""
    pytester.path.joinpath("theirs.py").write_text(SUBMISSION)
    pytester.makepyfile(
        test_theirs="def test_area(student):\n    student.expect('area', 3, 4, returns=12)\n\n"
        "def test_kind(student):\n    student.raises(3, 'boom')\n\n"
        "def test_run(run_student):\n    run_student('1').expect_output('x')\n"
    )
    result = run(pytester, "--submission", "theirs.py", "--tb=short")
    result.assert_outcomes(failed=3)
    out = result.stdout.str()
    assert [line for line in out.splitlines() if ": in " in line] == [
        "test_theirs.py:2: in test_area", "test_theirs.py:5: in test_kind", "test_theirs.py:8: in test_run",
    ]  # fmt: skip


def test_a_notebook_by_hand(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("theirs.ipynb").write_text(
        '{"cells": [{"cell_type": "code", "source": "%ls\\ndef area(a, b):\\n    return a"}]}'
    )
    pytester.makepyfile(test_theirs="def test_area(student):\n    student.expect('area', 3, 4, returns=12)\n")
    result = run(pytester, "--submission=theirs.ipynb")
    result.assert_outcomes(failed=1)
    assert "Failed: area(3, 4) returned 3, and 12 was expected." in result.stdout.str()


@pytest.mark.parametrize(
    ("words", "seen"),
    [((), "pytest --submission=FILE"), (("--submission", "nothing.py"), "nothing.py: No such file or directory")],
)
def test_what_is_missing(pytester: pytest.Pytester, words: tuple[str, ...], seen: str) -> None:
    pytester.makepyfile("def test(student): pass")
    result = run(pytester, *words)
    result.assert_outcomes(errors=1)
    assert seen in result.stdout.str()


def test_help_and_marks(pytester: pytest.Pytester) -> None:
    assert "--submission=PATH" in run(pytester, "--help").stdout.str()
    marks = run(pytester, "--markers").stdout.str()
    for mark in ("points(n)", "hidden", "timeout(seconds)"):
        assert f"@pytest.mark.{mark}:" in marks


# --- a submission that pytest itself would run ------------------------------------------------------------------------

#: Files of a submission: each makes a file when it is run.
HOSTILE = ("conftest", "test_theirs", "evil", "random", "__init__", "theirs")


@pytest.fixture
def theirs(pytester: pytest.Pytester) -> Path:
    """A submission's folder, in a folder of submissions beside a folder of tests."""
    folder = pytester.path / "submissions/ada"
    folder.mkdir(parents=True)
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(pytester.path)!r} + '/ran-{name}', 'w').close()\n")
    (folder / "solution.py").write_text("NUMBER = 1\n")
    (pytester.path / "tests").mkdir()
    (pytester.path / "tests/test_it.py").write_text(
        "import random\ndef test_it(student): assert student.get('NUMBER') == 1\n"
    )
    return folder


def ran(pytester: pytest.Pytester) -> list[str]:
    return sorted(path.name for path in pytester.path.glob("ran-*"))


@pytest.mark.sized(7)
@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("submissions/ada", "lies in what is to be collected"),
        ("submissions/ada submissions", "lies in what is to be collected"),
        ("submissions/ada submissions/ada", "what is to be collected is the submission, or lies in it"),
        ("submissions/ada submissions/ada/test_theirs.py::test_it", "what is to be collected is the submission, or"),
        ("submissions tests submissions/ada/test_theirs.py", "what is to be collected is the submission, or lies in"),
        ("submissions/ada/test_theirs.py submissions/ada/test_theirs.py", "what is to be collected is the submission"),
        ("submissions/ada --rootdir=submissions/ada tests", "pytest's rootdir is the submission, or lies in it"),
        ("submissions/ada --rootdir=. --confcutdir=submissions/ada tests", "--confcutdir is the submission"),
        (". tests", "what is to be collected is the submission, or lies in it"),
        ("../{} ../other", "the current folder is the submission, or lies in it"),
        ("link tests link", "what is to be collected is the submission, or lies in it"),
        ("submissions/ada/conftest.py submissions/ada", "pytest imports files of that name by itself"),
        ("submissions/ada/random.py submissions/ada/test_theirs.py", "instead of the module random"),
        ("submissions/ada -o pythonpath=submissions/ada tests", "a folder of modules (sys.path) is the submission"),
        ("submissions/ada submissions/ada/linked", "what is to be collected is the submission, or lies in it"),
        ("link link/linked", "what is to be collected is the submission, or lies in it"),
        ("submissions/ada link/linked", "what is to be collected is the submission, or lies in it"),
        ("submissions/ada/solution.py submissions/ada/linked", "conftest.py lies beside it, above what is to be"),
        ("link/solution.py submissions/ada/linked", "conftest.py lies beside it, above what is to be"),
        ("submissions/ada -o testpaths=submissions/ada", "what is to be collected is the submission, or lies in it"),
        ("submissions/ada -o testpaths=submissions/*", "what is to be collected is the submission, or lies in it"),
        (
            "submissions/ada/solution.py -o pythonpath=submissions/ada tests",
            "random.py lies beside it, and is imported",
        ),
    ],
)
def test_a_submission_that_pytest_would_run(pytester: pytest.Pytester, theirs: Path, words: str, seen: str) -> None:
    pytester.makeini("[pytest]\n")
    (pytester.path / "link").symlink_to("submissions/ada")
    (theirs / "linked").symlink_to("../../tests")
    (pytester.path.parent / "other").mkdir(exist_ok=True)
    submission, *others = words.format(pytester.path.name).split()
    result = run(pytester, f"--submission={submission}", *others)
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: --submission {submission}: " in result.stderr.str()
    assert seen in result.stderr.str()
    assert "proxybox exercise test EXERCISE SUBMISSION" in result.stderr.str()
    assert ran(pytester) == []


def test_a_submission_as_the_current_folder(
    pytester: pytest.Pytester, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except for modules that `python -m` would import from there: the script pytest is started."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    monkeypatch.chdir(theirs)
    for name in ("random", "evil"):
        (theirs / f"{name}.py").unlink()
    script = Path(sysconfig.get_path("scripts"), "pytest")
    command = [script, "--submission=.", str(pytester.path / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "is the submission, or lies in it" in done.stderr) == (4, True), done.stderr
    assert ran(pytester) == []


def test_settings_of_a_submission(pytester: pytest.Pytester, theirs: Path) -> None:
    """pytest reads them before the plugin refuses them, if the path is a separate word; plugins in them do not run."""
    (theirs / "pytest.ini").write_text("[pytest]\npython_files = *.py\n")
    result = run(pytester, "--submission", "submissions/ada", "tests")
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    assert "pytest's rootdir is the submission, or lies in it" in result.stderr.str()
    result = run(pytester, "--submission=submissions/ada", "-c", "submissions/ada/pytest.ini", "--rootdir=.", "tests")
    assert "pytest's file of settings is the submission, or lies in it" in result.stderr.str()
    result = run(pytester, "--submission", "submissions/ada/solution.py", "tests")
    assert "settings lies beside it, and not where the tests are" in result.stderr.str()
    assert ran(pytester) == []


@pytest.mark.full
def test_a_submission_apart(pytester: pytest.Pytester, theirs: Path) -> None:
    """With = none of its files is read, whatever settings it contains."""
    (theirs / "pytest.ini").write_text("[pytest]\naddopts = -p evil\npythonpath = .\n")
    for submission in ("submissions/ada", "submissions/ada/solution.py"):
        result = run(pytester, f"--submission={submission}", "tests")
        result.assert_outcomes(passed=1)
    assert ran(pytester) == []


def test_a_file_among_the_tests_is_not_collected(pytester: pytest.Pytester) -> None:
    mark = pytester.path / "ran"
    (pytester.path / "test_theirs.py").write_text(
        f"try: open({str(mark)!r}, 'w').close()\nexcept OSError: NUMBER = 1  # in a box\n"
    )
    pytester.makepyfile(test_it="def test_it(student): assert student.get('missing')")
    (pytester.path / "test_link.py").symlink_to("test_theirs.py")
    result = run(pytester, "--submission", "test_theirs.py", "--doctest-modules")
    result.assert_outcomes(failed=1)
    assert not mark.exists()


@pytest.mark.sized(2)
@pytest.mark.parametrize("name", ["conftest.py", "__init__.py"])
@pytest.mark.parametrize("submission", ["theirs.py", "theirs"])
def test_a_submission_with_a_conftest_above_the_tests(pytester: pytest.Pytester, submission: str, name: str) -> None:
    """As in a student's repository: pytest would import files beside the submission."""
    folder = pytester.mkdir("repository")
    (folder / "theirs").mkdir()
    (folder / "theirs/solution.py").write_text(SUBMISSION)
    (folder / "theirs.py").write_text(SUBMISSION)
    (folder / name).write_text(f"open({str(pytester.path / 'sprung')!r}, 'w')")
    (folder / "tests").mkdir()
    (folder / "tests/test_theirs.py").write_text(TESTS)
    (pytester.path / "link").symlink_to("repository/tests")
    for path in (f"repository/{submission}", f"link/../{submission}"):
        result = run(pytester, f"--submission={path}", "repository/tests")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"{name} lies beside it" in result.stderr.str()
    assert not (pytester.path / "sprung").exists()


SHADOW = "random.py lies beside it, and is imported instead of the module random"


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (["random.py", "tests/__init__.py"], SHADOW),
        (["random/__init__.py", "tests/__init__.py"], SHADOW.replace(".py", "")),
        (["random/__init__.pyc", "tests/__init__.py"], SHADOW.replace(".py", "")),
        (["random.py", "__init__.py", "tests/__init__.py"], ""),
        (["random.py", "tests/deep/__init__.py"], None),
        (["random.json/x", "tests/__init__.py"], None),
        (["random/data.txt", "tests/__init__.py"], None),
        (["pytest.ini"], None),
    ],
)
@pytest.mark.sized(3)
@pytest.mark.parametrize("root", ["repository", "the-repository"])
def test_what_came_with_a_submission_above_the_tests(
    pytester: pytest.Pytester, names: list[str], seen: str | None, root: str
) -> None:
    """A student's repository with the tests in it: pytest would import modules from there.

    seen: None where that is harmless.
    """
    folder = pytester.mkdir(root)
    (folder / "theirs.py").write_text(SUBMISSION)
    (folder / "tests/deep").mkdir(parents=True)
    (folder / "tests/deep/test_theirs.py").write_text(f"import random\n{TESTS}")
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(pytester.path / 'ran')!r}, 'w')" if path.stem in ("random", "__init__") else "")
    (folder / "closed").mkdir(0)
    result = run(pytester, f"--submission={root}/theirs.py", f"{root}/tests")
    assert (result.ret == pytest.ExitCode.USAGE_ERROR) == (seen is not None), result.stderr.str()
    assert (seen or "") in result.stderr.str()
    assert ran(pytester) == []


@pytest.mark.parametrize("submission", ["submissions/alice.py", "submissions/alice", "alice.py"])
def test_a_teachers_own_repository(pytester: pytest.Pytester, submission: str) -> None:
    """Settings, helpers and a package beside the tests, and warnings that are errors."""
    path = pytester.path / submission
    path.parent.mkdir(exist_ok=True)
    if path.suffix:
        path.write_text("NUMBER = 1\n")
    else:
        path.mkdir()
        (path / "solution.py").write_text("NUMBER = 1\n")
    pytester.makeini("[pytest]\naddopts = -v\nfilterwarnings = error\ntestpaths = tests\n")
    pytester.mkpydir("tests")
    pytester.mkpydir("lessons")
    (pytester.path / "helpers.py").write_text("")
    (pytester.path / "tests/test_it.py").write_text("def test_it(student): assert student.get('NUMBER') == 1\n")
    run(pytester, f"--submission={submission}").assert_outcomes(passed=1)
