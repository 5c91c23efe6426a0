"""Gradescope's results.json (https://gradescope-autograders.readthedocs.io/en/latest/specs/)."""

from typing import Any

from proxybox.teach.grades import GradeBook, Verdict
from proxybox.teach.writers.common import FAILED, as_json, clean, line, number, only


def _test(test: Verdict) -> dict[str, Any]:
    text = "\n\n".join(part for part in (clean(test.message), clean(test.output)) if part)
    return {
        "name": line(test.name),
        "name_format": "text",
        "score": number(test.points),
        "max_score": number(test.possible),
        "status": "passed" if test.passed else "failed",
        "output": text,
        "output_format": "text",
        "visibility": "hidden" if test.hidden else "visible",
    }


def render(book: GradeBook) -> str:
    """For one submission. Hidden tests have `visibility: hidden`.

    If grading failed, there is no score, and the output says so.
    """
    grade = only(book)
    top = {"output_format": "text", "visibility": "visible", "stdout_visibility": "hidden"}
    if grade.failed:
        return as_json({"output": FAILED, **top})
    return as_json(
        {
            "score": number(grade.points),
            "execution_time": number(grade.seconds),
            "output": clean(grade.message),
            **top,
            "tests": [_test(test) for test in grade.tests],
        }
    )
