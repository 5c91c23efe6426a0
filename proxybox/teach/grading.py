"""Grades many submissions: tasks for any Executor, each of which is one run of pytest in a worker's process.

A task contains all that it needs, including the exercise's files. So a worker needs nothing but proxybox, and a worker
on another machine returns the same grades. Grades are returned as plain data.

Rules: whatever happens to a worker, every submission gets a grade, even if it only says that grading failed. A fault of
the exercise itself ends everything with a GradingError, because every grade would be wrong.
"""

import contextlib
import functools
import gc
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

import attrs

from proxybox.batch.carriers import Executors, cpu_count
from proxybox.batch.clusters import Dask, client_of
from proxybox.batch.engine import BatchEngine, Carrier
from proxybox.controller.guests.finding import absolute_guest, find_guest
from proxybox.controller.guests.guest import require_bootstrap
from proxybox.controller.perprocess import PerProcess
from proxybox.errors import BatchError
from proxybox.pool.executor import Processes
from proxybox.teach.exercise import Exercise, ExerciseError
from proxybox.teach.grades import Grade
from proxybox.teach.pytestrun import RULES as RULES
from proxybox.teach.pytestrun import GradingError as GradingError
from proxybox.teach.pytestrun import Packed as Packed
from proxybox.teach.pytestrun import digest_of as digest_of
from proxybox.teach.pytestrun import opened
from proxybox.teach.submissions import Submission

#: The first and the largest number of submissions of a task. A task takes some tenths of a second before it grades its
#: first submission. So later tasks have as many as are graded in _TASK_SECONDS; in longer tasks the progress would
#: jump.
_CHUNK, _MOST_CHUNK = 10, 50
_TASK_SECONDS = 2.0
#: How often a submission is graded again, alone, if its worker dies.
_TRIES = 3
_MOST_OF_EXERCISE, _MOST_FILES = 256 << 20, 20_000
_NO_CONTENT = ("__pycache__", ".git", ".hg", ".venv", ".DS_Store")


# --- data for workers -------------------------------------------------------------------------------------------------


def pack(exercise: Exercise) -> Packed:
    """The exercise as data for workers. Raises GradingError if it is too large."""
    files: dict[str, bytes] = {}
    total = 0
    for path, folders, names in os.walk(exercise.folder, followlinks=True):
        folders[:] = sorted(set(folders) - set(_NO_CONTENT))
        for name in sorted(set(names) - set(_NO_CONTENT)):
            whole = Path(path, name)
            if not whole.is_file():
                continue
            total += whole.stat().st_size
            if total > _MOST_OF_EXERCISE or len(files) >= _MOST_FILES:
                most = f"{_MOST_OF_EXERCISE >> 20} MiB or {_MOST_FILES:,} files"
                raise GradingError(f"{exercise.folder}: more than {most}, or a link that leads back into it")
            files[whole.relative_to(exercise.folder).as_posix()] = whole.read_bytes()
    return Packed(files, exercise.over)


@attrs.frozen(kw_only=True)
class Task:
    """Some submissions of an exercise.

    guest, packages: as for `Sandbox`. timings: whether grades report the time they took, which differs from run to run.
    records: the folder for records of failed tests.
    """

    exercise: Packed
    submissions: tuple[Submission, ...]
    guest: str | None = None
    packages: tuple[str, ...] = ()
    timings: bool = False
    records: str | None = None


# --- in a worker ------------------------------------------------------------------------------------------------------

#: At most one run of pytest at a time in a process: workers may be threads.
_one_run = PerProcess(threading.Lock)


def grade_some(task: Task) -> tuple[Grade, ...]:
    """The grades of a task, in its order.

    Raises GradingError if the exercise is at fault, SandboxStartError if no box starts.
    """
    grades: list[Grade] = []
    with _one_run(), opened(task.exercise, task.guest, task.packages, task.records) as run, run.surroundings:
        run.grade(iter(task.submissions), lambda grade, _: grades.append(grade), timings=task.timings)
    return tuple(grades)


# --- in the process that distributes tasks ----------------------------------------------------------------------------


