"""The teacher's downloads: grades, all code, the records of runs. And how similar hand-ins are."""

import asyncio
import csv
import datetime
import io
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
from starlette.responses import Response

from proxybox.classroom.answers import SimilarJson
from proxybox.classroom.authority import TeachingScope
from proxybox.classroom.connected import Connected
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.records import EndedRun, HandIn
from proxybox.classroom.results import is_outdated
from proxybox.serve.problems import Refusal
from proxybox.teach.filenames import no_device
from proxybox.teach.grades import Grade, GradeBook
from proxybox.teach.records import CONVERTER
from proxybox.teach.similar import compare
from proxybox.teach.writers import WRITERS
from proxybox.teach.writers.csv import MARK, local_time, safe_cell

#: The note of a grade if its tests have changed since.
_OUTDATED: Final = "The tests have changed since this grade was given."
#: The most pairs of hand-ins that are returned.
_MOST_PAIRS: Final = 500


async def book_of(lesson: Lesson, authority: TeachingScope, exercise: str, of_class: str | None = None) -> GradeBook:
    """Returns the grades of hand-ins: of all seats that a teacher teaches, or of a class. Raises Refusal."""
    sheet = lesson.sheet(exercise)
    handins = await _handins(lesson, authority, exercise, of_class)
    names = _names(lesson, authority)
    grades = [_grade(each, names[each.seat], sheet.basis) for each in handins]
    return GradeBook(title=sheet.title, grades=grades)


async def _handins(lesson: Lesson, authority: TeachingScope, exercise: str, of_class: str | None) -> list[HandIn]:
    """The latest hand-ins of an exercise: of all seats that a teacher teaches, or of a class. Raises Refusal."""
    known = {None, *filter(authority.covers_class, ("", *(each.id for each in lesson.classes)))}
    if of_class not in known:
        raise Refusal("not-found", "There is no such class.")
    ours = {seat.id for seat in authority.seats(lesson.seats) if of_class in (None, seat.class_id)}
    return [each for each in await lesson.store.do(Connected.handins, None, exercise) if each.seat in ours]


def _names(lesson: Lesson, authority: TeachingScope) -> dict[str, str]:
    """Unique names of seats: a removed seat, or one of another class, may have the same name as another seat."""
    names: dict[str, str] = {}
    for seat in sorted(authority.seats(lesson.seats), key=lambda seat: seat.removed):
        name, title = seat.name, lesson.classes.title(seat.class_id)
        if name in names.values() and title:
            name += f" ({title})"
        while name in names.values():
            name += " (removed)" if seat.removed else "'"
        names[seat.id] = name
    return names


