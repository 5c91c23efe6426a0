"""Bombs and floods: memory, descriptors, output, recursion, time. Each harms only its own box, within the policy's
limits.
"""

import pytest

import proxybox

MEMORY = {
    "one bytearray": "bytearray(1 << 33)",
    "a growing list": "x = []\nwhile True: x.append(bytes(1 << 20))",
    "a doubling string": "x = 'x'\nwhile True: x += x",
    "many small objects": "x = []\nwhile True: x.append([x])",
    "a repeated tuple": "(None,) * (1 << 40)",
    "anonymous maps": "import mmap\nx = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 24); m[::4096] = b'x' * (1 << 12); x.append(m)",
    "maps by raw calls": "import raw, errno\nwhile True:\n    raw.check(raw.syscall(9, 0, 1 << 26, 3, 0x22, -1, 0))",
    "maps without reserve": "import raw\nwhile True: raw.check(raw.syscall(9, 0, 1 << 30, 3, 0x4022, -1, 0))",
    "brk": "import raw\nat = raw.syscall(12, 0)\nwhile raw.syscall(12, at + (1 << 26)) > at: at += 1 << 26\nraise MemoryError",
    "mremap": "import raw\nat, size = raw.syscall(9, 0, 4096, 3, 0x22, -1, 0), 4096\nwhile True: at, size = raw.check(raw.syscall(25, at, size, size * 2, 1)), size * 2",
    "ctypes buffers": "import ctypes\nx = []\nwhile True: x.append(ctypes.create_string_buffer(1 << 24))",
    "many small maps": "import raw\nwhile True: raw.check(min(raw.syscalls([(9, 0, 4096, 3 + (index & 1) * 4, 0x22, -1, 0) for index in range(5000)])))",
}


@pytest.mark.parametrize("code", MEMORY.values(), ids=MEMORY.keys())
def test_memory(hostile, code):
    before = hostile.resident()
    result = hostile.run(code, limits={"memory": "128M", "cpu_time": 10})
    assert result.status in ("memory_limit", "error"), result.summary()
    if result.status == "error":  # a raw call that was refused; the guest's own code raises the error
        assert result.error.type in ("OSError", "OverflowError"), result.stderr
    assert (result.usage.memory or 0) < 400 << 20
    assert hostile.resident() - before < 64 << 20


def test_memory_of_many_threads(hostile):
    result = hostile.run(
        """
import threading
release = threading.Event()
def hold():
    mine = bytearray(32 << 20)
    release.wait()
try:
    for _ in range(15): threading.Thread(target=hold, daemon=True).start()
    import time; time.sleep(0.2)
finally:
    release.set()
""",
        limits={"memory": "128M"},
    )
    assert result.status in ("ok", "memory_limit", "error", "crashed"), result
    assert (result.usage.memory or 0) < 400 << 20


def test_a_memory_error_can_be_handled(hostile):
    out = hostile.ok(
        """
try: bytearray(1 << 33)
except MemoryError: print("caught")
""",
        limits={"memory": "128M"},
    )
    assert out == "caught\n"


RECURSION = {
    "a function": "def f(): return f()\nf()",
    "with the limit lifted": "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(n): return f(n + 1) + 1\nf(0)",
    "repr": "x = []\nfor _ in range(200000): x = [x]\nrepr(x)",
    "a deep expression": "eval('(' * 20000 + ')' * 20000)",
    "nested compile": "compile('-' * 100000 + '1', 'x', 'eval')",
    "getattr": "class A:\n    def __getattr__(self, n): return getattr(self, n + 'x')\nA().a",
    "json": "import json\njson.loads('[' * 200000)",
    "pickle": "import pickle\nx = []\nfor _ in range(100000): x = [x]\npickle.dumps(x)",
    "in a thread with a small stack": "import threading, sys\nsys.setrecursionlimit(1 << 30)\nthreading.stack_size(65536)\ndef f(): f()\nt = threading.Thread(target=f); t.start(); t.join()",
    "by ctypes": "import ctypes\nC = ctypes.CFUNCTYPE(ctypes.c_int)\n@C\ndef f(): return f()\nf()",
    "machine code": "import raw\nraw.function(bytes.fromhex('e8fbffffff'))()",
}


