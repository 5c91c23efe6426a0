"""The futexes of a guest of which one thread runs at a time: the threads that wait for each word (futex(2)).

The stub reads the word before its request. If no other thread has run since this thread's last answer, the word cannot
have changed meanwhile.
"""

from collections import deque
from collections.abc import Callable

import attrs


@attrs.define(slots=True, eq=False)
class Waiter:
    """A thread that waits. bits: by which it can be woken. is_shared: whether the end of a thread may wake it, too."""

    bits: int
    is_shared: bool
    is_woken: bool = False


class Futexes:
    """All words for which threads wait.

    was_alone: whether no other thread has run since the last answer to the thread of a channel.
    """

    def __init__(self, was_alone: Callable[[int], bool]) -> None:
        self._was_alone = was_alone
        self._waiting: dict[int, deque[Waiter]] = {}

    def wait(self, channel: int, address: int, bits: int, *, is_shared: bool) -> Waiter | None:
        """Begins a wait; returns None where the word may have changed, so that the stub has to read it again."""
        if not self._was_alone(channel):
            return None
        waiter = Waiter(bits, is_shared)
        self._waiting.setdefault(address, deque()).append(waiter)
        return waiter

    def leave(self, address: int, waiter: Waiter) -> None:
        """Removes one waiter."""
        waiting = self._waiting.get(address, deque())
        if waiter in waiting:
            waiting.remove(waiter)
        if not waiting:
            self._waiting.pop(address, None)

    def wake(self, address: int, most: int, bits: int) -> int:
        """Wakes up to `most` threads, those that have waited longest, and returns how many."""
        woken = [each for each in self._waiting.get(address, ()) if each.bits & bits][: max(most, 0)]
        for each in woken:
            each.is_woken = True
            self.leave(address, each)
        return len(woken)

    def thread_ended(self) -> None:
        """Wakes the threads that may wait for the end of a thread: the kernel has cleared its word."""
        for address, waiting in tuple(self._waiting.items()):
            for each in tuple(waiting):
                if each.is_shared:
                    each.is_woken = True
                    self.leave(address, each)
