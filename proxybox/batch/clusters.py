"""Carriers to other machines: the workers of a dask cluster, and Ray.

A task is lost with its worker, and only our own engine gives it to another one: dask and Ray are configured not to run
it again, because only the engine knows which items have answers. So a task of dask is bound to one worker, and would
wait for that one forever; a worker that is no longer known to the scheduler has ended, or was told to leave (retired,
or closed by its nanny). The events of the scheduler tell which. dask itself blames each task that a worker had when it
ended (KilledWorker, after `allowed-failures`), so this error is not used as evidence.

Rule: a worker that could import modules from the folder in which it was started gets no task, because others may write
there. The functions that check this are defined inside other functions, so that dask sends them by value: for a
function of a module, workers would import that module.
"""

import pickle
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from proxybox import __version__
from proxybox.errors import BatchError
from proxybox.pool.executor import WorkerEnded, WorkerLeft

#: Seconds between two checks of the workers of a cluster, and seconds that it may have none.
_PAUSE, _PATIENCE = 0.25, 60.0
#: Threads that fetch results.
_TAKERS: Final = 4


def client_of(executor: object) -> Any:
    """Returns dask's client for itself or its Executor; None for any other object."""
    if all(each.__module__.partition(".")[0] != "distributed" for each in type(executor).__mro__):
        return None
    client = getattr(executor, "_client", None) if isinstance(executor, Executor) else executor
    return client if hasattr(client, "nthreads") else None