@pytest.mark.parametrize("code", RECURSION.values(), ids=RECURSION.keys())
def test_recursion(hostile, code):
    result = hostile.run(code, limits={"memory": "256M", "cpu_time": 3})
    assert result.status in ("error", "crashed", "memory_limit", "time_limit", "ok", "syntax_error"), result
    if result.status == "crashed":
        assert result.signal in (6, 7, 11), result


CRASHES = {
    "a read of NULL": ("import ctypes; ctypes.string_at(8)", {11}),
    "a write to NULL": ("import ctypes; ctypes.memset(0, 1, 1)", {11}),
    "a jump to NULL": ("import ctypes; ctypes.CFUNCTYPE(None)(0)()", {11}),
    "a jump into nowhere": ("import ctypes; ctypes.CFUNCTYPE(None)(0x1234567890)()", {11}),
    "a non-canonical address": ("import ctypes; ctypes.string_at(0x800000000000000)", {11, 7}),
    "an illegal instruction": ("import raw; raw.function(bytes.fromhex('0f0b'))()", {4}),
    "a privileged instruction": ("import raw; raw.function(bytes.fromhex('f4'))()", {11}),
    "a port": ("import raw; raw.function(bytes.fromhex('e460'))()", {11}),
    "a breakpoint": ("import raw; raw.function(bytes.fromhex('cc'))()", {5}),
    "a division by zero": ("import raw; raw.function(bytes.fromhex('31c9f7f1c3'))()", {8}),
    "a single step": ("import raw; raw.function(bytes.fromhex('9c810c24000100009d9090c3'))()", {5}),
    "alignment checks": ("import raw; raw.function(bytes.fromhex('9c810c24000004009d488b442401c3'))()", {7, 11}),
    "a stack that is not there": ("import raw; raw.function(bytes.fromhex('31e4' '0f05'))()", {11}),
    "abort": ("import os; os.abort()", {6}),
    "abort in C": ("import ctypes; ctypes.CDLL(None).abort()", {6}),
    "a free of nonsense": ("import ctypes; ctypes.CDLL(None).free(ctypes.c_void_p(0x1234))", {6, 11}),
    "an overflow of the heap": (
        "import ctypes\nb = ctypes.create_string_buffer(16)\nctypes.memset(b, 0x41, 1 << 30)",
        {11},
    ),
    "format strings": ("import ctypes; ctypes.CDLL(None).printf(b'%n%n%n%n%s%s%s%s')", {6, 11}),
    "faulthandler": ("import ctypes, faulthandler; faulthandler.enable(); ctypes.string_at(8)", {11}),
    "kill": ("import os; os.kill(os.getpid(), 9)", {9}),
    "kill by raise": ("import signal; signal.raise_signal(15)", {15}),
    "real-time signal": ("import os; os.kill(os.getpid(), 40)", {40}),
}


@pytest.mark.parametrize(("code", "signals"), CRASHES.values(), ids=CRASHES.keys())
def test_crashes(hostile, code, signals):
    result = hostile.run(f"print('before', flush=True)\n{code}\n", timeout=100)
    assert result.stdout == "before\n"
    assert result.status == "crashed" and result.signal in signals, result.summary()


