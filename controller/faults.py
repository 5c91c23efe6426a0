"""Faults of proxybox in its threads that never end: each is reported, and the thread continues."""

import contextlib
import threading


def fault(error: BaseException) -> None:
    """Reports an exception without a waiting caller to threading.excepthook, as an uncaught exception of a thread."""
    hook_args = threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
    with contextlib.suppress(BaseException):  # the hook may be the caller's own, and raise
        threading.excepthook(hook_args)
