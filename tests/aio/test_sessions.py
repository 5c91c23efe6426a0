"""`AsyncSession` and `AsyncPool`: as their blocking twins, many at once, and what cancellation leaves alive."""

import contextlib
import contextvars

import anyio
import pytest

import proxybox
from proxybox import AsyncPool, AsyncSandbox, Finished, HostFunction, Printed, Status

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


async def test_one_call_at_a_time():
    async with AsyncSandbox() as box, await box.session() as s:
        errors = []

        async def out(text):
            try:
                await s.eval("1")
            except RuntimeError as error:
                errors.append(error)

        assert (await s.exec("print(1)", on_stdout=out)).ok
        assert len(errors) == 1


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
    """Each waits for the other's box."""
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

    async with AsyncSandbox(functions={"hang": hang}) as box, await box.session() as s:
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
