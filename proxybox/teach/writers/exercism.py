"""Exercism's results.json, version 3 (https://exercism.org/docs/building/tooling/test-runners/interface)."""

from typing import Any

from proxybox.teach.grades import GradeBook, Verdict
from proxybox.teach.writers.common import FAILED, as_json, clean, line, only, shown

_STATUS = {"ok": "pass", "wrong_answer": "fail"}


def _test(test: Verdict) -> dict[str, str]:
    status = _STATUS.get(test.status, "error")
    message = "" if status == "pass" else clean(test.message, 65_535) or test.status.replace("_", " ")
    item = {"name": line(test.name), "status": status, "message": message, "output": clean(test.output, 500)}
    return {key: value for key, value in item.items() if value}


def render(book: GradeBook) -> str:
    """For one submission. The status is "error" with a message if no test could run; skipped tests are left out.

    If grading failed, a runner should also exit with a status other than 0.
    """
    grade = only(book)
    tests = [_test(test) for test in shown(grade) if test.status != "skipped"]
    message = ""
    if grade.failed:
        message = FAILED
    elif grade.status in ("syntax_error", "forbidden") or not tests:
        message = clean(grade.message, 65_535) or next(
            (t["message"] for t in tests if "message" in t), "no test was run"
        )
    if message:
        return as_json({"version": 3, "status": "error", "message": message})
    passed = all(test["status"] == "pass" for test in tests)
    top: dict[str, Any] = {"version": 3, "status": "pass" if passed else "fail"}
    return as_json({**top, "tests": tests})
