"""Code that would run on the trusted side, outside of any box: modules, programs and settings in the folder where a
user grades, opens a notebook, or just works.

Each test starts processes as users start them.
"""

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests.finding import find_guest

SCRIPT = Path(sysconfig.get_path("scripts"), "proxybox")
EXERCISE = "02-leap-year"
RIGHT = "def is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)\n"
NO_MODULES = {"__future__", "__main__"}  # modules that no file can replace


class Trap:
    """An attacker's folder, and a folder that records which of its code has run."""

    def __init__(self, folder: Path, sprung: Path) -> None:
        self.folder, self._sprung = folder, sprung
        for path in (folder, sprung):
            path.mkdir()
            path.chmod(0o777)

    def __str__(self) -> str:
        return str(self.folder)

    def code(self, name: str) -> str:
        """The text of a module that records that it has run."""
        return f"import os\nos.close(os.open({str(self._sprung / name)!r}, os.O_CREAT | os.O_WRONLY))\n"

    def set(self, *names: str, folder: Path | None = None) -> None:
        """Writes modules of these names into `folder`, by default the attacker's folder."""
        for name in names:
            ((folder or self.folder) / f"{name}.py").write_text(self.code(name))

    @property
    def sprung(self) -> list[str]:
        """The names of the modules and programs that have run."""
        return sorted(os.listdir(self._sprung))


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "trap", tmp_path / "sprung")


@pytest.fixture
def full(trap: Trap) -> Trap:
    """A trap with a module for the name of each module of Python and of each installed package."""
    installed = {name for name in importlib.metadata.packages_distributions() if name.isidentifier()}
    trap.set(*(sys.stdlib_module_names | installed | {"proxybox", "sitecustomize", "usercustomize"}) - NO_MODULES)
    (trap.folder / "homework").mkdir()
    (trap.folder / "homework/ada.py").write_text(RIGHT)
    return trap


