"""What must not be lost: seats, texts and their versions, hand-ins, runs. SQLite in the class's folder.

    await store.do(method, ...)   by the one thread that has the database; returns when it is on the disk

What waits at the same moment is done in one transaction, so that sixty students who type cost one sync of the disk,
and not sixty. Each piece of work is whole or not done (savepoints).
"""

import asyncio
import contextlib
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import attrs
import sqlalchemy as sql

from proxybox.serve.database import Database, LongTold, Step, Told

P = ParamSpec("P")
T = TypeVar("T")

#: How many pieces of work are done in one transaction.
_AT_ONCE: Final = 200
#: Seconds within which saves replace one another in the history, and how many versions and bytes a seat may keep.
MERGED: Final = 60.0
MOST_VERSIONS: Final = 300
MOST_BYTES: Final = 32 << 20
#: After how many new versions a seat's old ones are looked at.
_THINNED: Final = 8
#: How many hand-ins of one exercise, and about how many bytes of them, are kept; and runs of one seat.
_MOST_HANDINS: Final = 50
_MOST_HANDED_IN: Final = 4 << 20
_MOST_RUNS: Final = 5_000

#: What brings a database up to the tables below: the first step leads from form 1 to form 2 (database.py).
STEPS: Final[tuple[Step, ...]] = ()

_tables = sql.MetaData()
_facts = sql.Table(
    "facts", _tables, sql.Column("key", Told(64), primary_key=True), sql.Column("value", sql.Text, nullable=False)
)
_seats = sql.Table(
    "seats", _tables,
    sql.Column("id", Told(64), primary_key=True),
    sql.Column("name", Told(64), nullable=False),
    sql.Column("personal", Told(32), nullable=False),
    sql.Column("generation", sql.Integer, nullable=False),
    sql.Column("joined", sql.Float, nullable=False),
    sql.Column("exercise", Told(64)),
    sql.Column("hand", sql.Float),
    sql.Column("locked", sql.Boolean, nullable=False),
    sql.Column("removed", sql.Boolean, nullable=False),
)  # fmt: skip
_texts = sql.Table(
    "texts", _tables,
    sql.Column("seat", Told(64), primary_key=True),
    sql.Column("exercise", Told(64), primary_key=True),
    sql.Column("version", sql.Integer, primary_key=True),
    sql.Column("begun", sql.Float, nullable=False),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("why", Told(16), nullable=False),
    sql.Column("save", Told(64), nullable=False),
    sql.Column("size", sql.Integer, nullable=False),
    sql.Column("files", sql.Text, nullable=False),
)  # fmt: skip
_handins = sql.Table(
    "handins", _tables,
    sql.Column("id", Told(64), primary_key=True),
    sql.Column("seat", Told(64), nullable=False, index=True),
    sql.Column("exercise", Told(64), nullable=False),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("late", sql.Boolean, nullable=False),
    sql.Column("save", Told(64), nullable=False),
    sql.Column("files", sql.Text, nullable=False),
    sql.Column("grade", sql.Text),
)  # fmt: skip
_results = sql.Table(
    "results", _tables,
    sql.Column("seat", Told(64), primary_key=True),
    sql.Column("exercise", Told(64), primary_key=True),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("grade", sql.Text, nullable=False),
)  # fmt: skip
_hints = sql.Table(
    "hints", _tables,
    sql.Column("seat", Told(64), primary_key=True),
    sql.Column("exercise", Told(64), primary_key=True),
    sql.Column("shown", sql.Integer, nullable=False),
)  # fmt: skip
_runs = sql.Table(
    "runs", _tables,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=True),
    sql.Column("seat", Told(64), nullable=False, index=True),
    sql.Column("exercise", Told(64), nullable=False),
    sql.Column("kind", Told(16), nullable=False),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("seconds", sql.Float, nullable=False),
    sql.Column("status", Told(32), nullable=False),
    sql.Column("error", LongTold, nullable=False),
)  # fmt: skip
_shares = sql.Table(
    "shares", _tables,
    sql.Column("id", Told(64), primary_key=True),
    sql.Column("title", LongTold, nullable=False),
    sql.Column("exercise", Told(64), nullable=False),
    sql.Column("by", Told(16), nullable=False),
    sql.Column("at", sql.Float, nullable=False),
    sql.Column("files", sql.Text, nullable=False),
)  # fmt: skip
_users = sql.Table(
    "users", _tables,
    sql.Column("platform", Told(2000), primary_key=True),
    sql.Column("user", Told(255), primary_key=True),
    sql.Column("seat", Told(64), nullable=False),
)  # fmt: skip
_lines = sql.Table(
    "lines", _tables,
    sql.Column("seat", Told(64), primary_key=True),
    sql.Column("exercise", Told(64), primary_key=True),
    sql.Column("platform", Told(2000), nullable=False),
    sql.Column("user", Told(255), nullable=False),
    sql.Column("url", LongTold, nullable=False),
    sql.Column("due", sql.Boolean, nullable=False),
)  # fmt: skip


