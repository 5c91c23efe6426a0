"""The students' work: their files with all versions, test results, shown hints, hand-ins.

Rule: after the answer to a request, its changes are on the disk. A version that is overwritten stays in the history.
"""

import secrets
import time
import unicodedata
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from proxybox.classroom.answers import ProgressJson, SavedVersionJson, VersionJson
from proxybox.classroom.connected import Connected
from proxybox.classroom.models import MOST_FILES, MOST_TOGETHER, Save
from proxybox.classroom.records import Checked, HandIn, Saved, SavedText
from proxybox.classroom.results import has_failed, mark_as_json, score_as_json
from proxybox.classroom.sheets import Sheet
from proxybox.classroom.store import ClassStore
from proxybox.serve.problems import Refusal

#: The most remembered saves of a seat and an exercise, so that a repeated save is stored once; and the most of such
#: pairs.
_REMEMBERED, _MOST_KEYS = 50, 2_000
#: A seat and an exercise.
Key = tuple[str, str]


def other_as_json(saved: Saved | SavedText) -> SavedVersionJson | None:
    """The version that another page has saved in the meantime; None if there is none."""
    other = saved.other if isinstance(saved, Saved) else None
    return None if other is None else {"version": other[0], "at": other[1]}


class StudentWork:
    """The work of the students of a class.

    results: the last test results. handed_in: the latest hand-ins, without their files. Texts of students may be large,
    so they are only in the store.
    """

    def __init__(self, store: ClassStore, sheets: Mapping[str, Sheet]) -> None:
        self._store, self._sheets = store, sheets
        self.results: dict[Key, Checked] = {}
        self.handed_in: dict[Key, HandIn] = {}
        self.hints: dict[Key, int] = {}
        self._saves: OrderedDict[Key, deque[tuple[str, Saved]]] = OrderedDict()

    async def load(self) -> None:
        """Reads the database."""
        self.results = {
            (seat, exercise): checked for seat, exercise, checked in await self._store.do(Connected.results)
        }
        self.hints = {(seat, exercise): shown for seat, exercise, shown in await self._store.do(Connected.hints)}
        handed_in = await self._store.do(Connected.handins)
        self.handed_in = {(each.seat, each.exercise): attrs.evolve(each, files={}) for each in handed_in}

    # --- files --------------------------------------------------------------------------------------------------------

    async def text(self, seat: str, sheet: Sheet, version: int | None = None) -> SavedText:
        """Returns a version of the files; None: the latest; 0: the starter. Raises Refusal."""
        found = await self._store.do(Connected.text, seat, sheet.id, version) if version != 0 else None
        if found is not None:
            return found
        if version:
            raise Refusal("not-found", "There is no such version.")
        return SavedText(version=0, at=0.0, why="starter", files=sheet.starter)

    async def versions(self, seat: str, sheet: Sheet) -> list[VersionJson]:
        """Returns the list of versions, the latest first; the last one is the starter."""
        size = sum(map(len, sheet.starter.values()))
        starter: VersionJson = {"version": 0, "at": 0.0, "why": "starter", "size": size}
        return [*await self._store.do(Connected.versions, seat, sheet.id), starter]

    async def save(self, seat: str, sheet: Sheet, body: Save, why: str = "saved") -> Saved:
        """Stores changed files. Raises Refusal."""
        remembered = self._saves.get((seat, sheet.id), ())
        known = next((saved for save, saved in remembered if body.save and save == body.save), None)
        if known is not None:
            return attrs.evolve(known, files=(await self.text(seat, sheet)).files)
        if (beside := next((name for name in body.files if name in sheet.beside), None)) is not None:
            raise _refused(beside, "it cannot be changed")
        saved = await self._store.do(
            Connected.save, seat, sheet.id, lambda files: _merged(sheet, files, body.files),
            now=time.time(), why=why, base=body.base, save=body.save,
        )  # fmt: skip
        self._remember((seat, sheet.id), body.save, saved)
        return saved

    def _remember(self, key: Key, save: str, saved: Saved) -> None:
        self._saves.setdefault(key, deque(maxlen=_REMEMBERED)).append((save, attrs.evolve(saved, files={})))
        self._saves.move_to_end(key)
        while len(self._saves) > _MOST_KEYS:
            self._saves.popitem(last=False)

    # --- hand-ins -----------------------------------------------------------------------------------------------------

    async def hand_in(self, seat: str, sheet: Sheet, body: Save) -> tuple[HandIn, Saved]:
        """Stores the files as a hand-in; returns the hand-in and the save. Raises Refusal."""
        saved = await self.save(seat, sheet, body, "handed in")
        now = time.time()
        handed_in = HandIn(
            id=secrets.token_urlsafe(9), seat=seat, exercise=sheet.id, at=now, files=saved.files,
            late=sheet.deadline is not None and now > sheet.deadline,
        )  # fmt: skip
        stored = await self._store.do(Connected.hand_in, handed_in, body.save or handed_in.id)
        latest = self.handed_in.get((seat, sheet.id))
        if latest is None or stored.at >= latest.at:  # otherwise the request was repeated after a later hand-in
            self.handed_in[seat, sheet.id] = attrs.evolve(stored, files={})
        return stored, saved

    async def grade(self, handed_in: HandIn, grade: Any, basis: str) -> HandIn:
        """Stores the grade of a hand-in, and returns the hand-in. basis: of the tests (sheets.py)."""
        graded = await self._store.do(Connected.grade, handed_in.id, Checked(time.time(), grade, basis))
        if graded is not None:
            self._know(graded)
            await self._take_over(graded)
        return graded or handed_in

    async def grade_again(self, handed_in: Iterable[HandIn]) -> None:
        """Marks hand-ins as due in the database: they are graded again, here or when a classroom is next open."""
        again = [attrs.evolve(each, due=True) for each in handed_in]
        await self._store.do(Connected.grade_again, [each.id for each in again])
        for each in again:
            self._know(each)

    def _know(self, handed_in: HandIn) -> None:
        """Updates a hand-in in memory if it is still the latest."""
        key = handed_in.seat, handed_in.exercise
        if (latest := self.handed_in.get(key)) is not None and latest.id == handed_in.id:
            self.handed_in[key] = attrs.evolve(handed_in, files={})

    def progress(self, seat: str) -> dict[str, ProgressJson]:
        """How far a seat has come with each exercise that it has begun: its score by the tests, and its hand-in."""
        by_seat: dict[str, ProgressJson] = {}
        for exercise, sheet in self._sheets.items():
            now, handed_in = self.results.get((seat, exercise)), self.handed_in.get((seat, exercise))
            if now is not None or handed_in is not None:
                by_seat[exercise] = {
                    "now": None if now is None else score_as_json(now.grade),
                    "handed_in": None if handed_in is None else mark_as_json(handed_in, sheet.basis),
                }
        return by_seat

    # --- tests and hints ----------------------------------------------------------------------------------------------

    async def keep_result(self, seat: str, exercise: str, grade: Any, basis: str) -> Checked:
        """Stores the result of tests, and returns it. basis: of the tests (sheets.py)."""
        checked = Checked(time.time(), grade, basis)
        await self._keep_result(seat, exercise, checked)
        return checked

    async def _keep_result(self, seat: str, exercise: str, checked: Checked) -> None:
        self.results[seat, exercise] = checked
        await self._store.do(Connected.keep_result, seat, exercise, checked)

    async def _take_over(self, graded: HandIn) -> None:
        """Stores a hand-in's grade as the test result, if no tests were run since.

        Otherwise the overview would show an older result beside the grade. The result has the time of the grade, so
        that a later grade by corrected tests replaces it, too.
        """
        key = graded.seat, graded.exercise
        before, latest = self.results.get(key), self.handed_in.get(key)
        is_latest = latest is not None and latest.id == graded.id and not has_failed(graded)
        if is_latest and graded.grade is not None and (before is None or before.at <= graded.at):
            await self._keep_result(*key, Checked(graded.at, graded.grade, graded.basis))

    def is_now(self, graded: HandIn) -> bool:
        """Whether a hand-in's grade is the current test result: no tests were run since."""
        now = self.results.get((graded.seat, graded.exercise))
        return now is not None and now.at == graded.at

    async def next_hint(self, seat: str, sheet: Sheet) -> int:
        """Counts one more hint, and returns its number, from 1. Raises Refusal if there are no more."""
        shown = self.hints.get((seat, sheet.id), 0)
        if shown >= len(sheet.hints):
            raise Refusal("not-found", "There are no more hints.")
        self.hints[seat, sheet.id] = shown + 1
        await self._store.do(Connected.keep_hints, seat, sheet.id, shown + 1)
        return shown + 1


