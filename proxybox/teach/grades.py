"""The result of grading: plain data, from which every writer and report starts.

Statuses are words of `proxybox.Status` (other systems spell them differently: writers/), and these: "ok": a test that
passed; "wrong_answer": a test that ran and did not pass; "skipped": a test that was not run; "forbidden": a submission
that breaks a rule of the exercise.
"""

import datetime
from collections.abc import Iterable

import attrs

STATUSES = (
    "ok", "wrong_answer", "skipped", "forbidden", "syntax_error", "error", "crashed", "time_limit", "memory_limit",
    "output_limit", "disk_limit", "call_limit", "denied", "misbehaved", "cancelled", "internal_error", "overloaded",
)  # fmt: skip

#: The words before printed text in a message.
PRINTED = "It printed:\n"


def _known(_: object, attribute: "attrs.Attribute[str]", value: str) -> None:
    if value not in STATUSES:
        raise ValueError(f"{attribute.name}: {value!r} is no status")


@attrs.frozen(kw_only=True)
class Verdict:
    """The result of one test.

    name: for people, unique in its submission. points: the earned ones, of `possible`. message: to the author of the
    submission: the call, the result, the expected result; nothing of the teacher's source. output: the submission's
    output during the test, made harmless. hidden: whether the submission's author may only see that the test exists.
    seconds: of wall time. line: of the submission, if the message refers to one. fault: only for teachers, if the test
    itself has raised an exception: the exception and the lines that led to it. The status says whether the test is at
    fault, or could not use the submission's answer. answers: these answers, in words for the author. records: only for
    teachers, the paths of the records of a failed test. unrecorded: only for teachers, why there is no record of a part
    of it.
    """

    name: str
    status: str = attrs.field(validator=_known)
    points: float = 0.0
    possible: float = 1.0
    message: str = ""
    output: str = ""
    hidden: bool = False
    seconds: float = 0.0
    line: int | None = None
    fault: str = ""
    answers: str = ""
    records: tuple[str, ...] = ()
    unrecorded: str = ""

    @property
    def passed(self) -> bool:
        """Whether the test passed."""
        return self.status == "ok"

    @property
    def more_output(self) -> str:
        """The output of a test that did not pass, unless its message already ends in all of it."""
        is_said = self.passed or self.message.endswith(f"{PRINTED}{self.output.rstrip()}")
        return "" if is_said or not self.output.strip() else self.output


@attrs.frozen(kw_only=True)
class Grade:
    """The grade of one submission.

    student: its author, as the folder or the download names them. id: the author's number or name on the platform from
    which it was downloaded. source: where it was found. message: about the whole submission, such as a syntax error.
    submitted: when, None if that is not known. late: after the deadline, or as the platform says. code: the main file's
    text, for reports and comparison. seconds: of wall time. failed: whether grading itself failed; then there is no
    score. note: further information for the reader, such as the lines of a notebook that were left out.
    """

    student: str
    id: str = ""
    source: str = ""
    tests: tuple[Verdict, ...] = ()
    message: str = ""
    submitted: datetime.datetime | None = None
    late: bool = False
    code: str = ""
    seconds: float = 0.0
    failed: bool = False
    note: str = ""

    @property
    def points(self) -> float:
        """The points that were earned."""
        return sum(test.points for test in self.tests)

    @property
    def possible(self) -> float:
        """The points that are possible."""
        return sum(test.possible for test in self.tests)

    @property
    def status(self) -> str:
        """One word for the whole submission.

        It is the status of the first test that did not pass; "ok" if all passed; "internal_error" if grading itself
        failed.
        """
        if self.failed:
            return "internal_error"
        return next((test.status for test in self.tests if not test.passed and test.status != "skipped"), "ok")


@attrs.frozen(kw_only=True)
class PassedOver:
    """Something among the submissions that is not a submission. path: where it was found. why: in words."""

    path: str
    why: str


def _grades(grades: Iterable[Grade]) -> tuple[Grade, ...]:
    return tuple(grades)


@attrs.frozen(kw_only=True)
class GradeBook:
    """All grades of an exercise, in order. passed_over: what was found beside the submissions."""

    title: str
    grades: tuple[Grade, ...] = attrs.field(converter=_grades)
    passed_over: tuple[PassedOver, ...] = ()

    def test_names(self) -> tuple[str, ...]:
        """The names of the tests, in the order in which they first appear."""
        return tuple(dict.fromkeys(test.name for grade in self.grades for test in grade.tests))
