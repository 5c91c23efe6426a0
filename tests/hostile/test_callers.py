"""Trouble on the caller's side, or from outside, while a guest runs: the guest always ends, and nothing is left
behind.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import proxybox

SPIN = "print('ready', flush=True)\nwhile True: pass"
SLEEP = "import time\nprint('ready', flush=True)\ntime.sleep(1e6)"


@pytest.mark.parametrize("code", [SPIN, SLEEP])
def test_a_callback_that_raises(hostile, code):
    def refuse(text):
        raise LookupError(text)

    with pytest.raises(LookupError, match="ready"):
        hostile.run(code, on_stdout=refuse)
    with pytest.raises(LookupError, match="ready"):
        hostile.run(
            code.replace("print(", "import sys; print(").replace("'ready'", "'ready', file=sys.stderr"),
            on_stderr=refuse,
        )


def test_standard_input_that_raises(hostile):
    def refuse(size):
        raise LookupError(size)

    with pytest.raises(LookupError):
        hostile.run("input()", stdin=refuse)


@pytest.mark.parametrize("error", [LookupError, SystemExit, KeyboardInterrupt, MemoryError, OSError, RecursionError])
def test_an_interceptor_that_raises(error):
    def refuse(call):
        if call.name == "mkdir":
            raise error("from the interceptor")

    with proxybox.Sandbox(interceptors=[refuse]) as box, pytest.raises(error, match="from the interceptor"):
        box.run("import os; os.mkdir('x'); print('went on')")


@pytest.mark.parametrize("verdict", ["nonsense", 7, object()])
def test_an_interceptor_that_returns_nonsense(verdict):
    with proxybox.Sandbox(interceptors=[lambda call: verdict]) as box, pytest.raises(TypeError, match="interceptor"):
        box.run("1")


def test_an_audit_that_raises():
    def refuse(call):
        raise LookupError(call.name)

    with proxybox.Sandbox(audit=refuse) as box, pytest.raises(LookupError):
        box.run("1")


@pytest.mark.parametrize("code", [SPIN, SLEEP, "import os\nprint('ready', flush=True)\nwhile True: os.getppid()"])
def test_ctrl_c_in_the_caller(hostile, code):
    """SIGINT to the controller while the guest computes, waits, or makes calls."""

    def interrupt(text):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            hostile.run(code, on_stdout=interrupt, timeout=100)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.timeout(900)
def test_ctrl_c_at_any_line_of_a_start(tmp_path):
    """A KeyboardInterrupt at any line leaves no descriptor, process or temporary file behind."""
    program = Path(__file__).with_name("interrupted.py")
    alone = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=800, check=True, env=alone
    )
    assert ended.stdout == "", "left behind at these lines"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGSYS])
def test_a_guest_killed_from_outside(hostile, number):
    def kill(text):
        os.kill(hostile.guests()[0], number)

    result = hostile.run(SPIN, on_stdout=kill, limits={"cpu_time": 0.5})
    if number == signal.SIGKILL:
        assert (result.status, result.signal) == ("crashed", 9), result
    else:  # the guest's own handlers run, or it dies
        assert result.status in ("crashed", "time_limit", "error"), result
    assert result.stdout == "ready\n"


def test_a_guest_stopped_from_outside(hostile):
    """A guest stopped by SIGSTOP still reaches its limit of wall time."""
    result = hostile.run(SPIN, on_stdout=lambda _: os.kill(hostile.guests()[0], signal.SIGSTOP), timeout=1)
    assert result.status == "time_limit", result


def test_the_thread_that_started_a_box_ends_early(hostile):
    """A guest belongs to the process, not to a thread: another thread's box goes on after a thread that ran a box has
    ended.
    """
    results = []

    def short():
        results.append(hostile.run("print('short')"))

    def starts_and_ends():
        thread = threading.Thread(
            target=lambda: results.append(hostile.run("import time; time.sleep(0.4); print('long')"))
        )
        thread.start()
        short()
        return thread

    inner = []
    outer = threading.Thread(target=lambda: inner.append(starts_and_ends()))
    outer.start()
    outer.join()
    inner[0].join()
    assert sorted(result.stdout for result in results) == ["long\n", "short\n"]


def test_somebody_else_waits_for_all_children(hostile):
    """A host program that reaps every child it finds: boxes still have a complete Result."""
    over = threading.Event()

    def reap():
        while not over.is_set():
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass

    thread = threading.Thread(target=reap)
    thread.start()
    try:
        results = [hostile.run("raise SystemExit(3)") for _ in range(5)]
    finally:
        over.set()
        thread.join()
    assert {result.exit_code for result in results} == {3}, results


def test_a_forked_controller(hostile):
    """A child of the host program has boxes of its own."""
    pid = os.fork()
    if not pid:
        try:
            good = proxybox.run("print('child')").stdout == "child\n"
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert hostile.ok("print('parent')") == "parent\n"


CONTROLLER = """
import os, sys, threading
import proxybox

