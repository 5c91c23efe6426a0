"""The overseer: a thread in C that ends guests which use more memory than they may (proxybox/guest/overseer.c).

It needs no interpreter, so it is in time when other threads of the caller's program hold the interpreter's lock and
delay the watchdog. There is one per process. It starts with the first guest that could use more than it may, and a fork
has none until it has such a guest of its own.
"""

import ctypes
import functools
import os
import threading

from proxybox.controller.guests.programs import guest_program
from proxybox.controller.process.cpus import allowed_cpus

_POINTER = ctypes.c_void_p


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(guest_program("_overseer.so"))
    library.overseer_use.argtypes, library.overseer_use.restype = [ctypes.c_int] * 2, ctypes.c_uint64
    library.overseer_watch.argtypes = [
        *[ctypes.c_int] * 3, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, _POINTER
    ]  # fmt: skip
    library.overseer_rest.argtypes, library.overseer_rest.restype = [_POINTER, ctypes.c_int], None
    library.overseer_has_ended.argtypes = library.overseer_forget.argtypes = [_POINTER]
    return library


def used(pid: int) -> int:
    """Returns the bytes that a process uses, as the overseer counts them; 0 where it has ended. Raises OSError."""
    status = _open_status(pid)
    try:
        return int(_library().overseer_use(pid, status))
    finally:
        os.close(status)


class Overseen:
    """A guest that the overseer checks until `close`.

    pidfd: of pidfd_open(2), which stays open until `close`. most: bytes that it may use, its interpreter's own
    included. cpus: on how many it may run. Raises OSError where it has ended, or no thread, descriptor or memory is
    left.
    """

    # A signal handler may run after any call, close this object, and raise. So each of these functions reads `_guest`
    # when it is called, and does nothing where that is NULL.

    def __init__(self, pid: int, pidfd: int, most: int, cpus: int) -> None:
        self._has_ended = False
        self._lock = threading.RLock()  # signal handlers re-enter it
        self._guest = _POINTER()
        self._status = _open_status(pid)
        try:
            places, guest = _places(), ctypes.byref(self._guest)
            arguments = pid, pidfd, self._status, max(most, 0), cpus, places, len(places or b""), guest
            if error := _library().overseer_watch(*arguments):
                raise OSError(error, "the memory of a guest cannot be looked at")
        except BaseException:
            self.close()
            raise

    @property
    def has_ended(self) -> bool:
        """Whether it was ended because it used too much."""
        with self._lock:
            if _library().overseer_has_ended(self._guest):
                self._has_ended = True
            return self._has_ended

    def rest(self, rests: bool) -> None:
        """Stops the checks while the guest is stopped."""
        with self._lock:
            _library().overseer_rest(self._guest, rests)

    def close(self) -> None:
        """Ends the checks of the guest."""
        with self._lock:
            library, none = _library(), _POINTER()
            guest, self._guest, status, self._status = self._guest, none, self._status, -1
            if status >= 0:
                try:
                    if library.overseer_forget(guest):
                        self._has_ended = True
                finally:
                    os.close(status)

    def __del__(self) -> None:  # an interrupt may come before the object is assigned
        if getattr(self, "_status", -1) >= 0:
            self.close()


def _places() -> bytes | None:
    """Returns the CPUs of this process as a cpu_set_t: this thread may be pinned to a guest's CPU now (cpus.py)."""
    try:
        places = sum(1 << cpu for cpu in allowed_cpus())
    except OSError:
        return None
    return places.to_bytes(-(-places.bit_length() // 64) * 8, "little")


def _open_status(pid: int) -> int:
    return os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
