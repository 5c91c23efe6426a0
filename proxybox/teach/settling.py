"""Decides whether the test or the submission is the cause of an exception in a test.

A test depends only on the submission. So if it raises no exception with a model solution, the other submission is the
cause of its exception. If it raises with each model solution, too, the test is at fault. Without a model solution, the
verdict of `verdicts` stays; it depends on the exception and its place.
"""

import contextlib
from collections.abc import Sequence
from typing import Final

import attrs

from proxybox.teach.exercise import Exercise, ExerciseError
from proxybox.teach.grades import Verdict
from proxybox.teach.submissions import Submission

AT_FAULT: Final = "The test itself is at fault, and not this program."
#: The most model solutions that are tested.
_MOST_MODELS = 3
#: The verdicts of one submission, in the order of the tests.
Verdicts = Sequence[Verdict]


def models_of(exercise: Exercise) -> tuple[Submission, ...]:
    """The model solutions that are tested."""
    with contextlib.suppress(ExerciseError):
        return exercise.model_solutions()[:_MOST_MODELS]
    return ()


def is_open(verdicts: Verdicts) -> bool:
    """Whether the tests have to run with the model solutions to decide a verdict."""
    return any(each.fault and each.answers for each in verdicts)


def settled(verdicts: Verdicts, models: Sequence[Verdicts]) -> Verdicts:
    """The verdicts with the decision. models: the verdicts of the model solutions."""
    known = [each for each in models if [test.name for test in each] == [test.name for test in verdicts]]
    return [_settled(test, [each[place] for each in known]) for place, test in enumerate(verdicts)]


def by_use(verdict: Verdict) -> Verdict:
    """The verdict if the cause of the test's exception was its use of the submission's answers."""
    return attrs.evolve(verdict, status="wrong_answer", message=verdict.answers)


def _by_fault(verdict: Verdict) -> Verdict:
    return attrs.evolve(verdict, status="internal_error", message=AT_FAULT)


def _settled(verdict: Verdict, models: Verdicts) -> Verdict:
    if not models or not verdict.fault or not verdict.answers:
        return verdict
    return _by_fault(verdict) if all(each.fault for each in models) else by_use(verdict)
