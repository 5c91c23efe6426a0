"""A text for a student: plain text, only a count of hidden tests, nothing about other students."""

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import FAILED, clean, line, number, only, shown

#: Characters of the output in a test that are shown.
_MOST_PRINTED = 2000


def _below(text: str) -> list[str]:
    # each line is indented, so that no text of a submission looks like a line of the report
    return [f"    {each}".rstrip() for each in text.rstrip().split("\n")] if text.strip() else []


def render(book: GradeBook) -> str:
    """For one submission: its points, and each test with its message and output."""
    grade = only(book)
    lines = [line(book.title), f"Submission: {line(grade.student)}"]
    if grade.failed:
        return "\n".join([*lines, "", FAILED, ""])
    late = ", handed in late" if grade.late else ""
    lines += [f"Score: {number(grade.points):g} of {number(grade.possible):g} points{late}", ""]
    lines += _below(clean(grade.message))
    for test in shown(grade):
        points = f" ({number(test.points):g} of {number(test.possible):g})" if test.possible else ""
        lines.append(f"{'+' if test.passed else '-'} {line(test.name)}: {test.status.replace('_', ' ')}{points}")
        lines += _below(clean(test.message))
        if test.more_output:
            lines += ["    It printed:", *_below("\n".join(_below(clean(test.more_output, _MOST_PRINTED))))]
    note = [f"  {each}" for each in clean(grade.note).split("\n")] if grade.note else []
    return "\n".join([*lines, *([""] if note else []), *note, ""])
