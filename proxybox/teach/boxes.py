"""The boxes of a grading: one empty session is forked for each submission, and that fork is forked for each test.

So every test of every submission begins with the same interpreter, the same seed and the same time, and no test affects
another. Time is virtual and randomness seeded, even if the exercise's policy says real or system.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

import proxybox
from proxybox import Policy, Result, Sandbox, SandboxStartError, Session, Time
from proxybox.policies import SessionLimits, preset
from proxybox.teach.evidence import GradingRecords
from proxybox.teach.grades import Verdict
from proxybox.teach.handles import HELPER
from proxybox.teach.notebooks import SUFFIX
from proxybox.teach.shown import one_line
from proxybox.teach.student import Failed, Student, StudentRun, failure
from proxybox.teach.testoutput import SubmissionOutput

if TYPE_CHECKING:
    from proxybox.teach.submissions import Submission

#: pytest shows a test's own line, not lines of this file.
__tracebackhide__ = True

#: The most copies that exist at once: of a submission, and of its copy for a test.
_COPIES = 4
_SEED = 0
#: Bytes of an argument or a result, if the policy has the default: a list of a million numbers takes 9 of each.
_VALUE_SIZE = 10 << 20
#: The most wall time of a call, as a multiple of its CPU time, if the policy would allow more.
_PATIENCE = 3
#: Runs in the box before the program does.
_NO_PROMPTS = """
def _without_prompts():
    import builtins
    ask = builtins.input
    def input(prompt="", /):
        return ask()
    builtins.input = input
_without_prompts()
del _without_prompts
"""
#: The message of a test that begins after the submissions were stopped.
NOT_RUN = "Not run: the tests before it have taken all the time."
#: The name of the main file of a folder.
_MAIN = "solution.py"


def grading_policy(policy: Policy) -> Policy:
    """Returns the policy with changes, so that a grade is the same each time."""
    changes: dict[str, Any] = {"session": attrs.evolve(policy.session, branches=max(policy.session.branches, _COPIES))}
    if policy.session.value_size == SessionLimits().value_size:
        changes["session"] = attrs.evolve(changes["session"], value_size=_VALUE_SIZE)
    wall, cpu = policy.limits.wall_time, policy.limits.cpu_time
    if cpu is not None and (wall is None or wall > _PATIENCE * cpu):
        changes["limits"] = attrs.evolve(policy.limits, wall_time=_PATIENCE * cpu)
    if policy.time.kind == "real":
        changes["time"] = Time.virtual()
    if policy.randomness == "system":
        changes["randomness"] = _SEED
    return attrs.evolve(policy, **changes)


class StudentBoxes:
    """Makes boxes for the submissions of one exercise.

    submission: may be replaced by another one between two rounds of the tests. evidence: the records, if tests are
    recorded; each test then has its own interpreters, because a recorded session cannot be copied. stopped: whether the
    submissions were stopped.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        submission: "Submission",
        *,
        file: str,
        files: Mapping[str, bytes],
        points: float,
        evidence: GradingRecords | None = None,
    ) -> None:
        self.submission = submission
        self.evidence = evidence
        self.exercise_points = points
        self._sandbox = sandbox
        self._file = file
        self._files = files
        self._base: Session | None = None
        self._open: set[Session] = set()
        self.stopped = False

    def base(self) -> Session | None:
        """Returns the session that is forked; a new one if it has ended. None if tests are recorded."""
        if self.evidence is not None:
            return None
        if self._base is None or not self._base.alive:
            self._base = self._sandbox.session()
            self._base.exec(HELPER, name="<objects>", check=True)
        return self._base

    @contextlib.contextmanager
    def load(self) -> Iterator["Loaded"]:
        """The submission in a session of its own."""
        submission = self.submission
        main = submission.main(self._file)
        files = {**submission.beside(self._file), **self._files, self._file: main}
        if (base := self.base()) is None:
            yield Loaded(self, None, files, self._file)
            return
        with self.opened(base) as session:
            put(session, files)
            yield Loaded(self, session, files, self._file)

    @contextlib.contextmanager
    def opened(self, base: Session | None) -> Iterator[Session]:
        """A copy of a session, or a new one that is recorded. It ends when the submissions are stopped.

        Raises Failed if they were stopped before.
        """
        if self.stopped:
            raise Failed(NOT_RUN, "skipped")
        with self._recorded() if base is None else base.fork() as session:
            self._open.add(session)
            try:
                if self.stopped:
                    session.close()
                yield session
            finally:
                self._open.discard(session)

    def _recorded(self) -> Session:
        """A recorded session with the same state as a copy of `base`. Raises SandboxStartError."""
        assert self.evidence is not None  # noqa: S101
        try:
            session = self._sandbox.session(record=self.evidence.next())
        except OSError as error:
            raise SandboxStartError(f"the record cannot be written: {error.filename}: {error.strerror}") from None
        session.exec(HELPER, name="<objects>", check=True)
        return session

    def begin(self, test: str) -> None:
        """Sets the name of the next test."""
        if self.evidence is not None:
            self.evidence.begin(self.submission.student, test)

    def settle(self, verdict: Verdict) -> Verdict:
        """Returns the verdict of the test that has run, with its records if it has failed."""
        return verdict if self.evidence is None else self.evidence.settle(verdict)

    def stop(self) -> None:
        """Ends the current sessions of the submissions, and makes all further tests fail. Any thread may call it."""
        self.stopped = True
        for session in tuple(self._open):
            session.close()

    def close(self) -> None:
        """Ends the session that was forked."""
        if self._base is not None:
            self._base.close()


