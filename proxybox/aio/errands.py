"""The work that a sandbox of an event loop does outside of the calling task.

Worker threads start boxes and make large reports, the engine serves guests, and a task group runs coroutine functions.
"""

import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from proxybox.aio.feed import CoroutineCalls, Feed  # isort: skip - says what to install

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

T = TypeVar("T")

#: How many boxes are started at once by one sandbox, and by all: starting keeps a CPU busy. Further starts of a sandbox
#: wait in a queue of this sandbox, so that they do not delay the starts of other sandboxes.
STARTS_OF_ONE = os.cpu_count() or 1
STARTS = 2 * STARTS_OF_ONE
#: If other sandboxes are waiting that have started less, a sandbox sleeps before its next start: this many times the
#: CPU time of its last start, and at most this many seconds. The reason is that a start runs Python code, which runs in
#: one thread at a time. The last number is the seconds for which a start counts.
_OTHERS, _LONGEST, _LATELY = 4, 0.1, 0.5


class _Loop:
    """The common data of the sandboxes of one event loop: a limiter of parallel starts, and the sandboxes' Errands."""

    def __init__(self) -> None:
        self.limiter = anyio.CapacityLimiter(STARTS)
        self.errands: weakref.WeakSet[Errands] = weakref.WeakSet()


_loops: "anyio.lowlevel.RunVar[_Loop]" = anyio.lowlevel.RunVar("proxybox-starts")


class Errand(Generic[T]):
    """Work that takes a while, in a worker thread.

    asyncio's own cancellation does not wait for threads. So a task that leaves while the work goes on passes an action
    to `behind`, which is done after the work. done: set when the errand and that action have ended. used: the CPU
    seconds of the work.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self.made: list[T] = []
        self.done = threading.Event()
        self.used = 0.0
        self._make = make
        self._lock = threading.Lock()
        self._is_running = self._is_left = False
        self._behind: Callable[[], object] | None = None

    def work(self) -> None:
        """Does the work; called in the worker thread."""
        with self._lock:
            if self._is_left:
                return
            self._is_running = True
        before = time.thread_time()
        try:
            self.made.append(self._make())
        finally:
            self.used = time.thread_time() - before
            with self._lock:
                self._is_running = False
                behind = self._behind
            if behind is not None:
                behind()
            self.done.set()

    def behind(self, action: Callable[[], object]) -> None:
        """Calls `action` after the work, or now if the work does not run. Work that has not begun is never done."""
        with self._lock:
            self._is_left = True
            if self._is_running:
                self._behind = action
                return
        action()
        self.done.set()


class Errands:
    """The errands of one sandbox. functions: begins coroutine functions; None while no task group is open."""

    def __init__(self) -> None:
        self.functions: CoroutineCalls | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._left = contextlib.AsyncExitStack()
        self._pending: set[threading.Event] = set()
        self._used, self._seen, self._last = 0.0, 0.0, 0.0  # CPU time of recent starts, at which time, and of the last
        self._starts: tuple[object, anyio.CapacityLimiter] | None = None  # of an event loop

    async def open_group(self) -> None:
        """Opens the task group: from now on coroutine functions can run."""
        self._group = await self._left.enter_async_context(anyio.create_task_group())
        self.functions = CoroutineCalls(self._group)
        self._group.start_soon(self.functions.run)

    async def close_group(self) -> None:
        """Cancels the coroutine functions that run, and closes the task group."""
        group, self._group, self.functions = self._group, None, None
        if group is not None:
            group.cancel_scope.cancel()
        await self._left.aclose()

    def serve(self, feed: Feed, driver: Any, until: Callable[[], bool]) -> None:
        """Lets the engine serve a guest."""
        feed.serve(driver, until)
        self._wait_for(feed.is_over)

    async def in_worker(self, make: Callable[[], T], unmake: Callable[[T], object]) -> T:
        """Calls `make` in a worker thread and returns its result. If the task is cancelled, `unmake` gets it."""
        errand = Errand(make)
        try:
            return await self.send(errand)
        except BaseException:
            errand.behind(lambda: [unmake(made) for made in errand.made])
            raise

    async def send(self, errand: Errand[T]) -> T:
        """Does an errand and returns its result. A caller that is cancelled must call the errand's `behind`."""
        try:
            shared = _loops.get()
        except LookupError:
            _loops.set(shared := _Loop())
        shared.errands.add(self)
        loop = anyio.lowlevel.current_token()
        if self._starts is None or self._starts[0] != loop:
            self._starts = loop, anyio.CapacityLimiter(STARTS_OF_ONE)
        self._wait_for(errand.done)
        async with self._starts[1]:
            await self._leave_to_others(shared)
            try:
                await anyio.to_thread.run_sync(errand.work, limiter=shared.limiter)
            finally:
                self._last = errand.used
                self._used = self._lately(time.monotonic()) + errand.used
        return errand.made[0]

    async def _leave_to_others(self, shared: _Loop) -> None:
        """Waits before a start if other sandboxes have work to do and have started less recently."""
        now = time.monotonic()
        others = [each._lately(now) for each in shared.errands if each is not self and each.pending()]
        if others and self._lately(now) > min(others):
            await anyio.sleep(min(self._last * _OTHERS, _LONGEST))

    def _lately(self, now: float) -> float:
        """Returns the CPU seconds that its recent starts have used."""
        self._used *= math.exp((self._seen - now) / _LATELY)
        self._seen = now
        return self._used

    def _wait_for(self, event: threading.Event) -> None:
        self._pending = set(self.pending()) | {event}

    def pending(self) -> tuple[threading.Event, ...]:
        """Returns the events of work that has not ended."""
        return tuple(event for event in self._pending if not event.is_set())

    async def settle(self, behind: Callable[[], object]) -> None:
        """Waits for all work, even when the task is cancelled meanwhile, and then calls `behind` in a worker thread."""
        pending = self.pending()

        def wait() -> None:
            for event in pending:
                event.wait()
            behind()

        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(wait)
