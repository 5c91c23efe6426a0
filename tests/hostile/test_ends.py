"""Every end of a box is reported, and nothing is left: kills at any moment, no memory, a full disk, a dying controller,
callers that raise, a host without resources.

Every test passes through `_flat`: children, descriptors, threads, mounts, control groups, temporary files and
namespaces are the same before and after.
"""

import _signal
import contextlib
import ctypes
import errno
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.process.undisturbed import HELD_BACK, Closing, Undisturbed
from proxybox.controller.process.watchdog import Watchdog
from tests import sweeps

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "soak"))
sys.path.insert(0, str(HERE))
from container import CANNOT  # noqa: E402
from counts import Counts, descendants, guests_and_inits  # noqa: E402

BUSY = """
import os, threading
def work(n):
    for turn in range(20):
        with open(f"/tmp/{n}", "a") as file: file.write("x" * 5000)
        print(n, turn, os.path.getsize(f"/tmp/{n}"))
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for each in threads: each.start()
for each in threads: each.join()
"""
SPIN = "print('ready', flush=True)\nwhile True: pass"
FLOOD = "while True: print('x' * 1000)"
THREADS = "import threading\nfor _ in range(4): threading.Thread(target=threading.Event().wait).start()\n" + SPIN


@pytest.fixture(scope="module")
def _busy(_warm, tmp_path_factory):
    """Sets a separate folder for temporary files, and runs a busy box first: what lasts of it exists before the first
    count.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setattr(tempfile, "tempdir", None)
        proxybox.run(BUSY, check=True, timeout=200)
        yield


@pytest.fixture(autouse=True)
def _flat(_busy, _unharmed):
    before = Counts.take()
    yield
    end = time.monotonic() + 60
    while (grown := Counts.take().grown(before)) and time.monotonic() < end:
        pass
    assert not grown


def program(*words, **options):
    """Runs Python in a process of its own. The program prints what was wrong."""
    options.setdefault("timeout", 280)
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, **options)


def kill(pids, number=signal.SIGKILL):
    for pid in pids:
        os.kill(pid, number)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(900)
def test_killed_at_any_line_of_a_start():
    """The launcher, the namespaces' init and the guest, as far as they exist, are killed at each line. The end is a
    start error or a Result.
    """
    ended = program(HERE / "interrupted.py", "killed", timeout=800)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


def kill_who_comes(over):
    """Kills guests and inits repeatedly until `over` is set. The first process may be the launcher, which has then done
    its work.
    """
    while not over.is_set():
        for pid in guests_and_inits()[0]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def calls_of(code):
    seen = []
    with proxybox.Sandbox(audit=lambda call: seen.append(call.name)) as box:
        box.run(code, check=True)
    return len(seen)


@pytest.mark.parametrize("code", [BUSY, FLOOD.replace("while True", "for n in range(50)")], ids=["threads", "output"])
def test_killed_in_the_middle_of_a_call(code):
    """The guest no longer exists when its answer is written."""
    calls, picks = calls_of(code), random.Random(code)
    for pick in picks.sample(range(calls * 9 // 10), sweeps.tries(4, 8)):
        left = [pick]

        def strike(call, left=left):
            left[0] -= 1
            if left[0] == -1:
                kill(guests_and_inits()[0])

        with proxybox.Sandbox(interceptors=[strike]) as box:
            result = box.run(code)
        assert (result.status, result.signal, result.exit_code) == ("crashed", signal.SIGKILL, None), (pick, result)


@pytest.mark.parametrize("code", [BUSY, FLOOD, THREADS], ids=["threads", "output", "spinning beside threads"])
def test_killed_at_random_moments(code):
    """Another thread kills the guest at any moment."""
    moments = random.Random(code)
    for _ in range(sweeps.tries(4, 8)):
        moment = moments.uniform(0.0, 0.2)
        over = threading.Event()
        timer = threading.Timer(moment, kill_who_comes, [over])
        timer.start()
        try:
            result = proxybox.run(code, timeout=200, output={"limit": "100M"})
        except proxybox.SandboxStartError:
            continue  # it was killed before it was sealed
        finally:
            over.set()
            timer.join()
        assert result.ok or (result.status, result.signal) == ("crashed", signal.SIGKILL), (moment, result.summary())


def test_the_first_process_of_its_namespaces_is_killed():
    """When the init of a pid namespace dies, the kernel ends everything in the namespace."""
    met = []

    def strike(text):
        met.extend(guests_and_inits()[1])
        kill(met)

    result = proxybox.run(SPIN, on_stdout=strike, timeout=100)
    if not met:
        assert "pid" not in result.layers.get("namespaces", ""), result.layers
        pytest.skip(f"boxes have no pid namespace here: {result.layers.get('namespaces', 'no such layer')}")
    assert (result.status, result.signal) == ("crashed", signal.SIGKILL), result


def test_its_launcher_is_killed():
    """The launcher alone is killed, before and after it has made the other processes: those that it could not report
    are found.
    """
    moments = random.Random(3)
    for _ in range(40):
        struck, spawn, moment = [], Watchdog.spawn, moments.uniform(0.0, 0.004)

        def spawn_and_kill(self, *arguments, spawn=spawn, moment=moment, struck=struck, **options):
            pid = spawn(self, *arguments, **options)
            end = time.monotonic() + moment
            while time.monotonic() < end:
                pass
            os.kill(pid, signal.SIGKILL)
            struck.append(pid)
            return pid

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Watchdog, "spawn", spawn_and_kill)
            try:
                result = proxybox.run("print(1)", timeout=200)
            except proxybox.SandboxStartError:
                result = None
        assert struck
        assert result is None or result.ok or result.signal == signal.SIGKILL, (moment, result)
        assert not descendants(), moment


# --- memory -----------------------------------------------------------------------------------------------------------


def test_out_of_its_own_memory():
    for code in ("x = bytearray(1 << 30)", "x = []\nwhile True: x.append(bytearray(1 << 20))"):
        result = proxybox.run(code, limits={"memory": "128M"})
        assert result.status == "memory_limit", result
        with pytest.raises(proxybox.MemoryLimitExceeded):
            result.check()


OUT_OF_MEMORY = """
import os, sys
import proxybox
proxybox.run("1", check=True)
open(sys.argv[1], "w").write(str(os.getpid()))
code = "x = []\\nwhile True: x.append(bytes(range(256)) * 40960)"
result = proxybox.run(code, limits={"memory": None, "wall_time": 200, "cpu_time": 60})
assert (result.status, result.signal) == ("crashed", 9), result
print(proxybox.run("print('lives on')", check=True).stdout, end="")
"""


def test_the_kernel_is_out_of_memory():
    """In a memory control group of the whole controller the kernel kills the guest, and its controller reports that."""
    root = Path("/sys/fs/cgroup/memory")
    group = root / f"ends-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory control group (version 1) can be made here: {error}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(300 << 20))
        (group / "memory.swappiness").write_text("0")
        ended = program("-c", OUT_OF_MEMORY, group / "cgroup.procs")
        assert ended.stdout == "lives on\n", ended.stderr
    finally:
        group.rmdir()


# --- no space on the disk ---------------------------------------------------------------------------------------------

ON_A_SMALL_DISK = """
import ctypes, errno, os, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
root, ids = os.geteuid() == 0, (os.getuid(), os.getgid())
if libc.unshare(0x20000 | (0 if root else 0x10000000)):
    sys.exit(77)
