"""policy, completion, help, versions: the commands that do not start a box."""

import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Proxybox = Callable[..., Any]


@pytest.mark.parametrize(
    "command",
    [
        "",
        "run",
        "trace",
        "doctor",
        "kernel",
        "kernel install",
        "kernel uninstall",
        "kernel run",
        "completion",
        "policy",
        "policy list",
        "policy show",
        "policy check",
        "policy explain",
        "commits",
        "commits resume",
        "commits undo",
    ],
)
def test_every_command_has_help(proxybox: Proxybox, command: str) -> None:
    for flag in ("--help", "-h"):
        outcome = proxybox(*command.split(), flag)
        assert outcome.status == 0
        assert outcome.out.startswith("Usage: proxybox")


def test_version(proxybox: Proxybox) -> None:
    version = importlib.metadata.version("proxybox")
    assert proxybox("--version").out == f"proxybox {version}\n"


@pytest.mark.parametrize("line", ["frob", "run --nope x", "completion csh", "policy show"])
def test_usage_errors(proxybox: Proxybox, line: str) -> None:
    outcome = proxybox(*line.split())
    assert outcome.status == 2
    assert outcome.out == ""
    assert "Usage: proxybox" in outcome.err


@pytest.mark.parametrize(("line", "meant"), [
    ("run --timeot 5 -c 1", "--timeout"), ("serve --prot 9", "--port"), ("learn --acept-all x.py", "--accept-all"),
    ("replay --at-cal 5 x", "--at-call"), ("rnu x.py", "run"),
])  # fmt: skip
def test_a_misspelt_word_has_one_that_is_meant(proxybox: Proxybox, line: str, meant: str) -> None:
    assert proxybox(*line.split()).err.endswith(f" Did you mean {meant!r}?\n")


def test_the_port_of_a_service_is_asked_for_alone(proxybox: Proxybox, monkeypatch: pytest.MonkeyPatch) -> None:
    running = pytest.importorskip("proxybox.serve.running", reason="the service has an extra of its own (server)")
    asked: list[Any] = []
    monkeypatch.setattr(running, "run", lambda config, check: asked.append((config.listen, check)) or 0)
    assert proxybox("serve", "--port", "9000").status == 0
    assert asked == [("127.0.0.1:9000", False)]
    outcome = proxybox("serve", "--port", "9000", "--listen", "0.0.0.0:80")
    assert (outcome.status, outcome.err.startswith("proxybox: --listen and --port exclude each other")) == (2, True)


def test_presets_can_be_listed_shown_checked_and_explained(proxybox: Proxybox, tmp_path: Path) -> None:
    presets = json.loads(proxybox("policy", "list", "--json").out)
    assert {"default", "strict", "classroom", "repl"} <= set(presets)
    listed = proxybox("policy", "list").out
    for name, purpose in presets.items():
        assert f"{name} " in listed
        assert purpose in listed
        path = tmp_path / f"{name}.toml"
        path.write_text(proxybox("policy", "show", name).out)
        assert proxybox("policy", "check", str(path)).out == f"{path}: ok\n"
        explained = proxybox("policy", "explain", name)
        assert explained.status == 0
        assert explained.out == proxybox("policy", "explain", str(path)).out
        assert json.loads(proxybox("policy", "explain", "--json", name).out)


def test_settings_are_shown(proxybox: Proxybox) -> None:
    shown = json.loads(proxybox("policy", "show", "--json", "-s", "limits.threads=3", "strict").out)
    assert shown["limits"]["threads"] == 3


def test_sessions_and_preloads_are_shown_checked_and_explained(proxybox: Proxybox, tmp_path: Path) -> None:
    settings = ("-s", "session.branches=3", "-s", 'preload=["json"]')
    shown = json.loads(proxybox("policy", "show", "--json", *settings, "classroom").out)
    assert (shown["session"]["branches"], shown["preload"]) == (3, ["json"])
    explained = proxybox("policy", "explain", *settings, "classroom").out
    assert "3 copies of it may live at once" in explained
    assert "before any untrusted code runs: json." in explained
    bad = tmp_path / "bad.toml"
    bad.write_text('preload = "json"\n[session]\nbranch = 1\n')
    outcome = proxybox("policy", "check", str(bad))
    assert outcome.status == 125
    assert 'did you mean ["json"]?' in outcome.out
    assert "session.branch: there is no such key; did you mean branches?" in outcome.out


