"""CSV (RFC 4180) for the teacher's spreadsheet: a row per submission, a column per test.

A cell that begins with = + - @ tab or CR gets an apostrophe in front, so that no spreadsheet takes it for a formula
(https://owasp.org/www-community/attacks/CSV_Injection).
"""

import csv
import io

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import line, number


def safe_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    shown = line(text)
    return "'" + shown if text[:1] in tuple("=+-@\t\r") or shown.lstrip()[:1] in tuple("=+-@") else shown


def render(book: GradeBook) -> str:
    """The whole book, hidden tests too: for teachers. The score is empty where grading failed."""
    out = io.StringIO()
    writer = csv.writer(out)
    names = book.test_names()
    head = ["student", "score", "possible", "status", "late", "submitted"]
    writer.writerow([*head, *(safe_cell(name) for name in names)])
    for grade in book.grades:
        points = {test.name: number(test.points) for test in grade.tests}
        when = grade.submitted.isoformat() if grade.submitted else ""
        score = "" if grade.failed else number(grade.points)
        row = [safe_cell(grade.student), score, number(grade.possible), grade.status, "yes" if grade.late else "", when]
        writer.writerow([*row, *("" if grade.failed else points.get(name, "") for name in names)])
    return out.getvalue()