if not root:
    open("/proc/self/setgroups", "w").write("deny")
    open("/proc/self/uid_map", "w").write(f"{ids[0]} {ids[0]} 1")
    open("/proc/self/gid_map", "w").write(f"{ids[1]} {ids[1]} 1")
assert libc.mount(b"", b"/", None, ctypes.c_ulong(16384 | 1 << 18), None) == 0
disk = Path(sys.argv[1])
assert libc.mount(b"small", bytes(disk), b"tmpfs", ctypes.c_ulong(0), b"size=64k,mode=777") == 0

import proxybox
def run(code, mode="rw", **options):
    options.setdefault("timeout", 200)
    return proxybox.run(code, filesystem={"mounts": [proxybox.Mount(target="/data", source=str(disk), mode=mode)]}, **options)
def contents():
    return {str(path.relative_to(disk)): path.read_bytes() for path in disk.rglob("*") if path.is_file()}
def is_full():
    return os.statvfs(disk).f_bavail == 0
"""

DISKS = {
    "written until it is full": """
result = run('''
import errno
written = 0
try:
    with open("/data/big", "wb", buffering=0) as file:
        while True: written += file.write(b"x" * 3000)
except OSError as error:
    print(errno.errorcode[error.errno], written)
import os
os.unlink("/data/big")
open("/data/small", "w").write("there is room again")
''')
assert result.ok, result
assert result.stdout == "ENOSPC 65536\\n", result.stdout
assert contents() == {"small": b"there is room again"}
""",
    "nobody catches it": """
