"""Returns memory of the service and its workers to the kernel when no requests arrive after many."""

import contextlib
import ctypes
import gc


def give_back() -> None:
    """Collects garbage, and returns free memory of malloc to the kernel (malloc_trim(3)); takes some milliseconds."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # a C library without malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
