"""Tighter limits for one run, in each kind of box: new, copied, ready, of another process, of an event loop.

The policy's limits are wide, so that only the run's own limits refuse anything.
"""

import contextlib
import resource
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import proxybox
from proxybox import PolicyError, Result, Status

KINDS = ("new", "copied", "ready", "another process", "event loop")
POLICY = {"limits": {"memory": "256M"}}

#: Uses as much memory as it gets, in MiB: by Python objects, and by mmap(2), which no allocator sees.
FILLS = """
import mmap
kept = []
try:
    while True:
        made = bytearray(1 << 20) if MADE else mmap.mmap(-1, 1 << 20)
        made[::4096] = b"x" * 256
        kept.append(made)
except (MemoryError, OSError):
    pass
size = len(kept)
del kept
print(size)
"""
#: Makes native calls to the kernel to raise the limits of memory and CPU time.
LIFTS = """
import ctypes, resource
libc = ctypes.CDLL(None)
most = (ctypes.c_ulong * 2)(2**64 - 1, 2**64 - 1)
for which in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
    libc.syscall(160, which, most), libc.syscall(302, 0, which, most, None)
    try:
        resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError:
        pass
    else:
        print("lifted", which)
"""
THREADS = """
import threading
end, started = threading.Event(), 1
try:
    while started < 50:
        threading.Thread(target=end.wait).start()
        started += 1
except RuntimeError:
    pass
end.set()
print(started)
"""
#: Clones without reporting that to the controller.
CLONES = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
stack = ctypes.create_string_buffer(1 << 16)
print([libc.syscall(56, 0x3d0f00, ctypes.addressof(stack) + 65000, None, None, None) for _ in range(4)])
"""
OPENS = """
files = []
try:
    while True:
        files.append(open("/dev/null"))
except OSError as error:
    print(error.errno, len(files))
"""
WRITES = """
import os
for folder in ("/tmp", "/box", "/dev/shm"):
    with open(f"{folder}/file", "wb", buffering=0) as file:
        try:
            for at in range(64):
                os.pwrite(file.fileno(), b"x" * (1 << 14), at << 14)
        except OSError as error:
            print(error.errno, os.fstat(file.fileno()).st_size)
"""
MAKES = """
import os
made = 0
try:
    while True:
        (os.mkdir if made % 2 else os.mknod)(f"/tmp/{made}")
        made += 1
except OSError as error:
    print(error.errno, made)