result = run("open('/data/big', 'wb').write(bytes(1 << 20))")
assert result.status == "error" and result.error.type == "OSError" and "Errno 28" in result.error.message, result
assert is_full() and set(contents()) == {"big"}
""",
    "no more names": """
assert libc.mount(b"small", bytes(disk), b"tmpfs", ctypes.c_ulong(32), b"nr_inodes=4") == 0
result = run('''
import errno, os
for make in (lambda n: open(f"/data/{n}", "w"), lambda n: os.mkdir(f"/data/d{n}"), lambda n: os.symlink("x", f"/data/l{n}")):
    try:
        for n in range(9): make(n)
    except OSError as error: print(errno.errorcode[error.errno])
''')
assert result.stdout == "ENOSPC\\n" * 3, result
""",
    "sqlite": """
result = run('''
import sqlite3
db = sqlite3.connect("/data/db")
db.execute("create table t (x)")
db.commit()
try:
    for n in range(1000):
        db.execute("insert into t values (?)", ("x" * 1000,))
        db.commit()
except sqlite3.OperationalError as error: print(error)
''')
assert "full" in result.stdout or "disk I/O error" in result.stdout, result
""",
    "a commit that does not fit": """
(disk / "kept").write_bytes(b"old")
(disk / "gone").write_bytes(b"to be deleted")
before = contents()
result = run('''
import os
os.unlink("/data/gone")
open("/data/kept", "w").write("new")
os.mkdir("/data/folder")
for n in range(10): open(f"/data/folder/{n}", "wb").write(bytes(20000))
os.rename("/data/kept", "/data/renamed")
''', mode="overlay")
assert result.ok, result
try:
    result.files.commit()
except OSError as error:
    assert error.errno == errno.ENOSPC, error
else:
    raise AssertionError("200,000 bytes fit on 64 KiB")
assert contents() == before, contents().keys()
assert sorted(os.listdir(disk)) == ["gone", "kept"]
assert len(result.files) == 11, "and may be written elsewhere"
libc.mount(b"small", bytes(disk), b"tmpfs", ctypes.c_ulong(32), b"size=1m")
result.files.commit()
assert set(contents()) == {"renamed", *(f"folder/{n}" for n in range(10))}
""",
    "a limit on the size of files": """
import resource, signal
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, resource.RLIM_INFINITY))
result = run('''
import errno
try:
    with open("/data/big", "wb", buffering=0) as file:
        while True: file.write(b"x" * 3000)
except OSError as error: print(errno.errorcode[error.errno])
open("/tmp/big", "wb").write(bytes(50000))
print("x" * 50000)
''')
assert result.ok and result.stdout == "EFBIG\\n" + "x" * 50000 + "\\n", result
assert len(contents()["big"]) == 10000
(disk / "big").unlink()
result = run("open('/data/small', 'w').write('small'); open('/data/big', 'wb').write(bytes(20000))", mode="overlay")
try:
    result.files.commit()
except OSError as error:
    assert error.errno == errno.EFBIG, error
assert contents() == {}, contents().keys()
""",
    "the folder of temporary files": """
