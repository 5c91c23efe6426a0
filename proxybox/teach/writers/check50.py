"""check50's JSON (https://cs50.readthedocs.io/projects/check50/en/latest/json_specification/)."""

from typing import Any

from proxybox.teach.grades import GradeBook
from proxybox.teach.writers.common import FAILED, as_json, clean, line, only, shown


def render(book: GradeBook) -> str:
    """For one submission. `passed` is null for a test that was not run; there is an `error` if grading failed."""
    grade = only(book)
    top: dict[str, Any] = {"slug": line(book.title), "version": "3.3.0"}
    if grade.failed:
        return as_json({**top, "error": {"type": "InternalError", "value": FAILED, "traceback": [], "data": {}}})
    results = [
        {
            "name": line(test.name),
            "description": line(test.name),
            "passed": None if test.status == "skipped" else test.passed,
            "log": clean(test.output).split("\n") if test.output else [],
            "cause": None if test.passed else {"rationale": clean(test.message) or test.status, "help": None},
            "data": {},
            "dependency": None,
        }
        for test in shown(grade)
    ]
    return as_json({**top, "results": results})