class Loaded:
    """One submission. Its module is run once, when a test first needs it.

    session: of the submission; tests run in copies of it. If tests are recorded, it is None, and each test runs the
    module itself, in a session of its own.
    """

    def __init__(self, boxes: StudentBoxes, session: Session | None, files: Mapping[str, bytes], file: str) -> None:
        self._boxes = boxes
        self._session = session
        self._files = files
        self._main = files[file]
        self._file = file
        self._is_loaded = False
        self._refused: Failed | None = None
        self._records: tuple[str, ...] = ()  # of that failure

    def _check(self) -> None:
        """Raises Failed if the submission could not be run, with the same message for all its tests."""
        if self._refused is not None:
            if self._boxes.evidence is not None:
                self._boxes.evidence.share(self._records)
            raise self._refused

    def _load(self, session: Session) -> None:
        """Runs the submission as an imported module. Raises Failed."""
        try:
            session.set("__name__", Path(self._file).stem)  # as it is in an imported module
            result = session.exec(_text(self._main, session.policy), name=self._file)
            if not result.ok or result.error is not None:
                raise Failed(*_load_failure(result, self._file))
            if not session.alive:
                raise Failed("Running the file ended the interpreter.", "error")
        except Failed as refused:
            self._refused = refused
            self._records = () if self._boxes.evidence is None else self._boxes.evidence.begun
            raise
        self._is_loaded = True

    @contextlib.contextmanager
    def student(self, seconds: float | None, heard: SubmissionOutput) -> Iterator[Student]:
        """A fork of the submission's session for one test. seconds: the limit of each call. heard: stores output."""
        self._check()
        if self._session is not None and not self._is_loaded:
            self._load(self._session)
        with contextlib.ExitStack() as closing:
            try:
                copy = closing.enter_context(self._boxes.opened(self._session))
            except proxybox.ProxyboxError as error:
                if self._session is None:  # the submission is not the cause
                    raise
                raise Failed(f"The submission cannot be tested: {one_line(str(error))}.", "error") from None
            if self._session is None:
                put(copy, self._files)
                self._load(copy)
            copy.timeout = seconds
            yield Student(copy, self._file, heard)

    def run(
        self,
        stdin: str | bytes,
        args: Sequence[str],
        files: Mapping[str, Any],
        seconds: float | None,
        *,
        prompts: bool = True,
    ) -> StudentRun:
        """Runs the whole program in a fork of the empty session.

        prompts: whether input() prints its prompt.
        """
        with self._boxes.opened(self._boxes.base()) as session:
            all_files = {**self._files, **files, self._file: self._main}
            put(session, all_files)
            session.exec(f"__import__('sys').argv[:] = {[self._file, *args]!r}", check=True)
            if not prompts:
                session.exec(_NO_PROMPTS, name="<input>", check=True)
            session.timeout = seconds
            result = session.exec(_text(self._main, session.policy), name=self._file, stdin=stdin)
            found = {
                name: data for name, data in session.files.items() if name not in all_files or data != all_files[name]
            }
            return StudentRun(result, found, self._file)


def put(session: Session, files: Mapping[str, bytes]) -> None:
    """Writes files in a session. Raises Failed for files that a box cannot store."""
    for name, data in files.items():
        try:
            session.write_file(name, data, parents=True)
        except OSError as error:
            raise Failed(f"The file {one_line(name)} cannot be used: {error.strerror}.", "error") from None


def _text(data: bytes, policy: Policy) -> str:
    if len(data) > policy.session.value_size:  # the text is sent to the box as a value
        raise Failed(f"The file is larger than {policy.session.value_size:,} bytes.", "error")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failed(f"The file is no text in UTF-8 (byte {error.start}).", "syntax_error") from None


def _load_failure(result: Result, file: str) -> tuple[str, str, int | None]:
    error = result.error
    if result.status is proxybox.Status.SYNTAX_ERROR and error is not None:
        message, _, line = failure("The file", result, file)
        return message.replace("raised", "is no Python:", 1), "syntax_error", line
    return failure("Running the file", result, file)


@contextlib.contextmanager
def boxes_by_hand(submission: str | None) -> Iterator[StudentBoxes]:
    """The boxes for a run of pytest by a person.

    Raises ValueError if no submission is named, SubmissionError if it cannot be read.
    """
    from proxybox.teach.submissions import read_submission

    if submission is None:
        raise ValueError("which submission? pytest --submission=FILE")
    found = read_submission(Path(submission))
    file = Path(submission).name if Path(submission).is_file() else _MAIN
    if file.lower().endswith(SUFFIX):  # the notebook's code runs as a Python file
        file = f"{file[: -len(SUFFIX)]}.py"
    with (
        Sandbox(grading_policy(preset("classroom"))) as sandbox,
        contextlib.closing(StudentBoxes(sandbox, found, file=file, files={}, points=1)) as boxes,
    ):
        yield boxes
