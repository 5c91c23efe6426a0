"""The store of seats, texts and their versions, hand-ins, runs: an SQLite database in the class's folder.

    await store.do(method, ...)   in the one thread of the database; returns when the change is on the disk

Waiting operations are done in one transaction, so that sixty students who type cost one sync of the disk, not sixty.
Each operation is done completely or not at all (savepoints).
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import attrs
import sqlalchemy as sql

from proxybox.classroom.connected import Connected
from proxybox.classroom.tables import STEPS, TABLES
from proxybox.serve.database import Database

P = ParamSpec("P")
T = TypeVar("T")

#: The most operations in one transaction.
_AT_ONCE: Final = 200


@attrs.define
class _Work:
    """An operation that waits."""

    do: Callable[["Connected"], Any]
    done: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop

    def tell(self, result: Any, error: BaseException | None) -> None:
        """Passes the outcome to the waiting coroutine."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            self.loop.call_soon_threadsafe(self._set, result, error)

    def _set(self, result: Any, error: BaseException | None) -> None:
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)


class ClassStore:
    """The database of a class."""

    def __init__(self, path: str) -> None:
        """Opens the database, and makes missing tables. Raises StoreError."""
        self.path = path
        self._database = Database(f"sqlite:///{path}", TABLES, durable=True, steps=STEPS)
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="proxybox-classroom-store", daemon=True)
        self._thread.start()

    async def do(self, method: Callable[Concatenate["Connected", P], T], *args: P.args, **options: P.kwargs) -> T:
        """Runs a method of `Connected`, and returns its result when its changes are on the disk. Raises StoreError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.put(_Work(lambda connected: method(connected, *args, **options), done, loop))
        return await done

    def _serve(self) -> None:
        while (work := self._waiting.get()) is not None:
            several = [work]
            with contextlib.suppress(queue.Empty):
                while len(several) < _AT_ONCE:
                    more = self._waiting.get_nowait()
                    if more is None:
                        self._waiting.put(None)
                        break
                    several.append(more)
            self._carry_out(several)

    def _carry_out(self, several: Sequence[_Work]) -> None:
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with self._database.changing() as connection:
                for work in several:
                    outcomes.append(_outcome(connection, work))
        except Exception as error:  # nothing of the transaction is on the disk
            outcomes = [(None, error)] * len(several)
        for work, outcome in zip(several, outcomes, strict=True):
            work.tell(*outcome)

    def backup(self, path: str) -> None:
        """Writes a copy of the database, whole or not at all. Raises OSError."""
        folder, name = os.path.split(os.path.abspath(path))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        new = os.path.join(folder, f".{name}.new")
        os.close(os.open(new, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600))
        try:
            ours, copy = sqlite3.connect(self.path), sqlite3.connect(new)
            with contextlib.closing(ours), contextlib.closing(copy):
                ours.backup(copy)
            os.rename(new, path)
        except sqlite3.Error as error:
            raise OSError(f"{path}: {error}") from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)

    def close(self) -> None:
        """Does the waiting operations, and closes the database."""
        self._waiting.put(None)
        self._thread.join()
        self._database.close()


def _outcome(connection: sql.Connection, work: _Work) -> tuple[Any, BaseException | None]:
    """Does one operation; a failed one changes nothing. Raises errors of the whole transaction."""
    step = connection.begin_nested()
    try:
        result = work.do(Connected(connection))
        step.commit()
    except sql.exc.SQLAlchemyError:
        raise
    except Exception as error:
        step.rollback()
        return None, error
    return result, None
