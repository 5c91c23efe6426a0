"""Between the platforms and the lesson: who launches gets a seat, and what is graded goes back."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import httpx

from proxybox.classroom.lesson import Lesson
from proxybox.classroom.lti.grades import Grades, NotTaken, OwnKey
from proxybox.classroom.lti.launches import Launch, Launches
from proxybox.classroom.lti.platforms import Platform
from proxybox.classroom.models import person
from proxybox.classroom.store import Connected, GradeLine, HandIn, Seat
from proxybox.serve.problems import Refusal

log = logging.getLogger("proxybox.classroom")

#: Seconds for one request to a platform, and between two tries to bring a grade.
_PATIENCE, _PAUSE = 20.0, 60.0
#: How often a name is tried with a number behind it.
_MOST_NAMES: Final = 1_000


class Bridge:
    """The platforms of a lesson. authorities: certificates to believe, in place of the system's."""

    def __init__(
        self, lesson: Lesson, platforms: Sequence[Platform], *, authorities: ssl.SSLContext | None = None
    ) -> None:
        """Raises OSError or ValueError when our own key cannot be read or kept."""
        self._lesson = lesson
        self._platforms = {each.name: each for each in platforms}
        self._client = httpx.AsyncClient(timeout=_PATIENCE, verify=authorities or ssl.create_default_context())
        self.launches = Launches(platforms, self._client)
        self.key = OwnKey(Path(lesson.config.data) / "lti-key.pem")
        self._grades = Grades(self.key, self._client)
        self._lines: dict[tuple[str, str], GradeLine] = {}
        self._some = asyncio.Event()
        self._arriving = asyncio.Lock()
        lesson.on_graded.append(self._graded)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """A context in which grades are brought; those that are still due at its end are brought the next time."""
        lines = await self._lesson.store.do(Connected.lines)
        self._lines = {(each.seat, each.exercise): each for each in lines}
        self._some.set()
        bringing = asyncio.create_task(self._bring_all())
        try:
            yield
        finally:
            bringing.cancel()
            await asyncio.gather(bringing, return_exceptions=True)
            await self._client.aclose()

    # --- who comes ----------------------------------------------------------------------------------------------------

    async def arrive(self, launch: Launch) -> Seat:
        """Returns the seat of who launches, which is new the first time. Raises Refusal."""
        lesson, platform = self._lesson, launch.platform.name
        async with self._arriving:
            known = await lesson.store.do(Connected.seat_of_user, platform, launch.user)
            seat = lesson.seats.find(known) if known is not None else None
            if seat is None:
                seat = await self._new_seat(launch)
                await lesson.store.do(Connected.keep_user, platform, launch.user, seat.id)
        if seat.removed:
            raise Refusal("forbidden", "Your teacher has removed this seat.")
        exercise = launch.exercise if launch.exercise in lesson.sheets else ""
        if exercise:
            await lesson.open(seat, exercise)
        if launch.line:
            await self._keep(
                GradeLine(seat=seat.id, exercise=exercise, platform=platform, user=launch.user, url=launch.line)
            )
        return seat

    async def _new_seat(self, launch: Launch) -> Seat:
        seats = self._lesson.seats
        try:
            name = person(launch.name[:36])
        except ValueError:
            name = "Student"
        for number in range(1, _MOST_NAMES):
            try:
                return await seats.add(name if number == 1 else f"{name} {number}")
            except Refusal as refusal:
                if refusal.kind != "conflict":
                    raise
        raise Refusal("conflict")

    # --- what goes back -----------------------------------------------------------------------------------------------

    async def _keep(self, line: GradeLine) -> None:
        before = self._lines.get((line.seat, line.exercise))
        if before is not None and attrs.evolve(before, due=False) == line:
            return
        self._lines[line.seat, line.exercise] = line
        await self._lesson.store.do(Connected.keep_line, line)

    async def _graded(self, handed: HandIn) -> None:
        """Notes which grades are to be brought now."""
        for exercise in (handed.exercise, ""):
            line = self._lines.get((handed.seat, exercise))
            if line is not None:
                self._lines[line.seat, line.exercise] = due = attrs.evolve(line, due=True)
                await self._lesson.store.do(Connected.keep_line, due)
        self._some.set()

    async def _bring_all(self) -> None:
        """Brings grades that are due, until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await self._some.wait()
            self._some.clear()
            for line in [line for line in self._lines.values() if line.due]:
                await self._bring(line)

    async def _bring(self, line: GradeLine) -> None:
        platform = self._platforms.get(line.platform)
        if platform is None:  # it is no longer in the list
            return
        share, at = self._share(line)
        try:
            await self._grades.bring(platform, line.url, line.user, share, at)
        except NotTaken as error:
            log.warning("a grade of seat %s was not taken by %s: %s", line.seat, platform.issuer, error)
            if not error.for_good:
                return
        if self._lines.get((line.seat, line.exercise)) is line:  # nothing was graded meanwhile
            self._lines[line.seat, line.exercise] = brought = attrs.evolve(line, due=False)
            await self._lesson.store.do(Connected.keep_line, brought)

    def _share(self, line: GradeLine) -> tuple[float, float]:
        """The share of points of an exercise, or of all, and when the last of them was handed in."""
        exercises = [line.exercise] if line.exercise else list(self._lesson.sheets)
        handed = [self._lesson.work.handed.get((line.seat, exercise)) for exercise in exercises]
        shares = [0.0 if each is None or each.grade is None else _share_of(each.grade) for each in handed]
        return sum(shares) / len(shares), max(each.at for each in handed if each is not None)


def _share_of(grade: dict[str, object]) -> float:
    tests = grade["tests"]
    assert isinstance(tests, list)  # noqa: S101 - for mypy: our own record
    possible = sum(test["possible"] for test in tests)
    return sum(test["points"] for test in tests) / possible if possible else 0.0
