"""Forms of databases: an earlier form is converted with all its data, and an unknown form is refused.

forms/1-*.sql are what the code of commit e6ae26d8 has written. When tables change: give the new form a step (STEPS in
store.py), and add a file of the new form here.
"""

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the extra server is not installed")

import sqlalchemy as sql

from proxybox.serve.database import Database, StoreError
from proxybox.serve.retention import Retention
from proxybox.serve.store import STEPS, ServiceStore
from tests.serve import postgres
from tests.serve.listening import service

FORMS = Path(__file__).parent / "forms"
KEY = "0123456789ab"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of the time before forms were numbered."""
    values = [line for line in (FORMS / "1-sqlite.sql").read_text().splitlines() if line.startswith("INSERT")]
    if request.param == "sqlite":
        with contextlib.closing(sqlite3.connect(tmp_path / "db.sqlite")) as database:
            database.executescript((FORMS / "1-sqlite.sql").read_text())
        return f"sqlite:///{tmp_path}/db.sqlite"
    url: str = request.getfixturevalue("server").database()
    tables = (FORMS / "1-postgresql.sql").read_text()
    values = [value.replace("X'", "'\\x") for value in values]  # bytes in PostgreSQL's syntax
    _script(url, tables, *values, "select setval('audit_number_seq', 3)")
    return url


def _script(url: str, *statements: str) -> list[Any]:
    """Executes statements, and returns the rows of the last one."""
    engine = sql.create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
            return list(result.all()) if result.returns_rows else []
    finally:
        engine.dispose()


def test_a_database_of_before_forms_goes_on(old: str) -> None:
    with contextlib.closing(ServiceStore(old, "old", Retention(records="36500d", files="36500d"))) as store:
        known = store.session("ended", KEY)
        assert known is not None
        assert (known["state"], known["reason"]) == ("ended", "it was closed \0\udc80")
        lost = store.session("lived", KEY)
        assert lost is not None
        assert (lost["state"], lost["reason"]) == ("lost", "the service was restarted")
        assert store.get(KEY, "jobe", "file") == ("data.csv", b"a,b\n1,2\n")
        store.put(KEY, "jobe", "more", b"1", room=1 << 20)
        store.begin_session("new", KEY, "default", "python")
        row = dict.fromkeys(("client", "method", "path", "policy", "language", "code_sha256", "status"), "")
        store.note({"id": "r3", "at": 1.8e9, "key": KEY, "http_status": 200, "seconds": 0.1, "cpu": None, **row})
    assert _script(old, "select number from form") == [(1 + len(STEPS),)]
    assert [row[0] for row in _script(old, "select id from audit order by number")] == ["r0", "r1", "r2", "r3"]


def test_a_database_of_an_unknown_form_is_left_alone(old: str) -> None:
    with contextlib.closing(ServiceStore(old, "old")):
        pass
    _script(old, "update form set number = 99", "drop table artefacts")
    with pytest.raises(StoreError, match="it has form 99, and this proxybox knows forms 1 to") as raised:
        ServiceStore(old, "old")
    assert "use the version of proxybox that has written it" in str(raised.value)
    with pytest.raises(sql.exc.SQLAlchemyError):
        _script(old, "select * from artefacts")  # no table was made in it


@pytest.mark.full
def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    with contextlib.closing(ServiceStore(f"sqlite:///{tmp_path}/proxybox.sqlite", "old")):
        pass
    _script(f"sqlite:///{tmp_path}/proxybox.sqlite", "update form set number = 2000")
    config = tmp_path / "serve.toml"
    config.write_text(f'listen = "unix:{tmp_path}/socket"\ndata = "."\nworkers = 1\n')
    ended = subprocess.run(service(config), capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, "it has form 2000" in ended.stderr) == (125, True), ended.stderr
    assert "Traceback" not in ended.stderr


# --- steps ------------------------------------------------------------------------------------------------------------

_tables = sql.MetaData()
_things = sql.Table("things", _tables, sql.Column("id", sql.Integer, primary_key=True), sql.Column("name", sql.Text))
_later = sql.MetaData()
sql.Table("things", _later, *(column._copy() for column in _things.c), sql.Column("size", sql.Integer))
sql.Table("more", _later, sql.Column("id", sql.Integer, primary_key=True))


def _adds_size(connection: sql.Connection) -> None:
    connection.exec_driver_sql("alter table things add column size integer")
    connection.exec_driver_sql("update things set size = 1")


def _fails(connection: sql.Connection) -> None:
    raise StoreError("a step fails")


@pytest.fixture(params=["sqlite", "sqlite, durable", "postgresql"])
def begun(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, bool]:
    """A database of form 1 of these tables, and whether it is opened as durable."""
    is_postgres = request.param == "postgresql"
    url = request.getfixturevalue("server").database() if is_postgres else f"sqlite:///{tmp_path}/db.sqlite"
    Database(url, _tables).close()
    _script(url, "insert into things values (1, 'one')")
    return url, request.param == "sqlite, durable"


def test_steps_lead_from_form_to_form(begun: tuple[str, bool]) -> None:
    url, durable = begun
    for _ in range(2):  # the second time there is nothing to do
        Database(url, _later, durable=durable, steps=(_adds_size,)).close()
        assert _script(url, "select number from form") == [(2,)]
        assert _script(url, "select id, name, size from things") == [(1, "one", 1)]
    assert _script(url, "select * from more") == []
    with pytest.raises(StoreError, match="it has form 2, and this proxybox knows forms 1 to 1"):
        Database(url, _tables, durable=durable)


def test_a_step_that_fails_leaves_all_as_it_was(begun: tuple[str, bool]) -> None:
    url, durable = begun
    with pytest.raises(StoreError, match="a step fails"):
        Database(url, _later, durable=durable, steps=(_adds_size, _fails))
    assert _script(url, "select number from form") == [(1,)]
    assert _script(url, "select * from things") == [(1, "one")]
    Database(url, _tables, durable=durable).close()


def test_a_new_database_takes_no_steps(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/db.sqlite"
    Database(url, _later, steps=(_fails,)).close()
    assert _script(url, "select number from form") == [(2,)]


def test_the_tables_are_those_of_the_newest_file(tmp_path: Path) -> None:
    """A change of a table is a new form: it needs a number, a step, and a file here."""
    newest = FORMS / f"{1 + len(STEPS)}-sqlite.sql"
    assert newest.exists(), "what the new form's code writes belongs into a file here"
    made, kept = sqlite3.connect(tmp_path / "made"), sqlite3.connect(tmp_path / "kept")
    with contextlib.closing(ServiceStore(f"sqlite:///{tmp_path}/made", "new")):
        pass
    query = "select name, sql from sqlite_master where name not like 'sqlite_%' and name != 'form' order by name"
    with contextlib.closing(made), contextlib.closing(kept):
        kept.executescript(newest.read_text())
        assert made.execute(query).fetchall() == kept.execute(query).fetchall()
