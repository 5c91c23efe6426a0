"""The course's files: read at the start, and again when they have changed.

Rules: a course with a fault changes nothing, and the fault is reported. The settings with which the boxes were started
(their interpreter, packages and policies) stay until the classroom is started again.
"""

import asyncio
import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from proxybox.classroom.boxes import RunSettings
from proxybox.classroom.config import ClassroomConfig
from proxybox.classroom.course import Course, find_course, load_course
from proxybox.classroom.sheets import Sheet, is_of_an_editor, sheet_of
from proxybox.policies import Policy
from proxybox.policies.errors import ProxyboxError
from proxybox.teach.exercise import FILE
from proxybox.teach.folders import SKIPPED

LANGUAGE: Final = "python"
"""The name of the one language of the service that has the boxes."""
#: The most files of a course that are checked for changes.
_MOST_FILES: Final = 20_000
#: The most characters of a fault that are reported.
_MOST_FAULT: Final = 10_000
_AGAIN: Final = "end the classroom and start it again"


def course_of(config: ClassroomConfig, course: Course | None = None) -> Course:
    """The course of a classroom, with the configured interpreter. Raises CourseError."""
    course = course or find_course(config.course)
    guest, packages = config.guest or course.guest, config.packages or course.packages
    return attrs.evolve(course, guest=guest, packages=packages)


def sheets_of(course: Course) -> dict[str, Sheet]:
    """The exercises by their ids, in their order. Raises ExerciseError, and GradingError for one that is too large."""
    return {each.id: sheet_of(each) for each in course.lessons}


def policies_of(sheets: Mapping[str, Sheet]) -> dict[str, Policy]:
    """The different policies of exercises, each with a name."""
    policies: dict[str, Policy] = {}
    for sheet in sheets.values():
        if sheet.policy not in policies.values():
            policies[f"policy-{len(policies)}"] = sheet.policy
    return policies


def places_of(sheets: Mapping[str, Sheet], policies: Mapping[str, Policy]) -> dict[str, RunSettings]:
    """Where the exercises run: those whose policy is one of `policies`."""
    return {
        sheet.id: RunSettings(policy=name, language=LANGUAGE, main=sheet.main, files=sheet.beside)
        for sheet in sheets.values()
        for name, policy in policies.items()
        if policy == sheet.policy
    }


def look(folder: Path) -> str:
    """A digest of the names, sizes and times of a course's files. It changes when one of these changes."""
    found = hashlib.sha256()
    for path in itertools.islice(_files(folder), _MOST_FILES):
        try:
            status = os.stat(path)
        except OSError:  # an editor has just removed it
            continue
        stamp = path, status.st_size, status.st_mtime_ns, status.st_ino
        found.update(repr(stamp).encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    """Yields the paths of a course's files: beside its exercises, and in them."""
    try:
        names = sorted(name for name in os.listdir(folder) if not (is_of_an_editor(name) or name.startswith(SKIPPED)))
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.isdir(path):
            yield path
        elif FILE in names or os.path.isfile(os.path.join(path, FILE)):  # an exercise, or in one
            for within, folders, files in os.walk(path, followlinks=True):
                folders[:] = sorted(name for name in folders if not name.startswith(SKIPPED))
                yield within  # so that folders are included
                yield from (os.path.join(within, name) for name in sorted(files) if not is_of_an_editor(name))


@attrs.frozen
class ReadAnew:
    """A course that was read again. changed: the ids of changed exercises. faults: why something was not changed."""

    course: Course
    sheets: dict[str, Sheet]
    places: dict[str, RunSettings]
    changed: tuple[str, ...]
    faults: tuple[str, ...]


class CourseFiles:
    """The files of a course, which are read again when they change. fault: why a change was not loaded.

    policies: those for which boxes were started.
    """

    def __init__(self, config: ClassroomConfig, folder: Path, policies: Mapping[str, Policy]) -> None:
        self._config, self._folder, self._policies = config, folder, policies
        self._read = self._before = look(folder)
        self.fault = ""

    async def have_changed(self) -> bool:
        """Whether the files have changed since they were read, and not since the last call."""
        found, before = await asyncio.to_thread(look, self._folder), self._before
        self._before = found
        return found == before != self._read

    async def read(self, course: Course, sheets: Mapping[str, Sheet]) -> ReadAnew | None:
        """Reads the files if they have changed. Returns None if they have not, or if they have a fault.

        course, sheets: the current ones.
        """
        found = await asyncio.to_thread(look, self._folder)
        if found == self._read:
            return None
        self._read = found
        try:
            anew = await asyncio.to_thread(read_anew, self._config, course, sheets, self._policies)
        except (ProxyboxError, OSError, LookupError, ValueError) as error:  # also if files change meanwhile
            self.fault = (str(error) or type(error).__name__)[:_MOST_FAULT]
            return None
        self.fault = "\n".join(anew.faults)
        return anew


def read_anew(
    config: ClassroomConfig, before: Course, sheets: Mapping[str, Sheet], policies: Mapping[str, Policy]
) -> ReadAnew:  # fmt: skip
    """Reads a course again.

    before, sheets: the current course and its exercises. policies: those for which boxes were started. Raises
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
    """Whether two sheets are the same for students and for tests."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("basis", "title", "html", "main", "starter", "beside", "hints", "deadline")
    )
