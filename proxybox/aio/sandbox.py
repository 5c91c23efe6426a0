"""Sandboxes for event loops, of asyncio and of trio (extra `async`): many boxes at once, without a thread for each.

    async with proxybox.AsyncSandbox() as box:
        result = await box.run("print(6 * 7)")

Starting a box is slow but short, and is done in a few worker threads. The OS calls of all guests are answered by one
permanent thread (controller/drivers/engine.py); the loop gets only results and output.
"""

import contextlib
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from proxybox.aio.feed import Feed, Reader, spawn  # isort: skip - says what to install

import attrs

from proxybox import argumentchecks
from proxybox.aio.errands import Errand, Errands
from proxybox.aio.session import AsyncSession
from proxybox.argumentchecks import Content, Input, as_source, as_text_callback
from proxybox.controller.boxes.box import BoxRunner, LiveBox, collect_behind
from proxybox.controller.drivers.blocking import Outcome, never
from proxybox.controller.exchange.hostfunctions import Spawn
from proxybox.controller.warm.session import LiveSession
from proxybox.controller.world.streams import StandardStreams
from proxybox.policies import Policy
from proxybox.program import Program
from proxybox.result import Result, result_of
from proxybox.sandbox import (
    AsPath,
    Code,
    SandboxBase,
    Tighter,
    Variables,
    check_is_shown,
    policy_of_run,
    program_of,
    with_record,
)

#: A result of more bytes or more files than these is made in a worker thread.
_SMALL_BYTES, _SMALL_FILES = 1 << 18, 256


