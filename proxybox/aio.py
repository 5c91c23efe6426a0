"""Sandboxes for event loops, asyncio's and trio's (extra `async`): many boxes at once, and no thread for any of them.

    async with proxybox.AsyncSandbox() as box:
        result = await box.run("print(6 * 7)")

What is slow and short, starting a box, happens in a few worker threads; the guests' OS calls are answered by one
lasting thread (controller/drivers/engine.py), and the loop hears of results and output only.
"""

import contextlib
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Self, TypeVar

from proxybox.feed import Feed, Reader, loop_door, spawn  # isort: skip - says what to install

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import attrs

from proxybox import given
from proxybox.aiosession import AsyncSession
from proxybox.controller.boxes.box import Box, LiveBox, collect_behind
from proxybox.controller.drivers.blocking import Outcome, never
from proxybox.controller.exchange.hostfunctions import Spawn
from proxybox.controller.guests.guest import require_bootstrap
from proxybox.controller.warm.ready import is_killed_by_others
from proxybox.controller.warm.session import LiveSession
from proxybox.given import Content, Input, as_source, as_text_callback
from proxybox.policies import Policy
from proxybox.pool import Boxes, with_preload
from proxybox.program import Program
from proxybox.result import Result, result_of
from proxybox.sandbox import AsPath, Code, Functions, SandboxBase, folder_of, program_of

T = TypeVar("T")

#: So many boxes are started at once: starting keeps a CPU busy.
STARTS = 2 * (os.cpu_count() or 1)
#: A result that is made of more than so many bytes and files is made in a worker thread.
_SMALL_BYTES, _SMALL_FILES = 1 << 18, 256

_limiters: "anyio.lowlevel.RunVar[anyio.CapacityLimiter]" = anyio.lowlevel.RunVar("proxybox-starts")


