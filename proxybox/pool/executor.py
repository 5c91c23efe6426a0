"""An Executor of worker processes (workers.py), for work that takes long: grading.

    submit ── queue ── a thread for each process ── its socket ── the process: a task at a time, in its main thread

When a process ends in the middle of a task, the task raises WorkerEnded, and the next task gets another process. The
processes end with the process that started them, even if that is killed.
"""

import contextlib
import os
import pickle
import queue
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Set
from concurrent.futures import Executor, Future
from multiprocessing.connection import Connection
from typing import Any

import attrs

from proxybox.controller.process.cpus import shares_of_cpus
from proxybox.pool.workers import Worker

#: Seconds after which a process whose parent has ended exits even if its main thread ignores the signal.
_DEAF = 5
#: Seconds that `end` waits for processes before it kills them.
_PATIENCE = 1


class WorkerEnded(Exception):
    """The process of a task ended in the middle of the task."""


class WorkerLeft(WorkerEnded):
    """The process of a task was ended by its owner: the task has not caused it."""


@attrs.frozen
class _Task:
    """A task. data: the function, which has to be importable, and its arguments of plain data, pickled."""

    future: "Future[Any]"
    data: bytes


class Processes(Executor):
    """At most `size` processes, among which the CPUs are divided as among those of a pool.

    prepare: a function that each process calls first. leave: a function that a process calls when it is ended in the
    middle of a task. Both have to be importable.
    """

    def __init__(self, size: int, *, prepare: Callable[[], object], leave: Callable[[], object]) -> None:
        self._shares = shares_of_cpus(size)
        self._setup = prepare, leave
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._workers: dict[threading.Thread, Worker] = {}
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Adds a task, as Executor.submit does. Raises OSError when no process can be started."""
        task = _Task(Future(), pickle.dumps((fn, args, kwargs)))
        with self._lock:
            if self._closed:
                raise RuntimeError("these processes were shut down")
            if len(self._workers) < len(self._shares):
                worker = self._start(self._shares[len(self._workers)])
                thread = threading.Thread(target=self._serve, name="proxybox-executor", daemon=True)
                self._workers[thread] = worker
                thread.start()
        self._tasks.put(task)
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Does what Executor.shutdown does."""
        with self._lock:
            self._closed = True
        while cancel_futures:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is not None:
                task.future.cancel()
        threads = tuple(self._workers)
        for _ in threads:
            self._tasks.put(None)
        if wait:
            for thread in threads:
                thread.join()

    def end(self) -> None:
        """Ends running tasks and their processes, and kills the processes that do not end."""
        with self._lock:
            self._closed = True
            for worker in self._workers.values():
                worker.process.terminate()
            end = time.monotonic() + _PATIENCE
            for worker in self._workers.values():
                try:
                    worker.process.wait(max(end - time.monotonic(), 0))
                except subprocess.TimeoutExpired:
                    worker.process.kill()

    # --- a thread for each process ------------------------------------------------------------------------------------

    def _start(self, cpus: Set[int]) -> Worker:
        return Worker(__name__, *self._setup, cpus=cpus)

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            if task.future.set_running_or_notify_cancel():
                try:
                    is_well, value = self._ask(task.data)
                except Exception as error:
                    is_well, value = False, error
                if is_well:
                    task.future.set_result(value)
                else:
                    task.future.set_exception(value)
        worker = self._workers[threading.current_thread()]
        worker.close()
        worker.end()

    def _ask(self, data: bytes) -> tuple[bool, Any]:
        """Returns whether a task succeeded, and its value or its exception. Raises WorkerEnded or OSError."""
        me = threading.current_thread()
        with self._lock:
            worker = self._workers[me]
            if worker.process.poll() is not None and not self._closed:
                worker.close()
                worker = self._workers[me] = self._start(worker.cpus)
        (connection,) = worker.connections
        try:
            connection.send_bytes(data)
            answer = connection.recv_bytes()
        except (EOFError, OSError):
            worker.close()
            worker.end()
            raise WorkerEnded(f"its process has ended ({_how(worker.process.returncode)})") from None
        is_well, value = pickle.loads(answer)  # noqa: S301 - from our own worker
        return is_well, value


def _how(status: int) -> str:
    """Returns the end of a process, in words."""
    return signal.strsignal(-status) or f"signal {-status}" if status < 0 else f"exit status {status}"


# --- in a worker process ----------------------------------------------------------------------------------------------


def serve(connections: list[Connection], prepare: Callable[[], object], leave: Callable[[], object]) -> None:
    """Carries out tasks until the other end of the socket is closed.

    SIGTERM ends the process, and so does the closing of the socket in the middle of a task.
    """
    (connection,) = connections
    signal.signal(signal.SIGTERM, lambda *_: _leave(leave))
    threading.Thread(target=_end_with_parent, args=(connection.fileno(), leave), daemon=True).start()
    prepare()
    with contextlib.suppress(EOFError, OSError):
        while True:
            function, args, kwargs = pickle.loads(connection.recv_bytes())  # noqa: S301 - from our own parent
            try:
                answer = True, function(*args, **kwargs)
            except BaseException as error:
                answer = False, error
            connection.send_bytes(_pickled(answer))


def _pickled(answer: tuple[bool, Any]) -> bytes:
    try:
        return pickle.dumps(answer)
    except Exception as error:  # pickle raises whatever the methods of an object raise
        return pickle.dumps((False, RuntimeError(f"cannot be sent: {error}; {answer[1]!r}"[:4096])))


def _end_with_parent(fd: int, leave: Callable[[], object]) -> None:
    """Ends the process when its parent has been killed or has closed the socket: its answers are not needed then.

    The main thread is interrupted first, so that it makes no files while files are removed. It may not react to
    signals, in a library that computes; then the process ends after _DEAF seconds.
    """
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_DEAF)
    _leave(leave)


def _leave(leave: Callable[[], object]) -> None:
    leave()
    os._exit(128 + signal.SIGTERM)
