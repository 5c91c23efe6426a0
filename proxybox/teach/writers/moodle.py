"""CSV as Moodle's grading worksheet, which an assignment reads under "Upload grading worksheet".

Moodle finds a submission by the first column, and takes "-" for a grade that was never given before: one that was given
since is replaced only if the teacher selects that. It reads the names of columns in its own language: these are
English.
"""

import html
import re

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers import feedback
from proxybox.teach.writers.common import number
from proxybox.teach.writers.csv import MARK, is_formula, local_time, row, safe_cell

_HEAD = ("Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (submission)", "Last modified (grade)",
         "Feedback comments")  # fmt: skip
_BEHIND_A_SEMICOLON = re.compile(r";[^\w;]+")


def render(book: GradeBook) -> str:
    """The whole book: for each submission its score, and as a comment the text of the format feedback."""
    rows = [row(_HEAD)]
    for grade in book.grades:
        user = f"Participant {grade.id}" if grade.id.isdecimal() else ""
        score = "" if grade.failed else number(grade.points)
        when = local_time(grade.submitted) or "-"
        comment = "" if grade.failed else _comment(GradeBook(title=book.title, grades=(grade,)))
        rows.append(row([user, safe_cell(grade.student), score, number(grade.possible), when, "-", comment]))
    return MARK + "".join(rows)


def _comment(book: GradeBook) -> str:
    """The feedback in HTML, which Moodle shows it as; its text may be a submission's.

    A spreadsheet that splits at semicolons (csv.py) sees a new cell after each of HTML's entities, and a new row after
    each end of a line. So there are no ends of lines, and no formula follows a semicolon.
    """
    text = html.escape(feedback.render(book).strip()).replace("\n", "<br>")
    return f"<pre>{_BEHIND_A_SEMICOLON.sub(_without_formulas, text)}</pre>"


def _without_formulas(signs: re.Match[str]) -> str:
    return "".join(f"&#{ord(each)};" if is_formula(each) else each for each in signs[0])
