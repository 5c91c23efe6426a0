"""`proxybox exercise`: the exercises that come with proxybox, a new one, and whether one does what it is for."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.cli.exits import EXIT_CANCELLED
from proxybox.cli.failures import CommandError
from proxybox.cli.grade import check_needed, ready_guest, shown_progress
from proxybox.cli.run import tell_failure
from proxybox.cli.text import Paint, table
from proxybox.result import on_one_line

if TYPE_CHECKING:
    from proxybox.teach.checking import Check


def list_shipped(*, as_json: bool) -> int:
    """Print the names and titles of the exercises that come with proxybox."""
    from proxybox.teach.checking import find_exercise, shipped_exercises

    titles = {name: find_exercise(name).title for name in shipped_exercises()}
    if as_json:
        print(json.dumps(titles, indent=2))
        return 0
    paint, widest = Paint(sys.stdout), max(map(len, titles))
    for name, title in titles.items():
        print(f"{paint('bold', name)}{' ' * (widest - len(name))}  {title}")
    return 0


def new(folder: Path, source: str | None) -> int:
    """Make an exercise's folder."""
    from proxybox.teach.checking import new_exercise

    try:
        try:
            new_exercise(folder, source)
        except OSError as error:
            raise CommandError(f"can't make {on_one_line(str(folder))}: {error.strerror or error}") from None
    except Exception as error:
        return tell_failure(error)
    print(f"{folder}: made. Change what is in it, then: proxybox exercise check {folder}")
    return 0


def check(exercises: Sequence[str], *, jobs: int | None, guest: str | None, as_json: bool) -> int:
    """Grade the solutions of exercises and print what came of them; 1 where something is not as it should be."""
    found: dict[str, Any] = {}
    try:
        check_needed()
        from proxybox.teach.checking import check_exercise, find_exercise

        chosen = {name: find_exercise(name) for name in exercises}
        for name, exercise in chosen.items():
            ready_guest(exercise, guest)
            with shown_progress(f"Checking {on_one_line(name)}", None) as advance:
                found[name] = check_exercise(exercise, workers=jobs, guest=guest, on_grade=lambda _: advance())
            if not as_json:
                _tell(name, exercise.title, found[name])
    except KeyboardInterrupt:
        return EXIT_CANCELLED
    except Exception as error:
        return tell_failure(error)
    if as_json:
        print(json.dumps({name: [_plain(each) for each in checks] for name, checks in found.items()}, indent=2))
    return 1 if any(each.problem for checks in found.values() for each in checks) else 0


def _plain(check: "Check") -> dict[str, Any]:
    tests = [attrs.asdict(test) for test in check.grade.tests]
    return {"solution": check.name, "problem": check.problem, "fails": check.why, "tests": tests}


def _tell(name: str, title: str, checks: "Sequence[Check]") -> None:
    paint = Paint(sys.stdout)
    print(f"{paint('bold', on_one_line(name))}: {title}")
    rows = []
    for each in checks:
        word = paint("red", each.problem) if each.problem else paint("green", "ok")
        score = f"{each.grade.points:g} / {each.grade.possible:g}"
        rows.append((on_one_line(each.name), score, word, on_one_line(each.why)[:90]))
    print(table(("Solution", "Score", "Verdict", "What fails"), rows))
    if not any(each.name.startswith("wrong/") for each in checks):
        print("There are no wrong solutions: whether the tests find a mistake is not known.")
