"""What a grade says to a student, and to the teacher, as plain data for their pages."""

import time
from typing import Any

import attrs

from proxybox.teach.grades import Grade, Verdict
from proxybox.teach.writers.common import FAILED, clean, line, number

#: Characters of the output in a test that are told, and of its message that are kept.
_MOST_PRINTED = 4000
_MOST_MESSAGE = 8000


def results_of(grade: Grade, *, whole: bool = False, at: float | None = None) -> dict[str, Any]:
    """The results of the tests.

    Of hidden tests a student is told only how many there are and how many passed. whole: for the teacher, who is told
    everything, and for each test also whether it is hidden, and its fault. at: seconds since the epoch; now without it.

    What holds for the whole file, such as a syntax error, is told once, as the message.
    """
    tests = [] if grade.failed and not whole else [test for test in grade.tests if whole or not test.hidden]
    hidden = [] if grade.failed else [test for test in grade.tests if test.hidden]
    counted = [] if grade.failed else grade.tests
    shared = _shared(tests)
    message = "\n".join(filter(None, (grade.message or (FAILED if grade.failed else ""), shared, grade.note)))
    return {
        "at": time.time() if at is None else at,
        "passed": sum(test.passed for test in counted),
        "total": len(counted),
        "points": number(grade.points),
        "possible": number(grade.possible),
        "tests": [_told(test, shared, whole) for test in tests],
        "hidden": {"passed": sum(test.passed for test in hidden), "total": len(hidden)},
        "message": clean(message),
    }


def _told(test: Verdict, shared: str, whole: bool) -> dict[str, Any]:
    told = {
        "name": line(test.name),
        "status": test.status,
        "message": "" if shared and test.message == shared else clean(test.message),
        "output": clean(test.more_output, _MOST_PRINTED),
        "line": test.line,
        "points": number(test.points),
        "possible": number(test.possible),
    }
    return {**told, "hidden": test.hidden, "fault": clean(test.fault)} if whole else told


def _shared(tests: list[Verdict]) -> str:
    """The message of all tests that ran, where it is one and the same: the file itself could not be loaded."""
    ran = [test for test in tests if test.status != "skipped" and not (test.passed and not test.possible)]
    first = next(iter(ran), None)
    if first is None or first.status in ("ok", "wrong_answer"):
        return ""
    if len(ran) == 1 and first.status != "syntax_error":
        return ""
    return first.message if all((test.status, test.message) == (first.status, first.message) for test in ran) else ""


def bounded(grade: Grade) -> Grade:
    """The grade as it is kept: what a submission says in it is cut, and its code is kept elsewhere."""
    tests = tuple(
        attrs.evolve(
            test, message=test.message[:_MOST_MESSAGE], output=test.output[:_MOST_PRINTED],
            fault=test.fault[:_MOST_MESSAGE],
        )
        for test in grade.tests
    )  # fmt: skip
    return attrs.evolve(grade, tests=tests, code="", message=grade.message[:_MOST_MESSAGE])
