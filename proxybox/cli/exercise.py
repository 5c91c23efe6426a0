"""`proxybox exercise`: lists shipped exercises, makes new ones, checks exercises, and tests one submission."""

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.cli.exits import EXIT_CANNOT_RUN
from proxybox.cli.failures import CommandError
from proxybox.cli.grade import check_needed, check_records, chosen_exercise, print_waiting, ready_guest
from proxybox.terminal.harmless import harmless_lines, on_one_line
from proxybox.terminal.progress import shown_progress
from proxybox.terminal.tables import Cell, console, table
from proxybox.terminal.text import Paint, has_colours

if TYPE_CHECKING:
    from proxybox.teach.checking import Check
    from proxybox.teach.grades import Grade, Verdict


#: The most characters in a cell of a table.
_MOST_OF_LINE = 90
#: The most lines of a submission's output that are shown for a test.
_MOST_LINES = 10


def list_shipped(*, as_json: bool) -> int:
    """Prints the names and titles of the exercises that come with proxybox."""
    from proxybox.teach.checking import find_exercise, shipped_exercises

    titles = {name: find_exercise(name).title for name in shipped_exercises()}
    if as_json:
        print(json.dumps(titles, indent=2))
        return 0
    print(table((), [(("bold", name), title) for name, title in titles.items()], coloured=has_colours(sys.stdout)))
    return 0


def new(folder: Path, source: str | None) -> int:
    """Makes the folder of a new exercise."""
    from proxybox.teach.checking import is_shipped, new_exercise

    try:
        new_exercise(folder, source)
    except OSError as error:
        raise CommandError(f"can't make {on_one_line(str(folder))}: {error.strerror or error}") from None
    named = f"./{folder}" if is_shipped(str(folder)) else str(folder)  # without ./ it would be the shipped exercise
    notice = f"{folder}: made. Change what is in it, then: proxybox exercise check {named}"
    print(on_one_line(notice))
    return 0


def check(
    exercises: Sequence[str], *, jobs: int | None, guest: str | None, packages: Sequence[str], as_json: bool
) -> int:
    """Grades the solutions of exercises and prints the results; returns 1 if one has a problem."""
    found: dict[str, Any] = {}
    check_needed()
    from proxybox.teach.checking import check_exercise

    chosen = {name: chosen_exercise(name) for name in exercises}
    for name, exercise in chosen.items():
        seen = ready_guest(exercise, guest, packages)
        with shown_progress(f"Checking {on_one_line(name)}", None) as advance:
            found[name] = check_exercise(
                exercise, workers=jobs, guest=guest, packages=seen, on_grade=lambda _: advance(),
                on_interrupt=print_waiting,
            )  # fmt: skip
        if not as_json:
            print_checks(name, exercise.title, found[name])
    if as_json:
        print(checks_as_json(found))
    return 1 if any(each.problem for checks in found.values() for each in checks) else 0


def test(
    exercise: str, submission: Path, *, records: Path | None, guest: str | None, packages: Sequence[str], as_json: bool
) -> int:
    """Grades one submission and prints the verdict of each test; returns 1 when some failed."""
    check_needed()
    from proxybox.teach.grades import GradeBook
    from proxybox.teach.grading import grade
    from proxybox.teach.submissions import read_submission
    from proxybox.teach.writers import WRITERS

    chosen = chosen_exercise(exercise)
    submitted = read_submission(submission)
    check_records(records, (submission,))
    seen = ready_guest(chosen, guest, packages)
    (found,) = grade(
        chosen, (submitted,), workers=1, guest=guest, packages=seen, records=records, on_interrupt=print_waiting
    )
    if as_json:
        print(WRITERS["json"].render(GradeBook(title=chosen.title, grades=(found,))), end="")
    else:
        _print_grade(chosen.title, found)
    at_fault = any(each.status == "internal_error" for each in found.tests)
    return EXIT_CANNOT_RUN if found.failed or at_fault else 0 if found.status == "ok" else 1


