"""Whose exception it was that a test has raised: the test's, or the submission's.

A test sees nothing but the submission. So where it goes on well with a model solution, what it raises with another
submission comes from there, and where it raises with each model solution, too, the test is at fault. An exercise that
has no model solution leaves the verdict as `verdicts` has given it, by what was raised and where.
"""

import contextlib
from collections.abc import Sequence
from typing import Final

import attrs

from proxybox.teach.exercise import Exercise, ExerciseError
from proxybox.teach.grades import Verdict
from proxybox.teach.submissions import Submission

AT_FAULT: Final = "The test itself is at fault, and not this program."
#: The most model solutions that are tried.
_MOST_MODELS = 3
#: The verdicts of one submission, in the order of the tests.
Verdicts = Sequence[Verdict]


def models_of(exercise: Exercise) -> tuple[Submission, ...]:
    """The model solutions that are tried."""
    with contextlib.suppress(ExerciseError):
        return exercise.model_solutions()[:_MOST_MODELS]
    return ()


def is_open(verdicts: Verdicts) -> bool:
    """Whether there is anything to settle, for which the tests have to run with the model solutions."""
    return any(each.fault and each.answers for each in verdicts)


def settled(verdicts: Verdicts, models: Sequence[Verdicts]) -> Verdicts:
    """The verdicts, settled. models: those of the model solutions."""
    known = [each for each in models if [test.name for test in each] == [test.name for test in verdicts]]
    return [_settled(test, [each[place] for each in known]) for place, test in enumerate(verdicts)]


def by_use(verdict: Verdict) -> Verdict:
    """The verdict where the test's exception came from the use of what the submission had answered."""
    return attrs.evolve(verdict, status="wrong_answer", message=verdict.answers)


def _by_fault(verdict: Verdict) -> Verdict:
    return attrs.evolve(verdict, status="internal_error", message=AT_FAULT)


def _settled(verdict: Verdict, models: Verdicts) -> Verdict:
    if not models or not verdict.fault or not verdict.answers:
        return verdict
    return _by_fault(verdict) if all(each.fault for each in models) else by_use(verdict)
