"""200 submissions graded by ten tests each, compared with the same tests in plain pytest without a box."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import Figure, Target

SUBMISSIONS, TESTS = 200, 10
#: Runs of plain pytest that are timed; the time of all is calculated from them.
SAMPLE = 40
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
CODE = "def total(numbers):\n    found = 0\n    for number in numbers:\n        found += number\n    return found\n"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns the better of two measurements of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        boxed, plain, alone = [], [], []
        for number in (1, 2):
            say(f"proxybox grade, {number} of 2")
            boxed.append(_grade(folder))
            say(f"plain pytest, a process per submission, {number} of 2")
            plain.append(_plain(folder, SUBMISSIONS, ()))
            say(f"plain pytest, a process per test, {number} of 2")
            alone.append(_plain(folder, SUBMISSIONS * TESTS, ("test_total.py::test_3",)))
    seconds, tests = min(boxed), SUBMISSIONS * TESTS
    return [
        Figure(name=f"{SUBMISSIONS} submissions x {TESTS} tests, two processes", value=seconds, unit="s",
               floor="pytest per submission", floor_value=min(plain),
               target=Target(of="ratio", at_most=0.25)),
        Figure(name="one test, in a box of its own", value=1e3 * seconds / tests, unit="ms",
               floor="pytest per test", floor_value=1e3 * min(alone) / tests,
               target=Target(of="value", at_most=3)),
    ]  # fmt: skip


def write(folder: Path) -> None:
    """Makes an exercise, submissions, and the same tests for plain pytest."""
    cases = [[number, number + 1, 3] for number in range(TESTS)]
    for name in ("exercise/tests", "submissions", "plain"):
        (folder / name).mkdir(parents=True)
    (folder / "exercise/exercise.toml").write_text('title = "A total"\ntext = "Add numbers."\n')
    (folder / "exercise/tests/test_total.py").write_text("".join(
        f"def test_{number}(student):\n    student.expect('total', {case}, returns={sum(case)})\n\n"
        for number, case in enumerate(cases)
    ))  # fmt: skip
    (folder / "plain/test_total.py").write_text("from solution import total\n\n" + "".join(
        f"def test_{number}():\n    assert total({case}) == {sum(case)}\n\n" for number, case in enumerate(cases)
    ))  # fmt: skip
    (folder / "plain/solution.py").write_text(CODE)
    for number in range(SUBMISSIONS):
        (folder / f"submissions/s{number:03}.py").write_text(f"# {number}\n{CODE}")


def _grade(folder: Path) -> float:
    program = "from proxybox.cli import main; raise SystemExit(main())"
    words = ("grade", "exercise", "submissions", "--output", "grades", "--again", "--jobs", "2")
    return timed([sys.executable, "-c", program, *words], folder)


def _plain(folder: Path, count: int, tests: Sequence[str]) -> float:
    """Returns the seconds that `count` runs would take, two at a time."""
    command = [*PYTEST, *tests]
    began = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: timed(command, folder / "plain"), range(SAMPLE)))
    return (time.perf_counter() - began) * count / SAMPLE


def timed(command: Sequence[str], folder: Path) -> float:
    """Returns the seconds that a command takes."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # as in an environment of its own
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
