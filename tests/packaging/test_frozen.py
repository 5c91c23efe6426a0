"""Names that users rely on, even when the code behind them moves. New ones may be added; none is removed."""

import importlib
import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import proxybox
import proxybox.controller

PUBLIC = """
    __version__ Answer AsyncPool AsyncSandbox AsyncSession CallDenied CallLimitExceeded CannotCopy CommitRefused
    Completeness Completion Denial Deny Diagnosis DiskLimitExceeded Displayed Environment ExecutionError FileEntry Files
    Filesystem Finished GuestError GuestMisbehaved HostFunction Inspection Layer Limits MemoryLimitExceeded Mount
    Network OSCall Output OutputLimitExceeded Policy PolicyError Pool Printed Program ProxyboxError Result Sandbox
    SandboxClosedError SandboxStartError Session SessionBusy SessionLimits Snapshot Status Terminal Time
    TimeLimitExceeded Usage diagnose run run_file
"""
CONTROLLER = """
    Answer Audit Blocked BoxSpec Decision Denial Denied Deny Dispatcher EndBox Guest GuestMisbehaved Interceptor OSCall
    Reply Run SandboxClosedError SandboxStartError TABLE World find_guest oscall
"""
#: Names of the controller that were renamed, and still work.
RENAMED = {"BoxSpec", "Run"}
#: Former places of names, from which they can still be imported.
PLACES = {"proxybox.api": "Diagnosis Layer Sandbox diagnose run run_file run_program", "proxybox.worker": "main"}


@pytest.mark.parametrize("module", [proxybox, proxybox.controller], ids=lambda module: module.__name__)
def test_names_that_are_exported(module) -> None:
    names = (PUBLIC if module is proxybox else CONTROLLER).split()
    assert set(names) - {*RENAMED} <= set(module.__all__)
    for name in {*module.__all__, *names}:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("place", PLACES)
def test_places_that_names_are_imported_from(place: str) -> None:
    module = importlib.import_module(place)
    assert [name for name in PLACES[place].split() if not hasattr(module, name)] == []


def test_entry_points() -> None:
    found = {each.name: each.value for group in ("pytest11", "console_scripts") for each in entry_points(group=group)}
    assert found["pytest-proxybox"] == "proxybox.teach.plugin"
    assert found["proxybox"] == "proxybox.cli:main"


def test_what_starts_the_kernel() -> None:
    spec = json.loads(Path(__file__).parents[2].joinpath("share/jupyter/kernels/proxybox/kernel.json").read_text())
    assert spec["argv"] == ["python", "-P", "-m", "proxybox.cli", "kernel", "run", "-f", "{connection_file}"]


def test_an_old_name_says_what_it_is_called_now() -> None:
    with pytest.raises(AttributeError, match="BoxRunner"):
        proxybox.controller.Box  # noqa: B018
    with pytest.raises(ImportError, match="Box"):
        exec("from proxybox.controller import Box")
