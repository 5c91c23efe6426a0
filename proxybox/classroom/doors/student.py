"""The requests of students' pages."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from proxybox.classroom import answers, models
from proxybox.classroom.doors.asking import (
    Here,
    Sitting,
    Version,
    address_of,
    forget_cookie,
    lesson_of,
    sends,
    set_cookie,
    set_framed_cookie,
)
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.records import Saved, SavedText, Seat
from proxybox.classroom.results import hand_in_as_json
from proxybox.classroom.seats import seat_as_json
from proxybox.classroom.work import other_as_json
from proxybox.serve.asking import as_json

router = APIRouter(prefix="/api")

ExerciseId = Annotated[str, Path(max_length=64)]
_OF = "/exercises/{exercise}"


# --- joining and leaving ----------------------------------------------------------------------------------------------


@router.post("/join", response_model=answers.SeatedJson, status_code=201)
async def join(request: Request, body: models.Join) -> Response:
    """Takes a seat."""
    lesson = lesson_of(request)
    seat = await lesson.seats.join(
        address_of(request), body.name, body.code, lesson.everybody.code,
        locked=lesson.everybody.is_locked,
    )  # fmt: skip
    return _seated(request, lesson, seat, 201, framed=body.framed)


@router.post("/return", response_model=answers.SeatedJson)
async def back(request: Request, body: models.Return) -> Response:
    """Returns to one's own seat on another device."""
    lesson = lesson_of(request)
    seat = await lesson.seats.back(address_of(request), body.personal)
    return _seated(request, lesson, seat, 200, framed=body.framed)


def _seated(request: Request, lesson: Lesson, seat: Seat, status: int, *, framed: bool) -> Response:
    lesson.grid.active(seat.id)
    response = as_json({"seat": seat_as_json(seat)}, status)
    seat_pass = lesson.passes.for_seat(seat.id, seat.generation)
    if framed and lesson.config.embed:
        set_framed_cookie(request, response, seat_pass)
    else:
        set_cookie(request, response, "seat", seat_pass)
    return response


@router.post("/leave", status_code=204)
async def leave(request: Request, _: models.Nothing) -> Response:
    """Removes the seat's cookie from this browser; the seat stays the student's."""
    response = Response(status_code=204)
    forget_cookie(request, response, "seat")
    if lesson_of(request).config.embed:
        set_framed_cookie(request, response, "", kept=0)
    return response


@router.get("/me", response_model=answers.MeJson)
async def me(lesson: Here, seat: Sitting) -> Response:
    """The first state of a page."""
    return as_json(lesson.me(seat))


@router.post("/hand", response_model=answers.HandJson)
async def hand(body: models.HandBody, lesson: Here, seat: Sitting) -> Response:
    """Raises or lowers a hand."""
    await lesson.raise_hand(seat, body.up)
    return as_json({"hand": seat.hand})


# --- exercises --------------------------------------------------------------------------------------------------------


@router.get(_OF, response_model=answers.ExerciseJson)
async def exercise_of(exercise: ExerciseId, lesson: Here, seat: Sitting) -> Response:
    """An exercise, with the student's files and results."""
    return as_json(await lesson.exercise(seat, exercise))


@router.post("/open", status_code=204)
async def open_exercise(body: models.OpenBody, lesson: Here, seat: Sitting) -> Response:
    """Notes which exercise the student looks at."""
    await lesson.open(seat, body.exercise)
    return Response(status_code=204)


@router.put(f"{_OF}/files", response_model=answers.SavedFilesJson)
async def save(exercise: ExerciseId, body: models.Save, lesson: Here, seat: Sitting) -> Response:
    """Saves files."""
    saved = await lesson.save(seat, exercise, body)
    return as_json({**saved_as_json(saved), "at": saved.at})


def saved_as_json(saved: Saved | SavedText) -> answers.SavedJson:
    """The saved version, and the version that another page has saved in the meantime, if there is one."""
    answer: answers.SavedJson = {"version": saved.version}
    if (other := other_as_json(saved)) is not None:
        answer["conflict"] = other
    return answer


