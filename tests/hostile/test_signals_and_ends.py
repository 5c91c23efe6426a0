"""Signals in storms and with full masks, threads that end natively, clones forged beyond the limit, code that runs at
the end of a box, and refusals that end it.

The files of a box would show a call that was lost or made twice. The kernel's counts would show a task, process or
namespace too many.
"""

import os
import threading
import time
from pathlib import Path

import pytest

import proxybox
from proxybox import Mount
from tests.hostile.conftest import GuestObserver


class Tasks(GuestObserver):
    """Observes guests: the most tasks that a guest of this process had, and the namespaces of all its tasks."""

    def __init__(self, hostile):
        super().__init__(hostile)
        self.most, self.namespaces = 0, set()

    def look(self, pid):
        tasks = os.listdir(f"/proc/{pid}/task")
        self.most = max(self.most, len(tasks))
        if (
            "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
        ):  # otherwise it is still the launcher, which makes them
            for task in tasks:
                for kind in ("user", "mnt", "net", "pid", "uts", "ipc"):
                    self.namespaces.add((kind, os.readlink(f"/proc/{pid}/task/{task}/ns/{kind}")))


@pytest.fixture
def tasks(hostile):
    with Tasks(hostile) as watching:
        yield watching


FULL_MASK = """
import raw, struct, signal, os, threading, ctypes
# A handler by machine code under a full mask, SIGSYS and SIGKILL in it: it makes a call and returns.
text = b"\\xb8\\x27\\x00\\x00\\x00\\x0f\\x05" + b"\\x48\\xb8" + (counter := raw.code(bytes(8))).to_bytes(8, "little") + b"\\xf0\\x48\\xff\\x00\\xc3"
restorer = raw.code(b"\\xb8\\x0f\\x00\\x00\\x00\\x0f\\x05")
action = raw.code(struct.pack("QQQQ", raw.code(text), {flags} | 0x04000000, restorer, (1 << 64) - 1))
for number in (10, 12, 34, 64): raw.check(raw.syscall(13, number, action, 0, 8))
"""


@pytest.mark.parametrize("flags", ["0", "0x10000000", "0x40000000"], ids=["plain", "SA_RESTART", "SA_NODEFER"])
def test_a_handler_with_a_full_mask_in_a_storm(hostile, flags):
    """A second thread sends signals all the time. Every call of the first one happens exactly once: each folder can be
    made, and not again.
    """
    result = hostile.run(
        FULL_MASK.format(flags=flags)
        + """
over = False
def storm():
    while not over:
        for number in (10, 12, 34, 64): os.kill(os.getpid(), number)
thread = threading.Thread(target=storm); thread.start()
failed = 0
for number in range(300):
    os.mkdir(f"/box/d{number}")
    fd = os.open(f"/box/d{number}/file", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    assert os.write(fd, b"x" * 5000) == 5000
    os.close(fd)
    try: os.mkdir(f"/box/d{number}"); failed += 1
    except FileExistsError: pass
over = True; thread.join()
print(failed, ctypes.c_uint64.from_address(counter).value > 0)
""",
        limits={"cpu_time": 20, "calls": None},
        timeout=200,
    )
    assert result.stdout == "0 True\n", result.summary() + result.stderr
    sizes = {name: len(data) for name, data in result.files.items()}
    assert sizes == {f"d{number}/file": 5000 for number in range(300)}


def test_signals_in_the_middle_of_large_calls(hostile):
    """Large data takes many reads and writes of the pipe, while alarms arrive all the time: no byte is lost or comes
    twice.
    """
    result = hostile.run(
        """
import os, signal
count = 0
def tick(*_):
    global count
    count += 1
    os.stat("/etc/passwd")
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
data = bytes(range(256)) * 4000
fd = os.open("/tmp/x", os.O_RDWR | os.O_CREAT)
wrong = 0
for turn in range(60):
    if os.pwrite(fd, data, 0) != len(data) or os.pread(fd, len(data), 0) != data: wrong += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(wrong, count > 5)
""",
        limits={"cpu_time": 20, "calls": None},
        timeout=200,
    )
    assert result.stdout == "0 True\n", result.summary() + result.stderr


