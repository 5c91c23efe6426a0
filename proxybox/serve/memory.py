"""Memory of the service and its workers that a rush of requests has left behind: it is given back when none comes."""

import contextlib
import ctypes
import gc


def give_back() -> None:
    """Collects garbage, and returns to the kernel what malloc keeps for later (malloc_trim(3)); some milliseconds."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)
