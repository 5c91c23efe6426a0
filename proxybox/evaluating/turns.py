"""EvaluationTurns: a semaphore that serves threads in the order in which they asked, each until its deadline.

`threading.Semaphore` makes no such promise: a thread that gives its turn back and asks again at once gets it again.
"""

import threading
from collections import deque
from collections.abc import Callable

import attrs


@attrs.define(eq=False)
class _Waiter:
    """A thread that waits. woken: released when it is served. fault: what it raises instead of being served."""

    woken: threading.Lock = attrs.field(factory=threading.Lock)
    fault: BaseException | None = None


class EvaluationTurns:
    """free: how many threads can be served now."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._lock = threading.Lock()
        self._waiting: deque[_Waiter] = deque()
        self._end: Callable[[], BaseException] | None = None

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._waiting)

    def take(self, seconds: float | None) -> bool:
        """Waits for a turn. Returns whether it came within that time; None: waits as long as it takes."""
        with self._lock:
            if self._end is not None:
                raise self._end()
            if self._free:
                self._free -= 1
                return True
            waiter = _Waiter()
            waiter.woken.acquire()
            self._waiting.append(waiter)
        try:
            waiter.woken.acquire(timeout=-1 if seconds is None else min(max(0.0, seconds), threading.TIMEOUT_MAX))
        except BaseException:  # raised by the handler of a signal
            if not self._left(waiter) and waiter.fault is None:
                self.give()
            raise
        if self._left(waiter):
            return False
        if waiter.fault is not None:
            raise waiter.fault
        return True

    def _left(self, waiter: _Waiter) -> bool:
        """Takes a thread out of those that wait. Returns whether it was one of them still."""
        with self._lock:
            if waiter not in self._waiting:
                return False
            self._waiting.remove(waiter)
            return True

    def give(self) -> None:
        """Serves the thread that has waited longest, or the next that asks."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().woken.release()
            else:
                self._free += 1

    def fail(self, fault: Callable[[], BaseException]) -> None:
        """Has every thread that waits now raise an exception of its own."""
        with self._lock:
            while self._waiting:
                waiter = self._waiting.popleft()
                waiter.fault = fault()
                waiter.woken.release()

    def end(self, fault: Callable[[], BaseException]) -> None:
        """Has every thread that waits, or asks later, raise an exception."""
        self._end = fault
        self.fail(fault)
