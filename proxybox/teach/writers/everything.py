"""Everything as JSON, for teachers' own programs: proxybox's own format."""

from typing import Any

import attrs

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import as_json, clean, number


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return clean(value, max(len(value) * 10, 1))  # nothing is cut: an escape has at most ten characters
    if isinstance(value, float):
        return number(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def render(book: GradeBook) -> str:
    """The whole book, with hidden tests and code."""
    grades = [
        {
            **attrs.asdict(grade),
            "status": grade.status,
            "points": None if grade.failed else grade.points,
            "possible": grade.possible,
        }
        for grade in book.grades
    ]
    passed_over = [attrs.asdict(each) for each in book.passed_over]
    return as_json(_plain({"title": book.title, "grades": grades, "passed_over": passed_over}))
