"""No verdict is false: each is the same as without proxybox.

Right solutions, wrong ones, and solutions with a missing return, in twenty exercises as courses have them (twenty.py).
"""

import attrs
import pytest

from proxybox.teach.grading import Packed, Task, grade_some
from proxybox.teach.mutants import mutants
from proxybox.teach.submissions import Submission
from tests.teach.twenty import TWENTY, Small, holds, in_a_test

LIMITS = "[limits]\ncpu_time = 2\nwall_time = 6\n"


def handed_in(small: Small) -> tuple[Submission, ...]:
    """Returns the submissions of a class: the right solution, wrong ones, and the right one with useless returns."""
    model = Submission(student="right", files={"solution.py": small.right.encode()})
    wrong = [
        Submission(student=f"wrong {n}", files={"solution.py": code.encode()}) for n, code in enumerate(small.wrong)
    ]
    return (model, *wrong, *(each.submission for each in mutants(model, "solution.py")))


def exercise_of(small: Small, *, has_model: bool) -> Packed:
    tests = ["import datetime"]
    for place, case in enumerate(small.cases):
        body = in_a_test(small, case).replace("\n", "\n    ")
        tests.append(f"def test_{place}(student):\n    {body}\n")
    files = {
        "exercise.toml": f"title = 'T'\ntext = 'T.'\n{LIMITS}".encode(),
        "tests/test_it.py": "\n".join(tests).encode(),
    }
    return Packed(files | ({"solutions/model.py": small.right.encode()} if has_model else {}))


@pytest.mark.parametrize("small", TWENTY, ids=lambda small: small.name)
@pytest.mark.sized(2)
@pytest.mark.parametrize("has_model", [True, False])
def test_verdicts_are_those_of_python(small: Small, has_model: bool) -> None:
    given = handed_in(small)
    grades = grade_some(Task(exercise=exercise_of(small, has_model=has_model), submissions=given))
    for submission, grade in zip(given, grades, strict=True):
        code = submission.files["solution.py"].decode()
        for case, test in zip(small.cases, grade.tests, strict=True):
            assert test.passed is at_home(code, case), (submission.student, case, test)
            assert test.status != "internal_error", (submission.student, case, test)
            assert test.passed or test.message or case.startswith("assert"), (submission.student, case, test)


def at_home(code: str, case: str) -> bool:
    """Returns whether a case holds without proxybox; a loop without an end is not tried."""
    return "while True: yield" not in code and holds(code, case)


def test_they_are_twenty_and_more_than_61_submissions() -> None:
    assert len(TWENTY) == 20
    assert sum(len(handed_in(small)) for small in TWENTY) > 61
    for small in TWENTY:
        assert all(holds(small.right, case) for case in small.cases), small.name
        assert not any(all(at_home(code, case) for case in small.cases) for code in small.wrong), small.name
        assert attrs.evolve(small) == small
