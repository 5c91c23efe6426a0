"""Lets one thread of a recorded guest run at a time, so that a run depends on the order of answers alone.

A thread runs from an answer to its next request; a new thread runs from the answer to its clone(2). When an answer is
ready while another thread runs, the answer waits. The record shows the order in which answers were sent. A replay sends
them in the same order, so that the threads run in the same order.

When a thread computes for long while others wait, another one runs beside it, as in a box without a record. The order
in which both access the same memory is not recorded. The thread's CPU time says what is long, because on a busy machine
a thread may get no CPU for a while.
"""

import time
from collections import deque
from collections.abc import Callable, Set
from typing import Final

#: Nanoseconds between two looks at the thread that runs, while an answer waits for it.
LOOK_NS: Final = 5_000_000
#: CPU time after which another thread runs beside this one: the first time, which makes the record inexact, and later.
ALONE_NS: Final = 25_000_000
BESIDE_NS: Final = 2_500_000
#: How long a thread that makes calls may continue while others wait for their turn.
SLICE_NS: Final = 1_000_000
#: Instead of a channel: a thread that has ended for the program, but not yet for the kernel.
_LINGERING: Final = -1


class OneByOne:
    """The channels of the threads that run, and of those whose answers wait, in the order of their turns.

    moves: the number of answers, and of requests of running threads.
    """

    def __init__(self, *running: int) -> None:
        self._running = set(running)
        self._mixed = set(running)
        self._queue: deque[int] = deque()
        self._since_ns = 0
        self.moves = 0

    def stops(self, channel: int) -> None:
        """Notes that a thread has made a request."""
        self.moves += channel in self._running
        self._running.discard(channel)

    def lingers(self) -> None:
        """Notes that a thread has made its last request, but still runs: the kernel has not cleared its futex word."""
        self._mixed |= self._running
        self._running.add(_LINGERING)

    def has_gone(self) -> None:
        """Notes that no ended thread runs any more."""
        self._running.discard(_LINGERING)

    def keeps(self, channels: Set[int]) -> None:
        """Forgets the threads that were not made after all: all but those of `channels`."""
        self._running &= {*channels, _LINGERING}

    def was_alone(self, channel: int) -> bool:
        """Whether no other thread has run since the last answer to this one."""
        return channel not in self._mixed

    def may_go_on(self, channel: int, now: int) -> bool:
        """Whether a thread that has just made a request may be answered at once."""
        return not self._running and (not self._queue or now - self._since_ns < SLICE_NS)

    def lines_up(self, channel: int) -> None:
        """Adds a thread, whose answer has to wait, to the queue."""
        self._queue.append(channel)

    def has_turn(self, channel: int, *, overdue: bool = False) -> bool:
        """Whether a thread in the queue may run now. overdue: whether it may although another one still runs."""
        return bool(self._queue) and self._queue[0] == channel and (overdue or not self._running)

    @property
    def is_free(self) -> bool:
        """Whether no thread runs or waits for its turn."""
        return not self._running and not self._queue

    def goes(self, channel: int, now: int) -> None:
        """Notes that a thread is answered, and runs."""
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
    """Checks up to `looks` times whether the kernel counts at most `left` threads. Returns whether it does."""
    for _ in range(looks):
        if count() <= left:
            return True
        time.sleep(0.00002)
    return False
