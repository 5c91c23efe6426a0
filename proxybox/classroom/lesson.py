"""A lesson: everything in an open class, as one object that the doors call.

    doors ── Lesson ─┬─ seats: the students         ├─ boxes: their programs     ├─ grid: the teacher's overview
                     ├─ work: their files           ├─ checks: tests             ├─ instructors: who teaches whom
                     ├─ everybody: common state     ├─ classes: of platforms     └─ hub: the streams of events

Rule: a student's request concerns only the student's own seat. A signed pass names this seat, never the request.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Coroutine
from typing import Any, Final

import attrs

from proxybox.classroom import answers
from proxybox.classroom.authority import WHOLE, Instructors, TeachingScope
from proxybox.classroom.boxes import ClassBoxes, SeatRun
from proxybox.classroom.buckets import Buckets
from proxybox.classroom.checks import Checks
from proxybox.classroom.classes import Classes
from proxybox.classroom.config import ClassroomConfig
from proxybox.classroom.connected import Connected
from proxybox.classroom.course import Course, check_preload
from proxybox.classroom.endings import plain_end
from proxybox.classroom.everybody import Everybody
from proxybox.classroom.grading import Grading
from proxybox.classroom.grid import Grid
from proxybox.classroom.hub import EVERYBODY, INSTRUCTORS, TEACHER, TEACHERS, Hub
from proxybox.classroom.markdown import to_html
from proxybox.classroom.models import Save, SeatChange
from proxybox.classroom.pageevents import (
    CheckedEvent,
    CourseEvent,
    FilesEvent,
    GradedEvent,
    RemovedEvent,
    SavedEvent,
    SeatEvent,
    StateEvent,
)  # fmt: skip
from proxybox.classroom.passes import Passes, new_code
from proxybox.classroom.reading import (
    CourseFiles,
    ReadAnew,
    course_of,
    places_of,
    policies_of,
    sheets_of,
)
from proxybox.classroom.records import EndedRun, HandIn, Saved, SavedText, Seat
from proxybox.classroom.results import hand_in_as_json, has_failed, results_as_json
from proxybox.classroom.seats import Seats, seat_as_json
from proxybox.classroom.service import service_of
from proxybox.classroom.sheets import Sheet, find_sheet
from proxybox.classroom.store import ClassStore
from proxybox.classroom.work import StudentWork, other_as_json
from proxybox.serve.database import StoreError
from proxybox.serve.problems import Refusal
from proxybox.teach.records import CONVERTER

#: Seconds between two checks of the course's files, and for hand-ins that another process wants to be graded.
_LOOK: Final = 1.0


class Lesson:
    """A lesson. `start` begins it, and `close` ends it. The students' work is stored, and loaded the next time."""

    def __init__(self, config: ClassroomConfig, course: Course | None = None) -> None:
        """Raises ExerciseError or PolicyError if the course has faults, and StoreError."""
        self.config = config
        self.course = course_of(config, course)
        self._most_seats = config.seats or self.course.seats
        self.sheets: dict[str, Sheet] = sheets_of(self.course)
        policies = policies_of(self.sheets)
        self._places = places_of(self.sheets, policies)
        self.files, self._rereading = CourseFiles(config, self.course.folder, policies), asyncio.Lock()
        self.syllabus = _syllabus(self.course)
        self.hub, self.buckets = Hub(), Buckets()
        os.makedirs(config.data, mode=0o700, exist_ok=True)
        self.store = ClassStore(os.path.join(config.data, "classroom.sqlite"))
        self.service = service_of(config.data, self.course, policies, self._most_seats)
        self.checks = Checks(guest=self.course.guest, packages=self.course.packages)
        self.work = StudentWork(self.store, self.sheets)
        self.grading = Grading(self.store, self.work, self.checks, self.sheets)
        self.grading.on_graded.append(self._tell_graded)
        self._faults_told: dict[str, str] = {}
        self.everybody = Everybody(self.store, self.hub, self.sheets, self.work, self.tell_state)
        self.instructors = Instructors(self.hub)
        self.teacher_key = ""
        self.teacher_generation = 1
        self.classes: Classes
        self.passes: Passes
        self.seats: Seats
        self.grid: Grid
        self.boxes: ClassBoxes
        self.has_started = self._has_ended = False
        self._tasks: set[asyncio.Task[None]] = set()

    # --- start and end ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Reads the database, starts the boxes, and waits until they have been tried.

        Raises CourseError for modules that cannot be imported in advance, and OSError.
        """
        self.has_started = True
        await asyncio.to_thread(check_preload, self.course)
        await self._load()
        await self.service.start()
        self.boxes = ClassBoxes(self.service.sessions, self.hub, self._places, self.grid.touch, self._ran)
        self.grid.boxes = self.boxes
        await self.checks.start()
        self._behind(self.grid.watch())
        await self.service.tried()
        if self.service.state != "ready":
            raise OSError(f"the boxes do not work here: {self.service.why}")
        await self.boxes.warm_up()
        self._behind(self._look())

    async def _load(self) -> None:
        self.passes = Passes(await self.store.do(Connected.settled_fact, "secret", secrets.token_urlsafe(32)))
        self.teacher_key = await self.store.do(Connected.settled_fact, "teacher_key", new_code(5, 5, 5))
        self.teacher_generation = await self.store.do(Connected.settled_fact, "teacher_generation", 1)
        await self.everybody.load()
        self.classes = Classes(self.store, await self.store.do(Connected.classes), self.tell_state)
        self.seats = Seats(self.store, await self.store.do(Connected.seats), self._most_seats)
        await self.work.load()
        self.grid = Grid(self.hub, self.seats, self.work)
        self.grid.load(await self.store.do(Connected.last_errors))

    async def close(self) -> None:
        """Ends all streams and boxes, and closes the database. Further calls do nothing."""
        if self._has_ended:
            return
        self._has_ended = True
        self.hub.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "boxes"):
            await self.boxes.close()
        await self.checks.close()
        if self.service.has_started:
            await self.service.close()
        await asyncio.to_thread(self.store.close)

    def _behind(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the course's files -------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Reads the course again when its files have changed and come to rest. Grades due hand-ins. Never returns."""
        while True:
            with contextlib.suppress(StoreError):  # it is tried again next time
                # A command that marks hand-ins for grading has seen the files: they have to be graded by the same ones.
                if await self.files.have_changed() or await self.grading.has_due():
                    await self.reread()
            self._behind(self._grade_due())
            await asyncio.sleep(_LOOK)

    async def _grade_due(self) -> None:
        with contextlib.suppress(StoreError):  # it is tried again next time
            await self.grading.grade_due()

    async def reread(self) -> None:
        """Loads the changes of the course's files. A fault in them changes nothing, and is shown to teachers."""
        async with self._rereading:
            before = self.files.fault
            anew = await self.files.read(self.course, self.sheets)
            if anew is not None:
                await self._take_over(anew)
            if anew is not None or self.files.fault != before:
                self.tell_state()

    async def _take_over(self, anew: ReadAnew) -> None:
        before = self.course_as_json()
        self.course, self.syllabus = anew.course, _syllabus(anew.course)
        self.sheets.clear()
        self.sheets.update(anew.sheets)
        self._places.update(anew.places)  # the places of removed exercises stay for current runs
        self.everybody.keep_known()
        for exercise in anew.changed:
            self.grading.faults.pop(exercise, None)
        ungraded = [each for each in self.work.handed_in.values() if each.exercise in anew.changed and has_failed(each)]
        await self.grading.again(ungraded)
        if anew.changed or before != self.course_as_json():
            for topic in (EVERYBODY, *TEACHERS):
                self.hub.tell(topic, CourseEvent(changed=anew.changed))

    # --- a student's views --------------------------------------------------------------------------------------------

    def sheet(self, exercise: str) -> Sheet:
        """Returns an exercise. Raises Refusal."""
        return find_sheet(self.sheets, exercise)

    def me(self, seat: Seat) -> answers.MeJson:
        """Returns the first state of a seat's page."""
        run = self.boxes.running(seat.id)
        return {
            "seat": seat_as_json(seat), "course": self.course_as_json(seat.id), "frozen": self.everybody.is_frozen,
            "pushed": self.everybody.pushed, "shares": list(self.everybody.shares.values()),
            "run": None if run is None else run.as_json(), "event": self.hub.position, "time": time.time(),
        }  # fmt: skip

    def course_as_json(self, seat: str | None = None) -> answers.CourseJson:
        """Returns the exercises of the course, and the progress of a seat."""
        exercises: list[answers.ListedJson] = []
        progress = {} if seat is None else self.work.progress(seat)
        for sheet in self.sheets.values():
            payload: answers.ListedJson = {"id": sheet.id, "title": sheet.title, "deadline": sheet.deadline}
            if seat is not None:
                payload = {**payload, **progress.get(sheet.id, {"now": None, "handed_in": None})}
            exercises.append(payload)
        return {"title": self.course.title, "syllabus_html": self.syllabus, "exercises": exercises}

    async def exercise(self, seat: Seat, exercise: str) -> answers.ExerciseJson:
        """Returns an exercise with the student's files and results. Raises Refusal."""
        sheet = self.sheet(exercise)
        text = await self.work.text(seat.id, sheet)
        shown = self.work.hints.get((seat.id, exercise), 0)
        checked, handed = self.work.results.get((seat.id, exercise)), self.work.handed_in.get((seat.id, exercise))
        return {
            **sheet.as_json(), "files": text.files, "version": text.version,
            "hints": {"total": len(sheet.hints), "shown": sheet.hints[:shown]},
            "results": None if checked is None else results_as_json(checked, sheet.basis),
            "handed_in": None if handed is None else hand_in_as_json(handed, sheet.basis),
            "output": self.boxes.output(seat.id, exercise), "event": self.hub.position,
        }  # fmt: skip

    # --- a student's actions ------------------------------------------------------------------------------------------

    async def open(self, seat: Seat, exercise: str) -> None:
        """Notes which exercise a student looks at. Raises Refusal."""
        sheet = self.sheet(exercise)
        if seat.exercise != sheet.id:
            seat.exercise = sheet.id
            await self.seats.keep(seat)
        self.grid.active(seat.id)

    async def save(self, seat: Seat, exercise: str, body: Save, why: str = "saved") -> Saved:
        """Saves a student's files. Raises Refusal."""
        sheet = self.sheet(exercise)
        if why == "saved" and not body.files:
            raise Refusal("invalid", errors=[{"loc": ["body", "files"], "msg": "there are none"}])
        saved = await self.work.save(seat.id, sheet, body, why)
        self._kept_version(seat, exercise, body.client, saved)
        return saved

    def _kept_version(self, seat: Seat, exercise: str, client: str, saved: Saved) -> None:
        """Sends an event for a saved version, and takes its size from the seat's bucket.

        All files count: a small change of large files stores all of them again.
        """
        self.buckets.take(seat.id, sum(map(len, saved.files.values())))
        topic = f"seat:{seat.id}"
        over = other_as_json(saved)
        self.hub.tell(topic, SavedEvent(exercise=exercise, version=saved.version, client=client, over=over))
        self.hub.show(topic, FilesEvent(exercise=exercise, version=saved.version, files=saved.files))
        self.grid.active(seat.id)

    async def run(self, seat: Seat, exercise: str, body: Save) -> tuple[SeatRun, Saved | SavedText]:
        """Saves a student's files and runs the program; returns the run and the saved files. Raises Refusal."""
        self._check_free(seat)
        kept = await self._kept(seat, exercise, body)
        self._check_free(seat)  # again: in the meantime the teacher may have paused all, or locked the seat
        return self.boxes.run(seat.id, exercise, kept.files), kept

    async def prompt(self, seat: Seat, exercise: str, code: str) -> SeatRun:
        """Runs statements of a student. Raises Refusal."""
        self._check_free(seat)
        text = await self.work.text(seat.id, self.sheet(exercise))
        self._check_free(seat)
        return self.boxes.prompt(seat.id, exercise, code, text.files)

    async def complete(self, seat: Seat, exercise: str, code: str, cursor: int) -> answers.MatchesJson:
        """Returns the completions at the cursor. Raises Refusal."""
        text = await self.work.text(seat.id, self.sheet(exercise))
        if self.everybody.is_frozen or seat.locked or seat.removed:  # completion runs the program's code
            return {"start": cursor, "matches": []}
        return await self.boxes.complete(seat.id, exercise, code, cursor, text.files)

    async def check(self, seat: Seat, exercise: str, body: Save) -> tuple[SeatRun, Saved | SavedText]:
        """Runs the tests of an exercise on a student's files, as `run` does with the program. Raises Refusal."""
        self._check_free(seat)
        sheet = self.sheet(exercise)
        kept = await self._kept(seat, exercise, body)

        async def work(run: SeatRun) -> answers.EndedJson:
            grade = await self.grading.check(seat.id, sheet, kept.files)
            self.grading.note_fault(exercise, grade)
            self._tell_faults()
            checked = await self.work.keep_result(seat.id, exercise, CONVERTER.unstructure(grade), sheet.basis)
            results = results_as_json(checked, sheet.basis)
            self.hub.tell(f"seat:{seat.id}", CheckedEvent(run=run.id, exercise=exercise, results=results))
            return plain_end(grade.status if grade.failed else "ok")

        self._check_free(seat)
        return self.boxes.begin_check(seat.id, exercise, work), kept

    async def _kept(self, seat: Seat, exercise: str, body: Save) -> Saved | SavedText:
        """Saves the changed files of a request, and returns the files of the exercise."""
        if body.files:
            return await self.save(seat, exercise, body, "run")
        return await self.work.text(seat.id, self.sheet(exercise))

    def _check_free(self, seat: Seat) -> None:
        if self.everybody.is_frozen:
            raise Refusal("locked", "Your teacher has paused all programs. Look at the teacher.")
        if seat.locked or seat.removed:
            raise Refusal("locked", "Your teacher has locked this seat.")
        if self.boxes.running(seat.id) is not None:
            raise Refusal("session-busy", "Something runs already. Stop it first.")

    async def hand_in(self, seat: Seat, exercise: str, body: Save) -> tuple[HandIn, Saved]:
        """Stores a hand-in, which is graded afterwards; returns the hand-in and the saved files. Raises Refusal."""
        handed, saved = await self.work.hand_in(seat.id, self.sheet(exercise), body)
        self._kept_version(seat, exercise, body.client, saved)
        self._behind(self._grade_due())
        return handed, saved

    async def _tell_graded(self, graded: HandIn) -> None:
        """Sends a grade to the student, without the hidden parts, and marks the seat's row for the teacher."""
        sheet = self.sheets.get(graded.exercise)
        basis = None if sheet is None else sheet.basis
        payload = GradedEvent(exercise=graded.exercise, handed_in=hand_in_as_json(graded, basis))
        if self.work.is_now(graded):
            results = results_as_json(self.work.results[graded.seat, graded.exercise], basis)
            payload = attrs.evolve(payload, results=results)
        self.hub.tell(f"seat:{graded.seat}", payload)
        self.grid.touch(graded.seat)
        self._tell_faults()

    def _tell_faults(self) -> None:
        if self.grading.faults != self._faults_told:
            self._faults_told = dict(self.grading.faults)
            self.tell_state()

    async def grade_again(self, exercise: str | None, authority: TeachingScope) -> int:
        """Grades the latest hand-ins of an exercise, or of all, again, by the current tests on the disk.

        Returns how many; only those of this teacher's seats are graded. Raises Refusal.
        """
        await self.reread()
        if exercise is not None:
            self.sheet(exercise)
        ours = {seat.id for seat in authority.seats(self.seats)}
        latest = [each for (seat, of), each in self.work.handed_in.items() if exercise in (None, of) and seat in ours]
        count = await self.grading.again(latest)
        for each in latest:
            self.grid.touch(each.seat)
        self._behind(self._grade_due())
        return count

    async def hint(self, seat: Seat, exercise: str) -> answers.HintJson:
        """Returns the next hint. Raises Refusal if there are no more."""
        sheet = self.sheet(exercise)
        number = await self.work.next_hint(seat.id, sheet)
        self.grid.active(seat.id)
        return {"number": number, "total": len(sheet.hints), "html": sheet.hints[number - 1]}

    async def raise_hand(self, seat: Seat, up: bool) -> None:
        """Raises or lowers a hand."""
        seat.hand = (seat.hand or time.time()) if up else None
        await self.seats.keep(seat)
        self.hub.tell(f"seat:{seat.id}", SeatEvent(seat_as_json(seat)))
        self.grid.touch(seat.id)

    async def _ran(self, seat: str, run: SeatRun, ran: EndedRun) -> None:
        self.grid.ran(run, ran)
        await self.store.do(Connected.keep_run, ran)

    async def belongs_to(self, seat: Seat, class_id: str) -> None:
        """Sets the class of a seat."""
        if seat.class_id != class_id:
            seat.class_id = class_id
            await self.seats.keep(seat)
        self.grid.touch(seat.id)

    # --- the teacher's actions ----------------------------------------------------------------------------------------

    async def change_seat(self, seat: Seat, change: SeatChange) -> None:
        """Renames, locks, removes or gives back a seat, or lowers its hand. Raises Refusal."""
        if change.name is not None:
            await self.seats.rename(seat, change.name)
        if change.locked is not None:
            seat.locked = change.locked
        if change.hand is False:
            seat.hand = None
        if change.removed is not None:
            await self.seats.remove(seat, change.removed)
        await self.seats.keep(seat)
        if change.removed or change.locked:
            self.boxes.leave(seat.id)
        self.hub.tell(f"seat:{seat.id}", (RemovedEvent if seat.removed else SeatEvent)(seat_as_json(seat)))
        if seat.removed:
            self.hub.finish(f"seat:{seat.id}")
        self.grid.touch(seat.id)

    async def forget_teacher(self) -> None:
        """Makes all passes of the teacher void, and ends the streams of the teacher."""
        self.teacher_generation += 1
        await self.store.do(Connected.set_fact, "teacher_generation", self.teacher_generation)
        self.hub.finish(TEACHER)

    async def freeze(self, frozen: bool) -> None:
        """Pauses everybody and stops all runs, or ends the pause."""
        await self.everybody.freeze(frozen)
        if frozen:
            for seat in self.seats:
                if (run := self.boxes.running(seat.id)) is not None:
                    with contextlib.suppress(Refusal):
                        await self.boxes.stop(seat.id, run.id)

    def tell_state(self) -> None:
        """Sends the current state to all teachers."""
        if hasattr(self, "classes"):  # otherwise no teacher is connected yet
            self.hub.tell(TEACHER, StateEvent(self.state_as_json(WHOLE)))
            self.hub.tell(INSTRUCTORS, StateEvent(self._state_of_all()))

    def _state_of_all(self) -> answers.RoomStateJson:
        """Instructors see only which tests have a fault: its text may quote a submission of any class."""
        faults = dict.fromkeys(self.grading.faults, "")
        return {"frozen": self.everybody.is_frozen, "pushed": self.everybody.pushed, "grading_faults": faults}

    def state_as_json(self, authority: TeachingScope) -> answers.RoomStateJson:
        """Returns the state for a teacher. An instructor does not see how to join, or faults in the course's files."""
        payload = self._state_of_all()
        payload["classes"] = [
            {"id": each.id, "title": each.title} for each in self.classes if authority.covers_class(each.id)
        ]
        payload["whole"] = authority.is_whole
        if authority.is_whole:
            payload["join"], payload["course_fault"] = self.everybody.joining_as_json(), self.files.fault
            payload["grading_faults"] = self.grading.faults
        return payload


def _syllabus(course: Course) -> str:
    return to_html(course.syllabus, pictures=course.folder)