class Dask:
    """The workers of a dask cluster. Those that join later are used, too.

    most: how many tasks they work on at once; None for the number of their threads. Raises BatchError for a cluster
    without workers, and for workers that are unsafe.
    """

    pause: float | None = _PAUSE

    def __init__(self, client: Any, most: int | None = None) -> None:
        if client.asynchronous:
            raise BatchError("executor: want a dask client that is not asynchronous")
        self._client = client
        self._most = most
        self._threads: dict[str, int] = {}
        self._given: dict[Future[Any], tuple[str, Any]] = {}
        self._kept: set[str] = set()
        self._last = "none of them had work"
        self._looked = self._seen = time.monotonic()
        self._carry = _carry()
        self.look(is_first=True)
        if not self._threads:
            raise BatchError("the cluster has no workers")
        if unsafe := unsafe_workers(client):
            raise unsafe_error(f"{len(unsafe)} of the cluster's workers (such as {unsafe[0]}) take")
        self._takers = ThreadPoolExecutor(_TAKERS, thread_name_prefix="proxybox-batch")

    @property
    def workers(self) -> int:
        """How many tasks are worked on at once."""
        threads = sum(self._threads.values())
        return threads if self._most is None else min(self._most, threads)

    def has_room(self, *, alone: bool = False) -> bool:
        """Whether a task may be submitted now."""
        return (self._most is None or len(self._given) <= self._most) and self._best(alone) is not None

    def submit(self, work: Callable[[Any], Any], task: Any, *, alone: bool = False) -> "Future[Any]":
        """Gives a task to the worker that has the least to do."""
        address = self._best(alone)
        if address is None:
            raise BatchError("the cluster has no worker that could take a task")
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        packed = pickle.dumps((work, task))
        there = self._client.submit(
            self._carry, __version__, packed, workers=[address], allow_other_workers=False, pure=False
        )
        self._given[future] = address, there
        if alone:
            self._kept.add(address)
        there.add_done_callback(lambda _: future.done() or self._takers.submit(self._fetch, future, there, address))
        return future

    def taken(self, future: "Future[Any]") -> None:
        """Notes that a task is over."""
        address, _ = self._given.pop(future)
        self._kept.discard(address)

    def look(self, *, is_first: bool = False) -> None:
        """Requests the list of workers. Tasks of workers that have ended raise WorkerEnded."""
        now = time.monotonic()
        if now - self._looked < _PAUSE and not is_first:
            return
        self._looked = now
        try:
            self._threads = dict(self._client.nthreads())
        except Exception as error:  # errors of tornado, asyncio or dask itself
            raise BatchError(f"the cluster's scheduler does not answer: {error}") from error
        lost = {address for address, _ in self._given.values()} - self._threads.keys()
        ends = {address: self._end_of(address) for address in lost}
        for future, (address, there) in tuple(self._given.items()):
            if address in ends and not future.done():
                self._last = str(ends[address])
                _settle(future, ends[address])
                there.cancel()
        if self._threads:
            self._seen = now
        elif now - self._seen > _PATIENCE:
            raise BatchError(f"the cluster has had no workers for {_PATIENCE:g} seconds: {self._last}")

    def close(self, end: Callable[[], object] | None = None) -> None:
        """Cancels all tasks.

        end: called by workers that have tasks of ours, to end these; it is sent by value.
        """
        busy = {address for address, _ in self._given.values()} & self._threads.keys()
        for future, (_, there) in self._given.items():
            _settle(future, WorkerEnded("nobody waits for it any more"))
            with suppress(Exception):  # the scheduler may have ended
                there.cancel()
        if busy and end is not None:
            with suppress(Exception):
                self._client.run(end, workers=sorted(busy))
        self._given.clear()
        self._takers.shutdown(wait=False)

    def _best(self, alone: bool) -> str | None:
        """Returns the worker with the fewest tasks for its threads; if the task is `alone`, a worker without tasks."""
        assigned = dict.fromkeys(self._threads, 0)
        for address, _ in self._given.values():
            if address in assigned:
                assigned[address] += 1
        free = [
            address
            for address, count in assigned.items()
            if address not in self._kept and count < (1 if alone else self._threads[address] + 1)
        ]
        return min(free, key=lambda each: assigned[each] / max(self._threads[each], 1), default=None)

    def _end_of(self, address: str) -> WorkerEnded:
        """Returns the error for a worker that was told to leave, or has ended by itself."""
        is_closing = was_told = False
        with suppress(Exception):  # the scheduler may have ended
            for _, event in self._client.get_events(address):
                match event.get("action"):
                    case "add-worker":  # perhaps a new worker at this address
                        is_closing = False
                    case "closing-worker":
                        is_closing = True
                    case "remove-worker":
                        was_told = is_closing or bool(event.get("expected"))
        if was_told:
            return WorkerLeft(f"the worker {address} was told to leave")
        return WorkerEnded(f"the worker {address} has ended")

    def _fetch(self, future: "Future[Any]", there: Any, address: str) -> None:
        """Sets the outcome of a task from its result; in a thread of its own."""
        try:
            kind, outcome = there.result()
        except BaseException as error:
            is_cancelled = isinstance(error, CancelledError) or not isinstance(error, Exception)
            is_dasks = is_cancelled or type(error).__module__ == "distributed.scheduler"  # such as KilledWorker
            _settle(future, self._end_of(address) if is_dasks else error)
            return
        finally:
            there.release()
        if kind == "answer":
            _settle(future, None, outcome)
        elif kind == "unsafe":
            _settle(future, unsafe_error("Workers that have joined the cluster meanwhile take"))
        else:
            _settle(future, BatchError(outcome))


def _settle(future: "Future[Any]", error: BaseException | None, value: Any = None) -> None:
    """Sets the outcome of a task, unless it has one: a worker may end after it has sent the result."""
    with suppress(InvalidStateError):
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)


def unsafe_error(who: str) -> BatchError:
    """Returns the error for workers that import modules from any folder."""
    return BatchError(
        f"{who} Python modules from the folder that they were started in, whoever may write there: start them with "
        "PYTHONSAFEPATH=1 dask worker ..., and without empty or relative entries in PYTHONPATH"
    )


