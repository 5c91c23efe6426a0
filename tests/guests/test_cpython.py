"""A CPython as guest: how it is named and found, which ones are refused, and programs that run as in a PyPy."""

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import proxybox
from proxybox import Status
from proxybox.controller.guests import programs
from proxybox.controller.guests.cpython import CPython
from proxybox.controller.guests.finding import find_guest

WHO = "import sys; print(sys.implementation.name, sys.version_info[:2], sys.prefix, sys.executable)"


@pytest.fixture
def box(cpython: CPython) -> proxybox.Sandbox:
    return proxybox.Sandbox(guest=cpython.executable)


# --- finding it -------------------------------------------------------------------------------------------------------


def test_by_kind_by_version_and_by_path(cpython: CPython, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.path.dirname(cpython.executable))
    monkeypatch.delenv("PROXYBOX_GUEST", raising=False)
    version = "{}.{}".format(*cpython.version)
    named = {name: find_guest(name) for name in ("cpython", version, f"python{version}", cpython.executable)}
    assert named == dict.fromkeys(named, cpython)
    assert find_guest() != cpython
    monkeypatch.setenv("PROXYBOX_GUEST", "cpython")
    assert find_guest() == cpython


def test_it_sees_itself_where_it_is(box: proxybox.Sandbox, cpython: CPython) -> None:
    prefix = "/usr" if cpython.prefix is None else cpython.visible(cpython.prefix)
    assert box.run(WHO).stdout == f"cpython {cpython.version} {prefix} {cpython.visible(cpython.executable)}\n"


def test_an_environment_by_its_folder_and_by_its_interpreter(cpython: CPython, tmp_path: Path) -> None:
    """The program sees its packages, but not their place on the host."""
    home = tmp_path / "venv"
    made = subprocess.run([cpython.executable, "-m", "venv", "--without-pip", home], capture_output=True, timeout=100)
    if made.returncode:
        pytest.skip("this Python makes no virtual environments (apt install python3-venv)")
    (site,) = home.glob("lib/python3.*/site-packages")
    (site / "installed.py").write_text("name = 'installed'")
    for guest in (home, home / "bin" / "python3"):
        result = proxybox.Sandbox(guest=guest).run("import installed; print(installed.name, installed.__file__)")
        assert result.stdout == "installed /packages/installed.py\n"


def test_a_script_of_that_name_is_passed_over(
    cpython: CPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Managers of Python versions put scripts first on PATH. A script is not an interpreter."""
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.path.dirname(cpython.executable)}")
    assert find_guest("cpython") == cpython


def program(path: Path, *words: bytes, dynamic: bool = True) -> Path:
    """Writes a file that looks like a program for this machine and contains `words`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 3 if dynamic else 1, 4, 0, 0, 0, 0, 0, 1)
    path.write_bytes(head + segment + b"\0" + b"\0".join(words) + b"\0")
    path.chmod(0o755)
    return path


NOT: dict[str, tuple[Callable[[Path], Path], str]] = {
    "too old": (lambda at: program(at / "python3.8", b"Py_BytesMain"), r"CPython 3\.8; a box needs 3\.9 to 3\.14"),
    "too new": (lambda at: program(at / "python3.99", b"Py_BytesMain"), r"CPython 3\.99; a box needs"),
    "free-threaded": (lambda at: program(at / "python3.13t", b"Py_BytesMain"), "a free-threaded build of CPython"),
    "for debugging": (lambda at: program(at / "p", b"libpython3.13d.so.1.0"), "a debug build of CPython"),
    "static": (lambda at: program(at / "python3.13", b"Py_BytesMain", dynamic=False), "statically linked"),
    "nameless": (lambda at: program(at / "python", b"Py_BytesMain"), "does not tell its version"),
    "alone": (
        lambda at: program(at / "python3.13", b"libpython3.13.so.1.0"),
        r"lib/python3\.13/os\.py\) is not beside",
    ),
    "an empty folder": (lambda at: at, "a folder without bin/pypy3 or bin/python3"),
}


