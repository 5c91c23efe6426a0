"""The events that the engine sends to one task of an event loop: output, displayed data, coroutine calls, the end.

The engine's thread reaches the task through the loop's own function for other threads (asyncio's call_soon_threadsafe,
trio's run_sync_soon), and only when there is a new event. If a task is too slow, its guest waits.

Exceptions of the caller's functions are handled by the rules of controller/callers.py, in `Feed.read`, `Feed.want` and
`Over.get`. A cancellation passes only if a scope around the task, or the task itself, was cancelled.
"""

import asyncio
import contextlib
import contextvars
import inspect
import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

try:
    import anyio
    import anyio.abc
    import anyio.lowlevel
except ModuleNotFoundError as error:
    raise ImportError("AsyncSandbox and its like need anyio: pip install 'proxybox[async]'") from error
import attrs

from proxybox.commands import Displayed, displayed_of
from proxybox.controller.callers import is_of_signal
from proxybox.controller.drivers.engine import served_here, the_engine
from proxybox.controller.drivers.serving import Outcome, Serving
from proxybox.controller.errors import CallbackError
from proxybox.session import Printed

#: Characters of output, and bytes of displayed data, that may wait for a task. When there are more, the guest's calls
#: wait until at most half of this number is left.
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
        if isinstance(self.error, Exception):
            raise self.error
        if self.error is not None:
            raise CallbackError(self.error) from self.error
        return self.outcome


def loop_door() -> Callable[[Callable[[], object]], object]:
    """Returns the function with which other threads schedule a call in the event loop that runs here."""
    trio: Any = sys.modules.get("trio")
    if trio is not None:
        with contextlib.suppress(RuntimeError):
            door: Callable[[Callable[[], object]], object] = trio.lowlevel.current_trio_token().run_sync_soon
            return door
    return asyncio.get_running_loop().call_soon_threadsafe


class CoroutineCalls:
    """Begins the calls of coroutine functions in a task group: `run` is a task of that group.

    Only a task can begin another one, and functions that other threads schedule in the loop (`loop_door`) are in no
    task.
    """

    def __init__(self, group: "anyio.abc.TaskGroup") -> None:
        self._group = group
        self._wanted: deque[tuple[contextvars.Context, Callable[[], Coroutine[Any, Any, None]]]] = deque()
        self._arrived = anyio.Event()
        self._is_over = False

    def begin(self, context: contextvars.Context, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Passes a call to `run`, in the loop's thread. Raises RuntimeError when the group is closed."""
        if self._is_over:
            raise RuntimeError("the sandbox is closed")
        self._wanted.append((context, call))
        self._arrived.set()

    async def run(self) -> None:
        """Begins calls until the group is cancelled."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived = anyio.Event()
                while self._wanted:
                    context, call = self._wanted.popleft()
                    context.run(self._group.start_soon, call)
        finally:
            self._is_over = True


class Feed:
    """The events of one call of a guest: call `serve` once, then `next` until it returns Over.

    It must be made in the task that reads. functions: begins coroutine functions, or None.
    """

    def __init__(self, functions: CoroutineCalls | None = None) -> None:
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
        """Returns a callback for the text that is printed to a stream."""

        def answer(text: str) -> None:
            self._add(Printed(stream, text), len(text))

        return answer

    def show(self, shown: tuple[Any, ...], size: int) -> None:
        """Adds an event for data that the guest displays; a callback."""
        self._add(displayed_of(shown), size)

    def _add(self, event: Printed | Displayed, size: int) -> None:
        with self._lock:
            self._events.append((event, size))
            self._backlog += size
            if self._backlog > BACKLOG and self._driver is not None:
                self._driver.hold()
        self._wake_loop()

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
        self._wake_loop()

    def _wake_loop(self) -> None:
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
        """Waits for the next event and returns it. After output or displayed data, the reader calls `taken`."""
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
        """Passes output and displayed data to the callbacks until the end, and returns the Over."""
        while not isinstance(event := await self.next(), Over):
            if isinstance(event, Displayed):
                await _told(on_display, event)
            else:
                await _told(on_stdout if event.stream == "stdout" else on_stderr, event.text)
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
        functions, context = self._functions, self._context
        if functions is None or context is None:
            done(None, RuntimeError("coroutine functions are called within `async with` their sandbox"))
            return

        async def call() -> None:
            if self._over is not None:
                return
            with anyio.move_on_after(timeout) as scope:
                self._calls.add(scope)
                try:
                    result = await function(*args, **kwargs)
                except BaseException as error:
                    if _is_cancellation(error) or is_of_signal(error):
                        raise
                    done(None, error)
                else:
                    done(result, None)
                finally:
                    self._calls.discard(scope)
            await _forget_cancellation()

        def begin() -> None:
            try:
                functions.begin(context, call)
            except RuntimeError as error:
                done(None, error)

        self._wanted.append(begin)
        self._wake_loop()


async def _told(reader: Callable[[Any], Any] | None, what: Any) -> None:
    """Calls a callback such as `on_stdout`, a function or a coroutine function, in the task of its caller."""
    if reader is None:
        return
    try:
        answer = reader(what)
        if inspect.isawaitable(answer):
            await answer
    except Exception:
        raise
    except BaseException as error:
        if _is_cancellation(error) or _is_cancelled_itself() or is_of_signal(error):
            raise
        raise CallbackError(error) from error


def _is_cancellation(error: BaseException) -> bool:
    """Whether an exception is only a cancellation of the running code, by a scope around it.

    The CancelledError of another task or future that was cancelled while the code waited for it is none.
    """
    kind = anyio.get_cancelled_exc_class()
    is_one = error.split(kind)[1] is None if isinstance(error, BaseExceptionGroup) else isinstance(error, kind)
    return is_one and anyio.current_effective_deadline() == -math.inf


def _task() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:  # trio: there only scopes are cancelled
        return None


def _is_cancelled_itself() -> bool:
    """Whether somebody has cancelled the running task, and not a scope around it (asyncio's `Task.cancel`)."""
    task = _task()
    return task is not None and task.cancelling() > 0


async def _forget_cancellation() -> None:
    """Undoes a cancellation by a function of the task that it ran in: a task group would take it for its own end.

    If the group itself was cancelled, its scope cancels the task again and again.
    """
    task = _task()
    while task is not None and task.cancelling() and anyio.current_effective_deadline() != -math.inf:
        task.uncancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


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
