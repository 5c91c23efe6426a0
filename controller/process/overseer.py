"""The overseer: a thread in C that ends guests which use more memory than they may (proxybox/guest/overseer.c).

It needs no interpreter, so it is in time where the keeper is not: where other threads of the caller's program hold the
interpreter's lock. There is one per process. It starts with the first guest that could use more than it may, and a fork
has none until it has such a guest of its own.
"""

import ctypes
import functools
import os
import threading

from proxybox.controller.guests.programs import guest_program

_POINTER = ctypes.c_void_p


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(guest_program("_overseer.so"))
    library.overseer_use.argtypes, library.overseer_use.restype = [ctypes.c_int], ctypes.c_uint64
    library.overseer_watch.argtypes = [*[ctypes.c_int] * 3, ctypes.c_uint64, ctypes.c_int, _POINTER]
    library.overseer_watch.restype = _POINTER
    library.overseer_rest.argtypes, library.overseer_rest.restype = [_POINTER, ctypes.c_int], None
    library.overseer_has_ended.argtypes = library.overseer_forget.argtypes = [_POINTER]
    return library


def used(pid: int) -> int:
    """The bytes that a process uses, as the overseer counts them; 0 where it has ended. Raises OSError."""
    status = _open_status(pid)
    try:
        return int(_library().overseer_use(status))
    finally:
        os.close(status)


class Overseen:
    """A guest that the overseer looks at, until `close`.

    pidfd: a real one, which stays open until `close`. most: bytes that it may use, with its interpreter's own. cpus: on
    how many it may run. Raises OSError where it has ended, or no thread, descriptor or memory is left.
    """

    def __init__(self, pid: int, pidfd: int, most: int, cpus: int) -> None:
        self._has_ended = False
        self._lock = threading.RLock()  # signal handlers re-enter it
        self._status = _open_status(pid)
        error = ctypes.c_int()
        self._guest = _library().overseer_watch(pid, pidfd, self._status, max(most, 0), cpus, ctypes.byref(error))
        if not self._guest:
            os.close(self._status)
            raise OSError(error.value, "the memory of a guest cannot be looked at")

    @property
    def has_ended(self) -> bool:
        """Whether it was ended because it used too much."""
        with self._lock:
            if self._guest:
                self._has_ended = bool(_library().overseer_has_ended(self._guest))
            return self._has_ended

    def rest(self, rests: bool) -> None:
        """Has nobody look at it while it is stopped."""
        with self._lock:
            if self._guest:
                _library().overseer_rest(self._guest, rests)

    def close(self) -> None:
        """Has nobody look at it any more."""
        with self._lock:
            guest, self._guest = self._guest, None
            if guest:
                self._has_ended = bool(_library().overseer_forget(guest))
                os.close(self._status)


def _open_status(pid: int) -> int:
    return os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
