"""The output for Moodle's VPL, on standard output (https://vpl.dis.ulpgc.es/documentation/vpl-3.4.3+/)."""

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import FAILED, clean, line, number, only, shown


def _comments(text: str, mark: str = "") -> list[str]:
    # each line gets a prefix: a line that begins with text of a submission could be "Grade :=>> 100"
    return [f"Comment :=>> {mark}{part}" for part in clean(text).split("\n")] if text else []


def render(book: GradeBook) -> str:
    """For one submission; the grade is its points. There is no grade line if grading failed."""
    grade = only(book)
    if grade.failed:
        return "\n".join(_comments(FAILED)) + "\n"
    lines = _comments(grade.message)
    for test in shown(grade):
        points = f"{number(test.points):g}/{number(test.possible):g}"
        lines.append(f"Comment :=>> - {line(test.name)}: {test.status.replace('_', ' ')} ({points})")
        lines += _comments(test.message, ">") + _comments(test.output, ">")
    return "\n".join([*lines, f"Grade :=>> {number(grade.points):g}"]) + "\n"
