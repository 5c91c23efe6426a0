"""Functions of the caller that raise anything: the rules of controller/callers.py, by kind, by exception, by driver.

A host function's exception is raised in the program. The exception of any other function ends its own run, and reaches
the caller of that run. Each time another program waits in the same sandbox meanwhile, continues to its end, and is
followed by one more.
"""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import proxybox
from proxybox import AsyncPool, AsyncSandbox, HostFunction, Pool, Sandbox
from proxybox.controller.drivers.engine import the_engine
from tests.aio import raised
from tests.aio.raised import ASKS, RAISES

#: A program that waits for a host function, and then prints "whole".
WAITS = "import host; host.gate(); print('whole')"
#: A program that causes a call of each kind of function except host functions.
SPEAKS = "import os, sys\nprint('out', flush=True)\nprint('err', file=sys.stderr, flush=True)\nos.mkdir('x')\ninput()"
PLAIN, TIMED = "a function", "a function with a timeout"
FUNCTIONS = (PLAIN, TIMED)
STREAMS = ("on_stdout", "on_stderr")
OBSERVERS = ("interceptor", "audit")


class Raiser:
    """Raises in the OS call `mkdir`, and in everything that is no OS call. error: the last exception that it raised."""

    def __init__(self) -> None:
        self.name = ""
        self.error: BaseException | None = None

    def __call__(self, *args: Any) -> Any:
        if args and isinstance(args[0], proxybox.OSCall) and args[0].name != "mkdir":
            return None
        self.error = RAISES[self.name]()
        raise self.error

    def fail(self, name: str) -> Any:
        """The host function `fail`."""
        return raised.fail(name)

    def options(self, kind: str) -> dict[str, Any]:
        """Returns the sandbox's options for a kind of function."""
        fail = HostFunction(self.fail, timeout=100) if kind == TIMED else self.fail
        observers = {"interceptor": {"interceptors": [self]}, "audit": {"audit": self}}
        return {"functions": {"fail": fail}, **observers.get(kind, {})}

    def arguments(self, kind: str) -> dict[str, Any]:
        """Returns the run's arguments for a kind of function."""
        return {kind: self} if kind in (*STREAMS, "stdin") else {}


def gated(options: dict[str, Any], gate: Callable[[], Any]) -> dict[str, Any]:
    return {**options, "functions": {**options["functions"], "gate": gate}}


# --- blocking ---------------------------------------------------------------------------------------------------------


@contextmanager
def neighbour(run: Callable[..., proxybox.Result], is_there: threading.Event, gate: threading.Event) -> Iterator[None]:
    """Runs another program that waits during the context, and must then end well."""
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(run, WAITS, timeout="none")
        try:
            assert is_there.wait(100)
            yield
        finally:
            gate.set()
        assert waiting.result().stdout == "whole\n"
    assert run("print('next')").stdout == "next\n"


def asked_in_a_session(box: Sandbox, name: str) -> str:
    with box.session() as session:
        session.exec(f"import sys; sys.argv = ['', {name!r}]")
        found = session.exec(ASKS).stdout
        assert session.eval("1 + 1").value == 2
        return found


def run_in_a_session(box: Sandbox, kind: str, raiser: Raiser) -> None:
    with box.session(stdin=raiser if kind == "stdin" else None) as session:
        arguments: dict[str, Any] = {kind: raiser} if kind in (*STREAMS, "on_display") else {}
        session.exec("display(1)" if kind == "on_display" else SPEAKS, echo=True, **arguments)


def run_whole(box: Sandbox | Pool, kind: str, raiser: Raiser) -> None:
    box.run(SPEAKS, **raiser.arguments(kind))


@pytest.mark.sized(5)
@pytest.mark.parametrize("kind", [*FUNCTIONS, *STREAMS, "stdin", *OBSERVERS, "on_display"])
@pytest.mark.parametrize("driver", ["runs", "sessions", "pool"])
def test_blocking(driver: str, kind: str) -> None:
    if (driver == "pool" and kind in OBSERVERS) or (driver != "sessions" and kind == "on_display"):
        return  # there is no such argument
    raiser, gate, is_there = Raiser(), threading.Event(), threading.Event()

    def wait() -> None:
        is_there.set()
        gate.wait()

    options = gated(raiser.options(kind), wait)
    with Pool(size=2, **options) if driver == "pool" else Sandbox(**options) as box, neighbour(box.run, is_there, gate):
        for name in RAISES:
            raiser.name = name
            if kind in FUNCTIONS:
                is_session = driver == "sessions"
                assert raised.told(name) == (
                    asked_in_a_session(box, name) if is_session else box.run(ASKS, [name]).stdout
                )
                continue
            run = run_in_a_session if driver == "sessions" else run_whole
            with pytest.raises(BaseException) as got:
                run(box, kind, raiser)
            assert got.value is raiser.error, name


