"""Faults of our own in threads that last: they are told, and the thread goes on."""

import contextlib
import threading


def fault(error: BaseException) -> None:
    """Tells of an exception that no caller waits for, as an uncaught one in any thread is (threading.excepthook)."""
    told = threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
    with contextlib.suppress(BaseException):  # the hook may be the program's own
        threading.excepthook(told)
