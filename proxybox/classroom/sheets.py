"""What students get of each exercise: its text, its files, its hints; nothing of its tests and its solutions."""

from collections.abc import Mapping
from typing import Any

import attrs

from proxybox.classroom import course
from proxybox.classroom.markdown import to_html
from proxybox.policies import Policy
from proxybox.teach.exercise import Exercise


@attrs.frozen(kw_only=True)
class Sheet:
    """One exercise as a student sees it.

    id: its folder's name. main: the name of the file that runs. starter: the texts to begin with. beside: files that
    lie in the box besides, which cannot be changed. deadline: in seconds since the epoch.
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

    def as_json(self) -> dict[str, Any]:
        """Returns what pages are told of it."""
        return {
            "id": self.id, "title": self.title, "text_html": self.html, "file": self.main, "deadline": self.deadline,
            "others": sorted(self.beside),
        }  # fmt: skip


def sheet_of(lesson: course.Lesson) -> Sheet:
    """Returns the sheet of an exercise of a course. Raises ExerciseError when its files cannot be read."""
    exercise = lesson.exercise
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
    )  # fmt: skip
