"""`proxybox run` without a box: the arguments of the API, and the output."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxybox.cli.failures import print_warning
from proxybox.controller.audit import Denial
from proxybox.policies import PolicyError

Proxybox = Callable[..., Any]


def test_options_become_the_policy(api: Any, proxybox: Proxybox, tmp_path: Path) -> None:
    words = ["--timeout", "2.5", "--memory", "64M", "--env", "A=b=c", "--rw"]
    words += ["--set", "limits.threads=3", "--mount", f"{tmp_path}:/data"]
    assert proxybox("run", *words, "--guest", "/opt/pypy", "-c", "pass", "x").status == 0
    policy = api.asked["policy"]
    assert policy.limits.wall_time == 2.5
    assert policy.limits.memory == 64 << 20
    assert policy.limits.threads == 3
    assert policy.environment.variables == {"A": "b=c"}
    assert policy.filesystem.box == "rw"
    assert [(mount.target, mount.source) for mount in policy.filesystem.mounts] == [("/data", str(tmp_path))]
    assert api.asked["guest"] == "/opt/pypy"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--timeout", "soon"], "--timeout: "),
        (["--memory", "1"], "--memory: "),
        (["--env", "NOVALUE"], "--env: want NAME=VALUE"),
        (["--set", "limits.wall_time"], "--set: want NAME=VALUE"),
        (["--set", "limits.wall_tim=3"], "wall_time"),
        (["--mount", "/tmp"], "--mount: "),
    ],
)
def test_a_bad_option_is_a_usage_error(api: Any, proxybox: Proxybox, words: list[str], said: str) -> None:
    outcome = proxybox("run", *words, "-c", "pass")
    assert outcome.status == 2
    assert outcome.err.startswith("proxybox: ")
    assert said in outcome.err
    assert api.program is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("[limits]\nwall_tim = 3\n", "limits.wall_tim"),
        ("not toml", "not TOML"),
    ],
)
def test_a_bad_policy_file(api: Any, proxybox: Proxybox, tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "policy.toml"
    if text is not None:
        path.write_text(text)
    outcome = proxybox("run", "--policy", str(path), "-c", "pass")
    assert outcome.status == 125
    assert said in outcome.err
    assert str(path) in outcome.err
    assert "Traceback" not in outcome.err


def test_an_unknown_preset(api: Any, proxybox: Proxybox) -> None:
    outcome = proxybox("run", "--policy", "stric", "-c", "pass")
    assert outcome.status == 125
    assert "did you mean strict?" in outcome.err


def test_a_missing_script(api: Any, proxybox: Proxybox, tmp_path: Path) -> None:
    outcome = proxybox("run", str(tmp_path / "nothing.py"))
    assert outcome.status == 125
    assert outcome.err.startswith("proxybox: can't open file")
    outcome = proxybox("run", str(tmp_path))
    assert outcome.status == 125
    assert "__main__.py" in outcome.err


THREAD = Denial("clone", "EAGAIN", "limits.threads")


@pytest.mark.parametrize(
    ("result", "status", "said"),
    [
        ({"exit_code": 7, "status": "error"}, 7, ""),
        ({"exit_code": 300, "status": "error"}, 300 & 0xFF, ""),
        ({"exit_code": 1, "status": "error", "denials": {THREAD: 1}}, 1, "threads at once: use fewer (limits.threads)"),
        ({"status": "time_limit", "exit_code": None}, 124, "time limit"),
        ({"status": "memory_limit", "exit_code": None}, 137, "memory limit"),
        ({"status": "output_limit", "exit_code": None}, 153, "printed more than 1 MiB: print less (output.limit)"),
        ({"status": "disk_limit", "exit_code": None}, 153, "no room left for files (limits: "),
        ({"status": "denied", "exit_code": None}, 126, "a call that this box refuses"),
        ({"status": "call_limit", "exit_code": None}, 153, "limit of 1,000,000 OS calls"),
        ({"status": "misbehaved", "exit_code": None}, 125, "broke the rules of this box"),
        ({"status": "internal_error", "exit_code": None}, 125, "no fault of the program: try again (please report it)"),
        ({"status": "crashed", "exit_code": None, "signal": 11}, 139, "the interpreter crashed"),
        ({"status": "cancelled", "exit_code": None}, 130, "cancelled from outside"),
    ],
)
def test_exit_statuses(api: Any, proxybox: Proxybox, result: dict[str, Any], status: int, said: str) -> None:
    for name, value in result.items():
        setattr(api.result, name, value)
    outcome = proxybox("run", "-c", "pass")
    assert outcome.status == status
    assert said in outcome.err
    assert (outcome.err == "") == (said == "")


def test_a_warning_is_a_line_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    print_warning(RuntimeWarning("boxes are not warm\x1b[31m"), RuntimeWarning, "sandbox.py", 7)
    seen = capsys.readouterr().err
    assert seen.startswith("proxybox: boxes are not warm")
    assert "\x1b" not in seen


def test_output_is_passed_on_as_it_is(api: Any, proxybox: Proxybox) -> None:
    api.stdout = b"hello \x1b[31mred\x1b[0m\n"
    assert proxybox("run", "-c", "pass").out == "hello \x1b[31mred\x1b[0m\n"


def test_a_policy_can_have_escapes_neutralised_everywhere(api: Any, proxybox: Proxybox) -> None:
    api.stdout = b"\x1b[31mred\n"
    outcome = proxybox("run", "--set", "output.escapes=neutralise", "-c", "pass")
    assert outcome.out == "\\x1b[31mred\n"


def test_json_holds_the_output_back(api: Any, proxybox: Proxybox) -> None:
    api.result.stdout = "hello\n"
    outcome = proxybox("run", "--json", "-c", "pass")
    assert json.loads(outcome.out)["stdout"] == "hello\n"
    assert api.asked["capture"]
    assert api.asked["on_stdout"] is None


def test_errors_of_the_api_are_one_line(api: Any, proxybox: Proxybox) -> None:
    from proxybox.controller.errors import SandboxStartError

    api.error = SandboxStartError("no PyPy found: apt install pypy3")
    outcome = proxybox("run", "-c", "pass")
    assert outcome.status == 125
    assert outcome.err == "proxybox: no PyPy found: apt install pypy3\n"
    api.error = PolicyError("nonsense")
    assert proxybox("run", "-c", "pass").status == 125


def test_our_own_faults_are_not_hidden(api: Any, proxybox: Proxybox) -> None:
    api.error = ZeroDivisionError()
    outcome = proxybox("run", "-c", "pass")
    assert outcome.status == 125
    assert "Traceback" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("proxybox: a fault of proxybox's own")


def test_verbose_says_what_was_refused(api: Any, proxybox: Proxybox) -> None:
    api.result.denials = {Denial("socket", "EPERM", "there is no network"): 3}
    outcome = proxybox("run", "-v", "-c", "pass")
    assert "refused socket: EPERM: there is no network, 3 times" in outcome.err
