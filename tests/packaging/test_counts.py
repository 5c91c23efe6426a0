"""Counts that depend only on the code are equal to those in benchmarks/counts.toml."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.controller import hostproc
from proxybox.controller.process.guestprocess import GuestProcess

TABLE: dict[str, Any] = tomllib.loads(
    (Path(__file__).resolve().parent.parent.parent / "benchmarks" / "counts.toml").read_text(encoding="utf-8")
)


def hold(count: int, written: int, version: str) -> None:
    """Checks that a count is the written one. With another PyPy than the table's it may be half as large again."""
    if version == TABLE["pypy"]:
        assert count == written, "write the new number into benchmarks/counts.toml, and say why in the commit"
    else:
        assert count <= 1.5 * written


@pytest.fixture(scope="module")
def version() -> str:
    return proxybox.run("import sys; print('.'.join(map(str, sys.pypy_version_info[:3])))").stdout.strip()


@pytest.mark.parametrize("program", TABLE["calls"])
def test_calls_of_a_program(program: str, version: str) -> None:
    with proxybox.Sandbox(warm=False) as box:
        hold(box.run(program, check=True).usage.calls, TABLE["calls"][program], version)


def test_calls_of_warm_boxes(version: str) -> None:
    with proxybox.Pool(size=1) as pool:
        while not pool.ready:
            pass
        first = pool.run("print(1)", check=True)
    with proxybox.Sandbox() as box, box.session() as session:
        second = session.eval("1 + 1")
    counts = TABLE["calls_of_warm_boxes"]
    hold(first.usage.calls, counts["a program in a pool"], version)
    hold(second.usage.calls, counts["a command of a session"], version)


def test_page_faults_of_a_start(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without huge pages the memory for new objects would cause 8,000 of them."""
    seen: list[int] = []
    monkeypatch.setattr(GuestProcess, "measure", lambda process: seen.extend(hostproc.stat(process.pid, 10)))
    proxybox.run("print('hello')", check=True)
    assert seen[0] <= more_of(version) * TABLE["most_page_faults"]["print('hello')"], seen


def more_of(version: str) -> int:
    """Returns the factor of the limit: it is 1 for the table's PyPy on a kernel that gives huge pages, otherwise 5."""
    return 1 if version == TABLE["pypy"] and hostproc.gives_huge_pages() else 5


def test_page_faults_of_a_ready_box(version: str) -> None:
    """Each is a page that the copy no longer shares with its zygote: most of a box's memory."""
    seen: list[int] = []
    with proxybox.Pool(size=1) as pool:
        while not pool.ready:
            pass
        live = pool._boxes._ready[0]._live  # type: ignore[union-attr]
        live.world.on_exit = lambda: seen.extend(hostproc.stat(live.process.pid, 10))
        live.world.on_exit()
        pool.run("print(1)", check=True)
    most, more = TABLE["most_page_faults"], more_of(version)
    assert seen[0] <= more * most["a box until it is ready"], seen
    assert seen[1] - seen[0] <= more * most["a program in a pool"], seen


@pytest.mark.parametrize("what", TABLE["modules"])
def test_modules_that_are_imported(what: str) -> None:
    ways = {
        "import proxybox": "import proxybox",
        "proxybox run": "import proxybox.cli\nsys.argv[1:] = ['run', '-c', 'pass']\nproxybox.cli.main()",
        "proxybox policy list": "import proxybox.cli\nsys.argv[1:] = ['policy', 'list']\nproxybox.cli.main()",
    }
    code = (
        f"import atexit, sys\natexit.register(lambda: print(sorted(name for name in sys.modules"
        f" if name.partition('.')[0] == 'proxybox'), file=sys.stderr))\n{ways[what]}"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    names = eval(said.splitlines()[-1])
    assert len(names) == TABLE["modules"][what], names
