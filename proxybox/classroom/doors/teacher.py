"""The requests of the teacher's page. All of them but the login need a teacher's pass.

Requests that concern everybody are for the teacher with the key (`whole`); those about seats are for the teachers of
these seats (`guarded`).
"""

import io
import time
from typing import Annotated

import segno
from fastapi import APIRouter, Path, Query, Request, Response

from proxybox.classroom import answers, exports, models
from proxybox.classroom.authority import WHOLE
from proxybox.classroom.connected import Connected
from proxybox.classroom.doors.asking import (
    FOR_TEACHERS,
    FOR_WHOLE,
    INSTRUCTOR,
    TEACHER,
    Here,
    Teaching,
    Version,
    address_of,
    forget_cookie,
    instructor_pass,
    lesson_of,
    sends,
    set_cookie,
)
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.passes import is_same
from proxybox.classroom.results import hand_in_as_json, results_as_json
from proxybox.serve.asking import as_json
from proxybox.serve.problems import Refusal
from proxybox.teach.writers import WRITERS

router = APIRouter(prefix="/api/teacher")
guarded = APIRouter(prefix="/api/teacher", dependencies=[FOR_TEACHERS])
whole = APIRouter(prefix="/api/teacher", dependencies=[FOR_WHOLE])

SeatId = Annotated[str, Path(max_length=64)]
Exercise = Annotated[str, Query(max_length=64)]
AnyExercise = Annotated[str | None, Query(max_length=64)]
OfClass = Annotated[str | None, Query(max_length=64, alias="class")]


@router.post("/login", status_code=204)
async def login(request: Request, body: models.KeyBody) -> Response:
    """Logs in: the browser gets the teacher's pass."""
    lesson, attempts = lesson_of(request), lesson_of(request).seats.teaching
    attempts.check(address_of(request))
    if not is_same(body.key, lesson.teacher_key):
        attempts.note(address_of(request))
        raise Refusal("forbidden", "This key is not right. It stands where the classroom was started.")
    response = Response(status_code=204)
    set_cookie(request, response, TEACHER, lesson.passes.for_teacher(lesson.teacher_generation))
    return response


@guarded.post("/logout", status_code=204)
async def logout(request: Request, _: models.Nothing, authority: Teaching) -> Response:
    """Logs out all browsers of a teacher: every pass of this teacher becomes void, copies of it, too."""
    lesson = lesson_of(request)
    if authority.is_whole:
        await lesson.forget_teacher()
    lesson.instructors.leave(instructor_pass(request))
    response = Response(status_code=204)
    for what in (TEACHER, INSTRUCTOR):
        forget_cookie(request, response, what)
    return response


@guarded.get("/state", response_model=answers.TeacherStateJson)
async def state(lesson: Here, authority: Teaching) -> Response:
    """The first state of the page."""
    return as_json(
        {
            "course": lesson.course_as_json(), **lesson.state_as_json(authority),
            "seats": [lesson.grid.row(seat) for seat in authority.seats(lesson.seats)],
            "shares": list(lesson.everybody.shares.values()), "event": lesson.hub.position, "time": time.time(),
        }
    )  # fmt: skip


@whole.get("/qr.svg", **sends("image/svg+xml"))
async def qr_code(lesson: Here) -> Response:
    """The address of the class as a QR code (ISO/IEC 18004)."""
    if not lesson.everybody.addresses:
        raise Refusal("not-found", "No address is known.")
    out = io.BytesIO()
    segno.make(lesson.everybody.addresses[0], error="m").save(out, kind="svg", border=4, xmldecl=False, svgclass=None)
    return Response(out.getvalue(), media_type="image/svg+xml", headers={"Cache-Control": "no-store"})


# --- seats ------------------------------------------------------------------------------------------------------------


@whole.post("/seats", response_model=answers.RowJson, status_code=201)
async def add_seat(body: models.NewSeat, lesson: Here) -> Response:
    """Reserves a seat for a student."""
    seat = await lesson.seats.add(body.name)
    lesson.grid.touch(seat.id)
    return as_json(lesson.grid.row(seat), 201)


@guarded.patch("/seats/{seat}", response_model=answers.RowJson)
async def change_seat(seat: SeatId, body: models.SeatChange, lesson: Here, authority: Teaching) -> Response:
    """Renames, locks, removes or gives back a seat, or lowers its hand."""
    found = authority.find(lesson.seats, seat)
    await lesson.change_seat(found, body)
    return as_json(lesson.grid.row(found))


@guarded.get("/seats/{seat}", response_model=answers.SeatSeenJson)
async def look_at_seat(seat: SeatId, lesson: Here, authority: Teaching, exercise: AnyExercise = None) -> Response:
    """A student's files and results of an exercise, and the current run."""
    found = authority.find(lesson.seats, seat)
    sheet = lesson.sheet(exercise or found.exercise or next(iter(lesson.sheets)))
    text = await lesson.work.text(found.id, sheet)
    checked, handed = lesson.work.results.get((found.id, sheet.id)), lesson.work.handed_in.get((found.id, sheet.id))
    return as_json(
        {
            "seat": lesson.grid.row(found), "exercise": sheet.id, "file": sheet.main, "files": text.files,
            "version": text.version,
            "results": None if checked is None else results_as_json(checked, sheet.basis, whole=True),
            "handed_in": None if handed is None else hand_in_as_json(handed, sheet.basis, whole=True),
            "output": lesson.boxes.output(found.id, sheet.id),
            "versions": await lesson.work.versions(found.id, sheet),
        }
    )  # fmt: skip