def _folders(lesson: Lesson, authority: TeachingScope) -> dict[str, str]:
    """Unique names of folders for seats, also for file systems that ignore the case of letters."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for seat, name in _names(lesson, authority).items():
        folder, number = _plain(name), 1
        while _folded(folder) in taken:
            number += 1
            folder = f"{_plain(name)} ({number})"
        taken.add(_folded(folder))
        folders[seat] = folder
    return folders


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _grade(handed_in: HandIn, name: str, basis: str) -> Grade:
    code = "\n".join(handed_in.files.values())
    at = datetime.datetime.fromtimestamp(handed_in.at, datetime.UTC)
    if handed_in.grade is None:
        grade = Grade(student=name, failed=True, message="It is not graded yet.")
    else:
        grade = CONVERTER.structure(handed_in.grade, Grade)
    if is_outdated(handed_in, basis):
        grade = attrs.evolve(grade, note="\n".join(filter(None, (grade.note, _OUTDATED))))
    return attrs.evolve(grade, student=name, source="", submitted=at, late=handed_in.late, code=grade.code or code)


async def alike(lesson: Lesson, authority: TeachingScope, exercise: str, of_class: str | None = None) -> SimilarJson:
    """Returns pairs of seats with similar hand-ins, the most similar first, and the seats with too short ones."""
    sheet = lesson.sheet(exercise)
    handins = await _handins(lesson, authority, exercise, of_class)
    book = GradeBook(
        title=sheet.title,
        grades=[Grade(student=each.seat, code=each.files.get(sheet.main, "")) for each in handins],
    )
    found = await asyncio.to_thread(compare, book, sheet.starter.get(sheet.main, ""))
    return {
        "pairs": [
            {"first": pair.first, "second": pair.second, "share": pair.share, "is_identical": pair.is_identical}
            for pair in found.pairs[:_MOST_PAIRS]
        ], "count": len(handins),
        "too_short": list(found.too_short),
    }  # fmt: skip


async def grades(
    lesson: Lesson, authority: TeachingScope, exercise: str, form: str, of_class: str | None = None
) -> Response:
    """Returns the grades of an exercise in one of the formats of `proxybox grade`. Raises Refusal."""
    if form not in WRITERS:
        raise Refusal("invalid", errors=[{"loc": ["query", "format"], "msg": f"allowed: {', '.join(WRITERS)}"}])
    writer, book = WRITERS[form], await book_of(lesson, authority, exercise, of_class)
    files = await asyncio.to_thread(lambda: dict(writer.files(book)))
    if not writer.per_submission:
        return attached(files[writer.file].encode(), f"{exercise}-{writer.file}", "application/octet-stream")
    return attached(zipped({f"{exercise}-{form}": files}), f"{exercise}-{form}.zip", "application/zip")


async def all_code(lesson: Lesson, authority: TeachingScope) -> Response:
    """Returns the files of all seats that a teacher teaches, and their hand-ins, as one archive."""
    names = _folders(lesson, authority)
    texts = await lesson.store.do(Connected.texts)
    handins = await lesson.store.do(Connected.handins)
    folders: dict[str, Mapping[str, str | bytes]] = {}
    for seat, exercise, text in texts:
        if seat in names:
            folders[f"{names[seat]}/{exercise}"] = text.files
    for each in handins:  # beside the folder of the student's own files: no name of an exercise has a space
        if each.seat in names:
            folders[f"{names[each.seat]}/{each.exercise} (handed in)"] = each.files
    return attached(await asyncio.to_thread(zipped, folders), "code.zip", "application/zip")


async def all_runs(lesson: Lesson, authority: TeachingScope) -> Response:
    """Returns the records of all runs of seats that a teacher teaches, as a table."""
    names = _names(lesson, authority)
    runs = [ran for ran in await lesson.store.do(Connected.runs) if ran.seat in names]
    return attached(_table(runs, names), "runs.csv", "text/csv; charset=utf-8")


def _table(runs: Sequence[EndedRun], names: Mapping[str, str]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["name", "exercise", "kind", "at", "seconds", "status", "error"])
    for ran in runs:
        at = local_time(datetime.datetime.fromtimestamp(ran.at, datetime.UTC))
        cells = (names[ran.seat], ran.exercise, ran.kind, at, ran.seconds, ran.status, ran.error)
        writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return (MARK + out.getvalue()).encode("utf-8", "backslashreplace")


def _plain(name: str) -> str:
    """A name as the name of a folder: no path, and no device of Windows."""
    kept = "".join(sign if sign.isalnum() or sign in " -_.'()" else "_" for sign in name)
    return no_device(kept.strip(" .") or "_")


# --- downloads --------------------------------------------------------------------------------------------------------


def zipped(folders: Mapping[str, Mapping[str, str | bytes]]) -> bytes:
    """Returns a Zip archive of folders with files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder, files in folders.items():
            for name, content in files.items():
                archive.writestr(f"{folder}/{name}", content)
    return out.getvalue()


def attached(data: bytes, name: str, media_type: str) -> Response:
    """Returns a response that a browser stores as a file. name: signs but letters, digits, - _ . are replaced."""
    plain = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "_" for sign in name)
    headers = {"Content-Disposition": f'attachment; filename="{plain}"', "Cache-Control": "no-store"}
    return Response(data, media_type=media_type, headers=headers)
