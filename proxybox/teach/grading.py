"""Grades many submissions: tasks for any Executor, each of which is one run of pytest in a worker's process.

A task carries all that it needs, including the exercise's files, so that a worker needs nothing but proxybox: a worker
on another machine works as well, and returns the same grades. Grades come back as plain data.

Rules: whatever happens to a worker, every submission gets a grade, even if it only says that grading failed. A fault of
the exercise itself ends everything with a GradingError, because every grade would be wrong.
"""

import contextlib
import functools
import gc
import hashlib
import itertools
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from proxybox.batch.carriers import Executors, cpu_count
from proxybox.batch.clusters import Dask, client_of
from proxybox.batch.engine import BatchEngine, Carrier
from proxybox.controller.guests.finding import absolute_guest, find_guest
from proxybox.controller.guests.guest import require_bootstrap
from proxybox.errors import BatchError
from proxybox.policies.errors import ProxyboxError
from proxybox.pool.executor import Processes
from proxybox.teach.exercise import Exercise, ExerciseError, load_exercise
from proxybox.teach.grades import Grade, Verdict
from proxybox.teach.rules import Breach, RuleBox
from proxybox.teach.settling import models_of, settled
from proxybox.teach.student import Failed
from proxybox.teach.submissions import Submission

if TYPE_CHECKING:
    from proxybox.teach.boxes import StudentBoxes
    from proxybox.teach.plugin import Grader

#: Submissions of one task, at first and at most. A task takes some tenths of a second before it grades the first of
#: them, so later ones have as many as are graded in _TASK_SECONDS: longer ones would make progress come in leaps.
_CHUNK, _MOST_CHUNK = 10, 50
_TASK_SECONDS = 2.0
#: How often a submission is tried again, alone, when its worker dies.
_TRIES = 3
_MOST_OF_EXERCISE, _MOST_FILES = 256 << 20, 20_000
_NO_CONTENT = ("__pycache__", ".git", ".hg", ".venv", ".DS_Store")
#: Characters of a submission's code that are kept with its grade.
_MOST_CODE = 1 << 18
#: Breaches of rules that are reported: a submission may have hundreds of files.
_MOST_BREACHES = 50
RULES: Final = "The rules of the exercise"
_DATA_TESTS: Final = Path(__file__).with_name("data_tests.py")
_NO_CODE: Final = Verdict(name=RULES, status="skipped", possible=0.0)
_NO_POINTS = "No points are given while a rule is broken."


class GradingError(ProxyboxError):
    """Nothing can be graded with this exercise, or by these workers; the text says why."""


# --- what is sent to workers ------------------------------------------------------------------------------------------