@pytest.mark.parametrize("mask", ["(1 << 64) - 1", "1 << 30"], ids=["all", "SIGSYS alone"])
def test_everything_blocked_by_every_way(hostile, outside, mask):
    """After sigprocmask, sigaction's mask, sigsuspend and ppoll the next call is answered, or the kernel ends the
    process. The call is never allowed natively.
    """
    result = hostile.run(
        f"""
import raw, struct, os
mask = raw.code(struct.pack("Q", {mask}))
page = raw.code(bytes(4096))
spec = raw.code(struct.pack("qq", 0, 1))
for call in ((14, 0, mask, 0, 8), (14, 2, mask, 0, 8), (271, page, 0, spec, mask, 8), (270, 0, 0, 0, 0, spec, 0), (281, 9, page, 1, 0, mask, 8)):
    raw.syscall(*call)
    print({outside.reach})
""",
        timeout=100,
    )
    assert result.stdout.splitlines() == ["[]"] * 5, result


# --- threads ----------------------------------------------------------------------------------------------------------

NAMESPACES = 0x7E020080  # CLONE_NEWTIME is 0x80, in the byte of the signal

FORGED = """
import raw, threading, ctypes
release = threading.Event()
for _ in range({limit} - 1): threading.Thread(target=release.wait, daemon=True).start()
stack = raw.code(bytes(1 << 16))
# clone with flags from rsi and ROUTE; the child stays where it is
clone = raw.function(bytes.fromhex("53 4889fb 4889f7 b838000000 4889de 4889da 4989da 4d31c0 41b9") + raw.ROUTE.to_bytes(4, "little") + bytes.fromhex("0f05 85c0 7502 ebfe 5b c3"), ctypes.c_void_p, ctypes.c_ulong)
results = []
for flags in {flags}:
    if {announced}: raw.ask(56, (flags, stack + 32768, stack, stack, 0))
    results.append(clone(stack + 32768, flags))
print([hex(flags) for flags, result in zip({flags}, results) if result > 0])
raw.exchange((231, 0, raw.ROUTE))
"""


@pytest.mark.parametrize("announced", [False, True], ids=["unannounced", "announced"])
@pytest.mark.parametrize("limit", [1, 3])
def test_clones_forged_at_the_limit_plus_one(hostile, tasks, limit, announced):
    """Threads up to the limit are granted. Then machine code clones: with the flags of a thread, with each namespace,
    as a process, and with bits in the register's upper half.
    """
    flags = [0x3D0F00, *(0x3D0F00 | 1 << bit for bit in range(64) if NAMESPACES >> bit & 1), 0x3D0F00 | NAMESPACES,
             *(1 << bit | 17 for bit in range(64) if NAMESPACES >> bit & 1), 0x3D0F00 | 1 << 32, 0x3D0F00 | 1 << 63]  # fmt: skip
    out = hostile.run(
        FORGED.format(limit=limit, flags=flags, announced=announced), limits={"threads": limit}, timeout=3
    )
    assert out.stdout in ("[]\n", ""), out
    assert out.status in ("ok", "time_limit", "misbehaved"), out
    assert tasks.most <= limit
    if os.geteuid() == 0:  # only root may read the files of a process that is not dumpable
        assert len({name for _, name in tasks.namespaces}) == 6, "one of each kind"


@pytest.mark.parametrize(
    "call",
    [f"(272, {1 << bit})" for bit in range(32) if NAMESPACES >> bit & 1]
    + [
        "(272, 0x7e020080)",
        "(308, 3, 0)",
        "(435, raw.code(struct.pack('11Q', 0x7e020000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)), 88)",
    ],
)
def test_namespaces_by_raw_calls(hostile, call):
    out = hostile.ok(
        f"import raw, struct, os\nbefore = os.getuid()\nprint(raw.syscall(*{call}) < 0, os.getuid() == before)"
    )
    assert out == "True True\n"


