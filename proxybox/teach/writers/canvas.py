"""CSV for Canvas's gradebook, which reads it under Grades, Import.

Canvas finds a student by the column ID, and an assignment by its title; it asks if it finds none. For Canvas an empty
cell removes a grade: so a submission that could not be graded has no row.
"""

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import line, number
from proxybox.teach.writers.csv import MARK, row, safe_cell


def render(book: GradeBook) -> str:
    """The whole book: for each submission its author and the score."""
    rows = [row(["Student", "ID", "Section", safe_cell(line(book.title))])]
    for grade in book.grades:
        if not grade.failed:
            user = grade.id if grade.id.isdecimal() else ""
            rows.append(row([safe_cell(grade.student), user, "", number(grade.points)]))
    return MARK + "".join(rows)