os.environ["TMPDIR"] = str(disk)
(disk / "all").write_bytes(bytes(1 << 16))
assert is_full()
result = run("import tempfile, threading\\nwith tempfile.TemporaryFile() as file: file.write(bytes(200000))\\n"
             "t = threading.Thread(target=print, args=('well',)); t.start(); t.join()", mode="ro")
assert result.stdout == "well\\n", result
assert set(contents()) == {"all"}
os.environ["TMPDIR"] = "/nonexistent"
assert run("print(1)", mode="ro").stdout == "1\\n"
""",
}


@pytest.mark.parametrize("code", DISKS.values(), ids=DISKS.keys())
def test_a_full_disk(code, tmp_path):
    """On a file system of 64 KiB the guest and the Result report errors, and a commit writes all or nothing."""
    tmp_path.chmod(0o755)
    ended = program("-c", ON_A_SMALL_DISK + textwrap.dedent(code), tmp_path)
    if ended.returncode == CANNOT:
        pytest.skip("this host lets nobody mount a small file system: neither root nor user namespaces")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


# --- the controller ends ----------------------------------------------------------------------------------------------

CONTROLLER = """
import os, sys, threading
import proxybox

def ready(_):
    print("ready", flush=True)
    if {end!r} == "_exit": os._exit(3)

if {early}: print("ready", flush=True)
proxybox.run({code!r}, on_stdout=ready, stdin={stdin}, timeout=100, limits={{"cpu_time": 100, "threads": 8}})
"""
WAITS = {
    "spinning": SPIN,
    "asleep": "print('ready', flush=True)\nimport time; time.sleep(1e6)",
    "in a futex": "import threading\nprint('ready', flush=True)\nthreading.Lock().acquire(); threading.Event().wait()",
    "beside threads": THREADS,
    "waiting for input": "print('ready', flush=True)\ninput()",
    "printing": "import sys\nprint('ready', flush=True)\nwhile True: sys.stderr.write('x' * 4096)",
    "calling": "import os\nprint('ready', flush=True)\nwhile True: os.stat('/etc/passwd')",
}


@pytest.fixture
def nursery():
    """Makes orphans of the test's programs children of this process, so that none is missed."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    yield
    survivors()
    assert libc.prctl(36, 0, 0, 0, 0) == 0


def survivors(seconds=10):
    """Waits for descendants to end. Kills and returns those that are still alive: their names by process id."""
    end = time.monotonic() + seconds
    while descendants() and time.monotonic() < end:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
    left = {pid: Path(f"/proc/{pid}/comm").read_text() for pid, state in descendants().items() if state != "Z"}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


@pytest.mark.cover(1)
@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "_exit"])
@pytest.mark.parametrize("code", WAITS.values(), ids=WAITS.keys())
def test_the_controller_dies(nursery, code, end):
    """No guest and no other process of the controller survives it, whatever either of them does."""
    reader, writer = os.pipe()
    script = CONTROLLER.format(code=code, end=end, early=False, stdin="open(0, 'rb', buffering=0, closefd=False)")
    with subprocess.Popen([sys.executable, "-c", script], stdin=reader, stdout=subprocess.PIPE) as controller:
        assert controller.stdout.readline() == b"ready\n"
        if end != "_exit":
            assert len(descendants()) >= 2
            controller.send_signal(signal.Signals[end])
        controller.wait(200)
    os.close(reader)
    os.close(writer)
    assert not survivors()


def test_the_controller_dies_while_a_box_starts(nursery):
    """The controller is killed at moments from before the launcher until after the first call."""
    moments = random.Random(11)
    script = CONTROLLER.format(code=SPIN, end="", early=True, stdin=None)
    for _ in range(sweeps.tries(4, 12)):
        moment = moments.uniform(0.0, 0.15)
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as controller:
            assert controller.stdout.readline() == b"ready\n"
            threading.Timer(moment, controller.kill).start()
            controller.wait(200)
        assert not survivors(), moment


