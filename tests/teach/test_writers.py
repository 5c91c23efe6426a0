"""The writers: valid output for any text, without hidden tests, checked by a reader for each format."""

import csv
import html
import io
import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxybox.teach import writers
from proxybox.teach.filenames import is_device
from proxybox.teach.grades import STATUSES, Grade, GradeBook, Verdict
from proxybox.teach.writers import WRITERS
from proxybox.teach.writers.common import clean
from proxybox.teach.writers.csv import is_formula

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
VERDICTS = st.builds(
    Verdict, name=TEXT, status=st.sampled_from(STATUSES), points=st.floats(), message=TEXT, output=TEXT,
    hidden=st.booleans(), line=st.none() | st.integers(),
)  # fmt: skip
BOOKS = st.builds(
    GradeBook,
    title=TEXT,
    grades=st.lists(
        st.builds(
            Grade, student=TEXT, message=TEXT, code=TEXT, failed=st.booleans(), tests=st.tuples(VERDICTS, VERDICTS)
        ),
        min_size=1,
        max_size=3,
    ),
)


def _json(text: str) -> object:
    return json.loads(text, parse_constant=lambda word: pytest.fail(word))


def _rows(text: str) -> None:
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))
    assert len({len(row) for row in rows}) == 1


def _vpl(text: str) -> None:
    lines = text.splitlines()
    assert all(line.startswith(("Comment :=>> ", "Grade :=>> ")) for line in lines)
    assert sum(line.startswith("Grade") for line in lines) <= 1


def _feedback(text: str) -> None:
    assert not any(each.startswith("Score: ") for each in text.split("\n")[3:])
    assert not set(text) & set("\x1b\x00\r\u202e")


#: Reads a file of each format, and fails if a text of a submission has broken it.
READERS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(("gradescope", "prairielearn", "exercism", "check50", "json"), _json),
    **dict.fromkeys(("csv", "moodle", "canvas"), _rows),
    "dodona": lambda text: [_json(line) for line in text.rstrip("\n").split("\n")],
    "feedback": _feedback,
    "junit": ET.fromstring,
    "vpl": _vpl,
}


def test_each_module_has_a_row_and_each_row_a_reader() -> None:
    modules = {each.stem for each in Path(writers.__file__).parent.glob("*.py")} - {"__init__", "common"}
    missing = modules - {writer.render.__module__.rpartition(".")[2] for writer in WRITERS.values()}
    assert not missing, f"give {missing} a row in WRITERS (proxybox/teach/writers/__init__.py)"
    assert READERS.keys() == WRITERS.keys(), "give each format a reader in READERS (tests/teach/test_writers.py)"


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(book=BOOKS)
def test_valid_for_any_text(name: str, book: GradeBook) -> None:
    files = list(WRITERS[name].files(book))
    assert len({path.lower() for path, _ in files}) == len(files)
    for path, text in files:
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        text.encode()
        READERS[name](text)


@pytest.mark.parametrize("student", ["CON", "nul.txt", "com1", "Lpt¹", "aux .py"])
def test_no_folder_is_a_device_of_windows(student: str) -> None:
    ((path, _),) = WRITERS["feedback"].files(_book(student=student))
    assert not is_device(path.partition("/")[0])


def _book(**changes: object) -> GradeBook:
    tests = (
        Verdict(name="adds", status="ok", points=1.0, output="hi"),
        Verdict(name="wraps", status="wrong_answer", message="f(1) gave 2, not 3"),
        Verdict(name="SECRET", status="time_limit", message="SECRET", output="SECRET", hidden=True),
    )
    fields: dict[str, object] = {"student": "ada", "tests": tests, **changes}
    return GradeBook(title="Week 1", grades=[Grade(**fields)])  # type: ignore[arg-type]


def _one(name: str, book: GradeBook) -> str:
    ((_, text),) = WRITERS[name].files(book)
    return text


@pytest.mark.parametrize("name", [*(name for name, writer in WRITERS.items() if writer.for_students), "moodle"])
def test_hidden(name: str) -> None:
    text = _one(name, _book())
    if name == "gradescope":
        tests = json.loads(text)["tests"]
        assert [test["visibility"] for test in tests] == ["visible", "visible", "hidden"]
    else:
        assert "SECRET" not in text


def test_failed() -> None:
    book = _book(failed=True)
    assert "score" not in json.loads(_one("gradescope", book))
    assert json.loads(_one("prairielearn", book))["gradable"] is False
    assert json.loads(_one("exercism", book))["status"] == "error"
    assert json.loads(_one("dodona", book).splitlines()[-1])["status"]["enum"] == "internal error"
    assert "error" in json.loads(_one("check50", book))
    assert "Grade :=>>" not in _one("vpl", book)
    assert "Score: " not in _one("feedback", book)
    assert ET.fromstring(_one("junit", book))[0].attrib["errors"] == "1"
    assert _one("csv", book).splitlines()[1].startswith("ada,,")


