"""An exercise that stays ready: it grades submissions one after another, without being set up again.

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
    """An exercise with collected tests and warm boxes. One thread at a time uses it; any thread may call `stop`.

    guest, packages: as for `Sandbox`. Raises GradingError and ExerciseError if the exercise is at fault,
    SandboxStartError if no box starts.
    """

    def __init__(self, packed: Packed, *, guest: str | None = None, packages: Sequence[str] = ()) -> None:
        self._asked: queue.SimpleQueue[Submission | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Grade, bool] | BaseException] = queue.SimpleQueue()
        self._graded = Grade(student=""), False  # the first answer, when the tests are collected
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

        Raises the same errors as the class; after that, close it.
        """
        if self._ended:
            raise GradingError("this exercise is closed")
        self._asked.put(submission)
        return self._answer()

    def begin(self) -> None:
        """Cancels a `stop`, before the next submission."""
        self._tests.boxes.stopped = False

    def stop(self) -> None:
        """Ends the current sessions of the submission: its unfinished tests do not pass. Any thread may call it."""
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
        """Puts the last grade into the answers, and waits for the next submission, outside the tests' surroundings."""
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
