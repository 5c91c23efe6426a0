"""What a sandbox of an event loop has others do: worker threads, which start boxes and write large reports, the engine,
which serves guests, and a group of tasks, in which coroutine functions run."""

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from proxybox.aio.feed import Feed  # isort: skip - says what to install

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

T = TypeVar("T")

#: So many boxes are started at once: starting keeps a CPU busy.
STARTS = 2 * (os.cpu_count() or 1)

_limiters: "anyio.lowlevel.RunVar[anyio.CapacityLimiter]" = anyio.lowlevel.RunVar("proxybox-starts")


class Errand(Generic[T]):
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


class Errands:
    """Those of one sandbox. group: where coroutine functions run, None where there are none."""

    def __init__(self) -> None:
        self.group: anyio.abc.TaskGroup | None = None
        self._left = contextlib.AsyncExitStack()
        self._pending: set[threading.Event] = set()

    async def open_group(self) -> None:
        """From now on coroutine functions can run."""
        self.group = await self._left.enter_async_context(anyio.create_task_group())

    async def close_group(self) -> None:
        """Cancels those that run."""
        group, self.group = self.group, None
        if group is not None:
            group.cancel_scope.cancel()
        await self._left.aclose()

    def serve(self, feed: Feed, driver: Any, until: Callable[[], bool]) -> None:
        """Has the engine serve a guest."""
        feed.serve(driver, until)
        self._wait_for(feed.is_over)

    async def in_worker(self, make: Callable[[], T], unmake: Callable[[T], object]) -> T:
        """What a worker thread makes. Where nobody waits for it any more, it is unmade."""
        errand = Errand(make)
        try:
            return await self.send(errand)
        except BaseException:
            errand.behind(lambda: [unmake(made) for made in errand.made])
            raise

    async def send(self, errand: Errand[T]) -> T:
        """What an errand makes. Who is cancelled meanwhile says what is to be done behind it."""
        try:
            limiter = _limiters.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(STARTS)
            _limiters.set(limiter)
        self._wait_for(errand.done)
        await anyio.to_thread.run_sync(errand.work, limiter=limiter)
        return errand.made[0]

    def _wait_for(self, event: threading.Event) -> None:
        self._pending = set(self.pending()) | {event}

    def pending(self) -> tuple[threading.Event, ...]:
        """What is not done yet."""
        return tuple(event for event in self._pending if not event.is_set())

    async def settle(self, behind: Callable[[], object]) -> None:
        """Waits for all of it, whatever is cancelled meanwhile, and does what is to be done behind it."""
        pending = self.pending()

        def wait() -> None:
            for event in pending:
                event.wait()
            behind()

        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(wait)
