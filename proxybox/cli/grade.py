"""`proxybox grade`: makes grades of submissions, a table, a page, and files for other programs."""

import errno
import importlib.util
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from proxybox.cli.clusters import connected
from proxybox.cli.exits import EXIT_CANCELLED, EXIT_CANNOT_RUN
from proxybox.cli.failures import CommandError, UsageError
from proxybox.terminal.harmless import on_one_line
from proxybox.terminal.progress import shown_progress
from proxybox.terminal.tables import ANY_WIDTH, Cell, table
from proxybox.terminal.text import has_colours

if TYPE_CHECKING:
    from proxybox.teach.exercise import Exercise
    from proxybox.teach.grades import Grade, GradeBook, PassedOver
    from proxybox.teach.similar import Comparison
    from proxybox.teach.submissions import Submission

#: Formats that are always written.
_FORMATS = ("csv", "json")
REPORT = "report.html"
#: The most ignored files that are named on stderr.
_MOST_TOLD = 20


def grade(
    *,
    exercise: str,
    submissions: Sequence[Path],
    output: Path,
    formats: Sequence[str],
    jobs: int | None,
    cluster: str | None,
    again: bool,
    timings: bool,
    alike: float,
    records: Path | None,
    guest: str | None,
    packages: Sequence[str],
    as_json: bool,
) -> int:
    """Grades, writes the files, and prints a table."""
    try:
        check_needed()
        from proxybox.teach.grades import GradeBook, PassedOver
        from proxybox.teach.similar import compare
        from proxybox.teach.submissions import find_submissions

        _check_formats(formats)
        if records is not None and cluster is not None:
            raise UsageError(
                "--records: the workers of a cluster would write on their own machines: grade here for that"
            )
        chosen = chosen_exercise(exercise)
        passed_over: list[PassedOver] = []
        found = find_submissions(submissions, chosen.file, passed_over.append)
        passed_over = [each for each in passed_over if not _is_same(each.path, output)]
        _print_passed_over(passed_over)
        if not found:
            raise CommandError(
                f"there are no submissions in {', '.join(on_one_line(str(path)) for path in submissions)}"
            )
        check_records(records, submissions)
        _prepare(output, submissions)
        if cluster is None:
            packages = ready_guest(chosen, guest, packages)
        with connected(cluster) as client:
            executor = client and client.get_executor(pure=False)
            try:
                grades = _graded(chosen, found, output, again, executor=executor, workers=jobs, guest=guest,
                                 packages=packages, timings=timings, evidence=records)  # fmt: skip
            except OSError as error:
                raise CommandError(
                    f"grading stopped: {error.strerror or error}; run the same command to go on"
                ) from None
        book = GradeBook(title=chosen.title, grades=grades, passed_over=tuple(passed_over))
        found_alike = compare(book, chosen.starter_files().get(chosen.file, b"").decode("utf-8", "replace"), alike)
        _write(book, found_alike, output, formats)
        _print_grades(book, found_alike, output, as_json=as_json)
    except KeyboardInterrupt:
        print("\nproxybox: interrupted; run the same command to go on", file=sys.stderr)
        return EXIT_CANCELLED
    return EXIT_CANNOT_RUN if any(each.failed for each in grades) or _at_fault(book) else 0


def _is_same(path: str, output: Path) -> bool:
    """Whether `path` is the output folder of this grading, made by an earlier grading."""
    return os.path.realpath(path) == os.path.realpath(output)


def _print_passed_over(found: "Sequence[PassedOver]") -> None:
    for each in found[:_MOST_TOLD]:
        print(f"proxybox: passed over: {on_one_line(each.path)}: {on_one_line(each.why)}", file=sys.stderr)
    if len(found) > _MOST_TOLD:
        print(f"proxybox: passed over: {len(found) - _MOST_TOLD} more, which the report names", file=sys.stderr)


def check_needed() -> None:
    """Raises CommandError when a package of the extra `teach` is missing. It is called before boxes run."""
    for name in ("pytest", "jinja2", "yaml"):
        if importlib.util.find_spec(name) is None:
            raise CommandError(f"grading needs {name}, which is not installed: pip install 'proxybox[teach]'")


