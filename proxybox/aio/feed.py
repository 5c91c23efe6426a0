"""What the engine tells one task of an event loop: output, things shown, calls of coroutine functions, and the end.

The engine's thread reaches the task through the loop's own function for other threads (asyncio's call_soon_threadsafe,
trio's run_sync_soon), and only when there is something new. While a task does not keep up, its guest waits.
"""

import asyncio
import contextlib
import contextvars
import inspect
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

try:
    import anyio
    import anyio.abc
    import anyio.lowlevel
except ModuleNotFoundError as error:
    raise ImportError("AsyncSandbox and its like need anyio: pip install 'proxybox[async]'") from error
import attrs

from proxybox.commands import Displayed, displayed_of
from proxybox.controller.drivers.engine import served_here, the_engine
from proxybox.controller.drivers.serving import Outcome, Serving
from proxybox.session import Printed

#: Characters of output, and bytes of things shown, that may wait for a task. When there are more, the guest's calls
#: wait until no more than half of this number is left.
BACKLOG = 1 << 16

Reader: TypeAlias = Callable[[str], Any] | None
ShownReader: TypeAlias = Callable[[Displayed], Any] | None


@attrs.frozen
class Over:
    """The last event. outcome: None when the guest waits for its next command. error: a fault that no guest causes."""

    outcome: Outcome | None
    error: BaseException | None

    def get(self) -> Outcome | None:
        """Returns the outcome, or raises the error."""
        if self.error is not None:
            raise self.error
        return self.outcome


def loop_door() -> Callable[[Callable[[], object]], object]:
    """Returns the function by which other threads have something called in the event loop that runs here."""
    trio: Any = sys.modules.get("trio")
    if trio is not None:
        with contextlib.suppress(RuntimeError):
            door: Callable[[Callable[[], object]], object] = trio.lowlevel.current_trio_token().run_sync_soon
            return door
    return asyncio.get_running_loop().call_soon_threadsafe


