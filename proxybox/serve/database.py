"""The database under `store`: SQLite in a file, PostgreSQL, or another one that SQLAlchemy knows.

Every failure of it is a StoreError, whatever the driver is.

The table `form` of each database has the number of its form. A database with tables but without a number was made
before the numbers existed, and has form 1. A database of an older form is changed to the current one, step by step and
in one transaction; a newer one is refused.
"""

import contextlib
import os
import re
import socket
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from proxybox.policies.errors import ProxyboxError

#: Seconds until an attempt to connect fails, and that a change waits for another one of the same key.
_CONNECTING: Final = 10
_WAITING: Final = 10
#: How many times services that start at the same time try to make the same tables.
_TRIES: Final = 5
#: The URLs for which psycopg is the driver, and the drivers that are libpq's.
_POSTGRES: Final = frozenset({"postgres", "postgresql"})
_OF_LIBPQ: Final = frozenset({"psycopg", "psycopg2"})
#: The characters that a database refuses in a text, with the escape character, and their escapes.
_REFUSED: Final = re.compile("[\\\\\0\ud800-\udfff]")
_WRITTEN: Final = re.compile(r"\\([0-9a-f]{1,4});")


_forms = sql.MetaData()
_form = sql.Table("form", _forms, sql.Column("number", sql.Integer, primary_key=True, autoincrement=False))


class StoreError(ProxyboxError):
    """The database cannot be used. is_away: whether a later try may succeed."""

    def __init__(self, message: str, *, is_away: bool = False) -> None:
        super().__init__(message)
        self.is_away = is_away


class UntrustedText(sql.TypeDecorator[str]):
    """A text from outside. NUL and lone surrogates, which databases refuse, are written as escapes, and read back."""

    impl = sql.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sql.Dialect) -> str | None:
        """Returns the text that is written."""
        return None if value is None else _REFUSED.sub(lambda found: f"\\{ord(found[0]):x};", value)

    def process_result_value(self, value: str | None, dialect: sql.Dialect) -> str | None:
        """Returns the value that was stored."""
        return None if value is None else _WRITTEN.sub(lambda found: chr(int(found[1], 16)), value)


class LongUntrustedText(UntrustedText):
    """As UntrustedText, of any length."""

    impl = sql.Text
    cache_ok = True


#: Changes a database from one form to the next one. It changes tables that exist, and makes none.
Step = Callable[[sql.Connection], None]


