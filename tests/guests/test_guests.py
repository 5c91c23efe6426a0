"""Programs run natively and in boxes, cold and warm, and must do the same as in bare pypy3.

A program is a file or a folder in programs/. Its output is the same in any two runs of bare pypy3.
"""

import os
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest

import proxybox
from proxybox.controller import find_guest

PROGRAMS = Path(__file__).parent / "programs"
LIMITS = {"wall_time": 200, "cpu_time": 60, "memory": "1G"}
INPUT = "first\nsecond\nthird line\nüñï\nlast"
#: The arguments of programs that need some.
ARGUMENTS = {"report": ("data", "--workers", "4"), "streams": ("one", "", "two words", "-c", "ünï")}


@attrs.frozen
class Ended:
    """The output and end of a program. files: those that it left in its folder."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    files: dict[str, bytes]


def natively(program: Path, arguments: tuple[str, ...], folder: Path) -> Ended:
    """Runs a copy of the program under the bare interpreter, as an ordinary user, in a folder of its own."""
    place = folder / "program"
    if program.is_dir():
        shutil.copytree(program, place)
        words = ["main.py"]
    else:
        place.mkdir()
        shutil.copy(program, place)
        words = [program.name]
    before = contents(place)
    home = folder / "home"
    home.mkdir()
    user = {}
    if os.getuid() == 0:
        user = {"user": 1000, "group": 1000, "extra_groups": []}
        for top, _, files in os.walk(folder):
            for name in (".", *files):
                os.chown(os.path.join(top, name), 1000, 1000)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [find_guest().executable, *words, *arguments],
        cwd=place,
        env=env,
        input=INPUT.encode(),
        capture_output=True,
        timeout=100,
        check=False,
        **user,
    )  # type: ignore[call-overload]
    after = contents(place)
    return Ended(
        done.stdout,
        done.stderr,
        done.returncode,
        {name: after[name] for name in after if after[name] != before.get(name)},
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def boxed(
    program: Path, arguments: tuple[str, ...], box: proxybox.Sandbox | None = None
) -> tuple[Ended, proxybox.Result]:
    """Runs the program in a box."""
    script = program / "main.py" if program.is_dir() else program
    result = (box or proxybox.Sandbox(limits=LIMITS)).run(script, arguments, stdin=INPUT)
    return Ended(result.stdout_bytes, result.stderr_bytes, result.exit_code, dict(result.files)), result


#: Programs with syntax or modules that the oldest Python of a guest lacks.
NEWER = {"aio": (3, 11), "libraries": (3, 11)}


#: Programs that need cffi, which only PyPy includes.
PYPYS = {"foreign"}
NAMES = sorted(path.stem for path in PROGRAMS.iterdir() if not path.name.startswith(("_", ".")))


@pytest.mark.sized(4)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.pypy) if name in PYPYS else name for name in NAMES]
)
def test_a_program_does_the_same_natively_and_boxed(
    name: str, folder: Path, cold: proxybox.Sandbox, warm: proxybox.Sandbox
) -> None:
    spoken = find_guest().version
    if name in NEWER and spoken < NEWER[name]:
        pytest.skip(f"the program is for Python {NEWER[name]}, and this PyPy's is {spoken}")
    if name == "sharing" and os.stat("/dev/shm").st_mode & 0o1777 != 0o1777:
        pytest.skip("this host's /dev/shm is not for everybody")
    program = PROGRAMS / name if (PROGRAMS / name).is_dir() else PROGRAMS / f"{name}.py"
    arguments = ARGUMENTS.get(name, ())
    bare = natively(program, arguments, folder)
    for box in (cold, warm):
        here, result = boxed(program, arguments, box)
        assert here.stderr == bare.stderr
        assert here.stdout.splitlines() == bare.stdout.splitlines()
        assert here == bare
        assert not result.unknown_calls
    assert bare.stdout  # a program without output would prove nothing


def test_the_report_has_written_what_it_should(folder: Path) -> None:
    _, result = boxed(PROGRAMS / "report", ARGUMENTS["report"])
    assert result.ok, result.stderr
    assert sorted(result.files) == ["out/all.zip", "out/summary.json"]
    # the subprocess, which is refused and which the program can do without; CPython tries vfork first
    assert [denial.call for denial in result.denials if denial.call != "vfork"] == ["clone"]


def test_options_of_the_report() -> None:
    wrong = proxybox.run(PROGRAMS / "report" / "main.py", ["data", "--workers", "0"])
    assert (wrong.exit_code, wrong.stderr.splitlines()[-1]) == (2, "report: error: --workers: at least one")
    usage = proxybox.run(PROGRAMS / "report" / "main.py", ["--help"])
    assert usage.ok
    assert usage.stdout.startswith("usage: report [-h]")


ENDINGS = {
    "nothing": "",
    "exit": "raise SystemExit",
    "exit 3": "import sys; sys.exit(3)",
    "exit 300": "import sys; sys.exit(300)",
    "exit -1": "import sys; sys.exit(-1)",
    "exit True": "import sys; sys.exit(True)",
    "exit text": "import sys; sys.exit('no more')",
    "exit now": "import os, atexit; atexit.register(print, 'never'); print('lost', end=''); os._exit(9)",
    "exit in a thread": "import sys, threading; t = threading.Thread(target=sys.exit, args=(5,)); t.start(); t.join()",
    "exit now in a thread": """
