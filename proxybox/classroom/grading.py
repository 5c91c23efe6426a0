"""Grades of hand-ins: each is graded once, and again if its tests were corrected.

    hand_in ── due ── the tests ── Connected.grade ── all readers of a grade
    grade_again ─┘

Rule: the database says which hand-ins are due. So none is forgotten if the class ends in the meantime, and another
process can mark hand-ins to be graded again (regrading.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from proxybox.classroom.checks import AT_FAULT, Checks, ChecksClosed, Superseded, TooManyChecks
from proxybox.classroom.connected import Connected
from proxybox.classroom.records import HandIn
from proxybox.classroom.results import bounded, is_outdated
from proxybox.classroom.sheets import Sheet
from proxybox.classroom.store import ClassStore
from proxybox.classroom.work import StudentWork
from proxybox.serve.problems import Refusal
from proxybox.teach.grades import Grade
from proxybox.teach.records import CONVERTER

#: Seconds for all tests of a hand-in. Nobody waits for them: slow work can be right, too.
_PATIENCE: Final = 120.0
#: How many hand-ins are tested at the same time, so that other checks can run between them; and the seconds after which
#: the next one begins, too: endless loops delay only each other (checks.py).
_AT_ONCE, _PLACE = 6, 2.0
#: The most characters of a fault that are shown.
_MOST_FAULT: Final = 2_000


class Grading:
    """Grades hand-ins. on_graded: called with each hand-in after grading, also if grading has failed."""

    def __init__(self, store: ClassStore, work: StudentWork, checks: Checks, sheets: Mapping[str, Sheet]) -> None:
        self._store, self._work, self._checks, self._sheets = store, work, checks, sheets
        self.on_graded: list[Callable[[HandIn], Awaitable[object]]] = []
        self.faults: dict[str, str] = {}
        """By exercise, why grading has failed the last time; for teachers alone."""
        self._under_way: set[str] = set()
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def check(self, key: str, sheet: Sheet, files: Mapping[str, str], deadline: float | None = None) -> Grade:
        """The grade of files by the tests of an exercise. Raises Refusal."""
        content = {name: text.encode() for name, text in files.items()}
        try:
            return bounded(await self._checks.check(key, sheet.packed, content, deadline=deadline))
        except (Superseded, TooManyChecks, ChecksClosed) as error:
            raise Refusal("overloaded", "The tests were not run.") from error

    async def grade_due(self) -> None:
        """Grades all due hand-ins that are not being graded already. Those that cannot be graded now stay due."""
        due = await self._store.do(Connected.due)
        await asyncio.gather(*(self._grade(handin) for handin in due if handin not in self._under_way))

    async def has_due(self) -> bool:
        """Whether a hand-in is due and not being graded already."""
        return any(handin not in self._under_way for handin in await self._store.do(Connected.due))

    async def again(self, handed_in: Iterable[HandIn]) -> int:
        """Marks hand-ins to be graded again, and returns how many; `grade_due` grades them."""
        ours = [each for each in handed_in if each.exercise in self._sheets]
        await self._work.grade_again(ours)
        return len(ours)

    def outdated(self, exercise: str | None = None) -> list[HandIn]:
        """The hand-ins, of an exercise or of all, whose tests have changed since they were graded."""
        return [
            each
            for (_, of), each in self._work.handed_in.items()
            if of in self._sheets and exercise in (None, of) and is_outdated(each, self._sheets[of].basis)
        ]

    async def _grade(self, handin: str) -> None:
        self._under_way.add(handin)
        grading: asyncio.Task[None] | None = None
        try:
            async with self._room:
                grading = asyncio.create_task(self._grade_now(handin))
                await asyncio.wait({grading}, timeout=_PLACE)
            await grading
        except Refusal:  # a later hand-in has replaced it; or the lesson ends, and the next one grades it
            pass
        finally:
            self._under_way.discard(handin)
            if grading is not None:
                grading.cancel()

    async def _grade_now(self, handin: str) -> None:
        handed_in = await self._store.do(Connected.handin, handin)
        sheet = None if handed_in is None else self._sheets.get(handed_in.exercise)
        if handed_in is not None and sheet is not None:  # otherwise the hand-in or the exercise was removed
            await self._grade_by(handed_in, sheet)

    async def _grade_by(self, handed_in: HandIn, sheet: Sheet) -> None:
        while True:
            grade = await self.check(f"{handed_in.seat}/handed-in", sheet, handed_in.files, _PATIENCE)
            now = self._sheets.get(sheet.id, sheet)
            if now.basis == sheet.basis:
                break
            sheet = now  # its tests were corrected in the meantime
        self._note(sheet.id, grade)
        graded = await self._work.grade(handed_in, CONVERTER.unstructure(grade), sheet.basis)
        for tell in self.on_graded:
            await tell(graded)

    def note_fault(self, exercise: str, grade: Grade) -> None:
        """Notes that tests gave a student no result because of a fault of their own: students need not report it."""
        if grade.failed and (grade.message == AT_FAULT or any(test.fault for test in grade.tests)):
            self._note(exercise, grade)

    def _note(self, exercise: str, grade: Grade) -> None:
        if grade.failed:
            fault = next((test.fault for test in grade.tests if test.fault), grade.message)
            self.faults[exercise] = fault[:_MOST_FAULT]
        else:
            self.faults.pop(exercise, None)
