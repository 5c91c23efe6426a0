"""`proxybox exercise` and `proxybox grade` from the command line."""

import contextlib
import csv
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from proxybox import cli
from proxybox.teach import records
from proxybox.teach.checking import find_exercise
from proxybox.teach.records import FILE

COMMAND = [sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Returns a function that runs a command line in the test's folder; exit status, output and standard error.

    It grades in one process unless the command line says otherwise: for a class of three a second one is not faster.
    """
    monkeypatch.chdir(tmp_path)

    def work(*words: str) -> tuple[int, str, str]:
        if words[0] == "grade" and "-j" not in words:
            words = ("grade", "-j", "1", *words[1:])
        status = cli.main(words)
        return (status, *capfd.readouterr())

    return work


@pytest.fixture
def homework(tmp_path: Path) -> Path:
    """Three submissions: a right one, a wrong one, and one that is no Python."""
    folder = tmp_path / "homework"
    folder.mkdir()
    (folder / "ada.py").write_text(
        "def is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)\n"
    )
    (folder / "bob.py").write_text("def is_leap(year):\n    return year % 4 == 0\n")
    (folder / "eve\x1b]0;x\x07.py").write_text("def is_leap(year) return\n")
    return folder


# --- exercise ---------------------------------------------------------------------------------------------------------


def test_the_list(run: Run) -> None:
    status, out, _ = run("exercise", "list")
    assert (status, "05-second-largest  The second largest\n" in out, len(out.splitlines())) == (0, True, 10)
    assert json.loads(run("exercise", "list", "--json")[1])["01-greeting"] == "A greeting"


@pytest.mark.full
def test_a_new_one_is_whole(run: Run) -> None:
    status, out, _ = run("exercise", "new", "mine")
    assert (status, out) == (0, "mine: made. Change what is in it, then: proxybox exercise check mine\n")
    status, out, err = run("exercise", "check", "mine")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "mine: The area of a rectangle"
    rows = {line.split()[0]: line.split()[1:5] for line in out.splitlines()[3:]}
    assert rows["model/product"] == ["4", "/", "4", "ok"]
    assert rows["wrong/sum"] == ["0", "/", "4", "ok"]
    assert set(rows) == {"model/product", "wrong/sum", "wrong/constant", "starter"}


def test_a_new_one_from_another(run: Run, tmp_path: Path) -> None:
    assert run("exercise", "new", "mine", "--from", "10-weather")[0] == 0
    assert find_exercise("mine").title == "The weather of a month"
    assert not list((tmp_path / "mine").rglob("__pycache__"))
    status, _, err = run("exercise", "new", "other", "--from", "11-weather")
    assert (status, "there is no exercise '11-weather' (proxybox exercise list)" in err) == (125, True)
    assert "--from: " in err
    assert err.endswith("; did you mean 10-weather?\n")
    status, _, err = run("exercise", "check", "10-wether")
    assert (status, "did you mean 10-weather?" in err) == (125, True)


def test_a_new_one_replaces_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").touch()
    assert run("exercise", "new", "mine") == (125, "", "proxybox: can't make mine: there is something already\n")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("wrong/right.py", "def area(width, height):\n    return height * width\n", "it passes everything"),
        ("solutions/bad.py", "def area(a, b):\n    return a\n", "a model solution that fails"),
        ("tests/test_more.py", "def test_it(student):\n    1 / 0\n", "is at fault itself"),
    ],
)
@pytest.mark.full
@pytest.mark.parametrize("is_json", [False, True])
def test_what_is_not_as_it_should_be(run: Run, tmp_path: Path, path: str, text: str, words: str, is_json: bool) -> None:
    run("exercise", "new", "mine")
    (tmp_path / "mine" / path).write_text(text)
    status, out, _ = run("exercise", "check", "mine", *(["--json"] if is_json else []))
    seen = [each["problem"] for each in json.loads(out)["mine"]] if is_json else [out]
    assert (status, any(words in each for each in seen)) == (1, True)


@pytest.mark.full
def test_tests_are_tried_with_useless_returns(run: Run, tmp_path: Path) -> None:
    """A test that raises because of them is reported once, with the student's message; it is no mistake."""
    run("exercise", "new", "mine")
    tests = """
def test_sum(student):
    "A sum"
    assert student.call("area", 3, 4) + 1 == 13
"""
    (tmp_path / "mine/tests/test_more.py").write_text(tests)
    (tmp_path / "mine/solutions/product.py").write_text(
        "class A:\n    def f(self): pass\ndef area(width, height):\n    return width * height\n"
    )
    status, out, _ = run("exercise", "check", "mine")
    assert status == 0, out
    seen = out.partition("\nTests that raise an exception themselves where a function returns something useless:")[2]
    words = "area(3, 4) returned None, and the test cannot go on with that (TypeError)."
    assert seen.splitlines()[1:3] == [
        "  A sum: tests/test_more.py:4: TypeError: unsupported operand type(s) for +: 'NoneType' and 'int'",
        f"    with model/product whose area returns None and 2 more; the student reads: {words}",
    ]
    found = json.loads(run("exercise", "check", "mine", "--json")[1])["mine"]
    names = [each["solution"] for each in found if each["solution"].startswith("model/product whose")]
    assert names == [f"model/product whose area returns {value}" for value in ("None", '""', "[]")]


@pytest.mark.full
def test_where_a_test_is_at_fault(run: Run, homework: Path, tmp_path: Path) -> None:
    """Its text, line and traceback are in all output for teachers, and in none for students."""
    run("exercise", "new", "mine")
    (tmp_path / "mine/tests/test_more.py").write_text("SECRET = {}\n\ndef test_it(student):\n    SECRET['no']\n")
    where, line = "tests/test_more.py:4: KeyError: 'no'", "  tests/test_more.py:4: in test_it\n    SECRET['no']\n"
    _, out, _ = run("exercise", "check", "mine")
    assert f"\nThe test 'it' is at fault itself, with model/product and 3 more:\n{where}\n{line}" in out
    first = json.loads(run("exercise", "check", "mine", "--json")[1])["mine"][0]
    assert first["problem"] == f"the test 'it' is at fault itself: {where}"
    assert f"{where}\n{line}" in [f"{test['fault']}\n" for test in first["tests"]]
    status, _, err = run("grade", "mine", "homework", "-f", "vpl", "-f", "gradescope", "-f", "exercism", "-f", "junit")
    seen = f"proxybox: the test 'it' is at fault itself, for 2 submissions, such as ada: {where}"
    assert (status, seen in err.splitlines()) == (125, True), err
    files = contents(tmp_path / "grades")
    holding = {name for name, data in files.items() if b"SECRET" in data}
    assert holding == {"grades.json", "report.html"}


@pytest.mark.full
def test_without_wrong_or_right_ones(run: Run, tmp_path: Path) -> None:
    run("exercise", "new", "mine")
    shutil.rmtree(tmp_path / "mine/wrong")
    assert "There are no wrong solutions" in run("exercise", "check", "mine")[1]
    shutil.rmtree(tmp_path / "mine/solutions")
    status, _, err = run("exercise", "check", "mine")
    assert (status, err) == (
        125, "proxybox: mine/exercise.toml: solutions: there is no model solution to check with\n",
    )  # fmt: skip


@pytest.mark.full
def test_tests_that_cannot_be_run(run: Run, tmp_path: Path) -> None:
    run("exercise", "new", "mine")
    (tmp_path / "mine/tests/test_more.py").write_text("def test_it(student)\n")
    status, _, err = run("exercise", "check", "mine")
    assert status == 125
    assert err.startswith(
        'proxybox: the tests are at fault:\ntests/test_more.py:\n    File "tests/test_more.py", line 1\n'
    )
    assert "SyntaxError" in err


def test_one_submission(run: Run, homework: Path) -> None:
    status, out, err = run("exercise", "test", "02-leap-year", "homework/ada.py")
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert (lines[0], lines[-1]) == (["ada:", "Leap", "years"], ["6", "of", "6", "points"])
    status, out, err = run("exercise", "test", "02-leap-year", "homework/bob.py")
    assert (status, err) == (1, "")
    assert "wrong answer  0 / 2  Centuries" in out
    assert "is_leap(1900) returned True, and False was expected." in out
    status, out, _ = run("exercise", "test", "02-leap-year", "homework/eve\x1b]0;x\x07.py")
    assert (status, out.splitlines()[0], "\x1b" in out) == (1, r"eve\x1b]0;x\x07: Leap years", False)


def test_one_submission_that_prints(run: Run, homework: Path) -> None:
    """Its output is shown where a test failed, made harmless, and cut."""
    (homework / "bob.py").write_text("def is_leap(year):\n    print('\x1b[31m' + 'red\\n' * 40)\n    return None\n")
    status, out, _ = run("exercise", "test", "02-leap-year", "homework/bob.py")
    assert (status, "\x1b" in out, out.count("It printed:")) == (1, False, 4)
    assert out.count("red") == 4 * 10


@pytest.mark.full
def test_what_the_message_shows_is_shown_once(run: Run, homework: Path, tmp_path: Path) -> None:
    (homework / "bob.py").write_text("print('some words')\n")
    status, out, _ = run("exercise", "test", "01-greeting", "homework/bob.py")
    assert (status, out.count("It printed:")) == (1, out.count("The output of the program is another"))
    assert run("grade", "01-greeting", "homework/bob.py", "-f", "feedback")[0] == 0
    text = (tmp_path / "grades/feedback/bob/feedback.txt").read_text()
    assert text.count("It printed:") == text.count("The output of the program is another") > 0


#: Sets a title, reverses the direction of text, and hides the text before it on its line.
EVIL = "\x1b]0;owned\x07\u202e\rok  2 / 2"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
MESSAGES = """
def test_output(run_student):
    run_student().expect_output("42")

def test_words(student):
    student.call("f")
    assert student.stdout == "42", f"it printed {student.stdout}"
"""


def test_no_message_reaches_the_teachers_terminal_with_what_a_submission_printed(run: Run, tmp_path: Path) -> None:
    """The messages of tests and of a wrong solution, and the names of files."""
    run("exercise", "new", "mine")
    shutil.rmtree(tmp_path / "mine/tests")
    (tmp_path / "mine/tests").mkdir()
    (tmp_path / "mine/tests/test_it.py").write_text(MESSAGES)
    program = f"def f(): print({EVIL!r})\nf()\n"
    (tmp_path / "mine/wrong" / f"{EVIL.partition('/')[0]}.py").write_text(program)
    (tmp_path / "theirs.py").write_text(program)
    exercise = (tmp_path / "mine/exercise.toml").read_text()
    title = re.search("^title = .*", exercise, re.MULTILINE)
    assert title is not None
    seen = "\\u001b]0;owned"
    (tmp_path / "mine/exercise.toml").write_text(exercise.replace(title[0], f'title = "A title{seen}"'))
    for words in (
        ("exercise", "test", "mine", "theirs.py"),
        ("exercise", "check", "mine"),
        ("grade", "mine", "theirs.py"),
        ("exercise", "test", "mine", f"no{EVIL}.py"),
        ("exercise", "check", f"no{EVIL}"),
        ("grade", "mine", f"no{EVIL}", "--output", f"out{EVIL}"),
        ("grade", "mine", f"--no{EVIL}"),
        ("policy", "check", f"no{EVIL}"),
        ("policy", "explain", f"no{EVIL}.toml"),
        ("run", f"no{EVIL}.py"),
    ):
        _, out, err = run(*words)
        assert not CONTROLS.search(out + err), ascii(out + err)
        assert "owned" in out + err or words[0] == "grade", words


def test_one_notebook(run: Run, homework: Path) -> None:
    """The lines that are not run are listed beside the results."""
    (homework / "dan.ipynb").write_text(
        '{"cells": [{"cell_type": "code", "source": ["%ls\\n", "def is_leap(year):\\n", "    return False"]}]}'
    )
    status, out, _ = run("exercise", "test", "02-leap-year", "homework/dan.ipynb")
    assert (status, out.splitlines()[0]) == (1, "dan: Leap years")
    assert "they are not run:\n    %ls\n" in out


def test_one_submission_as_json(run: Run, homework: Path) -> None:
    status, out, _ = run("exercise", "test", "02-leap-year", "homework/bob.py", "--json")
    (grade,) = json.loads(out)["grades"]
    assert (status, grade["student"], len(grade["tests"])) == (1, "bob", 5)


@pytest.mark.parametrize(
    ("words", "status", "seen"),
    [
        (("02-leap-year", "homework/nobody.py"), 125, "homework/nobody.py: No such file or directory"),
        (("no-such", "homework/ada.py"), 125, "no-such/exercise.toml: cannot be read: No such file or directory"),
        (("02-leap-year", "homework/ada.py", "--guest", "/no/pypy"), 125, "/no/pypy"),
        (("mine", "homework/ada.py"), 125, "the tests are at fault"),
        (("02-leap-year",), 2, "Missing argument"),
    ],
)
def test_one_submission_that_cannot_be_tested(
    run: Run, homework: Path, tmp_path: Path, words: Any, status: int, seen: str
) -> None:
    run("exercise", "new", "mine")
    (tmp_path / "mine/tests/test_more.py").write_text("def test_it(student)\n")
    found, _, err = run("exercise", "test", *words)
    assert (found, seen in err) == (status, True), err


# --- grade ------------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_a_class(run: Run, homework: Path, tmp_path: Path) -> None:
    status, out, err = run("grade", "02-leap-year", "homework", "-f", "gradescope", "-f", "junit")
    assert (status, err) == (0, "")
    lines = [line.split("  ") for line in out.splitlines()]
    assert [line[0] for line in lines[2:5]] == ["ada", "bob", "eve\\x1b]0;x\\x07"]
    assert "ok" in lines[2]
    assert "wrong answer" in lines[3]
    assert "syntax error" in lines[4]
    assert out.endswith("3 submissions, 1 passed everything. More: grades/report.html\n")
    grades = tmp_path / "grades"
    assert sorted(path.name for path in grades.iterdir()) == [
        ".grades.jsonl", "grades.csv", "grades.json", "gradescope", "junit.xml", "report.html",
    ]  # fmt: skip
    assert len(list(csv.DictReader((grades / "grades.csv").read_text().splitlines()))) == 3
    assert json.loads((grades / "gradescope/ada/results.json").read_text())["tests"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != FILE}


@pytest.mark.full
def test_the_same_bytes_each_time(run: Run, homework: Path, tmp_path: Path) -> None:
    for name, jobs in (("one", "1"), ("two", "2")):
        assert run("grade", "02-leap-year", "homework", "-o", name, "-j", jobs, "-f", "junit")[0] == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.full
def test_only_what_has_changed_is_graded_again(run: Run, homework: Path, tmp_path: Path) -> None:
    run("grade", "02-leap-year", "homework")
    kept = tmp_path / "grades" / FILE
    before = kept.read_text().split()
    first = run("grade", "02-leap-year", "homework")
    assert kept.read_text().split() == before
    (homework / "bob.py").write_text((homework / "ada.py").read_text())
    second = run("grade", "02-leap-year", "homework")
    lines = [line for line in kept.read_text().splitlines() if line]
    assert (len(lines), json.loads(lines[-1].partition(" ")[2])["grade"]["student"]) == (4, "bob")
    assert "1 passed everything" in first[1]
    assert "2 passed everything" in second[1]
    run("grade", "02-leap-year", "homework", "--again")
    assert len([line for line in kept.read_text().splitlines() if line]) == 7


def test_json(run: Run, homework: Path) -> None:
    status, out, _ = run("grade", "02-leap-year", "homework", "--json")
    book = json.loads(out)
    assert (status, book["title"], [each["student"] for each in book["grades"]][:2]) == (
        0,
        "Leap years",
        ["ada", "bob"],
    )


LONG = """
def is_leap(year):
    found = []
    for number in range(1, year + 1):
        if number % 4 == 0 and number % 100 != 0:
            found.append(number)
        elif number % 400 == 0:
            found += [number]
    while len(found) > 1:
        found.pop(0)
    return bool(found) and found[-1] == year
"""


@pytest.mark.full
def test_alike(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "homework"
    folder.mkdir()
    (folder / "a.py").write_text(LONG)
    (folder / "b.py").write_text(LONG.replace("found", "x").replace("number", "n"))
    out = run("grade", "02-leap-year", "homework")[1]
    assert out.splitlines()[2].split()[-1] == "b"
    assert "Nearly the same as b" in (tmp_path / "grades/report.html").read_text()
    (folder / "b.py").write_text(LONG.partition("    while")[0] + "    return sorted(set(map(abs, found))) == []\n")
    assert ["Nearly the same as b" in page(run, tmp_path, *more) for more in ((), ("--alike", "0.4"))] == [False, True]


def page(run: Run, tmp_path: Path, *more: str) -> str:
    run("grade", "02-leap-year", "homework", *more)
    return (tmp_path / "grades/report.html").read_text()


@pytest.mark.full
def test_seconds_where_they_are_wanted(run: Run, homework: Path, tmp_path: Path) -> None:
    for more in ([], ["--timings", "--again"]):
        run("grade", "02-leap-year", "homework", *more)
        graded = json.loads((tmp_path / "grades/grades.json").read_text())
        assert any(test["seconds"] for test in graded["grades"][0]["tests"]) == bool(more)


@pytest.mark.parametrize(
    ("words", "status", "seen"),
    [
        (("02-leap-year", "homework", "-f", "gradescop"), 2, "did you mean gradescope?"),
        (("02-leap-year", "empty"), 125, "there are no submissions in empty"),
        (("no-such", "homework"), 125, "no-such/exercise.toml: cannot be read: No such file or directory"),
        (("02-leap-year", "nowhere"), 125, "nowhere: No such file or directory"),
        (("02-leap-year", "homework", "-o", "homework"), 2, "has other files in it"),
        (("02-leap-year", "homework", "-o", "homework/ada.py"), 125, "can't write to homework/ada.py: File exists"),
        (("02-leap-year", "homework", "--guest", "/no/pypy"), 125, "/no/pypy"),
        (("02-leap-year",), 2, "Missing argument"),
    ],
)
def test_what_cannot_be(run: Run, homework: Path, tmp_path: Path, words: Any, status: int, seen: str) -> None:
    (tmp_path / "empty").mkdir()
    found, _, err = run("grade", *words)
    assert (found, seen in err) == (status, True), err


def test_ctrl_c_keeps_what_is_done(homework: Path, tmp_path: Path) -> None:
    """The same command continues with the rest."""
    shutil.copytree(find_exercise("02-leap-year").folder, tmp_path / "exercise")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    test = tmp_path / "exercise/tests/test_wait.py"
    test.write_text(f"def test_wait(student):\n    'Waits'\n    open({str(pipe)!r}, 'w').close()\n")
    command = [*COMMAND, "grade", "exercise", "homework", "-j", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        pipe.open().close()  # until the first submission is being graded
        os.killpg(process.pid, signal.SIGINT)
        reader = os.open(pipe, os.O_RDWR)  # submissions that have begun, or begin now, do not block
        _, err = process.communicate(timeout=100)
        os.close(reader)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    seen = [line for line in err.splitlines() if line]
    assert (process.returncode, seen[-1]) == (130, "proxybox: interrupted; run the same command to go on")
    assert all(line.startswith("proxybox: waiting for ") for line in seen[:-1])
    assert len(seen) <= 2
    done = [line for line in (tmp_path / "grades" / FILE).read_text().splitlines() if line]
    assert 1 <= len(done) <= 3
    assert not (tmp_path / "grades/report.html").exists()


@pytest.mark.full
def test_long_names_on_a_narrow_terminal(tmp_path: Path) -> None:
    """No line is wider than the terminal, which would wrap it. In other output names are not cut."""
    homework = tmp_path / "homework"
    homework.mkdir()
    long, code = "Ada Lovelace of London " * 3, (find_exercise("03-collatz").folder / "solutions").iterdir()
    text = next(code).read_text()
    for name in (f"{long}1.py", f"{long}2.py", "bob.py"):
        (homework / name).write_text(text)
    main, side = pty.openpty()
    command = [*COMMAND, "grade", "03-collatz", "homework"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "70", "NO_COLOR": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=side) as process:
        os.close(side)
        shown = b""
        with contextlib.suppress(OSError):
            while piece := os.read(main, 4096):
                shown += piece
        assert process.wait(200) == 0
    os.close(main)
    lines = shown.decode().replace("\r", "").splitlines()
    assert max(map(len, lines[:5])) <= 70
    assert lines[0].split() == ["Submission", "Score", "Status", "Late", "Alike"]
    assert lines[2].startswith("Ada Lovelace of Lond")
    assert lines[2].count("…") == 2
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert long.strip() in done.stdout


@pytest.mark.parametrize(
    "place", ["while it is tested", "while tests are loaded", "in a library that is deaf to signals"]
)
def test_a_second_ctrl_c_ends_at_once(homework: Path, tmp_path: Path, place: str) -> None:
    """The first Ctrl-C says what it waits for. Workers print nothing, wherever they are."""
    shutil.copytree(find_exercise("02-leap-year").folder, tmp_path / "exercise")
    begun, never = tmp_path / "begun", tmp_path / "never"
    os.mkfifo(begun)
    os.mkfifo(never)
    work = f"open({str(begun)!r}, 'w').close(); "
    work += "re.match('(a+)+$', 'a' * 60 + 'b')" if "deaf" in place else f"open({str(never)!r}, 'w').close()"
    test = f"def test_wait(student): {work}" if "load" not in place else f"{work}\ndef test_wait(student): pass"
    (tmp_path / "exercise/tests/test_wait.py").write_text(f"import re\n{test}\n")
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], "grade", "exercise", "homework", "-j", "2"],
        cwd=tmp_path, env={**os.environ, "TERM": "xterm", "COLUMNS": "200"}, timeout=100, encoding="utf-8",
    )  # fmt: skip
    child.logfile_read = said = io.StringIO()
    try:
        with begun.open():
            child.sendintr()
            child.expect("proxybox: waiting for .* being graded; Ctrl-C once more ends at once")
            child.sendintr()
            child.expect("proxybox: interrupted; run the same command to go on")
            child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert child.exitstatus == 130
    assert "Traceback" not in said.getvalue()


