"""A course: a folder of exercises in their order, with a syllabus and common settings.

    first-steps/
        course.toml     settings: docs/courses.md
        syllabus.md     what the course is about
        01-print/       exercises: docs/exercises.md
        02-numbers/

Rules: as for exercises, all faults are reported together, those of the exercises included: the file, the key, what is
allowed, what was probably meant. The exercises of a course and their tests are the teacher's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from proxybox.policies import Policy, PolicyError, Problem, preset
from proxybox.policies.building import build, model
from proxybox.policies.checks import between, refusal, to_whole
from proxybox.policies.errors import nearest, shown
from proxybox.policies.overrides import restricted
from proxybox.serve.config import Language, anchored_language
from proxybox.teach.exercise import FILE as EXERCISE_FILE
from proxybox.teach.exercise import Exercise, load_exercise
from proxybox.teach.folders import (
    SKIPPED,
    Beside,
    ExerciseError,
    collect,
    copy_into,
    each_of,
    in_file,
    in_order,
    parsed,
    to_markdown,
    to_title,
    unknown_keys,
)

if TYPE_CHECKING:
    from proxybox.teach.checking import Check
    from proxybox.teach.grades import Grade

FILE: Final = "course.toml"
EXAMPLE: Final = "first-steps"
"""The name of the course that comes with proxybox."""
MOST_LESSONS: Final = 200
MOST_SEATS: Final = 1_000
_EXAMPLE_FOLDER: Final = Path(__file__).parent / "course"
_TEMPLATE: Final = Path(__file__).parent / "template"
#: Ids of exercises.
ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_ID_WORDS: Final = "want a name of a-z, 0-9 and -, at most 64 characters, no - first"
_TAG: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}", re.ASCII)
_LANGUAGE_KEYS: Final = ("guest", "packages")
#: These are settings of each exercise: files and the network.
_POLICY_KEYS: Final = frozenset(field.name for field in attrs.fields(Policy)) - {"filesystem", "network"}


class CourseError(ExerciseError):
    """A course with faults. `problems` holds every fault that was found, those of its exercises included."""


# --- the keys of course.toml ------------------------------------------------------------------------------------------


def _to_tag(value: str) -> str:
    if isinstance(value, str) and _TAG.fullmatch(value):
        return value
    raise refusal('want the tag of a language (BCP 47), such as "en" or "pt-BR"', value)


def _to_id(value: str) -> str:
    if isinstance(value, str) and ID.fullmatch(value):
        return value
    meant = _as_id(value) if isinstance(value, str) else ""
    raise refusal(_ID_WORDS, value, meant=f'"{meant}"' if meant else "")


def _as_id(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name[:200].lower()).strip("-")[:64]


def _to_ids(value: list[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MOST_LESSONS:
        raise refusal(f"want a list of 1 to {MOST_LESSONS} folders with exercises", value)
    ids = each_of(value, _to_id)
    for at, name in enumerate(ids):
        if name in ids[:at]:
            raise refusal("stands there twice", name, key=f"[{at}]")
    return ids


@model("")
@attrs.frozen(kw_only=True)
class _Settings:
    """The keys of the file, except for those of the interpreter and of the policy."""

    title: str = attrs.field(converter=to_title)
    language: str = attrs.field(default="en", converter=_to_tag)
    syllabus: str = attrs.field(default="syllabus.md", converter=to_markdown)
    lessons: tuple[str, ...] | None = attrs.field(default=None, converter=_to_ids)
    seats: int = attrs.field(
        default=60, converter=to_whole, validator=between(1, MOST_SEATS, f"1 to {MOST_SEATS:,} seats")
    )


_KEYS: Final = frozenset(field.name for field in attrs.fields(_Settings))


# --- the course -------------------------------------------------------------------------------------------------------


@attrs.frozen
class CourseExercise:
    """One exercise of a course. id: the name of its folder."""

    id: str
    exercise: Exercise

    @property
    def title(self) -> str:
        """The exercise's title."""
        return self.exercise.title

    @property
    def text(self) -> str:
        """The exercise's text, in Markdown."""
        return self.exercise.text


