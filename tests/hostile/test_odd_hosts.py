"""Starts on hosts that lack a feature or return false results: the box is whole, or there is none, and no untrusted
code has run.

Each test starts a controller in a process of its own, with a filter or without some right.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

#: Makes a program install a seccomp filter for itself: `number` returns `action` when the low half of one argument, the
#: first by default, has all bits of `mask`.
OUTER = """
import ctypes, struct, sys
def outer(number, action, mask=0, argument=0):
    code = b"".join(struct.pack("HBBI", *line) for line in [
        (0x20, 0, 0, 0), (0x15, 0, 4, number), (0x20, 0, 0, 16 + 8 * argument), (0x54, 0, 0, mask), (0x15, 0, 1, mask),
        (0x06, 0, 0, action), (0x06, 0, 0, 0x7FFF0000)])
    buffer = ctypes.create_string_buffer(code, len(code))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.c_char_p(struct.pack("HxxxxxxQ", 7, ctypes.addressof(buffer))), 0, 0) == 0
"""
ERRNO, KILL = 0x00050000, 0x80000000
EPERM, ENOSYS = 1, 38
SECCOMP, CLOSE_RANGE, UNSHARE, NEWUSER, NEWNS = 317, 436, 272, 0x10000000, 0x20000
PIDFD_OPEN, PIDFD_SEND_SIGNAL, PRLIMIT, FSOPEN = 434, 424, 302, 430
THREADS = "import threading; t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()"


def controller(program: str, command: Sequence[str] = (sys.executable,)) -> str:
    """Runs `program` in a controller of its own, and returns its output."""
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
    """An outer filter makes seccomp(2) return 0 and do nothing. If the program ran, it would write to the host."""
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
    """close_range(2) is missing before Linux 5.9, or a container's filter refuses it."""
    for action in (ERRNO | ENOSYS, ERRNO | EPERM):
        program = f"outer({CLOSE_RANGE}, {action})\nprint(proxybox.run({THREADS!r}, check=True).stdout)"
        assert controller(program) == "thread\n\n"


def test_a_user_namespace_in_which_nothing_is_allowed() -> None:
    """As with Ubuntu's AppArmor profile. The box still has threads, and reports the layer that it lacks."""
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


#: A controller's work with processes: limits, ends, signals, a zygote and its copies, a session.
_PROCESSES = """
print(proxybox.run("print(1)", check=True).stdout, end="")
print(proxybox.run("while True: pass", timeout=0.3).status, proxybox.run("import os; os._exit(7)").exit_code)
print(proxybox.run("import os, signal; os.kill(os.getpid(), signal.SIGTERM)").signal)
handled = "import signal, os; signal.signal(signal.SIGUSR1, lambda *_: print('usr1')); os.kill(os.getpid(), signal.SIGUSR1)"
print(proxybox.run(handled, check=True).stdout, end="")
with proxybox.Pool(size=2) as pool:
    print([pool.run(f"print({number})", check=True).stdout for number in range(3)])
with proxybox.Sandbox(session={"branches": 1}).session() as session:
    session.exec("a = 1")
    with session.fork() as other:
        other.exec("a += 1")
        print(other.exec("print(a)").stdout, end="")
    print(session.exec("print(a)").stdout, end="")
import os, threading
waiting = [thread.name.rpartition("-")[2] for thread in threading.enumerate() if "end-of" in thread.name]
print([pid for pid in waiting if not os.path.exists(f"/proc/{pid}")])
"""


@pytest.mark.sized(1)
@pytest.mark.parametrize(("number", "error"), [(PIDFD_OPEN, ENOSYS), (PIDFD_OPEN, EPERM), (PIDFD_SEND_SIGNAL, EPERM)])
def test_no_pidfds(number: int, error: int) -> None:
    """Without pidfd calls, as in gVisor of 2024 and under old container profiles, all is as on other hosts."""
    without, on_other_hosts = controller(f"outer({number}, {ERRNO | error})" + _PROCESSES), controller(_PROCESSES)
    assert without == on_other_hosts
    assert on_other_hosts.startswith("1\ntime_limit 7\n15\nusr1\n['0\\n', '1\\n', '2\\n']\n2\n1\n")


def test_a_limit_that_is_refused() -> None:
    """As in gVisor, which refuses RLIMIT_MSGQUEUE: the box starts and reports that. A refused RLIMIT_CORE is a start
    error.
    """
    msgqueue, core = 12, 4
    program = f"""
outer({PRLIMIT}, {ERRNO | EPERM}, {msgqueue}, 1)
result = proxybox.run({THREADS!r}, check=True)
print(result.stdout, result.layers["kernel limits"])
"""
    said = controller(program)
    assert said.startswith("thread\n missing: the kernel refuses to limit message queues")
    assert "setrlimit(2): Operation not permitted" in said
    assert "missing" not in controller("print(proxybox.run('1').layers['kernel limits'])")
    program = f"""
outer({PRLIMIT}, {ERRNO | EPERM}, {core}, 1)
try:
    print(proxybox.run("print('ran')"))
except proxybox.SandboxStartError as error:
    print("refused:", error)
"""
    assert controller(program).startswith("refused: the box could not be started: setrlimit(RLIMIT_CORE): Op")


@pytest.mark.parametrize(
    ("name", "number"), [("unshare", UNSHARE), ("fsopen", FSOPEN), ("a number that is no call's", 0x20420004)]
)
def test_a_filter_that_ends_a_process(name: str, number: int) -> None:
    """As with a service manager whose filter kills: no box starts, and the doctor names the call."""
    program = f"""
outer({number}, {KILL})
layers.USED.add("namespaces")  # asked for, whatever the other tests do without
try:
    print(proxybox.run("print('ran')"))
except proxybox.SandboxStartError as error:
    print("refused:", error)
print(*proxybox.diagnose().problems, sep="\\n")
"""
    first, *problems = controller(program).splitlines()
    assert first.startswith("refused: ") and "SIGSYS" in first and "SystemCallErrorNumber" in first
    assert problems[-1].endswith(f"ends a process at {name}, instead of refusing the call")


def test_a_root_that_may_not_kill() -> None:
    """Such a root could not end its boxes at their limits. They would outlive it, because PR_SET_PDEATHSIG needs that
    right, too.
    """
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
    """In a user namespace with one id there is no other user for a box."""
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