@attrs.define(kw_only=True)
class Seat:
    """A seat. hand: since when it is raised. locked: whether its student may not change anything at the moment.

    generation: counts how often its passes have been made void.
    """

    id: str
    name: str
    personal: str
    joined: float
    generation: int = 1
    exercise: str | None = None
    hand: float | None = None
    locked: bool = False
    removed: bool = False


@attrs.frozen(kw_only=True)
class Text:
    """One version of the files of an exercise."""

    version: int
    at: float
    why: str
    files: Mapping[str, str]


@attrs.frozen(kw_only=True)
class Saved:
    """What came of a save. files: all of them. conflict: whether another page had saved since its version."""

    version: int
    at: float
    files: Mapping[str, str]
    conflict: bool = False


@attrs.frozen
class Checked:
    """What came of the tests. grade: as JSON."""

    at: float
    grade: Any


@attrs.frozen(kw_only=True)
class HandIn:
    """What was handed in. grade: as JSON; None while it is not graded."""

    id: str
    seat: str
    exercise: str
    at: float
    late: bool
    files: Mapping[str, str]
    grade: Any = None


@attrs.frozen(kw_only=True)
class Ran:
    """A run that has ended. error: its last line."""

    seat: str
    exercise: str
    kind: str
    at: float
    seconds: float
    status: str
    error: str = ""


@attrs.frozen(kw_only=True)
class GradeLine:
    """Where grades of a seat go. exercise: which; "" for the whole course. due: whether one is still to be brought."""

    seat: str
    exercise: str
    platform: str
    user: str
    url: str
    due: bool = False


