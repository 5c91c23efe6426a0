"""Limits: each ends the box, or fails the call, and the status says which it was."""

import pytest

import proxybox
from proxybox import Status

FOREVER = "while True: pass"


@pytest.mark.sized(9)
@pytest.mark.parametrize(
    "code",
    [
        FOREVER,
        "import time; time.sleep(99)",
        "import threading; threading.Event().wait()",
        "import os; r, w = os.pipe(); os.read(r, 1)",
        "import select; select.select([], [], [])",
        "import signal; signal.pause()",
        "x = 10 ** 10 ** 8; print(len(str(x)))",
        "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')",
        "import threading, time\nfor _ in range(4): threading.Thread(target=time.sleep, args=(99,)).start()",
        "import signal\nfor n in {*range(1, 32)} - {9, 19, 31}: signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "import atexit, time; atexit.register(time.sleep, 99)",
        "try:\n  while True: pass\nfinally:\n  while True: pass",
    ],
)
def test_wall_time(code: str) -> None:
    result = proxybox.run(code, timeout=0.5, limits={"cpu_time": None})
    assert (result.status, result.why) == (Status.TIME_LIMIT, "limits.wall_time")
    assert 0.4 < result.usage.wall < 5


def test_output_before_the_end_is_kept() -> None:
    result = proxybox.run(
        "print('here', flush=True)\nwith open('x', 'w') as f: f.write('file')\nwhile True: pass", timeout=1
    )
    assert result.status is Status.TIME_LIMIT
    assert result.stdout == "here\n"
    assert result.files["x"] == b"file"


def test_cpu_time() -> None:
    result = proxybox.run(FOREVER, limits={"cpu_time": 0.4})
    assert (result.status, result.why) == (Status.TIME_LIMIT, "limits.cpu_time")
    assert 0.3 < result.usage.cpu < 3
    assert proxybox.run("import time; time.sleep(0.6)", limits={"cpu_time": 0.4}).ok


def test_cpu_time_of_all_threads() -> None:
    code = "import threading\ndef f():\n  while True: pass\nfor _ in range(3): threading.Thread(target=f).start()"
    result = proxybox.run(code, limits={"cpu_time": 0.5})
    assert (result.status, result.why) == (Status.TIME_LIMIT, "limits.cpu_time")


def test_memory_is_a_memory_error_first() -> None:
    code = "try:\n  x = bytearray(10 ** 9)\nexcept MemoryError:\n  print('caught')\nprint(len(bytearray(10 ** 7)))"
    result = proxybox.run(code, limits={"memory": "256M"})
    assert (result.stdout, result.status) == ("caught\n10000000\n", Status.OK)


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(10 ** 9)",
        "x = []\nwhile True: x.append(bytes(10 ** 6))",
        "x = []\nwhile True: x.append([None] * 100)",
        "x = 'x'\nwhile True: x += x",
        "x = {}\nwhile True: x[len(x)] = str(len(x)) * 10",
        "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 1 << 24))",
        "import ctypes\nx = []\nwhile True: x.append(ctypes.create_string_buffer(1 << 20))",
    ],
)
def test_memory(code: str) -> None:
    result = proxybox.run(code, limits={"memory": "200M", "cpu_time": 20}, timeout=200)
    if result.error is None or result.error.type != "OSError":  # the error of a failing mmap
        assert (result.status, result.why) == (Status.MEMORY_LIMIT, "limits.memory"), result.stderr[-500:]
    # more than the limit, because the interpreter's own memory is not counted
    assert result.usage.memory is None or result.usage.memory < 300 << 20


def test_a_mapped_file_that_the_disk_does_not_hold_is_told_by_flush() -> None:
    code = """
import mmap
with open("/tmp/x", "w+b") as file:
    file.truncate(4 << 20)
    with mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:] = b"x" * (4 << 20)
        mapped.flush()
"""
    assert proxybox.run(code, limits={"disk": "8M"}).ok
    result = proxybox.run(code, limits={"disk": "2M"})
    assert (result.status, result.error and result.error.type) == (Status.DISK_LIMIT, "OSError"), result
    assert "No space left on device" in result.stderr


def test_output_is_cut() -> None:
    result = proxybox.run("print('x' * 1000); import sys; print('e' * 5, file=sys.stderr)", output={"limit": 100})
    assert (result.status, result.truncated) == (Status.OK, True)
    assert result.stdout == "x" * 100
    assert result.stderr == "eeeee\n"
    result = proxybox.run("for n in range(9): print(n)", output={"lines": 3})
    assert (result.stdout, result.truncated, result.ok) == ("0\n1\n2\n", True, True)
    assert not proxybox.run("print('x' * 99)", output={"limit": 100}).truncated


