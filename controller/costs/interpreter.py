"""How boxes share the interpreter when each is served by a thread of its own (drivers/blocking.py).

One thread at a time runs Python (the global interpreter lock), and the next one to ask gets the lock. So a thread that
answers a few calls waits for all other threads, again at each call. Beside ten boxes that make large files without end,
it waits for ten of these each time. Therefore boxes that have used their allowance (`Watch.takes_turns`) take turns:
their calls are answered one at a time. The box that has used least comes first. After their turns they leave the
interpreter to all other threads for longer than they have used it, as long as another box or the caller's own program
uses it.

A box that is served alone has no turns. Functions of the caller run outside of turns (callers.py): they may take as
long as they like.

This schedule shares nothing with drivers/turns.py and process/rotation.py: here threads wait for a lock, and they leave
time to threads that take no turns.
"""

import threading
import time
from typing import Final

from proxybox.controller.perprocess import PerProcess

#: In nanoseconds: the time that boxes use together before they check whether others want the interpreter, and the
#: length of one check.
QUANTUM: Final = 1_000_000
_LOOK: Final = 300_000
#: For each nanosecond of CPU time that boxes in turns have used, others get so many nanoseconds.
_OTHERS: Final = 2
#: The boxes in turns continue when others have used less than this part of a check.
_LITTLE: Final = 1 / 8
#: The most nanoseconds that a box can be ahead of others after it was idle for a while.
_AHEAD: Final = 5_000_000


class InterpreterShare:
    """The interpreter time of one serving thread, and the context in which it answers calls.

    is_long: whether the box has used its allowance; any thread sets this by `limit`. is_limited: whether it takes turns
    with others, which it does not when it is served alone. used_ns: CPU time of its turns. The thread that serves the
    box enters the context, and leaves it; `leave` may be called once more.
    """

    __slots__ = ("_began_ns", "is_in", "is_limited", "is_long", "used_ns")

    def __init__(self) -> None:
        self.is_limited = self.is_long = self.is_in = False
        self.used_ns = self._began_ns = 0

    def limit(self, is_long: bool) -> None:
        """Sets whether the box has used its allowance."""
        self.is_long = is_long
        self.is_limited = is_long and _queue().is_shared

    def begin(self) -> None:
        """Notes that a thread begins to serve. `end` must follow."""
        _queue().begin(self)

    def end(self) -> None:
        """Notes that the thread has stopped serving."""
        self.leave()
        _queue().end(self)

    def __enter__(self) -> None:
        if self.is_limited:
            try:
                _queue().enter(self)
                self._began_ns = time.thread_time_ns()
                self.is_in = True
            except BaseException:  # raised by a signal handler of the caller
                _queue().leave(self, 0)
                raise

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Ends the box's turn if it has one."""
        if self.is_in:
            _queue().leave(self, time.thread_time_ns() - self._began_ns)
            self.is_in = False


class _Queue:
    """The serving threads of this process, and those of them that take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served: set[InterpreterShare] = set()
        self._holder: InterpreterShare | None = None
        self._waiting: dict[InterpreterShare, threading.Lock] = {}
        self._latest_ns = 0  # `used_ns` of the box that had the last turn
        self._debt_ns = 0

    @property
    def is_shared(self) -> bool:
        """Whether more than one thread serves."""
        return len(self._served) > 1

    def begin(self, share: InterpreterShare) -> None:
        with self._lock:
            self._served.add(share)
            share.is_limited = share.is_long and self.is_shared
            if len(self._served) == 2:
                self._limit()

    def end(self, share: InterpreterShare) -> None:
        with self._lock:
            self._served.discard(share)
            if len(self._served) == 1:
                self._limit()

    def _limit(self) -> None:
        for each in self._served:
            each.is_limited = each.is_long and self.is_shared

    def enter(self, share: InterpreterShare) -> None:
        """Waits for the turn of a box, and until other threads have had their part of the interpreter."""
        share.used_ns = max(share.used_ns, self._latest_ns - _AHEAD)
        turn = None
        with self._lock:
            if self._holder is None:
                self._holder = share
            else:
                turn = self._waiting[share] = threading.Lock()
                turn.acquire()
        if turn is not None:
            turn.acquire()
        self._latest_ns = share.used_ns
        if self._debt_ns >= QUANTUM:
            self._leave_to_others()

    def leave(self, share: InterpreterShare, used_ns: int) -> None:
        """Ends the turn of a box, or its wait for one. The box that has used least is next."""
        share.used_ns += used_ns
        self._debt_ns += used_ns
        with self._lock:
            self._waiting.pop(share, None)
            if self._holder is share:
                self._holder = min(self._waiting, key=_used, default=None)
                if self._holder is not None:
                    self._waiting.pop(self._holder).release()

    def _leave_to_others(self) -> None:
        """Waits as long as other threads may have the interpreter, or until they no longer use it."""
        until = time.monotonic_ns() + self._debt_ns * _OTHERS
        self._debt_ns = 0
        while time.monotonic_ns() < until:
            before = time.process_time_ns()
            time.sleep(_LOOK / 1e9)
            if time.process_time_ns() - before < _LOOK * _LITTLE:
                return


def _used(share: InterpreterShare) -> int:
    return share.used_ns


#: The queue of this process: a forked child has none of its parent's threads.
_queue = PerProcess(_Queue)
