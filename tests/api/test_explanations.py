"""A Result's texts about limits, refusals and exceptions, and the lines that the command line prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import proxybox
from proxybox import Policy, Result, Status
from proxybox.agents import told
from proxybox.explanations import TABLE, Explanation, explain
from proxybox.result import GuestError
from tests.explained import NO_NETWORK, PROGRAMS

POLICY = Policy(limits={"memory": "128M"})
PYPY = {
    "tracemalloc": ("pypy", "import tracemalloc", "the interpreter of this box is a PyPy, which has no tracemalloc"),
    "references": ("pypy", "import sys; sys.getrefcount(sys)", "PyPy, which does not count references"),
    "the C API": ("pypy", "import ctypes; ctypes.pythonapi", "PyPy, which has no C API by ctypes"),
    "open files": (
        "cpython", "kept = []\nwhile True: kept.append(open('/etc/passwd'))", "no more files can be open in this box",
    ),
    "a module of its own": ("pypy", "import os.nothing", ""),
    "another exception": ("pypy", "raise ValueError(\"No module named 'numpy'\")", ""),
    "none": ("pypy", "pass", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def box():
    with proxybox.Sandbox(POLICY) as made:
        yield made


@pytest.mark.parametrize("wants", PROGRAMS)
def test_a_result_a_session_and_a_model_are_told_the_same(box: proxybox.Sandbox, wants: str) -> None:
    code, text = PROGRAMS[wants]
    result = box.run(code)
    assert text in result.hint
    assert text in told(result, POLICY)
    assert {each["text"] for each in result.to_dict()["explanations"]} == set(result.hint.split("\n"))
    with box.session() as session:
        ended = session.exec(code)
    assert ended.hint == result.hint


@pytest.mark.parametrize("name", PYPY)
def test_what_an_interpreter_has_not(name: str) -> None:
    guest, program, text = PYPY[name]
    result = proxybox.run(program, guest=guest)
    assert text in result.hint, result
    assert bool(result.hint) == bool(text)


def test_where_all_is_well_nothing_is_explained_but_that_output_is_missing(box: proxybox.Sandbox) -> None:
    caught = box.run("import socket\ntry: socket.socket()\nexcept OSError: print('no')")
    assert (caught.ok, caught.hint, len(caught.denials)) == (True, "", 1)
    cut = box.run("print('x' * (2 << 20))")
    assert (cut.ok, cut.hint) == (True, "the output was cut after 1 MiB: print less")


def test_the_limit_of_a_call_is_told(box: proxybox.Sandbox) -> None:
    with box.session() as session:
        ended = session.exec("while True: pass", timeout=0.25)
    assert ended.hint == "the time limit of 250 ms was reached: do less at a time"


def test_files_of_the_host_and_hidden_names(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "main.py").write_text("import os; os.rename('file', '.file')")
    for mode in ("overlay", "rw"):
        assert proxybox.run(tmp_path / "main.py", filesystem={"box": mode}).hint == TABLE["hidden"][0]


def command_line(*words: str, cwd: Path) -> list[str]:
    """Runs the command line, and returns the lines of proxybox itself."""
    command = [sys.executable, "-m", "proxybox.cli", "run", *words]
    ran = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=200, cwd=cwd
    )
    return [line for line in ran.stderr.splitlines() if line.startswith("proxybox: ")]


@pytest.mark.parametrize("wants", PROGRAMS)
def test_the_command_line_is_told_the_same_with_what_can_be_changed(wants: str, tmp_path: Path) -> None:
    code, text = PROGRAMS[wants]
    (line,) = command_line("-c", code, cwd=tmp_path)
    assert text in line
    remedies = {
        "a package": "(packages are named from outside: --packages, packages=)", "too much memory": "(limits.memory)",
        "a hidden file": "(filesystem.hide_dotfiles)",
    }  # fmt: skip
    assert line.endswith(remedies.get(wants, ""))


def test_nobody_but_who_chose_the_policy_is_told_of_its_fields() -> None:
    for text, _ in TABLE.values():
        assert not re.search(r"--|\blimits\.|\boutput\.|\bfilesystem\b|=|pip|[A-Z_]{4,}", text.replace("OS calls", ""))
        assert text[0] in "{abcdefghijklmnopqrstuvwxyz"
        assert not text.endswith(".")


def test_a_text_repeats_a_name_alone() -> None:
    def hint(kind: str, message: str) -> list[str]:
        error = GuestError(kind, message, "T\n")
        return [each.text for each in explain(Result(status=Status.ERROR, error=error), POLICY)]

    assert hint("ModuleNotFoundError", "No module named 'a\x1b[31m'") == []
    assert hint("ModuleNotFoundError", "No module named 'tkinter'") == [
        "this interpreter was installed without tkinter"
    ]
    (text,) = hint("ImportError", "IMPORTANT: ...\nImporting the numpy C-extensions failed. ...")
    assert "another interpreter" in text


def test_each_is_told_once() -> None:
    denials = {proxybox.Denial(call, "EPERM", "network: none"): 1 for call in ("socket", "connect")}
    error = GuestError("gaierror", "[Errno -3] Temporary failure in name resolution", "T\n")
    found = explain(Result(status=Status.ERROR, error=error, denials=denials), POLICY)
    assert found == (Explanation("network", NO_NETWORK),)
