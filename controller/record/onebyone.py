"""Lets one thread of a recorded guest run at a time, so that what its threads do depends on the order of answers alone.

A thread runs from an answer to its next request, a new one from the answer to its clone. An answer that is ready while
another thread runs waits, and the record tells when it was given: a replay follows that order, and has the same threads
run at the same times.

A thread that computes for PATIENCE_NS while others wait has company from then on: one more runs beside it, as in a box
without a record, and what both do with the same memory is in nobody's order.
"""

import time
from collections import deque
from collections.abc import Callable, Set
from typing import Final

#: How long an answer waits for a thread that computes, and how often it is looked whether that does; how long a thread
#: goes on while others wait for their turn.
PATIENCE_NS: Final = 5_000_000
MOST_LOOKS: Final = 40
SLICE_NS: Final = 1_000_000
#: In the place of a channel: a thread that has ended for the program, and not yet for the kernel.
_LINGERING: Final = -1


class OneByOne:
    """Which threads run, by their channels, and which ones have answers that wait, in the order of their turns."""

    def __init__(self, *running: int) -> None:
        self._running = set(running)
        self._mixed = set(running)
        self._queue: deque[int] = deque()
        self._since_ns = 0

    def stops(self, channel: int) -> None:
        """A thread has made a request."""
        self._running.discard(channel)

    def lingers(self) -> None:
        """A thread has made its last request, and still runs: the kernel is about to clear its word."""
        self._mixed |= self._running
        self._running.add(_LINGERING)

    def has_gone(self) -> None:
        """No thread lingers any more."""
        self._running.discard(_LINGERING)

    def keeps(self, channels: Set[int]) -> None:
        """Forgets threads that were not made after all: these are left."""
        self._running &= {*channels, _LINGERING}

    def was_alone(self, channel: int) -> bool:
        """Whether no other thread has run since the last answer of this one."""
        return channel not in self._mixed

    def may_go_on(self, channel: int, now: int) -> bool:
        """Whether a thread that has just asked may have its answer at once."""
        return not self._running and (not self._queue or now - self._since_ns < SLICE_NS)

    def lines_up(self, channel: int) -> None:
        """A thread's answer has to wait."""
        self._queue.append(channel)

    def has_turn(self, channel: int, *, overdue: bool = False) -> bool:
        """Whether a thread that has lined up may go. overdue: even if another one still runs."""
        return bool(self._queue) and self._queue[0] == channel and (overdue or not self._running)

    @property
    def is_free(self) -> bool:
        """Whether no thread runs or waits for its turn."""
        return not self._running and not self._queue

    def goes(self, channel: int, now: int) -> None:
        """A thread is answered."""
        if channel in self._queue:
            self._queue.remove(channel)
            self._since_ns = now
        self._mixed.discard(channel)
        if self._running:
            self._mixed |= self._running
            self._mixed.add(channel)
        self._running.add(channel)


def wait_for_end(count: Callable[[], int], left: int, seconds: float) -> bool:
    """Waits until the kernel counts no more than so many threads. Returns False where that takes longer."""
    until = time.monotonic() + seconds
    while count() > left:
        if time.monotonic() >= until:
            return False
        time.sleep(0.00002)
    return True
