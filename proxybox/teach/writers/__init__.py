"""Grades in the formats of other programs: one small module per format, each with `render(book) -> str`."""

import re
from collections.abc import Callable, Iterator

import attrs

from proxybox.teach.filenames import no_device
from proxybox.teach.grades import GradeBook
from proxybox.teach.writers import (
    canvas,
    check50,
    csv,
    dodona,
    everything,
    exercism,
    feedback,
    gradescope,
    junit,
    moodle,
    prairielearn,
    vpl,
)


@attrs.frozen
class Writer:
    """A format.

    file: the file's name. per_submission: whether a file is about one submission. for_students: whether hidden tests
    are left out, unless the format has its own visibility. hidden: how hidden tests appear, in words.
    """

    file: str
    per_submission: bool
    for_students: bool
    description: str
    render: Callable[[GradeBook], str]
    hidden: str = "counted"

    def files(self, book: GradeBook) -> Iterator[tuple[str, str]]:
        """(relative path, text) of all files; those about one submission are in a folder per student."""
        if not self.per_submission:
            yield self.file, self.render(book)
            return
        taken: set[str] = set()
        for grade in book.grades:
            # On any file system, a student's name must not lead out of the folder, nor be a device's, and no two
            # students may write the same file.
            stem = no_device(re.sub(r"[^\w.-]", "_", grade.student)[:60].strip(".") or "submission")
            name, count = stem, 1
            while name.lower() in taken:
                count += 1
                name = f"{stem}-{count}"
            taken.add(name.lower())
            yield f"{name}/{self.file}", self.render(GradeBook(title=book.title, grades=(grade,)))


#: All formats, by their names for --format. The help of --format, the choice of a classroom's teacher, and the table in
#: docs/grades.md are made from these rows.
WRITERS: dict[str, Writer] = {
    "feedback": Writer("feedback.txt", True, True, "a text for each student to read", feedback.render),
    "gradescope": Writer(
        "results.json", True, True, "Gradescope's results.json", gradescope.render, "`visibility: hidden`"
    ),
    "prairielearn": Writer(
        "results.json", True, True, "PrairieLearn's results.json, at most 1 MB", prairielearn.render
    ),
    "exercism": Writer("results.json", True, True, "Exercism's results.json, version 3", exercism.render),
    "dodona": Writer("judgement.ndjson", True, True, "Dodona's partial output", dodona.render),
    "check50": Writer("check50.json", True, True, "check50's JSON", check50.render),
    "vpl": Writer("vpl.txt", True, True, "standard output for Moodle's VPL", vpl.render),
    "junit": Writer("junit.xml", False, True, "JUnit XML, for CI", junit.render),
    "moodle": Writer("moodle.csv", False, False, "a grading worksheet for Moodle's assignments", moodle.render),
    "canvas": Writer("canvas.csv", False, False, "scores for Canvas's gradebook", canvas.render, "-"),
    "csv": Writer("grades.csv", False, False, "a row per submission, for spreadsheets", csv.render, "shown"),
    "json": Writer("grades.json", False, False, "everything, for programs", everything.render, "shown"),
}