@pytest.mark.parametrize("module", ["click", "pytest", "proxybox.teach.grading", "rich.progress"])
def test_ctrl_c_while_the_command_is_loaded(homework: Path, module: str) -> None:
    code = (
        "import os, signal, sys\nclass Finder:\n  def find_spec(self, name, *_):\n"
        f"    if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    child = pexpect.spawn(
        COMMAND[0], ["-c", code + COMMAND[2], "grade", "02-leap-year", str(homework), "-o", f"{homework}/../grades"],
        env={**os.environ, "TERM": "xterm"}, timeout=100, encoding="utf-8",
    )  # fmt: skip
    said = child.read()
    child.close()
    assert (child.exitstatus, "Traceback" in said) == (130, False), said


@pytest.mark.full
def test_a_bar_on_a_terminal(homework: Path, tmp_path: Path) -> None:
    """A progress bar is drawn on a terminal."""
    main, side = pty.openpty()
    command = [*COMMAND, "grade", "02-leap-year", "homework"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=side, stdout=subprocess.PIPE) as process:
        os.close(side)
        shown = b""
        while True:
            try:
                piece = os.read(main, 4096)
            except OSError:
                break
            shown += piece
        assert process.wait(200) == 0
    os.close(main)
    assert b"Grading" in shown
    assert b"/3" in shown