@pytest.mark.parametrize("name", NOT)
def test_what_is_no_guest(name: str, tmp_path: Path) -> None:
    make, reason = NOT[name]
    path = make(tmp_path)
    with pytest.raises(proxybox.SandboxStartError, match=reason) as caught:
        proxybox.run("pass", guest=path)
    assert str(path) in str(caught.value)


def test_an_environment_of_this_folder(cpython: CPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.venv` can only be a path. A word that could be the name of a program is not looked up in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in (".venv", "venv"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "lib" / cpython.name / "site-packages").mkdir(parents=True)
        (tmp_path / name / "pyvenv.cfg").write_text(f"home = {os.path.dirname(cpython.executable)}\n")
        (tmp_path / name / "bin" / "python3").symlink_to(cpython.executable)
    assert find_guest(".venv").executable == find_guest("./venv").executable == cpython.executable
    assert proxybox.run("import sys; print(sys.implementation.name)", guest=".venv").stdout == "cpython\n"
    with pytest.raises(proxybox.SandboxStartError, match=r"no venv was found on PATH: .* name \./venv$"):
        find_guest("venv")
    with pytest.raises(proxybox.SandboxStartError, match=r"^there is no .*/\.env: name an interpreter, .*environment"):
        find_guest(".env")


def test_a_version_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        proxybox.SandboxStartError, match=r"no python3\.98 was found on PATH: .*apt install python3\.98"
    ):
        proxybox.run("pass", guest="3.98")


def test_an_unpacked_build_is_seen_elsewhere(cpython: CPython, cpython_release: Path) -> None:
    guest = find_guest(cpython_release)
    assert (guest.prefix, guest.library) == (str(cpython_release), f"{cpython_release}/lib/{cpython.name}")
    result = proxybox.run(WHO + "\nimport json, decimal, ssl, ctypes; print(json.__file__)", guest=cpython_release)
    assert result.ok, result
    assert "unpacked" not in result.stdout
    assert f" /usr/lib/python /usr/lib/python/bin/{cpython.name}\n" in result.stdout


def test_in_usr_local_it_is_seen_where_it_is(
    cpython: CPython, cpython_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in many container images. PATH begins with that folder, so it must have the same path in the box."""
    monkeypatch.setattr(programs, "_NO_SECRETS", (str(cpython_release),))
    assert find_guest(cpython_release).prefix is None
    result = proxybox.run(WHO + "\nimport os; print(os.readlink('/usr/bin/python3'))", guest=cpython_release)
    program = f"{cpython_release}/bin/{cpython.name}"
    assert result.stdout == f"cpython {cpython.version} {cpython_release} {program}\n{program}\n"


# --- warm boxes and sessions (the files with EACH_GUEST try them) ---------------------------------------------------


def test_a_copy_shows_nothing_of_ours(cpython: CPython) -> None:
    """A copy has no frame below the program's, and tracebacks have only frames of the program."""
    code = """
import inspect, sys, traceback, warnings
print(sys._getframe().f_back, [each.function for each in inspect.stack()], "ctypes" in sys.modules)
warnings.warn("told", stacklevel=5)
def fails(): raise KeyError(1)
try: fails()
except KeyError: traceback.print_exc(file=sys.stdout); traceback.print_stack(file=sys.stdout)
fails()
"""
    with proxybox.Sandbox(guest=cpython.executable, warm=True) as box:
        for _ in range(2):
            result = box.run(code)
            assert "None ['<module>'] False" in result.stdout
            assert "proxybox" not in result.stdout + result.stderr
            assert result.error is not None
            assert result.error.traceback.count("  File ") == 2


def test_the_end_of_a_copy_is_that_of_its_program(cpython: CPython) -> None:
    """At the end a copy joins threads, calls exit functions, and deletes what the modules refer to: in that order, and
    each once.
    """
    code = """
import atexit, sys, threading, time
class Last:
    def __del__(self): print("deleted", sys.is_finalizing(), sys.path)
kept = Last()
helper.kept = Last() if (helper := __import__("helper")) else None
atexit.register(print, "at exit")
threading.Thread(target=lambda: (threading.main_thread().join(), print("thread"))).start()
print("main")
sys.exit({})
"""
    with proxybox.Sandbox(guest=cpython.executable, warm=True) as box:
        for status in (0, 3, 3):
            result = box.run(code.format(status), files={"helper.py": ""})
            assert result.stdout == "main\nthread\nat exit\ndeleted True None\ndeleted True None\n"
            assert result.exit_code == status


def test_what_was_imported_before_is_gone_at_the_end(cpython: CPython) -> None:
    """The last finalizer finds sys.modules empty, as in an ending interpreter. A copy writes into no page of the
    preloaded modules.
    """
    code = """
import json, sys
class Last:
    modules, print, count = sys.modules, print, sys.getrefcount
    def __del__(self):
        self.print(len(self.modules), self.count(self.kept) == self.before)
        import json
kept = Last()
kept.kept, kept.before = json, sys.getrefcount(json)
"""
    with proxybox.Sandbox(guest=cpython.executable, preload=["json"], warm=True) as warm:
        copies = [warm.run(code) for _ in range(3)]
    bare = proxybox.run(code, guest=cpython.executable, warm=False)
    seen = "ImportError: sys.meta_path is None, Python is likely shutting down"
    for each in (bare, *copies):
        assert seen in each.stderr
        assert each.stdout.startswith("0 ")
    if (3, 12) <= cpython.version <= (3, 14):
        assert {each.stdout for each in copies[1:]} == {"0 True\n"}


@pytest.mark.parametrize("what", ["del builtins.list", "sys.modules = None", "builtins.vars = 5", "gc.collect = None"])
def test_a_program_that_takes_away_what_its_end_is_made_of(cpython: CPython, what: str) -> None:
    with proxybox.Sandbox(guest=cpython.executable, warm=True) as box:
        for _ in range(2):
            result = box.run(f"import builtins, gc, sys\nprint('x')\n{what}\nraise SystemExit(3)")
            assert (result.stdout, result.stderr, result.exit_code) == ("x\n", "", 3)


def test_a_thread_that_nobody_waits_for_leaves_the_end_to_the_interpreter(cpython: CPython) -> None:
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\nprint('x')"
    with proxybox.Sandbox(guest=cpython.executable, warm=True) as box:
        assert [box.run(code).stdout for _ in range(2)] == ["x\n"] * 2


def test_a_seeded_copy_repeats_to_the_byte(cpython: CPython) -> None:
    with proxybox.Sandbox(guest=cpython.executable, warm=True, randomness=5, time="virtual") as box:
        runs = [box.run(SEEDED) for _ in range(4)]
    assert runs[0].ok
    assert len({run.stdout for run in runs[1:]}) == 1


def test_two_copies_do_not_share_random_numbers(cpython: CPython) -> None:
    code = "import random, uuid, tempfile; print(random.random(), uuid.uuid4(), tempfile.mktemp())"
    with proxybox.Sandbox(guest=cpython.executable, warm=True, preload=["random", "uuid", "tempfile"]) as box:
        assert len({box.run(code, check=True).stdout for _ in range(4)}) == 4


# --- programs ---------------------------------------------------------------------------------------------------------


def test_the_standard_library(box: proxybox.Sandbox) -> None:
    result = box.run(
        """
import asyncio, concurrent.futures, ctypes, decimal, hashlib, json, multiprocessing, pathlib, sqlite3, ssl, tempfile
import threading, zoneinfo
async def later(): return await asyncio.sleep(0.01, 5)
print(asyncio.run(later()))
with concurrent.futures.ThreadPoolExecutor(3) as pool: print(list(pool.map(abs, range(-3, 0))))
connection = sqlite3.connect("kept.db"); connection.execute("create table t (n)"); connection.commit()
with tempfile.TemporaryDirectory() as name: pathlib.Path(name, "x").write_text("y"); print(name[:5])
print(hashlib.sha256(b"x").hexdigest()[:8], decimal.Decimal(1) / 3, json.dumps([1]))
print(threading.active_count(), input())
""",
        stdin="typed\n",
    )
    assert result.ok, result
    assert result.stdout == ("5\n[3, 2, 1]\n/tmp/\n2d711642 0.3333333333333333333333333333 [1]\n1 typed\n")
    assert sorted(result.files) == ["kept.db"]


ENDS = {
    "an error": ("1/0", Status.ERROR, 1),
    "no Python": ("def (", Status.SYNTAX_ERROR, 1),
    "an exit status": ("import sys; sys.exit(7)", Status.ERROR, 7),
    "too deep": ("def f(): f()\nf()", Status.ERROR, 1),
    "a call at no address": ("import ctypes; ctypes.string_at(0)", Status.CRASHED, None),
    "os.abort": ("import os; os.abort()", Status.CRASHED, None),
    "small objects": ("kept = []\nwhile True: kept.append([0] * 100)", Status.MEMORY_LIMIT, None),
    "large objects": ("kept = []\nwhile True: kept.append(bytes(10 ** 6))", Status.MEMORY_LIMIT, None),
    "one object": ("'a' * 10 ** 10", Status.MEMORY_LIMIT, 1),
    "endless": ("while True: pass", Status.TIME_LIMIT, None),
    "a file": ("open('f', 'wb').write(bytes(2 * 10 ** 7))", Status.DISK_LIMIT, 1),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_a_program_ends(cpython: CPython, name: str) -> None:
    code, status, exit_code = ENDS[name]
    limits = {"memory": "100M", "cpu_time": 2, "wall_time": 100, "disk": "10M"}
    result = proxybox.run(code, guest=cpython.executable, limits=limits)
    assert result.status is status, result
    assert exit_code is None or result.exit_code == exit_code


def test_an_uncaught_exception_is_read(box: proxybox.Sandbox) -> None:
    error = box.run("def f():\n    raise ValueError('a\\nb')\nf()").error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "a\nb")


def test_ctrl_c_is_a_keyboard_interrupt(box: proxybox.Sandbox) -> None:
    def interrupt(text: str) -> None:
        assert text != "x\n" or box.interrupt()

    code = "try:\n    print('x', flush=True)\n    while True: pass\nexcept KeyboardInterrupt: print('interrupted')"
    assert box.run(code, on_stdout=interrupt).stdout == "x\ninterrupted\n"


SEEDED = """
import random, uuid, time, tempfile
print(id(object()), hash('a'), random.random(), uuid.uuid4(), time.time(), time.monotonic())
print(tempfile.mkdtemp(), {str(each) for each in range(50)})
"""


def test_a_seeded_run_repeats_to_the_byte(cpython: CPython) -> None:
    runs = [proxybox.run(SEEDED, guest=cpython.executable, randomness=5, time="virtual") for _ in range(3)]
    assert runs[0].ok
    assert len({run.stdout for run in runs}) == 1


def test_what_is_refused(box: proxybox.Sandbox) -> None:
    result = box.run(
        """
import os, socket, subprocess
def attempt(what, *arguments):
    try: what(*arguments)
    except OSError as error: print(error.errno, end=" ")
    else: print("done", end=" ")
attempt(os.fork); attempt(socket.socket); attempt(subprocess.run, ["ls"]); attempt(os.execv, "/usr/bin/python3", ["x"])
attempt(open, "/etc/shadow"); attempt(open, "/etc/passwd", "w"); attempt(os.kill, 1, 9); attempt(os.mkdir, "/x")
"""
    )
    assert result.stdout == "1 1 1 1 2 13 3 13 ", result
    assert result.denials