def _print_grade(title: str, grade: "Grade") -> None:
    """Prints each test with its points and messages, and the output of tests that failed."""
    from rich.table import Table
    from rich.text import Text

    out = console(sys.stdout)
    out.print(Text(f"{on_one_line(grade.student)}: {on_one_line(title)}", style="bold"))
    if grade.failed:
        out.print(Text(f"It could not be graded: {harmless_lines(grade.message)}", style="red"))
        return
    tests = Table.grid(padding=(0, 2))
    for each in grade.tests:
        is_well = each.passed or each.status == "skipped"
        words = Text(on_one_line(each.name))
        for text in (each.message, each.fault, "" if is_well else _beginning(each.more_output)):
            words.append(f"\n{harmless_lines(text)}" if text else "", style="dim")
        verdict = Text(each.status.replace("_", " "), style="green" if is_well else "red", no_wrap=True)
        tests.add_row(verdict, Text(f"{each.points:g} / {each.possible:g}", no_wrap=True), words)
    out.print(tests)
    for path in dict.fromkeys(path for each in grade.tests for path in each.records):
        out.print(Text(on_one_line(f"proxybox replay {shlex.quote(path)}"), style="dim"), soft_wrap=True)
    for notice in dict.fromkeys(each.unrecorded for each in grade.tests if each.unrecorded):
        out.print(Text(notice, style="dim"))
    if grade.note:
        out.print(Text(f"\n{grade.note}", style="dim"))
    out.print(f"\n{grade.points:g} of {grade.possible:g} points")


def _beginning(output: str) -> str:
    """Returns the first lines of a submission's output in a test."""
    lines = output.rstrip().split("\n")
    more = ["..."] if len(lines) > _MOST_LINES else []
    return "\n".join(["It printed:", *lines[:_MOST_LINES], *more]) if output else ""


def checks_as_json(found: "Mapping[str, Sequence[Check]]") -> str:
    """Returns the results of the solutions as JSON, by the exercises' names."""
    return json.dumps({name: [_plain(each) for each in checks] for name, checks in found.items()}, indent=2)


def _plain(check: "Check") -> dict[str, Any]:
    tests = [attrs.asdict(test) for test in check.grade.tests]
    return {"solution": check.name, "problem": check.problem, "fails": check.why, "tests": tests}


def _print_faults(grades: "Iterable[Grade]") -> None:
    """Prints each fault of the tests themselves once, with the submissions in which it occurred."""
    met: dict[tuple[str, str], list[str]] = {}
    for grade in grades:
        for test in grade.tests:
            if _is_at_fault(test):
                met.setdefault((test.name, test.fault), []).append(on_one_line(grade.student))
    for (name, fault), students in met.items():
        more = f" and {len(students) - 1} more" if len(students) > 1 else ""
        notice = f"The test {on_one_line(name)!r} is at fault itself, with {students[0]}{more}:"
        print(f"\n{notice}\n{harmless_lines(fault)}")


def _is_at_fault(test: "Verdict") -> bool:
    return test.status == "internal_error" and bool(test.fault)


def _print_frail(mutants: "Iterable[Check]") -> None:
    """Prints each test that has raised an exception with a changed solution, once, and the message for a student."""
    from proxybox.teach.faults import summary_of

    met: dict[str, list[tuple[Verdict, str]]] = {}
    for each in mutants:
        for test in each.grade.tests:
            if test.fault:
                met.setdefault(test.name, []).append((test, each.name))
    if met:
        print("\nTests that raise an exception themselves where a function returns something useless:")
    for name, found in met.items():
        # The worst case: the message does not help the student.
        test, solution = min(found, key=lambda each: not _is_at_fault(each[0]))
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        print(f"  {on_one_line(name)}: {on_one_line(summary_of(test.fault))}")
        print(f"    with {on_one_line(solution)}{more}; the student reads: {on_one_line(test.message)}")


def print_checks(name: str, title: str, checks: "Sequence[Check]") -> None:
    """Prints the results of an exercise's solutions."""
    paint = Paint(sys.stdout)
    print(f"{paint('bold', on_one_line(name))}: {on_one_line(title)}")
    rows: list[tuple[Cell, ...]] = []
    own = [each for each in checks if not each.is_mutant]
    for each in own:
        is_at_fault = any(map(_is_at_fault, each.grade.tests))  # _print_faults prints the details
        problem = "a test is at fault itself" if is_at_fault else on_one_line(each.problem)
        word = ("red", problem) if each.problem else ("green", "ok")
        score = f"{each.grade.points:g} / {each.grade.possible:g}"
        rows.append((on_one_line(each.name), score, word, on_one_line(each.why)[:_MOST_OF_LINE]))
    print(table(("Solution", "Score", "Verdict", "What fails"), rows, coloured=paint.wanted))
    _print_faults(check.grade for check in own)
    _print_frail(each for each in checks if each.is_mutant)
    if not any(each.name.startswith("wrong/") for each in checks):
        print("There are no wrong solutions: whether the tests find a mistake is not known.")
