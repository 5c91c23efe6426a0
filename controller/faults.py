"""Faults of proxybox in its threads that never end: each is reported, and the thread goes on."""

import contextlib
import threading


def fault(error: BaseException) -> None:
    """Reports an exception that no caller waits for to threading.excepthook, as an uncaught one in any thread."""
    hook_args = threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
    with contextlib.suppress(BaseException):  # the hook may be the caller's own, and fail
        threading.excepthook(hook_args)