def test_descriptors(hostile):
    """Opens 10,000 descriptors of every kind: at the policy's limit the calls fail with EMFILE."""
    out = hostile.ok("""
import os, select, socket
made = {}
for name, make in {"open": lambda: os.open("/dev/null", os.O_RDONLY), "dup": lambda: os.dup(0), "pipe": os.pipe,
                   "epoll": lambda: select.epoll(), "socketpair": socket.socketpair, "directory": lambda: os.open("/", os.O_RDONLY)}.items():
    held = []
    try:
        for _ in range(10000): held.append(make())
    except OSError as error:
        made[name] = (len(held) <= 1024, error.errno)
    for each in held:
        if isinstance(each, int): os.close(each)
        elif isinstance(each, tuple) and isinstance(each[0], int): os.close(each[0]), os.close(each[1])
        elif isinstance(each, tuple): each[0].close(), each[1].close()
        else: each.close()
print(made)
""")
    assert set(eval(out).values()) == {(True, 24)}, out


def test_descriptors_without_a_limit(hostile):
    out = hostile.run(
        """
import os
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(10000)]
print(max(held), os.read(held[-1], 1))
""",
        limits={"open_files": 20000},
    )
    assert out.stdout == "10002 b''\n", out


def test_numbers_that_are_no_descriptors(hostile):
    """The numbers of the box's own pipe are not descriptors for the guest. Huge and negative ones are EBADF, as 32-bit
    numbers.
    """
    out = hostile.ok("""
import raw, os
page = raw.code(bytes(4096))
answers = set()
for fd in (3, 4, 5, 6, (1 << 20) + 4096, 1 << 30, (1 << 31) - 1, 1 << 31, -1, -2, -100, -(1 << 31), (1 << 63) - 1):
    for call in ((0, fd, page, 1), (1, fd, page, 1), (3, fd), (5, fd, page), (8, fd, 0, 0), (32, fd), (72, fd, 3, 0), (16, fd, 0x5401, page),
                 (217, fd, page, 4096), (77, fd, 0), (74, fd), (40, fd, fd, 0, 1), (20, fd, page, 0), (17, fd, page, 1, 0), (73, fd, 2), (81, fd)):
        answers.add(raw.syscall(*call))
print(answers)
print(raw.syscall(5, 1 << 32 | 1, page), raw.syscall(33, 1, 1 << 20), raw.syscall(33, 1, -5), raw.syscall(292, 1, 1, 0), raw.syscall(436, 1 << 31, 1, 0))
""")
    first, second = out.splitlines()
    assert eval(first) == {-9}, first
    assert second == "0 -9 -9 -22 -22"


@pytest.mark.cover(1)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("excess", ["truncate", "end"])
@pytest.mark.parametrize("piece", ["b'x' * (1 << 20)", "b'\\n'"], ids=["large", "small"])
def test_output(hostile, stream, excess, piece):
    before = hostile.resident()
    result = hostile.run(
        f"import os\nfor _ in range(2000): os.write({1 if stream == 'stdout' else 2}, {piece})",
        output={"limit": "1K", "on_excess": excess}, limits={"wall_time": 200, "calls": None}, timeout=None,
    )  # fmt: skip
    assert result.status == ("output_limit" if excess == "end" else "ok"), result.summary()
    assert len(result.stdout_bytes) + len(result.stderr_bytes) <= 1024
    assert result.truncated
    assert hostile.resident() - before < 32 << 20


def test_output_of_both_streams_by_turns(hostile):
    before = hostile.resident()
    result = hostile.run(
        "import os\nwhile True: os.write(1, b'a'); os.write(2, b'b')",
        timeout=2,
        output={"limit": "200K"},
        limits={"calls": None},
    )
    assert result.status == "time_limit"
    assert hostile.resident() - before < 64 << 20


