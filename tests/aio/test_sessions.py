"""`AsyncSession` and `AsyncPool`: equal to their blocking twins, many at once, and alive after cancellation."""

import contextlib
import contextvars
import io
import os
import signal

import anyio
import anyio.from_thread
import pytest

import proxybox
from proxybox import AsyncPool, AsyncSandbox, Displayed, Finished, HostFunction, Printed, Status

pytestmark = pytest.mark.anyio
LOOPS = "print('here', flush=True)\nwhile True: pass"
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + LOOPS


async def test_everything_that_a_session_has():
    async with AsyncSandbox(warm=True, session={"branches": 3}) as box, await box.session(files={"a.txt": "A"}) as s:
        assert (await s.exec("def double(x):\n    return 2 * x\nprint('out')")).stdout == "out\n"
        assert (await s.eval("double(21)")).value == 42
        assert (await s.call("double", 4)).value == 8
        await s.set("name", {"key": [1, 2.5]})
        assert await s.get("name") == {"key": [1, 2.5]}
        with pytest.raises(ValueError):
            await s.set("no name", 1)
        with pytest.raises(proxybox.ExecutionError):
            await s.get("nothing")
        assert "double" in (await s.complete("doub")).matches
        assert (await s.inspect("double")).type == "function"
        assert (await s.is_complete("def f():")).status == "incomplete"
        assert (await s.eval("open('a.txt').read()")).value == "A"
        assert (await s.exec("1/0")).error.type == "ZeroDivisionError"
        snapshot = await s.snapshot()
        async with await s.fork() as branch:
            await branch.set("name", "branch")
            assert await branch.get("name") == "branch"
        await s.set("name", "changed")
        await s.restore(snapshot)
        assert await s.get("name") == {"key": [1, 2.5]}
        snapshot.close()
        await s.exec("with open('b.txt', 'w') as file: file.write('B')")
        assert s.files["b.txt"] == b"B"
        await s.reset()
        assert not (await s.eval("double")).ok
        assert s.alive
    assert not s.alive
    with pytest.raises(proxybox.SandboxClosedError):
        await s.eval("1")


async def test_sessions_interleave():
    async with AsyncSandbox(warm=True) as box, contextlib.AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(await box.session()) for _ in range(12)]

        async def count(session, number):
            await session.exec(f"n = {number}")
            for _ in range(20):
                await session.exec("n += 1")

        async with anyio.create_task_group() as group:
            for number, session in enumerate(sessions):
                group.start_soon(count, session, number)
        assert [await session.get("n") for session in sessions] == [number + 20 for number in range(12)]


async def refusals(session, ask):
    """Returns the messages of the RuntimeErrors that a callback gets when it uses the session of its own call."""
    errors = []

    async def out(text):
        try:
            await ask()
        except RuntimeError as error:
            errors.append(str(error))

    assert (await session.exec("print(1)", on_stdout=out)).ok
    return errors


async def test_one_call_at_a_time():
    async with AsyncSandbox() as box, await box.session() as s:
        assert len(await refusals(s, lambda: s.eval("1"))) == 1


@pytest.mark.parametrize("warm", [False, True])
async def test_cancelled_calls_leave_the_session_alive(warm):
    async with AsyncSandbox(warm=warm) as box, await box.session() as s:
        await s.set("kept", 1)
        for code in (LOOPS, "print('here', flush=True)\ninput()\n" + LOOPS):
            with anyio.CancelScope() as scope:
                await s.exec(code, on_stdout=lambda _: scope.cancel())
            assert scope.cancelled_caught
            assert await s.get("kept") == 1
        with anyio.CancelScope() as scope:
            scope.cancel()
            await s.eval("1")
        assert await s.get("kept") == 1


async def test_cancelled_calls_that_do_not_heed_it_end_the_session():
    async with AsyncSandbox(session={"grace": 0.1}) as box, await box.session() as s:
        with anyio.CancelScope() as scope:
            await s.exec(DEAF, on_stdout=lambda _: scope.cancel())
        assert not s.alive


