"""What an engine tells one task of an event loop: what is printed and shown, which coroutine functions are called, the
end.

The task is told through the loop's own door for other threads, of asyncio or trio, and only when there is something
new. A task that does not keep up lets its guest wait.
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

#: Characters, and bytes of what is shown, that wait for a task to take them: beyond that the guest's calls wait, until
#: half of them are taken.
BACKLOG = 1 << 16

Reader: TypeAlias = Callable[[str], Any] | None
ShownReader: TypeAlias = Callable[[Displayed], Any] | None


@attrs.frozen
class Over:
    """The last event. outcome: None where the guest waits for its next command. error: what no guest can have done."""

    outcome: Outcome | None
    error: BaseException | None

    def get(self) -> Outcome | None:
        """The outcome. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.outcome


def loop_door() -> Callable[[Callable[[], object]], object]:
    """How other threads have something called by the event loop that runs here."""
    trio: Any = sys.modules.get("trio")
    if trio is not None:
        with contextlib.suppress(RuntimeError):
            door: Callable[[Callable[[], object]], object] = trio.lowlevel.current_trio_token().run_sync_soon
            return door
    return asyncio.get_running_loop().call_soon_threadsafe


class Feed:
    """For one call of a guest: `serve` once, and `next` until it is Over. Made in the task that reads.

    functions: where coroutine functions are run, None where there are none.
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
        #: Set when the engine has done with the guest; for other threads.
        self.is_over = threading.Event()

    # --- by the engine ------------------------------------------------------------------------------------------------

    def tell(self, stream: str) -> Callable[[str], None]:
        """A callback for what is printed to a stream."""

        def told(text: str) -> None:
            self._add(Printed(stream, text), len(text))

        return told

    def show(self, shown: tuple[Any, ...], size: int) -> None:
        """A callback for what is shown."""
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
            with contextlib.suppress(RuntimeError):  # a loop that has ended
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
        """Has the guest served."""
        self._driver = driver
        _feeds[driver] = self
        try:
            the_engine().serve(driver, until, self._done)
        except BaseException:
            del _feeds[driver]
            raise

    async def next(self) -> Printed | Displayed | Over:
        """What has come. Who has used what was printed or shown says so: `taken`."""
        if self._events:
            await anyio.lowlevel.checkpoint()
        while not self._events:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        event, self._taking = self._events.popleft()
        return event

    def taken(self) -> None:
        """Makes room for more."""
        with self._lock:
            self._backlog -= self._taking
            if self._backlog <= BACKLOG // 2 and self._driver is not None and self._driver.is_held:
                self._driver.let_go()

    async def read(self, on_stdout: Reader, on_stderr: Reader, on_display: ShownReader = None) -> Over:
        """Hands on what is printed and shown, until it is Over."""
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
        """Nobody reads any more: the guest is told to stop. then: called when it is over, in whatever thread."""
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
        """Waits until it is over, whatever is cancelled meanwhile."""
        with anyio.CancelScope(shield=True):
            await self._ended.wait()

    # --- coroutine functions ------------------------------------------------------------------------------------------

    def want(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        done: Callable[[Any, BaseException | None], None], timeout: float | None,
    ) -> None:  # fmt: skip
        """By the engine: begins a call, in the context in which the guest was called."""
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
            except RuntimeError as error:  # the sandbox has been left
                done(None, error)

        self._wanted.append(begin)
        self._knock()


#: Whose calls are answered: by driver.
_feeds: dict[Serving, Feed] = {}


def spawn(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
    done: Callable[[Any, BaseException | None], None], timeout: float | None,
) -> None:  # fmt: skip
    """A `Spawn` (hostfunctions.py): in the loop of the task whose guest calls."""
    driver = served_here()
    feed = None if driver is None else _feeds.get(driver)
    if feed is None:
        done(None, RuntimeError("nobody can run a coroutine function now"))
    else:
        feed.want(function, args, kwargs, done, timeout)
