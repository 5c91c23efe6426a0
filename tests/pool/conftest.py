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
    """Processes whose parent this one is."""
    return {*below("self")}


def below(pid: str) -> list[str]:
    """A process's children, of all its threads."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for task in Path("/proc", pid, "task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has ended meanwhile
                found += (task / "children").read_text().split()
    return found


def descriptors() -> set[int]:
    """What this process has open, but for the folder that it looks into, and the libraries that all boxes map."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if not os.readlink(f"/proc/self/fd/{name}").endswith(".so"):
                found.add(int(name))
    return found


@pytest.fixture(scope="session", autouse=True)
def _lasting() -> None:
    """What the first box of a process leaves for all others: open folders of the library, threads."""
    with proxybox.Sandbox(warm=True) as box:
        for _ in range(3):
            box.run("import decimal, ssl")


@pytest.fixture(autouse=True)
def _modules_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers take none from the current folder, which is that of the tests, unless it was named."""
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