@pytest.mark.parametrize("call", ["os.read(reading, 1)", "select.select([reading], [], [])"], ids=["direct", "trapped"])
async def test_an_interrupt_while_a_request_is_on_its_way(call):
    """The interrupt reaches the guest before its call is executed, so the call does not wait."""
    armed = []

    def interrupt(asked):
        if armed and asked.name in ("read", "select", "pselect6", "poll"):
            has_come = armed.pop()
            session.interrupt()
            while not has_come():
                pass

    async with AsyncSandbox(interceptors=[interrupt], limits={"wall_time": 10}) as box, await box.session() as session:
        await session.exec("import os, select; reading, writing = os.pipe()", check=True)
        process = session._live._live.process
        # In a direct call the stub defers the signal.
        armed.append(process._puts_off if "read(" in call else lambda: process.has_pending(signal.SIGINT))
        result = await session.exec(call)
        assert (result.status, result.error.type) == (Status.ERROR, "KeyboardInterrupt")


async def test_a_callback_that_raises_interrupts():
    def fail(text):
        raise LookupError

    async with AsyncSandbox() as box, await box.session() as s:
        with pytest.raises(LookupError):
            await s.exec(LOOPS, on_stdout=fail)
        assert (await s.eval("6 * 7")).value == 42


async def test_closed_in_a_call():
    async with AsyncSandbox() as box, await box.session() as s:
        async with anyio.create_task_group() as group:
            result = await s.exec(LOOPS, on_stdout=lambda _: group.start_soon(s.close))
        assert result.status is Status.CANCELLED
        assert not s.alive


async def test_stream():
    async with AsyncSandbox() as box, await box.session() as s:
        events = [event async for event in s.stream("import sys\nprint(1, flush=True)\nprint(2, file=sys.stderr)")]
        assert [(each.stream, each.text) for each in events[:-1]] == [("stdout", "1\n"), ("stderr", "2\n")]
        assert isinstance(events[-1], Finished)
        assert events[-1].result.ok


async def test_a_reader_that_leaves_a_stream():
    async with AsyncSandbox() as box, await box.session() as s:
        async with contextlib.aclosing(s.stream(LOOPS)) as events:
            async for event in events:
                assert event == Printed("stdout", "here\n")
                break
        assert (await s.eval("1")).value == 1


async def test_a_stream_that_is_not_read_is_held():
    async with AsyncSandbox(output={"limit": None}) as box, await box.session() as s:
        code = "import sys\nfor n in range(2000):\n    sys.stdout.write('x' * 1000)\n    sys.stdout.flush()\n"
        size = 0
        async with contextlib.aclosing(s.stream(code, timeout=60)) as events:
            async for event in events:
                if isinstance(event, Printed):
                    size += len(event.text)
                    assert s._feed._backlog < (1 << 16) + 4096
        assert size == 2_000_000


async def test_what_is_shown():
    """`on_display`, a coroutine function or not, gets displays in their order among the output."""
    told = []

    async def show(event):
        await anyio.lowlevel.checkpoint()
        told.append(event.data["text/plain"])

    code = "print(1, end='')\ndisplay(2)\nprint(3)\n4"
    async with AsyncSandbox() as box, await box.session() as s:
        await s.exec(code, echo=True, check=True, on_stdout=told.append, on_display=show)
        assert told == ["1", "2", "3\n", "4"]
        assert await s.get("_") == 4
        assert (await s.exec("6", echo="display", on_display=show)).ok  # a program's last value is not shown
        assert len(told) == 4
        kinds = []
        await s.exec("clear_output(wait=True)\n5", echo=True, on_display=lambda event: kinds.append(event.kind))
        assert kinds == ["clear", "value"]
        events = [event async for event in s.stream(code, name="cell", echo=True)]
        assert [type(event) for event in events] == [Printed, Displayed, Printed, Displayed, Finished]
        with pytest.raises(proxybox.ExecutionError):
            async for _ in s.stream("1/0", check=True):
                pass