@attrs.frozen
class Packed:
    """An exercise's folder as data.

    files: by path below it. over: as in `Exercise`. digest: of its content, computed once for all submissions.
    """

    files: Mapping[str, bytes]
    over: Mapping[str, Any] = attrs.field(factory=dict)
    digest: str = attrs.field(init=False, repr=False)

    @digest.default
    def _digest(self) -> str:
        return digest_of(self.files, *([repr(self.over)] if self.over else []))

    def unpack(self, folder: Path) -> None:
        """Writes the folder."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def pack(exercise: Exercise) -> Packed:
    """The exercise as data for workers. Raises GradingError when it is too large."""
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


def digest_of(files: Mapping[str, bytes], *more: str) -> str:
    """SHA-256 of files and words. The order of the files does not matter."""
    found = hashlib.sha256(repr(more).encode())
    for name in sorted(files):
        found.update(f"{len(name)} {name} {len(files[name])} ".encode("utf-8", "surrogateescape"))
        found.update(files[name])
    return found.hexdigest()


@attrs.frozen(kw_only=True)
class Task:
    """Some submissions of an exercise.

    guest, packages: as for `Sandbox`. timings: whether grades report the time they took, which differs from run to run.
    records: the folder for records of tests that fail.
    """

    exercise: Packed
    submissions: tuple[Submission, ...]
    guest: str | None = None
    packages: tuple[str, ...] = ()
    timings: bool = False
    records: str | None = None


# --- in a worker ------------------------------------------------------------------------------------------------------

#: At most one run of pytest at a time in a process: workers may be threads.
_ONE_RUN = threading.Lock()


def grade_some(task: Task) -> tuple[Grade, ...]:
    """The grades of a task, in its order.

    Raises GradingError when the exercise is at fault, SandboxStartError when no box starts.
    """
    with _ONE_RUN, unpacked(task.exercise) as exercise:
        verdicts = _verdicts(exercise, task, task.submissions, task.records)
        models = functools.cache(lambda: _verdicts(exercise, task, models_of(exercise), None))
        with RuleBox(task.guest) as rules:
            return tuple(
                grade_of(exercise, submission, settled(found, models), task.timings, rules)
                for submission, found in zip(task.submissions, verdicts, strict=True)
            )


def _verdicts(
    exercise: Exercise, task: Task, submissions: Sequence[Submission], records: str | None
) -> list[list[Verdict]]:
    """The verdicts of all tests, for each submission. records: as for a Task."""
    found: list[list[Verdict]] = [[] for _ in submissions]
    if submissions:
        with (
            boxes_of(exercise, submissions, guest=task.guest, packages=task.packages, records=records) as boxes,
            Surroundings(exercise.folder),
        ):
            run_tests(exercise, boxes, lambda number, verdict: found[number].append(verdict))
    return found


@contextlib.contextmanager
def unpacked(packed: Packed) -> Iterator[Exercise]:
    """An exercise in a temporary folder of its own. Raises ExerciseError."""
    with tempfile.TemporaryDirectory(prefix="proxybox-exercise-") as root:
        # Names of modules begin with the folder's name: so no module is taken for one of another exercise.
        folder = Path(root, f"exercise-{packed.digest[:16]}")
        packed.unpack(folder)
        yield load_exercise(folder, over=packed.over)


@contextlib.contextmanager
def boxes_of(
    exercise: Exercise,
    submissions: Sequence[Submission],
    *,
    guest: str | None,
    packages: Sequence[str],
    records: str | None = None,
) -> Iterator["StudentBoxes"]:
    """The boxes of an exercise's submissions. guest, packages: as for `Sandbox`. records: as for a Task."""
    from proxybox import Sandbox
    from proxybox.teach.boxes import StudentBoxes, grading_policy
    from proxybox.teach.evidence import LIMIT, GradingRecords

    evidence = None if records is None else GradingRecords(records)
    policy = grading_policy(exercise.policy)
    with (
        Sandbox(policy, guest=guest, packages=packages, record_limit=LIMIT, record_required=False) as sandbox,
        contextlib.closing(
            StudentBoxes(
                sandbox,
                submissions,
                file=exercise.file,
                files=exercise.box_files(),
                points=exercise.points,
                evidence=evidence,
            )
        ) as boxes,
    ):
        yield boxes


def run_tests(
    exercise: Exercise,
    boxes: "StudentBoxes",
    tell: Callable[[int, Verdict], object],
    rounds: Callable[["Grader"], bool] | None = None,
) -> None:
    """One run of pytest with an unpacked exercise, within its Surroundings. tell, rounds: as for `plugin.Grader`.

    Raises GradingError when the exercise is at fault, SandboxStartError when no box starts.
    """
    import pytest

    from proxybox.teach import plugin

    root = exercise.folder.parent
    paths = [exercise.tests] if exercise.tests is not None else []
    if exercise.data is not None:
        # The copy is beside the exercise, because pytest looks for a conftest.py in every folder above a path that it
        # is given.
        paths.append(Path(shutil.copy(_DATA_TESTS, root)))
    (root / "pytest.ini").write_text("[pytest]\n")
    # No settings and no plugins of the user who grades change a grade, and pytest reads nothing beside the exercise:
    # any user may put a conftest.py into the folder for temporary files.
    # Plugins that only warn, at the price of five collections of garbage, are left out.
    words = ["-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:unraisableexception", "-p", "no:threadexception",
             "--capture=sys", "--assert=plain", "--strict-markers", "--import-mode=importlib",
             "-c", f"{root}/pytest.ini", f"--rootdir={root}", f"--confcutdir={root}", *map(str, paths)]  # fmt: skip
    grader = plugin.Grader(boxes, tell, exercise.data_cases(), rounds)
    status = pytest.main(words, plugins=[plugin, grader])
    if grader.faults:
        messages = "\n".join(grader.faults).replace(f"{exercise.folder}/", "").replace(f"{exercise.folder.name}/", "")
        raise GradingError(f"the tests are at fault:\n{messages}")
    if grader.broken:
        raise grader.broken[0]
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise GradingError(f"pytest cannot run the tests: {status.name if hasattr(status, 'name') else status}")


