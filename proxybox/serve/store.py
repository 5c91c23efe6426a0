"""What the service keeps: which sessions there were and how they ended, files for later requests, and the audit.

It is SQLite in the service's folder, or any database that SQLAlchemy knows. Records of the audit are written by a
thread, many at once, so that no request waits for them; at most `_BEHIND` wait, and those beyond are counted as lost.
"""

import contextlib
import hashlib
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from proxybox.policies.errors import ProxyboxError

#: How many records of the audit wait at most, and the seconds between two writes of them.
_BEHIND: Final = 10_000
_RHYTHM: Final = 0.2
#: The state of a session that lives.
LIVE: Final = "live"
#: Bytes that a file takes up at least: empty ones would be without bound.
_LEAST: Final = 4096

_tables = sql.MetaData()
_sessions = sql.Table(
    "sessions", _tables,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("service", sql.String(255), nullable=False, index=True),
    sql.Column("key", sql.String(64), nullable=False, index=True),
    sql.Column("policy", sql.String(64), nullable=False),
    sql.Column("language", sql.String(64), nullable=False),
    sql.Column("made", sql.Float, nullable=False),
    sql.Column("state", sql.String(16), nullable=False),
    sql.Column("reason", sql.Text, nullable=False, default=""),
    sql.Column("ended", sql.Float),
)  # fmt: skip
_artefacts = sql.Table(
    "artefacts", _tables,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("key", sql.String(64), nullable=False, index=True),
    sql.Column("shelf", sql.String(255), nullable=False, index=True),
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("size", sql.BigInteger, nullable=False),
    sql.Column("sha256", sql.String(64), nullable=False),
    sql.Column("made", sql.Float, nullable=False),
    sql.Column("content", sql.LargeBinary, nullable=False),
)  # fmt: skip
_audit = sql.Table(
    "audit", _tables,
    sql.Column("number", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sql.Column("id", sql.String(64), nullable=False, index=True),
    sql.Column("at", sql.Float, nullable=False, index=True),
    sql.Column("key", sql.String(64), nullable=False),
    sql.Column("client", sql.String(255), nullable=False),
    sql.Column("method", sql.String(16), nullable=False),
    sql.Column("path", sql.Text, nullable=False),
    sql.Column("http_status", sql.Integer, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    sql.Column("policy", sql.String(64), nullable=False, default=""),
    sql.Column("language", sql.String(64), nullable=False, default=""),
    sql.Column("code_sha256", sql.String(64), nullable=False, default=""),
    sql.Column("status", sql.String(32), nullable=False, default=""),
    sql.Column("cpu", sql.Float),
)  # fmt: skip

#: The room that a file takes up.
_taken: Final = sql.case((_artefacts.c.size < _LEAST, _LEAST), else_=_artefacts.c.size)


class StoreError(ProxyboxError):
    """The database cannot be used."""


class NoRoom(ProxyboxError):
    """The files of a key take up all the room that it has."""


class Store:
    """The database. Its methods block for as long as that takes; all but `note` are called in worker threads."""

    def __init__(self, url: str, service: str) -> None:
        """Opens the database, and makes what is missing in it. service: who writes. Raises StoreError."""
        self._service = service[:255]
        self._records: deque[Mapping[str, Any]] = deque()
        self._ending = threading.Event()
        self.records_lost = 0
        try:
            self._engine = _engine(url)
            _tables.create_all(self._engine)
            with self._engine.begin() as connection:
                connection.execute(
                    _sessions.update()
                    .where(_sessions.c.service == self._service, _sessions.c.state == LIVE)
                    .values(state="lost", reason="the service was restarted", ended=time.time())
                )
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise StoreError(f"the database cannot be opened: {_words(error)}") from error
        self._writer = threading.Thread(target=self._write, name="proxybox-audit", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Writes what waits, and closes the database."""
        self._ending.set()
        self._writer.join()
        self._engine.dispose()

    # --- sessions -----------------------------------------------------------------------------------------------------

    def begin_session(self, identity: str, key: str, policy: str, language: str) -> None:
        """Notes a session that has started."""
        row = {"id": identity, "service": self._service, "key": key, "policy": policy, "language": language}
        with self._changing() as connection:
            connection.execute(_sessions.insert().values(**row, made=time.time(), state=LIVE, reason=""))

    def end_session(self, identity: str, state: str, reason: str) -> None:
        """Notes how a session has ended."""
        with self._changing() as connection:
            connection.execute(
                _sessions.update()
                .where(_sessions.c.id == identity, _sessions.c.state == LIVE)
                .values(state=state, reason=reason[:1000], ended=time.time())
            )

    def session(self, identity: str, key: str) -> Mapping[str, Any] | None:
        """Returns what is known of a session of this key; None when there was none."""
        wanted = sql.select(_sessions).where(_sessions.c.id == identity, _sessions.c.key == key)
        with self._changing() as connection:
            row = connection.execute(wanted).mappings().first()
        return None if row is None else dict(row)

    # --- artefacts ----------------------------------------------------------------------------------------------------

    def put(
        self, key: str, shelf: str, name: str, content: bytes, *, room: int, identity: str = "", evict: str = ""
    ) -> str:
        """Keeps a file, in place of one of the same shelf and name, and returns its id.

        shelf: what belongs together, such as the files of one session. room: bytes that all files of the key may have;
        a small file counts 4 KiB. evict: the oldest files of shelves whose names begin so are given up for it. Raises
        NoRoom.
        """
        identity = identity or secrets.token_urlsafe(16)
        mine, size = _artefacts.c.key == key, max(len(content), _LEAST)
        with self._changing() as connection:
            same = (mine, _artefacts.c.shelf == shelf, _artefacts.c.name == name)
            connection.execute(_artefacts.delete().where(*same))
            used = connection.execute(sql.select(sql.func.coalesce(sql.func.sum(_taken), 0)).where(mine)).scalar_one()
            if evict and size <= room:
                used -= _give_up(
                    connection, used + size - room, mine, _artefacts.c.shelf.startswith(evict, autoescape=True)
                )
            if used + size > room:
                raise NoRoom(f"the files of this key have {used:,} bytes, and may have {room:,}: remove some")
            connection.execute(
                _artefacts.insert().values(
                    id=identity, key=key, shelf=shelf, name=name, size=len(content), made=time.time(),
                    sha256=hashlib.sha256(content).hexdigest(), content=content,
                )
            )  # fmt: skip
        return identity

    def get(self, key: str, shelf: str, identity: str) -> tuple[str, bytes] | None:
        """Returns the name and the content of a file; None when the key has no such file."""
        wanted = sql.select(_artefacts.c.name, _artefacts.c.content).where(
            _artefacts.c.key == key, _artefacts.c.shelf == shelf, _artefacts.c.id == identity
        )
        with self._changing() as connection:
            row = connection.execute(wanted).first()
        return None if row is None else (row[0], bytes(row[1]))

    def shelf(self, key: str, shelf: str) -> Sequence[Mapping[str, Any]]:
        """Returns what is known of the files of a shelf, by name."""
        columns = _artefacts.c
        wanted = (
            sql.select(columns.id, columns.name, columns.size, columns.sha256, columns.made)
            .where(columns.key == key, columns.shelf == shelf)
            .order_by(columns.name)
        )
        with self._changing() as connection:
            return [dict(row) for row in connection.execute(wanted).mappings()]

    def remove(self, key: str, shelf: str, identity: str) -> bool:
        """Removes a file, and returns whether there was one."""
        gone = _artefacts.delete().where(
            _artefacts.c.key == key, _artefacts.c.shelf == shelf, _artefacts.c.id == identity
        )
        with self._changing() as connection:
            return bool(connection.execute(gone).rowcount)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sql.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"the database cannot be used: {_words(error)}") from error

    # --- the audit ----------------------------------------------------------------------------------------------------

    def note(self, record: Mapping[str, Any]) -> None:
        """Adds a record to the audit. It neither waits nor wakes the thread that writes."""
        if len(self._records) < _BEHIND:
            self._records.append(record)
        else:
            self.records_lost += 1

    def _write(self) -> None:
        """Writes records now and then, and at the end; runs in a thread."""
        ends = False
        while not ends:
            ends = self._ending.wait(_RHYTHM)
            records = [self._records.popleft() for _ in range(len(self._records))]
            if records:
                try:
                    with self._engine.begin() as connection:
                        connection.execute(_audit.insert(), records)
                except SQLAlchemyError:
                    self.records_lost += len(records)


def _give_up(connection: sql.Connection, wanted: int, *which: Any) -> int:
    """Removes the oldest of some files, until they have had so many bytes, and returns how many they had."""
    freed = 0
    oldest = sql.select(_artefacts.c.id, _taken).where(*which).order_by(_artefacts.c.made)
    for identity, size in connection.execute(oldest).all() if wanted > 0 else ():
        if freed >= wanted:
            break
        connection.execute(_artefacts.delete().where(_artefacts.c.id == identity))
        freed += size
    return freed


def _engine(url: str) -> sql.Engine:
    made = make_url(url)
    is_sqlite = made.get_backend_name() == "sqlite"
    if is_sqlite and made.database and made.database != ":memory:":
        os.makedirs(os.path.dirname(os.path.abspath(made.database)), mode=0o700, exist_ok=True)
        os.close(os.open(made.database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    engine = sql.create_engine(made, pool_pre_ping=not is_sqlite)
    if is_sqlite:
        sql.event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    """Readers and a writer at once (https://sqlite.org/wal.html), and patience with another process that writes."""
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA busy_timeout=5000"):
        connection.execute(statement)


def _words(error: Exception) -> str:
    """What went wrong, without statements and their values."""
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
