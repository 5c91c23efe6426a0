"""The rule of tests/gate.py, on toys: which runs are green, unsteady or red."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import gate

ROOT = Path(gate.__file__).parents[1]

#: Passes if a file of this name was there before, and makes it.
ONCE = """
from pathlib import Path
def first_time(name):
    path = Path(__file__).parent / name
    try: return not path.exists()
    finally: path.touch()
"""
FAILS_ONCE = ONCE + "def test_toy(): assert not first_time('once')\n"
FAILS_ALWAYS = "def test_toy(): assert False, 'always'\n"
#: Fails in the second of three runs that follow the first.
FAILS_NOW_AND_THEN = (
    ONCE + "def test_toy(): assert not (first_time('a') or (not first_time('b') and first_time('c')))\n"
)
SET_UP_FAILS_ONCE = (
    ONCE + "import pytest\n@pytest.fixture(scope='module')\ndef made(): assert not first_time('made')\n"
    "def test_toy(made): pass\ndef test_other(made): pass\n"
)

#: One test, though pytest reports that of the subtest, too.
SUBTESTS = "def test_c(subtests):\n    with subtests.test(): pass\n"


class Toys:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -q\n")

    def run(self, files: dict[str, str], *arguments: str) -> tuple[int, str]:
        for name, text in files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        command = [sys.executable, "-m", "tests.gate", "-p", "xdist", "-n2", "--dist", "loadfile", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(command, cwd=self._folder, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    return Toys(tmp_path)


def test_what_fails_once_is_named_and_does_not_stop_a_commit(toys: Toys) -> None:
    status, printed = toys.run({"test_a.py": FAILS_ONCE, "test_b.py": SET_UP_FAILS_ONCE, "test_c.py": SUBTESTS})
    assert status == 0, printed
    for test in ("test_a.py::test_toy", "test_b.py::test_toy", "test_b.py::test_other"):
        assert f"unsteady: {test} failed beside others" in printed
    assert "first_time('once')" in printed  # the first traceback
    assert "1 passed, 0 failed, 0 skipped" in printed


def test_what_fails_twice_is_red(toys: Toys) -> None:
    status, printed = toys.run({"test_a.py": FAILS_ALWAYS, "test_b.py": "def test_b(): pass"})
    assert status == 1
    assert "red: test_a.py" in printed
    assert "1 passed, 1 failed, 0 skipped" in printed


def test_an_attack_has_to_pass_three_times(toys: Toys) -> None:
    status, printed = toys.run({"tests/hostile/test_a.py": FAILS_NOW_AND_THEN, "test_b.py": FAILS_NOW_AND_THEN})
    assert status == 1
    assert "red: tests/hostile/test_a.py" in printed
    assert "red: test_b.py" not in printed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import os\ndef test_toy(): os._exit(1)", "crashed"),
        ("import no_such_module\ndef test_toy(): pass", "cannot be collected"),
        ("def helper(): pass", "NO_TESTS_COLLECTED"),
        ("import pytest\ndef test_toy(): raise KeyboardInterrupt", "INTERRUPTED"),
        ("import pytest\ndef test_toy(): pytest.exit('enough')", "INTERRUPTED"),
    ],
)
def test_what_is_no_failure_of_a_test_is_not_asked_again(toys: Toys, text: str, says: str) -> None:
    status, printed = toys.run({"test_a.py": text})
    assert status == 1, printed
    assert "red: the run" in printed
    assert says in printed


def test_options_hold_for_the_second_run_too(toys: Toys) -> None:
    both = FAILS_ONCE + "def test_other(): assert False\n"
    status, printed = toys.run({"test_a.py": both, "test_b.py": FAILS_ALWAYS}, "-k", "toy", "test_a.py")
    assert status == 0, printed


def outcome(*files: str) -> gate.Outcome:
    return gate.Outcome(passed=9, failed={f"{file}::test_toy": "call: assert False" for file in files})


class Runs:
    """Answers in place of pytest."""

    def __init__(self, first: gate.Outcome, *alone: gate.Outcome) -> None:
        self._left, self.asked = [first, *alone], list[Sequence[str]]()

    def __call__(self, arguments: Sequence[str], limit: float | None = None) -> gate.Outcome:
        self.asked.append(arguments)
        return self._left.pop(0) if self._left else gate.Outcome(passed=1)


@pytest.mark.parametrize(("files", "status"), [(gate.MOST_UNSTEADY, 0), (gate.MOST_UNSTEADY + 1, 1)])
def test_more_than_a_few_unsteady_files_are_red(monkeypatch: pytest.MonkeyPatch, files: int, status: int) -> None:
    runs = Runs(outcome(*(f"tests/vfs/test_{at}.py" for at in range(files))))
    monkeypatch.setattr(gate, "run", runs)
    assert gate.main([]) == status
    assert len(runs.asked) == (1 if status else 1 + files)


def test_a_file_that_takes_too_long_alone_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "run", Runs(outcome("tests/vfs/test_a.py"), gate.Outcome(broken=["longer than 900 s"])))
    assert gate.main([]) == 1