# --- what came with submissions ---------------------------------------------------------------------------------------


def test_links_in_the_folder_of_grades_lead_nowhere(run: Run, homework: Path, tmp_path: Path) -> None:
    """A student's repository may contain the default folder of grades: the targets of its links do not change."""
    victim, grades = tmp_path / "victim", tmp_path / "grades"
    victim.mkdir()
    for name in ("bashrc", "profile"):
        (victim / name).write_text("mine\n")
    grades.mkdir()
    (grades / "grades.csv").symlink_to(victim / "bashrc")
    (grades / FILE).symlink_to(victim / "profile")
    assert run("grade", "02-leap-year", str(homework))[0] == 125
    (grades / FILE).unlink()
    (grades / FILE).touch()
    assert run("grade", "02-leap-year", str(homework))[0] == 0
    assert {path.name: path.read_text() for path in victim.iterdir()} == {"bashrc": "mine\n", "profile": "mine\n"}
    assert not (grades / "grades.csv").is_symlink()
    shutil.rmtree(grades)
    grades.symlink_to(victim)
    assert run("grade", "02-leap-year", str(homework))[0] == 2
    (homework / "out").symlink_to(victim)
    (tmp_path / "link").symlink_to("homework")
    for given in ("homework", "link"):
        for path in ("homework/out", "homework/out/grades", "homework/out/grades/deep", "link/../homework/out/grades"):
            assert run("grade", "02-leap-year", given, "-o", path)[0] == 2
    assert len([*victim.iterdir()]) == 2


