"""The size of the suite: tests, lines and seconds of each part, which is a folder here, beside its budget.

    make test PYTEST_FLAGS=--sizes      ends with the table; so does CI
    python -m tests.sizes               the same without seconds: tests are collected, and none is run

The budgets are in budgets.toml. Tests and lines are compared by tests/packaging/test_sizes.py; seconds
depend on the machine, and are only shown. They are those of all processes together: set-up is what comes before a test
and after it.
"""

import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest

HERE = Path(__file__).resolve().parent
BUDGETS = HERE / "budgets.toml"
#: Files that take long, written by a run with --record-longest: the longest first.
LONGEST = HERE / "longest.txt"
#: From this number of seconds on a file takes long.
LONG = 15


@attrs.frozen
class Budget:
    """The limits of a part. seconds: the expected time of all processes together."""

    tests: int
    lines: int
    seconds: int


def budgets() -> dict[str, Budget]:
    return {name: Budget(**row) for name, row in tomllib.loads(BUDGETS.read_text()).items()}


def part_of(test: str) -> str:
    """Returns the part of a test, or of a file: `tests/vfs/test_links.py::test_one` is of vfs."""
    return test.partition("tests/")[2].partition("/")[0]


def tests_by_part(tests: Iterable[str]) -> Counter[str]:
    return Counter(map(part_of, tests))


def lines_by_part() -> Counter[str]:
    found: Counter[str] = Counter()
    for path in HERE.glob("*/**/*.py"):
        found[path.relative_to(HERE).parts[0]] += path.read_bytes().count(b"\n")
    return found


def collected() -> list[str]:
    """Returns all tests of a commit, as another process collects them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(HERE)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return [line for line in done.stdout.splitlines() if "::" in line]


class Durations:
    """A pytest plugin: the seconds of each file, and the table or the list of long files at the end of a run."""

    def __init__(self) -> None:
        self.whole: Counter[str] = Counter()
        self.setting_up: Counter[str] = Counter()
        self.tests: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        self.tests.add(report.nodeid)
        self.whole[file] += report.duration  # type: ignore[assignment]
        if report.when != "call":
            self.setting_up[file] += report.duration  # type: ignore[assignment]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        if config.getoption("--sizes"):
            terminalreporter.section("sizes")
            terminalreporter.write_line(self.table())
        if config.getoption("--record-longest"):
            long = [(seconds, file) for file, seconds in self.whole.items() if seconds >= LONG]
            LONGEST.write_text("".join(f"{seconds:4.0f} {file}\n" for seconds, file in sorted(long, reverse=True)))

    def table(self) -> str:
        whole, setting_up = Counter[str](), Counter[str]()
        for file in self.whole:
            whole[part_of(file)] += self.whole[file]
            setting_up[part_of(file)] += self.setting_up[file]
        return table(tests_by_part(self.tests), whole, setting_up)


def table(tests: Counter[str], seconds: Counter[str] | None = None, setting_up: Counter[str] | None = None) -> str:
    """Returns a table of the parts, with most seconds first, and their sum; each number is beside its budget."""
    seconds, setting_up = seconds or Counter(), setting_up or Counter()
    lines, may_have = lines_by_part(), budgets()
    rows = [f"{'part':<12}{'tests':>7}{'of':>7}{'lines':>8}{'of':>8}{'seconds':>9}{'of':>6}{'set-up':>8}"]
    names = sorted(tests, key=lambda name: (-seconds[name], name))
    for name in (*names, "all"):
        of = [name] if name != "all" else names
        known = [may_have.get(each, Budget(0, 0, 0)) for each in of]
        spent, on_set_up = sum(seconds[each] for each in of), sum(setting_up[each] for each in of)
        rows.append(
            f"{name:<12}{sum(tests[each] for each in of):>7}{sum(each.tests for each in known):>7}"
            f"{sum(lines[each] for each in of):>8}{sum(each.lines for each in known):>8}"
            f"{spent:>9.0f}{sum(each.seconds for each in known):>6}{on_set_up / spent if spent else 0:>8.0%}"
        )
    return "\n".join(rows)


def longest() -> dict[str, int]:
    """Returns the files that take long, with their seconds when the list was written."""
    rows = (line.split() for line in LONGEST.read_text().splitlines())
    return {file: int(seconds) for seconds, file in rows}


if __name__ == "__main__":
    print(table(tests_by_part(collected())))
