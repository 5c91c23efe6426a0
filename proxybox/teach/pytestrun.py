"""One run of pytest with an exercise: its tests run for one submission after another.

The modules of the tests are imported once. Fixtures begin anew with each submission, also those of a session.

    run.grade(submissions, done) ── pytest ── a round of all tests for each submission ── its verdicts ── done(grade)
"""

import contextlib
import hashlib
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from proxybox.policies.errors import ProxyboxError
from proxybox.teach.exercise import Exercise, load_exercise
from proxybox.teach.grades import Grade, Verdict
from proxybox.teach.rules import Breach, RuleBox
from proxybox.teach.settling import Verdicts, is_open, models_of, settled
from proxybox.teach.student import Failed
from proxybox.teach.submissions import Submission

if TYPE_CHECKING:
    from proxybox.teach.boxes import StudentBoxes
    from proxybox.teach.plugin import Grader

#: Characters of a submission's code that are stored with its grade.
_MOST_CODE = 1 << 18
#: The most breaches of rules that are reported: a submission may have hundreds of files.
_MOST_BREACHES = 50
RULES: Final = "The rules of the exercise"
_DATA_TESTS: Final = Path(__file__).with_name("data_tests.py")
_NO_CODE: Final = Verdict(name=RULES, status="skipped", possible=0.0)
_NO_POINTS = "No points are given while a rule is broken."
#: The message of the test that ran when its submission was stopped.
STOPPED = (
    "The tests took too much time and were ended here. Is there a loop that goes on for ever, or does it wait for "
    "input?"
)


class GradingError(ProxyboxError):
    """Grading is not possible with this exercise or these workers; the text says why."""


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


def digest_of(files: Mapping[str, bytes], *more: str) -> str:
    """SHA-256 of files and texts. The order of the files does not matter."""
    found = hashlib.sha256(repr(more).encode())
    for name in sorted(files):
        found.update(f"{len(name)} {name} {len(files[name])} ".encode("utf-8", "surrogateescape"))
        found.update(files[name])
    return found.hexdigest()


@attrs.define
class PytestRun:
    """A run of pytest that grades submissions. surroundings: the context manager in which it has to run."""

    exercise: Exercise
    boxes: "StudentBoxes"
    rules: RuleBox
    surroundings: "Surroundings"
    _verdicts: list[Verdict] = attrs.field(factory=list)
    _models: list[Verdicts] | None = None

    def grade(
        self, submissions: Iterator[Submission], done: Callable[[Grade, bool], object], *, timings: bool = False
    ) -> None:
        """Grades all submissions, in this thread. It takes the next one when the one before is graded.

        done: called with each grade, and whether the submission was stopped before all tests had run. timings: whether
        grades report the time that tests took, which differs from run to run.

        Raises GradingError if the exercise is at fault, SandboxStartError if no box starts.
        """
        rounds = self._rounds(submissions, done, timings)

        def has_more(grader: "Grader") -> bool:
            if self.boxes.stopped:
                grader.broken.clear()  # errors caused by the stop
            if grader.faults or grader.broken:
                return False  # then `run_tests` raises the error
            submission = next(rounds, None)
            if submission is not None:
                self.boxes.submission, self._verdicts = submission, []
            return submission is not None

        run_tests(self.exercise, self.boxes, self._tell, has_more)

    def _rounds(
        self, submissions: Iterator[Submission], done: Callable[[Grade, bool], object], timings: bool
    ) -> Iterator[Submission]:
        """Yields each submission to test, and the model solutions when their verdicts are first needed."""
        for submission in submissions:
            yield submission
            verdicts: Verdicts = self._verdicts
            is_stopped = self.boxes.stopped
            if is_open(verdicts) and not is_stopped:
                if self._models is None:
                    yield from self._rounds_of_models()
                verdicts = settled(verdicts, self._models or ())
            done(_grade_of(self.exercise, submission, verdicts, timings, self.rules), is_stopped)

    def _rounds_of_models(self) -> Iterator[Submission]:
        """Finds the verdicts of the model solutions, unless they are stopped. These tests leave no records."""
        found: list[Verdicts] = []
        evidence, self.boxes.evidence = self.boxes.evidence, None
        try:
            for model in models_of(self.exercise):
                yield model
                if self.boxes.stopped:
                    return
                found.append(self._verdicts)
        finally:
            self.boxes.evidence = evidence
        self._models = found

    def _tell(self, verdict: Verdict) -> None:
        if self.boxes.stopped and not verdict.passed:
            from proxybox.teach.boxes import NOT_RUN

            is_first = all(each.message != STOPPED for each in self._verdicts)
            status, message = ("time_limit", STOPPED) if is_first else ("skipped", NOT_RUN)
            verdict = attrs.evolve(verdict, status=status, points=0.0, message=message, line=None, fault="", answers="")
        self._verdicts.append(verdict)