def told(text):
    children = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{{name}}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[1] == str(os.getpid()):
                    children.append(name)
        except OSError:  # it has ended meanwhile
            pass
    print(*children, flush=True)

proxybox.run({code!r}, on_stdout=told, timeout=100, limits={{"cpu_time": 100, "threads": 8}})
"""


@pytest.mark.cover(1)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(
    "code",
    [
        SPIN,
        SLEEP,
        "import threading\nfor _ in range(4): threading.Thread(target=threading.Event().wait).start()\nprint('ready', flush=True)\nwhile True: pass",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nprint('ready', flush=True)\nwhile True: pass",
        "import raw\nprint('ready', flush=True)\nraw.exchange(raw.SLEEP)",
    ],
    ids=["spinning", "sleeping", "threads", "deaf", "in a native wait"],
)
def test_the_controller_is_killed(hostile, code, number, tmp_path):
    """Its guest dies with it, whatever the guest does."""
    code = "import sys; sys.path.insert(0, '/box')\n" + code
    if "import raw" in code:
        code = code.replace(
            "import raw\n",
            f"exec({hostile.files['raw.py']!r}, globals())\nclass raw: exchange, SLEEP = staticmethod(exchange), SLEEP\n",
        )
    script = tmp_path / "controller.py"
    script.write_text(textwrap.dedent(CONTROLLER).format(code=code))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as controller:
        handles = [os.pidfd_open(int(pid)) for pid in controller.stdout.readline().split()]
        try:
            assert handles, "the guest, and an init where it has namespaces"
            controller.send_signal(number)
            controller.wait(200)
            import select

            for handle in handles:
                assert select.select([handle], [], [], 100)[0], "a process of the box outlives its controller"
        finally:
            for handle in handles:
                os.close(handle)


@pytest.mark.full
def test_thirty_boxes_leave_nothing(hostile):
    programs = (
        "print(1)",
        "raise ValueError",
        "import os; os.abort()",
        "import threading\nt = threading.Thread(target=print); t.start(); t.join()",
        "import raw; raw.exchange(raw.put(b'x' * 100), raw.SLEEP)",
        "open('/tmp/x', 'wb').write(bytes(1 << 22))",
    )
    for code in programs:  # some large files of the library stay open for the next box
        hostile.run(code)
    before = hostile.descriptors(), threading.active_count(), hostile.resident()
    for code in programs * 5:
        hostile.run(code)
        assert hostile.children() == []
    assert hostile.descriptors() == before[0]
    assert threading.active_count() == before[1]
    assert hostile.resident() - before[2] < 24 << 20


def test_a_controller_without_descriptors_to_spare(hostile):
    """EMFILE in the controller makes the start fail, and nothing stays open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    for more in range(0, 24, 2):
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, hard))
        try:
            result = proxybox.run("print(1)")
            assert result.stdout == "1\n"
        except (OSError, proxybox.ProxyboxError):
            pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert hostile.children() == []


def test_a_host_program_that_forks_while_a_box_starts(hostile, monkeypatch):
    """A fork of this process by another thread waits until the guest has started.

    Otherwise the child would inherit the guest's ends of the pipes: the controller would not see the guest's end, and
    no time limit would help.
    """
    from proxybox.controller.process.watchdog import Watchdog

    forked, spawn, forking = [], Watchdog.spawn, []

    def fork():
        child = os.fork()
        if not child:
            time.sleep(200)  # it is killed earlier
            os._exit(0)
        forked.append(child)

    def spawn_and_fork(self, *arguments, **options):
        forking.append(threading.Thread(target=fork))
        forking[0].start()
        forking[0].join(0.1)  # long enough for a fork that is not blocked
        return spawn(self, *arguments, **options)

    monkeypatch.setattr(Watchdog, "spawn", spawn_and_fork)
    started = time.monotonic()
    try:
        result = hostile.run("import ctypes; ctypes.string_at(8)", timeout=60)
        assert result.signal == 11, result
        assert time.monotonic() - started < 100
    finally:
        forking[0].join()
        os.kill(forked[0], signal.SIGKILL)
        os.waitpid(forked[0], 0)


def test_nothing_of_a_box_is_inherited_by_what_the_caller_starts(hostile):
    """Pipes, listener and pidfd: exec(2) closes every descriptor that is opened for a box."""
    before = set(map(int, os.listdir("/proc/self/fd")))
    open_for_it = {}

    def look(_):
        for fd in set(map(int, os.listdir("/proc/self/fd"))) - before:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                open_for_it[fd] = fcntl.fcntl(fd, fcntl.F_GETFD)

    hostile.run(
        "import threading\nt = threading.Thread(target=print, args=('a thread',))\nt.start(); t.join()", on_stdout=look
    )
    assert len(open_for_it) >= 6, "two channels, a listener and a pidfd"
    assert all(flags & fcntl.FD_CLOEXEC for flags in open_for_it.values())