@attrs.frozen(kw_only=True)
class Course:
    """A course, as `load_course` finds it; docs/courses.md describes each key.

    language: the tag of the language of its texts. syllabus: in Markdown; empty if there is none. lessons: in their
    order; the policy of each exercise is already combined with the course's. seats: the most seats. guest: the
    interpreter, as for `Sandbox`. packages: paths on the host. preload: modules that every box has already imported.
    """

    folder: Path
    title: str
    language: str = "en"
    syllabus: str = ""
    lessons: tuple[CourseExercise, ...]
    seats: int = 60
    guest: str | None = None
    packages: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()


def find_course(name: str = "") -> Course:
    """Returns the course in a folder; for "" and for its name, the course that comes with proxybox.

    Raises CourseError if there is no such course, or if it has faults.
    """
    if name.rstrip("/") in ("", EXAMPLE):
        return load_course(_EXAMPLE_FOLDER)
    if Path(name).is_dir():
        return load_course(Path(name))
    if "/" not in name and nearest(name, [EXAMPLE]):
        raise CourseError(Problem(key="", message="there is no such folder", file=name, meant=EXAMPLE))
    raise CourseError.of("", "there is no such folder", name)


def load_course(folder: Path) -> Course:
    """Returns the course in a folder; without course.toml, its exercises, or the folder as the only exercise.

    Raises CourseError, which names all faults, or the reason why the file cannot be read.
    """
    path = folder / FILE
    problems: list[Problem] = []
    data: dict[str, Any] = {"title": folder.resolve().name[:200] or "Exercises"}
    if path.exists():
        data = collect(problems, lambda: parsed(path))
    elif (folder / EXERCISE_FILE).exists():
        return _of_one(folder)
    if problems:
        raise CourseError(*problems)
    problems += unknown_keys(data, _KEYS | _POLICY_KEYS | set(_LANGUAGE_KEYS))
    settings: _Settings | None = collect(
        problems, lambda: _Settings(**{key: value for key, value in data.items() if key in _KEYS})
    )
    language: Language | None = collect(problems, lambda: _language(data, folder))
    over = collect(problems, partial(_as_json, {key: data[key] for key in data if key in _POLICY_KEYS})) or {}
    policy: Policy | None = collect(problems, lambda: restricted(preset("classroom"), **over))
    beside = Beside(folder, _Settings, data, problems)
    syllabus = beside.markdown("syllabus", needed=False)
    lessons = tuple(_lessons(beside, {} if policy is None else over))
    if problems or settings is None or language is None or policy is None:
        raise CourseError(*in_file(problems, path))
    return Course(
        folder=folder,
        title=settings.title,
        language=settings.language,
        syllabus=syllabus,
        lessons=lessons,
        seats=settings.seats,
        guest=language.guest,
        packages=language.packages,
        preload=policy.preload,
    )


