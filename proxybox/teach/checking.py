"""Checks that an exercise works: its model solutions pass everything, and each of its wrong solutions fails.

Its tests also run with model solutions in which a function returns None, 0, "" or [] (mutants.py): no test may be at
fault itself.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

from proxybox.policies.errors import nearest
from proxybox.teach.exercise import FILE, Exercise, ExerciseError, load_exercise
from proxybox.teach.faults import summary_of
from proxybox.teach.folders import copy_into
from proxybox.teach.grades import Grade
from proxybox.teach.grading import grade
from proxybox.teach.mutants import mutants
from proxybox.teach.submissions import Submission

_SHIPPED: Final = Path(__file__).parent / "exercises"
_TEMPLATE: Final = Path(__file__).parent / "template"


@attrs.frozen
class Check:
    """The check of one solution.

    name: such as "wrong/constant". why: what fails, in short. problem: what is wrong with the exercise; empty if
    nothing is. is_mutant: whether it is a changed model solution. These are only reported if a test has raised an
    exception of its own.
    """

    name: str
    grade: Grade
    why: str
    problem: str
    is_mutant: bool = False


def check_exercise(
    exercise: Exercise, *, workers: int | None = None, guest: str | None = None,
    packages: Sequence[str] = (), on_grade: Callable[[Grade], object] | None = None,
    on_interrupt: Callable[[int], object] | None = None,
) -> tuple[Check, ...]:  # fmt: skip
    """Grades the solutions of an exercise: the models, the wrong ones, and the starter, which must not pass either.

    Mutants of the first model come last, those on which a test has raised an exception of its own. Raises
    ExerciseError, also if there is no model solution, and GradingError.
    """
    solutions = tuple(_solutions(exercise))
    model = next((each for each in solutions if each.student.startswith("model/")), None)
    if model is None:
        raise ExerciseError.of("solutions", "there is no model solution to check with", exercise.folder / FILE)
    changed = tuple(each.submission for each in mutants(model, exercise.file))
    grades = grade(exercise, (*solutions, *changed), workers=workers, guest=guest, packages=packages, on_grade=on_grade,
                   on_interrupt=on_interrupt)  # fmt: skip
    own, others = grades[: len(solutions)], grades[len(solutions) :]
    return (*map(_check, own), *(_check_mutant(each) for each in others if any(test.fault for test in each.tests)))


def _solutions(exercise: Exercise) -> Iterator[Submission]:
    for kind, found in (("model", exercise.model_solutions()), ("wrong", exercise.wrong_solutions())):
        for each in found:
            yield attrs.evolve(each, student=f"{kind}/{each.student}")
    starter = exercise.starter_files()
    if exercise.file in starter:
        yield Submission(student="starter", files=starter)


def _check(grade: Grade) -> Check:
    failed = [test for test in grade.tests if not test.passed and test.status != "skipped"]
    reasons = [f"{test.name}: {test.status.replace('_', ' ')}" for test in failed[:1]]
    why = (
        grade.message if grade.failed else ", and ".join([*reasons, *([f"{len(failed) - 1} more"] * (len(failed) > 1))])
    )
    at_fault = next((test for test in failed if test.status == "internal_error"), None)
    problem = ""
    if grade.failed:
        problem = "it could not be graded"
    elif at_fault is not None:
        problem = f"the test {at_fault.name!r} is at fault itself: {summary_of(at_fault.fault)}"
    elif grade.student.startswith("model/"):
        problem = "a model solution that fails" if failed else ""
    elif not failed:
        problem = "it passes everything"
    return Check(grade.student, grade, why, problem)


def _check_mutant(grade: Grade) -> Check:
    """The check of a mutant. It may pass, because the tests need not test the changed function."""
    raised = [test for test in grade.tests if test.fault]
    at_fault = next((test for test in raised if test.status == "internal_error"), None)
    problem = f"the test {at_fault.name!r} is at fault itself: {summary_of(at_fault.fault)}" if at_fault else ""
    return Check(
        grade.student, grade, "; ".join(f"{test.name}: {summary_of(test.fault)}" for test in raised), problem, True
    )


# --- shipped and new exercises ----------------------------------------------------------------------------------------


def shipped_exercises() -> tuple[str, ...]:
    """The names of the exercises that come with proxybox."""
    return tuple(sorted(path.name for path in _SHIPPED.iterdir() if (path / FILE).is_file()))


def is_shipped(name: str) -> bool:
    """Whether a name means a shipped exercise, even if a shell has completed it to a folder's name."""
    return name.rstrip("/") in shipped_exercises()


def find_exercise(name: str) -> Exercise:
    """A shipped exercise by its name, or else the exercise in a folder.

    A folder in the current folder, perhaps with submissions, never replaces a shipped exercise (./NAME names it).
    Raises ExerciseError if there is no such exercise, or if it has faults.
    """
    if is_shipped(name):
        return load_exercise(_SHIPPED / name.rstrip("/"))
    meant = "" if "/" in name or Path(name).exists() else nearest(name, shipped_exercises())
    if meant:
        raise ExerciseError.of("", f"there is no such folder, and no such exercise; did you mean {meant}?", name)
    return load_exercise(Path(name))


def new_exercise(folder: Path, source: str | None = None) -> None:
    """Makes a new exercise: a small complete one, or a copy of a shipped one.

    Raises FileExistsError if something exists there already, ExerciseError for an unknown source, OSError.
    """
    if source is not None and not is_shipped(source):
        meant = nearest(source, shipped_exercises())
        hint = f"; did you mean {meant}?" if meant else ""
        raise ExerciseError.of("", f"there is no exercise {source!r} (proxybox exercise list){hint}", "--from")
    copy_into(folder, _TEMPLATE if source is None else _SHIPPED / source.rstrip("/"))