@contextlib.contextmanager
def opened(
    packed: Packed, guest: str | None = None, packages: Sequence[str] = (), records: str | None = None
) -> Iterator[PytestRun]:
    """A run of an exercise's tests, not started yet, in a temporary folder of its own.

    guest, packages: as for `Sandbox`. records: the folder for records of failed tests. Raises ExerciseError.
    """
    with (
        _unpacked(packed) as exercise,
        _boxes_of(exercise, guest, packages, records) as boxes,
        RuleBox(guest) as rules,
    ):
        yield PytestRun(exercise, boxes, rules, Surroundings(exercise.folder))


@contextlib.contextmanager
def _unpacked(packed: Packed) -> Iterator[Exercise]:
    """An exercise in a temporary folder of its own. Raises ExerciseError."""
    with tempfile.TemporaryDirectory(prefix="proxybox-exercise-") as root:
        # Module names begin with the folder's name, so modules of different exercises have different names.
        folder = Path(root, f"exercise-{packed.digest[:16]}")
        packed.unpack(folder)
        yield load_exercise(folder, over=packed.over)


@contextlib.contextmanager
def _boxes_of(
    exercise: Exercise, guest: str | None, packages: Sequence[str], records: str | None
) -> Iterator["StudentBoxes"]:
    """The boxes of an exercise's submissions."""
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
                Submission(student=""),
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
    tell: Callable[[Verdict], object],
    rounds: Callable[["Grader"], bool],
) -> None:
    """One run of pytest with an unpacked exercise, within its Surroundings. tell, rounds: as for `plugin.Grader`.

    Raises GradingError if the exercise is at fault, SandboxStartError if no box starts.
    """
    import pytest

    from proxybox.teach import plugin

    root = exercise.folder.parent
    paths = [exercise.tests] if exercise.tests is not None else []
    if exercise.data is not None:
        # The copy is beside the exercise, because pytest looks for a conftest.py in every folder above its arguments.
        paths.append(Path(shutil.copy(_DATA_TESTS, root)))
    (root / "pytest.ini").write_text("[pytest]\n")
    # The settings and plugins of the user do not change a grade, and pytest reads nothing beside the exercise: any user
    # may put a conftest.py into the folder for temporary files. Plugins that only warn are left out, because they cost
    # five garbage collections.
    words = ["-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:unraisableexception", "-p", "no:threadexception",
             "--capture=sys", "--assert=plain", "--strict-markers", "--import-mode=importlib",
             "-c", f"{root}/pytest.ini", f"--rootdir={root}", f"--confcutdir={root}", *map(str, paths)]  # fmt: skip
    grader = plugin.Grader(boxes, tell, rounds, exercise.data_cases())
    status = pytest.main(words, plugins=[plugin, grader])
    if grader.faults:
        faults = "\n".join(grader.faults).replace(f"{exercise.folder}/", "").replace(f"{exercise.folder.name}/", "")
        raise GradingError(f"the tests are at fault:\n{faults}")
    if grader.broken:
        raise grader.broken[0]
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise GradingError(f"pytest cannot run the tests: {status.name if hasattr(status, 'name') else status}")


class Surroundings:
    """The state of this process for a run of pytest: no settings from the environment, and modules of its own.

    On exit, the modules are removed: the next exercise may have a test file of the same name. On the next entry, the
    modules and sys.path are restored. folder: of the exercise; modules in its parent folder belong to it.
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
            or name.partition(".")[0] == self._name  # pytest makes packages without a file
        }
        for name in self._modules:
            del sys.modules[name]


def _grade_of(
    exercise: Exercise, submission: Submission, verdicts: Sequence[Verdict], timings: bool, box: RuleBox
) -> Grade:
    """The grade of a submission whose tests have run."""
    code: str | None = None
    with contextlib.suppress(Failed):  # the submission's tests report that; a missing file breaks no rule
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
        return _NO_CODE  # it is not Python, as all the tests report
    messages = dict.fromkeys(
        f"{each.message}{'' if each.line is None else f' See line {each.line}.'}" for each in breaches
    )
    words = "\n".join([*itertools.islice(messages, _MOST_BREACHES), _NO_POINTS])
    return Verdict(name=RULES, status="forbidden", possible=0.0, message=words, line=breaches[0].line)


def _breaches(exercise: Exercise, submission: Submission, code: str, box: RuleBox) -> list[Breach]:
    """The breaches in all Python files of a submission.

    A forbidden construct must be in none of them; a required one may be in any of them.
    """
    given = exercise.box_files()
    others = [
        data.decode("utf-8-sig", "replace")
        for name, data in sorted(submission.files.items())
        if name.endswith(".py") and given.get(name) != data
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
