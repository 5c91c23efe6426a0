"""Checks a dask cluster's workers: before grading begins, and each again with its task, since some join later.

The functions that check are defined inside other functions, so that dask sends them by value: for a function of a
module, workers would import that module.
"""

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def unsafe_workers(executor: Executor) -> tuple[str, ...]:
    """The workers of dask's Executor that import modules from the folder in which they were started.

    Empty for any other Executor.
    """
    if not _is_dask(executor):
        return ()
    answers = executor._client.run(_look())  # type: ignore[attr-defined]
    return tuple(sorted(worker for worker, safe in answers.items() if not safe))


def submit(executor: Executor, function: Callable[[Task], Result], task: Task) -> "Future[Result | None]":
    """Submits a task as `Executor.submit` does.

    The result is None where one of `unsafe_workers` has received the task: it has done nothing then.
    """
    if not _is_dask(executor):
        return executor.submit(function, task)
    is_safe = _look()

    def work(packed: bytes) -> Any:  # this body is sent as it is, so it imports what it needs itself
        import pickle

        if not is_safe():
            return None
        function, task = pickle.loads(packed)  # noqa: S301 - the client's own word; it imports what they are of
        return function(task)

    return executor.submit(work, pickle.dumps((function, task)))


def _is_dask(executor: Executor) -> bool:
    return type(executor).__module__.partition(".")[0] == "distributed"


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