def test_a_thread_of_the_controller_dies_with_the_whole(nursery):
    """Boxes of several threads end when another program replaces their controller by execve(2)."""
    script = f"""
import os, threading, proxybox
barrier = threading.Barrier(4)
def run(): proxybox.run({SPIN!r}, on_stdout=lambda _: barrier.wait(), timeout=60)
for _ in range(3): threading.Thread(target=run, daemon=True).start()
barrier.wait()
os.execv("/bin/sh", ["sh", "-c", "echo another; read word"])
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as controller:
        assert controller.stdout.readline() == b"another\n"
        end = time.monotonic() + 100
        while (living := [pid for pid in descendants() if not is_ending(pid)]) != [controller.pid]:
            assert time.monotonic() < end, living
        controller.communicate(b"\n")
    assert not survivors()


def is_ending(pid):
    """Whether a process has ended or is exiting: a zombie, or the init of a pid namespace that still has processes."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return True
    return words[0] == "Z" or int(words[6]) & 4  # PF_EXITING


# --- callers that raise -----------------------------------------------------------------------------------------------


def raising(error):
    def callback(*_):
        raise error("of the caller")

    return callback


CALLBACKS = {
    "on_stdout": lambda error: {"on_stdout": raising(error)},
    "on_stderr": lambda error: {"on_stderr": raising(error)},
    "stdin": lambda error: {"stdin": raising(error)},
}
ALL_STREAMS = "import sys, threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\nprint('out', flush=True)\nprint('err', file=sys.stderr, flush=True)\ninput()\nwhile True: pass"


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
@pytest.mark.parametrize("options", CALLBACKS.values(), ids=CALLBACKS.keys())
def test_a_callback_raises(options, error):
    """The caller gets the callback's exception, and by then the guest has ended."""
    with pytest.raises(error, match="of the caller"):
        proxybox.run(ALL_STREAMS, timeout=200, **options(error))
    assert not descendants()


@pytest.mark.parametrize("error", [OSError, FileNotFoundError, BlockingIOError])
@pytest.mark.parametrize("options", CALLBACKS.values(), ids=CALLBACKS.keys())
def test_a_callback_raises_an_error_of_the_system(options, error):
    """An OSError is not the guest's errno, but reaches the caller like any other exception."""
    with pytest.raises(error, match="of the caller"):
        proxybox.run(ALL_STREAMS, timeout=200, **options(error))
    assert not descendants()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_callback_that_nobody_reads(stream):
    """BrokenPipeError of a callback is EPIPE in the guest, as with `| head`."""
    code = f"import os, sys\ntry: print('x', file=sys.{stream}, flush=True)\nexcept BrokenPipeError: os._exit(7)"
    result = proxybox.run(code, **{f"on_{stream}": raising(lambda text: BrokenPipeError(errno.EPIPE, text))})
    assert result.exit_code == 7, result


@pytest.mark.cover(2)
@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, SystemExit, OSError, BrokenPipeError])
@pytest.mark.parametrize("kind", ["interceptors", "audit"])
@pytest.mark.parametrize("nth", [0, 1, 100, 450])
def test_an_observer_raises_at_the_nth_call(kind, nth, error):
    left = [nth]

    def observe(call):
        left[0] -= 1
        if left[0] < 0:
            raise error("of the observer")

    options = {"audit": observe} if kind == "audit" else {"interceptors": [observe]}
    with proxybox.Sandbox(**options) as box, pytest.raises(error, match="of the observer"):
        box.run(BUSY)
    assert not descendants()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", sweeps.spread([1, 2], 1))
def test_ctrl_c_at_random_moments(seed):
    """KeyboardInterrupt by a real signal, at any moment between a start and an end."""
    ended = program(HERE / "interrupted.py", "random", seed, sweeps.tries(20, 60), timeout=800)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


