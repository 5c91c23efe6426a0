"""What is asked of a dask cluster before it is given anything to grade."""

from concurrent.futures import Executor


def unsafe_workers(executor: Executor) -> tuple[str, ...]:
    """The workers of dask's Executor that take modules from the folder which they were started in; none of any other
    Executor's."""
    if type(executor).__module__.partition(".")[0] != "distributed":
        return ()

    def is_safe() -> bool:
        # It stands in a function so that it crosses as it is: where one of a module is sent, workers import that module.
        import os
        import sys

        return bool(sys.flags.safe_path) and all(os.path.isabs(entry) for entry in sys.path)

    answers = executor._client.run(is_safe)  # type: ignore[attr-defined]
    return tuple(sorted(worker for worker, safe in answers.items() if not safe))