@guarded.get("/seats/{seat}/exercises/{exercise}/versions/{version}", response_model=answers.TextJson)
async def version_of(seat: SeatId, exercise: SeatId, version: Version, lesson: Here, authority: Teaching) -> Response:
    """One version of a student's files."""
    text = await lesson.work.text(authority.find(lesson.seats, seat).id, lesson.sheet(exercise), version)
    return as_json({"version": text.version, "at": text.at, "files": text.files})


@guarded.get("/seats/{seat}/exercises/{exercise}/handed-in", response_model=answers.FilesJson)
async def handed_in(seat: SeatId, exercise: SeatId, lesson: Here, authority: Teaching) -> Response:
    """The files that a student has handed in."""
    handins = await lesson.store.do(Connected.handins, authority.find(lesson.seats, seat).id, lesson.sheet(exercise).id)
    if not handins:
        raise Refusal("not-found", "Nothing was handed in.")
    return as_json({"at": handins[0].at, "files": handins[0].files})


@guarded.post("/watch", status_code=204)
async def watch(body: models.WatchBody, lesson: Here, authority: Teaching) -> Response:
    """Adds the events of a seat to a stream of this teacher."""
    topic = None if body.seat is None else f"seat:{authority.find(lesson.seats, body.seat).id}"
    if not lesson.hub.watch(body.stream, topic, within=authority.topics[0], page=body.page):
        raise Refusal("not-found", "There is no such stream.")
    return Response(status_code=204)


# --- the class --------------------------------------------------------------------------------------------------------


@whole.post("/lock", response_model=answers.RoomStateJson)
async def lock(body: models.Lock, lesson: Here) -> Response:
    """Locks or unlocks joining."""
    await lesson.everybody.lock(body.locked)
    return _state(lesson)


@whole.post("/freeze", response_model=answers.RoomStateJson)
async def freeze(body: models.Freeze, lesson: Here) -> Response:
    """Pauses everybody, or ends the pause."""
    await lesson.freeze(body.frozen)
    return _state(lesson)


@whole.post("/push", response_model=answers.RoomStateJson)
async def push(body: models.Push, lesson: Here) -> Response:
    """Opens an exercise on the pages of all students."""
    await lesson.everybody.push(body.exercise)
    return _state(lesson)


@whole.post("/code", response_model=answers.RoomStateJson)
async def new_code(_: models.Nothing, lesson: Here) -> Response:
    """Makes another join code."""
    await lesson.everybody.new_code()
    return _state(lesson)


def _state(lesson: Lesson) -> Response:
    return as_json(lesson.state_as_json(WHOLE))


@whole.post("/share", response_model=answers.ShareJson, status_code=201)
async def share(body: models.ShareRequest, lesson: Here) -> Response:
    """Shows code to all."""
    return as_json(await lesson.everybody.share(body, lesson.seats), 201)


@whole.delete("/share/{identity}", status_code=204)
async def unshare(identity: SeatId, lesson: Here) -> Response:
    """Stops showing code."""
    await lesson.everybody.unshare(identity)
    return Response(status_code=204)


# --- errors, grades and downloads -------------------------------------------------------------------------------------


@guarded.get("/errors", response_model=answers.ErrorsJson)
async def errors(lesson: Here, authority: Teaching, exercise: AnyExercise = None) -> Response:
    """The commonest errors."""
    seats = {seat.id for seat in authority.seats(lesson.seats)}
    return as_json({"errors": lesson.grid.errors(exercise, seats)})


@guarded.post("/grade-again", response_model=answers.CountJson, status_code=202)
async def grade_again(body: models.GradeAgain, lesson: Here, authority: Teaching) -> Response:
    """Grades hand-ins again."""
    return as_json({"count": await lesson.grade_again(body.exercise, authority)}, 202)


@guarded.get("/similar", response_model=answers.SimilarJson)
async def similar(lesson: Here, authority: Teaching, exercise: Exercise, of_class: OfClass = None) -> Response:
    """Hand-ins that are nearly the same, and those that are too short to compare."""
    return as_json(await exports.alike(lesson, authority, exercise, of_class))


@guarded.get("/formats", response_model=answers.FormatsJson)
async def formats() -> Response:
    """The formats of grades."""
    return as_json({"formats": [{"name": name, "title": writer.description} for name, writer in WRITERS.items()]})


@guarded.get("/export/grades", **sends("application/octet-stream", "application/zip"))
async def export_grades(
    lesson: Here, authority: Teaching, exercise: Exercise,
    format: Annotated[str, Query(max_length=64)], of_class: OfClass = None,  # noqa: A002
) -> Response:  # fmt: skip
    """The grades of an exercise."""
    return await exports.grades(lesson, authority, exercise, format, of_class)


@guarded.get("/export/code.zip", **sends("application/zip"))
async def export_code(lesson: Here, authority: Teaching) -> Response:
    """All code."""
    return await exports.all_code(lesson, authority)


@guarded.get("/export/runs.csv", **sends("text/csv"))
async def export_runs(lesson: Here, authority: Teaching) -> Response:
    """The records of runs."""
    return await exports.all_runs(lesson, authority)