class AsyncSandbox(SandboxBase):
    """`Sandbox` for an event loop, with the same arguments.

    functions may be coroutine functions: they run in the caller's loop, in the context of the call whose program calls
    them, and are cancelled when that ends; the sandbox is to be entered with `async with` for them. Other functions,
    interceptors, an audit and a `stdin` function run in a thread that serves all boxes: one that takes its
    time holds up others, unless it is a HostFunction with a timeout, which gets a thread.
    """

    def _setup(self) -> None:
        self._group: anyio.abc.TaskGroup | None = None
        self._pending: set[threading.Event] = set()  # what `close` waits for

    def _spawn(self) -> Spawn:
        return spawn

    async def __aenter__(self) -> Self:
        if self._functions is not None and self._functions.has_async:
            group = anyio.create_task_group()
            self._group = await group.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.close()
        finally:
            group, self._group = self._group, None
            if group is not None:
                group.cancel_scope.cancel()
                await group.__aexit__(None, None, None)

    async def close(self) -> None:
        """Ends the sandbox and its sessions: programs that still run in other tasks are cancelled, later runs raise
        SandboxClosedError."""
        self._end()
        pending = tuple(self._pending)

        def wait() -> None:
            for event in pending:
                event.wait()
            self._settle()

        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(wait)

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
    ) -> Result:
        """As `Sandbox.run`. on_stdout, on_stderr: functions or coroutine functions, called in this task; while they
        have not taken what was printed, the program waits, and its wall time runs on.

        Cancelled, it ends the program. So does an exception of a callback's, which is raised here.
        """
        self._check_open()
        program, seconds = program_of(code, args, files), given.duration("timeout", timeout)
        folder_of(program, self.policy)
        given.stdin(stdin)
        given.function("on_stdout", on_stdout)
        given.function("on_stderr", on_stderr)
        sources: list[Any] = []  # which can be read once

        def start() -> tuple[Box, LiveBox]:
            box = self._box(seconds)
            if not sources:
                sources.append(as_source(stdin))
            return box, self._open(
                box, program, sources[0],
                as_text_callback("on_stdout", None if on_stdout is None else feed.tell("stdout")),
                as_text_callback("on_stderr", None if on_stderr is None else feed.tell("stderr")),
            )  # fmt: skip

        result = None
        async with self._turn() as queued:
            while result is None:
                feed = Feed(self._group)
                box, live = await self._in_worker(start, lambda made: made[1].bury())
                result = await self._run_live(box, live, feed, on_stdout, on_stderr)
        if queued:
            result = attrs.evolve(result, usage=attrs.evolve(result.usage, queue=queued))
        return result.check() if check else result

    def _turn(self) -> AbstractAsyncContextManager[float]:
        """What a run waits for before it begins: gives the seconds that it took."""
        return contextlib.nullcontext(0.0)

    def _open(self, box: Box, program: Program, stdin: Any, on_stdout: Any, on_stderr: Any) -> LiveBox:
        """In a worker."""
        return box.open(
            program.words, folder=folder_of(program, box.policy), stdin=stdin, start=self._start(box),
            on_stdout=on_stdout, on_stderr=on_stderr,
        )  # fmt: skip

    async def run_file(self, path: str | os.PathLike[str], *args: Any, **options: Any) -> Result:
        """`run` for the script at `path`, which may be given as a str."""
        return await self.run(AsPath(path), *args, **options)

    async def session(
        self,
        *,
        files: Content | None = None,
        folder: str | os.PathLike[str] | None = None,
        stdin: Input = None,
        timeout: float | str | None = None,
    ) -> AsyncSession:
        """As `Sandbox.session`: `async with await box.session() as session`."""
        self._check_open()
        seconds = given.duration("timeout", timeout)
        given.stdin(stdin)
        live = await self._in_worker(lambda: self._open_session(files, folder, stdin), LiveSession.close)
        if self._closed:
            live.close()
            self._check_open()
        return AsyncSession(self, live, seconds)

    async def _run_live(
        self, box: Box, live: LiveBox, feed: Feed, on_stdout: Reader, on_stderr: Reader
    ) -> Result | None:
        """Serves a box that was started until it has ended. None where it `_is_void`."""
        with contextlib.ExitStack() as held:
            held.callback(live.bury)
            if self._closed:
                self._check_open()
            self._boxes.add(box)
            held.callback(self._boxes.discard, box)
            held.enter_context(box.running(live))
            calls = live.dispatcher.calls
            self._serve(feed, live.driver, never)
            try:
                over = await feed.read(on_stdout, on_stderr)
            except BaseException:
                close = held.pop_all().close
                feed.leave(live.driver.cancel, lambda _: close())
                await feed.ended()
                raise
            outcome = over.get()
            assert outcome is not None  # noqa: S101 - it was served until its end
            if self._is_void(outcome, live.dispatcher.calls - calls):
                return None

            def report() -> Result:
                collect_behind(live.builder)
                return result_of(live.report(outcome), box.policy)

            quota, output = live.builder.quota, live.world.stdout.written + live.world.stderr.written
            if quota.used_bytes + output < _SMALL_BYTES and quota.used_inodes < _SMALL_FILES:
                return report()
            errand = _Errand(report)
            try:
                return await self._send(errand)
            except BaseException:
                errand.behind(held.pop_all().close)
                raise

    def _is_void(self, outcome: Outcome, calls: int) -> bool:
        """Whether another box is to run the program."""
        return False

    def _serve(self, feed: Feed, driver: Any, until: Callable[[], bool]) -> None:
        feed.serve(driver, until)
        self._wait_for(feed.is_over)

    async def _in_worker(self, make: Callable[[], T], unmake: Callable[[T], object]) -> T:
        """What a worker thread makes. Where nobody waits for it any more, it is unmade."""
        errand = _Errand(make)
        try:
            return await self._send(errand)
        except BaseException:
            errand.behind(lambda: [unmake(made) for made in errand.made])
            raise

    async def _send(self, errand: "_Errand[T]") -> T:
        try:
            limiter = _limiters.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(STARTS)
            _limiters.set(limiter)
        self._wait_for(errand.done)
        await anyio.to_thread.run_sync(errand.work, limiter=limiter)
        return errand.made[0]

    def _wait_for(self, event: threading.Event) -> None:
        self._pending = {other for other in self._pending if not other.is_set()} | {event}


