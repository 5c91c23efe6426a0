"""`proxybox classroom`: teaches a class, makes courses and checks them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxybox.cli.exercise import checks_as_json, tell_checks
from proxybox.cli.exits import EXIT_CANCELLED
from proxybox.cli.failures import CommandError, tell_warning
from proxybox.cli.grade import check_needed, tell_waiting
from proxybox.cli.run import tell_failure
from proxybox.terminal.harmless import on_one_line
from proxybox.terminal.progress import shown_progress

if TYPE_CHECKING:
    from proxybox.classroom.course import Course
    from proxybox.teach.checking import Check


def open_classroom(
    *, course: str | None, tls: bool, tls_cert: str | None, tls_key: str | None, as_json: bool, opens: bool,
    verbose: bool, **options: Any,
) -> int:  # fmt: skip
    """Holds a classroom open until it is told to end. The exit status is 125 when it cannot open."""
    try:
        from proxybox.classroom.course import EXAMPLE
        from proxybox.classroom.running import Manner, run
        from proxybox.classroom.config import Config  # isort: skip - the other one says what to install

        given = {key: value for key, value in options.items() if value not in (None, ())}
        if tls_cert or tls_key:
            given |= {"tls": "files", "tls_cert": tls_cert or "", "tls_key": tls_key or ""}
        elif tls:
            given["tls"] = "self"
        if course and _named(course, EXAMPLE) != EXAMPLE:
            given["course"] = course
        return run(Config(**given), Manner(json=as_json, opens=opens, verbose=verbose))
    except KeyboardInterrupt:
        return EXIT_CANCELLED
    except ImportError as error:
        return tell_failure(_lacking(error))
    except Exception as error:
        return tell_failure(error)


def new(folder: Path, *, example: bool) -> int:
    """Makes the folder of a new course."""
    try:
        from proxybox.classroom.course import new_course

        try:
            new_course(folder, example=example)
        except OSError as error:
            raise CommandError(f"can't make {on_one_line(str(folder))}: {error.strerror or error}") from None
    except ImportError as error:
        return tell_failure(_lacking(error))
    except Exception as error:
        return tell_failure(error)
    named = on_one_line(str(folder))
    print(f"{named}: made. Change what is in it, then: proxybox classroom check {named}")
    return 0


def check(courses: Sequence[str], *, jobs: int | None, as_json: bool) -> int:
    """Checks courses, and prints what came of each exercise; returns 1 when one is not as it should be."""
    found: dict[str, tuple[Check, ...]] = {}
    try:
        check_needed()
        from proxybox.classroom.course import EXAMPLE, find_course

        for course in [find_course(_named(name, EXAMPLE)) for name in courses or ("",)]:
            found |= {f"{course.folder.name}/{name}": each for name, each in _checked(course, jobs, as_json).items()}
    except KeyboardInterrupt:
        return EXIT_CANCELLED
    except ImportError as error:
        return tell_failure(_lacking(error))
    except Exception as error:
        return tell_failure(error)
    if as_json:
        print(checks_as_json(found))
    return 1 if any(each.problem for checks in found.values() for each in checks) else 0


def _checked(course: "Course", jobs: int | None, quietly: bool) -> "dict[str, tuple[Check, ...]]":
    from proxybox.classroom.course import check_course, check_preload

    check_preload(course)
    with shown_progress(f"Checking {on_one_line(course.title)}", None) as advance:
        found = check_course(course, workers=jobs, on_grade=lambda _: advance(), on_interrupt=tell_waiting)
    if not quietly:
        for lesson in course.lessons:
            tell_checks(lesson.id, lesson.title, found[lesson.id])
    return found


def _named(course: str, example: str) -> str:
    """The name of a course; says so when the one that comes with proxybox and a folder here both have it."""
    if course == example and os.path.lexists(course):
        tell_warning(f"{example} comes with proxybox; the folder here is ./{example}")
    return course


def _lacking(error: ImportError) -> CommandError:
    told = str(error)
    return CommandError(
        told if "pip install" in told else f"the classroom needs {error.name}: pip install 'proxybox[classroom]'"
    )