class Feed:
    """The events of one call of a guest: call `serve` once, then `next` until it returns Over.

    It has to be made in the task that reads. functions: the task group for coroutine functions, or None.
    """

    def __init__(self, functions: "anyio.abc.TaskGroup | None" = None) -> None:
        self._door = loop_door()
        self._functions = functions
        self._context = contextvars.copy_context() if functions is not None else None
        self._calls: set[anyio.CancelScope] = set()
        self._lock = threading.Lock()
        self._events: deque[tuple[Printed | Displayed | Over, int]] = deque()  # with their sizes
        self._wanted: deque[Callable[[], object]] = deque()
        self._knocked = False
        self._arrived = anyio.Event()
        self._ended = anyio.Event()
        self._backlog = self._taking = 0
        self._driver: Serving | None = None
        self._over: Over | None = None
        self._then: Callable[[Over], object] | None = None
        #: For other threads: set when the engine has finished with the guest.
        self.is_over = threading.Event()

    # --- called by the engine -----------------------------------------------------------------------------------------

    def tell(self, stream: str) -> Callable[[str], None]:
        """Returns a callback for what is printed to a stream."""

        def told(text: str) -> None:
            self._add(Printed(stream, text), len(text))

        return told

    def show(self, shown: tuple[Any, ...], size: int) -> None:
        """Takes what the guest shows; a callback."""
        self._add(displayed_of(shown), size)

    def _add(self, event: Printed | Displayed, size: int) -> None:
        with self._lock:
            self._events.append((event, size))
            self._backlog += size
            if self._backlog > BACKLOG and self._driver is not None:
                self._driver.hold()
        self._knock()

    def _done(self, outcome: Outcome | None, error: BaseException | None) -> None:
        over = Over(outcome, error)
        with self._lock:
            if self._driver is not None:
                _feeds.pop(self._driver, None)
            self._over, then = over, self._then
            self._events.append((over, 0))
        if then is not None:
            then(over)
        self.is_over.set()
        self._knock()

    def _knock(self) -> None:
        if not self._knocked:
            self._knocked = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._door(self._come_in)

    # --- in the loop --------------------------------------------------------------------------------------------------

    def _come_in(self) -> None:
        self._knocked = False
        while self._wanted:
            self._wanted.popleft()()
        if self._over is not None:
            self._ended.set()
            for scope in tuple(self._calls):
                scope.cancel()
        self._arrived.set()

    def serve(self, driver: Serving, until: Callable[[], bool]) -> None:
        """Lets the engine serve the guest."""
        self._driver = driver
        _feeds[driver] = self
        try:
            the_engine().serve(driver, until, self._done)
        except BaseException:
            del _feeds[driver]
            raise

    async def next(self) -> Printed | Displayed | Over:
        """Waits for the next event and returns it. The reader calls `taken` when it has used output or things shown."""
        if self._events:
            await anyio.lowlevel.checkpoint()
        while not self._events:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        event, self._taking = self._events.popleft()
        return event

    def taken(self) -> None:
        """Makes room for further events: the event that `next` returned last no longer counts."""
        with self._lock:
            self._backlog -= self._taking
            if self._backlog <= BACKLOG // 2 and self._driver is not None and self._driver.is_held:
                self._driver.let_go()

    async def read(self, on_stdout: Reader, on_stderr: Reader, on_display: ShownReader = None) -> Over:
        """Passes output and things shown to the callbacks until the end, and returns the Over."""
        while not isinstance(event := await self.next(), Over):
            told: Any = None
            if isinstance(event, Displayed):
                told = None if on_display is None else on_display(event)
            elif (reader := on_stdout if event.stream == "stdout" else on_stderr) is not None:
                told = reader(event.text)
            if inspect.isawaitable(told):
                await told
            self.taken()
        return event

    def leave(self, stop: Callable[[], object], then: Callable[[Over], object]) -> None:
        """Stops the guest, because its task no longer reads. then: called at the end, in any thread."""
        with self._lock:
            over = self._over
            if over is None:
                self._then = then
        if over is not None:
            then(over)
            return
        stop()
        if self._driver is not None:
            self._driver.let_go(for_good=True)

    async def ended(self) -> None:
        """Waits for the end, even when the task is cancelled meanwhile."""
        with anyio.CancelScope(shield=True):
            await self._ended.wait()

    # --- coroutine functions ------------------------------------------------------------------------------------------

    def want(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        done: Callable[[Any, BaseException | None], None], timeout: float | None,
    ) -> None:  # fmt: skip
        """Begins a call of a coroutine function, in the context in which the guest was called; for the engine."""
        group, context = self._functions, self._context
        if group is None or context is None:
            done(None, RuntimeError("coroutine functions are called within `async with` their sandbox"))
            return

        async def call() -> None:
            if self._over is not None:
                return
            with anyio.move_on_after(timeout) as scope:
                self._calls.add(scope)
                try:
                    result = await function(*args, **kwargs)
                except Exception as error:
                    done(None, error)
                else:
                    done(result, None)
                finally:
                    self._calls.discard(scope)

        def begin() -> None:
            try:
                context.run(group.start_soon, call)
            except RuntimeError as error:  # the task group of the sandbox is closed
                done(None, error)

        self._wanted.append(begin)
        self._knock()


#: The feeds whose guests are served now, by driver.
_feeds: dict[Serving, Feed] = {}


def spawn(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
    done: Callable[[Any, BaseException | None], None], timeout: float | None,
) -> None:  # fmt: skip
    """Runs a coroutine function in the loop of the task whose guest calls it. It is a `Spawn` (hostfunctions.py)."""
    driver = served_here()
    feed = None if driver is None else _feeds.get(driver)
    if feed is None:
        done(None, RuntimeError("nobody can run a coroutine function now"))
    else:
        feed.want(function, args, kwargs, done, timeout)
