"""`AsyncSandbox.run`: its result, its callbacks, its end by cancellation, and many runs at once."""

import asyncio
import contextlib
import errno
import os
from pathlib import Path

import anyio
import pytest

import proxybox
from proxybox import AsyncSandbox, Status

pytestmark = pytest.mark.anyio

#: Prints a line, and then sleeps for longer than any test.
HANGS = "import time\nprint('here', flush=True)\ntime.sleep(1000)"


async def test_a_result_is_as_from_a_sandbox():
    code = "import sys\nprint(sys.argv[1], input())\nopen('out.txt', 'w').write('kept')\nprint(1, file=sys.stderr)\n1/0"
    options = {"args": ["a"], "stdin": "line\n", "files": {"in.txt": "x"}}
    async with AsyncSandbox() as box:
        result = await box.run(code, **options)
    with proxybox.Sandbox() as box:
        expected = box.run(code, **options)
    for name in ("status", "exit_code", "signal", "stdout", "stderr", "output", "error", "denials"):
        assert getattr(result, name) == getattr(expected, name), name
    assert result.files["out.txt"] == expected.files["out.txt"]
    assert result.usage.calls > 0
    assert result.usage.wall > 0


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("def", Status.SYNTAX_ERROR),
        ("import os; os._exit(3)", Status.ERROR),
        ("import os; os.abort()", Status.CRASHED),
        ("while True: pass", Status.TIME_LIMIT),
        ("print('x' * 3000)", Status.OUTPUT_LIMIT),
        ("import os\nfor _ in range(10**6): os.getuid()", Status.CALL_LIMIT),
    ],
)
async def test_ends(code, status):
    output = {"limit": 1000, "on_excess": "end"}
    async with AsyncSandbox(limits={"calls": 5000}, output=output) as box:
        assert (await box.run(code, timeout=0.5 if status is Status.TIME_LIMIT else None)).status is status
        assert (await box.run("print(1)", timeout=200)).stdout == "1\n"


async def test_check_and_files(tmp_path: Path):
    (tmp_path / "script.py").write_text("raise SystemExit(7)")
    async with AsyncSandbox() as box:
        assert (await box.run_file(str(tmp_path / "script.py"))).exit_code == 7
        with pytest.raises(proxybox.ExecutionError):
            await box.run(tmp_path / "script.py", check=True)
        with pytest.raises(FileNotFoundError):
            await box.run(tmp_path / "none.py")
        with pytest.raises(proxybox.PolicyError):
            await box.run("pass", files={"../x": ""})
    with pytest.raises(proxybox.SandboxClosedError):
        await box.run("pass")


async def test_a_program_with_the_interpreters_own_words(tmp_path: Path):
    (tmp_path / "data").write_text("kept")
    program = proxybox.Program(
        words=("-c", "import sys; print(sys.argv, open('data').read(), input())", "a"), folder=str(tmp_path)
    )
    async with AsyncSandbox() as box:
        assert (await box.run_program(program, stdin="line\n")).stdout == "['-c', 'a'] kept line\n"
        endless = proxybox.Program.code("while True: pass")
        assert (await box.run_program(endless, timeout=0.3)).status is Status.TIME_LIMIT
    with pytest.raises(proxybox.SandboxClosedError):
        await box.run_program(program)


async def test_threads_timers_and_input():
    code = """
import signal, sys, threading, time
signal.signal(signal.SIGALRM, lambda *_: print("alarm", flush=True))
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.05)
threads = [threading.Thread(target=lambda n=n: (time.sleep(0.001), print(n))) for n in range(4)]
for each in threads: each.start()
for each in threads: each.join()
print(sys.stdin.read())
"""
    reading, writing = os.pipe()
    with os.fdopen(reading) as source, os.fdopen(writing, "w") as sink:

        async def feed(text: str) -> None:
            if text.startswith("alarm"):  # the program waits for its input, or will wait soon
                sink.write("from a pipe")
                sink.close()

        async with AsyncSandbox() as box:
            result = await box.run(code, stdin=source, on_stdout=feed)
    assert result.ok, result.stderr
    assert sorted(result.stdout.split("\n")) == ["", "0", "1", "2", "3", "alarm", "from a pipe"]


