"""The test of an exercise that has data: each case is the input of one run, and its expected output.

It is collected together with the exercise's own tests (grading.py); plugin.Grader provides `case`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proxybox.teach.exercise import DataCase


def test_data(run_student: Any, case: "DataCase") -> None:
    """The data"""
    run = run_student(stdin=case.input, prompts=case.prompts)
    run.expect_output(case.answer.decode("utf-8", "replace"), tolerance=case.float_tolerance)