def test_the_disk(hostile):
    """Fills memory and the overlay with bytes, files, names and links: the limits hold."""
    for code in (
        "f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
        "f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
        "import os\nn = 0\nwhile True: n += 1; open(f'/tmp/{n}', 'w').close()",
        "import os\nn = 0\nwhile True: n += 1; os.mkdir(f'{n}')",
        "import os\nn = 0\nwhile True: n += 1; os.symlink('x' * 4000, f'/tmp/{n}')",
        "import os\nwhile True: os.mkdir('d'); os.chdir('d')",
        "import os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\nos.ftruncate(f, 1 << 40); os.pwrite(f, b'x', (1 << 40) - 1); os.read(f, 100)\n"
        "for n in range(1 << 20): os.pwrite(f, b'x', n << 20)",
        "import os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\nos.posix_fallocate(f, 0, 1 << 40)",
        "import mmap, os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\nos.ftruncate(f, 1 << 27)\nm = mmap.mmap(f, 1 << 27)\nm[:] = bytes([1]) * (1 << 27); m.flush(); os.fsync(f); raise SystemExit(os.stat(f).st_blocks > 1 << 17)",
        "import shutil\nopen('0', 'wb').write(bytes(1 << 20))\nn = 0\nwhile True: shutil.copy(str(n), str(n + 1)); n += 1",
        "import os\nheld = []\nwhile True:\n    f = os.open('/tmp/x', os.O_RDWR | os.O_CREAT); os.unlink('/tmp/x'); os.write(f, bytes(1 << 20)); held.append(f)",
    ):
        before = hostile.resident()
        result = hostile.run(code, limits={"disk": "8M", "files": 500, "cpu_time": 5, "memory": "512M"})
        assert result.status in ("disk_limit", "error", "memory_limit", "ok"), (
            code,
            result.summary(),
            result.stderr[-500:],
        )
        assert result.exit_code in (0, 1)
        assert hostile.resident() - before < 64 << 20, code


COMPUTING = {
    "a loop": "while True: pass",
    "a regular expression": "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')",
    "big numbers": "x = 3\nwhile True: x = x * x % (1 << 4000000)",
    "a zip bomb": "import zlib, io\nd = zlib.compress(bytes(1 << 26), 9)\nwhile True: zlib.decompress(d)",
    "a sort": "x = list(range(10**6))\nwhile True: x.sort(key=lambda v: -v)",
    "in C": "import ctypes\nctypes.CDLL(None).qsort\nimport raw; raw.function(bytes.fromhex('ebfe'))()",
    "a signal handler": "import signal\ndef h(*a):\n    while True: pass\nsignal.signal(10, h)\nsignal.raise_signal(10)",
    "with everything blocked": "import signal\nsignal.pthread_sigmask(0, range(1, 65))\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\nwhile True: pass",
    "at exit": "import atexit\n@atexit.register\ndef f():\n    while True: pass",
    "in a destructor": "class A:\n    def __del__(self):\n        while True: pass\na = A(); del a\nimport gc; gc.collect()",
    "endless atexit": "import atexit\ndef f(): atexit.register(f)\nf()\nimport sys\nwhile True: atexit._run_exitfuncs()",
    "a tracer": "import sys\ndef t(*a): return t\nsys.settrace(t)\nwhile True: pass",
    "a storm of OS calls": "import os\nwhile True: os.getppid()",
    "a storm of refused calls": "import socket\nwhile True:\n    try: socket.socket()\n    except OSError: pass",
    "a storm of native calls": "import raw\nwhile True: raw.syscalls([(24,)] * 10000)",
}


@pytest.mark.parametrize("code", COMPUTING.values(), ids=COMPUTING.keys())
def test_computing(hostile, code):
    result = hostile.run(code, limits={"cpu_time": 0.4, "wall_time": 3, "calls": None, "memory": "1G"}, timeout=None)
    assert result.status == "time_limit", result.summary() + result.stderr
    assert result.usage.wall - result.usage.start < 4


