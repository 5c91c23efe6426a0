"""pytest for exercises: a teacher's tests run here, on the trusted side, and the submission runs in boxes.

    @pytest.mark.points(2)
    def test_area(student):
        "The area of a rectangle"
        student.expect("area", 3, 4, returns=12)

Fixtures: `student`, for each test a fork of the session into which the submission was loaded once; `run_student`, which
runs the whole program. Marks: points(n), hidden, timeout(seconds). A run by hand: pytest --submission=FILE tests/
(apart.py checks where FILE is).
"""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proxybox.policies.errors import ProxyboxError

if TYPE_CHECKING:
    from proxybox.teach.boxes import Loaded, StudentBoxes
    from proxybox.teach.exercise import DataCase
    from proxybox.teach.grades import Verdict

MARKS = (
    "points(n): what the test is worth (1 without)",
    "hidden: its name, messages and outputs are not for students",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option --submission."""
    group = parser.getgroup("proxybox", "grading in boxes")
    group.addoption("--submission", metavar="PATH", help="the file or folder that the tests are for")


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Checks the path of the submission before pytest imports anything from the folders around it.

    pytest must not import a file of the submission. pytest has already read its settings by then
    (docs/write-exercises.md).
    """
    submission = early_config.known_args_namespace.submission
    if submission is not None:
        from proxybox.teach.apart import check_apart

        check_apart(early_config, submission)


@pytest.hookimpl(tryfirst=True)
def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Keeps pytest from collecting the submission, whatever path leads to it."""
    submission = config.getoption("--submission")
    if submission is None:
        return None
    from proxybox.teach.apart import is_part, real_path

    return is_part(real_path(config, collection_path), real_path(config, submission)) or None


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marks."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    if not config.pluginmanager.has_plugin("timeout"):
        config.addinivalue_line("markers", "timeout(seconds): for each call, and each run, of the submission")
    if config.getoption("--submission") is not None:
        config.pluginmanager.register(ByHand())


#: The verdict of a test so far, until its fixtures have ended.
_VERDICT = pytest.StashKey["Verdict"]()


class Grader:
    """Grades many submissions in one pytest run.

    tell: called with the verdict of each test. rounds: called with this object before the tests run, and again after
    each round. The tests run while it returns true, each time for the current submission of the boxes. cases: those of
    data_tests.py. faults: faults of the tests themselves, for their author. broken: errors of boxes that did not start,
    for which no submission is to blame.

    Without a Grader, a run by hand grades the submission that --submission names.
    """

    def __init__(
        self,
        boxes: "StudentBoxes",
        tell: Callable[["Verdict"], object],
        rounds: Callable[["Grader"], bool],
        cases: Sequence["DataCase"] = (),
    ) -> None:
        self.boxes = boxes
        self.tell = tell
        self.rounds = rounds
        self.faults: list[str] = []
        self.broken: list[ProxyboxError] = []
        self._cases = cases

    @pytest.hookimpl
    def pytest_configure(self, config: pytest.Config) -> None:
        """Shortens pytest's own report of a failure: to make it takes longer than the test, and nobody reads it."""
        config.option.tbstyle = "value"

    @pytest.hookimpl
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs the test of data_tests.py for each case."""
        if metafunc.module.__name__.endswith("data_tests") and "case" in metafunc.fixturenames:
            hidden = pytest.mark.hidden
            cases = [pytest.param(each, id=each.name, marks=hidden if each.secret else ()) for each in self._cases]
            metafunc.parametrize("case", cases)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Notes files without tests and those that cannot be collected, with the error, without pytest's own frames."""
        if report.failed:
            lines = report.longreprtext.splitlines()
            error = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
            self.faults.append("\n    ".join([f"{report.nodeid}:", *(error or lines)]))
        elif report.skipped:
            self.faults.append(f"{report.nodeid}: is skipped: nothing of it would be graded")
        elif report.nodeid.endswith(".py") and not report.result:
            self.faults.append(f"{report.nodeid}: there is no test in it")

    @pytest.hookimpl
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Notes invalid marks, and tests that take no submission, as faults.

        The verdict of such a test would belong to no submission.
        """
        for item in items:
            self.faults += [f"{item.nodeid}: {fault}" for fault in _wrong_marks(item)]
            if not _takes_submission(item):
                self.faults.append(f"{item.nodeid} takes neither student nor run_student")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Runs the tests once for each round. All fixtures end with each round."""
        if session.testsfailed or not session.items:
            return None  # pytest reports why it does not run them
        from proxybox.teach.testoutput import forget

        while self.rounds(self):
            for item, next_item in itertools.zip_longest(session.items, session.items[1:]):
                forget(item)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_item)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Gives the boxes the name of the next test."""
        from proxybox.teach.verdicts import name_of

        if _takes_submission(item):
            self.boxes.begin(name_of(item))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
        """Reports each test's verdict, once: after the test has run or could not run, and its fixtures have ended."""
        report = yield
        if call.excinfo is not None and isinstance(call.excinfo.value, pytest.FixtureLookupError):
            self.faults.append(f"{item.nodeid}: {call.excinfo.value.argname!r} is no fixture")
        if call.excinfo is not None and isinstance(call.excinfo.value, ProxyboxError):
            self.broken.append(call.excinfo.value)
        if _takes_submission(item) and (call.when != "setup" or call.excinfo is not None):
            from proxybox.teach.verdicts import verdict_of

            found = verdict_of(item, call, self.boxes.exercise_points)
            if call.when != "teardown":
                item.stash[_VERDICT] = found
            else:  # a fixture may compare something after its test, or may be at fault itself
                before = item.stash[_VERDICT]
                last = found if found.fault or (before.passed and not found.passed) else before
                self.tell(self.boxes.settle(last))
        return report