class Surroundings:
    """What a run of pytest has of this process: no settings from the environment, and modules of its own.

    Outside, nothing of them is left: the next exercise may have a test file of the same name. Entered again, the
    modules are there again, and sys.path is as it was left. folder: of the exercise; what is beside it belongs to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._name = f"{folder.parent}{os.sep}", folder.name
        self._modules: dict[str, ModuleType] = {}
        self._path: list[str] | None = None
        self._outside: tuple[dict[str, str | None], list[str]] = ({}, [])

    def __enter__(self) -> Self:
        kept = {
            name: os.environ.pop(name, None) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST")
        }
        kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        self._outside = kept, list(sys.path)
        if self._path is not None:
            sys.path[:] = self._path
        sys.modules.update(self._modules)
        return self

    def __exit__(self, *_: object) -> None:
        kept, path = self._outside
        self._path, sys.path[:] = list(sys.path), path
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._modules = {
            name: module
            for name, module in list(sys.modules.items())
            if (getattr(module, "__file__", None) or "").startswith(self._folder)
            or name.partition(".")[0] == self._name  # pytest makes packages that have no file
        }
        for name in self._modules:
            del sys.modules[name]


def grade_of(
    exercise: Exercise, submission: Submission, verdicts: Sequence[Verdict], timings: bool, box: RuleBox
) -> Grade:
    """The grade of a submission whose tests have run. timings: as for a Task."""
    code: str | None = None
    with contextlib.suppress(Failed):  # the submission's tests report that; a file that is missing breaks no rule
        code = submission.main(exercise.file).decode("utf-8-sig", "replace")
    tests = list(_named_apart(verdicts))
    if exercise.rules:
        rules = _NO_CODE if code is None else _rules_verdict(exercise, submission, code, tests, box)
        if rules.status == "forbidden":
            tests = [attrs.evolve(test, points=0.0) for test in tests]
        tests.insert(0, rules)
    if not timings:
        tests = [attrs.evolve(test, seconds=0.0) for test in tests]
    deadline, submitted = exercise.deadline, submission.submitted
    return Grade(
        student=submission.student,
        id=submission.id,
        source=submission.source,
        tests=tuple(tests),
        submitted=submitted,
        late=submission.late or (deadline is not None and submitted is not None and submitted > deadline),
        code=(code or "")[:_MOST_CODE],
        seconds=sum(test.seconds for test in tests),
        note=submission.note(exercise.file),
    )


def _rules_verdict(
    exercise: Exercise, submission: Submission, code: str, tests: Sequence[Verdict], box: RuleBox
) -> Verdict:
    breaches = _breaches(exercise, submission, code, box)
    if not breaches:
        return Verdict(name=RULES, status="ok", possible=0.0)
    if all(test.status == "syntax_error" for test in tests) and any(not each.rule for each in breaches):
        return _NO_CODE  # it is no Python, as all the tests say
    messages = dict.fromkeys(
        f"{each.message}{'' if each.line is None else f' See line {each.line}.'}" for each in breaches
    )
    words = "\n".join([*itertools.islice(messages, _MOST_BREACHES), _NO_POINTS])
    return Verdict(name=RULES, status="forbidden", possible=0.0, message=words, line=breaches[0].line)


def _breaches(exercise: Exercise, submission: Submission, code: str, box: RuleBox) -> list[Breach]:
    """The breaches in all Python files of a submission.

    What is forbidden must be in none of them; what is required may be in any of them.
    """
    provided = exercise.box_files()
    others = [
        data.decode("utf-8-sig", "replace")
        for name, data in sorted(submission.files.items())
        if name.endswith(".py") and provided.get(name) != data
    ]
    found = box.check_all(dict.fromkeys((code, *others)), exercise.rules)
    missing = [{each.rule for each in one if each.rule.startswith("require")} for one in found]
    everywhere = set.intersection(*missing)
    breaches = [each for each in found[0] if not each.rule.startswith("require") or each.rule in everywhere]
    return breaches + [each for one in found[1:] for each in one if each.rule.startswith("forbid") or not each.rule]


def _named_apart(verdicts: Sequence[Verdict]) -> Iterator[Verdict]:
    """Renames tests so that no two have the same name: formats identify tests by their names."""
    taken: set[str] = set()
    for verdict in verdicts:
        names = (verdict.name if count == 1 else f"{verdict.name} ({count})" for count in itertools.count(1))
        name = next(each for each in names if each not in taken)
        taken.add(name)
        yield attrs.evolve(verdict, name=name)


# --- in the process that hands out tasks ------------------------------------------------------------------------------


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
    machine do the work. guest, packages: as for `Sandbox`. workers: how many work at once; without it, as many as
    there are CPUs, or threads of a cluster's workers. records: a folder in which tests that fail leave records, which
    the workers have to share (docs/teaching.md). on_grade: called with each grade as it comes.

    At Ctrl-C the running tasks are finished, and then KeyboardInterrupt is raised; at the second Ctrl-C it is raised at
    once. on_interrupt: called at the first Ctrl-C with the number of submissions that are waited for. Raises
    GradingError when the exercise or the workers are at fault, SandboxStartError for a guest that grades nothing.
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
        require_bootstrap(find_guest(guest))  # told once, and not by each submission
    try:
        with _carrier(executor, workers) as carrier:
            grading.work(carrier)
    except BatchError as error:
        raise GradingError(str(error)) from None
    grading.give_up("its executor has ended")
    return tuple(grading.grades[number] for number in range(len(submissions)))


@contextlib.contextmanager
def _carrier(executor: Executor | None, workers: int | None) -> Iterator[Carrier]:
    """What brings tasks to workers. Raises BatchError for a cluster whose workers are unsafe."""
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
    """What is done already; submissions by their number."""

    submissions: Sequence[Submission]
    task: Task
    on_grade: Callable[[Grade], object]
    on_interrupt: Callable[[int], object]
    grades: dict[int, Grade] = attrs.field(factory=dict)

    def work(self, carrier: Carrier) -> None:
        """Grades until there is nothing to do, or the executor is broken."""
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
        """Gives all submissions that are left a grade that says why grading failed."""
        for number, submission in enumerate(self.submissions):
            if number not in self.grades:
                self._add(number, _failed(submission, why))


def _failed(submission: Submission, why: str) -> Grade:
    return Grade(student=submission.student, id=submission.id, source=submission.source, message=why, failed=True)


@contextlib.contextmanager
def local_pool(workers: int) -> Iterator[Processes]:
    """A pool of processes on this machine.

    After an exception, what still runs in them is ended. Their temporary files are removed afterwards, also those of a
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
    """Imports what every task needs, while the first task is on its way; none of it is garbage to be looked for."""
    tempfile.tempdir = tempfile.mkdtemp(dir=folder)
    import pytest  # noqa: F401

    from proxybox.teach import boxes, plugin  # noqa: F401

    gc.freeze()


def leave_worker(folder: str) -> None:
    """Removes this worker's temporary files; the process that made the folder may have been killed."""
    if tempfile.tempdir is not None:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
    with contextlib.suppress(OSError):  # other workers still use it
        os.rmdir(folder)