@attrs.define
class _Work:
    """A piece of work that waits."""

    do: Callable[["Connected"], Any]
    done: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop

    def tell(self, result: Any, error: BaseException | None) -> None:
        """Has the one that waits told what came of it."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            self.loop.call_soon_threadsafe(self._set, result, error)

    def _set(self, result: Any, error: BaseException | None) -> None:
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)


class Store:
    """The database of a class."""

    def __init__(self, path: str) -> None:
        """Opens it, and makes what is missing. Raises StoreError."""
        self.path = path
        self._database = Database(f"sqlite:///{path}", _tables, durable=True, steps=STEPS)
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="proxybox-classroom-store", daemon=True)
        self._thread.start()

    async def do(self, method: Callable[Concatenate["Connected", P], T], *args: P.args, **options: P.kwargs) -> T:
        """Carries out a method of `Connected`; what it has changed is on the disk then. Raises StoreError."""
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
        except Exception as error:  # nothing of it is on the disk
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
        """Does what waits, and closes the database."""
        self._waiting.put(None)
        self._thread.join()
        self._database.close()


def _outcome(connection: sql.Connection, work: _Work) -> tuple[Any, BaseException | None]:
    """Does one piece of work; what fails leaves nothing behind. Raises what concerns the whole transaction."""
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


class Connected:
    """What can be done with the database, in one transaction."""

    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection

    # --- facts --------------------------------------------------------------------------------------------------------

    def fact(self, key: str, default: Any = None) -> Any:
        """Returns what is kept under a key."""
        value = self._connection.execute(sql.select(_facts.c.value).where(_facts.c.key == key)).scalar()
        return default if value is None else json.loads(value)

    def set_fact(self, key: str, value: Any) -> None:
        """Keeps a value of JSON under a key."""
        self._put(_facts, {"key": key}, {"value": json.dumps(value)})

    # --- seats --------------------------------------------------------------------------------------------------------

    def seats(self) -> list[Seat]:
        """Returns all seats, in the order in which they were taken."""
        rows = self._connection.execute(sql.select(_seats).order_by(_seats.c.joined)).mappings()
        return [Seat(**row) for row in rows]

    def keep_seat(self, seat: Seat) -> None:
        """Keeps a seat as it is now."""
        values = attrs.asdict(seat)
        self._put(_seats, {"id": values.pop("id")}, values)

    # --- texts --------------------------------------------------------------------------------------------------------

    def text(self, seat: str, exercise: str, version: int | None = None) -> Text | None:
        """Returns a version of an exercise's files; None: the latest."""
        query = sql.select(_texts).where(_texts.c.seat == seat, _texts.c.exercise == exercise)
        if version is not None:
            query = query.where(_texts.c.version == version)
        row = self._connection.execute(query.order_by(_texts.c.version.desc()).limit(1)).mappings().first()
        if row is None:
            return None
        return Text(version=row["version"], at=row["at"], why=row["why"], files=json.loads(row["files"]))

    def versions(self, seat: str, exercise: str) -> list[dict[str, Any]]:
        """Returns what versions there are, the latest first."""
        columns = (_texts.c.version, _texts.c.at, _texts.c.why, _texts.c.size)
        query = sql.select(*columns).where(_texts.c.seat == seat, _texts.c.exercise == exercise)
        return [dict(row) for row in self._connection.execute(query.order_by(_texts.c.version.desc())).mappings()]

    def save(
        self, seat: str, exercise: str, merge: Callable[[Mapping[str, str] | None], Mapping[str, str]], *,
        now: float, why: str, base: int, save: str,
    ) -> Saved:  # fmt: skip
        """Keeps a version of the files: what `merge` makes of the latest one (None where there is none).

        One that follows another soon takes its place, unless much was taken out of it. The same save is kept once.
        """
        latest = self._latest(seat, exercise)
        if latest is not None and save and latest["save"] == save:
            return Saved(version=latest["version"], at=latest["at"], files=json.loads(latest["files"]))
        files = merge(None if latest is None else json.loads(latest["files"]))
        told = json.dumps(files)
        if latest is not None and why == "saved" and told == latest["files"]:
            return Saved(version=latest["version"], at=latest["at"], files=files)
        new = {"at": now, "why": why, "save": save, "size": len(told), "files": told}
        version = 1 if latest is None else latest["version"] + 1
        if latest is not None and why == "saved" and _is_replaced(latest, now, len(told)):
            where = (_texts.c.seat == seat, _texts.c.exercise == exercise, _texts.c.version == latest["version"])
            self._connection.execute(_texts.update().where(*where).values(version=version, **new))
        else:
            row = {"seat": seat, "exercise": exercise, "version": version, "begun": now, **new}
            self._connection.execute(_texts.insert().values(**row))
        if version % _THINNED == 0:
            self._thin_out(seat, exercise)
        conflict = base != (0 if latest is None else latest["version"])
        return Saved(version=version, at=now, files=files, conflict=conflict)

    def _latest(self, seat: str, exercise: str) -> Any:
        query = sql.select(_texts).where(_texts.c.seat == seat, _texts.c.exercise == exercise)
        return self._connection.execute(query.order_by(_texts.c.version.desc()).limit(1)).mappings().first()

    def _thin_out(self, seat: str, exercise: str) -> None:
        """Lets go of the oldest versions beyond what a seat may keep; never of the latest of an exercise."""
        mine = _texts.c.seat == seat
        older = mine & (_texts.c.exercise == exercise)
        beyond = sql.select(_texts.c.version).where(older).order_by(_texts.c.version.desc()).offset(MOST_VERSIONS)
        self._connection.execute(_texts.delete().where(older, _texts.c.version.in_(beyond)))
        total = self._connection.execute(sql.select(sql.func.sum(_texts.c.size)).where(mine)).scalar() or 0
        if total <= MOST_BYTES:
            return
        last = sql.select(_texts.c.exercise, sql.func.max(_texts.c.version)).where(mine).group_by(_texts.c.exercise)
        columns = (_texts.c.exercise, _texts.c.version, _texts.c.size)
        query = sql.select(*columns).where(mine, sql.tuple_(_texts.c.exercise, _texts.c.version).not_in(last))
        for row in self._connection.execute(query.order_by(_texts.c.at)).mappings().all():
            where = (mine, _texts.c.exercise == row["exercise"], _texts.c.version == row["version"])
            self._connection.execute(_texts.delete().where(*where))
            total -= row["size"]
            if total <= MOST_BYTES:
                return

    def texts(self) -> list[tuple[str, str, Text]]:
        """Returns the latest files of each seat and exercise."""
        key = _texts.c.seat, _texts.c.exercise
        last = sql.select(*key, sql.func.max(_texts.c.version)).group_by(*key)
        query = sql.select(_texts).where(sql.tuple_(*key, _texts.c.version).in_(last))
        rows = self._connection.execute(query).mappings()
        return [
            (row["seat"], row["exercise"],
             Text(version=row["version"], at=row["at"], why=row["why"], files=json.loads(row["files"])))
            for row in rows
        ]  # fmt: skip

    # --- hand-ins -----------------------------------------------------------------------------------------------------

    def hand_in(self, handed: HandIn, save: str) -> HandIn:
        """Keeps what was handed in; the same save is kept once. Returns what is kept."""
        mine = (_handins.c.seat == handed.seat, _handins.c.exercise == handed.exercise)
        known = self._connection.execute(sql.select(_handins).where(*mine, _handins.c.save == save)).mappings().first()
        if known is not None:
            return _handin(known)
        row = {**attrs.asdict(handed), "files": json.dumps(handed.files), "save": save}
        self._connection.execute(_handins.insert().values(**{**row, "grade": None}))
        most = max(1, min(_MOST_HANDINS, _MOST_HANDED_IN // len(row["files"])))  # of large ones there are fewer
        beyond = sql.select(_handins.c.id).where(*mine).order_by(_handins.c.at.desc()).offset(most)
        self._connection.execute(_handins.delete().where(_handins.c.id.in_(beyond)))
        return handed

    def grade(self, handin: str, grade: Any) -> None:
        """Keeps the grade of what was handed in."""
        where = _handins.c.id == handin
        self._connection.execute(_handins.update().where(where).values(grade=json.dumps(grade)))

    def handins(self, seat: str | None = None, exercise: str | None = None) -> list[HandIn]:
        """Returns the latest hand-in of each seat and exercise, the oldest first."""
        query = sql.select(_handins)
        if seat is not None:
            query = query.where(_handins.c.seat == seat)
        if exercise is not None:
            query = query.where(_handins.c.exercise == exercise)
        rows = self._connection.execute(query.order_by(_handins.c.at)).mappings()
        latest = {(row["seat"], row["exercise"]): row for row in rows}
        return [_handin(row) for row in latest.values()]

    # --- tests, hints, runs -------------------------------------------------------------------------------------------

    def keep_result(self, seat: str, exercise: str, checked: Checked) -> None:
        """Keeps what came of the tests, in place of what came of them before."""
        values = {"at": checked.at, "grade": json.dumps(checked.grade)}
        self._put(_results, {"seat": seat, "exercise": exercise}, values)

    def results(self) -> list[tuple[str, str, Checked]]:
        """Returns seat, exercise and what came of the tests, of all."""
        rows = self._connection.execute(sql.select(_results)).mappings()
        return [(row["seat"], row["exercise"], Checked(row["at"], json.loads(row["grade"]))) for row in rows]

    def keep_hints(self, seat: str, exercise: str, shown: int) -> None:
        """Keeps how many hints were shown."""
        self._put(_hints, {"seat": seat, "exercise": exercise}, {"shown": shown})

    def hints(self) -> list[tuple[str, str, int]]:
        """Returns seat, exercise and how many hints were shown."""
        return [(row.seat, row.exercise, row.shown) for row in self._connection.execute(sql.select(_hints))]

    def keep_run(self, ran: Ran) -> None:
        """Keeps the record of a run."""
        result = self._connection.execute(_runs.insert().values(**attrs.asdict(ran)))
        (number,) = result.inserted_primary_key or (0,)
        if number % 100 == 0:
            beyond = sql.select(_runs.c.number).where(_runs.c.seat == ran.seat).order_by(_runs.c.number.desc())
            beyond = beyond.offset(_MOST_RUNS)
            self._connection.execute(_runs.delete().where(_runs.c.number.in_(beyond)))

    def runs(self) -> list[Ran]:
        """Returns the records of all runs, the oldest first."""
        rows = self._connection.execute(sql.select(_runs).order_by(_runs.c.number)).mappings()
        return [Ran(**{key: value for key, value in row.items() if key != "number"}) for row in rows]

    def last_errors(self) -> dict[str, Ran]:
        """Returns the last run of each seat."""
        last = sql.select(sql.func.max(_runs.c.number)).where(_runs.c.kind != "check").group_by(_runs.c.seat)
        rows = self._connection.execute(sql.select(_runs).where(_runs.c.number.in_(last))).mappings()
        return {row["seat"]: Ran(**{key: value for key, value in row.items() if key != "number"}) for row in rows}

    # --- shares -------------------------------------------------------------------------------------------------------

    def keep_share(self, share: Mapping[str, Any]) -> None:
        """Keeps code that all can see."""
        values = {**share, "files": json.dumps(share["files"])}
        self._put(_shares, {"id": values.pop("id")}, values)

    def remove_share(self, identity: str) -> None:
        """Lets go of shared code."""
        self._connection.execute(_shares.delete().where(_shares.c.id == identity))

    def shares(self) -> list[dict[str, Any]]:
        """Returns the code that all can see, the oldest first."""
        rows = self._connection.execute(sql.select(_shares).order_by(_shares.c.at)).mappings()
        return [{**row, "files": json.loads(row["files"])} for row in rows]

    # --- learning platforms -------------------------------------------------------------------------------------------

    def seat_of_user(self, platform: str, user: str) -> str | None:
        """Returns the seat of a platform's user."""
        query = sql.select(_users.c.seat).where(_users.c.platform == platform, _users.c.user == user)
        return self._connection.execute(query).scalar()

    def keep_user(self, platform: str, user: str, seat: str) -> None:
        """Keeps which seat a platform's user has."""
        self._put(_users, {"platform": platform, "user": user}, {"seat": seat})

    def keep_line(self, line: GradeLine) -> None:
        """Keeps where grades go, and whether one is due."""
        values = attrs.asdict(line)
        self._put(_lines, {"seat": values.pop("seat"), "exercise": values.pop("exercise")}, values)

    def lines(self) -> list[GradeLine]:
        """Returns where grades go."""
        return [GradeLine(**row) for row in self._connection.execute(sql.select(_lines)).mappings()]

    def _put(self, table: sql.Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        where = [table.c[name] == value for name, value in key.items()]
        if not self._connection.execute(table.update().where(*where).values(**values)).rowcount:
            self._connection.execute(table.insert().values(**key, **values))


def _is_replaced(latest: Mapping[str, Any], now: float, size: int) -> bool:
    """Whether the next save takes the place of this one in the history."""
    is_recent = latest["why"] == "saved" and now - latest["begun"] < MERGED
    return bool(is_recent and size * 2 >= latest["size"])


def _handin(row: Any) -> HandIn:
    grade = None if row["grade"] is None else json.loads(row["grade"])
    kept = {name: row[name] for name in ("id", "seat", "exercise", "at", "late")}
    return HandIn(**kept, files=json.loads(row["files"]), grade=grade)