def _merged(sheet: Sheet, files: Mapping[str, str] | None, changes: Mapping[str, str | None]) -> dict[str, str]:
    """Returns the files with changes. Raises Refusal if they are too many or too large."""
    merged = dict(sheet.starter if files is None else files)
    merged = {sheet.main: merged.get(sheet.main, ""), **merged}  # the main file comes first
    for name, text in changes.items():
        if text is not None:
            merged[name] = text
        elif name != sheet.main:
            merged.pop(name, None)
    if len(merged) > MOST_FILES or sum(map(len, merged.values())) > MOST_TOGETHER:
        raise Refusal("too-large", "These are too many files, or too much text for one exercise.")
    _check_names((*merged, *sheet.beside), changes)
    return merged


def _check_names(names: Iterable[str], changed: Iterable[str]) -> None:
    """Raises Refusal if two names are the same on a system that ignores case, here or on the teacher's."""
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(_folded(name), name)
        if other != name:
            raise _refused(name if name in changed else other, "there is a file of this name already")
    for name in names:
        parts = _folded(name).split("/")
        for length in range(1, len(parts)):
            if (folder := "/".join(parts[:length])) in taken:
                raise _refused(taken[folder], "it is a folder, too")


def _folded(name: str) -> str:
    """A name as systems that ignore case compare it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _refused(name: str, why: str) -> Refusal:
    return Refusal("invalid", errors=[{"loc": ["body", "files", name], "msg": why}])
