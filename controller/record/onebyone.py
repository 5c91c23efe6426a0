"""Lets one thread of a recorded guest run at a time, so that what its threads do depends on the order of answers alone.

A thread runs from an answer to its next request, a new one from the answer to its clone. An answer that is ready while
another thread runs waits, and the record tells when it was given: a replay follows that order, and has the same threads
run at the same times.

A thread that computes for PATIENCE_NS while others wait has company from then on: one more runs beside it, as in a box
without a record, and what both do with the same memory is in nobody's order.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

#: How long an answer waits for a thread that computes, and how often it is looked whether that does; how long a thread
#: goes on while others wait for their turn.
PATIENCE_NS: Final = 5_000_000
MOST_LOOKS: Final = 40
SLICE_NS: Final = 1_000_000
#: How often it is looked whether a thread that has said so has ended, and how often at the most.
END_NS: Final = 1_000_000
MOST_ENDS: Final = 10_000


class OneByOne:
    """Which threads run, by their channels, and which ones have answers that wait, in the order of their turns."""

    def __init__(self, *running: int) -> None:
        self._running = set(running)
        self.has_ended: Callable[[], bool] | None = None  # of a thread that the kernel may still have
        self._mixed = set(running)
        self._queue: deque[int] = deque()
        self._since_ns = 0

    def stops(self, channel: int) -> None:
        """A thread has made a request."""
        self._running.discard(channel)

    def was_alone(self, channel: int) -> bool:
        """Whether no other thread has run since the last answer of this one."""
        return channel not in self._mixed

    def may_go_on(self, channel: int, now: int) -> bool:
        """Whether a thread that has just asked may have its answer at once."""
        return self._nobody_runs() and (not self._queue or now - self._since_ns < SLICE_NS)

    def lines_up(self, channel: int) -> None:
        """A thread's answer has to wait."""
        self._queue.append(channel)

    def has_turn(self, channel: int, *, overdue: bool = False) -> bool:
        """Whether a thread that has lined up may go. overdue: even if another one still runs."""
        return bool(self._queue) and self._queue[0] == channel and (overdue or self._nobody_runs())

    @property
    def is_free(self) -> bool:
        """Whether no thread runs or waits for its turn."""
        return self._nobody_runs() and not self._queue

    def _nobody_runs(self) -> bool:
        if self.has_ended is not None and self.has_ended():
            self.has_ended = None
        return not self._running and self.has_ended is None

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


def wait_for_end(has_ended: Callable[[], bool], seconds: float) -> bool:
    """Waits a little until a thread has ended that has said so: for most it is a matter of microseconds."""
    until = time.monotonic() + seconds
    while not (gone := has_ended()) and time.monotonic() < until:
        time.sleep(0.00002)
    return gone