@router.get(f"{_OF}/versions", response_model=answers.VersionsJson)
async def versions(exercise: ExerciseId, lesson: Here, seat: Sitting) -> Response:
    """The list of versions of the files."""
    return as_json({"versions": await lesson.work.versions(seat.id, lesson.sheet(exercise))})


@router.get(f"{_OF}/versions/{{version}}", response_model=answers.TextJson)
async def version_of(exercise: ExerciseId, version: Version, lesson: Here, seat: Sitting) -> Response:
    """One version of the files."""
    text = await lesson.work.text(seat.id, lesson.sheet(exercise), version)
    return as_json({"version": text.version, "at": text.at, "files": text.files})


@router.get(f"{_OF}/download", **sends("text/x-python", "application/zip"))
async def download(exercise: ExerciseId, lesson: Here, seat: Sitting) -> Response:
    """The files as a download."""
    from proxybox.classroom.exports import attached, zipped

    text = await lesson.work.text(seat.id, lesson.sheet(exercise))
    if len(text.files) == 1:
        ((name, content),) = text.files.items()
        return attached(content.encode(), name.rpartition("/")[2], "text/x-python; charset=utf-8")
    data = await asyncio.to_thread(zipped, {exercise: text.files})
    return attached(data, f"{exercise}.zip", "application/zip")


# --- running ----------------------------------------------------------------------------------------------------------


@router.post(f"{_OF}/run", response_model=answers.SavedRunJson, status_code=202)
async def run(exercise: ExerciseId, body: models.Save, lesson: Here, seat: Sitting) -> Response:
    """Runs the program."""
    begun, saved = await lesson.run(seat, exercise, body)
    return as_json({"run": begun.id, **saved_as_json(saved)}, 202)


@router.post(f"{_OF}/check", response_model=answers.SavedRunJson, status_code=202)
async def check(exercise: ExerciseId, body: models.Save, lesson: Here, seat: Sitting) -> Response:
    """Runs the tests."""
    begun, saved = await lesson.check(seat, exercise, body)
    return as_json({"run": begun.id, **saved_as_json(saved)}, 202)


@router.post(f"{_OF}/hand-in", response_model=answers.SavedHandInJson, status_code=201)
async def hand_in(exercise: ExerciseId, body: models.Save, lesson: Here, seat: Sitting) -> Response:
    """Hands in the files."""
    handed_in, saved = await lesson.hand_in(seat, exercise, body)
    mark = hand_in_as_json(handed_in, lesson.sheet(exercise).basis)
    return as_json({"handed_in": mark, **saved_as_json(saved)}, 201)


@router.post(f"{_OF}/hint", response_model=answers.HintJson)
async def hint(exercise: ExerciseId, _: models.Nothing, lesson: Here, seat: Sitting) -> Response:
    """The next hint."""
    return as_json(await lesson.hint(seat, exercise))


@router.post("/repl", response_model=answers.RunIdJson, status_code=202)
async def prompt(body: models.PromptBody, lesson: Here, seat: Sitting) -> Response:
    """Runs statements, as at a prompt."""
    return as_json({"run": (await lesson.prompt(seat, body.exercise, body.code)).id}, 202)


@router.post("/input", status_code=204)
async def give_input(body: models.InputBody, lesson: Here, seat: Sitting) -> Response:
    """Sends input to the program."""
    await lesson.boxes.input(seat.id, body.run, body.text)
    return Response(status_code=204)


@router.post("/stop", status_code=204)
async def stop(body: models.StopBody, lesson: Here, seat: Sitting) -> Response:
    """Stops the run."""
    await lesson.boxes.stop(seat.id, body.run)
    return Response(status_code=204)


@router.post("/complete", response_model=answers.MatchesJson)
async def complete(body: models.CompleteBody, lesson: Here, seat: Sitting) -> Response:
    """Returns the completions at the cursor."""
    return as_json(await lesson.complete(seat, body.exercise, body.code, body.cursor))
