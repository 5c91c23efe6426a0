"""What every format needs: text made harmless, numbers that JSON has, hidden tests as a bare count."""

import json
import math
import re
from typing import Any

from proxybox.teach.grades import Grade, GradeBook, Verdict
from proxybox.terminal.harmless import harmless

FAILED = "Grading itself failed; this is not the submission's fault. No score was given."
_LIMIT = 20_000
#: What is left of it that XML 1.0 forbids, or that some readers take for the end of a line.
_NOT_XML = re.compile("[\r\ufffe\uffff]")


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def clean(text: str, limit: int = _LIMIT) -> str:
    """Hostile text for any format: controls, surrogates, what XML forbids and what reorders text as escapes; cut at
    `limit` characters."""
    cut = text[: limit + 1].replace("\r\n", "\n")
    shown = _NOT_XML.sub(_escape, harmless(cut))
    return shown if len(shown) <= limit else shown[: max(limit - 3, 0)] + "..."[:limit]


def line(text: str, limit: int = 500) -> str:
    """The same on one line."""
    return clean(text.replace("\n", " ").replace("\t", " "), limit)


def number(value: float) -> float:
    """A number that every format has: neither infinite nor NaN."""
    return round(float(value), 6) if math.isfinite(value) else 0.0


def share(grade: Grade) -> float:
    """What was earned of what could be, 0 to 1."""
    possible = number(grade.possible)
    return min(max(number(grade.points) / possible, 0.0), 1.0) if possible > 0 else 0.0


def shown(grade: Grade) -> list[Verdict]:
    """The tests as students may see them: the hidden ones are one line that only counts them."""
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
    """The one submission of a file that is about one."""
    (grade,) = book.grades
    return grade


def as_json(value: Any) -> str:
    """As every JSON reader takes it: no NaN, no surrogates."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n"
