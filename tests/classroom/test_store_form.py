"""The form of a classroom's database: an earlier form is converted, and an unknown form is refused.

forms/1-sqlite.sql is what the code of commit e6ae26d8 has written, and 2-sqlite.sql that of the commit which has
added form 2; see tests/serve/test_forms.py for what to do when tables change.
"""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the extra classroom is not installed")

from proxybox.classroom.connected import Connected
from proxybox.classroom.records import Checked
from proxybox.classroom.store import ClassStore
from proxybox.classroom.tables import STEPS
from proxybox.serve.database import StoreError

FORMS = Path(__file__).parent / "forms"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of the time before forms were numbered."""
    path = tmp_path / "class.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript((FORMS / "1-sqlite.sql").read_text())
    return path


def test_a_class_of_before_forms_goes_on(old: Path) -> None:
    with contextlib.closing(ClassStore(str(old))) as store:
        (seat,) = asyncio.run(store.do(Connected.seats))
        text = asyncio.run(store.do(lambda kept: kept.text("s1", "hello")))
        name = asyncio.run(store.do(Connected.fact, "name"))
    assert (seat.id, seat.name, seat.personal, seat.exercise) == ("s1", "Ada", "aaaa", None)
    assert text is not None
    assert (text.version, dict(text.files), name) == (1, {"main.py": "print(1)"}, "7b")
    with contextlib.closing(sqlite3.connect(old)) as database:
        assert database.execute("select number from form").fetchall() == [(1 + len(STEPS),)]


def test_grades_and_grade_lines_of_form_1_go_on(old: Path) -> None:
    """Hand-ins without a grade are due; users and lines are still there; grades do not name their tests."""
    with contextlib.closing(sqlite3.connect(old)) as database:
        database.executescript("""
            INSERT INTO handins VALUES ('h1', 's1', 'hello', 1.0, 0, 'a', '{}', NULL);
            INSERT INTO handins VALUES ('h2', 's1', 'hello', 2.0, 0, 'b', '{}', NULL);
            INSERT INTO handins VALUES ('h3', 's1', 'loops', 3.0, 1, 'c', '{}', '{"failed": false, "tests": []}');
            INSERT INTO results VALUES ('s1', 'loops', 4.0, '{"failed": false, "tests": []}');
            INSERT INTO users VALUES ('https://a.example 1', 'u1', 's1');
            INSERT INTO lines VALUES ('s1', 'loops', 'https://a.example 1', 'u1', 'https://a.example/line', 0);
        """)
    with contextlib.closing(ClassStore(str(old))) as store:

        def do(method: Any, *args: Any) -> Any:
            return asyncio.run(store.do(method, *args))

        assert do(Connected.due) == ["h2"]
        known = do(Connected.handin, "h3")
        assert (known.grade, known.graded, known.basis, known.earlier) == (
            {"failed": False, "tests": []},
            None,
            None,
            None,
        )
        assert do(Connected.results) == [("s1", "loops", Checked(4.0, {"failed": False, "tests": []}))]
        assert do(Connected.seat_of_user, "https://a.example 1", "", "u1") == "s1"
        (line,) = do(Connected.lines)
        assert (line.seat, line.exercise, line.url, line.brought) == ("s1", "loops", "https://a.example/line", "")
        assert do(Connected.seats)[0].class_id == ""


def test_a_class_of_form_2_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "class.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript((FORMS / "2-sqlite.sql").read_text())
        database.executescript("CREATE TABLE form (number INTEGER NOT NULL PRIMARY KEY); INSERT INTO form VALUES (2)")
    with contextlib.closing(ClassStore(str(path))) as store:
        handed = asyncio.run(store.do(Connected.handin, "h1"))
        assert handed is not None
        assert handed.earlier is not None
        tests = [each["tests"][0]["status"] for each in (handed.grade, handed.earlier.grade)]
        assert (tests, handed.basis, handed.earlier.basis) == (["ok", "wrong_answer"], "new", "old")
        (kept,) = asyncio.run(store.do(Connected.classes))
        assert (kept.title, asyncio.run(store.do(Connected.seats))[0].class_id) == ("Class 7", kept.id)
        (line,) = asyncio.run(store.do(Connected.lines))
        assert line.brought == "1.000000 1700000000.000"


def test_a_class_of_an_unknown_form_is_left_alone(old: Path) -> None:
    with contextlib.closing(ClassStore(str(old))):
        pass
    with contextlib.closing(sqlite3.connect(old)) as database:
        database.executescript("update form set number = 99; drop table hints;")
    with pytest.raises(StoreError, match="it has form 99, and this proxybox knows forms 1 to"):
        ClassStore(str(old))
    with contextlib.closing(sqlite3.connect(old)) as database:
        assert database.execute("select name from sqlite_master where name = 'hints'").fetchall() == []


def test_the_tables_are_those_of_the_newest_file(tmp_path: Path) -> None:
    newest = FORMS / f"{1 + len(STEPS)}-sqlite.sql"
    assert newest.exists(), "what the new form's code writes belongs into a file here"
    with contextlib.closing(ClassStore(str(tmp_path / "made"))):
        pass
    query = "select name, sql from sqlite_master where name not like 'sqlite_%' and name != 'form' order by name"
    made, kept = sqlite3.connect(tmp_path / "made"), sqlite3.connect(tmp_path / "kept")
    with contextlib.closing(made), contextlib.closing(kept):
        kept.executescript(newest.read_text())
        assert made.execute(query).fetchall() == kept.execute(query).fetchall()