def chosen_exercise(name: str) -> "Exercise":
    """Returns a shipped exercise or that of a folder; prints a note if both have this name. Raises ExerciseError."""
    from proxybox.teach.checking import find_exercise, is_shipped

    if is_shipped(name) and os.path.lexists(name):
        message = on_one_line(name.rstrip("/"))
        print(f"proxybox: {message} comes with proxybox; the folder here is ./{message}", file=sys.stderr)
    return find_exercise(name)


def ready_guest(exercise: "Exercise", guest: str | None, packages: Sequence[str]) -> tuple[str, ...]:
    """Checks the interpreter and installs packages, once before all submissions. Returns the folders of packages.

    Raises SandboxStartError when boxes cannot start here, and PackagesError.
    """
    from proxybox import Sandbox
    from proxybox.cli.choosing import chosen_packages

    folders = chosen_packages(packages, guest)
    with Sandbox(exercise.policy, guest=guest, packages=folders, warm=False) as sandbox:
        sandbox.guest()
    return folders


def _check_formats(formats: Sequence[str]) -> None:
    from proxybox.policies.errors import nearest
    from proxybox.teach.writers import WRITERS

    for name in formats:
        if name not in WRITERS:
            meant = nearest(name, WRITERS)
            raise UsageError(
                f"--format: {name!r} is not known{f'; did you mean {meant}?' if meant else ''} ({', '.join(WRITERS)})"
            )


def _links(output: Path, submissions: Sequence[Path]) -> Iterator[Path]:
    """Yields symbolic links in the output folder's path that may have come with the submissions and lead anywhere."""
    output, brought = output.absolute(), [path.resolve() for path in submissions]
    return (
        way
        for way in (output, *output.parents)
        if way.is_symlink() and (way == output or any(way.parent.resolve().is_relative_to(path) for path in brought))
    )


def check_records(folder: Path | None, submissions: Sequence[Path]) -> None:
    """Raises UsageError for a folder of records that may lead to another place."""
    for link in () if folder is None else _links(folder, submissions):
        raise UsageError(f"--records: {on_one_line(str(link))} is a symbolic link: name the folder itself")


def _prepare(output: Path, submissions: Sequence[Path]) -> None:
    """Makes the output folder. It may exist if it is empty, or from an earlier grading."""
    from proxybox.teach.records import FILE, GradeRecords

    try:
        for link in _links(output, submissions):
            raise UsageError(f"--output: {on_one_line(str(link))} is a symbolic link: name the folder itself")
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()) and not os.path.lexists(output / FILE):
            raise UsageError(f"--output: {on_one_line(str(output))} has other files in it: name another folder")
        GradeRecords(output)
    except OSError as error:
        raise CommandError(f"can't write to {on_one_line(str(output))}: {error.strerror or error}") from None


def _graded(
    exercise: "Exercise",
    submissions: "Sequence[Submission]",
    output: Path,
    again: bool,
    *,
    executor: Executor | None,
    workers: int | None,
    guest: str | None,
    packages: Sequence[str],
    timings: bool,
    evidence: Path | None,
) -> "tuple[Grade, ...]":
    """Returns all grades: known ones, and new ones. Each new grade is written at once.

    evidence: the folder for records of tests that fail.
    """
    from proxybox.teach.grading import grade, pack
    from proxybox.teach.records import GradeRecords, key_of, surroundings

    packed, records = pack(exercise), GradeRecords(output)
    around = surroundings(exercise, guest, packages)
    more = () if evidence is None else (evidence.absolute(),)
    keys = {each.student: key_of(packed, each, around, timings, *more) for each in submissions}
    known = {} if again else {name: found for name, key in keys.items() if (found := records.find(key)) is not None}
    if evidence is not None:
        known = {name: found for name, found in known.items() if all(map(os.path.exists, _records_of(found)))}
    left = [each for each in submissions if each.student not in known]
    with shown_progress("Grading", len(submissions), len(known)) as advance:

        def take(done: "Grade") -> None:
            records.add(keys[done.student], done)
            advance()

        new = grade(exercise, left, executor=executor, workers=workers, guest=guest, packages=packages,
                    timings=timings, records=evidence, on_grade=take, on_interrupt=print_waiting)  # fmt: skip
    fresh = {each.student: each for each in new}
    return tuple(fresh.get(each.student) or known[each.student] for each in submissions)


def _records_of(grade: "Grade") -> list[str]:
    return [path for test in grade.tests for path in test.records]


