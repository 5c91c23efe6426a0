"""What is asked of a dask cluster's workers: before they are given anything to grade, and of each with its task, since
some join later.

What asks is defined inside of functions, so that it crosses as it is: for a function of a module, workers import that.
"""

import pickle
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def unsafe_workers(executor: Executor) -> tuple[str, ...]:
    """The workers of dask's Executor that take modules from the folder which they were started in; none of any other
    Executor's."""
    if not _is_dask(executor):
        return ()
    answers = executor._client.run(_look())  # type: ignore[attr-defined]
    return tuple(sorted(worker for worker, safe in answers.items() if not safe))


def submit(executor: Executor, function: Callable[[Task], Result], task: Task) -> "Future[Result | None]":
    """As `Executor.submit`. The result is None where one of `unsafe_workers` has got it: it has done nothing."""
    if not _is_dask(executor):
        return executor.submit(function, task)
    is_safe = _look()

    def work(packed: bytes) -> Any:  # what stands here crosses, too
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
        folders = [entry for entry in sys.path if not entry.endswith(".__path_hook__")]  # setuptools', and no folder
        return bool(sys.flags.safe_path) and all(map(os.path.isabs, (*named, *folders)))

    return is_safe
