"""The start of the prompt: options, missing packages, and standard input that is no terminal."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxybox.cli.arguments import REPL, Parsed, parse

COMMAND = (sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())", "repl")
Make = Callable[..., Any]


def run(*words: str, stdin: str = "", code: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *words]
    command[2] = code + command[2]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("script", "status", "stdout"),
    [("print(6 * 7)", 0, "42\n"), ("6 * 7", 0, ""), ("raise SystemExit(4)", 4, ""), ("1/0", 1, ""),
     ("print(input())\nthe rest", 1, ""), ("while True: pass", 124, "")],
)  # fmt: skip
def test_standard_input_that_is_no_terminal_is_a_script(script: str, status: int, stdout: str) -> None:
    done = run("--timeout", "1" if status == 124 else "60", stdin=script)
    assert (done.returncode, done.stdout) == (status, stdout)


def test_help() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(flag in done.stdout for option in REPL for flag in option.flags)


def test_options_are_read_fast_and_slowly() -> None:
    words = ["-p", "strict", "--vi", "--set", "a=1", "-sb=2", "--no-history"]
    assert parse(words, REPL, program=False) == Parsed(
        {"policy": "strict", "vi": True, "no_history": True, "set": ("a=1", "b=2")}, "", "", ()
    )
    assert parse([], REPL, program=False) == Parsed({}, "", "", ())
    for wrong in (["script.py"], ["-c", "1"], ["--nothing"], ["--policy"], ["--help"]):
        assert parse(wrong, REPL, program=False) is None


def test_a_word_too_many() -> None:
    done = run("script.py")
    assert done.returncode == 2
    assert "script.py" in done.stderr


def in_a_terminal(tmp_path: Path, *words: str, code: str = "") -> str:
    """Returns the output in a terminal before the first prompt."""
    import pexpect

    command = [*COMMAND, *words]
    command[2] = code + command[2]
    child = pexpect.spawn(command[0], command[1:], timeout=60, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)})
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus in (2, 125)
    said: bytes = child.before
    return said.decode().replace("\r\n", "\n")


def test_what_makes_no_sense_is_said_in_a_line(tmp_path: Path) -> None:
    assert in_a_terminal(tmp_path, "--folder", "/nothing") == "proxybox: --folder: '/nothing' is no folder\n"
    assert in_a_terminal(tmp_path, "--guest", "/nothing").startswith("proxybox: ")
    assert "did you mean" in in_a_terminal(tmp_path, "--policy", "strikt")


def test_without_the_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['prompt_toolkit'] = None; "
    assert in_a_terminal(tmp_path, code=code) == (
        "proxybox: the prompt needs prompt_toolkit, which is not installed: pip install 'proxybox[repl]'\n"
    )


def test_a_folder_of_the_persons(terminal: Make, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("of the host")
    term = terminal("--folder", str(tmp_path))
    assert "'of the host'" in term.run("open('notes.txt').read()")
    term.run("open('notes.txt', 'w').close()")
    assert (tmp_path / "notes.txt").read_text() == "of the host"