WAITING = {
    "sleep": "import time\ntime.sleep(1e9)",
    "a sleep of 100 digits": "import time\ntry: time.sleep(10 ** 100)\nexcept OverflowError: time.sleep(9e9)",
    "a lock": "import threading\nl = threading.Lock(); l.acquire(); l.acquire()",
    "a join of a thread that waits": "import threading\nthreading.Thread(target=threading.Event().wait).start()",
    "an empty pipe": "import os\nos.read(os.pipe()[0], 1)",
    "a full pipe": "import os\nr, w = os.pipe()\nwhile True: os.write(w, bytes(65536))",
    "poll of nothing": "import select\nselect.poll().poll()",
    "select": "import select\nselect.select([], [], [])",
    "epoll": "import select\nselect.epoll().poll()",
    "pause": "import signal\nsignal.pause()",
    "sigwait": "import signal\nsignal.sigwait([10])",
    "a native futex": "import raw\nraw.exchange(raw.SLEEP)",
    "SIGSTOP": "import os, signal\ntry: os.kill(os.getpid(), signal.SIGSTOP)\nfinally: signal.pause()",
    "a record lock": "import fcntl, os\nf = os.open('/tmp/x', os.O_RDWR | os.O_CREAT); g = os.open('/tmp/x', os.O_RDWR)\nfcntl.flock(f, 2); fcntl.flock(g, 2)",
}


@pytest.mark.parametrize("code", WAITING.values(), ids=WAITING.keys())
def test_waiting(hostile, code):
    result = hostile.run(code, timeout=0.4)
    assert result.status == "time_limit", result.summary() + result.stderr
    assert result.usage.wall - result.usage.start < 3
    assert result.usage.cpu < 0.35, "it waits without computing"


def test_standard_input_that_never_comes(hostile):
    import os

    reading, writing = os.pipe()
    try:
        with open(reading, "rb", buffering=0, closefd=False) as stdin:
            result = hostile.run(
                "import sys, signal\nsignal.setitimer(signal.ITIMER_REAL, 0.2)\nsys.stdin.read()",
                stdin=stdin,
                timeout=100,
            )
    finally:
        os.close(reading)
        os.close(writing)
    assert result.signal == 14, result


def test_a_storm_of_alarms(hostile):
    out = hostile.ok(
        """
import signal, time
count = 0
def tick(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)
end = time.monotonic() + 0.5
while time.monotonic() < end: open("/dev/null").close()
signal.setitimer(signal.ITIMER_REAL, 0)
print(count > 0)
""",
        limits={"cpu_time": 10},
    )
    assert out == "True\n"


def test_a_storm_of_signals_to_itself(hostile):
    out = hostile.ok(
        """
import signal, os
count = 0
def tick(*_):
    global count
    count += 1
for number in (1, 2, 10, 12, 15, 17, 18, 28, 34, 40, 64):
    signal.signal(number, tick)
for _ in range(200):
    for number in (1, 2, 10, 12, 15, 17, 18, 28, 34, 40, 64): os.kill(os.getpid(), number)
print(count > 1000)
""",
        limits={"cpu_time": 10},
    )
    assert out == "True\n"


def test_the_limit_of_calls(hostile):
    result = hostile.run("import os\nwhile True: os.getppid()", limits={"calls": 5000})
    assert result.status == "call_limit" and result.why == "limits.calls", result
    assert result.usage.calls <= 5001


def test_many_bombs_at_once(hostile):
    """A neighbour does its work while the bombs run."""
    import concurrent.futures as futures

    bombs = [
        "while True: pass",
        "x = []\nwhile True: x.append(bytes(1 << 20))",
        "import os\nwhile True: os.write(1, b'x' * 65536)",
        "import threading\nwhile True:\n    try: threading.Thread(target=threading.Event().wait, daemon=True).start()\n    except RuntimeError: pass",
    ]
    with futures.ThreadPoolExecutor(len(bombs) + 1) as pool:
        results = [
            pool.submit(proxybox.run, bomb, limits={"wall_time": 2, "memory": "128M", "cpu_time": 2}) for bomb in bombs
        ]
        neighbour = pool.submit(
            proxybox.run, "import os\nfor _ in range(2000): os.getppid()\nprint('done')", timeout=200
        )
        assert neighbour.result().stdout == "done\n", neighbour.result()
        assert {result.result().status.value for result in results} <= {"time_limit", "memory_limit", "call_limit"}, (
            results
        )
