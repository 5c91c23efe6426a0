"""CSV (RFC 4180) for the teacher's spreadsheet: a row per submission, a column per test.

It begins with a byte order mark: without one, Excel does not read the file as UTF-8. Times are local, in a form that
spreadsheets recognize.

A cell that begins with = + - @ tab or CR gets an apostrophe in front, so that no spreadsheet takes it for a formula
(https://owasp.org/www-community/attacks/CSV_Injection); so does a cell whose first character is a wide or small form of
these, which some spreadsheets take for the same. Where a comma is the decimal point, spreadsheets split at semicolons:
a cell with a semicolon is quoted, and the text after each semicolon is treated like the beginning of a cell.
"""

import datetime
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import line, number

_SPECIAL = re.compile('[,;"\r\n\t]')
#: Spreadsheets skip spaces at the beginning of a cell, and quotes where they split a quoted cell at its semicolons.
_SKIPPED = re.compile(r'[\s"]*')


#: The byte order mark.
MARK: Final = "\ufeff"


def local_time(time: datetime.datetime | None) -> str:
    """A time in a form that spreadsheets recognize, in the local zone; empty for None."""
    return "" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def safe_cell(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula."""
    shown = ";".join(f"'{part}" if is_formula(part) else part for part in line(text).split(";"))
    return "'" + shown if text[:1] in ("\t", "\r") and not shown.startswith("'") else shown


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may take a cell that begins like this text for a formula."""
    return unicodedata.normalize("NFKC", _SKIPPED.sub("", text, 1)[:1])[:1] in tuple("=+-@")


def row(cells: Iterable[object]) -> str:
    """A line of the file."""
    texts = [str(cell) for cell in cells]
    return ",".join('"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text for text in texts) + "\r\n"


def render(book: GradeBook) -> str:
    """The whole book, with hidden tests: for teachers. The score is empty if grading failed."""
    names = book.test_names()
    head = ["student", "id", "score", "possible", "status", "late", "submitted"]
    rows = [row([*head, *(safe_cell(name) for name in names)])]
    for grade in book.grades:
        points = {test.name: number(test.points) for test in grade.tests}
        score = "" if grade.failed else number(grade.points)
        cells = [safe_cell(grade.student), safe_cell(grade.id), score, number(grade.possible), grade.status,
                 "yes" if grade.late else "", local_time(grade.submitted)]  # fmt: skip
        rows.append(row([*cells, *("" if grade.failed else points.get(name, "") for name in names)]))
    return MARK + "".join(rows)
