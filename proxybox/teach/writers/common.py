"""Common parts of the formats: text made harmless, numbers that JSON has, hidden tests reduced to a count."""

import json
import math
import re
from typing import Any

from proxybox.teach.grades import Grade, GradeBook, Verdict
from proxybox.terminal.harmless import harmless

FAILED = "Grading itself failed; this is not the submission's fault. No score was given."
_LIMIT = 20_000
#: Characters that `harmless` does not change, but that XML 1.0 forbids or some readers take for the end of a line.
_NOT_XML = re.compile("[\r\ufffe\uffff]")


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def clean(text: str, limit: int = _LIMIT) -> str:
    """Makes hostile text fit for any format, and cuts it at `limit` characters.

    Controls, surrogates, characters that XML forbids and those that reorder text become escapes.
    """
    cut = text[: limit + 1].replace("\r\n", "\n")
    shown = _NOT_XML.sub(_escape, harmless(cut))
    return shown if len(shown) <= limit else shown[: max(limit - 3, 0)] + "..."[:limit]


def line(text: str, limit: int = 500) -> str:
    """Like `clean`, on one line."""
    return clean(text.replace("\n", " ").replace("\t", " "), limit)


def number(value: float) -> float:
    """A number that every format has: neither infinite nor NaN."""
    return round(float(value), 6) if math.isfinite(value) else 0.0


def share(grade: Grade) -> float:
    """The earned share of the possible points, 0 to 1."""
    return share_of(grade.points, grade.possible)


def share_of(points: float, possible: float) -> float:
    """The share of points that were counted already."""
    possible = number(possible)
    return min(max(number(points) / possible, 0.0), 1.0) if possible > 0 else 0.0


def shown(grade: Grade) -> list[Verdict]:
    """The tests as students may see them: one line replaces all hidden tests and counts them."""
    tests = [test for test in grade.tests if not test.hidden]
    hidden = [test for test in grade.tests if test.hidden]
    if hidden:
        passed = sum(test.passed for test in hidden)
        tests.append(
            Verdict(
                name="hidden tests",
                status="ok" if passed == len(hidden) else "wrong_answer",
                points=sum(test.points for test in hidden),
                possible=sum(test.possible for test in hidden),
                message=f"{passed} of {len(hidden)} passed",
            )
        )
    return tests


def only(book: GradeBook) -> Grade:
    """The only grade in a book, for a file about one submission."""
    (grade,) = book.grades
    return grade


def as_json(value: Any) -> str:
    """JSON that every reader accepts: no NaN, no surrogates."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n"
