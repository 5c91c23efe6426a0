"""Starts where the host lacks something, or lies: the box is whole, or there is none, and no untrusted code has run.

Each test puts a filter or a loss of its own around a controller in a process of its own.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

#: A program that puts a seccomp filter around itself: `number` answers `action` when the low half of its first
#: argument has all bits of `mask`.
OUTER = """
import ctypes, struct, sys
def outer(number, action, mask=0):
    code = b"".join(struct.pack("HBBI", *line) for line in [
        (0x20, 0, 0, 0), (0x15, 0, 4, number), (0x20, 0, 0, 16), (0x54, 0, 0, mask), (0x15, 0, 1, mask),
        (0x06, 0, 0, action), (0x06, 0, 0, 0x7FFF0000)])
    buffer = ctypes.create_string_buffer(code, len(code))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.c_char_p(struct.pack("HxxxxxxQ", 7, ctypes.addressof(buffer))), 0, 0) == 0
"""
ERRNO = 0x00050000
EPERM, ENOSYS = 1, 38
SECCOMP, CLOSE_RANGE, UNSHARE, NEWUSER, NEWNS = 317, 436, 272, 0x10000000, 0x20000
THREADS = "import threading; t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()"


def controller(program: str, command: Sequence[str] = (sys.executable,)) -> str:
    """What a controller of its own printed."""
    ended = subprocess.run(
        [*command, "-c", OUTER + "import proxybox\nfrom proxybox.controller.seal import layers\n" + program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("layers", ["on", "off"])
def test_a_filter_that_is_said_to_be_taken_and_is_not(
    tmp_path: Path, open_the_way: Callable[[Path], None], threads: int, layers: str
) -> None:
    """An outer filter answers 0 for seccomp(2). The program would write to the host if it ran."""
    tmp_path.chmod(0o777)
    open_the_way(tmp_path)
    program = f"""
from proxybox.controller.seal import layers
if {layers!r} == "off":
    layers.USED.clear()
outer({SECCOMP}, {ERRNO})
try:
    print(proxybox.run("open('{tmp_path}/escaped', 'w')", threads={threads}).summary())
except proxybox.SandboxStartError as error:
    print("refused:", error)
"""
    program = program.replace(f"threads={threads}", f"limits=dict(threads={threads})")
    assert controller(program).startswith("refused:")
    assert not (tmp_path / "escaped").exists()


def test_no_close_range() -> None:
    """Before Linux 5.9, or refused by a container's filter."""
    for action in (ERRNO | ENOSYS, ERRNO | EPERM):
        program = f"outer({CLOSE_RANGE}, {action})\nprint(proxybox.run({THREADS!r}, check=True).stdout)"
        assert controller(program) == "thread\n\n"


def test_a_user_namespace_in_which_nothing_is_allowed() -> None:
    """As by Ubuntu's AppArmor profile. The box has its threads, and tells what it lacks."""
    program = f"""
outer({UNSHARE}, {ERRNO | EPERM}, {NEWNS})
layers.USED.add("namespaces")  # asked for, whatever the other tests do without
result = proxybox.run({THREADS!r}, check=True)
print(result.stdout, result.layers["namespaces"])
"""
    said = controller(program)
    assert said.startswith("thread\n missing: ")
    assert "Operation not permitted" in said


def test_no_user_namespaces() -> None:
    program = f"""
outer({UNSHARE}, {ERRNO | EPERM}, {NEWUSER})
layers.USED.add("namespaces")  # asked for, whatever the other tests do without
result = proxybox.run({THREADS!r}, check=True)
print(result.stdout, result.layers["namespaces"])
try:
    proxybox.run("print('ran')", require_layers=["namespaces"])
except proxybox.SandboxStartError as error:
    print("refused:", error)
"""
    said = controller(program)
    assert said.startswith("thread\n missing: ")
    assert "refused: " in said


def test_a_root_that_may_not_kill() -> None:
    """It could not end its boxes at their limits, and they would outlive it: PR_SET_PDEATHSIG asks for leave as well."""
    if os.getuid() != 0:
        pytest.skip("only root's boxes run as another user")
    program = """
try:
    print(proxybox.run("while True: pass", timeout=1).summary())
except proxybox.SandboxStartError as error:
    print("refused:", error)
"""
    said = controller(program, ["setpriv", "--bounding-set", "-kill", "--inh-caps", "-kill", sys.executable])
    assert said.startswith("refused:")
    assert "CAP_KILL" in said


def test_a_root_without_any_other_user() -> None:
    """In a user namespace with one id there is nobody else whom a box could run as."""
    command = ["unshare", "--user", "--map-root-user", sys.executable]
    try:
        subprocess.run([*command, "-c", "pass"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no user namespaces for this user")
    program = """
try:
    print(proxybox.run("pass").summary())
except proxybox.SandboxStartError as error:
    print("refused:", error)
"""
    said = controller(program, command)
    assert said.startswith("refused:")
    assert "ordinary user" in said


def test_a_controller_of_real_time_priority_has_ordinary_guests() -> None:
    program = """
import os
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
except PermissionError:
    raise SystemExit("no")
def look(text):
    children = [int(name) for name in os.listdir("/proc") if name.isdigit() and parent(name) == os.getpid()]
    print({os.sched_getscheduler(pid) for pid in children} == {os.SCHED_OTHER}, len(children) > 0)
def parent(pid):
    try:
        return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    except OSError:
        return 0
proxybox.run("print(1, flush=True)", check=True, on_stdout=look)
"""
    ended = subprocess.run(
        [sys.executable, "-c", "import proxybox\n" + program], capture_output=True, text=True, timeout=60, cwd="/"
    )
    if ended.stderr.strip() == "no":
        pytest.skip("this user may not run with real-time priority")
    assert ended.stdout == "True True\n", ended.stderr
