"""What can be done with a class's database (store.py): seats, texts and their versions, hand-ins, runs, classes.

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
#: Why there is a version that was saved by another page, while a page that did not know of it saved, too.
ELSEWHERE: Final = "elsewhere"


class Connected:
    """What can be done with the database, in one transaction."""

    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection

    # --- facts --------------------------------------------------------------------------------------------------------

    def fact(self, key: str, default: Any = None) -> Any:
        """Returns the value of a key."""
        value = self._connection.execute(sql.select(FACTS.c.value).where(FACTS.c.key == key)).scalar()
        return default if value is None else json.loads(value)

    def settled_fact(self, key: str, fresh: Any) -> Any:
        """Returns the value of a key; where there is none, `fresh` becomes its value."""
        kept = self.fact(key)
        if kept is None:
            self.set_fact(key, fresh)
        return fresh if kept is None else kept

    def set_fact(self, key: str, value: Any) -> None:
        """Keeps a value of JSON under a key."""
        self._put(FACTS, {"key": key}, {"value": json.dumps(value)})

    # --- seats --------------------------------------------------------------------------------------------------------

    def seats(self) -> list[Seat]:
        """Returns all seats, in the order in which they were taken."""
        rows = self._connection.execute(sql.select(SEATS).order_by(SEATS.c.joined)).mappings()
        return [Seat(**row) for row in rows]

    def keep_seat(self, seat: Seat) -> None:
        """Keeps a seat as it is now."""
        values = attrs.asdict(seat)
        self._put(SEATS, {"id": values.pop("id")}, values)

    # --- texts --------------------------------------------------------------------------------------------------------

    def text(self, seat: str, exercise: str, version: int | None = None) -> SavedText | None:
        """Returns a version of an exercise's files; None: the latest."""
        query = sql.select(TEXTS).where(TEXTS.c.seat == seat, TEXTS.c.exercise == exercise)
        if version is not None:
            query = query.where(TEXTS.c.version == version)
        row = self._connection.execute(query.order_by(TEXTS.c.version.desc()).limit(1)).mappings().first()
        if row is None:
            return None
        return SavedText(version=row["version"], at=row["at"], why=row["why"], files=json.loads(row["files"]))

    def versions(self, seat: str, exercise: str) -> list[VersionJson]:
        """Returns what versions there are, the latest first."""
        columns = (TEXTS.c.version, TEXTS.c.at, TEXTS.c.why, TEXTS.c.size)
        query = sql.select(*columns).where(TEXTS.c.seat == seat, TEXTS.c.exercise == exercise)
        rows = self._connection.execute(query.order_by(TEXTS.c.version.desc()))
        return [{"version": version, "at": at, "why": why, "size": size} for version, at, why, size in rows]

    def save(
        self, seat: str, exercise: str, merge: Callable[[Mapping[str, str] | None], Mapping[str, str]], *,
        now: float, why: str, base: int, save: str,
    ) -> Saved:  # fmt: skip
        """Keeps a version of the files: what `merge` makes of the latest one (None where there is none).

        base: the version that the page has changed. A save takes the place of that one where it was made just before,
        unless much was taken out of it, and never that of another version: what another page has saved meanwhile stays,
        and is named so. The same save is kept once.
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
        """Names a version as another page's, and returns its number and its time."""
        if row["why"] == "saved":
            self._connection.execute(TEXTS.update().where(*_version(row)).values(why=ELSEWHERE))
        return row["version"], row["at"]

    def _replace(self, seat: str, exercise: str, base: int, new: Mapping[str, Any]) -> bool:
        """Puts a version in the place of the one that it was made from, where that may be, and returns whether."""
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
        """Lets go of the oldest versions beyond what a seat may keep; never of the latest of an exercise."""
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
        """Keeps what was handed in; the same save is kept once. Returns what is kept."""
        mine = (HANDINS.c.seat == handed_in.seat, HANDINS.c.exercise == handed_in.exercise)
        known = self._connection.execute(sql.select(HANDINS).where(*mine, HANDINS.c.save == save)).mappings().first()
        if known is not None:
            return _handin(known)
        self._connection.execute(HANDINS.update().where(*mine).values(due=False))  # the latest is graded, and no other
        row = {"files": json.dumps(handed_in.files), "save": save}
        row |= {name: getattr(handed_in, name) for name in ("id", "seat", "exercise", "at", "late", "due")}
        self._connection.execute(HANDINS.insert().values(**row))
        most = max(1, min(_MOST_HANDINS, _MOST_HANDED_IN // len(row["files"])))  # of large ones there are fewer
        beyond = sql.select(HANDINS.c.id).where(*mine).order_by(HANDINS.c.at.desc()).offset(most)
        self._connection.execute(HANDINS.delete().where(HANDINS.c.id.in_(beyond)))
        return handed_in

    def grade(self, handin: str, checked: Checked) -> HandIn | None:
        """Keeps the grade of a hand-in, and returns this with it; None when it is no longer there.

        What had been its grade by other tests is kept beside it, where the grade is another one now. Where grading has
        failed, a grade stays what it was.
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
        """Has hand-ins graded once more."""
        for handin in ids:
            self._connection.execute(HANDINS.update().where(HANDINS.c.id == handin).values(due=True))

    def due(self) -> list[str]:
        """Returns the ids of hand-ins that are to be graded."""
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
        """Keeps what came of the tests, in place of what came of them before."""
        values = {"at": checked.at, "grade": json.dumps(checked.grade), "basis": checked.basis}
        self._put(RESULTS, {"seat": seat, "exercise": exercise}, values)

    def results(self) -> list[tuple[str, str, Checked]]:
        """Returns seat, exercise and what came of the tests, of all."""
        rows = self._connection.execute(sql.select(RESULTS)).mappings()
        return [
            (row["seat"], row["exercise"], Checked(row["at"], json.loads(row["grade"]), row["basis"])) for row in rows
        ]

    def keep_hints(self, seat: str, exercise: str, shown: int) -> None:
        """Keeps how many hints were shown."""
        self._put(HINTS, {"seat": seat, "exercise": exercise}, {"shown": shown})

    def hints(self) -> list[tuple[str, str, int]]:
        """Returns seat, exercise and how many hints were shown."""
        return [(row.seat, row.exercise, row.shown) for row in self._connection.execute(sql.select(HINTS))]

    def keep_run(self, ran: EndedRun) -> None:
        """Keeps the record of a run."""
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
        """Keeps code that all can see."""
        values: dict[str, Any] = {**share, "files": json.dumps(share["files"])}
        self._put(SHARES, {"id": values.pop("id")}, values)

    def remove_share(self, identity: str) -> None:
        """Lets go of shared code."""
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
        """Keeps a class as it is now."""
        values = attrs.asdict(kept)
        self._put(CLASSES, {"id": values.pop("id")}, values)

    def seat_of_user(self, platform: str, context: str, user: str) -> str | None:
        """Returns the seat that a platform's user has in a class of the platform."""
        key = {"platform": platform, "context": context, "user": user}
        return self._connection.execute(sql.select(USERS.c.seat).where(*_is(USERS, key))).scalar()

    def keep_user(self, platform: str, context: str, user: str, seat: str) -> None:
        """Keeps which seat a platform's user has in a class of the platform."""
        self._put(USERS, {"platform": platform, "context": context, "user": user}, {"seat": seat})

    def move_user(self, platform: str, user: str, context: str) -> str | None:
        """Has a user who came when classes were not told apart be of this one, and returns the seat."""
        before = {"platform": platform, "context": "", "user": user}
        self._connection.execute(USERS.update().where(*_is(USERS, before)).values(context=context))
        return self.seat_of_user(platform, context, user)

    def keep_line(self, line: GradeLine) -> None:
        """Keeps where grades go, and what was brought there."""
        values = attrs.asdict(line)
        self._put(LINES, {"seat": values.pop("seat"), "exercise": values.pop("exercise")}, values)

    def brought(self, line: GradeLine, word: str) -> None:
        """Keeps what a platform has taken, unless grades go elsewhere meanwhile."""
        where = _is(LINES, {"seat": line.seat, "exercise": line.exercise, "url": line.url})
        self._connection.execute(LINES.update().where(*where).values(brought=word))

    def lines(self) -> list[GradeLine]:
        """Returns where grades go."""
        return [GradeLine(**row) for row in self._connection.execute(sql.select(LINES)).mappings()]

    def _put(self, table: sql.Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        if not self._connection.execute(table.update().where(*_is(table, key)).values(**values)).rowcount:
            self._connection.execute(table.insert().values(**key, **values))


def _is(table: sql.Table, key: Mapping[str, Any]) -> list[sql.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.items()]


def _version(row: Mapping[str, Any]) -> list[sql.ColumnElement[bool]]:
    """What finds one version of the files of a seat and an exercise."""
    return _is(TEXTS, {name: row[name] for name in ("seat", "exercise", "version")})


def _handin(row: Any) -> HandIn:
    earlier = None if row["earlier"] is None else Checked(**json.loads(row["earlier"]))
    kept = {name: row[name] for name in ("id", "seat", "exercise", "at", "late", "graded", "basis", "due")}
    grade = None if row["grade"] is None else json.loads(row["grade"])
    return HandIn(**kept, files=json.loads(row["files"]), grade=grade, earlier=earlier)