def test_ctrl_c_at_the_door_of_the_end():
    """KeyboardInterrupt in the call of `Closing.__exit__`, between a run and its closing: no process is left."""
    struck = []

    def trace(frame, event, arg):
        if event == "call" and frame.f_code is Closing.__exit__.__code__ and not struck:
            struck.append(frame.f_code.co_name)
            raise KeyboardInterrupt

    sys.settrace(trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            proxybox.run("1")
    finally:
        sys.settrace(None)
    assert struck
    assert not descendants()


@pytest.mark.parametrize("raising_one", HELD_BACK)
@pytest.mark.parametrize("phase", ["enter", "release"])
def test_a_signal_while_handlers_change_hands(monkeypatch, raising_one, phase):
    """A signal arrives when some handlers have been restored and others have not: all are restored, and the handler's
    exception is raised.
    """
    came, struck = [], []

    def handler(number, frame):
        came.append(number)
        raise LookupError(number)

    before = {number: signal.signal(number, handler) for number in HELD_BACK}
    change = _signal.signal

    def change_and_strike(number, what):
        was = change(number, what)
        if (what is handler) == (phase == "release") and not struck:
            struck.append(number)
            signal.raise_signal(raising_one)
        return was

    try:
        undisturbed = Undisturbed()
        with monkeypatch.context() as patch:
            patch.setattr(_signal, "signal", change_and_strike)
            with pytest.raises(LookupError), undisturbed:
                pass
        assert came == [raising_one]
        assert all(signal.getsignal(number) is handler for number in HELD_BACK)
    finally:
        for number, was in before.items():
            signal.signal(number, was)


# --- a host that has run out of something -----------------------------------------------------------------------------

SHORT_OF = """
import os, resource, sys, threading
import proxybox
code = "import threading; t = threading.Thread(target=print, args=('t',)); t.start(); t.join()"
def attempt():
    try:
        return str(proxybox.run(code, timeout=200).status)
    except (proxybox.SandboxStartError, MemoryError) as error:
        return type(error).__name__
def held():
    return sorted(os.listdir("/proc/self/fd")), sorted(os.listdir("/proc/self/task"))
"""

PROCESSES = """
# The processes of an own user namespace are counted apart from the same user's others.
mine = 1 + len(os.listdir("/proc/self/task"))
hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
ends = []
for most in range(1, 9):
    resource.setrlimit(resource.RLIMIT_NPROC, (most, hard))
    ends.append(attempt())
    assert not [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())], most
resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
ends.append(attempt())
print(ends[0], ends[-1], *sorted(set(ends) - {"ok", "SandboxStartError", "error"}))
"""


def test_no_processes_left():
    """RLIMIT_NPROC of another user forbids the launcher, the watchdog and threads of the guest."""
    command = [
        sys.executable,
        HERE / "container.py",
        "--init",
        "--no-filter",
        sys.executable,
        "-c",
        SHORT_OF + PROCESSES,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    if ended.returncode == CANNOT:
        pytest.skip(f"this host gives neither root nor user namespaces, of which a container is made: {ended.stderr}")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "SandboxStartError ok\n", "")


MEMORY = """
attempt()
before = held()
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
ends = []
for spare in [*range(0, 1 << 21, 1 << 17), *range(1 << 21, 1 << 26, 1 << 22), *range(1 << 27, 1 << 29, 1 << 27)]:
    resource.setrlimit(resource.RLIMIT_AS, (size + spare, hard))
    end = attempt()
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    ends.append(end)
    assert held() == before, (spare, held(), before)
assert "MemoryError" in ends and "ok" in ends, ends
print(*sorted(set(ends) - {"ok", "error", "memory_limit", "crashed", "MemoryError", "SandboxStartError"}), attempt())
"""


def test_no_memory_left_for_the_controller():
    """The controller has a RLIMIT_AS, which its guests inherit."""
    ended = program("-c", SHORT_OF + MEMORY)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ok\n", "")


def test_a_start_that_takes_too_long(monkeypatch):
    """The error says that the start took too long, whatever is reported later. Every started process is ended."""
    monkeypatch.setattr("proxybox.controller.process.launch.START_LIMIT", 0.0001)
    for _ in range(5):
        with pytest.raises(proxybox.SandboxStartError, match=r"did not start within 0.0001 seconds"):
            proxybox.run("pass", warm=False)
    assert not descendants()
