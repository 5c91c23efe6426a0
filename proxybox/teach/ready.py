"""An exercise that stays ready: submissions are graded one after another, without all that has to be set up.

    grade ── asks ── a thread with one run of pytest, whose tests run once for each submission ── answers ── the grade

Rule: the grades are those of `grading.grade_some`. As there, the modules of the tests are imported once and serve many
submissions; fixtures, also those of a session, begin anew with each.
"""

import contextlib
import queue
import threading
from collections.abc import Sequence

import attrs

from proxybox.teach.boxes import NOT_RUN, StudentBoxes
from proxybox.teach.grades import Grade, Verdict
from proxybox.teach.grading import (
    GradingError,
    Packed,
    Surroundings,
    boxes_of,
    grade_of,
    run_tests,
    unpacked,
)
from proxybox.teach.plugin import Grader
from proxybox.teach.rules import RuleBox
from proxybox.teach.settling import Verdicts, models_of, settled
from proxybox.teach.submissions import Submission

#: What the author of a submission is told about the test that ran when it was stopped.
STOPPED = (
    "The tests took too much time and were ended here. Is there a loop that goes on for ever, or does it wait for "
    "input?"
)


class ReadyExercise:
    """An exercise whose tests are collected and whose boxes are warm. One thread at a time uses it; `stop` is for any.

    guest, packages: as for `Sandbox`. Raises GradingError and ExerciseError when the exercise is at fault,
    SandboxStartError when no box starts.
    """

    def __init__(self, packed: Packed, *, guest: str | None = None, packages: Sequence[str] = ()) -> None:
        self._asks: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._verdicts: list[Verdict] = []
        self._models: Sequence[Verdicts] | None = None
        self._ended = False
        with contextlib.ExitStack() as closing:
            self._exercise = closing.enter_context(unpacked(packed))
            self._boxes: StudentBoxes = closing.enter_context(
                boxes_of(self._exercise, (Submission(student=""),), guest=guest, packages=packages)
            )
            self._rules = closing.enter_context(RuleBox(guest))
            self._boxes.base()
            self._rules.check("pass\n", self._exercise.rules)
            self._around = Surroundings(self._exercise.folder)
            self._thread = threading.Thread(target=self._run, name="proxybox-tests", daemon=True)
            self._thread.start()
            closing.callback(self._end)
            self._answer()
            self._closing = closing.pop_all()

    def grade(self, submission: Submission) -> tuple[Grade, bool]:
        """The grade of a submission, and whether it was stopped before all tests had run.

        Raises as the class does; after that, close it.
        """
        if self._ended:
            raise GradingError("this exercise is closed")
        self._test(submission)
        is_stopped = self._boxes.stopped
        verdicts = self._verdicts if is_stopped else settled(self._verdicts, self._of_models)
        return grade_of(self._exercise, submission, verdicts, False, self._rules), is_stopped

    def begin(self) -> None:
        """Takes back a `stop`, before the next submission."""
        self._boxes.stopped = False

    def stop(self) -> None:
        """Ends what runs of the submission: the tests that have not ended do not pass. From any thread."""
        self._boxes.stop()

    def close(self) -> None:
        """Ends the boxes, and removes the folder."""
        self._closing.close()

    def _test(self, submission: Submission) -> None:
        self._boxes.submissions = (submission,)
        self._verdicts = []
        self._asks.put(True)
        self._answer()

    def _of_models(self) -> Sequence[Verdicts]:
        """The verdicts of the model solutions, made when they are first needed; empty where that was stopped."""
        if self._models is None:
            found = []
            for model in models_of(self._exercise):
                self._test(model)
                if self._boxes.stopped:
                    return ()
                found.append(self._verdicts)
            self._models = found
        return self._models

    def _answer(self) -> None:
        error = self._answers.get()
        if error is not None:
            self._ended = True
            raise error

    def _end(self) -> None:
        self._ended = True
        self._asks.put(False)
        self._thread.join()

    # --- in the thread of pytest --------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with self._around:
                run_tests(self._exercise, self._boxes, self._tell, self._next)
        except BaseException as raised:
            error = raised
        self._answers.put(error or GradingError("the tests have ended pytest"))

    def _tell(self, _: int, verdict: Verdict) -> None:
        if self._boxes.stopped and not verdict.passed:
            is_first = all(each.message != STOPPED for each in self._verdicts)
            status, message = ("time_limit", STOPPED) if is_first else ("skipped", NOT_RUN)
            verdict = attrs.evolve(verdict, status=status, points=0.0, message=message, line=None, fault="", answers="")
        self._verdicts.append(verdict)

    def _next(self, grader: Grader) -> bool:
        """Gives back what the tests have found, and waits for the next submission."""
        if self._boxes.stopped:
            grader.broken.clear()  # by the stop
        if grader.faults or grader.broken:
            return False  # then `run_tests` raises the error
        self._around.__exit__()
        try:
            self._answers.put(None)
            return self._asks.get()
        finally:
            self._around.__enter__()
