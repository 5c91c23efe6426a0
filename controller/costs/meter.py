"""The CPU time that the controller uses for one guest, in the threads that serve it.

Rules: no clock is read for a single call. A thread reads its own clock when it begins to serve a guest and when it
stops, to serve another guest or to call a function of the caller, whose time is not the guest's. Another thread that
reads the meter meanwhile reads the serving thread's clock (clock_getcpuclockid(3)).
"""

import contextlib
import threading
import time

thread_time_ns = time.thread_time_ns


def thread_clock() -> int:
    """Returns the id of the calling thread's CPU clock, which any thread of this process can read; never 0."""
    return (~threading.get_native_id() << 3) | 6  # CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED


class Meter:
    """CPU time that was spent for one guest, in nanoseconds.

    One thread at a time serves the guest; any thread may read the meter. beside: CPU time of another thread that works
    for the guest; only that thread sets it.
    """

    __slots__ = ("_left", "_now", "beside")

    def __init__(self) -> None:
        self.beside = 0
        self._now = (0, 0, 0)  # time spent before; begin of serving; the thread's clock (0: no thread serves)
        self._left: list[int] = []

    def begin(self, now: int, clock: int) -> None:
        """Notes that the thread with this CPU clock, which shows `now`, begins to serve the guest."""
        self._now = (self._now[0], now, clock)

    def end(self, now: int) -> None:
        """Notes that the serving thread, whose CPU clock shows `now`, stops."""
        spent, since, clock = self._now
        if clock:
            self._now = (spent + now - since, 0, 0)

    def spent_ns(self) -> int:
        """Returns the CPU time that has been spent so far."""
        spent, since, clock = self._now
        if clock:
            with contextlib.suppress(OSError):  # the thread has ended
                spent += max(0, time.clock_gettime_ns(clock) - since)
        return spent + self.beside

    def __enter__(self) -> None:
        """Enters a context for functions of the caller's, within which nothing is counted."""
        self._left.append(self._now[2])
        self.end(thread_time_ns())

    def __exit__(self, *_: object) -> None:
        clock = self._left.pop()
        if clock:
            self.begin(thread_time_ns(), clock)