def test_golden() -> None:
    assert _one("vpl", _book()).splitlines() == [
        "Comment :=>> - adds: ok (1/1)",
        "Comment :=>> >hi",
        "Comment :=>> - wraps: wrong answer (0/1)",
        "Comment :=>> >f(1) gave 2, not 3",
        "Comment :=>> - hidden tests: wrong answer (0/1)",
        "Comment :=>> >0 of 1 passed",
        "Grade :=>> 1",
    ]
    book = _book(late=True, note="A note.", student="../a\x1b/b\nScore: 100")
    ((path, text),) = WRITERS["feedback"].files(book)
    assert path == "_a__b_Score__100/feedback.txt"
    assert text.splitlines() == [
        "Week 1",
        "Submission: ../a\\x1b/b Score: 100",
        "Score: 1 of 3 points, handed in late",
        "",
        "+ adds: ok (1 of 1)",
        "- wraps: wrong answer (0 of 1)",
        "    f(1) gave 2, not 3",
        "- hidden tests: wrong answer (0 of 1)",
        "    0 of 1 passed",
        "",
        "  A note.",
    ]
    assert json.loads(_one("exercism", _book()))["tests"][0] == {"name": "adds", "status": "pass", "output": "hi"}
    assert math.isclose(json.loads(_one("prairielearn", _book()))["score"], 1 / 3)


@pytest.mark.full
def test_limits() -> None:
    big = Verdict(name="n", status="error", message="\x00é" * 200_000, output="\x00é" * 200_000)
    book = _book(tests=(big,) * 300, message="m")
    assert len(_one("prairielearn", book).encode()) <= 1_000_000
    test = json.loads(_one("exercism", book))["tests"][0]
    assert len(test["message"]) <= 65_535
    assert len(test["output"]) <= 500


@pytest.mark.parametrize("start", [*"=+-@\t\r\uff1d\uff0b\uff0d\uff20\ufe66", "\u3000=", " \uff1d"])
def test_formulas(start: str) -> None:
    rows = list(csv.reader(io.StringIO(_one("csv", _book(student=start + "cmd()")), newline="")))
    assert rows[1][0].startswith("'")


def test_spreadsheets_that_split_at_semicolons() -> None:
    """Such as in languages with a decimal comma."""
    text = _one("csv", _book(student='ada;=cmd();x;\uff1d"1"'))
    row = next(csv.reader(io.StringIO(text.splitlines()[1], newline="")))
    assert row[0] == """ada;'=cmd();x;'\uff1d"1\""""
    assert text.splitlines()[1].startswith('"ada;')
    apart = next(csv.reader(io.StringIO(text.splitlines()[1], newline=""), delimiter=";"))
    assert apart[0].startswith("ada;'=cmd()")


@pytest.mark.parametrize("text", ['a;"=1+1;b', 'a; "" =1+1;b', '"=1+1'])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_quotes_do_not_hide_a_formula(text: str, delimiter: str) -> None:
    """A quote that is doubled in a quoted cell is an empty quoted text for a spreadsheet that splits at semicolons."""
    line = _one("csv", _book(id=text)).splitlines()[1]
    cells = next(csv.reader([line], delimiter=delimiter))
    assert any("=1+1" in cell for cell in cells)
    assert not [cell for cell in cells if cell.lstrip(' "').startswith("=")]


def test_comments_for_moodle_in_such_a_spreadsheet() -> None:
    """HTML's entities end with semicolons, and the cell's quotes do not join its lines there."""
    evil = "<=cmd()\n=cmd()\n& \t+cmd()\n>==cmd();\uff1dcmd()"
    test = Verdict(name=evil, status="wrong_answer", message=evil, output=evil)
    text = _one("moodle", _book(student=evil, note=evil, tests=(test,))).removeprefix("\ufeff")
    assert "cmd()" in text
    cells = [cell for line in text.splitlines() for cell in line.split(";")]
    assert not [cell for cell in cells if is_formula(cell)]
    comment = next(csv.DictReader(io.StringIO(text, newline="")))["Feedback comments"]
    shown = html.unescape(comment.removeprefix("<pre>").removesuffix("</pre>").replace("<br>", "\n"))
    assert shown == _one("feedback", _book(student=evil, note=evil, tests=(test,))).strip()


def test_clean() -> None:
    assert clean("a\x1b[31m\ud800\u202e\ufffe\r\n") == "a\\x1b[31m\\ud800\\u202e\\ufffe\n"
