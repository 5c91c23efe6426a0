"""`proxybox classroom`: teaches a class, makes and checks courses, and grades submissions again."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.cli.exercise import checks_as_json, print_checks
from proxybox.cli.exits import EXIT_CANCELLED
from proxybox.cli.failures import CommandError, print_warning
from proxybox.cli.grade import check_needed, print_waiting
from proxybox.cli.run import print_failure
from proxybox.terminal.harmless import on_one_line
from proxybox.terminal.progress import shown_progress
from proxybox.terminal.tables import table
from proxybox.terminal.text import has_colours

if TYPE_CHECKING:
    from proxybox.classroom.course import Course
    from proxybox.classroom.regrading import Regraded
    from proxybox.classroom.results import Score
    from proxybox.teach.checking import Check


def open_classroom(
    *, course: str | None, tls: bool, tls_cert: str | None, tls_key: str | None, as_json: bool, opens: bool,
    verbose: bool, **options: Any,
) -> int:  # fmt: skip
    """Holds a classroom open until a signal ends it. The exit status is 125 when it cannot open."""
    try:
        from proxybox.classroom.course import EXAMPLE
        from proxybox.classroom.running import Manner, run
        from proxybox.classroom.config import ClassroomConfig  # isort: skip - the other one says what to install

        set_options = {key: value for key, value in options.items() if value not in (None, ())}
        if tls_cert or tls_key:
            set_options |= {"tls": "files", "tls_cert": tls_cert or "", "tls_key": tls_key or ""}
        elif tls:
            set_options["tls"] = "self"
        if course and _named(course, EXAMPLE) != EXAMPLE:
            set_options["course"] = course
        return run(ClassroomConfig(**set_options), Manner(json=as_json, opens=opens, verbose=verbose))
    except ImportError as error:
        return print_failure(_lacking(error))


def new(folder: Path, *, example: bool) -> int:
    """Makes the folder of a new course."""
    try:
        from proxybox.classroom.course import new_course

        try:
            new_course(folder, example=example)
        except OSError as error:
            raise CommandError(f"can't make {on_one_line(str(folder))}: {error.strerror or error}") from None
    except ImportError as error:
        return print_failure(_lacking(error))
    named = on_one_line(str(folder))
    print(f"{named}: made. Change what is in it, then: proxybox classroom check {named}")
    return 0


def check(courses: Sequence[str], *, jobs: int | None, as_json: bool) -> int:
    """Checks courses, and prints the result of each exercise; returns 1 if one has a problem."""
    found: dict[str, tuple[Check, ...]] = {}
    try:
        check_needed()
        from proxybox.classroom.course import EXAMPLE, find_course

        for course in [find_course(_named(name, EXAMPLE)) for name in courses or ("",)]:
            found |= {f"{course.folder.name}/{name}": each for name, each in _checked(course, jobs, as_json).items()}
    except ImportError as error:
        return print_failure(_lacking(error))
    if as_json:
        print(checks_as_json(found))
    return 1 if any(each.problem for checks in found.values() for each in checks) else 0


def regrade(
    course: str | None, *, exercises: Sequence[str], outdated: bool, as_json: bool, **options: Any
) -> int:  # fmt: skip
    """Grades submissions again, and prints changed grades; returns 1 if something could not be graded."""
    try:
        check_needed()
        from proxybox.classroom import regrading
        from proxybox.classroom.config import ClassroomConfig  # isort: skip - the other one says what to install
        from proxybox.classroom.course import EXAMPLE

        set_options = {key: value for key, value in options.items() if value not in (None, ())}
        if course and _named(course, EXAMPLE) != EXAMPLE:
            set_options["course"] = course
        with shown_progress("Grading again", None) as advance:
            found = regrading.regrade(ClassroomConfig(**set_options), exercises, outdated=outdated, on_graded=advance)
    except KeyboardInterrupt:
        print("\nproxybox: interrupted; what is left is graded when the classroom opens", file=sys.stderr)
        return EXIT_CANCELLED
    except ImportError as error:
        return print_failure(_lacking(error))
    if as_json:
        print(json.dumps([attrs.asdict(each) for each in found]))
    else:
        _print_regraded(found)
    return 1 if any(each.fault for each in found) else 0


def _print_regraded(found: "Sequence[Regraded]") -> None:
    changed = [each for each in found if each.now != each.before]
    rows = [
        [on_one_line(each.exercise), on_one_line(each.name), _score(each.before), _score(each.now)] for each in changed
    ]
    if rows:
        print(table(("Exercise", "Name", "Before", "Now"), rows, coloured=has_colours(sys.stdout)))
    count = "One hand-in was" if len(found) == 1 else f"{len(found)} hand-ins were"
    print(f"{count} graded again; grades that are others now: {len(changed)}.")
    for exercise, fault in {each.exercise: each.fault for each in found if each.fault}.items():
        print(f"proxybox: {on_one_line(exercise)} could not be graded: {on_one_line(fault)}", file=sys.stderr)


def _score(score: "Score | None") -> str:
    return "none" if score is None else f"{score.points:g} / {score.possible:g}"


def _checked(course: "Course", jobs: int | None, quietly: bool) -> "dict[str, tuple[Check, ...]]":
    from proxybox.classroom.course import check_course, check_preload

    check_preload(course)
    with shown_progress(f"Checking {on_one_line(course.title)}", None) as advance:
        found = check_course(course, workers=jobs, on_grade=lambda _: advance(), on_interrupt=print_waiting)
    if not quietly:
        for lesson in course.lessons:
            print_checks(lesson.id, lesson.title, found[lesson.id])
    return found


def _named(course: str, example: str) -> str:
    """Returns the name of a course; warns if both the shipped course and a folder here have this name."""
    if course == example and os.path.lexists(course):
        print_warning(f"{example} comes with proxybox; the folder here is ./{example}")
    return course


def _lacking(error: ImportError) -> CommandError:
    message = str(error)
    return CommandError(
        message if "pip install" in message else f"the classroom needs {error.name}: pip install 'proxybox[classroom]'"
    )