"""
SPINS = "while True: pass"

Run = Callable[..., Result]


@contextlib.contextmanager
def _blocking(made: Callable[[], Any]) -> Iterator[tuple[Any, Run]]:
    """A sandbox or pool of an event loop, and its `run` for use in threads."""
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(portal.call(made)) as boxes:
        yield boxes, lambda *args, **options: portal.call(lambda: boxes.run(*args, **options))


@contextlib.contextmanager
def boxes_of(kind: str) -> Iterator[Run]:
    """`run` in boxes of a kind. In pools, always in a ready box."""
    if kind == "new":
        with proxybox.Sandbox(warm=False, **POLICY) as box:
            yield box.run
    elif kind == "copied":
        with proxybox.Sandbox(warm=True, **POLICY) as box:
            assert box.run("").ok
            yield box.run
    elif kind == "ready":
        with proxybox.Pool(size=1, **POLICY) as pool:
            yield when_ready(pool, pool._boxes, pool.run)
    elif kind == "another process":
        with proxybox.Pool(size=1, processes=1, **POLICY) as pool:
            yield pool.run
    else:
        with _blocking(lambda: proxybox.AsyncPool(size=1, **POLICY)) as (pool, run):
            yield when_ready(pool, pool._ready, run)


def when_ready(pool: Any, boxes: Any, run: Run) -> Run:
    """A `run` that waits until a box is ready."""

    def when(*args: Any, **options: Any) -> Result:
        with boxes._change:
            while not pool.ready:
                boxes._change.wait(0.01)
        return run(*args, **options)

    return when


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with boxes_of(request.param) as found:
        yield found


@pytest.mark.sized(5)
@pytest.mark.parametrize("made", [True, False], ids=["objects", "mappings"])
def test_memory(run: Run, made: bool) -> None:
    code = FILLS.replace("MADE", str(made))
    sizes = [int(run(code, limits=limits).stdout) for limits in ({"memory": "64M"}, {"memory": "128M"}, None)]
    assert 8 < sizes[0] <= 64 < sizes[1] <= 128 < sizes[2]


def test_memory_that_is_used_up_is_the_reason_of_the_end(run: Run) -> None:
    result = run("kept = []\nwhile True: kept.append(bytearray(1 << 20))", limits={"memory": "64M"})
    assert (result.status, result.why) == (Status.MEMORY_LIMIT, "limits.memory")


def test_a_program_sees_its_own_limits_and_cannot_lift_them(run: Run) -> None:
    limits = {"memory": "64M", "open_files": 20, "threads": 3, "cpu_time": 2}
    sees = (
        "import resource as r\nprint(*(r.getrlimit(which)[1] for which in "
        "(r.RLIMIT_AS, r.RLIMIT_NOFILE, r.RLIMIT_NPROC, r.RLIMIT_CPU)), open('/proc/meminfo').readline().split()[1])"
    )
    assert run(sees, limits=limits).stdout == f"{64 << 20} 20 3 2 {64 << 10}\n"
    assert run(sees).stdout == f"{256 << 20} 1024 16 5 {256 << 10}\n"
    assert 8 < int(run(LIFTS + FILLS.replace("MADE", "False"), limits=limits).stdout) <= 64
    assert run(LIFTS + OPENS, limits=limits).stdout.startswith("24 1")


@pytest.mark.parametrize("most", [1, 3])
def test_threads(run: Run, most: int) -> None:
    assert run(THREADS, limits={"threads": most}).stdout == f"{most}\n"
    assert run(CLONES, limits={"threads": most}).stdout == "[-1, -1, -1, -1]\n"


def test_open_files(run: Run) -> None:
    assert run(OPENS, limits={"open_files": 20}).stdout == "24 17\n"
    high = "import os\ntry: os.dup2(1, 20)\nexcept OSError as error: print(error.errno)"
    assert run(high, limits={"open_files": 20}).stdout == "9\n"


def test_disk_and_files(run: Run) -> None:
    assert run(WRITES, limits={"disk": "64K"}).stdout == "28 65536\n28 0\n28 0\n"
    assert run(WRITES).stdout == ""
    assert run(MAKES, limits={"files": 10}).stdout == "28 10\n"
    result = run("open('large', 'wb').write(b'x' * (1 << 20))", limits={"disk": "64K"})
    assert (result.status, result.why) == (Status.DISK_LIMIT, "limits.disk or limits.files")


def test_files_of_the_caller_count_in_no_limit_of_the_run(run: Run) -> None:
    code = "print(len(open('a').read())); open('b', 'w').write('x' * 5000)"
    result = run(code, files={"a": "x" * (1 << 20)}, limits={"disk": "8K", "files": 1})
    assert (result.stdout, result.status) == (f"{1 << 20}\n", Status.OK)


def test_calls(run: Run) -> None:
    result = run("import os\nwhile True: os.umask(0)", limits={"calls": 2000})
    assert (result.status, result.usage.calls) == (Status.CALL_LIMIT, 2001)
    assert run("import os\nfor _ in range(3000): os.umask(0)").ok


@pytest.mark.parametrize("limit", ["wall_time", "cpu_time"])
def test_time(run: Run, limit: str) -> None:
    result = run(LIFTS + SPINS, limits={limit: "300ms"})
    assert (result.status, result.why) == (Status.TIME_LIMIT, f"limits.{limit}")


def test_of_a_timeout_and_wall_time_the_shorter_one_counts(run: Run) -> None:
    for timeout, wall_time in ((60, 0.2), (0.2, 10), ("none", 0.2)):
        result = run("import time; time.sleep(100)", timeout=timeout, limits={"wall_time": wall_time})
        assert (result.status, result.why) == (Status.TIME_LIMIT, "limits.wall_time")
        assert result.usage.wall < 5


def test_a_timeout_may_still_be_longer_than_the_policy(run: Run) -> None:
    code = "import threading\nprint(threading.Event().wait(0.01))"
    assert run(code, timeout=60, limits={"threads": 2}).stdout == "False\n"


def test_output(run: Run) -> None:
    result = run("print('x' * 100)", output={"limit": 10})
    assert (result.stdout, result.truncated, result.status) == ("x" * 10, True, Status.OK)
    assert run("print('1\\n2\\n3')", output={"lines": 2}).stdout == "1\n2\n"
    result = run("while True: print('x')", output={"limit": 10, "on_excess": "end"})
    assert (result.stdout, result.status) == ("x\n" * 5, Status.OUTPUT_LIMIT)
    assert run("print('x' * 100)").stdout == "x" * 100 + "\n"


def test_waiting_for_input_may_count(run: Run) -> None:
    waits = "input()"
    result = run(waits, stdin=lambda n: "", limits={"input_wait": "counted", "wall_time": 5})
    assert result.error is not None
    assert result.error.type == "EOFError"


def test_limits_hold_for_one_run_alone(run: Run) -> None:
    tight = {"memory": "32M", "threads": 1, "open_files": 8, "disk": 0, "files": 0, "calls": 5000}
    assert run("print(1)", limits=tight, output={"limit": 100}).stdout == "1\n"
    assert run(THREADS).stdout == "16\n"
    assert run("open('x', 'w').write('x' * 10000); open('y', 'w')").ok


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limits": {"memory": "1G"}}, "limits.memory: looser than the policy, got 1G (allowed: at most 256M)"),
        ({"limits": {"disk": None}}, "limits.disk: looser than the policy, got None (allowed: at most 64M)"),
        ({"limits": {"wall_time": 11}}, "limits.wall_time: looser than the policy, got 11 (allowed: at most 10 s)"),
        ({"limits": {"nursery": "1M"}}, "limits.nursery: one run cannot have its own"),
        ({"output": {"limit": "2M"}}, "output.limit: looser than the policy, got 2M (allowed: at most 1M)"),
        ({"output": {"escapes": "raw"}}, "output.escapes: one run cannot have its own"),
        ({"limits": {"thread": 1}}, "did you mean threads?"),
    ],
)
def test_what_is_looser_is_refused(run: Run, options: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        run("print(1)", **options)
    assert says in str(caught.value)


def test_other_ways_of_running() -> None:
    with proxybox.Sandbox(warm=False) as box:
        program = proxybox.Program.source("print('x' * 100)", [])
        assert box.run_program(program, output={"limit": 10}).stdout == "x" * 10
    with proxybox.Pool(size=1) as pool:
        assert pool.submit("print('x' * 100)", output={"limit": 10}).result().stdout == "x" * 10


def test_a_policy_without_limits_can_have_any() -> None:
    none = dict.fromkeys(("wall_time", "cpu_time", "memory", "disk", "files", "open_files", "threads", "calls"))
    with proxybox.Pool(size=1, limits=none, output={"limit": None}) as pool:
        run = when_ready(pool, pool._boxes, pool.run)
        assert 8 < int(run(FILLS.replace("MADE", "True"), limits={"memory": "64M"}).stdout) <= 64
        assert run(THREADS, limits={"threads": 3}).stdout == "3\n"
        assert run(OPENS, limits={"open_files": 20}).stdout == "24 17\n"
        assert run(WRITES, limits={"disk": "64K"}).stdout == "28 65536\n28 0\n28 0\n"
        assert run("print('x' * 100)", output={"limit": 10}).stdout == "x" * 10


def test_many_runs_at_once_have_each_its_own() -> None:
    with proxybox.Pool(size=2) as pool:
        found: dict[int, str] = {}

        def work(most: int) -> None:
            found[most] = pool.run(THREADS, limits={"threads": most}).stdout

        threads = [threading.Thread(target=work, args=(most,)) for most in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {most: f"{most}\n" for most in range(1, 7)}


def test_where_the_kernel_does_not_lower_a_limit_another_box_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered: set[int] = set()

    def refuse(pid: int, which: int, limits: tuple[int, int] | None = None) -> None:
        if limits is not None:  # otherwise the limit is read in order to raise it
            lowered.add(pid)
        raise PermissionError

    monkeypatch.setattr(resource, "prlimit", refuse)
    with proxybox.Pool(size=1) as pool:
        run = when_ready(pool, pool._boxes, pool.run)
        sizes = [int(run(FILLS.replace("MADE", "True"), limits=limits).stdout) for limits in (None, {"memory": "64M"})]
    assert sizes[0] > 64 > sizes[1] > 8
    assert len(lowered) == 1


def test_a_first_run_with_tighter_limits_leaves_later_copies_those_of_the_policy() -> None:
    with proxybox.Sandbox(warm=True) as box:
        for _ in range(3):
            assert box.run(THREADS, limits={"threads": 1, "memory": "64M"}).stdout == "1\n"
        for _ in range(3):
            assert box.run(THREADS).stdout == "16\n"
            assert int(box.run(FILLS.replace("MADE", "True")).stdout) > 128
