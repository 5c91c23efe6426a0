"""Grades for students, teachers and learning platforms.

Rule: only the `Score` of a grade counts tests and points.
"""

import time
from typing import Any

import attrs

from proxybox.classroom import answers
from proxybox.classroom.records import Checked, HandIn
from proxybox.teach.grades import Grade, Verdict
from proxybox.teach.records import CONVERTER
from proxybox.teach.writers.common import FAILED, clean, line, number, share_of

#: Characters of a test's output that are sent, and of its message that are stored.
_MOST_PRINTED = 4000
_MOST_MESSAGE = 8000


@attrs.frozen(kw_only=True)
class Score:
    """How many tests of how many have passed, and how many points of the possible ones were earned."""

    passed: int
    total: int
    points: float
    possible: float

    def as_json(self) -> answers.ScoreJson:
        """The score for pages."""
        return {"passed": self.passed, "total": self.total, "points": self.points, "possible": self.possible}

    @property
    def share(self) -> float:
        """The share of the points, 0 to 1."""
        return share_of(self.points, self.possible)


def score_of(grade: Any) -> Score | None:
    """The score of a stored grade (JSON); None without a grade, or if grading has failed."""
    if grade is None or grade["failed"]:
        return None
    return _score([(test["status"], test["points"], test["possible"]) for test in grade["tests"]])


def _score(tests: list[tuple[str, float, float]]) -> Score:
    return Score(
        passed=sum(status == "ok" for status, _, _ in tests),
        total=len(tests),
        points=number(sum(points for _, points, _ in tests)),
        possible=number(sum(possible for _, _, possible in tests)),
    )


def score_as_json(grade: Any) -> answers.ScoreJson | None:
    """The score of a stored grade, for pages; None if there is none."""
    score = score_of(grade)
    return None if score is None else score.as_json()


def mark_as_json(handed_in: HandIn, basis: str | None) -> answers.MarkJson:
    """The state of a hand-in, in short.

    basis: of the exercise's current tests. `is_outdated`: the tests have changed since the grade was given. `earlier`:
    the grade by earlier tests, if it was different.
    """
    earlier = handed_in.earlier
    return {
        "at": handed_in.at, "late": handed_in.late, "score": score_as_json(handed_in.grade), "graded": handed_in.graded,
        "is_due": handed_in.due, "has_failed": has_failed(handed_in),
        "is_outdated": is_outdated(handed_in, basis),
        "earlier": None if earlier is None else {"at": earlier.at, "score": score_as_json(earlier.grade)},
    }  # fmt: skip


def has_failed(handed_in: HandIn) -> bool:
    """Whether grading has failed, so that there is no score."""
    return handed_in.grade is not None and bool(handed_in.grade["failed"])


def is_outdated(graded: HandIn | Checked, basis: str | None) -> bool:
    """Whether the tests have changed since grading. False for grades that do not say which tests gave them."""
    return graded.grade is not None and None not in (graded.basis, basis) and graded.basis != basis


def hand_in_as_json(handed_in: HandIn, basis: str | None, *, whole: bool = False) -> answers.HandedInJson:
    """A hand-in with the results of its tests, for pages. whole: with the parts that are hidden from students."""
    results = None
    if handed_in.grade is not None:
        at = handed_in.at if handed_in.graded is None else handed_in.graded
        results = results_of(CONVERTER.structure(handed_in.grade, Grade), whole=whole, at=at)
    return {"id": handed_in.id, **mark_as_json(handed_in, basis), "results": results}


def results_as_json(checked: Checked, basis: str | None, *, whole: bool = False) -> answers.ResultsJson:
    """The results of the tests, for pages. whole: with the parts that are hidden from students."""
    results = results_of(CONVERTER.structure(checked.grade, Grade), whole=whole, at=checked.at)
    results["is_outdated"] = is_outdated(checked, basis)
    return results


def results_of(grade: Grade, *, whole: bool = False, at: float | None = None) -> answers.ResultsJson:
    """The results of the tests.

    Of hidden tests a student sees only how many there are and how many passed. whole: for the teacher, who sees
    everything, also whether a test is hidden, and its fault. at: seconds since the epoch; None: now.

    An error of the whole file, such as a syntax error, is in the message, once.
    """
    tests = [] if grade.failed and not whole else [test for test in grade.tests if whole or not test.hidden]
    hidden = [] if grade.failed else [test for test in grade.tests if test.hidden]
    counted = [] if grade.failed else [(test.status, test.points, test.possible) for test in grade.tests]
    score, shared = _score(counted), _shared(tests)
    message = "\n".join(filter(None, (grade.message or (FAILED if grade.failed else ""), shared, grade.note)))
    return {
        "at": time.time() if at is None else at,
        "passed": score.passed, "total": score.total, "points": score.points, "possible": score.possible,
        "tests": [_test_as_json(test, shared, whole) for test in tests],
        "hidden": {"passed": sum(test.passed for test in hidden), "total": len(hidden)},
        "message": clean(message),
    }  # fmt: skip


def _test_as_json(test: Verdict, shared: str, whole: bool) -> answers.TestResultJson:
    body: answers.TestResultJson = {
        "name": line(test.name),
        "status": test.status,
        "message": "" if shared and test.message == shared else clean(test.message),
        "output": clean(test.more_output, _MOST_PRINTED),
        "line": test.line,
        "points": number(test.points),
        "possible": number(test.possible),
    }
    return {**body, "hidden": test.hidden, "fault": clean(test.fault)} if whole else body


def _shared(tests: list[Verdict]) -> str:
    """The common message of all tests that ran, if all have the same: the file itself could not be loaded."""
    ran = [test for test in tests if test.status != "skipped" and not (test.passed and not test.possible)]
    first = next(iter(ran), None)
    if first is None or first.status in ("ok", "wrong_answer"):
        return ""
    if len(ran) == 1 and first.status != "syntax_error":
        return ""
    return first.message if all((test.status, test.message) == (first.status, first.message) for test in ran) else ""


def bounded(grade: Grade) -> Grade:
    """The grade as it is stored: texts of the submission are cut, and its code is stored elsewhere."""
    tests = tuple(
        attrs.evolve(
            test, message=test.message[:_MOST_MESSAGE], output=test.output[:_MOST_PRINTED],
            fault=test.fault[:_MOST_MESSAGE],
        )
        for test in grade.tests
    )  # fmt: skip
    return attrs.evolve(grade, tests=tests, code="", message=grade.message[:_MOST_MESSAGE])