@pytest.mark.parametrize("way", ["raw.exchange((60, 0, raw.ROUTE))", "raw.syscall(60, 0)", "libc.pthread_exit(None)"])
def test_the_main_thread_ends_while_another_spins(hostile, way, tasks):
    """The main thread ends by exit(2) without the stub, with it, and by libc. CPU time is still charged, and its limit
    ends the box.
    """
    result = hostile.run(
        f"""
import threading, raw, ctypes
libc = ctypes.CDLL(None)
threading.Thread(target=raw.function(b"\\xeb\\xfe"), daemon=True).start()
print("spinning", flush=True)
{way}
""",
        limits={"cpu_time": 0.5, "wall_time": 10},
        timeout=None,
    )
    assert result.stdout == "spinning\n"
    assert (result.status, result.why) in (("time_limit", "limits.cpu_time"), ("error", ""), ("crashed", "")), result
    if "ROUTE" in way:
        assert result.why == "limits.cpu_time", result
    assert tasks.most >= 2


# --- the thread that started a box ------------------------------------------------------------------------------------


def test_the_very_thread_that_spawned_a_guest_ends(hostile, monkeypatch):
    """The thread that started the guest ends, and another thread serves the box.

    The parent-death signal follows the thread that started a child, so a thread that lasts does that.
    """
    from proxybox.controller.boxes import box as boxes

    served, launch = [], boxes.launch

    def launch_in_a_thread(spec):
        process = []
        thread = threading.Thread(target=lambda: process.append(launch(spec)))
        thread.start()
        thread.join()
        assert not thread.is_alive()
        served.append(process[0].pid)
        return process[0]

    monkeypatch.setattr(boxes, "launch", launch_in_a_thread)
    out = hostile.ok("import time\nfor _ in range(20): time.sleep(0.01)\nprint('alive')")
    assert out == "alive\n" and len(served) == 1


# --- last words -------------------------------------------------------------------------------------------------------

LAST_WORDS = {
    "a destructor in a cycle": "class A:\n    def __del__(self): {last}\na = A(); a.a = a; del a\nimport gc, atexit; atexit.register(gc.collect)",
    "atexit": "import atexit\natexit.register(lambda: {last})",
    "a weak reference's callback": "import weakref\nclass A: pass\na = A()\nr = weakref.ref(a, lambda _: {last})\ndel a\nimport gc; gc.collect(); gc.collect()",
    "the end of a thread": "import threading\nclass A(threading.local):\n    def __del__(self): {last}\nl = A()\ndef f(): l.x = 1\nt = threading.Thread(target=f); t.start(); t.join()\nimport atexit; atexit.register(lambda: {last})",
    "a hook of exceptions": "import sys\nsys.excepthook = lambda *a: {last}\n1 / 0",
    "standard output that is closed": "import sys, atexit\nclass W:\n    def write(self, text): pass\n    def flush(self): {last}\nsys.stdout = W()",
    "threads that are waited for": "import threading\nthreading.Thread(target=lambda: (__import__('time').sleep(0.05), {last})).start()",
    "an alarm at the end": "import signal, atexit, time\nsignal.signal(14, lambda *_: {last})\natexit.register(lambda: (signal.setitimer(0, 0.01), time.sleep(0.1)))",
    "the profile of the end": "import sys, atexit\natexit.register(lambda: sys.setprofile(lambda *a: (sys.setprofile(None), {last})))\natexit.register(len, '')",
}


@pytest.mark.parametrize("code", LAST_WORDS.values(), ids=LAST_WORDS.keys())
def test_last_words_are_in_the_same_box(hostile, outside, code):
    """Code that runs after the program reaches nothing else. The files that it makes are in the Result, which is
    complete.
    """
    last = f"__import__('os').write(1, repr({outside.reach}).encode()) and __import__('os').mkdir('/box/left')"
    result = hostile.run("import outside, os, raw\n" + code.format(last=last), timeout=100)
    assert result.status in ("ok", "error"), result
    assert result.stdout.replace("[]", "") == "" and "[]" in result.stdout, result
    assert [change.name for change in result.files.changes if change.type == "dir"] == ["left"]