class AsyncSandbox(SandboxBase):
    """`Sandbox` for an event loop, with the same arguments.

    functions may be coroutine functions. They run in the caller's loop, in the context of the call whose program calls
    them, and are cancelled when that call ends; the sandbox has to be entered with `async with` for them. Other
    functions, interceptors, an audit and a `stdin` function run in the thread that serves all boxes. A slow one delays
    other boxes, unless it is a HostFunction with a timeout, which gets a thread of its own.
    """

    def _setup(self) -> None:
        self._errands = Errands()

    def _spawn(self) -> Spawn:
        return spawn

    async def __aenter__(self) -> Self:
        if self._functions is not None and self._functions.has_async:
            await self._errands.open_group()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.close()
        finally:
            await self._errands.close_group()

    async def close(self) -> None:
        """Ends the sandbox and its sessions.

        Programs that still run in other tasks are cancelled; later runs raise SandboxClosedError.
        """
        self._end()
        await self._errands.settle(self._settle)

    async def run(
        self,
        code: Code,
        args: Sequence[str] = (),
        stdin: Input = None,
        files: Content | None = None,
        *,
        timeout: float | str | None = None,
        check: bool = False,
        on_stdout: Reader = None,
        on_stderr: Reader = None,
        limits: Tighter = None,
        output: Tighter = None,
        env: Variables = None,
        record: str | os.PathLike[str] | None = None,
    ) -> Result:
        """As `Sandbox.run`.

        on_stdout, on_stderr: functions or coroutine functions, which are called in this task. While they have not
        processed the output, the program waits, and its wall time goes on.

        Cancelling the task ends the program. An exception of a callback ends it too, and is raised here; if it is no
        Exception, as a CallbackError.
        """
        self._check_open()
        policy = policy_of_run(self.policy, timeout, limits, output, env)
        program = program_of(code, args, files)
        result = await self._run(program, policy, stdin, on_stdout, on_stderr, record)
        return result.check() if check else result

    async def run_program(
        self,
        program: Program,
        *,
        stdin: Input = None,
        timeout: float | str | None = None,
        limits: Tighter = None,
        output: Tighter = None,
        env: Variables = None,
        record: str | os.PathLike[str] | None = None,
    ) -> Result:
        """As `Sandbox.run_program`, without the arguments that only make sense without an event loop."""
        self._check_open()
        policy = policy_of_run(self.policy, timeout, limits, output, env)
        return await self._run(program, policy, stdin, record=record)

    async def _run(
        self, program: Program, policy: Policy, stdin: Input, on_stdout: Reader = None, on_stderr: Reader = None,
        record: str | os.PathLike[str] | None = None,
    ) -> Result:  # fmt: skip
        check_is_shown(program, policy)
        argumentchecks.stdin(stdin)
        argumentchecks.function("on_stdout", on_stdout)
        argumentchecks.function("on_stderr", on_stderr)
        sources: list[Any] = []  # filled once, since a file object can be read only once
        taking = self._taking(record)

        def start() -> tuple[BoxRunner, LiveBox]:
            box = self._box(policy, taking)
            if not sources:
                sources.append(as_source(stdin))
            streams = StandardStreams(
                stdin=sources[0],
                stdout=as_text_callback("on_stdout", None if on_stdout is None else feed.tell("stdout")),
                stderr=as_text_callback("on_stderr", None if on_stderr is None else feed.tell("stderr")),
            )
            return box, self._open(box, program, streams)

        result = None
        async with self._turn() as queued:
            if taking is not None:
                taking.queued = queued
            while result is None:
                feed = Feed(self._errands.functions)
                box, live = await self._errands.in_worker(start, lambda made: made[1].bury())
                result = await self._run_live(box, live, feed, on_stdout, on_stderr)
        result = with_record(result, taking)
        return attrs.evolve(result, usage=attrs.evolve(result.usage, queue=queued)) if queued else result

    def _turn(self) -> AbstractAsyncContextManager[float]:
        """Waits until the run may begin, and yields the seconds that this took."""
        return contextlib.nullcontext(0.0)

    def _open(self, box: BoxRunner, program: Program, streams: StandardStreams) -> LiveBox:
        """Starts the program in a box; called in a worker thread."""
        return box.open(program.words, folder=program, streams=streams, start=self._start(box))

    async def run_file(self, path: str | os.PathLike[str], *args: Any, **options: Any) -> Result:
        """Does what `run` does, for the script at `path`, which may be a str."""
        return await self.run(AsPath(path), *args, **options)

    async def session(
        self,
        *,
        files: Content | None = None,
        folder: str | os.PathLike[str] | None = None,
        stdin: Input = None,
        timeout: float | str | None = None,
        limits: Tighter = None,
        output: Tighter = None,
        env: Variables = None,
        record: str | os.PathLike[str] | None = None,
    ) -> AsyncSession:
        """As `Sandbox.session`: `async with await box.session() as session`."""
        self._check_open()
        seconds = argumentchecks.duration("timeout", timeout)
        argumentchecks.stdin(stdin)
        policy, taking = policy_of_run(self.policy, None, limits, output, env), self._taking(record)

        def start() -> LiveSession:
            return self._open_session(files, folder, stdin, policy, taking)

        live = await self._errands.in_worker(start, LiveSession.close)
        if self._closed:
            live.close()
            self._check_open()
        return AsyncSession(self._errands, live, policy, seconds, taking)

    async def _run_live(
        self, box: BoxRunner, live: LiveBox, feed: Feed, on_stdout: Reader, on_stderr: Reader
    ) -> Result | None:
        """Serves a started box until it has ended. Returns None when `_is_void`."""
        with contextlib.ExitStack() as held:
            held.callback(live.bury)
            if self._closed:
                self._check_open()
            self._boxes.add(box)
            held.callback(self._boxes.discard, box)
            held.enter_context(box.running(live))
            self._errands.serve(feed, live.driver, never)
            try:
                over = await feed.read(on_stdout, on_stderr)
            except BaseException:
                close = held.pop_all().close
                feed.leave(live.driver.cancel, lambda _: close())
                await feed.ended()
                raise
            outcome = over.get()
            assert outcome is not None  # noqa: S101 - it was served until its end
            if self._is_void(live, outcome):
                return None

            def report() -> Result:
                collect_behind(live.builder)
                return result_of(live.report(outcome), box.policy)

            quota, output = live.builder.quota, live.world.stdout.written + live.world.stderr.written
            is_small = quota.used_bytes + output < _SMALL_BYTES and quota.used_inodes < _SMALL_FILES
            if is_small and live.on_report is None:  # otherwise the end of a record is written first
                return report()
            errand = Errand(report)
            try:
                return await self._errands.send(errand)
            except BaseException:
                errand.behind(held.pop_all().close)
                raise

    def _is_void(self, live: LiveBox, outcome: Outcome) -> bool:
        """Whether the program has to run in another box."""
        return False
