"""What a Result says that may help, and what the command line prints of it."""

import subprocess
import sys

import pytest

import proxybox
from proxybox.hints import hint

PROGRAMS = {
    "a package": ("pypy", "import numpy.linalg", "numpy is not in the box"),
    "tracemalloc": ("pypy", "import tracemalloc", "a PyPy has no tracemalloc: run the program with a CPython"),
    "references": ("pypy", "import sys; sys.getrefcount(sys)", "a PyPy does not count references"),
    "the C API": ("pypy", "import ctypes; ctypes.pythonapi", "a PyPy has no C API by ctypes"),
    "open files": (
        "cpython",
        "kept = []\nwhile True: kept.append(open('/etc/passwd'))",
        "limits.open_files; close files",
    ),
    "a module of its own": ("pypy", "import os.nothing", ""),
    "another exception": ("pypy", "raise ValueError(\"No module named 'numpy'\")", ""),
    "none": ("pypy", "pass", ""),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_result_has_a_hint_where_something_is_known(name: str) -> None:
    guest, program, told = PROGRAMS[name]
    result = proxybox.run(program, guest=guest)
    assert result.hint.startswith(told), result
    assert bool(result.hint) == bool(told)
    assert result.to_dict()["hint"] == result.hint


def test_the_command_line_prints_it_last() -> None:
    words = [sys.executable, "-m", "proxybox.cli", "run", "-c", "import numpy"]
    said = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=200)
    assert said.returncode == 1
    last = said.stderr.splitlines()[-1]
    assert last.startswith("proxybox: numpy is not in the box")


def test_a_hint_repeats_a_name_alone() -> None:
    assert hint("ModuleNotFoundError", "No module named 'a\x1b[31m'") == ""
    assert hint("ModuleNotFoundError", "No module named 'tkinter'") == "this interpreter was installed without tkinter"
    assert "another interpreter" in hint("ImportError", "IMPORTANT: ...\nImporting the numpy C-extensions failed. ...")
