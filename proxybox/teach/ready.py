"""An exercise that stays ready: submissions are graded one after another, without all that has to be set up.

    grade ── asked ── a thread with one run of pytest (pytestrun.py) ── answers ── the grade

So the grades are those of `grading.grade_some`.
"""

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence

from proxybox.teach.grades import Grade
from proxybox.teach.pytestrun import GradingError, Packed, opened
from proxybox.teach.submissions import Submission


class ReadyExercise:
    """An exercise whose tests are collected and whose boxes are warm. One thread at a time uses it; `stop` is for any.

    guest, packages: as for `Sandbox`. Raises GradingError and ExerciseError when the exercise is at fault,
    SandboxStartError when no box starts.
    """

    def __init__(self, packed: Packed, *, guest: str | None = None, packages: Sequence[str] = ()) -> None:
        self._asked: queue.SimpleQueue[Submission | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Grade, bool] | BaseException] = queue.SimpleQueue()
        self._graded = Grade(student=""), False  # what is answered when the tests are collected
        self._ended = False
        with contextlib.ExitStack() as closing:
            self._tests = closing.enter_context(opened(packed, guest, packages))
            self._tests.boxes.base()
            self._tests.rules.check("pass\n", self._tests.exercise.rules)
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
        self._asked.put(submission)
        return self._answer()

    def begin(self) -> None:
        """Takes back a `stop`, before the next submission."""
        self._tests.boxes.stopped = False

    def stop(self) -> None:
        """Ends what runs of the submission: the tests that have not ended do not pass. From any thread."""
        self._tests.boxes.stop()

    def close(self) -> None:
        """Ends the boxes, and removes the folder."""
        self._closing.close()

    def _answer(self) -> tuple[Grade, bool]:
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            self._ended = True
            raise answer
        return answer

    def _end(self) -> None:
        self._ended = True
        self._asked.put(None)
        self._thread.join()

    # --- in the thread of pytest --------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with self._tests.surroundings:
                self._tests.grade(self._submissions(), self._keep)
        except BaseException as raised:
            error = raised
        self._answers.put(error or GradingError("the tests have ended pytest"))

    def _submissions(self) -> Iterator[Submission]:
        """Answers with the last grade, and waits for the next submission, outside of what surrounds the tests."""
        while True:
            self._tests.surroundings.__exit__()
            try:
                self._answers.put(self._graded)
                submission = self._asked.get()
            finally:
                self._tests.surroundings.__enter__()
            if submission is None:
                return
            yield submission

    def _keep(self, grade: Grade, is_stopped: bool) -> None:
        self._graded = grade, is_stopped