def print_waiting(count: int) -> None:
    """Prints after Ctrl-C how many submissions are still being graded."""
    what = "a submission that is" if count == 1 else f"{count} submissions that are"
    print(f"\nproxybox: waiting for {what} being graded; Ctrl-C once more ends at once", file=sys.stderr, flush=True)


def _write_below(output: Path, path: Path, text: str) -> None:
    """Writes a file without following links: an existing entry, which may have come with submissions, is replaced."""
    for folder in [*reversed(path.parents)][1:]:
        if (output / folder).is_symlink():
            raise OSError(errno.ELOOP, f"{on_one_line(str(folder))} is a symbolic link")
        (output / folder).mkdir(exist_ok=True)
    temporary = output / path.parent / f".{secrets.token_hex(8)}"
    with temporary.open("x", encoding="utf-8", newline="") as file:
        try:
            file.write(text)
            file.flush()
            temporary.replace(output / path)
        except BaseException:
            temporary.unlink()
            raise


def _write(book: "GradeBook", compared: "Comparison", output: Path, formats: Sequence[str]) -> None:
    from proxybox.teach.report import render
    from proxybox.teach.writers import WRITERS

    def texts() -> Iterator[tuple[str, str]]:
        yield REPORT, render(book, compared.pairs, too_short=compared.too_short)
        for name in dict.fromkeys((*_FORMATS, *formats)):
            writer = WRITERS[name]
            folder = f"{name}/" if writer.per_submission else ""
            yield from ((folder + path, text) for path, text in writer.files(book))

    try:
        for path, text in texts():
            _write_below(output, Path(path), text)
    except OSError as error:
        raise CommandError(f"can't write {on_one_line(str(output))}: {error.strerror or error}") from None


def _print_grades(book: "GradeBook", compared: "Comparison", output: Path, *, as_json: bool) -> None:
    if as_json:
        from proxybox.teach.writers import WRITERS

        print(WRITERS["json"].render(book), end="")
        return
    alike: dict[str, str] = {}
    for pair in compared.pairs:
        alike.setdefault(pair.first, pair.second)
        alike.setdefault(pair.second, pair.first)
    for student in compared.too_short:
        alike.setdefault(student, "(too short to compare)")
    rows: list[list[Cell]] = []
    for each in book.grades:
        colour = "green" if each.status == "ok" else "red"
        rows.append([
            on_one_line(each.student),
            "none" if each.failed else f"{each.points:g} / {each.possible:g}",
            (colour, each.status.replace("_", " ")),
            "late" if each.late else "",
            on_one_line(alike.get(each.student, "")),
        ])  # fmt: skip
    head = ("Submission", "Score", "Status", "Late", "Alike")
    # Longer lines would be wrapped by a terminal.
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else ANY_WIDTH
    print(table(head, rows, columns=columns, shrinking=(0, 4), coloured=has_colours(sys.stdout)))
    full = sum(each.status == "ok" for each in book.grades)
    print(f"\n{len(rows)} submissions, {full} passed everything. More: {on_one_line(str(output / REPORT))}")
    if recorded := [path for each in book.grades for path in _records_of(each)]:
        count = "One record" if len(recorded) == 1 else f"{len(recorded)} records"
        replay = f"proxybox replay {shlex.quote(recorded[0])}"
        print(on_one_line(f"{count} of tests that failed. To see one again: {replay}"))
    if lacking := sum(any(test.unrecorded for test in each.tests) for each in book.grades):
        print(f"Of {lacking} submissions not all could be recorded: the report says of which tests.")
    for each in book.grades:
        if each.failed:
            message = f"proxybox: {each.student}: could not be graded: {each.message}"
            print(on_one_line(message), file=sys.stderr)
    for name, found in _at_fault(book).items():
        student, fault = found[0]
        message = (
            f"proxybox: the test {name!r} is at fault itself, for {len(found)} submissions, such as {student}: {fault}"
        )
        print(on_one_line(message), file=sys.stderr)


def _at_fault(book: "GradeBook") -> dict[str, list[tuple[str, str]]]:
    """Returns the tests that failed by a fault of their own; for each, the submissions and the faults."""
    from proxybox.teach.faults import summary_of

    found: dict[str, list[tuple[str, str]]] = {}
    for each in book.grades:
        for test in each.tests:
            if test.status == "internal_error":
                found.setdefault(test.name, []).append((each.student, summary_of(test.fault)))
    return found