def _as_json(table: dict[str, Any]) -> dict[str, Any]:
    """A table of TOML with dates and times as text, as in policies: other processes get the table as JSON."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(table, default=lambda moment: moment.isoformat()))
    except (ValueError, RecursionError):  # an int of over 4,300 digits, which TOML may contain in hexadecimal
        raise refusal("a number is too long, or something is nested too deeply") from None
    return plain


def _of_one(folder: Path) -> Course:
    """The course of one exercise. Its folder may contain more than the folders of exercises do."""
    problems: list[Problem] = []
    exercise: Exercise | None = collect(problems, lambda: load_exercise(folder))
    if exercise is None:
        raise CourseError(*problems)
    lesson = CourseExercise(_as_id(folder.resolve().name) or "exercise", exercise)
    return Course(folder=folder, title=exercise.title, lessons=(lesson,))


def _language(data: Mapping[str, Any], folder: Path) -> Language:
    language_table = {key: data[key] for key in _LANGUAGE_KEYS if key in data}
    language = build(Language, anchored_language(language_table, str(folder.absolute())))
    missing = [at for at, path in enumerate(language.packages) if not Path(path).exists()]
    if missing:
        reason = "there is no such file or folder"
        raise PolicyError(
            *(Problem(key=f"packages[{at}]", message=reason, given=shown(language.packages[at])) for at in missing)
        )
    return language


def _lessons(beside: Beside, over: Mapping[str, Any]) -> list[CourseExercise]:
    """The exercises in their order. Their faults, and those of their names, are added to `problems`."""
    names = beside.value("lessons")
    if names is None:
        names = [] if "lessons" in beside.data else _names(beside)
    else:
        names = [name for at, name in enumerate(names) if beside.existing(f"lessons[{at}]", name) is not None]
    lessons: list[CourseExercise] = []
    for name in names:
        exercise = collect(beside.problems, partial(load_exercise, beside.root / name, over=over))
        if exercise is not None:
            lessons.append(CourseExercise(name, exercise))
    return lessons


def _names(beside: Beside) -> list[str]:
    """The folders with exercises, in natural order: 10 comes after 9."""
    try:
        found = [path.name for path in beside.root.iterdir() if (path / EXERCISE_FILE).is_file()]
    except OSError as error:
        beside.problems.append(Problem(key="", message=f"cannot be read: {error.strerror}", file=str(beside.root)))
        return []
    names = sorted((name for name in found if not name.startswith(SKIPPED)), key=in_order)
    for name in names:
        try:
            _to_id(name)
        except PolicyError as error:
            file = str(beside.root / name)
            beside.problems += (attrs.evolve(each, file=file, given="") for each in error.problems)
    if not names:
        beside.tell("lessons", f"there are no exercises: want folders with {EXERCISE_FILE}, such as 01-print")
    if len(names) > MOST_LESSONS:
        beside.tell("lessons", f"there are {len(names)} exercises; a course has at most {MOST_LESSONS}")
        return []
    return names


# --- checks -----------------------------------------------------------------------------------------------------------


def check_preload(course: Course) -> None:
    """Tries whether guests can start with the modules of `preload` imported.

    Does nothing if no module is named; otherwise takes as long as the imports. Raises CourseError for a module that
    does not exist, that cannot be imported, or that leaves threads or open files behind; PackagesError and
    SandboxStartError if there are no such packages or no such interpreter.
    """
    from proxybox.controller.warm.zygote import essence

    tried: list[Policy] = []
    problems: list[Problem] = []
    for lesson in course.lessons:
        policy = lesson.exercise.policy
        kind = essence(policy)
        if (policy.preload or policy.warm_up) and kind not in tried:
            tried.append(kind)
            own = course.folder / FILE if {"preload", "warm_up"} & lesson.exercise.over.keys() else None
            path = own or lesson.exercise.folder / EXERCISE_FILE
            found: list[Problem] = []
            collect(found, partial(_try_preload, policy, course))
            problems += in_file(found, path)
    if problems:
        raise CourseError(*dict.fromkeys(problems))


def _try_preload(policy: Policy, course: Course) -> None:
    from proxybox.controller.errors import SandboxStartError
    from proxybox.controller.warm.zygote import Zygote
    from proxybox.pool.pool import box_of

    box = box_of(policy, course.guest, course.packages)
    if box.is_observed:
        reason = "with a seed each box starts by itself, and would import them anew"
        raise refusal(reason, key="preload", allowed='randomness = "system"')
    try:
        Zygote(policy, box).close()
    except SandboxStartError as error:
        raise refusal(str(error), key="preload") from None


def check_course(
    course: Course, *, workers: int | None = None,
    on_lesson: Callable[[CourseExercise, tuple[Check, ...]], object] | None = None,
    on_grade: Callable[[Grade], object] | None = None, on_interrupt: Callable[[int], object] | None = None,
) -> dict[str, tuple[Check, ...]]:  # fmt: skip
    """Grades the solutions of all exercises, as `check_exercise` does, and returns the checks by lesson.

    on_lesson: called with each lesson and its checks. Raises as `check_exercise` does.
    """
    from proxybox.teach.checking import check_exercise

    found: dict[str, tuple[Check, ...]] = {}
    for lesson in course.lessons:
        checks = found[lesson.id] = check_exercise(
            lesson.exercise, workers=workers, guest=course.guest, packages=course.packages, on_grade=on_grade,
            on_interrupt=on_interrupt,
        )  # fmt: skip
        if on_lesson is not None:
            on_lesson(lesson, checks)
    return found


# --- new courses ------------------------------------------------------------------------------------------------------


def new_course(folder: Path, *, example: bool = False) -> None:
    """Makes a new course: a small complete one, or a copy of the one that comes with proxybox.

    Raises FileExistsError if something exists there already, OSError.
    """
    from proxybox.teach.checking import new_exercise

    if example:
        copy_into(folder, _EXAMPLE_FOLDER)
        return
    copy_into(folder, _TEMPLATE)
    new_exercise(folder / "01-greeting", "01-greeting")
    new_exercise(folder / "02-rectangle")
