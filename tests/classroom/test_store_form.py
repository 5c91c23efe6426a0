"""The form of a classroom's database: one of an earlier form goes on, and one of an unknown form is refused.

forms/1-sqlite.sql is what the code of commit e6ae26d8 has written; see tests/serve/test_forms.py for what to do when
tables change.
"""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra classroom is not installed")

from proxybox.classroom.store import STEPS, Connected, Store
from proxybox.serve.database import StoreError

FORMS = Path(__file__).parent / "forms"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database that the code of before forms has written."""
    path = tmp_path / "class.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript((FORMS / "1-sqlite.sql").read_text())
    return path


def test_a_class_of_before_forms_goes_on(old: Path) -> None:
    with contextlib.closing(Store(str(old))) as store:
        (seat,) = asyncio.run(store.do(Connected.seats))
        text = asyncio.run(store.do(lambda kept: kept.text("s1", "hello")))
        name = asyncio.run(store.do(Connected.fact, "name"))
    assert (seat.id, seat.name, seat.personal, seat.exercise) == ("s1", "Ada", "aaaa", None)
    assert text is not None
    assert (text.version, dict(text.files), name) == (1, {"main.py": "print(1)"}, "7b")
    with contextlib.closing(sqlite3.connect(old)) as database:
        assert database.execute("select number from form").fetchall() == [(1 + len(STEPS),)]


def test_a_class_of_an_unknown_form_is_left_alone(old: Path) -> None:
    with contextlib.closing(Store(str(old))):
        pass
    with contextlib.closing(sqlite3.connect(old)) as database:
        database.executescript("update form set number = 99; drop table hints;")
    with pytest.raises(StoreError, match="it has form 99, and this proxybox knows forms 1 to"):
        Store(str(old))
    with contextlib.closing(sqlite3.connect(old)) as database:
        assert database.execute("select name from sqlite_master where name = 'hints'").fetchall() == []


def test_the_tables_are_those_of_the_newest_file(tmp_path: Path) -> None:
    newest = FORMS / f"{1 + len(STEPS)}-sqlite.sql"
    assert newest.exists(), "what the new form's code writes belongs into a file here"
    with contextlib.closing(Store(str(tmp_path / "made"))):
        pass
    query = "select name, sql from sqlite_master where name not like 'sqlite_%' and name != 'form' order by name"
    made, kept = sqlite3.connect(tmp_path / "made"), sqlite3.connect(tmp_path / "kept")
    with contextlib.closing(made), contextlib.closing(kept):
        kept.executescript(newest.read_text())
        assert made.execute(query).fetchall() == kept.execute(query).fetchall()
