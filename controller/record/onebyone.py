"""Lets one thread of a recorded guest run at a time, so that what its threads do depends on the order of answers alone.

A thread runs from an answer to its next request, a new one from the answer to its clone. An answer that is ready while
another thread runs waits, and the record tells when it was given: a replay follows that order, and has the same threads
run at the same times.

A thread that computes for long while others wait has company from then on: one more runs beside it, as in a box
without a record, and what both do with the same memory is in nobody's order. How long is a matter of its CPU time: on a
busy machine it may get none for a while.
"""

import time
from collections import deque
from collections.abc import Callable, Set
from typing import Final

#: Nanoseconds between two looks at the thread that runs, while an answer waits for it.
LOOK_NS: Final = 5_000_000
#: CPU time after which a thread has company: for the first time, from when on the record is inexact, and later.
ALONE_NS: Final = 25_000_000
BESIDE_NS: Final = 2_500_000
#: How long a thread goes on that makes calls while others wait for their turn.
SLICE_NS: Final = 1_000_000
#: In the place of a channel: a thread that has ended for the program, and not yet for the kernel.
_LINGERING: Final = -1


class OneByOne:
    """Which threads run, by their channels, and which ones have answers that wait, in the order of their turns.

    moves: how often a thread was answered, or has asked.
    """

    def __init__(self, *running: int) -> None:
        self._running = set(running)
        self._mixed = set(running)
        self._queue: deque[int] = deque()
        self._since_ns = 0
        self.moves = 0

    def stops(self, channel: int) -> None:
        """A thread has made a request."""
        self.moves += channel in self._running
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
        self.moves += 1
        if channel in self._queue:
            self._queue.remove(channel)
            self._since_ns = now
        self._mixed.discard(channel)
        if self._running:
            self._mixed |= self._running
            self._mixed.add(channel)
        self._running.add(channel)


def wait_for_end(count: Callable[[], int], left: int, looks: int) -> bool:
    """Looks a few times whether the kernel counts no more than so many threads. Returns False where it counts more."""
    for _ in range(looks):
        if count() <= left:
            return True
        time.sleep(0.00002)
    return False
