"""Memory that a guest makes its controller keep: within the limits, however small the pieces are.

tracemalloc counts the bytes of Python's own objects.
"""

import os
import pickle
import subprocess
import tracemalloc

import pytest

import proxybox
from proxybox.controller.dispatch import MAX_DENIALS
from proxybox.program import Program

TURNS = "import os\nfor n in range(33000): os.write(1, b'a'); os.write(2, b'b')"


def test_output_by_turns(hostile):
    """Each byte of output is a piece of its own."""
    tracemalloc.start()
    try:
        result = hostile.run(TURNS, limits={"calls": None, "cpu_time": 30}, timeout=200)
        kept, _ = tracemalloc.get_traced_memory()
        assert kept < 4 << 20
    finally:
        tracemalloc.stop()
    assert len(pickle.dumps(result)) < 1 << 20, "as a pool's process gives it"
    assert result.stdout == "a" * 33000
    assert result.stderr == "b" * 33000
    pieces = result.output
    assert pieces[:-2] == (("stdout", "a"), ("stderr", "b")) * 32767
    assert pieces[-2:] == (("stdout", "a" * 233), ("stderr", "b" * 233))


# --- a copy of the script's folder ------------------------------------------------------------------------------------


def deep(folder, count):
    """Makes a chain of nested folders."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(count):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


BESIDE = {
    "a sparse file of 20 GB": (lambda folder: sparse(folder / "large", 20 << 30), "limits.disk"),
    "as much as there may be, and more": (lambda folder: (folder / "large").write_bytes(bytes(9 << 20)), "limits.disk"),
    "many that are large together": (
        lambda folder: [sparse(folder / f"{n}", 1 << 20) for n in range(9)],
        "limits.disk",
    ),
    "more files than there may be": (lambda folder: [sparse(folder / f"{n}", 0) for n in range(501)], "limits.files"),
    "more folders than there may be": (lambda folder: [(folder / f"{n}").mkdir() for n in range(501)], "limits.files"),
    "1,500 folders in each other": (lambda folder: deep(folder, 1500), "nested more than 64 deep"),
}


@pytest.fixture
def beside(tmp_path):
    """A folder with a script in it."""
    (tmp_path / "script.py").write_text("import os; print(os.listdir('.'))")
    yield tmp_path
    subprocess.run(["rm", "-rf", "--", tmp_path], check=True)


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_a_script_is_not_read_beyond_the_limits(beside, name):
    """The strict policy gives a box a copy of the script's folder, within the limits."""
    make, seen = BESIDE[name]
    make(beside)
    tracemalloc.start()
    try:
        with pytest.raises(proxybox.SandboxStartError) as caught:
            proxybox.run(beside / "script.py", policy="strict")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert str(beside) in str(caught.value)
    assert seen in str(caught.value)


def test_a_folder_of_exactly_the_limit_is_kept_once(beside):
    disk = 8 << 20
    (beside / "large").write_bytes(bytes(disk - 4096))
    tracemalloc.start()
    try:
        result = proxybox.run(beside / "script.py", policy="strict", filesystem={"box": "memory"})
        assert tracemalloc.get_traced_memory()[1] < disk + (8 << 20)
    finally:
        tracemalloc.stop()
    assert sorted(eval(result.stdout)) == ["large", "script.py"]
    assert not result.files.changes


def test_a_copied_folder_counts_not_as_what_the_program_adds(beside):
    (beside / "large").write_bytes(bytes(7 << 20))
    (beside / "script.py").write_text("open('more', 'wb').write(bytes(7 << 20)); open('large', 'ab').write(b'x')")
    assert proxybox.run(beside / "script.py", policy="strict").status == "disk_limit"
    (beside / "script.py").write_text("open('more', 'wb').write(bytes(7 << 20))")
    result = proxybox.run(beside / "script.py", policy="strict")
    assert [change.name for change in result.files.changes] == ["more"]


@pytest.mark.parametrize("program", ["code", "stdin", "module"])
def test_a_program_that_is_not_in_the_folder_gets_no_copy_of_it(beside, program, monkeypatch):
    """Such a program gets no copy of the current folder, except a module, which may be in it."""
    sparse(beside / "large", 20 << 30)
    (beside / "found.py").write_text("print('found')")
    monkeypatch.chdir(beside)
    with proxybox.Sandbox("strict") as box:
        if program == "module":
            with pytest.raises(proxybox.SandboxStartError, match=r"limits\.disk"):
                box.run_program(Program.module("found"))
            return
        text = "import os; print(os.listdir('/box'), os.getcwd())"
        result = box.run_program(Program.code(text) if program == "code" else Program.stdin(), stdin=text.encode())
    assert (result.stdout, result.stderr) == ("[] /box\n", "")


def test_a_module_of_the_folder_is_found(beside, monkeypatch):
    (beside / "found.py").write_text("print('found')")
    monkeypatch.chdir(beside)
    with proxybox.Sandbox("strict") as box:
        assert box.run_program(Program.module("found")).stdout == "found\n"


# --- refusals, and what is told of calls ------------------------------------------------------------------------------


def test_unknown_calls_and_refusals_are_counted_up_to_so_many(hostile):
    """Each unknown number and each path is different: the stored counts are bounded."""
    code = """
import os, raw
for n in range(5000): raw.ask(5000 + n)
for _ in range(3): raw.ask(5000)
for n in range(500):
    try: os.mknod(f"/tmp/{n:0200}", 0o20644)
    except OSError: pass
"""
    result = hostile.run(code, limits={"calls": None})
    assert result.ok, result.stderr
    assert len(result.unknown_calls) == MAX_DENIALS
    assert result.unknown_calls[5000] == 4
    (denial,) = [denial for denial in result.denials if denial.call.startswith("mknod")]
    assert result.denials[denial] == 500
    assert len(pickle.dumps((result.denials, result.unknown_calls))) < 64 << 10


def test_an_audit_is_told_and_nothing_is_kept(hostile):
    """The audit gets calls with a megabyte each. The controller does not keep them afterwards."""
    sizes = []

    def note(call):
        if call.name == "write":
            sizes.append(len(call.arguments["buf"]))

    tracemalloc.start()
    try:
        with proxybox.Sandbox(audit=note) as box:
            result = box.run("import os\nfor _ in range(30): os.write(1, bytes(1 << 20))")
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()
    assert result.ok
    assert sizes.count(1 << 20) == 30
