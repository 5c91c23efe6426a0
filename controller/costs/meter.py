"""What the controller computes for one guest: CPU time of the threads that serve it.

Rules: no clock is read for a single call. A thread reads its own clock when it begins to serve a guest and when it
leaves it, for another one or for a function of the caller's, whose time is not the guest's. Whoever wants to know
meanwhile reads the clock of that thread (clock_getcpuclockid(3)).
"""

import contextlib
import threading
import time

thread_time_ns = time.thread_time_ns


def thread_clock() -> int:
    """The clock of the calling thread's CPU time, for any thread of this process; never 0."""
    return (~threading.get_native_id() << 3) | 6  # CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED


class Meter:
    """CPU time that was spent for one guest, in nanoseconds. One thread at a time serves it; any may ask."""

    __slots__ = ("_left", "_now")

    def __init__(self) -> None:
        self._now = (0, 0, 0)  # spent before; since when, by which thread's clock (0: nobody serves it)
        self._left: list[int] = []

    def begin(self, now: int, clock: int) -> None:
        """The thread with that clock, on which it is `now`, serves the guest from here on."""
        self._now = (self._now[0], now, clock)

    def end(self, now: int) -> None:
        """It serves the guest no more."""
        spent, since, clock = self._now
        if clock:
            self._now = (spent + now - since, 0, 0)

    def spent_ns(self) -> int:
        """So far."""
        spent, since, clock = self._now
        if clock:
            with contextlib.suppress(OSError):  # the thread has ended
                spent += max(0, time.clock_gettime_ns(clock) - since)
        return spent

    def __enter__(self) -> None:
        """A context for functions of the caller's, within which nothing is counted."""
        self._left.append(self._now[2])
        self.end(thread_time_ns())

    def __exit__(self, *_: object) -> None:
        clock = self._left.pop()
        if clock:
            self.begin(thread_time_ns(), clock)