def test_a_folder_of_grades_behind_a_link_of_the_teachers(run: Run, homework: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine").symlink_to("elsewhere")
    assert run("grade", "02-leap-year", "homework", "-o", "mine/grades")[0] == 0
    assert (tmp_path / "elsewhere/grades/report.html").is_file()


def test_a_key_that_is_being_written_when_something_ends(
    homework: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then there is no key, and the next one is stored: grading can be resumed.

    Of two at the same time the first is used.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    flush = os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(records.os, "fsync", lambda _: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            records._key()
    folder = tmp_path / "state/proxybox/grades"
    assert [*folder.iterdir()] == []

    def first(fd: int) -> None:
        flush(fd)
        (folder / "key").write_bytes(b"x" * 32)
        (folder / "key").chmod(0o600)

    with monkeypatch.context() as patch:
        patch.setattr(records.os, "fsync", first)
        assert records._key() == b"x" * 32
    assert records._key() == b"x" * 32
    (folder / "key").unlink()
    assert records._key() == records._key() != b"x" * 32
    (folder / "key").unlink()

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(records.os, "link", refuse)  # as on vfat
    assert records._key() == records._key()
    assert [path.name for path in folder.iterdir()] == ["key"]


@pytest.mark.sized(1)
@pytest.mark.parametrize("unsigned", [False, True])
def test_grades_that_somebody_else_has_written_down_count_for_nothing(
    run: Run, homework: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsigned: bool
) -> None:
    """Grades that are signed with another key, or not at all, are graded again."""
    assert run("grade", "02-leap-year", str(homework))[0] == 0
    honest = contents(tmp_path / "grades")
    path = tmp_path / "grades" / FILE
    path.write_bytes(path.read_bytes().replace(b"wrong_answer", b"ok"))
    assert run("grade", "02-leap-year", str(homework))[0] == 0
    with monkeypatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path / "of another"))
        shutil.rmtree(tmp_path / "grades")
        assert run("grade", "02-leap-year", str(homework))[0] == 0
    lines = path.read_bytes().replace(b"wrong_answer", b"ok").splitlines()
    path.write_bytes(b"\n".join(each.partition(b" ")[2] if unsigned else each for each in lines))
    assert run("grade", "02-leap-year", str(homework))[0] == 0
    found = contents(tmp_path / "grades")
    assert {name: found[name] for name in honest if name != FILE} == {
        name: honest[name] for name in honest if name != FILE
    }


@pytest.mark.sized(1)
@pytest.mark.parametrize(
    ("command", "end"), [("grade", ""), ("exercise check", "/"), ("exercise test", ""), ("exercise test", "//")]
)
def test_a_folder_stands_for_no_exercise_that_comes_with_proxybox(
    run: Run, homework: Path, tmp_path: Path, command: str, end: str
) -> None:
    """Its tests and its conftest.py would be run as the teacher. ./NAME means the folder."""
    trap, sprung = tmp_path / "02-leap-year", tmp_path / "sprung"
    shutil.copytree(find_exercise("02-leap-year").folder, trap)
    (trap / "tests/conftest.py").write_text(f"open({str(sprung)!r}, 'w')")
    given = {"grade": [str(homework)], "exercise check": [], "exercise test": [str(homework / "ada.py")]}[command]
    status, _, err = run(*command.split(), "02-leap-year" + end, *given)
    assert (status, sprung.exists()) == (0, False)
    assert err == "proxybox: 02-leap-year comes with proxybox; the folder here is ./02-leap-year\n"
    status, _, err = run(*command.split(), "./02-leap-year" + end, *given)
    assert (status, sprung.exists(), err) == (0, True, "")


@pytest.mark.parametrize("folder", ["02-leap-year", "./02-leap-year", "02-leap-year/"])
def test_a_new_one_called_like_one_that_comes_with_proxybox(run: Run, folder: str) -> None:
    """The suggested command names the folder, not the other exercise."""
    _, out, _ = run("exercise", "new", folder, "--from", "03-collatz/")
    assert out.endswith(" exercise check ./02-leap-year\n")