@pytest.mark.parametrize("kind", [PLAIN, *STREAMS])
def test_a_pool_of_processes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host functions are called in a worker process, its callbacks in this process."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    raiser = Raiser()
    with Pool(size=2, processes=1, functions={"fail": raised.fail}) as pool, ThreadPoolExecutor() as threads:
        reading, writing = os.pipe()
        is_there = threading.Event()
        with os.fdopen(reading) as source:
            code = "print('here', flush=True); print(input())"
            waiting = threads.submit(pool.run, code, stdin=source, on_stdout=lambda _: is_there.set(), timeout="none")
            assert is_there.wait(100)
            for name in RAISES:
                raiser.name = name
                if kind == PLAIN:
                    assert pool.run(ASKS, [name]).stdout == raised.told(name)
                    continue
                with pytest.raises(BaseException) as got:
                    pool.run(f"{SPEAKS}\nwhile True: pass", stdin="line\n", **raiser.arguments(kind))
                assert got.value is raiser.error, name
            os.write(writing, b"whole\n")
            os.close(writing)
            assert waiting.result().stdout == "here\nwhole\n"
        assert len(pool._boxes._free) == 2, "no slot is lost"  # type: ignore[union-attr]


# --- event loops ------------------------------------------------------------------------------------------------------


async def cancelled_elsewhere() -> None:
    """Waits for a task that something else cancels.

    In trio only scopes can be cancelled: there it raises GeneratorExit.
    """
    if sys.modules["sniffio"].current_async_library() == "trio":
        raise GeneratorExit
    task = asyncio.ensure_future(asyncio.sleep(1000))
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


async def cancels_itself() -> str:
    """Cancels the task in which it runs, and returns before the cancellation is delivered."""
    if (task := asyncio.current_task() if sys.modules["sniffio"].current_async_library() != "trio" else None) is None:
        raise GeneratorExit
    task.cancel()
    return "returned"


async def is_cancelled_in_its_task() -> None:
    """Has the event loop cancel the task in which it runs."""
    if sys.modules["sniffio"].current_async_library() == "trio":
        raise GeneratorExit
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.sleep(1000)


async def has_tasks_that_fail() -> None:
    """Starts a group of tasks, one of which raises an exception that is no Exception."""

    async def leave() -> None:
        raise raised.OwnEnd

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        await anyio.sleep(1000)


ODD = {
    each.__name__: each for each in (cancelled_elsewhere, cancels_itself, is_cancelled_in_its_task, has_tasks_that_fail)
}


@asynccontextmanager
async def task_beside(box: AsyncSandbox, is_there: anyio.Event, gate: anyio.Event) -> AsyncIterator[None]:
    results: list[proxybox.Result] = []

    async def run() -> None:
        results.append(await box.run(WAITS, timeout="none"))

    thread = [each for each in threading.enumerate() if each.name == "proxybox-engine"]
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await is_there.wait()
        try:
            yield
        finally:
            gate.set()
    assert [result.stdout for result in results] == ["whole\n"]
    assert (await box.run("print('next')")).stdout == "next\n"
    assert [each for each in threading.enumerate() if each.name == "proxybox-engine"] == thread


async def in_a_session(box: AsyncSandbox, kind: str, name: str, raiser: Raiser) -> str:
    """Runs the program in a session, and returns its output. Raises what the session raises."""
    async with (
        await box.session()
        if isinstance(box, AsyncPool)
        else await box.session(stdin=raiser if kind == "stdin" else None) as session
    ):
        if kind in FUNCTIONS or kind == "a coroutine function":
            await session.exec(f"import sys; sys.argv = ['', {name!r}]")
            return (await session.exec(ASKS)).stdout
        arguments: dict[str, Any] = {} if kind not in (*STREAMS, "on_display") else {kind: raiser}
        code = "display(1)" if kind == "on_display" else SPEAKS
        return (await session.exec(code, echo=True, **arguments)).stdout


ASYNC_KINDS = [
    "a coroutine function",
    *FUNCTIONS,
    *STREAMS,
    "stdin",
    *OBSERVERS,
    "on_display",
    "a coroutine that reads",
]


async def beside_a_neighbour(driver: str, kind: str) -> None:
    raiser, gate, is_there = Raiser(), anyio.Event(), anyio.Event()

    async def wait() -> None:
        is_there.set()
        await gate.wait()

    async def fail(name: str) -> Any:
        await anyio.sleep(0)
        return await ODD[name]() if name in ODD else raised.fail(name)

    async def read(text: str) -> None:
        await anyio.sleep(0)
        raiser()

    options = gated(raiser.options(kind), wait)
    if kind == "a coroutine function":
        options["functions"]["fail"] = fail
    box = AsyncPool(size=3, **options) if driver == "pool" else AsyncSandbox(**options)
    async with box, task_beside(box, is_there, gate):
        for name in [*RAISES, *(ODD if kind == "a coroutine function" else ())]:
            raiser.name = name

            async def run(name: str = name) -> str:
                if driver == "sessions":
                    return await in_a_session(box, kind, name, raiser)
                arguments = {"on_stdout": read} if kind == "a coroutine that reads" else raiser.arguments(kind)
                code = ASKS if kind in FUNCTIONS or kind == "a coroutine function" else SPEAKS
                return (await box.run(code, [name], **arguments)).stdout

            await expect(run, kind, name, raiser)


