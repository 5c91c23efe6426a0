"""The database of the service: sessions and how they have ended, files for later requests, and the audit.

It is SQLite in the service's folder, or any database that SQLAlchemy knows (database.py). Records of the audit are
written by a thread, many at once, so that no request waits for them. While the database cannot be reached, at most
`_BEHIND` records wait, and further ones are counted as lost. Another thread removes rows that are too old, or exceed
the bounds (retention.py).
"""

import asyncio
import hashlib
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import sqlalchemy as sql

from proxybox.policies.errors import ProxyboxError
from proxybox.serve.database import Database, LongUntrustedText, Step, StoreError, UntrustedText
from proxybox.serve.problems import Refusal
from proxybox.serve.retention import Retention

P = ParamSpec("P")
T = TypeVar("T")

#: The most records of the audit that wait, the most that are written at once, and the seconds between two writes.
_BEHIND: Final = 10_000
_AT_ONCE: Final = 1000
_RHYTHM: Final = 0.2
#: The most requests that use the database at once, and the most seconds that one waits for it, and that the end waits.
_THREADS: Final = 8
_PATIENCE: Final = 20.0
_AT_THE_END: Final = 10.0
#: Seconds between two removals, how many rows are removed at once, and the part of the bound that remains.
_REMOVING: Final = 60.0
_REMOVED_AT_ONCE: Final = 5_000
_STAYS: Final = 0.9
#: Bytes of a row, with its indices, besides its texts (measured with SQLite).
_ROW: Final = 150
#: Changes a database to the tables below: the first step leads from form 1 to form 2 (database.py).
STEPS: Final[tuple[Step, ...]] = ()
#: The state of a session that has not ended.
LIVE: Final = "live"
#: The least bytes that a file counts: otherwise the number of empty files would not be bounded.
_LEAST: Final = 4096

log = logging.getLogger("proxybox.serve")

