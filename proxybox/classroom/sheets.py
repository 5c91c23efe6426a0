"""The students' part of each exercise: its text, its files, its hints; nothing of its tests and its solutions."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

import attrs

from proxybox.classroom import course
from proxybox.classroom.answers import SheetJson
from proxybox.classroom.markdown import to_html
from proxybox.policies import Policy
from proxybox.serve.problems import Refusal
from proxybox.teach.exercise import FILE, Exercise
from proxybox.teach.grading import Packed, digest_of, pack

#: Keys of an exercise's file on which no grade depends; those of them that name files, with the default names; and keys
#: whose files always count.
_ONLY_SHOWN: Final = frozenset({"title", "text", "starter", "hints", "deadline", "solutions", "wrong"})
_SHOWN_FILES: Final = {"text": "text.md", "starter": "starter", "solutions": "solutions", "wrong": "wrong"}
_GRADED_FILES: Final = {"tests": "tests", "data": "data", "files": "files"}


@attrs.frozen(kw_only=True)
class Sheet:
    """One exercise as a student sees it.

    id: its folder's name. main: the name of the file that runs. starter: the first texts. beside: further files in the
    box, which cannot be changed. deadline: in seconds since the epoch. packed: the exercise as it was read; it is used
    for grading. basis: a digest of the parts on which a grade depends.
    """

    id: str
    title: str
    html: str
    main: str
    starter: Mapping[str, str]
    beside: Mapping[str, bytes]
    hints: tuple[str, ...]
    deadline: float | None
    exercise: Exercise
    policy: Policy
    packed: Packed
    basis: str

    def as_json(self) -> SheetJson:
        """Returns the sheet for pages."""
        return {
            "id": self.id, "title": self.title, "text_html": self.html, "file": self.main, "deadline": self.deadline,
            "others": sorted(self.beside),
        }  # fmt: skip


def find_sheet(sheets: Mapping[str, Sheet], exercise: str) -> Sheet:
    """Returns an exercise of a course. Raises Refusal."""
    if exercise not in sheets:
        raise Refusal("not-found", "There is no such exercise.")
    return sheets[exercise]


def sheet_of(lesson: course.CourseExercise) -> Sheet:
    """Returns the sheet of an exercise of a course.

    Raises ExerciseError if its files cannot be read, and GradingError if they are too large.
    """
    exercise, packed = lesson.exercise, pack(lesson.exercise)
    texts, beside = {}, dict(exercise.box_files())
    for name, data in exercise.starter_files().items():
        try:
            texts[name] = data.decode()
        except UnicodeDecodeError:
            beside[name] = data
    for name in beside:
        texts.pop(name, None)
    texts = {exercise.file: texts.pop(exercise.file, ""), **texts}

    def html(text: str) -> str:
        return to_html(text, pictures=exercise.folder)

    return Sheet(
        id=lesson.id, title=lesson.title, html=html(lesson.text), main=exercise.file, starter=texts, beside=beside,
        hints=tuple(map(html, exercise.hints)), exercise=exercise, policy=exercise.policy,
        deadline=None if exercise.deadline is None else exercise.deadline.timestamp(),
        packed=packed, basis=_basis(packed),
    )  # fmt: skip


def _basis(packed: Packed) -> str:
    """A digest of everything on which a grade depends: all but texts, hints, the starter and solutions."""
    written = tomllib.loads(packed.files[FILE].decode())
    shown = [name for key, default in _SHOWN_FILES.items() for name in _names(written.get(key, default))]
    graded = [name for key, default in _GRADED_FILES.items() for name in _names(written.get(key, default))]
    files = {
        name: data
        for name, data in packed.files.items()
        if name != FILE
        and (_is_in(name, graded) or not _is_in(name, shown))
        and not any(map(is_of_an_editor, PurePosixPath(name).parts))
    }
    settings = {key: value for key, value in written.items() if key not in _ONLY_SHOWN}
    return digest_of(files, json.dumps(settings, sort_keys=True, default=str), repr(packed.over))


def is_of_an_editor(name: str) -> bool:
    """Whether a file is a backup or lock file of an editor, or hidden."""
    return name.startswith((".", "#")) or name.endswith("~")


def _names(written: str | list[str]) -> list[str]:
    return [written] if isinstance(written, str) else written


def _is_in(name: str, places: list[str]) -> bool:
    """Whether a file is one of these, or in one of these folders."""
    return any(PurePosixPath(name).is_relative_to(place) for place in places)