def grade(
    exercise: Exercise,
    submissions: Sequence[Submission],
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    guest: str | None = None,
    packages: Sequence[str] = (),
    timings: bool = False,
    records: str | os.PathLike[str] | None = None,
    on_grade: Callable[[Grade], object] | None = None,
    on_interrupt: Callable[[int], object] | None = None,
) -> tuple[Grade, ...]:
    """The grades of all submissions, in their order.

    executor: any Executor; it gets `grade_some` with tasks, and is not shut down. Without one, processes on this
    machine do the work. guest, packages: as for `Sandbox`. workers: how many work at once; without it, as many as there
    are CPUs, or threads of a cluster's workers. records: a folder for the records of failed tests; the workers have to
    share it (docs/teaching.md). on_grade: called with each grade when it is known.

    At Ctrl-C the running tasks are finished, and then KeyboardInterrupt is raised; at the second Ctrl-C it is raised at
    once. on_interrupt: called at the first Ctrl-C with the number of submissions in the running tasks. Raises
    GradingError if the exercise or the workers are at fault, SandboxStartError for a guest that grades nothing.
    """
    grading = _Grading(
        submissions=submissions,
        task=Task(
            exercise=pack(exercise),
            submissions=(),
            guest=guest and absolute_guest(guest),
            packages=tuple(map(os.path.abspath, packages)),
            timings=timings,
            records=None if records is None else os.path.abspath(records),
        ),
        on_grade=on_grade or (lambda _: None),
        on_interrupt=on_interrupt or (lambda _: None),
    )
    if executor is None and submissions:
        require_bootstrap(find_guest(guest))  # reported once, and not by each submission
    try:
        with _carrier(executor, workers) as carrier:
            grading.work(carrier)
    except BatchError as error:
        raise GradingError(str(error)) from None
    grading.give_up("its executor has ended")
    return tuple(grading.grades[number] for number in range(len(submissions)))


@contextlib.contextmanager
def _carrier(executor: Executor | None, workers: int | None) -> Iterator[Carrier]:
    """Sends tasks to workers. Raises BatchError for a cluster whose workers are unsafe."""
    with contextlib.ExitStack() as closing:
        client = client_of(executor)
        if client is not None:
            dask = Dask(client, workers)
            closing.callback(dask.close)
            yield dask
        else:
            workers = workers or cpu_count()
            yield Executors(closing.enter_context(local_pool(workers)) if executor is None else executor, workers)


@attrs.define(kw_only=True)
class _Grading:
    """The state of grading: the finished grades, by the number of the submission."""

    submissions: Sequence[Submission]
    task: Task
    on_grade: Callable[[Grade], object]
    on_interrupt: Callable[[int], object]
    grades: dict[int, Grade] = attrs.field(factory=dict)

    def work(self, carrier: Carrier) -> None:
        """Grades until all submissions are graded, or the executor is broken."""
        engine: BatchEngine[Submission, Grade] = BatchEngine(
            items=iter(self.submissions),
            carrier=carrier,
            work=grade_some,
            pack=lambda some: attrs.evolve(self.task, submissions=tuple(some)),
            give_up=lambda _, submission, error: _failed(submission, f"{type(error).__name__}: {error}"),
            is_fatal=lambda error: isinstance(error, GradingError | ExerciseError | BatchError | KeyboardInterrupt),
            retries=_TRIES,
            total=len(self.submissions),
            chunk=_CHUNK,
            most_chunk=_MOST_CHUNK,
            seconds=_TASK_SECONDS,
        )
        interrupted = False
        while engine.is_unfinished:
            try:
                for number, each in engine.step():
                    self._add(number, each)
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                if waited_for := engine.stop():
                    self.on_interrupt(waited_for)
        if interrupted:
            raise KeyboardInterrupt

    def _add(self, number: int, grade: Grade) -> None:
        self.grades[number] = grade
        self.on_grade(grade)

    def give_up(self, why: str) -> None:
        """Gives each ungraded submission a grade that says why grading failed."""
        for number, submission in enumerate(self.submissions):
            if number not in self.grades:
                self._add(number, _failed(submission, why))


def _failed(submission: Submission, why: str) -> Grade:
    return Grade(student=submission.student, id=submission.id, source=submission.source, message=why, failed=True)


@contextlib.contextmanager
def local_pool(workers: int) -> Iterator[Processes]:
    """A pool of processes on this machine.

    After an exception, the running processes are ended. Their temporary files are removed afterwards, also those of a
    process that was killed.
    """
    with tempfile.TemporaryDirectory(prefix="proxybox-grading-") as folder:
        begin, leave = functools.partial(begin_worker, folder), functools.partial(leave_worker, folder)
        pool = Processes(workers, prepare=begin, leave=leave)
        try:
            yield pool
        except BaseException:
            pool.end()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def begin_worker(folder: str) -> None:
    """Imports what every task needs before the first task arrives, and excludes it from garbage collection."""
    tempfile.tempdir = tempfile.mkdtemp(dir=folder)
    import pytest  # noqa: F401

    from proxybox.teach import boxes, plugin  # noqa: F401

    gc.freeze()


def leave_worker(folder: str) -> None:
    """Removes this worker's temporary files, and the pool's folder if it is empty: its process may have been killed."""
    if tempfile.tempdir is not None:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
    with contextlib.suppress(OSError):  # other workers still use the folder
        os.rmdir(folder)