async def test_what_is_shown_and_not_taken_is_held():
    code = "for n in range(300): display('x' * 10_000)"
    async with AsyncSandbox(output={"limit": None}) as box, await box.session() as s:
        count = 0
        async with contextlib.aclosing(s.stream(code, echo=True, timeout=120)) as events:
            async for event in events:
                count += isinstance(event, Displayed)
                assert s._feed._backlog < (1 << 16) + 2 * 10_400
        assert count == 300


async def test_files_and_counts_from_outside():
    async with AsyncSandbox(limits={"wall_time": 50}) as box, await box.session(timeout=40) as s:
        await s.write_file("folder/a.txt", "text", parents=True)
        assert (await s.eval("open('folder/a.txt').read()")).value == "text"
        assert await s.read_file("folder/a.txt") == b"text"
        assert [(entry.name, entry.type) for entry in await s.list_files()] == [("folder", "directory")]
        with pytest.raises(OSError, match="File too large"):
            await s.read_file("folder/a.txt", limit=1)
        with pytest.raises(FileNotFoundError):
            await s.read_file("none")
        assert s.usage.disk >= 4
        assert (s.timeout, s.policy.limits.wall_time) == (40, 50)
        s.timeout = 0.1
        assert (await s.exec("while True: pass")).status is Status.TIME_LIMIT
        s.timeout = None
        seen = []
        s.audit(lambda call: seen.append(call.name))
        await s.exec("open('folder/a.txt').close()")
        assert "openat" in seen
        s.audit(None)
        told = len(seen)
        await s.exec("open('folder/a.txt').close()")
        assert len(seen) == told


async def test_files_are_reached_between_calls():
    async with AsyncSandbox() as box, await box.session() as s:
        errors = await refusals(s, lambda: s.read_file("a"))
        assert errors == ["the session is in a call: its files can be reached between calls"]


async def test_closed_while_a_file_is_read(monkeypatch):
    """The reader of the session's files closes the session when it has finished."""
    async with AsyncSandbox() as box, await box.session() as s:
        work = s._at_rest

        def close_first(reading):
            def read(world):
                anyio.from_thread.run_sync(s._live.close)
                return reading(world)

            return work(read)

        monkeypatch.setattr(s, "_at_rest", close_first)
        with pytest.raises(FileNotFoundError):
            await s.read_file("none")
        assert not s.alive


async def test_looks_have_bounds():
    """Code that is too large for a message has no completions. OS calls during a look are counted and limited."""
    async with AsyncSandbox(session={"value_size": "4K"}) as box, await box.session() as s:
        assert await s.complete("x" * (1 << 20)) == proxybox.Completion((1 << 20) - 200, ())
        assert await s.inspect("x" * (1 << 20)) is None
        assert (await s.is_complete("x = 1\n" * (1 << 18))).status == "unknown"
        await s.exec(
            "import os\ncount = 0\nclass Many:\n    def __dir__(self):\n        global count\n"
            "        while True: os.access('/', 0); count += 1\nmany = Many()"
        )
        assert (await s.complete("many.x")).matches == ()
        assert 0 < await s.get("count") <= 5001  # the last call is interrupted
        assert s.alive


# --- coroutine functions ----------------------------------------------------------------------------------------------

who = contextvars.ContextVar("who", default="nobody")


async def test_coroutine_functions():
    async def double(x):
        await anyio.lowlevel.checkpoint()
        return 2 * x

    async def fail():
        raise KeyError("mine")

    async def ask():
        return who.get()

    async with AsyncSandbox(functions={"double": double, "fail": fail, "ask": ask, "plain": abs}) as box:
        who.set("run")
        result = await box.run("import host\nprint(host.double(21), host.plain(-1), host.ask())\nhost.fail()")
        assert result.stdout == "42 1 run\n"
        assert result.error.type == "KeyError"
        async with await box.session() as s:
            await s.exec("import host")
            who.set("session")
            assert (await s.eval("[host.double(n) for n in range(5)]")).value == [0, 2, 4, 6, 8]
            assert (await s.eval("host.ask()")).value == "session"