def start(trap: Trap, *command: str | Path, status: int = 0, stdin: str = "", **environment: str) -> str:
    """Runs a command in the trap's folder, and returns its output."""
    done = subprocess.run(
        [str(word) for word in command], cwd=trap.folder, env={**os.environ, **environment}, input=stdin,
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout + done.stderr


COMMANDS = {
    "run": (["run", "-c", "print(6 * 7)"], "42"),
    "run a file": (["run", "homework/ada.py"], ""),
    "trace": (["trace", "-c", "print(6 * 7)"], "42"),
    "repl": (["repl", "--no-history"], "42"),
    "doctor": (["doctor"], "Boxes can run here."),
    "grade": (["grade", EXERCISE, "homework", "--again"], "1 passed everything"),
    "exercise check": (["exercise", "check", EXERCISE], "model/"),
    "exercise test": (["exercise", "test", EXERCISE, "homework/ada.py"], "6 of 6 points"),
    "exercise list": (["exercise", "list"], EXERCISE),
    "policy explain": (["policy", "explain", "default"], ""),
    "kernel install": (["kernel", "install", "--prefix", "prefix"], "installed in"),
    "completion": (["completion", "bash"], "_PROXYBOX_COMPLETE"),
}


@pytest.mark.pypy  # in its box CPython itself imports such modules for -c
@pytest.mark.parametrize("command", COMMANDS)
def test_modules_of_the_current_folder(full: Trap, command: str) -> None:
    words, wanted = COMMANDS[command]
    environment = {"PYTHONPATH": "", "PATH": f":{os.defpath}:."}
    assert wanted in start(full, SCRIPT, *words, stdin="print(6 * 7)\n", **environment)
    assert full.sprung == []


@pytest.mark.cover(1)
@pytest.mark.parametrize("command", ["run", "grade", "exercise check", "doctor"])
@pytest.mark.parametrize(
    "words", [[SCRIPT], [sys.executable, "-m", "proxybox"], [sys.executable, "-m", "proxybox.cli"]]
)
def test_modules_that_an_empty_entry_of_pythonpath_would_find(
    trap: Trap, words: list[str | Path], command: str
) -> None:
    """Python searches the current folder before proxybox begins, for an empty entry or for -m; proxybox imports nothing
    else from there.
    """
    trap.set(
        "attr", "attrs", "cattr", "cattrs", "click", "rich", "pytest", "selectors", "struct", "subprocess", "zipfile"
    )
    (trap.folder / "homework").mkdir()
    (trap.folder / "homework/ada.py").write_text(RIGHT)
    environment = {} if "-m" in words else {"PYTHONPATH": ":"}
    start(trap, *words, *COMMANDS[command][0], **environment)
    assert trap.sprung == []


@pytest.mark.cover(1)
@pytest.mark.pypy
@pytest.mark.parametrize("name", ["purelib", "stdlib"])
@pytest.mark.parametrize("command", ["run -c", "grade", "doctor"])
def test_who_stands_where_modules_are_installed_has_them(trap: Trap, name: str, command: str) -> None:
    """Commands work in a folder of installed modules: such files are not an attacker's."""
    (trap.folder / "homework").mkdir()
    (trap.folder / "homework/ada.py").write_text(RIGHT)
    words = COMMANDS["doctor"][0] if command == "doctor" else ["run", "-c", "print(6 * 7)"]
    if command == "grade":
        words = ["grade", EXERCISE, str(trap.folder / "homework"), "--output", str(trap.folder / "grades")]
    done = subprocess.run(
        [SCRIPT, *words], cwd=sysconfig.get_path(name), capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr


POOL = """
import sys
import proxybox
with proxybox.Pool(size=2, processes=2) as pool:
    print(pool.run("print(6 * 7)", check=True).stdout)
"""


def test_modules_beside_a_pool_of_processes(full: Trap, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "elsewhere/script.py"
    script.write_text(POOL)
    assert "42" in start(full, sys.executable, script)
    assert full.sprung == []


def test_modules_beside_a_worker_that_m_starts(full: Trap) -> None:
    """With -m, Python itself may import modules from the current folder, and with -P nothing."""
    start(full, sys.executable, "-P", "-m", "proxybox.worker", stdin="", status=1)  # a worker needs a socket
    assert full.sprung == []


#: A front end as a process of its own, because of its loops and sockets.
NOTEBOOK = """
import sys
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from proxybox.kernel.spec import KernelOptions, specification
manager = KernelManager(connection_file=sys.argv[1])
manager._kernel_spec = KernelSpec(**specification(sys.executable, "", KernelOptions()))
manager.start_kernel(cwd=sys.argv[2])
client = manager.blocking_client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive("print(6 * 7)", timeout=60)
client.stop_channels()
manager.shutdown_kernel()
"""


def test_modules_of_a_notebooks_folder(full: Trap, tmp_path: Path) -> None:
    pytest.importorskip("jupyter_client")
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "elsewhere/script.py"
    script.write_text(NOTEBOOK)
    assert "42" in start(full, sys.executable, script, tmp_path / "connection.json", full.folder)
    assert full.sprung == []


# --- pytest -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, trap: Trap) -> Iterator[dict[str, str]]:
    """A folder for temporary files in which another user has put files. Yields the environment that selects it."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    settle(trap, folder)
    yield {"TMPDIR": str(folder)}
    kept = {"conftest.py", "evil.py", "pytest.ini"}
    assert {path.name for path in folder.iterdir()} - {"test_evil.py", "__pycache__"} == kept, (
        "something was left there"
    )


def settle(trap: Trap, folder: Path) -> None:
    """Writes all files that pytest reads in a folder by itself."""
    trap.set("conftest", "test_evil", "evil", folder=folder)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p evil\npythonpath = .\n")


@pytest.mark.parametrize("name", [EXERCISE, "10-weather"], ids=["tests", "data"])
def test_a_conftest_for_everybody(trap: Trap, temporary: dict[str, str], tmp_path: Path, name: str) -> None:
    """Such files are in the folder for temporary files, above the exercise, in the submission's and in the current
    folder, and above the folder of proxybox.
    """
    library = tmp_path / "library"
    package = Path(__file__).parents[2] / "proxybox"
    shutil.copytree(package, library / "proxybox")
    above = tmp_path / "above"
    shutil.copytree(package / "teach/exercises" / name, above / "exercise")
    for folder in (library, above, trap.folder):
        settle(trap, folder)
    (trap.folder / "solution.py").write_text(RIGHT)
    command = [sys.executable, "-P", "-m", "proxybox"]
    environment = {**temporary, "PYTHONPATH": str(library)}
    start(trap, *command, "exercise", "check", above / "exercise", **environment)
    start(trap, *command, "exercise", "test", above / "exercise", ".", status=1, **environment)
    start(trap, *command, "grade", above / "exercise", ".", "-o", tmp_path / "grades", **environment)
    assert trap.sprung == []


# --- programs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def program(trap: Trap, tmp_path: Path) -> Callable[[str], Path]:
    """Compiles a program that looks like a translated PyPy: pypy3 in the trap's folder."""

    def compiled(main: str) -> Path:
        source = tmp_path / "program.c"
        source.write_text(
            "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
            "#include <sys/resource.h>\n#include <unistd.h>\nextern char **environ;\n"
            'const char *mark = "RPY_SANDBOX_DUMP";\n'
            'const char *told = "Version: 20001\\nPlatform: linux2\\nFuncs: getuid()i\\n";\n'
            'const char *python = "3.6.9 (?, Apr 19 2020, 12:00:00)\\n[PyPy 7.2.0 with GCC 12.2.0]";\n'
            f"int main(void) {{ if (!mark) return 1; {main} }}\n"
        )
        made = trap.folder / "pypy3"
        subprocess.run([shutil.which("gcc") or "cc", "-w", "-o", made, source], check=True)
        return made

    return compiled


@pytest.mark.parametrize("path", ["", ":", ".", ":/usr/bin", "/usr/bin:", "bin:/usr/bin:", "./:/usr/bin"])
def test_a_program_of_the_current_folder_in_the_place_of_the_guest(
    trap: Trap, program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    made = program(f'return creat("{trap._sprung}/pypy3", 0600) < 0;')
    (trap.folder / "bin").mkdir()
    shutil.copy(made, trap.folder / "bin/pypy3")
    monkeypatch.delenv("PROXYBOX_GUEST", raising=False)
    monkeypatch.setenv("PATH", path)
    monkeypatch.chdir(trap.folder)
    with contextlib.suppress(SandboxStartError):  # the distribution's PyPy may not be installed
        assert not find_guest().executable.startswith(str(trap))
    assert trap.sprung == []


@pytest.mark.cover(1)
@pytest.mark.parametrize("named", ["pypy3", "./pypy3", "bin/pypy3", "bin", "../trap", ".", "missing"])
@pytest.mark.parametrize("command", ["run", "doctor", "repl", "exercise test"])
def test_a_program_of_the_current_folder_that_a_variable_names(
    trap: Trap, program: Callable[[str], Path], named: str, command: str
) -> None:
    made = program(f'return creat("{trap._sprung}/pypy3", 0600) < 0;')
    for folder in ("bin", "homework"):
        (trap.folder / folder).mkdir()
    shutil.copy(made, trap.folder / "bin/pypy3")
    (trap.folder / "homework/ada.py").write_text(RIGHT)
    words, wanted = COMMANDS[command]
    found = named == "pypy3"
    seen = start(trap, SCRIPT, *words, status=0 if found else 125, stdin="print(6 * 7)\n", PROXYBOX_GUEST=named)
    assert (wanted if found else "was found on PATH" if "/" not in named else "a relative path") in seen
    assert trap.sprung == []


def test_a_name_of_a_guest_is_looked_for_on_path(
    trap: Trap, program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is looked up in PATH only. A path stays the same one when the current folder changes."""
    made = program(f'return creat("{trap._sprung}/pypy3", 0600) < 0;')
    monkeypatch.chdir(trap.folder)
    assert "42" in start(trap, SCRIPT, "run", "--guest", "pypy3", "-c", "print(6 * 7)")
    assert find_guest("pypy3").executable != str(made)
    assert trap.sprung == []
    for named in ("./pypy3", Path("pypy3")):
        with proxybox.Sandbox(guest=named, warm=False) as box, monkeypatch.context() as moved:
            moved.chdir("/usr")
            with pytest.raises(SandboxStartError, match=f"{made}"):
                box.run("pass")
    with proxybox.Sandbox(guest=Path(os.path.relpath(find_guest().executable)), warm=False) as box:
        monkeypatch.chdir("/")
        assert box.run("print(6 * 7)").stdout == "42\n"


def test_a_library_of_the_current_folder_that_a_variable_names(
    trap: Trap, program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = program("return 0;")
    for name in ("lib-python/3", "lib_pypy"):
        (trap.folder / "library" / name).mkdir(parents=True)
    monkeypatch.chdir(trap.folder)
    for named in ("library", "./library", "."):
        monkeypatch.setenv("PROXYBOX_GUEST_LIBRARY", named)
        with pytest.raises(SandboxStartError, match="a relative path"):
            find_guest(made)
    assert find_guest(made, "library").library == str(trap.folder / "library")


def test_what_a_program_calls_is_read_and_nothing_of_it_runs(
    trap: Trap, program: Callable[[str], Path], tmp_path: Path
) -> None:
    """The program's file is read, but not run: neither its main function nor a constructor that a loader would run
    earlier.
    """
    made = program(f"""return creat("{trap._sprung}/main", 0600) < 0; }}
        __attribute__((constructor)) static void early(void) {{ creat("{trap._sprung}/constructor", 0600);""")
    for name in ("lib-python/3", "lib_pypy"):
        (tmp_path / "library" / name).mkdir(parents=True)
    assert find_guest(made, tmp_path / "library").functions == ("getuid()i",)
    assert trap.sprung == []
    subprocess.run([made], check=True)
    assert trap.sprung == ["constructor", "main"], "it would have been seen"


@pytest.mark.parametrize(
    "content", [b"", b"Version: " * 200_000, b"Version: 20001\nPlatform: linux2\nFuncs: " * 60_000]
)
def test_a_program_that_tells_much(program: Callable[[str], Path], content: bytes) -> None:
    """The program's text about its functions is bounded, also if it begins repeatedly or has no end."""
    made = program("return 0;")
    made.write_bytes(made.read_bytes().replace(b"Version: 20001", b"version: 20001") + content)
    with pytest.raises(SandboxStartError, match=r"does not say which functions it can call|makes no sense"):
        find_guest(made)


def test_a_program_of_a_terabyte(program: Callable[[str], Path]) -> None:
    made = program("return 0;")
    os.truncate(made, 1 << 40)
    with pytest.raises(SandboxStartError, match="neither a PyPy"):
        find_guest(made)


# --- who is warned ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "environment", "seen"),
    [
        ([SCRIPT], {}, []),
        ([SCRIPT], {"PYTHONPATH": ":"}, ["PYTHONPATH has an empty entry"]),
        ([SCRIPT], {"PYTHONPATH": "lib:/tmp"}, ["PYTHONPATH has the entry 'lib'"]),
        ([SCRIPT], {"PATH": f".:{os.defpath}:"}, ["PATH has an empty entry and the entry '.'"]),
        ([sys.executable, "-m", "proxybox"], {"PYTHONPATH": ":"}, ["started with -m", "PYTHONPATH has"]),
        ([sys.executable, "-P", "-m", "proxybox"], {}, []),
    ],
)
def test_the_doctor_warns(trap: Trap, words: list[str | Path], environment: dict[str, str], seen: list[str]) -> None:
    environment = {"PATH": os.defpath, **environment}
    report = json.loads(start(trap, *words, "doctor", "--json", **environment))
    assert report["ok"]
    assert len(report["warnings"]) == len(seen)
    assert all(words in warning for words, warning in zip(seen, report["warnings"], strict=True))
    assert ("warning: " in start(trap, *words, "doctor", **environment)) == bool(seen)
