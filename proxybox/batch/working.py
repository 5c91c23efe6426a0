"""The code that runs in a worker: it makes boxes for the first chunk that needs them, and keeps them for later chunks.

Boxes are kept for the same policy, interpreter, packages and functions, at most _MOST_KEPT kinds in one process. They
are closed after _IDLE seconds without work, and at the end of the process.

Rule: an item that fails by itself is an answer, too (`ItemFailed`). An exception that is raised is about the whole
chunk.
"""

import atexit
import contextlib
import gc
import hashlib
import pickle
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import attrs

from proxybox import __version__
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.controller.perprocess import PerProcess
from proxybox.controller.process.reaper import settle
from proxybox.controller.world.streams import StandardStreams
from proxybox.errors import BatchError, SandboxStartError
from proxybox.policies import Policy
from proxybox.pool.boxes import PoolBoxes
from proxybox.pool.pool import box_of
from proxybox.pool.workers import unpacked_setup
from proxybox.program import Program
from proxybox.result import Result
from proxybox.running import Running
from proxybox.sandbox import PreparedRun, policy_of_run

_MOST_KEPT: Final = 4
_IDLE: Final = 60.0
#: After this many seconds or bytes of results, no further item of a chunk is begun: the results are sent first.
_SECONDS, _MOST_BYTES = 1.0, 16 << 20
#: How many ended batches are remembered.
_MOST_ENDED: Final = 1_000
#: Seconds that the process which has begun a batch waits for its own threads to leave it.
_PATIENCE: Final = 10.0


class ItemFailed(Exception):
    """An item could not be run, and its own program is not the cause."""


@attrs.frozen
class ProgramTask:
    """A program to run. timeout: as `argumentchecks.duration` returns it."""

    program: Program
    stdin: bytes | None
    timeout: float | None

    @property
    def size(self) -> int:
        """The bytes that are sent."""
        return sum(map(len, self.program.files.values())) + len(self.stdin or b"")

    def run(self, boxes: PoolBoxes, policy: Policy, running: Running) -> Result:
        """Runs the program in one of the boxes."""
        streams, own = StandardStreams(stdin=self.stdin), policy_of_run(policy, self.timeout, None, None)
        return boxes.run(PreparedRun(program=self.program, streams=streams, policy=own, running=running))


@attrs.frozen
class FunctionTask:
    """A function to call with one value. encoded: the size of the value, in bytes."""

    name: str
    source: str
    value: Any
    timeout: float | None
    encoded: int

    @property
    def size(self) -> int:
        """The bytes that are sent."""
        return len(self.source) + self.encoded

    def run(self, boxes: PoolBoxes, _: Policy, running: Running) -> Result:
        """Calls the function in one of the boxes."""
        return boxes.call(self.name, self.source, (self.value,), {}, running, timeout=self.timeout)


#: The sender's version, a name for the batch, how boxes are made, how many run at once, and the items; the bytes
#: are pickled, so that nothing of another version is decoded.
Chunk = tuple[str, str, bytes, int, bytes]


def run_some(chunk: Chunk) -> list[bytes | Exception]:
    """Runs the items of a chunk, or the first of them, and returns their results, pickled.

    Raises BatchError when this process cannot do the work.
    """
    version, batch, setup, size, packed = chunk
    if version != __version__:
        raise BatchError(f"{_here()} has proxybox {__version__}, and the batch comes from {version}")
    items: Sequence[ProgramTask | FunctionTask] = pickle.loads(packed)  # noqa: S301 - from whoever has begun the batch
    with _room().lent(setup, size) as warm, _begun(batch) as running:
        return warm.run_some(items, running)


def prepare() -> None:
    """Prepares a process that is ours alone: exempts imported modules from garbage collections."""
    gc.freeze()


def leave() -> None:
    """Does nothing: boxes end with the process that has made them."""


def _here() -> str:
    return f"the worker on {socket.gethostname()}"


# --- boxes that are kept ----------------------------------------------------------------------------------------------