class Database:
    """One database; it can be used from many threads, and its methods block."""

    def __init__(self, url: str, tables: sql.MetaData, *, durable: bool = False, steps: Sequence[Step] = ()) -> None:
        """Opens the database, and makes tables that are missing. Raises StoreError, also for an unknown form.

        durable: whether each change of SQLite is kept after a power cut. steps: the first one leads from
        form 1 to form 2; `tables` are those of the last form.
        """
        self._durable, self._steps = durable, tuple(steps)
        self._connections: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        try:
            self._engine = _engine(url, durable)
            if self._engine.driver in _OF_LIBPQ:
                sql.event.listen(self._engine, "connect", lambda made, _: self._connections.update({id(made): made}))
            self._make(tables)
        except ModuleNotFoundError as error:
            raise StoreError(f"the database cannot be opened: {_driver(error)}") from error
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise StoreError(f"the database cannot be opened: {_words(error)}") from error

    def _make(self, tables: sql.MetaData) -> None:
        """Makes tables. Another service may do the same at this moment; then the next try finds its tables."""
        with contextlib.ExitStack() as failing, self._engine.connect() as connection:
            failing.callback(self.close)
            for left in reversed(range(_TRIES)):
                try:
                    with connection.begin():
                        _check(connection)
                        self._bring_up(connection, tables)
                    failing.pop_all()
                    return
                except DBAPIError:
                    if not left:
                        raise

    def _bring_up(self, connection: sql.Connection, tables: sql.MetaData) -> None:
        """Changes a database to the current form, or makes it."""
        if connection.dialect.name == "sqlite" and not self._durable:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # without it, each change of a table is a transaction
        self.take_turns(connection, "form")
        there, newest = set(sql.inspect(connection).get_table_names()), 1 + len(self._steps)
        found = connection.execute(sql.select(_form.c.number)).scalar() if _form.name in there else None
        is_new = found is None and not there & set(tables.tables)
        form = newest if is_new else found or 1
        if not 1 <= form <= newest:
            raise StoreError(
                f"the database cannot be opened: it has form {form}, and this proxybox knows forms 1 to {newest}: "
                "use the version of proxybox that has written it, or a later one, or another database"
            )
        for step in self._steps[form - 1 :]:
            step(connection)
        tables.create_all(connection)
        if found != newest:
            _forms.create_all(connection)
            connection.execute(_form.delete())
            connection.execute(_form.insert().values(number=newest))

    @contextlib.contextmanager
    def changing(self) -> Iterator[sql.Connection]:
        """A context whose changes are all made, or none of them. Raises StoreError."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            is_away = isinstance(error, OperationalError | InterfaceError | PoolTimeout)
            raise StoreError(f"the database cannot be used: {_words(error)}", is_away=is_away) from error

    def take_turns(self, connection: sql.Connection, name: str) -> None:
        """Makes a change wait until the changes of the same name have ended, so that it does not see one half done.

        SQLite has one writer anyway. https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
        """
        if connection.dialect.name == "postgresql":
            patience = sql.func.set_config("lock_timeout", f"{_WAITING}s", True)
            connection.execute(sql.select(patience, sql.func.pg_advisory_xact_lock(sql.func.hashtextextended(name, 0))))

    def cut_off(self) -> None:
        """Shuts down the connections to a server that does not answer, so that no thread waits for it any longer."""
        for reference in self._connections.valuerefs():
            connection: Any = reference()
            with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)  # the thread that waits in the driver gets an error then

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()


def _engine(url: str, durable: bool) -> sql.Engine:
    made = make_url(url)
    if made.drivername in _POSTGRES:
        made = made.set(drivername="postgresql+psycopg")
    if made.get_dialect().is_async:
        raise StoreError(f"the database cannot be opened: {made.drivername} is for asyncio (try postgresql+psycopg)")
    is_sqlite = made.get_backend_name() == "sqlite"
    options = {}
    if made.get_driver_name() in _OF_LIBPQ:
        options = {"connect_timeout": _CONNECTING, "client_encoding": "utf8"}
        options = {name: value for name, value in options.items() if name not in made.query}
    if is_sqlite and made.database and made.database != ":memory:":
        os.makedirs(os.path.dirname(os.path.abspath(made.database)), mode=0o700, exist_ok=True)
        os.close(os.open(made.database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    engine = sql.create_engine(made, pool_pre_ping=not is_sqlite, connect_args=options)
    if is_sqlite:
        sql.event.listen(engine, "connect", partial(_set_up_sqlite, durable))
    if durable:
        sql.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _check(connection: sql.Connection) -> None:
    """Raises StoreError for a database whose encoding cannot represent every text."""
    if connection.dialect.name == "postgresql":
        encoding = connection.exec_driver_sql("show server_encoding").scalar_one()
        if encoding != "UTF8":
            raise StoreError(f"the database cannot be opened: its encoding is {encoding} (allowed: UTF8)")


def _set_up_sqlite(durable: bool, connection: Any, _: ConnectionPoolEntry) -> None:
    """Allows readers beside a writer (https://sqlite.org/wal.html), and waits for the writes of another process."""
    if durable:
        connection.isolation_level = None  # SQLAlchemy begins the transactions, which have savepoints
    synchronous = "FULL" if durable else "NORMAL"  # the latter loses the latest changes in a power cut
    for statement in ("PRAGMA journal_mode=WAL", f"PRAGMA synchronous={synchronous}", "PRAGMA busy_timeout=5000"):
        connection.execute(statement)


def _driver(error: ModuleNotFoundError) -> str:
    """Returns which package is missing, and how to install it."""
    what = "'proxybox[postgres]'" if error.name == "psycopg" else str(error.name)
    return f"its driver {error.name} is not installed: pip install {what}"


def _words(error: Exception) -> str:
    """Returns the reason of an error, without statements and their values."""
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