async def test_coroutine_functions_meet_while_they_wait():
    """Each function waits for the function of the other box."""
    events = anyio.Event(), anyio.Event()

    async def meet(n):
        events[n].set()
        await events[1 - n].wait()
        return "met"

    async with AsyncSandbox(functions={"meet": meet}) as box, anyio.create_task_group() as group:
        results = []

        async def run(n):
            results.append(await box.run(f"import host; print(host.meet({n}))"))

        group.start_soon(run, 0)
        group.start_soon(run, 1)
    assert [each.stdout for each in results] == ["met\n"] * 2


async def test_a_coroutine_function_that_takes_too_long():
    ended = []

    async def sleep():
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(1)

    async with AsyncSandbox(functions={"sleep": HostFunction(sleep, timeout=0.05)}) as box:
        result = await box.run("import host\nhost.sleep()")
    assert result.error.type == "TimeoutError"
    assert ended == [1]


async def test_a_coroutine_function_ends_with_its_call():
    ended = []

    async def hang():
        scope.cancel()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(1)

    patient = {"grace": 50}  # on a busy machine a guest may need long to handle an interrupt
    async with AsyncSandbox(functions={"hang": hang}, session=patient) as box, await box.session() as s:
        await s.exec("import host")
        with anyio.CancelScope() as scope:
            await s.exec("host.hang()")
        assert scope.cancelled_caught
        assert (await s.eval("1")).value == 1
    assert ended == [1]


async def test_coroutine_functions_want_a_sandbox_that_was_entered():
    async def function():
        return 1

    box = AsyncSandbox(functions={"function": function})
    result = await box.run("import host\nhost.function()")
    assert result.error.type == "RuntimeError"
    await box.close()


# --- pools ------------------------------------------------------------------------------------------------------------


async def test_a_pool():
    async with AsyncPool(size=2, preload=["json"]) as pool:
        results = []

        async def run(number):
            results.append((await pool.run(f"import json\nprint({number})")).stdout)

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(run, number)
        assert sorted(results) == sorted(f"{number}\n" for number in range(12))
        async with await pool.session() as one, await pool.session() as two:
            assert (await one.eval("1")).value == 1
            assert (await two.eval("2")).value == 2
        with anyio.CancelScope() as scope:
            await pool.run(LOOPS, on_stdout=lambda _: scope.cancel())
        assert (await pool.run("print(1)")).ok
    with pytest.raises(proxybox.SandboxClosedError):
        await pool.run("pass")


async def test_a_pool_whose_boxes_share_nothing():
    """As with Pool: each box is started by itself."""
    async with AsyncPool(size=2, warm=False) as pool:
        seeds = [(await pool.run("print(hash('x'))")).stdout for _ in range(3)]
        async with await pool.session() as session:
            seeds.append((await session.exec("print(hash('x'))")).stdout)
    assert len(set(seeds)) == 4, seeds
    with pytest.raises(TypeError, match="files"):
        await pool.session(files={})


async def test_a_guest_of_a_pool_that_is_killed_before_it_begins():
    """Another guest runs the program, as with Pool."""
    async with AsyncPool(size=1) as pool:
        take, killed = pool._ready.take, []

        def take_and_kill(policy):
            ready = take(policy)
            if len(killed) < 2:
                killed.append(ready)
                os.kill(ready._live.process.pid, signal.SIGKILL)
            return ready

        pool._ready.take = take_and_kill
        assert (await pool.run("print(input())", stdin=io.StringIO("line\n"))).stdout == "line\n"
        assert len(killed) == 2


async def test_waiting_for_room_in_a_pool_is_told():
    async with AsyncPool(size=1) as pool:
        results = []

        async def run(code):
            results.append(await pool.run(code))

        async with anyio.create_task_group() as group:
            group.start_soon(run, "import time\ntime.sleep(0.05)")
            group.start_soon(run, "import time\ntime.sleep(0.05)")
        assert max(result.usage.queue for result in results) >= 0.05
        with pytest.raises(proxybox.ExecutionError) as error:
            await pool.run("1/0", check=True)
        assert error.value.result.usage.queue >= 0
        assert (await pool.run("while True: pass", timeout=0.2)).status is Status.TIME_LIMIT