def unsafe_workers(client: Any) -> tuple[str, ...]:
    """Returns the workers of a dask cluster that import modules from the folder in which they were started."""
    answers = client.run(_look())
    return tuple(sorted(worker for worker, safe in answers.items() if not safe))


def _look() -> Callable[[], bool]:
    def is_safe() -> bool:
        import os
        import sys

        variable = os.environ.get("PYTHONPATH")
        named = variable.split(os.pathsep) if variable else []
        # setuptools adds such entries; they are no folders
        folders = [entry for entry in sys.path if not entry.endswith(".__path_hook__")]
        return bool(sys.flags.safe_path) and all(map(os.path.isabs, (*named, *folders)))

    return is_safe


def _carry() -> Callable[[str, bytes], tuple[str, Any]]:
    is_safe = _look()

    def carry(version: str, packed: bytes) -> tuple[str, Any]:  # sent by value, so it imports all that it needs
        import pickle

        if not is_safe():
            return "unsafe", None
        try:
            import proxybox
        except ImportError as error:
            return "fault", f"a worker of the cluster cannot import proxybox: {error}"
        if proxybox.__version__ != version:
            return "fault", f"a worker of the cluster has proxybox {proxybox.__version__}, and {version} is here"
        work, task = pickle.loads(packed)  # noqa: S301 - the client's own word; it imports what they are of
        return "answer", work(task)

    return carry


# --- Ray --------------------------------------------------------------------------------------------------------------


class Ray:
    """The workers of a Ray cluster, to which `ray.init` has connected this process.

    workers: how many tasks it works on at once; None for the number of its CPUs.
    """

    pause: float | None = None

    def __init__(self, workers: int | None = None) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise BatchError(f"executor: 'ray' needs {error.name}, which is not installed: pip install ray") from None
        if not ray.is_initialized():
            raise BatchError("executor: 'ray' wants a connection, which ray.init(...) makes")
        self._ray = ray
        self._workers = workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        self._work = ray.remote(max_retries=0)(_work)
        self._given: dict[Future[Any], Any] = {}

    @property
    def workers(self) -> int:
        """How many tasks are worked on at once."""
        return self._workers

    def has_room(self, *, alone: bool = False) -> bool:
        """Whether a task may be submitted now. Each process of Ray's has one task at a time."""
        return len(self._given) <= self._workers

    def submit(self, work: Callable[[Any], Any], task: Any, *, alone: bool = False) -> "Future[Any]":
        """Gives a task to Ray."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        there = self._work.remote(__version__, pickle.dumps((work, task)))
        self._given[future] = there
        there.future().add_done_callback(lambda done: self._fetch(future, done))
        return future

    def taken(self, future: "Future[Any]") -> None:
        """Notes that a task is over."""
        del self._given[future]

    def look(self) -> None:
        """Does nothing: Ray reports itself when a worker has ended."""

    def close(self) -> None:
        """Ends the processes of tasks that run."""
        for future, there in self._given.items():
            _settle(future, WorkerEnded("nobody waits for it any more"))
            with suppress(Exception):  # Ray may have ended
                self._ray.cancel(there, force=True)
        self._given.clear()

    def _fetch(self, future: "Future[Any]", done: "Future[Any]") -> None:
        error = done.exception()
        if error is None:
            _settle(future, None, done.result())
        elif isinstance(error, self._ray.exceptions.RayTaskError):
            _settle(future, error.as_instanceof_cause())  # the exception of our own function
        else:
            left = isinstance(error, self._ray.exceptions.NodeDiedError)  # a whole machine has ended
            _settle(future, (WorkerLeft if left else WorkerEnded)(f"{type(error).__name__}: {error}"))


def _work(version: str, packed: bytes) -> Any:
    """Does a task; in a worker of Ray."""
    if version != __version__:
        raise BatchError(f"a worker of Ray's has proxybox {__version__}, and {version} is where the work comes from")
    work, task = pickle.loads(packed)  # noqa: S301 - the word of whoever has started it
    return work(task)
