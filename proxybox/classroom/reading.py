"""The course as it stands on the disk: read at the start, and anew when its files have changed.

Rules: a course with a fault changes nothing, and the fault is told. What the boxes were started for (their interpreter,
packages and policies) stays until the classroom is started again.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from proxybox.classroom.boxes import Place
from proxybox.classroom.config import Config
from proxybox.classroom.course import Course, find_course, load_course
from proxybox.classroom.sheets import Sheet, sheet_of
from proxybox.policies import Policy
from proxybox.teach.folders import SKIPPED

LANGUAGE: Final = "python"
"""The name of the one language of the service that has the boxes."""
#: The most files of a course that are looked at for changes.
_MOST_FILES: Final = 20_000
_AGAIN: Final = "end the classroom and start it again"


def course_of(config: Config, course: Course | None = None) -> Course:
    """The course of a classroom, with the interpreter that it is to have. Raises CourseError."""
    course = course or find_course(config.course)
    guest, packages = config.guest or course.guest, config.packages or course.packages
    return attrs.evolve(course, guest=guest, packages=packages)


def sheets_of(course: Course) -> dict[str, Sheet]:
    """The exercises by their ids, in their order. Raises ExerciseError, and GradingError for one that is too large."""
    return {each.id: sheet_of(each) for each in course.lessons}


def policies_of(sheets: Mapping[str, Sheet]) -> dict[str, Policy]:
    """The policies of exercises, each once, by a name."""
    policies: dict[str, Policy] = {}
    for sheet in sheets.values():
        if sheet.policy not in policies.values():
            policies[f"policy-{len(policies)}"] = sheet.policy
    return policies


def places_of(sheets: Mapping[str, Sheet], policies: Mapping[str, Policy]) -> dict[str, Place]:
    """Where the exercises run, of those whose policy is one of these."""
    return {
        sheet.id: Place(policy=name, language=LANGUAGE, main=sheet.main, files=sheet.beside)
        for sheet in sheets.values()
        for name, policy in policies.items()
        if policy == sheet.policy
    }


def look(folder: Path) -> str:
    """A digest of which files there are, how large they are and when they were written; it changes when they do."""
    found, left = hashlib.sha256(), _MOST_FILES
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(SKIPPED))
        for name in sorted(names)[:left]:
            try:
                status = os.stat(os.path.join(path, name))
            except OSError:  # an editor has just taken it away
                continue
            told = path, name, status.st_size, status.st_mtime_ns, status.st_ino
            found.update(repr(told).encode("utf-8", "surrogateescape"))
        left -= len(names)
        if left <= 0:
            break
    return found.hexdigest()


@attrs.frozen
class ReadAnew:
    """What was found. changed: the ids of exercises that are other ones now. faults: why something stays as it was."""

    course: Course
    sheets: dict[str, Sheet]
    places: dict[str, Place]
    changed: tuple[str, ...]
    faults: tuple[str, ...]


def read_anew(
    config: Config, before: Course, sheets: Mapping[str, Sheet], policies: Mapping[str, Policy]
) -> ReadAnew:  # fmt: skip
    """Reads a course once more.

    before, sheets: the course and its exercises until now. policies: those for which boxes were started. Raises
    CourseError, ExerciseError and GradingError.
    """
    course = course_of(config, load_course(before.folder))
    faults = []
    for name in ("guest", "packages", "preload"):
        if getattr(course, name) != getattr(before, name):
            course = attrs.evolve(course, **{name: getattr(before, name)})
            faults.append(f"{name} has changed: {_AGAIN}")
    found = sheets_of(course)
    places = places_of(found, policies)
    for name in [name for name in found if name not in places]:
        faults.append(f"{name}: its policy has changed: {_AGAIN}")
        if name in sheets:
            found[name] = sheets[name]
        else:
            del found[name]
    changed = [name for name, sheet in found.items() if name not in sheets or not _is_same(sheet, sheets[name])]
    return ReadAnew(course, found, places, tuple(changed), tuple(faults))


def _is_same(one: Sheet, other: Sheet) -> bool:
    return one is other or (one.packed.digest == other.packed.digest and one.as_json() == other.as_json())