_tables = sql.MetaData()
_sessions = sql.Table(
    "sessions", _tables,
    sql.Column("id", UntrustedText(64), primary_key=True),
    sql.Column("service", UntrustedText(255), nullable=False, index=True),
    sql.Column("key", UntrustedText(64), nullable=False, index=True),
    sql.Column("policy", UntrustedText(64), nullable=False),
    sql.Column("language", UntrustedText(64), nullable=False),
    sql.Column("made", sql.Float, nullable=False),
    sql.Column("state", UntrustedText(16), nullable=False),
    sql.Column("reason", LongUntrustedText, nullable=False, default=""),
    sql.Column("ended", sql.Float),
)  # fmt: skip
_artefacts = sql.Table(
    "artefacts", _tables,
    sql.Column("id", UntrustedText(64), primary_key=True),
    sql.Column("key", UntrustedText(64), nullable=False, index=True),
    sql.Column("shelf", UntrustedText(255), nullable=False, index=True),
    sql.Column("name", LongUntrustedText, nullable=False),
    sql.Column("size", sql.BigInteger, nullable=False),
    sql.Column("sha256", UntrustedText(64), nullable=False),
    sql.Column("made", sql.Float, nullable=False),
    sql.Column("content", sql.LargeBinary, nullable=False),
)  # fmt: skip
_audit = sql.Table(
    "audit", _tables,
    sql.Column("number", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sql.Column("id", UntrustedText(64), nullable=False, index=True),
    sql.Column("at", sql.Float, nullable=False, index=True),
    sql.Column("key", UntrustedText(64), nullable=False),
    sql.Column("client", UntrustedText(255), nullable=False),
    sql.Column("method", UntrustedText(16), nullable=False),
    sql.Column("path", LongUntrustedText, nullable=False),
    sql.Column("http_status", sql.Integer, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    sql.Column("policy", UntrustedText(64), nullable=False, default=""),
    sql.Column("language", UntrustedText(64), nullable=False, default=""),
    sql.Column("code_sha256", UntrustedText(64), nullable=False, default=""),
    sql.Column("status", UntrustedText(32), nullable=False, default=""),
    sql.Column("cpu", sql.Float),
)  # fmt: skip

#: The bytes that a file counts.
_taken: Final = sql.case((_artefacts.c.size < _LEAST, _LEAST), else_=_artefacts.c.size)


class KeyStorageFull(ProxyboxError):
    """The files of a key use all the space that it has."""


class ServiceStore:
    """The database of a service. Its methods block, except `note` and `ask`; coroutines call the others with `ask`."""

    def __init__(self, url: str, service: str, retention: Retention | None = None) -> None:
        """Opens the database, and makes missing tables. service: the name of this service. Raises StoreError."""
        self._service, self._retention = service[:255], retention or Retention()
        self._records: deque[Mapping[str, Any]] = deque()
        self._ending = threading.Event()
        self._answered = time.monotonic()
        self.records_lost = 0
        self._database = Database(url, _tables, steps=STEPS)
        self._changing = self._database.changing
        try:
            self._lose_sessions()
        except StoreError:
            self._database.close()
            raise
        self._threads = ThreadPoolExecutor(_THREADS, "proxybox-store")
        self._writer = threading.Thread(target=self._write, name="proxybox-audit", daemon=True)
        self._writer.start()
        self._remover = threading.Thread(target=self._remove, name="proxybox-retention", daemon=True)
        self._remover.start()

    def close(self) -> None:
        """Writes waiting records, and closes the database; does not wait for a server that does not answer."""
        self._ending.set()
        end = threading.Timer(_AT_THE_END, self._database.cut_off)
        end.start()
        try:
            self._writer.join()
            self._remover.join(_AT_THE_END)
            self._threads.shutdown(cancel_futures=True)
            self._database.close()
        finally:
            end.cancel()

    async def ask(self, method: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Calls a method in a thread.

        Raises Refusal when the database cannot be used, and the exceptions of the method.
        """
        work = asyncio.get_running_loop().run_in_executor(self._threads, partial(method, *args, **options))
        try:
            async with asyncio.timeout(_PATIENCE):
                done = await work
            self._answered = time.monotonic()
            return done
        except TimeoutError:
            why = f"it has said nothing for {_PATIENCE:g} s"
            if time.monotonic() - self._answered >= _PATIENCE:  # it has answered no other request either
                self._database.cut_off()
        except StoreError as error:
            why = str(error)
        log.error("the database cannot be used: %s", why)
        raise Refusal("not-ready", "the database cannot be used", headers={"Retry-After": "5"})

    def _lose_sessions(self) -> None:
        """Marks the sessions of an earlier service of this name as lost."""
        with self._changing() as connection:
            connection.execute(
                _sessions.update()
                .where(_sessions.c.service == self._service, _sessions.c.state == LIVE)
                .values(state="lost", reason="the service was restarted", ended=time.time())
            )

    # --- sessions -----------------------------------------------------------------------------------------------------

    def begin_session(self, identity: str, key: str, policy: str, language: str) -> None:
        """Stores a session that has started."""
        row = {"id": identity, "service": self._service, "key": key, "policy": policy, "language": language}
        with self._changing() as connection:
            connection.execute(_sessions.insert().values(**row, made=time.time(), state=LIVE, reason=""))

    def end_session(self, identity: str, state: str, reason: str) -> None:
        """Stores how a session has ended."""
        with self._changing() as connection:
            connection.execute(
                _sessions.update()
                .where(_sessions.c.id == identity, _sessions.c.state == LIVE)
                .values(state=state, reason=reason[:1000], ended=time.time())
            )

    def session(self, identity: str, key: str) -> Mapping[str, Any] | None:
        """Returns the row of a session of this key; None if it does not exist."""
        wanted = sql.select(_sessions).where(_sessions.c.id == identity, _sessions.c.key == key)
        with self._changing() as connection:
            row = connection.execute(wanted).mappings().first()
        return None if row is None else dict(row)

    # --- artefacts ----------------------------------------------------------------------------------------------------

    def put(
        self, key: str, shelf: str, name: str, content: bytes, *, room: int, identity: str = "", evict: str = ""
    ) -> str:
        """Stores a file, in place of one of the same shelf and name, and returns its id.

        shelf: a name for files that belong together, such as those of one session. room: bytes that all files of the
        key may have; a small file counts 4 KiB. evict: the oldest files of shelves with this prefix are removed for it.
        Raises KeyStorageFull.
        """
        identity = identity or secrets.token_urlsafe(16)
        mine, size = _artefacts.c.key == key, max(len(content), _LEAST)
        with self._changing() as connection:
            self._database.take_turns(connection, key)  # two at once could each use the space of one
            same = (mine, _artefacts.c.shelf == shelf, _artefacts.c.name == name)
            connection.execute(_artefacts.delete().where(*same))
            used = _used(connection, key)
            if evict and size <= room:
                used -= _give_up(
                    connection, used + size - room, mine, _artefacts.c.shelf.startswith(evict, autoescape=True)
                )
            if used + size > room:
                raise KeyStorageFull(f"the files of this key have {used:,} bytes, and may have {room:,}: remove some")
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
        """Returns the facts about the files of a shelf, by name."""
        columns = _artefacts.c
        wanted = sql.select(columns.id, columns.name, columns.size, columns.sha256, columns.made).where(
            columns.key == key, columns.shelf == shelf
        )
        with self._changing() as connection:
            found = [dict(row) for row in connection.execute(wanted).mappings()]
        return sorted(found, key=lambda file: str(file["name"]))  # databases sort texts in different ways

    def remove(self, key: str, shelf: str, identity: str) -> bool:
        """Removes a file, and returns whether it existed."""
        gone = _artefacts.delete().where(
            _artefacts.c.key == key, _artefacts.c.shelf == shelf, _artefacts.c.id == identity
        )
        with self._changing() as connection:
            return bool(connection.execute(gone).rowcount)

    def clear(self, key: str, shelf: str) -> bool:
        """Removes all files of a shelf, and returns whether there were any."""
        gone = _artefacts.delete().where(_artefacts.c.key == key, _artefacts.c.shelf == shelf)
        with self._changing() as connection:
            return bool(connection.execute(gone).rowcount)

    def expire(self, shelves: str, before: float) -> None:
        """Removes the files that were stored before a time, from all shelves with a prefix."""
        of_shelves = _artefacts.c.shelf.startswith(shelves, autoescape=True)
        with self._changing() as connection:
            connection.execute(_artefacts.delete().where(of_shelves, _artefacts.c.made < before))

    def used(self, key: str) -> int:
        """Returns the bytes that the files of a key count."""
        with self._changing() as connection:
            return _used(connection, key)

    # --- the audit ----------------------------------------------------------------------------------------------------

    def note(self, record: Mapping[str, Any]) -> None:
        """Adds a record to the audit. It neither waits nor wakes the thread that writes."""
        if len(self._records) < _BEHIND:
            self._records.append(record)
        else:
            self.records_lost += 1

    def _write(self) -> None:
        """Writes records from time to time, and at the end; runs in a thread."""
        ends = False
        while not ends:
            ends = self._ending.wait(_RHYTHM)
            while records := [self._records.popleft() for _ in range(min(_AT_ONCE, len(self._records)))]:
                try:
                    self._write_at_once(records)
                except StoreError:  # the database cannot be reached
                    self._records.extendleft(reversed(records))
                    break
        self.records_lost += len(self._records)

    def _write_at_once(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Writes records. If the database refuses one, only that one is lost.

        Raises StoreError when it cannot be reached.
        """
        try:
            with self._changing() as connection:
                connection.execute(_audit.insert(), records)
        except StoreError as error:
            if error.is_away:
                raise
            if len(records) == 1:
                self.records_lost += 1
                return
            for record in records:
                self._write_at_once([record])

    # --- what does not stay -------------------------------------------------------------------------------------------

    def _remove(self) -> None:
        """Removes old rows from time to time; runs in a thread."""
        while not self._ending.is_set():
            try:
                self.remove_old(time.time())
            except StoreError as error:
                if not error.is_away:
                    log.error("old records cannot be removed: %s", error)
            self._ending.wait(_REMOVING)

    def remove_old(self, now: float) -> None:
        """Removes rows that are too old, and the oldest rows of tables that are too large."""
        retention = self._retention
        self._thin_out(_audit, _audit.c.number, _audit.c.at, now - retention.records, retention.audit)
        self._thin_out(_sessions, _sessions.c.made, _sessions.c.made, now - retention.records, retention.sessions)
        self.expire("", now - retention.files)

    def _thin_out(self, table: sql.Table, order: Any, at: Any, before: float, most: int) -> None:
        """Removes, in small steps, rows from before a time, and the oldest rows beyond `most` bytes of the table."""
        texts = (sql.func.length(column) for column in table.c if isinstance(column.type, UntrustedText))
        size = sum(texts, sql.literal(_ROW))
        with self._changing() as connection:
            left = int(connection.execute(sql.select(sql.func.sum(size))).scalar() or 0)
        most = most if left <= most else int(most * _STAYS)  # so that the next checks need not remove a few rows each
        oldest = sql.select(order, at, size).order_by(order).limit(_REMOVED_AT_ONCE)
        while not self._ending.is_set():
            with self._changing() as connection:
                last = None
                for place, when, taken in connection.execute(oldest).all():
                    if when >= before and left <= most:
                        break
                    last, left = place, left - taken
                if last is None:
                    return
                connection.execute(table.delete().where(order <= last))


def _used(connection: sql.Connection, key: str) -> int:
    """Returns the bytes that the files of a key count; PostgreSQL's sums are numeric."""
    taken = sql.select(sql.func.coalesce(sql.func.sum(_taken), 0)).where(_artefacts.c.key == key)
    return int(connection.execute(taken).scalar_one())


def _give_up(connection: sql.Connection, wanted: int, *which: Any) -> int:
    """Removes the oldest of some files until they had `wanted` bytes, and returns how many bytes they had."""
    freed = 0
    oldest = sql.select(_artefacts.c.id, _taken).where(*which).order_by(_artefacts.c.made)
    for identity, size in connection.execute(oldest).all() if wanted > 0 else ():
        if freed >= wanted:
            break
        connection.execute(_artefacts.delete().where(_artefacts.c.id == identity))
        freed += size
    return freed