async def expect(run: Callable[[], Awaitable[str]], kind: str, name: str, raiser: Raiser) -> None:
    if kind in FUNCTIONS or kind == "a coroutine function":
        printed = await run()
        if name in RAISES and name != "StopIteration":  # in a coroutine StopIteration becomes RuntimeError (PEP 479)
            assert printed == raised.told(name)
        else:
            assert printed.startswith(("HostError", "returned", "RuntimeError", "StopIteration")), printed
        return
    with pytest.raises(Exception) as got:
        await run()
    if isinstance(raiser.error, StopIteration):  # a coroutine cannot raise it (PEP 479)
        assert isinstance(got.value, RuntimeError)
        assert got.value.__cause__ is raiser.error
    elif isinstance(raiser.error, Exception):
        assert got.value is raiser.error, name
    else:
        assert type(got.value) is proxybox.CallbackError, name
        assert got.value.__cause__ is raiser.error, name


@pytest.mark.sized(5)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ASYNC_KINDS)
@pytest.mark.parametrize("driver", ["runs", "sessions", "pool"])
def test_event_loops(driver: str, kind: str, backend: str) -> None:
    if (driver == "pool" and kind in OBSERVERS) or (driver != "sessions" and kind == "on_display"):
        return  # there is no such argument
    if driver == "sessions" and kind == "a coroutine that reads":
        return  # the same as in a run
    the_engine()
    if backend == "asyncio":  # asyncio.run does not set sniffio's variable; anyio.run does
        asyncio.run(beside_a_neighbour(driver, kind))
    else:
        anyio.run(beside_a_neighbour, driver, kind, backend="trio")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_our_own_cancellation_passes(backend: str) -> None:
    """A run that is cancelled during a callback ends as cancelled, and so does a host function of a run."""

    async def main() -> None:
        seen: list[str] = []
        is_there = anyio.Event()

        async def hang(*_: object) -> None:
            is_there.set()
            try:
                await anyio.sleep(1000)
            except anyio.get_cancelled_exc_class():
                seen.append("cancelled")
                raise

        async with AsyncSandbox(functions={"hang": hang}) as box:
            for code, options in (("print(1, flush=True)", {"on_stdout": hang}), ("import host; host.hang()", {})):
                is_there = anyio.Event()
                async with anyio.create_task_group() as group:

                    async def run(code: str = code, options: Any = options) -> None:
                        await box.run(code, **options)
                        seen.append("went on")

                    group.start_soon(run)
                    await is_there.wait()
                    group.cancel_scope.cancel()
            assert (await box.run("print(2)")).stdout == "2\n"
        assert seen == ["cancelled", "cancelled"]

    anyio.run(main, backend=backend)


def test_a_task_that_is_cancelled_in_a_callback() -> None:
    """asyncio's own cancellation, of which anyio's scopes know nothing."""

    async def main() -> None:
        is_there = asyncio.Event()

        async def hang(text: str) -> None:
            is_there.set()
            await asyncio.sleep(1000)

        async with AsyncSandbox() as box:
            task = asyncio.ensure_future(box.run("print(1, flush=True)", on_stdout=hang))
            await is_there.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await box.run("print(1, flush=True)\nwhile True: pass", on_stdout=hang)
            assert (await box.run("print(2)")).stdout == "2\n"

    asyncio.run(main())


CTRL_C = """
import asyncio, os, signal, sys, time
import anyio
import proxybox

def strike(*_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(100)

async def strike_soon(*_):
    strike()

async def main():
    function = strike_soon if {kind!r} == "coroutine" else strike
    async with proxybox.AsyncSandbox(functions={{"strike": function}}) as box:
        if {kind!r} == "callback":
            await box.run("print(1, flush=True)", on_stdout=strike)
        await box.run("import host; host.strike()")

if {backend!r} == "asyncio":  # which has a handler of its own for the first Ctrl-C, if it finds Python's
    signal.signal(signal.SIGINT, lambda *given: signal.default_int_handler(*given))
anyio.run(main, backend={backend!r})
print("went on")
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["coroutine", "callback"])
def test_ctrl_c_stops_the_program_of_a_loop(kind: str, backend: str) -> None:
    """Ctrl-C during a coroutine function or a callback, both of which run in the main thread."""
    code = textwrap.dedent(CTRL_C.format(kind=kind, backend=backend))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode
    assert ended.stdout == ""
    assert ended.stderr.strip(" |+-\n").endswith("KeyboardInterrupt"), (
        ended.stderr
    )  # trio raises it within an exception group