def test_output_ends_the_box() -> None:
    result = proxybox.run("while True: print('x' * 100)", output={"limit": 1000, "on_excess": "end"})
    assert result.status is Status.OUTPUT_LIMIT
    assert result.stdout_bytes == (b"x" * 100 + b"\n") * 9 + b"x" * 91
    assert result.truncated


def test_escapes() -> None:
    code = "print('\\x1b[31mred\\x07')"
    assert proxybox.run(code).stdout == "\x1b[31mred\x07\n"
    assert "\x1b" not in proxybox.run(code, output={"escapes": "neutralise"}).stdout
    assert "red" in proxybox.run(code, output={"escapes": "neutralise"}).stdout


DISK = [
    "open('x', 'wb').write(bytes(10 ** 6))",
    "open('/tmp/x', 'wb').write(bytes(10 ** 6))",
    "f = open('x', 'wb')\nfor _ in range(1000): f.write(bytes(1000)); f.flush()",
    "for n in range(500):\n  with open(f'x{n}', 'wb') as f: f.write(bytes(1000))",
    "import tempfile; f = tempfile.TemporaryFile(); f.write(bytes(10 ** 6)); f.flush()",
    "import os; f = open('x', 'wb'); os.ftruncate(f.fileno(), 10 ** 6); f.write(bytes(10 ** 6)); f.flush()",
    "import os\nfor n in '123456':\n  with open('x', 'wb') as f: f.write(bytes(50_000))\n  os.rename('x', n)",
]


@pytest.mark.parametrize("code", DISK)
def test_disk(code: str) -> None:
    result = proxybox.run(code, limits={"disk": "200K"})
    assert result.status is Status.DISK_LIMIT, result.stderr
    assert result.error is not None
    assert "[Errno 28] No space left on device" in result.error.message


def test_disk_that_is_freed_can_be_used_again() -> None:
    code = """
import os
for _ in range(50):
    with open("x", "wb") as file:
        file.write(bytes(100_000))
    os.remove("x")
print("done")
"""
    assert proxybox.run(code, limits={"disk": "200K"}).stdout == "done\n"


def test_files() -> None:
    result = proxybox.run("for n in range(100): open(f'x{n}', 'w').close()", limits={"files": 50})
    assert result.status is Status.DISK_LIMIT, result.summary()
    assert len(result.files.changes) <= 50


def test_open_files() -> None:
    code = """
kept = []
try:
    while True:
        kept.append(open("/etc/passwd"))
except OSError as error:
    print(error.errno, 30 < len(kept) < 40, kept[-1].fileno())
"""
    assert proxybox.run(code, limits={"open_files": 40}).stdout == "24 True 39\n"
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    assert proxybox.run(code, limits={"open_files": 40}).stdout == "40\n"


def test_threads() -> None:
    code = """
import threading
stop = threading.Event()
started = 0
try:
    for _ in range(50):
        threading.Thread(target=stop.wait).start()
        started += 1
except RuntimeError as error:
    print(started, error)
stop.set()
"""
    result = proxybox.run(code, limits={"threads": 8})
    assert (result.stdout, result.status) == ("7 can't start new thread\n", Status.OK)
    assert [(denial.call, denial.reason) for denial in result.denials] == [("clone", "limits.threads")]
    assert proxybox.run(code, limits={"threads": 1}).stdout == "0 can't start new thread\n"
    ended = (
        "import threading\nfor _ in range(60):\n  t = threading.Thread(target=int); t.start(); t.join()\nprint('all')"
    )
    assert proxybox.run(ended, limits={"threads": 3}).stdout == "all\n"


def test_calls() -> None:
    result = proxybox.run("import os\nwhile True: os.getppid()", limits={"calls": 5000})
    assert (result.status, result.why) == (Status.CALL_LIMIT, "limits.calls")
    with pytest.raises(proxybox.CallLimitExceeded, match=r"call limit \(limits.calls\)"):
        result.check()
    assert result.usage.calls in (5000, 5001)


def test_no_limits_at_all() -> None:
    nothing = dict.fromkeys(
        ("wall_time", "cpu_time", "memory", "disk", "files", "open_files", "threads", "calls"), None
    )
    assert (
        proxybox.run("import threading; threading.Thread(target=print, args=(5,)).start()", limits=nothing).stdout
        == "5\n"
    )


def test_deep_recursion_is_an_exception() -> None:
    result = proxybox.run("def f(n): return f(n + 1)\nf(0)")
    assert result.error is not None
    assert result.error.type == "RecursionError"
