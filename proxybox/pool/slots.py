"""Limits how many threads run at once, in the order of their requests.

`threading.Semaphore` has no order: a thread that releases it and acquires it again at once gets it first.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable

import attrs

from proxybox.running import Running


@attrs.define(eq=False)
class _Waiter:
    """A thread that waits. woken: released when it has its answer: whether it has room, or the exception to raise."""

    woken: threading.Lock = attrs.field(factory=threading.Lock)
    answer: bool | BaseException | None = None


class Slots:
    """Slots for threads. free: how many threads have room now."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._lock = threading.RLock()  # the handler of a signal may cancel a run
        self._waiting: deque[_Waiter] = deque()
        self._end: Callable[[], BaseException] | None = None

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._waiting)

    def acquire(self, seconds: float | None = None, running: Running | None = None) -> bool:
        """Waits for room and takes it. Returns False where there was none in time, or the run was cancelled before.

        seconds: how long it waits; None: as long as it takes.
        """
        with self._lock:
            if self._end is not None:
                raise self._end()
            if running is not None and running.is_cancelled:
                return False
            if self._free:
                self._free -= 1
                return True
            waiter = _Waiter()
            waiter.woken.acquire()
            self._waiting.append(waiter)
        timeout = -1 if seconds is None else min(max(0.0, seconds), threading.TIMEOUT_MAX)
        try:
            with contextlib.nullcontext() if running is None else running.reached_by(lambda: self._wake(waiter, False)):
                waiter.woken.acquire(timeout=timeout)
        except BaseException:  # raised by the handler of a signal
            if self._wake(waiter, False) is True:
                self.release()
            raise
        answer = self._wake(waiter, False)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def release(self) -> None:
        """Releases room: for the thread that has waited longest, or for the next request."""
        with self._lock:
            if self._waiting:
                self._wake(self._waiting[0], True)
            else:
                self._free += 1

    def fail(self, fault: Callable[[], BaseException]) -> None:
        """Makes every thread that waits now raise its own exception."""
        with self._lock:
            for waiter in tuple(self._waiting):
                self._wake(waiter, fault())

    def end(self, fault: Callable[[], BaseException]) -> None:
        """Makes every thread that waits, or requests room later, raise an exception."""
        self._end = fault
        self.fail(fault)

    def _wake(self, waiter: _Waiter, answer: bool | BaseException) -> bool | BaseException:
        """Ends the wait of a thread, unless it has its answer. Returns its answer."""
        with self._lock:
            if waiter.answer is None:
                waiter.answer = answer
                self._waiting.remove(waiter)
                waiter.woken.release()
            return waiter.answer
