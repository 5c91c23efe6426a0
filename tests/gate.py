"""The tests, and the files of those that fail once more: python -m tests.gate [what pytest takes].

A test that fails beside others may have found something, or have been disturbed. So when all have run, each file with a
failed test runs again, whole, in a process of its own with nothing beside it. What fails there too is red. What passes
there is unsteady: it is named, with its first traceback, and more than a few such files are red as well. A race in the
boundary may be a hole, so files of attacks have to pass three times.

Only failures of tests are asked again. A worker that crashed, a file that cannot be imported, a test that never ended
or a run that was interrupted is red at once.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
import cattrs
import pytest

#: Of so many files may tests fail once, and pass alone.
MOST_UNSTEADY = 5
#: Folders whose files run again three times.
ATTACKS = ("tests/hostile/", "tests/seal/")
#: How long a file may take alone, in seconds.
LONGEST = 900
#: Names the file that a run leaves an Outcome in.
REPORTS = "PROXYBOX_TEST_REPORTS"


@attrs.define
class Outcome:
    """What a run of pytest left.

    options: its arguments, without those that say which tests. passed, skipped: how many tests. failed: why, by test.
    broken: what keeps a run from counting. seconds: of each file.
    """

    options: list[str] = attrs.field(factory=list)
    passed: int = 0
    skipped: int = 0
    failed: dict[str, str] = attrs.field(factory=dict)
    broken: list[str] = attrs.field(factory=list)
    seconds: dict[str, float] = attrs.field(factory=dict)

    def files(self) -> list[str]:
        return sorted({test.partition("::")[0] for test in self.failed})


class Reports:
    """A plugin that writes the Outcome of a run when it ends."""

    def __init__(self, path: Path) -> None:
        self._path, self._outcome = path, Outcome()
        self._expected, self._ended, self._passed = set[str](), set[str](), set[str]()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expected.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._expected.update(ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._outcome.broken.append(f"{report.nodeid} cannot be collected:\n{report.longreprtext}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome, file = self._outcome, report.nodeid.partition("::")[0]
        outcome.seconds[file] = outcome.seconds.get(file, 0) + report.duration
        if report.when == "???":  # xdist's word for the test in which a worker ended
            outcome.broken.append(f"{report.nodeid}: {report.longreprtext}")
        elif report.failed:
            outcome.failed.setdefault(report.nodeid, f"{report.when}: {report.longreprtext}")
        elif report.skipped:
            outcome.skipped += 1
        elif report.when == "call":
            self._passed.add(report.nodeid)  # also told of each subtest
        if report.when != "setup" and report.when != "call":
            self._ended.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        self._outcome.passed = len(self._passed - self._outcome.failed.keys())
        arguments = map(str, session.config.invocation_params.args)
        self._outcome.options = [each for each in arguments if each not in session.config.args]
        missing = sorted(self._expected - self._ended)
        if missing:
            self._outcome.broken.append(f"{len(missing)} tests did not end, such as {missing[:3]}")
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self._outcome.broken.append(f"pytest ended with {pytest.ExitCode(exitstatus)!r}")
        self._path.write_text(json.dumps(cattrs.unstructure(self._outcome)))


def pytest_configure(config: pytest.Config) -> None:
    if REPORTS in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reports(Path(os.environ.pop(REPORTS))))


def run(arguments: Sequence[str], limit: float | None = None) -> Outcome:
    """Runs pytest in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outcome.json")
        command = [sys.executable, "-m", "pytest", "-p", "tests.gate", *arguments]
        try:
            environment = {**os.environ, REPORTS: str(path)}
            status = subprocess.run(command, env=environment, timeout=limit, check=False).returncode
        except subprocess.TimeoutExpired:
            return Outcome(broken=[f"{arguments[-1]} took longer than {limit} s"])
        if not path.exists():
            return Outcome(broken=[f"pytest ended with status {status}, and left no outcome"])
        outcome = cattrs.structure(json.loads(path.read_text()), Outcome)
    if status and not outcome.failed and not outcome.broken:
        outcome.broken.append(f"pytest ended with status {status}")
    return outcome


def again(first: Outcome) -> dict[str, str]:
    """Runs the files of failed tests alone, and returns those that fail there too, and why."""
    red = {}
    for file in first.files():
        for _ in range(3 if file.startswith(ATTACKS) else 1):
            alone = run([*first.options, "-n0", file], LONGEST)
            if alone.failed or alone.broken:
                red[file] = "\n".join([*alone.broken, *alone.failed])
                break
    return red


def main(arguments: Sequence[str]) -> int:
    started = time.monotonic()
    first = run(arguments)
    files = first.files()
    print(f"\n== the tests took {time.monotonic() - started:.0f} s; the dearest files, in seconds of their process ==")
    for file, seconds in sorted(first.seconds.items(), key=lambda each: -each[1])[:10]:
        print(f"{seconds:6.0f} {file}")
    red = {"the run": "\n".join(first.broken)} if first.broken else {}
    if not red and len(files) > MOST_UNSTEADY:
        red = {"the run": f"tests fail in {len(files)} files, and {MOST_UNSTEADY} at most run again: {files}"}
    red = red or again(first)
    for test, why in first.failed.items():
        if not red:
            print(f"\n== unsteady: {test} failed beside others, and its file passed alone ==\n{why}")
    for file, why in red.items():
        print(f"\n== red: {file} ==\n{why}")
    print(f"\n{first.passed} passed, {len(first.failed) if red else 0} failed, {first.skipped} skipped")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