def _takes_submission(item: pytest.Item) -> bool:
    return "loaded" in getattr(item, "fixturenames", ())


class ByHand:
    """Makes harmless the text that pytest prints to the teacher's terminal."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Any:
        """In reports of tests."""
        from proxybox.teach.verdicts import make_harmless

        report = yield
        make_harmless(report)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """In warnings."""
        from proxybox.terminal.harmless import harmless_lines

        warning_message.message = Warning(harmless_lines(str(warning_message.message)))


#: For each mark, its form in words, and a function that checks its arguments.
_WANTED: dict[str, tuple[str, Callable[[tuple[Any, ...]], bool]]] = {
    "points": (
        "points(NUMBER), from 0 to 1,000,000",
        lambda mark_args: _is_number(mark_args) and 0 <= mark_args[0] <= 1e6,
    ),
    "timeout": ("timeout(SECONDS), more than 0", lambda mark_args: _is_number(mark_args) and 0 < mark_args[0] <= 1e6),
    "hidden": ("hidden, without anything", lambda mark_args: not mark_args),
}


def _is_number(mark_args: tuple[Any, ...]) -> bool:
    return len(mark_args) == 1 and isinstance(mark_args[0], int | float) and not isinstance(mark_args[0], bool)


def _wrong_marks(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers():
        wanted, is_right = _WANTED.get(mark.name, ("", lambda _: True))
        if not is_right(mark.args) or (wanted and mark.kwargs):
            yield f"want the mark {wanted}"


def _grader(config: pytest.Config) -> Grader | None:
    return next((each for each in config.pluginmanager.get_plugins() if isinstance(each, Grader)), None)


# --- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def proxybox_boxes(pytestconfig: pytest.Config) -> Iterator["StudentBoxes"]:
    """The boxes of this run."""
    grader = _grader(pytestconfig)
    if grader is not None:
        yield grader.boxes
        return
    from proxybox.teach.boxes import boxes_by_hand

    with boxes_by_hand(pytestconfig.getoption("--submission")) as boxes:
        yield boxes


@pytest.fixture(scope="session")
def loaded(proxybox_boxes: "StudentBoxes") -> Iterator["Loaded"]:
    """One submission, in a session that is forked for each test."""
    with proxybox_boxes.load() as submission:
        yield submission


@pytest.fixture
def student(request: pytest.FixtureRequest, loaded: "Loaded") -> Iterator[Any]:
    """The submission, loaded, as `student.Student`.

    Its methods are `call`, `expect`, `raises`, `new`, `source`, `get` and `expect_output`; it has `stdout`.
    """
    from proxybox.teach.testoutput import output_of

    with loaded.student(_seconds(request), output_of(request.node)) as made:
        yield made


@pytest.fixture
def run_student(request: pytest.FixtureRequest, loaded: "Loaded") -> Callable[..., Any]:
    """run_student(stdin="", args=(), files={}, prompts=True): runs the whole program.

    The result has `expect_output`, `stdout` and `files`. prompts: whether the prompts of input() are part of the
    output.
    """
    from proxybox.teach.testoutput import output_of

    heard = output_of(request.node)

    def run(stdin: str | bytes = "", args: Sequence[str] = (), files: Any = None, *, prompts: bool = True) -> Any:
        __tracebackhide__ = True
        done = loaded.run(stdin, args, files or {}, _seconds(request), prompts=prompts)
        heard.keep(done.stdout, done.stderr)
        heard.ran(done.stdout, done.files)
        return done

    return run


def _seconds(request: pytest.FixtureRequest) -> float | None:
    mark = request.node.get_closest_marker("timeout")
    return None if mark is None or not mark.args else float(mark.args[0])
