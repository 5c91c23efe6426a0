"""proxybox.diagnose: each failure becomes one of the problems, and nothing is raised."""

import json
from typing import Any

import pytest

import proxybox
from proxybox import diagnosis
from proxybox.cli import doctor
from proxybox.controller.errors import Denied, SandboxStartError

#: The functions that it calls, by the names that it uses.
PROBES = ("find_guest", "_try", "read", "_warnings", "calls_that_end_a_process")
FAULTS: list[Exception] = [
    SandboxStartError("the box could not be started: prctl(2) has failed"),
    OSError(38, "Function not implemented"),
    RuntimeError("a fault"),
]


def failing(fault: Exception) -> Any:
    def fail(*arguments: object, **options: object) -> None:
        raise fault

    return fail


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("probe", PROBES)
def test_whatever_fails_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], probe: str, fault: Exception
) -> None:
    monkeypatch.setattr(diagnosis, "_try", lambda guest: ({}, "it did not do what it should"))
    monkeypatch.setattr(diagnosis, "calls_that_end_a_process", list)
    monkeypatch.setattr(diagnosis, probe, failing(fault))
    found = proxybox.diagnose()
    assert any(str(fault) in problem for problem in found.problems), found
    assert (found.guest is None) == (probe == "find_guest")
    for as_json in (False, True):
        assert doctor.report(None, as_json=as_json) == 125
        out = capsys.readouterr().out
        assert json.loads(out)["problems"] == list(found.problems) if as_json else "problem: " in out


def test_a_fault_of_ours_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_try", failing(Denied(13, "leads out of the mount on the host")))
    (problem,) = proxybox.diagnose().problems
    assert "the start of a box has failed" in problem
    assert "in fail, test_diagnosis.py line" in problem


def test_ctrl_c_is_none_of_the_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(guest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(diagnosis, "_try", interrupted)
    with pytest.raises(KeyboardInterrupt):
        proxybox.diagnose()


def test_an_interpreter_with_which_a_box_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_try", failing(OSError(38, "Function not implemented")))
    found = list(diagnosis.guests())
    assert found
    assert all("Function not implemented" in guest.problem for guest in found)