async def test_two_boxes_wait_for_one_descriptor():
    """Each byte is read by one of the two boxes; both see the end of file."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as source:
        async with AsyncSandbox() as box, anyio.create_task_group() as group:
            results = []

            async def run() -> None:
                results.append(await box.run("import sys; print(len(sys.stdin.read()))", stdin=source))

            group.start_soon(run)
            group.start_soon(run)
            os.write(writing, b"12345")
            os.close(writing)
    assert sum(int(each.stdout) for each in results) == 5


async def test_callbacks_of_both_kinds_in_order():
    told = []

    async def out(text: str) -> None:
        await anyio.lowlevel.checkpoint()
        told.append(text)

    async with AsyncSandbox() as box:
        code = "import sys\nfor n in range(3):\n print(n, flush=True)\n print(-n, file=sys.stderr, flush=True)"
        result = await box.run(code, on_stdout=out, on_stderr=told.append)
    assert result.ok
    assert "".join(told) == "".join(text for _, text in result.output)


@pytest.mark.parametrize("error", [ValueError("mine"), BrokenPipeError("mine"), OSError(errno.EIO, "mine")])
async def test_a_callback_raises(error: Exception):
    async def out(text: str) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    async with AsyncSandbox() as box:
        with pytest.raises(type(error), match="mine"):
            await box.run(HANGS, on_stdout=out)
        assert (await box.run("print(1)")).ok


async def test_what_runs_in_the_engine_raises():
    def intercept(call):
        if call.name == "getpid" and armed:
            raise ZeroDivisionError

    def source(size):
        raise ZeroDivisionError

    armed = False
    async with AsyncSandbox(interceptors=[intercept]) as box:
        assert (await box.run("pass")).ok
        with pytest.raises(ZeroDivisionError):
            await box.run("input()", stdin=source)
        armed = True
        with pytest.raises(ZeroDivisionError):
            await box.run("import os; os.getpid()")


# --- cancellation -----------------------------------------------------------------------------------------------------


async def test_cancelled_before_anything():
    async with AsyncSandbox() as box:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await box.run("print(1)")
        assert scope.cancelled_caught


async def test_cancelled_while_it_starts(monkeypatch):
    begun, go_on = anyio.Event(), anyio.Event()
    async with AsyncSandbox() as box:
        original = box._open

        def slow(*args):
            anyio.from_thread.run_sync(begun.set)
            anyio.from_thread.run(go_on.wait)
            return original(*args)

        monkeypatch.setattr(box, "_open", slow)
        async with anyio.create_task_group() as group:
            group.start_soon(box.run, "print(1)")
            await begun.wait()
            group.cancel_scope.cancel()
            go_on.set()


@pytest.mark.parametrize("warm", [False, True])
async def test_cancelled_while_it_runs(warm: bool):
    async with AsyncSandbox(warm=warm) as box:
        for code in ("pass", "pass", HANGS, "print('here', flush=True)\nwhile True: pass"):
            with anyio.CancelScope() as scope:
                await box.run(code, on_stdout=lambda _: scope.cancel())
        assert scope.cancelled_caught


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("often", [1, 3])
async def test_asyncios_own_cancellation(often: int):
    """asyncio cancels again while the first cancellation is still handled, and does not wait for threads."""
    here = asyncio.Event()
    async with AsyncSandbox() as box:
        task = asyncio.ensure_future(box.run(HANGS, on_stdout=lambda _: here.set()))
        await here.wait()
        for _ in range(often):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(box.run("while True: pass"), 0.01)  # it has probably not started yet
        assert (await box.run("print(1)")).ok


async def test_closed_while_it_runs():
    async with AsyncSandbox() as box, anyio.create_task_group() as group:
        results = []

        async def run() -> None:
            results.append(await box.run(HANGS, on_stdout=lambda _: here.set()))

        here = anyio.Event()
        group.start_soon(run)
        await here.wait()
        await box.close()
    assert [each.status for each in results] == [Status.CANCELLED]


async def test_closed_by_its_own_callback():
    async with AsyncSandbox() as box:

        async def out(text: str) -> None:
            await box.close()

        assert (await box.run(HANGS, on_stdout=out)).status is Status.CANCELLED


async def test_interrupted_while_it_runs():
    async with AsyncSandbox() as box:
        result = await box.run("print(1, flush=True)\nwhile True: pass", on_stdout=lambda _: box.interrupt())
    assert "KeyboardInterrupt" in result.stderr


# --- readers that are slow --------------------------------------------------------------------------------------------

FLOOD = "import sys\nfor n in range(4000):\n    sys.stdout.write('x' * 999 + chr(10))\n    sys.stdout.flush()\n"


async def test_a_slow_reader_lets_the_program_wait():
    """While the callback has not returned, the program writes only until the backlog is full.

    Other boxes run meanwhile.
    """
    calls = []

    def count(call):
        if call.name == "write":
            calls.append(call)

    async with AsyncSandbox(output={"limit": None}, audit=count) as box:
        seen = 0

        async def out(text: str) -> None:
            nonlocal seen
            if not seen:
                other = await box.run("print(1)")  # other boxes are served meanwhile
                assert other.ok
                while len(calls) < 60:  # the program writes until the backlog is full
                    await anyio.sleep(0)
                assert len(calls) < 100
            seen += len(text)

        result = await box.run(FLOOD, on_stdout=out, timeout=60)
    assert result.ok, result.why
    assert seen == len(result.stdout) == 4_000_000


@pytest.mark.sized(4)
@pytest.mark.parametrize("how", ["limit", "cancel", "interrupt"])
async def test_a_program_that_is_held_can_end(how: str):
    async with AsyncSandbox(output={"limit": None}, limits={"wall_time": 3 if how == "limit" else 60}) as box:
        blocked = anyio.Event()

        async def out(text: str) -> None:
            if how == "interrupt":
                box.interrupt()
            blocked.set()
            await end.wait()

        end = anyio.Event()
        results = []

        async def run() -> None:
            results.append(await box.run(FLOOD, on_stdout=out))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await blocked.wait()
            if how == "cancel":
                group.cancel_scope.cancel()
            else:
                while box._errands.pending():  # its guest has ended
                    await anyio.sleep(0)
                end.set()
    if how != "cancel":
        assert results[0].status is (Status.TIME_LIMIT if how == "limit" else Status.CRASHED), results[0]


# --- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.sized(1)
async def test_two_hundred_at_once():
    """All live at the same time: each waits until the last one has called `gate`."""
    count = 200
    here, go_on = 0, anyio.Event()
    threads = set()
    before = len(os.listdir("/proc/self/task"))  # event loops of other tests have left idle worker threads

    async def gate() -> str:
        nonlocal here
        here += 1
        threads.add(len(os.listdir("/proc/self/task")) - before)
        if here == count:
            go_on.set()
        await go_on.wait()
        return "go"

    async with AsyncSandbox(warm=True, functions={"gate": gate}, limits={"wall_time": 100}) as box:
        results = {}

        async def run(number: int) -> None:
            results[number] = await box.run(f"import host; print(host.gate(), {number})")

        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(run, number)
    assert {number: each.stdout for number, each in results.items()} == {n: f"go {n}\n" for n in range(count)}
    assert max(threads) < 8 + 3 * (os.cpu_count() or 1)


@contextlib.contextmanager
def no_affinity(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "refused")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    monkeypatch.setattr(os, "sched_getaffinity", refuse)
    yield


async def test_where_affinity_is_refused(monkeypatch):
    with no_affinity(monkeypatch):
        async with AsyncSandbox() as box:
            assert (await box.run("print(1)")).stdout == "1\n"
