"""What is asked of a dask cluster before it is given anything to grade."""

from concurrent.futures import Executor


def unsafe_workers(executor: Executor) -> tuple[str, ...]:
    """The workers of dask's Executor that take modules from the folder which they were started in; none of any other
    Executor's."""
    if type(executor).__module__.partition(".")[0] != "distributed":
        return ()

    def is_safe() -> bool:
        # It stands in a function so that it crosses as it is: for one that stands in a module, workers import that.
        import os
        import sys

        variable = os.environ.get("PYTHONPATH")
        named = variable.split(os.pathsep) if variable else []
        folders = [entry for entry in sys.path if not entry.endswith(".__path_hook__")]  # setuptools', and no folder
        return bool(sys.flags.safe_path) and all(map(os.path.isabs, (*named, *folders)))

    answers = executor._client.run(is_safe)  # type: ignore[attr-defined]
    return tuple(sorted(worker for worker, safe in answers.items() if not safe))
