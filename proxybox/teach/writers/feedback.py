"""What a student gets back to read: plain text, nothing of hidden tests but their count, nothing of others."""

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import FAILED, clean, line, number, only, shown

#: Characters of what a test's submission printed.
_MOST_PRINTED = 2000


def _below(text: str) -> list[str]:
    # each line of it is moved in: text of a submission looks like none of ours
    return [f"    {each}".rstrip() for each in text.rstrip().split("\n")] if text.strip() else []


def render(book: GradeBook) -> str:
    """One submission: its points, and each test with what is said of it."""
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
