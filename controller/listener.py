"""Counts the threads of a guest where the guest cannot lie: at the kernel's own door.

clone with the one flag word of pthread_create reaches the controller as a seccomp user notification
(seccomp_unotify(2)). The answer is CONTINUE or EAGAIN; register arguments cannot change in between. What the guest
says about its threads is believed for routing only; the number is the kernel's.
"""

import contextlib
import errno
import fcntl
import os
import struct
import time

_NOTIF = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_ADDFD = struct.Struct("=QIIII")
_RECV, _SEND, _ADD = 0xC0502100, 0xC0182101, 0x40182103
_CONTINUE = 1
_SETFD = 1

#: A clone that was let through counts as a thread of its own until its maker asks again or this time is over.
IN_FLIGHT_NS = 50_000_000


class ThreadListener:
    """The listener of one guest. `limit` counts the main thread too."""

    def __init__(self, fd: int, pid: int, limit: int) -> None:
        self.fd = fd
        self._pid = pid
        self._limit = limit
        self._in_flight: dict[int, int] = {}

    def threads(self) -> int:
        """How many threads the kernel counts, from /proc/PID/stat (proc_pid_stat(5)). Where that cannot be
        read it is as many as there may be: nobody is let in unseen."""
        try:
            with open(f"/proc/{self._pid}/stat", "rb", buffering=0) as file:
                return int(file.read(1024).rpartition(b")")[2].split()[17])
        except (OSError, IndexError, ValueError):
            return self._limit

    def receive(self) -> tuple[int, int] | None:
        """The next request to make a thread: (notification id, host id of the thread that asks)."""
        buffer = bytearray(_NOTIF.size)
        try:
            fcntl.ioctl(self.fd, _RECV, buffer)
        except OSError:  # the thread that asked has gone meanwhile
            return None
        identifier, tid, *_ = _NOTIF.unpack(buffer)
        return identifier, tid

    def admits(self, tid: int) -> bool:
        """Whether one more thread is within the limit, counting those that are about to appear."""
        now = time.monotonic_ns()
        self._in_flight = {
            other: since for other, since in self._in_flight.items() if other != tid and now - since < IN_FLIGHT_NS
        }
        return self.threads() + len(self._in_flight) + 1 <= self._limit

    def give_descriptors(self, identifier: int, descriptors: dict[int, int]) -> bool:
        """Opens the controller's descriptors in the guest under the numbers that are the keys."""
        try:
            for number, fd in descriptors.items():
                fcntl.ioctl(self.fd, _ADD, _ADDFD.pack(identifier, _SETFD, fd, number, os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def allow(self, identifier: int, tid: int) -> None:
        """Lets the clone go on."""
        self._in_flight[tid] = time.monotonic_ns()
        self._respond(identifier, 0, _CONTINUE)

    def refuse(self, identifier: int) -> None:
        """The clone fails with EAGAIN, as pthread_create(3) expects of a limit."""
        self._respond(identifier, -errno.EAGAIN, 0)

    def _respond(self, identifier: int, error: int, flags: int) -> None:
        with contextlib.suppress(OSError):  # ENOENT: the thread is gone
            fcntl.ioctl(self.fd, _SEND, bytearray(_RESPONSE.pack(identifier, 0, error, flags)))