import os, threading, time
threading.Thread(target=os._exit, args=(6,)).start()
time.sleep(30)
""",
    "exception": "1 / 0",
    "exception in atexit": "import atexit; atexit.register(lambda: 1 / 0); print('main')",
    "exit in atexit": "import atexit, sys; atexit.register(sys.exit, 4)",
    "daemon": """
import threading, time
threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
print("end")
""",
    "keyboard interrupt": "raise KeyboardInterrupt",
    "abort": "import os; os.abort()",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "alarm": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()",
    "pipe": """
import os, signal
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
r, w = os.pipe()
os.close(r)
os.write(w, b"x")
""",
    "closed output": "import os; print('x'); os.close(1)",
    "closed streams": "import sys; sys.stdout.close(); sys.stderr.close()",
    "syntax error": "def f(:",
    "segmentation fault": "import ctypes; ctypes.memset(8, 1, 1)",
}


@pytest.mark.sized(18)
@pytest.mark.parametrize("code", ENDINGS.values(), ids=ENDINGS.keys())
def test_programs_end_alike(code: str, folder: Path, cold: proxybox.Sandbox, warm: proxybox.Sandbox) -> None:
    (folder / "main.py").write_text(code)
    (folder / "main.py").chmod(0o644)
    bare = natively(folder / "main.py", (), folder)
    assert bare.exit_code is not None
    ending = (bare.exit_code, None) if bare.exit_code >= 0 else (None, -bare.exit_code)
    for box in (cold, warm):
        result = box.run(folder / "main.py")
        assert (result.exit_code, result.signal) == ending
        assert result.stdout_bytes == bare.stdout
        assert without_places(result.stderr) == without_places(bare.stderr.decode())


def without_places(text: str) -> list[str]:
    """The lines of a traceback without those that name files or objects."""
    return [line for line in text.splitlines() if not line.lstrip().startswith(("File ", "Exception ignored in"))]


# --- what a box does not do, and how a program meets it ---------------------------------------------------------------

REFUSED = {
    "fork": ("import os; os.fork()", "PermissionError"),
    "exec": ("import os; os.execv('/usr/bin/pypy3', ['pypy3'])", "PermissionError"),
    "spawn": ("import os; os.spawnv(os.P_WAIT, '/usr/bin/pypy3', ['pypy3'])", "PermissionError"),
    "subprocess": ("import subprocess; subprocess.run(['ls'])", "PermissionError"),
    "shell": ("import subprocess; subprocess.check_output('echo hi', shell=True)", "PermissionError"),
    "system": ("import os; raise SystemExit(0 if os.system('true') else 3)", ""),
    "popen": ("import os; os.popen('ls').read()", "PermissionError"),
    "multiprocessing": ("import multiprocessing as m; p = m.Process(target=print); p.start()", "PermissionError"),
    "multiprocessing pool": ("import multiprocessing as m; m.Pool(2)", "PermissionError"),
    "shared memory": (
        "from multiprocessing.shared_memory import SharedMemory as S; S(create=True, size=9)",
        "PermissionError",
    ),
    "process pool": (
        "from concurrent.futures import ProcessPoolExecutor as P\nwith P(1) as p: p.submit(print).result()",
        "PermissionError",
    ),
    "internet socket": ("import socket; socket.create_connection(('127.0.0.1', 80))", "PermissionError"),
    "lookup": ("import socket; socket.getaddrinfo('example.org', 80)", "gaierror"),
    "url": ("import urllib.request as u; u.urlopen('http://example.org/')", "URLError"),
    "server": ("import http.server as h; h.HTTPServer(('', 0), h.BaseHTTPRequestHandler)", "PermissionError"),
    "device": ("import os, stat; os.mknod('/tmp/null', stat.S_IFCHR | 0o666, os.makedev(1, 3))", "PermissionError"),
    "root": ("import os; os.setuid(0)", "PermissionError"),
    "chroot": ("import os; os.chroot('/tmp')", "PermissionError"),
}


@pytest.mark.parametrize(("code", "error"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_an_exception_and_no_hang(
    code: str, error: str, cold: proxybox.Sandbox, warm: proxybox.Sandbox
) -> None:
    for box in (cold, warm):
        result = box.run(code, timeout=200)
        if error:
            assert result.error is not None, result
            assert result.error.type.rpartition(".")[2] == error, result.stderr
        assert result.status == ("error" if error else "ok"), result.stderr
        assert not result.unknown_calls


def test_the_program_goes_on_after_a_refusal() -> None:
    code = """
import os, socket, subprocess
for action in (os.fork, socket.socket, lambda: subprocess.run("ls")):
    try:
        action()
    except OSError as error:
        print(type(error).__name__)
print("still here")
"""
    result = proxybox.run(code)
    assert result.ok
    assert result.stdout.split("\n") == ["PermissionError"] * 3 + ["still here", ""]
    assert {denial.call for denial in result.denials} - {"vfork"} == {"clone", "socket"}