class _Warm:
    """Boxes of one kind, and threads that use them. users: how many chunks use them now.

    left: when the last chunk ended.
    """

    def __init__(self, setup: bytes, size: int) -> None:
        try:
            policy, options = unpacked_setup(setup)
            box = box_of(policy, options["guest"], options["packages"])
            functions = options["functions"]
            host = HostFunctions(functions, policy.session.value_size) if functions else None
            self.boxes = PoolBoxes(box, host, size, warm=options["warm"])
        except Exception as error:
            raise BatchError(f"{_here()} cannot make boxes: {type(error).__name__}: {error}") from error
        self._size, self._policy = size, policy
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="proxybox-batch")
        self.users = 0
        self.left = 0.0

    def run_some(self, items: Sequence[ProgramTask | FunctionTask], running: "_Batch") -> list[bytes | Exception]:
        """Runs items, as many at once as there are boxes, until the time or the bytes for results are used up."""
        end = time.monotonic() + _SECONDS
        answers: list[bytes | Exception] = []
        begun: deque[Future[bytes | Exception]] = deque()
        taken = 0
        for item in items:
            if len(begun) > self._size:  # one item waits, so that no box has to
                answers.append(begun.popleft().result())
                taken += len(answers[-1]) if isinstance(answers[-1], bytes) else 0
            if begun and (time.monotonic() >= end or taken >= _MOST_BYTES):
                break
            begun.append(self._threads.submit(self._one, item, running))
        return [*answers, *(future.result() for future in begun)]

    def _one(self, item: ProgramTask | FunctionTask, running: "_Batch") -> bytes | Exception:
        one = Running()
        running.add(one)
        try:
            if running.is_ended:
                return ItemFailed("the batch has ended")
            return pickle.dumps(item.run(self.boxes, self._policy, one))
        except SandboxStartError as error:
            return error
        except Exception as error:  # whatever the exception is, the other items have their results
            return ItemFailed(f"{type(error).__name__}: {error}")
        finally:
            running.discard(one)

    def close(self) -> None:
        """Ends the boxes."""
        self.boxes.cancel()
        self._threads.shutdown()
        self.boxes.close()
        settle()


class _Room:
    """The boxes of this process, by a digest of their settings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[bytes, _Warm] = {}
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def lent(self, setup: bytes, size: int) -> Iterator[_Warm]:
        """A context with boxes for a chunk."""
        key = hashlib.sha256(b"%d " % size + setup).digest()
        with self._lock:
            warm = self._kept.pop(key, None) or _Warm(setup, size)
            self._kept[key] = warm  # the most recently used is the last one
            warm.users += 1
        try:
            yield warm
        finally:
            with self._lock:
                warm.users -= 1
                warm.left = time.monotonic()
                self._watch()
            self.close_unused(most=_MOST_KEPT)

    def close_unused(self, *, most: int = 0, idle: float = 0.0) -> None:
        """Closes boxes that no chunk has used for `idle` seconds, except the most recently used ones.

        most: how many kinds of boxes may remain.
        """
        with self._lock:
            now = time.monotonic()
            free = [key for key, warm in self._kept.items() if not warm.users and now - warm.left >= idle]
            closing = [self._kept.pop(key) for key in free[: max(len(self._kept) - most, 0)]]
            if not self._kept and self._timer is not None and not idle:
                self._timer.cancel()
                self._timer = None
        for warm in closing:
            warm.close()

    def _watch(self) -> None:
        """Starts a timer that calls `_tidy` when boxes may have been idle for long enough."""
        if self._timer is None:
            self._timer = threading.Timer(_IDLE, self._tidy)
            self._timer.daemon = True
            self._timer.start()

    def _tidy(self) -> None:
        self.close_unused(idle=_IDLE)
        with self._lock:
            self._timer = None
            if self._kept:
                self._watch()


#: Rooms of the parent process, which a forked process must not close.
_INHERITED: list[_Room] = []
_room = PerProcess(_Room, _INHERITED.append)


def close_unused() -> None:
    """Closes boxes of this process that no chunk uses."""
    _room().close_unused()


atexit.register(close_unused)


# --- batches that end in the middle -----------------------------------------------------------------------------------


class _Batch:
    """The running items of one batch in this process. chunks: how many of its chunks run."""

    def __init__(self) -> None:
        self.chunks = 0
        self.is_ended = False
        self._ones: set[Running] = set()

    def add(self, one: Running) -> None:
        self._ones.add(one)
        if self.is_ended:
            one.cancel()

    def discard(self, one: Running) -> None:
        self._ones.discard(one)

    def end(self) -> None:
        self.is_ended = True
        for one in tuple(self._ones):
            one.cancel()


_change = PerProcess(threading.Condition)
_running = PerProcess(dict[str, _Batch])
_ENDED: deque[str] = deque(maxlen=_MOST_ENDED)


@contextlib.contextmanager
def _begun(batch: str) -> Iterator[_Batch]:
    with _change():
        if batch in _ENDED:
            raise ItemFailed("the batch has ended")
        running = _running().setdefault(batch, _Batch())
        running.chunks += 1
    try:
        yield running
    finally:
        with _change():
            running.chunks -= 1
            if not running.chunks:
                _running().pop(batch, None)
                _change().notify_all()


def end_batch(batch: str, *, wait: bool = True) -> None:
    """Cancels the running items of a batch in this process, and begins no more of them.

    wait: whether to wait for their end. It has no effect on other processes.
    """
    with _change():
        _ENDED.append(batch)
        running = _running().get(batch)
    if running is not None:
        running.end()
    if wait:
        with _change():
            _change().wait_for(lambda: batch not in _running(), _PATIENCE)
