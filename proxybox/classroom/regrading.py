"""`proxybox classroom regrade`: grades hand-ins again, whether the classroom is open or not.

The database stores which hand-ins are due. An open classroom grades them; otherwise this process does.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from proxybox.classroom.alone import ClassroomError, alone
from proxybox.classroom.checks import Checks
from proxybox.classroom.config import ClassroomConfig
from proxybox.classroom.connected import Connected
from proxybox.classroom.grading import Grading
from proxybox.classroom.reading import course_of, sheets_of
from proxybox.classroom.records import HandIn
from proxybox.classroom.results import Score, has_failed, is_outdated, score_of
from proxybox.classroom.sheets import Sheet
from proxybox.classroom.store import ClassStore
from proxybox.classroom.work import StudentWork
from proxybox.policies.errors import nearest

#: Seconds between two checks of the progress of an open classroom.
_LOOK: Final = 0.5


@attrs.frozen(kw_only=True)
class Regraded:
    """The result of a hand-in. before, now: its scores; None if there is none. fault: why grading has failed."""

    exercise: str
    name: str
    before: Score | None
    now: Score | None
    fault: str = ""


def regrade(
    config: ClassroomConfig, exercises: Sequence[str], *, outdated: bool = False, on_graded: Callable[[], object]
) -> list[Regraded]:
    """Grades the latest hand-ins of exercises, or of all, again, and returns the results.

    outdated: only those whose tests have changed since. on_graded: called after each hand-in. Raises ClassroomError for
    an exercise that is not in the course, CourseError, and StoreError.
    """
    sheets = sheets_of(course_of(config))
    for name in exercises:
        if name not in sheets:
            meant = nearest(name, sheets)
            raise ClassroomError(
                f"there is no exercise {name} in this course{f': did you mean {meant}?' if meant else ''}"
            )
    path = os.path.join(config.data, "classroom.sqlite")
    if not os.path.exists(path):
        raise ClassroomError(f"{config.data}: there is no class here: nothing was handed in (--data PATH)")
    return asyncio.run(_regrade(config, path, sheets, tuple(exercises or sheets), outdated, on_graded))


async def _regrade(
    config: ClassroomConfig, path: str, sheets: dict[str, Sheet], exercises: Sequence[str], outdated: bool,
    on_graded: Callable[[], object],
) -> list[Regraded]:  # fmt: skip
    with contextlib.closing(ClassStore(path)) as store:
        work = StudentWork(store, sheets)
        await work.load()
        before = [
            each
            for each in work.handed_in.values()
            if each.exercise in exercises and (not outdated or is_outdated(each, sheets[each.exercise].basis))
        ]
        await work.grade_again(before)
        grading = asyncio.create_task(_grade(config, store, work, sheets))
        left = {each.id for each in before}
        while left:
            ended, _ = await asyncio.wait({grading}, timeout=_LOOK)
            for task in ended:
                task.result()  # it ends only with an error
            now = left.intersection(await store.do(Connected.due))
            for _ in left - now:
                on_graded()
            left = now
        grading.cancel()
        await asyncio.gather(grading, return_exceptions=True)
        names = {seat.id: seat.name for seat in await store.do(Connected.seats)}
        return [await _outcome(store, each, names.get(each.seat, each.seat)) for each in before]


async def _grade(config: ClassroomConfig, store: ClassStore, work: StudentWork, sheets: dict[str, Sheet]) -> None:
    """Grades due hand-ins, unless an open classroom has this data and grades them."""
    course = course_of(config)
    while True:
        with contextlib.suppress(ClassroomError), alone(config.data) as held:
            held.write(f"process {os.getpid()}, which grades hand-ins again")
            held.flush()
            checks = Checks(guest=course.guest, packages=course.packages)
            await checks.start()
            try:
                await Grading(store, work, checks, sheets).grade_due()
            finally:
                await checks.close()
        await asyncio.sleep(_LOOK)


async def _outcome(store: ClassStore, before: HandIn, name: str) -> Regraded:
    now = await store.do(Connected.handin, before.id) or before
    fault = ""
    if has_failed(now):
        fault = next((test["fault"] for test in now.grade["tests"] if test["fault"]), now.grade["message"])
    return Regraded(
        exercise=before.exercise, name=name, before=score_of(before.grade), now=score_of(now.grade), fault=fault
    )
