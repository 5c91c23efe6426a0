"""The bridge between platforms and the lesson: a launch gets a seat, and grades go back to the platform."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import attrs
import httpx

from proxybox.classroom.connected import Connected
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.lti.grades import MAXIMUM, Grades, NotTaken, OwnKey
from proxybox.classroom.lti.launches import DeepLinkRequest, Launch, Launches, answer_claims
from proxybox.classroom.lti.platforms import Platform
from proxybox.classroom.models import person
from proxybox.classroom.records import GradeLine, HandIn, Seat
from proxybox.classroom.results import score_of
from proxybox.serve.problems import Refusal
from proxybox.terminal.harmless import on_one_line

log = logging.getLogger("proxybox.classroom")

#: Seconds for one request to a platform, and between two attempts to send a grade.
_PATIENCE, _PAUSE = 20.0, 60.0
#: How many numbers are tried after a name that is taken.
_MOST_NAMES: Final = 1_000


class Bridge:
    """The platforms of a lesson. authorities: certificates to trust, in place of the system's."""

    def __init__(
        self, lesson: Lesson, platforms: Sequence[Platform], *, authorities: ssl.SSLContext | None = None
    ) -> None:
        """Raises OSError or ValueError if our own key cannot be read or stored."""
        self._lesson = lesson
        self._platforms = {each.name: each for each in platforms}
        self._client = httpx.AsyncClient(timeout=_PATIENCE, verify=authorities or ssl.create_default_context())
        self.launches = Launches(platforms, self._client)
        self.key = OwnKey(Path(lesson.config.data) / "lti-key.pem")
        self._grades = Grades(self.key, self._client)
        self._some = asyncio.Event()
        self._arriving = asyncio.Lock()
        lesson.grading.on_graded.append(self._graded)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """A context in which grades are sent. Grades that are due at its end are sent the next time."""
        self._some.set()
        bringing = asyncio.create_task(self._bring_all())
        try:
            yield
        finally:
            bringing.cancel()
            await asyncio.gather(bringing, return_exceptions=True)
            await self._client.aclose()

    # --- launches -----------------------------------------------------------------------------------------------------

    async def arrive(self, launch: Launch) -> Seat:
        """Returns the seat of the user who launches. The first launch of a class makes the seat. Raises Refusal."""
        lesson, platform = self._lesson, launch.platform.name
        async with self._arriving:
            known, of_class = await self._known(launch), await self._class(launch)
            seat = lesson.seats.find(known) if known is not None else None
            if seat is None:
                seat = await self._new_seat(launch, of_class)
                await lesson.store.do(Connected.keep_user, platform, launch.context, launch.user, seat.id)
            if of_class:
                await lesson.belongs_to(seat, of_class)
        if seat.removed:
            raise Refusal("forbidden", "Your teacher has removed this seat.")
        if launch.exercise:
            await lesson.open(seat, launch.exercise)
        if launch.line:
            await self._keep(
                GradeLine(seat=seat.id, exercise=launch.exercise, platform=platform, user=launch.user, url=launch.line)
            )
        return seat

    def teaches_no_longer(self, launch: Launch) -> None:
        """Takes the class of this launch from a user who is not its instructor, but may have been before."""
        of_class = self._lesson.classes.of(launch.platform.name, launch.context)
        if of_class is not None:
            self._lesson.instructors.teaches_no_longer(launch.platform.name, launch.user, of_class.id)

    async def arrive_teaching(self, launch: Launch) -> str:
        """Returns the pass of an instructor, who from now on teaches the class of this launch. Raises Refusal."""
        async with self._arriving:
            of_class = await self._class(launch)
        if not of_class:
            raise Refusal("forbidden", "The platform does not say in which course this link stands.")
        return self._lesson.instructors.teaches(launch.platform.name, launch.user, of_class)

    async def _known(self, launch: Launch) -> str | None:
        """The seat of a user in a class. A seat that is older than classes gets the class of its first launch."""
        store, platform = self._lesson.store, launch.platform.name
        known = await store.do(Connected.seat_of_user, platform, launch.context, launch.user)
        if known is None and launch.context:
            known = await store.do(Connected.move_user, platform, launch.user, launch.context)
        return known

    async def _class(self, launch: Launch) -> str:
        """The id of the class of a launch; "" for a launch from no course."""
        if not launch.context:
            return ""
        title = on_one_line(launch.title) or launch.context
        return (await self._lesson.classes.keep(launch.platform.name, launch.context, title)).id

    async def _new_seat(self, launch: Launch, of_class: str) -> Seat:
        seats = self._lesson.seats
        try:
            name = person(launch.name[:36])
        except ValueError:
            name = "Student"
        for number in range(1, _MOST_NAMES):
            try:
                full_name = name if number == 1 else f"{name} {number}"
                return await seats.add(full_name, of_class)
            except Refusal as refusal:
                if refusal.kind != "conflict":
                    raise
        raise Refusal("conflict")

    # --- links --------------------------------------------------------------------------------------------------------

    def answer(self, choice: DeepLinkRequest, exercise: str, launch: str) -> str:
        """Returns the token for the chosen link. exercise: ""; the whole course. launch: our URL for launches."""
        lesson = self._lesson
        title = lesson.sheet(exercise).title if exercise else lesson.course.title
        item: dict[str, object] = {"type": "ltiResourceLink", "title": title, "url": launch}
        if exercise:
            item["custom"] = {"exercise": exercise}
        if choice.takes_line:
            item["lineItem"] = {"label": title, "scoreMaximum": MAXIMUM, "resourceId": exercise or "course"}
        return self.key.sign(answer_claims(choice, [item]))

    # --- grades -------------------------------------------------------------------------------------------------------

    async def _keep(self, line: GradeLine) -> None:
        """Stores where grades go. Grades from before the launch by this link are sent now."""
        lines = await self._lesson.store.do(Connected.lines)
        if any(attrs.evolve(each, brought="") == line for each in lines):
            return
        await self._lesson.store.do(Connected.keep_line, line)
        self._some.set()

    async def _graded(self, _: HandIn) -> None:
        self._some.set()

    async def _bring_all(self) -> None:
        """Sends grades that platforms do not have yet, until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await self._some.wait()
            self._some.clear()
            for line in await self._lesson.store.do(Connected.lines):
                due = self._due(line)
                if due is not None and due.word != line.brought:
                    await self._bring(line, due)

    async def _bring(self, line: GradeLine, due: "_Due") -> None:
        platform = self._platforms.get(line.platform)
        if platform is None:  # it was removed from the list
            return
        try:
            await self._grades.bring(platform, line.url, line.user, due.share, due.at)
        except NotTaken as error:
            log.warning("a grade of seat %s was not taken by %s: %s", line.seat, platform.issuer, error)
            if not error.for_good:
                return
        await self._lesson.store.do(Connected.brought, line, due.word)

    def _due(self, line: GradeLine) -> "_Due | None":
        """The grade for a platform, of an exercise or of all; None while a hand-in has no score."""
        work, exercises = self._lesson.work, [line.exercise] if line.exercise else list(self._lesson.sheets)
        handed_in = [each for of in exercises if (each := work.handed_in.get((line.seat, of))) is not None]
        scores = [score for each in handed_in if (score := score_of(each.grade)) is not None]
        if not handed_in or len(scores) < len(handed_in):
            return None
        share = sum(score.share for score in scores) / len(exercises)
        return _Due(share, max(each.graded or each.at for each in handed_in), max(each.at for each in handed_in))


@attrs.frozen
class _Due:
    """A grade to send. share: of all points, 0 to 1. at: when it was given. handed_in: when the work was handed in."""

    share: float
    at: float
    handed_in: float

    @property
    def word(self) -> str:
        """A text that identifies the grade. The same grade, given again, is not sent again."""
        return f"{self.share:.6f} {self.handed_in:.3f}"
