"""Pools and warm boxes leave nothing behind."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool


def children() -> set[str]:
    """Returns the children of this process."""
    return {*below("self")}


def below(pid: str) -> list[str]:
    """Returns the children of a process, of all its threads."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for task in Path("/proc", pid, "task").iterdir():
            with contextlib.suppress(OSError):  # the thread has ended meanwhile
                found += (task / "children").read_text().split()
    return found


def descriptors() -> set[int]:
    """Returns the open descriptors of this process, without those of libraries that all boxes map."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if not os.readlink(f"/proc/self/fd/{name}").endswith(".so"):
                found.add(int(name))
    return found


@pytest.fixture(scope="session", autouse=True)
def _lasting() -> None:
    """Starts the first box of the process, which leaves open folders of the library and threads for all others."""
    with proxybox.Sandbox(warm=True) as box:
        for _ in range(3):
            box.run("import decimal, ssl")


@pytest.fixture(autouse=True)
def _modules_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the tests' folder into PYTHONPATH: workers import nothing from a current folder that is not named there."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture(autouse=True)
def _nothing_is_left(_lasting: None) -> Iterator[None]:
    zygotepool.close()
    reaper.settle()
    before, open_before = children(), descriptors()
    yield
    zygotepool.close()
    reaper.settle()
    assert children() == before
    assert descriptors() - open_before == set()