@pytest.mark.parametrize("code", LAST_WORDS.values(), ids=LAST_WORDS.keys())
def test_last_words_without_end(hostile, code):
    result = hostile.run(
        "def spin():\n    while True: pass\nimport builtins; builtins.spin = spin\n" + code.format(last="spin()"),
        limits={"cpu_time": 0.5, "wall_time": 5},
        timeout=None,
    )
    assert result.status == "time_limit", result


def test_an_end_by_os_exit_from_a_destructor(hostile):
    result = hostile.run("import os\nclass A:\n    def __del__(self): os._exit(41)\na = A()\ndel a\nimport gc; gc.collect(); gc.collect()\nprint('after')")  # fmt: skip
    assert result.exit_code in (41, 0), result
    assert (result.exit_code == 41) == ("after" not in result.stdout)


# --- on_denied = "end" ------------------------------------------------------------------------------------------------

DENIED = {
    "caught": "try: socket.socket()\nexcept BaseException: pass",
    "in a thread": "import threading\nt = threading.Thread(target=lambda: socket.socket()); t.start(); t.join()",
    "by machine code": "import raw; raw.syscall(41, 2, 1, 0)",
    "by a forged frame": "import raw; raw.exchange(raw.put(raw.frame(41, (2, 1, 0))), raw.TAKE)",
    "in a handler of signals": "import signal\nsignal.signal(10, lambda *_: socket.socket())\nimport os; os.kill(os.getpid(), 10)",
    "in a destructor": "class A:\n    def __del__(self): socket.socket()\na = A(); del a\nimport gc; gc.collect(); gc.collect()",
    "by a write to a read-only mount": "import os\ntry: os.open('/data/file', os.O_WRONLY)\nexcept OSError: pass",
}


@pytest.mark.parametrize("code", DENIED.values(), ids=DENIED.keys())
def test_a_refusal_that_ends_the_box_ends_it_at_once(hostile, code, tmp_path):
    """No later call is made: neither by this thread, nor by another, nor by machine code that waits for the refusal."""
    writable = tmp_path / "writable"
    writable.mkdir()
    readable = tmp_path / "readable"
    readable.mkdir()
    (readable / "file").write_text("x")
    for each in (tmp_path, writable):
        each.chmod(0o777)
    mounts = [
        Mount(target="/out", source=str(writable), mode="rw"),
        Mount(target="/data", source=str(readable), mode="ro"),
    ]
    result = hostile.run(
        f"import socket, os\nos.mkdir('/out/before')\n{code}\nos.mkdir('/out/after')\nprint('after')",
        on_denied="end",
        filesystem={"mounts": mounts},
        timeout=100,
    )
    assert result.status == "denied", result
    assert os.listdir(writable) == ["before"]
    assert "after" not in result.stdout
    assert result.denials and result.why


def test_after_the_end_another_thread_changes_nothing(hostile, tmp_path):
    """A second thread makes folders all the time when the first is refused: after the end nothing is added."""
    tmp_path.chmod(0o777)
    result = hostile.run(
        """
import os, socket, threading
def work():
    number = 0
    while True:
        number += 1
        os.mkdir(f"/out/{number}")
threading.Thread(target=work, daemon=True).start()
while not os.path.isdir("/out/20"): pass
socket.socket()
""",
        on_denied="end",
        filesystem={"mounts": [Mount(target="/out", source=str(tmp_path), mode="rw")]},
        timeout=200,
    )
    assert result.status == "denied", result
    left = set(os.listdir(tmp_path))
    assert len(left) >= 20
    assert hostile.children() == [] and set(os.listdir(tmp_path)) == left


def test_the_wall_clock_of_a_box_runs_through_all_of_it(hostile):
    """Start, program and exit handlers count together: the limit of wall time ends a box whose atexit function
    sleeps.
    """
    started = time.monotonic()
    result = hostile.run("import atexit, time\natexit.register(time.sleep, 1e6)", timeout=0.5)
    assert result.status == "time_limit", result
    assert time.monotonic() - started < 100
    assert proxybox.run("print(1)").ok