def test_the_schema_of_policies(proxybox: Proxybox) -> None:
    seen = json.loads(proxybox("policy", "schema").out)
    assert seen["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert seen["properties"]["limits"]["properties"]["input_wait"]["enum"] == ["auto", "free", "counted"]


def test_check_tells_every_fault(proxybox: Proxybox, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.toml", tmp_path / "good.toml"
    bad.write_text("colour = 1\n[limits]\nwall_time = -1\nmemori = 5\n")
    good.write_text("")
    outcome = proxybox("policy", "check", str(bad), str(good), str(tmp_path / "none.toml"))
    assert outcome.status == 125
    for word in ("colour", "limits.wall_time", "did you mean memory", "good.toml: ok", "none.toml"):
        assert word in outcome.out
    found = json.loads(proxybox("policy", "check", "--json", str(bad)).out)
    assert {problem["key"] for problem in found[str(bad)]} == {
        "colour",
        "limits.wall_time",
        "limits.memori",
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(proxybox: Proxybox, shell: str) -> None:
    outcome = proxybox("completion", shell)
    assert outcome.status == 0
    assert "_PROXYBOX_COMPLETE" in outcome.out


def test_completing_a_preset() -> None:
    environment = os.environ | {
        "_PROXYBOX_COMPLETE": "bash_complete",
        "COMP_WORDS": "proxybox run --policy str",
        "COMP_CWORD": "3",
    }
    done = subprocess.run(
        [sys.executable, "-m", "proxybox.cli"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "plain,strict" in done.stdout.split()


def test_without_click_the_reason_is_said(proxybox: Proxybox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "proxybox.cli.app", raising=False)
    outcome = proxybox("policy", "list")
    assert outcome.status == 125
    assert "pip install 'proxybox[cli]'" in outcome.err


def test_run_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys\n"
        "from proxybox.cli.arguments import RUN, parse\n"
        "from proxybox.cli import run\n"
        "run.choose_policy(parse(['-c', 'pass'], RUN))\n"
        "print(*sorted({'click', 'rich', 'tomllib', 'cattrs', 'json', 'argparse', 'asyncio'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- commits ----------------------------------------------------------------------------------------------------------


def test_commits_that_were_cut_off(proxybox: Proxybox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes\n.txt").write_text("old")
    (folder / "main.py").write_text("import os; os.rename('notes\\n.txt', 'moved.txt')")
    cut_off = """
import os, pathlib, signal, sys
import proxybox
from proxybox.controller.vfs.host import boundary
result = proxybox.run(pathlib.Path(sys.argv[1]))
rename, count = boundary.rename, []
def killed(*arguments):
    count.append(1)
    if len(count) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*arguments)
boundary.rename = killed
result.files.commit()
"""
    assert proxybox("commits").out == "no commit was interrupted\n"
    for word, names in (("undo", ["main.py", "notes\n.txt"]), ("resume", ["main.py", "moved.txt"])):
        ended = subprocess.run([sys.executable, "-c", cut_off, folder / "main.py"])
        assert ended.returncode == -signal.SIGKILL
        (seen,) = json.loads(proxybox("commits", "--json").out)
        listed = proxybox("commits")
        assert f"proxybox commits {word} {seen['id']}" in listed.out
        assert "notes\\n.txt" in listed.out
        assert (seen["folder"], sorted(seen["paths"])) == (str(folder), ["moved.txt", "notes\n.txt"])
        assert sorted(os.listdir(folder)) != names
        done = proxybox("commits", word, seen["id"])
        assert (done.status, sorted(os.listdir(folder))) == (0, names), done
    gone = proxybox("commits", "resume", seen["id"])
    assert (gone.status, gone.out) == (125, "")
    assert "no unfinished commit" in gone.err
    assert proxybox("commits", "undo").status == 2


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("trace --family cl", {"clock"}),
        ("run --set limits.c", {"limits.calls=", "limits.cpu_time="}),
        ("repl -s on_denied=", {"on_denied=errno", "on_denied=end"}),
        ("trace --set time.kind=f", {"time.kind=frozen"}),
        ("policy show strict --set filesystem.hide_dotfiles=t", {"filesystem.hide_dotfiles=true"}),
        ("policy explain strict -s prel", {"preload="}),
    ],
)
def test_completing_families_and_settings(words: str, found: set[str]) -> None:
    environment = {"_PROXYBOX_COMPLETE": "bash_complete", "COMP_WORDS": f"proxybox {words}"}
    done = subprocess.run(
        [sys.executable, "-m", "proxybox.cli"],
        env={**os.environ, **environment, "COMP_CWORD": str(len(words.split()))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert {line.removeprefix("plain,") for line in done.stdout.splitlines()} == found


def test_a_check_tells_of_mounts_that_are_not_there(proxybox: Proxybox, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    (tmp_path / "data").mkdir()
    (tmp_path / "round").symlink_to("round")
    file.write_text(
        'filesystem.mounts = ["data:/data", "/no/such:/x", {target = "/y", source = "mine.toml/x"}, "/dev/null:/z", '
        '"round:/r"]\n'
    )
    outcome = proxybox("policy", "check", str(file))
    assert (outcome.status, outcome.err) == (125, "")
    seen = [line.removeprefix(f"{file}: filesystem.mounts") for line in outcome.out.splitlines()]
    assert [line.partition(", got ")[0] for line in seen] == [
        "[1].source: does not exist on this host",
        "[2].source: does not exist on this host",
        "[3].source: is neither a file nor a folder on this host",
        "[4].source: cannot be reached (Too many levels of symbolic links) on this host",
    ]
    assert seen[0].endswith("got '/no/such'")


def test_a_check_knows_what_misspelt_keys_mean(proxybox: Proxybox, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('extend = "strict"\nlimit.calls = 3\n')
    outcome = proxybox("policy", "check", str(file))
    assert "extend: there is no such key; did you mean extends? (allowed: environment, extends," in outcome.out
    assert "limit: there is no such key; did you mean limits?" in outcome.out


@pytest.mark.parametrize("name", ["pytest", "jinja2", "yaml"])
@pytest.mark.parametrize("words", ["grade exercise homework", "exercise check exercise", "exercise test exercise a.py"])
def test_grading_says_what_it_needs_before_it_begins(
    proxybox: Proxybox, monkeypatch: pytest.MonkeyPatch, words: str, name: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each: None if each == name else find(each))
    outcome = proxybox(*words.split())
    seen = f"proxybox: grading needs {name}, which is not installed: pip install 'proxybox[teach]'\n"
    assert (outcome.status, outcome.out, outcome.err) == (125, "", seen)