class AsyncPool(AsyncSandbox):
    """`Pool` for an event loop: boxes that stand ready, as many as `size`, of which so many are used at once; further
    callers wait. policy, policy_fields, preload, warm, functions, packages, guest: as for `Pool`. interceptors, audit,
    guest_library: as for `AsyncSandbox`.
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] | None = None,
        *,
        size: int = 4,
        preload: Iterable[str] = (),
        functions: Functions | None = None,
        warm: bool = True,
        packages: Sequence[str | os.PathLike[str]] = (),
        guest: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self.size = given.count("size", size, 1)
        given.flag("warm", warm)
        super().__init__(policy, functions=functions, warm=warm, packages=packages, guest=guest, **options)
        self.policy = with_preload(self.policy, preload, {})
        self._slots: anyio.Semaphore | None = None
        box = self._box(None)
        require_bootstrap(box.guest)
        self._ready = Boxes(box, self._functions, size, warm=warm)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncGenerator[float]:
        """Runs wait while `size` programs run."""
        asked = time.monotonic_ns()
        async with self._slot():
            yield (time.monotonic_ns() - asked) / 1e9

    @property
    def ready(self) -> int:
        """How many boxes stand ready now."""
        return self._ready.ready

    async def session(self, *, timeout: float | str | None = None) -> AsyncSession:  # type: ignore[override]
        """A session in a box that stands ready; it counts as a program that runs until it is closed. It begins in an
        empty /box, as those of `Pool` do."""
        given.duration("timeout", timeout)
        slots, door = self._slot(), loop_door()
        await slots.acquire()

        def release() -> None:
            with contextlib.suppress(RuntimeError):  # a loop that has ended
                door(slots.release)

        try:
            session = await super().session(timeout=timeout)
        except BaseException:
            slots.release()
            raise
        session._live.at_end.append(release)
        return session

    def _slot(self) -> anyio.Semaphore:
        self._check_open()
        if self._slots is None:
            self._slots = anyio.Semaphore(self.size)
        return self._slots

    def _open(self, box: Box, program: Program, stdin: Any, on_stdout: Any, on_stderr: Any) -> LiveBox:
        return self._ready.take().open(
            program.words,
            box,
            folder=folder_of(program, box.policy),
            stdin=stdin,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
        )

    def _is_void(self, outcome: Outcome, calls: int) -> bool:
        """One whose guest was killed from outside, while it stood ready."""
        return is_killed_by_others(outcome) and not calls

    def _open_session(self, files: Content | None, folder: str | os.PathLike[str] | None, stdin: Input) -> LiveSession:
        live = self._ready.take().session()
        self._copies.add(live.copies)
        return live

    def _settle(self) -> None:
        self._ready.close()
        super()._settle()


class _Errand(Generic[T]):
    """Something that takes a while, in a worker thread. asyncio's own cancellation does not wait for threads: whoever
    leaves says what is to be done `behind` it. done: set when nothing more comes of it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self.made: list[T] = []
        self.done = threading.Event()
        self._make = make
        self._lock = threading.Lock()
        self._is_running = self._is_left = False
        self._behind: Callable[[], object] | None = None

    def work(self) -> None:
        """By the worker."""
        with self._lock:
            if self._is_left:
                return
            self._is_running = True
        try:
            self.made.append(self._make())
        finally:
            with self._lock:
                self._is_running = False
                behind = self._behind
            if behind is not None:
                behind()
            self.done.set()

    def behind(self, action: Callable[[], object]) -> None:
        """Calls `action` when the worker is done with it: now, or in the worker. It is not begun any more."""
        with self._lock:
            self._is_left = True
            if self._is_running:
                self._behind = action
                return
        action()
        self.done.set()
