"""The operations on a class's database (store.py): seats, texts and their versions, hand-ins, runs, classes.

Each method is one step of a transaction that the store begins and ends.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import attrs
import sqlalchemy as sql

from proxybox.classroom.answers import ShareJson, VersionJson
from proxybox.classroom.records import Checked, Class, EndedRun, GradeLine, HandIn, Saved, SavedText, Seat
from proxybox.classroom.tables import (
    CLASSES,
    FACTS,
    HANDINS,
    HINTS,
    LINES,
    RESULTS,
    RUNS,
    SEATS,
    SHARES,
    TEXTS,
    USERS,
)

#: Seconds within which a save replaces the one before in the history, and the most versions of an exercise and bytes of
#: a seat.
MERGED: Final = 60.0
MOST_VERSIONS: Final = 300
MOST_BYTES: Final = 32 << 20
#: The number of new versions after which old ones are removed.
_THINNED: Final = 8
#: The most hand-ins of one exercise, and about the most bytes of them; and the most runs of one seat.
_MOST_HANDINS: Final = 50
_MOST_HANDED_IN: Final = 4 << 20
_MOST_RUNS: Final = 5_000
#: Why a version exists: one page has saved it, and then another page saved without knowing this version.
ELSEWHERE: Final = "elsewhere"


class Connected:
    """The operations on the database, in one transaction."""

    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection

    # --- facts --------------------------------------------------------------------------------------------------------

    def fact(self, key: str, default: Any = None) -> Any:
        """Returns the value of a key."""
        value = self._connection.execute(sql.select(FACTS.c.value).where(FACTS.c.key == key)).scalar()
        return default if value is None else json.loads(value)

    def settled_fact(self, key: str, fresh: Any) -> Any:
        """Returns the value of a key; if there is none, stores `fresh` and returns it."""
        kept = self.fact(key)
        if kept is None:
            self.set_fact(key, fresh)
        return fresh if kept is None else kept

    def set_fact(self, key: str, value: Any) -> None:
        """Stores a value of JSON under a key."""
        self._put(FACTS, {"key": key}, {"value": json.dumps(value)})

    # --- seats --------------------------------------------------------------------------------------------------------

    def seats(self) -> list[Seat]:
        """Returns all seats, in the order in which they were taken."""
        rows = self._connection.execute(sql.select(SEATS).order_by(SEATS.c.joined)).mappings()
        return [Seat(**row) for row in rows]

    def keep_seat(self, seat: Seat) -> None:
        """Stores a seat."""
        values = attrs.asdict(seat)
        self._put(SEATS, {"id": values.pop("id")}, values)

    # --- texts --------------------------------------------------------------------------------------------------------

    def text(self, seat: str, exercise: str, version: int | None = None) -> SavedText | None:
        """Returns a version of an exercise's files; None: of the latest version."""
        query = sql.select(TEXTS).where(TEXTS.c.seat == seat, TEXTS.c.exercise == exercise)
        if version is not None:
            query = query.where(TEXTS.c.version == version)
        row = self._connection.execute(query.order_by(TEXTS.c.version.desc()).limit(1)).mappings().first()
        if row is None:
            return None
        return SavedText(version=row["version"], at=row["at"], why=row["why"], files=json.loads(row["files"]))

    def versions(self, seat: str, exercise: str) -> list[VersionJson]:
        """Returns the list of versions, the latest first."""
        columns = (TEXTS.c.version, TEXTS.c.at, TEXTS.c.why, TEXTS.c.size)
        query = sql.select(*columns).where(TEXTS.c.seat == seat, TEXTS.c.exercise == exercise)
        rows = self._connection.execute(query.order_by(TEXTS.c.version.desc()))
        return [{"version": version, "at": at, "why": why, "size": size} for version, at, why, size in rows]

    def save(
        self, seat: str, exercise: str, merge: Callable[[Mapping[str, str] | None], Mapping[str, str]], *,
        now: float, why: str, base: int, save: str,
    ) -> Saved:  # fmt: skip
        """Stores a version of the files: `merge` returns it, and gets the latest version (None if there is none).

        base: the version that the page has changed. A save replaces its base if the base was made just before and the
        save is at least half as large. It never replaces another version: the one that another page has saved stays,
        and is marked as that page's. The same save is stored once.
        """
        latest = self._latest(seat, exercise)
        if latest is not None and save and latest["save"] == save:
            return Saved(version=latest["version"], at=latest["at"], files=json.loads(latest["files"]))
        files = merge(None if latest is None else json.loads(latest["files"]))
        as_json = json.dumps(files)
        if latest is not None and why == "saved" and as_json == latest["files"]:
            return Saved(version=latest["version"], at=latest["at"], files=files)
        version, other = 1, None
        if latest is not None:
            version = 1 + latest["version"]
            other = None if latest["version"] == base else self._name_other(latest)
        new = {"version": version, "at": now, "why": why, "save": save, "size": len(as_json), "files": as_json}
        if why != "saved" or not self._replace(seat, exercise, base, new):
            row = {"seat": seat, "exercise": exercise, "begun": now, **new}
            self._connection.execute(TEXTS.insert().values(**row))
        if version % _THINNED == 0:
            self._thin_out(seat, exercise)
        return Saved(version=version, at=now, files=files, other=other)

    def _name_other(self, row: Mapping[str, Any]) -> tuple[int, float]:
        """Marks a version as another page's, and returns its number and its time."""
        if row["why"] == "saved":
            self._connection.execute(TEXTS.update().where(*_version(row)).values(why=ELSEWHERE))
        return row["version"], row["at"]

    def _replace(self, seat: str, exercise: str, base: int, new: Mapping[str, Any]) -> bool:
        """Replaces the version `base` with a new one, if that is allowed, and returns whether it did."""
        where = _version({"seat": seat, "exercise": exercise, "version": base})
        row = self._connection.execute(sql.select(TEXTS).where(*where)).mappings().first()
        is_recent = row is not None and row["why"] in ("saved", ELSEWHERE) and new["at"] - row["begun"] < MERGED
        if row is None or not is_recent or new["size"] * 2 < row["size"]:
            return False
        self._connection.execute(TEXTS.update().where(*where).values(**new))
        return True

    def _latest(self, seat: str, exercise: str) -> Any:
        query = sql.select(TEXTS).where(TEXTS.c.seat == seat, TEXTS.c.exercise == exercise)
        return self._connection.execute(query.order_by(TEXTS.c.version.desc()).limit(1)).mappings().first()

    def _thin_out(self, seat: str, exercise: str) -> None:
        """Removes the oldest versions beyond the limits of a seat; never the latest of an exercise."""
        mine = TEXTS.c.seat == seat
        older = mine & (TEXTS.c.exercise == exercise)
        beyond = sql.select(TEXTS.c.version).where(older).order_by(TEXTS.c.version.desc()).offset(MOST_VERSIONS)
        self._connection.execute(TEXTS.delete().where(older, TEXTS.c.version.in_(beyond)))
        total = self._connection.execute(sql.select(sql.func.sum(TEXTS.c.size)).where(mine)).scalar() or 0
        if total <= MOST_BYTES:
            return
        last = sql.select(TEXTS.c.exercise, sql.func.max(TEXTS.c.version)).where(mine).group_by(TEXTS.c.exercise)
        columns = (TEXTS.c.exercise, TEXTS.c.version, TEXTS.c.size)
        query = sql.select(*columns).where(mine, sql.tuple_(TEXTS.c.exercise, TEXTS.c.version).not_in(last))
        for row in self._connection.execute(query.order_by(TEXTS.c.at)).mappings().all():
            where = (mine, TEXTS.c.exercise == row["exercise"], TEXTS.c.version == row["version"])
            self._connection.execute(TEXTS.delete().where(*where))
            total -= row["size"]
            if total <= MOST_BYTES:
                return

    def texts(self) -> list[tuple[str, str, SavedText]]:
        """Returns the latest files of each seat and exercise."""
        key = TEXTS.c.seat, TEXTS.c.exercise
        last = sql.select(*key, sql.func.max(TEXTS.c.version)).group_by(*key)
        query = sql.select(TEXTS).where(sql.tuple_(*key, TEXTS.c.version).in_(last))
        rows = self._connection.execute(query).mappings()
        return [
            (row["seat"], row["exercise"],
             SavedText(version=row["version"], at=row["at"], why=row["why"], files=json.loads(row["files"])))
            for row in rows
        ]  # fmt: skip

    # --- hand-ins -----------------------------------------------------------------------------------------------------

    def hand_in(self, handed_in: HandIn, save: str) -> HandIn:
        """Stores a hand-in; the same save is stored once. Returns the stored hand-in."""
        mine = (HANDINS.c.seat == handed_in.seat, HANDINS.c.exercise == handed_in.exercise)
        known = self._connection.execute(sql.select(HANDINS).where(*mine, HANDINS.c.save == save)).mappings().first()
        if known is not None:
            return _handin(known)
        self._connection.execute(HANDINS.update().where(*mine).values(due=False))  # only the latest is graded
        row = {"files": json.dumps(handed_in.files), "save": save}
        row |= {name: getattr(handed_in, name) for name in ("id", "seat", "exercise", "at", "late", "due")}
        self._connection.execute(HANDINS.insert().values(**row))
        most = max(1, min(_MOST_HANDINS, _MOST_HANDED_IN // len(row["files"])))  # fewer of large ones
        beyond = sql.select(HANDINS.c.id).where(*mine).order_by(HANDINS.c.at.desc()).offset(most)
        self._connection.execute(HANDINS.delete().where(HANDINS.c.id.in_(beyond)))
        return handed_in

    def grade(self, handin: str, checked: Checked) -> HandIn | None:
        """Stores the grade of a hand-in, and returns the hand-in; None if it does not exist any more.

        If the tests have changed and the grade is another one, the former grade is stored beside it. If grading has
        failed, an existing grade stays.
        """
        where = HANDINS.c.id == handin
        row = self._connection.execute(sql.select(HANDINS).where(where)).mappings().first()
        if row is None:
            return None
        new: dict[str, Any] = {"due": False}
        before = None if row["grade"] is None else json.loads(row["grade"])
        was_graded = before is not None and not before["failed"]
        if not (checked.grade["failed"] and was_graded):
            new |= {"grade": json.dumps(checked.grade), "graded": checked.at, "basis": checked.basis}
        if was_graded and row["basis"] != new.get("basis", row["basis"]) and before != checked.grade:
            earlier = Checked(row["graded"] or row["at"], before, row["basis"])
            new["earlier"] = json.dumps(attrs.asdict(earlier))
        self._connection.execute(HANDINS.update().where(where).values(**new))
        return _handin({**row, **new})

    def grade_again(self, ids: Sequence[str]) -> None:
        """Marks hand-ins to be graded again."""
        for handin in ids:
            self._connection.execute(HANDINS.update().where(HANDINS.c.id == handin).values(due=True))

    def due(self) -> list[str]:
        """Returns the ids of hand-ins that have to be graded."""
        return list(self._connection.execute(sql.select(HANDINS.c.id).where(HANDINS.c.due)).scalars())

    def handin(self, handin: str) -> HandIn | None:
        """Returns a hand-in."""
        row = self._connection.execute(sql.select(HANDINS).where(HANDINS.c.id == handin)).mappings().first()
        return None if row is None else _handin(row)

    def handins(self, seat: str | None = None, exercise: str | None = None) -> list[HandIn]:
        """Returns the latest hand-in of each seat and exercise, the oldest first."""
        query = sql.select(HANDINS)
        if seat is not None:
            query = query.where(HANDINS.c.seat == seat)
        if exercise is not None:
            query = query.where(HANDINS.c.exercise == exercise)
        rows = self._connection.execute(query.order_by(HANDINS.c.at)).mappings()
        latest = {(row["seat"], row["exercise"]): row for row in rows}
        return [_handin(row) for row in latest.values()]

    # --- tests, hints, runs -------------------------------------------------------------------------------------------

    def keep_result(self, seat: str, exercise: str, checked: Checked) -> None:
        """Stores the result of the tests, in place of the one before."""
        values = {"at": checked.at, "grade": json.dumps(checked.grade), "basis": checked.basis}
        self._put(RESULTS, {"seat": seat, "exercise": exercise}, values)

    def results(self) -> list[tuple[str, str, Checked]]:
        """Returns seat, exercise and result of all tests."""
        rows = self._connection.execute(sql.select(RESULTS)).mappings()
        return [
            (row["seat"], row["exercise"], Checked(row["at"], json.loads(row["grade"]), row["basis"])) for row in rows
        ]

    def keep_hints(self, seat: str, exercise: str, shown: int) -> None:
        """Stores how many hints were shown."""
        self._put(HINTS, {"seat": seat, "exercise": exercise}, {"shown": shown})

    def hints(self) -> list[tuple[str, str, int]]:
        """Returns seat, exercise and how many hints were shown."""
        return [(row.seat, row.exercise, row.shown) for row in self._connection.execute(sql.select(HINTS))]

    def keep_run(self, ran: EndedRun) -> None:
        """Stores the record of a run."""
        result = self._connection.execute(RUNS.insert().values(**attrs.asdict(ran)))
        (number,) = result.inserted_primary_key or (0,)
        if number % 100 == 0:
            beyond = sql.select(RUNS.c.number).where(RUNS.c.seat == ran.seat).order_by(RUNS.c.number.desc())
            beyond = beyond.offset(_MOST_RUNS)
            self._connection.execute(RUNS.delete().where(RUNS.c.number.in_(beyond)))

    def runs(self) -> list[EndedRun]:
        """Returns the records of all runs, the oldest first."""
        rows = self._connection.execute(sql.select(RUNS).order_by(RUNS.c.number)).mappings()
        return [EndedRun(**{key: value for key, value in row.items() if key != "number"}) for row in rows]

    def last_errors(self) -> dict[str, EndedRun]:
        """Returns the last run of each seat."""
        last = sql.select(sql.func.max(RUNS.c.number)).where(RUNS.c.kind != "check").group_by(RUNS.c.seat)
        rows = self._connection.execute(sql.select(RUNS).where(RUNS.c.number.in_(last))).mappings()
        return {row["seat"]: EndedRun(**{key: value for key, value in row.items() if key != "number"}) for row in rows}

    # --- shares -------------------------------------------------------------------------------------------------------

    def keep_share(self, share: ShareJson) -> None:
        """Stores code that all can see."""
        values: dict[str, Any] = {**share, "files": json.dumps(share["files"])}
        self._put(SHARES, {"id": values.pop("id")}, values)

    def remove_share(self, identity: str) -> None:
        """Removes shared code."""
        self._connection.execute(SHARES.delete().where(SHARES.c.id == identity))

    def shares(self) -> list[ShareJson]:
        """Returns the code that all can see, the oldest first."""
        rows = self._connection.execute(sql.select(SHARES).order_by(SHARES.c.at)).mappings()
        return [cast(ShareJson, {**row, "files": json.loads(row["files"])}) for row in rows]

    # --- learning platforms -------------------------------------------------------------------------------------------

    def classes(self) -> list[Class]:
        """Returns the classes of learning platforms."""
        return [Class(**row) for row in self._connection.execute(sql.select(CLASSES)).mappings()]

    def keep_class(self, kept: Class) -> None:
        """Stores a class."""
        values = attrs.asdict(kept)
        self._put(CLASSES, {"id": values.pop("id")}, values)

    def seat_of_user(self, platform: str, context: str, user: str) -> str | None:
        """Returns the seat that a platform's user has in a class of the platform."""
        key = {"platform": platform, "context": context, "user": user}
        return self._connection.execute(sql.select(USERS.c.seat).where(*_is(USERS, key))).scalar()

    def keep_user(self, platform: str, context: str, user: str, seat: str) -> None:
        """Stores which seat a platform's user has in a class of the platform."""
        self._put(USERS, {"platform": platform, "context": context, "user": user}, {"seat": seat})

    def move_user(self, platform: str, user: str, context: str) -> str | None:
        """Puts a user from the time before there were classes into this class, and returns the seat."""
        before = {"platform": platform, "context": "", "user": user}
        self._connection.execute(USERS.update().where(*_is(USERS, before)).values(context=context))
        return self.seat_of_user(platform, context, user)

    def keep_line(self, line: GradeLine) -> None:
        """Stores where grades go, and the last grade that was sent there."""
        values = attrs.asdict(line)
        self._put(LINES, {"seat": values.pop("seat"), "exercise": values.pop("exercise")}, values)

    def brought(self, line: GradeLine, word: str) -> None:
        """Stores that a platform has accepted a grade, unless grades go to another address in the meantime."""
        where = _is(LINES, {"seat": line.seat, "exercise": line.exercise, "url": line.url})
        self._connection.execute(LINES.update().where(*where).values(brought=word))

    def lines(self) -> list[GradeLine]:
        """Returns where the grades go."""
        return [GradeLine(**row) for row in self._connection.execute(sql.select(LINES)).mappings()]

    def _put(self, table: sql.Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        if not self._connection.execute(table.update().where(*_is(table, key)).values(**values)).rowcount:
            self._connection.execute(table.insert().values(**key, **values))


def _is(table: sql.Table, key: Mapping[str, Any]) -> list[sql.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.items()]


def _version(row: Mapping[str, Any]) -> list[sql.ColumnElement[bool]]:
    """The conditions for one version of the files of a seat and an exercise."""
    return _is(TEXTS, {name: row[name] for name in ("seat", "exercise", "version")})


def _handin(row: Any) -> HandIn:
    earlier = None if row["earlier"] is None else Checked(**json.loads(row["earlier"]))
    kept = {name: row[name] for name in ("id", "seat", "exercise", "at", "late", "graded", "basis", "due")}
    grade = None if row["grade"] is None else json.loads(row["grade"])
    return HandIn(**kept, files=json.loads(row["files"]), grade=grade, earlier=earlier)
