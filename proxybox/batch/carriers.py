"""Carriers, which send tasks to workers: processes of ours, and any Executor. clusters.py has those of dask and Ray."""

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from proxybox.pool.executor import Processes


def cpu_count() -> int:
    """Returns the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


class Executors:
    """Any Executor, which is not shut down here.

    workers: how many tasks it works on at once; None for the number that it reports, or the number of CPUs.
    There is one more task than workers, so that no worker has to wait for the next task.
    """

    pause: float | None = None

    def __init__(self, executor: Executor, workers: int | None = None) -> None:
        self._executor = executor
        self._workers: int = workers or getattr(executor, "_max_workers", None) or cpu_count()
        self._given = 0
        #: Whether only the task itself can cause its failure: each process has one task at a time, no thread ends by
        #: itself, and multiprocessing's processes break all together.
        self._is_exact = isinstance(executor, Processes | ThreadPoolExecutor | ProcessPoolExecutor)
        self._is_kept = False

    @property
    def workers(self) -> int:
        """How many tasks are worked on at once."""
        return self._workers

    def has_room(self, *, alone: bool = False) -> bool:
        """Whether a task may be submitted now."""
        if self._is_exact or not alone:
            return self._given <= self._workers and not self._is_kept
        return not self._given

    def submit(self, work: Callable[[Any], Any], task: Any, *, alone: bool = False) -> "Future[Any]":
        """Gives a task to the Executor."""
        future = self._executor.submit(work, task)
        self._given += 1
        self._is_kept = alone and not self._is_exact
        return future

    def taken(self, _: "Future[Any]") -> None:
        """Notes that a task is over."""
        self._given -= 1
        self._is_kept = False

    def look(self) -> None:
        """Does nothing: an Executor reports itself when a task has failed."""
