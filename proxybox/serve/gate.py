"""The gate: which request gets a free line of a worker, which one waits, and which one is refused at once.

Rules: of the keys that wait, the one that holds the fewest lines is next, and among equals the one that was served
longest ago (fairqueue.py). A key never holds more lines than its share; of the lines of one worker, for which its
sessions have to wait, a key holds at most three quarters, unless its share is a larger part of all lines. It holds a
line of the express worker only if it holds no other line. The queue is bounded; when it is full, the key with the most
waiting requests loses its latest one.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import attrs

from proxybox.serve.fairqueue import FairQueue
from proxybox.serve.workers import LineKind, Slot, WorkerLost, WorkerProcess

#: The weight of the latest job in the average duration of all.
_LATEST: Final = 0.05
#: The most seconds in a Retry-After.
_LONGEST: Final = 60


class Overloaded(Exception):
    """No line is free. is_own: whether the key's own requests use them. retry_after: seconds until the next try."""

    def __init__(self, message: str, *, is_own: bool, retry_after: int) -> None:
        super().__init__(message)
        self.is_own, self.retry_after = is_own, retry_after


@attrs.define(eq=False)
class _Waiting:
    """A request that waits. worker: the number of the only worker that can serve it; None for any."""

    worker: int | None
    ready: "asyncio.Future[Slot]"


@attrs.define(eq=False)
class _Key:
    """The lines that one key holds. of: how many lines of each worker."""

    share: int
    held: int = 0
    of: "Counter[int]" = attrs.field(factory=Counter)

    def first(self, waiting: Sequence[_Waiting], slot: Slot, lines: "Counter[int]") -> _Waiting | None:
        """Returns the key's first request that waits for such a line, and was not cancelled."""
        if self.held >= self.share:
            return None
        fitting = (each for each in waiting if self.can_use(slot, each.worker, lines))
        return next((each for each in fitting if not each.ready.done()), None)

    def can_use(self, slot: Slot, worker: int | None, lines: "Counter[int]") -> bool:
        """Returns whether a request can have this line.

        worker: the number of the only one that can serve it; None for any. lines: how many each worker has.
        """
        number = slot.worker.number
        if worker is None:
            return not (slot.worker.express and self.held)
        part = max(0.75, self.share / lines.total())
        return worker == number and self.of[number] < max(1, int(part * lines[number]))


class Gate:
    """Assigns the lines of one kind to requests.

    share: how many lines a key may hold at once. queue: how many requests may wait. patience: for how many seconds.
    """

    def __init__(self, kind: LineKind, *, share: int, queue: int, patience: float) -> None:
        self.kind, self._share, self._most_waiting, self._patience = kind, share, queue, patience
        self._free: list[Slot] = []
        self._keys: dict[str, _Key] = {}
        self._holders: dict[Slot, tuple[str, float]] = {}
        self._queue: FairQueue[_Waiting] = FairQueue()
        self._duration = 0.05

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def held(self) -> int:
        """How many lines are in use."""
        return len(self._holders)

    @property
    def lines(self) -> int:
        """How many lines there are."""
        return len(self._holders) + len(self._free)

    def _lines(self) -> "Counter[int]":
        """Returns how many lines each worker has."""
        return Counter(slot.worker.number for slots in (self._holders, self._free) for slot in slots)

    # --- who comes ----------------------------------------------------------------------------------------------------

    async def enter(self, name: str, *, share: int | None = None, worker: int | None = None) -> Slot:
        """Returns a free line when it is this key's turn; `ServiceWorkers.ask` releases it.

        name: of the key. share: how many lines this key may hold, in place of the common number. worker: the number of
        the only worker whose lines can be used. Raises Overloaded; WorkerLost when that worker ends meanwhile.
        """
        key = self._keys.setdefault(name, _Key(self._share))
        key.share = self._share if share is None else share
        slot = self._take(key, worker) if key.held < key.share and not self._queue.line(name) else None
        if slot is not None:
            self._queue.serve(name)
            self._give(name, key, slot)
            return slot
        self._make_room(name, key)
        waiting = _Waiting(worker, asyncio.get_running_loop().create_future())
        self._queue.put(name, waiting)
        try:
            async with asyncio.timeout(self._patience):
                return await waiting.ready
        except BaseException as error:
            if waiting.ready.done() and not waiting.ready.cancelled() and waiting.ready.exception() is None:
                self.free(waiting.ready.result())  # it has got a line that it does not use
            if isinstance(error, TimeoutError):
                raise self._overloaded(name, key, "no box became free in time") from None
            raise
        finally:
            self._queue.remove(name, waiting)
            self._forget(name, key)

    def _make_room(self, name: str, key: _Key) -> None:
        """Makes room in the queue for one more request of a key. Raises Overloaded."""
        if len(self._queue) < self._most_waiting:
            return
        longest = self._queue.longest() if self._queue else name
        if len(self._queue.line(longest)) <= len(self._queue.line(name)) + 1:
            raise self._overloaded(name, key, "too many requests wait")
        latest = self._queue.line(longest)[-1]
        self._queue.remove(longest, latest)
        if not latest.ready.done():
            why = "too many of this key's requests wait"
            latest.ready.set_exception(self._overloaded(longest, self._keys[longest], why))

    def _overloaded(self, name: str, key: _Key, message: str) -> Overloaded:
        waiting = len(self._queue.line(name))
        ahead = waiting / max(1, min(key.share, self.lines))
        seconds = math.ceil(min(_LONGEST, max(1.0, ahead * self._duration)))
        return Overloaded(message, is_own=key.held >= key.share or waiting > 1, retry_after=seconds)

    # --- who is next --------------------------------------------------------------------------------------------------

    def free(self, slot: Slot) -> None:
        """Releases a line, and assigns it to the next request."""
        self._let_go(slot)
        if not slot.worker.ended:
            self._free.append(slot)
        self._hand_out()

    def _hand_out(self) -> None:
        """Assigns free lines to the requests that wait for one."""
        lines = self._lines() if self._queue else Counter()
        for slot in self._roomiest() if self._queue else ():

            def choose(name: str, waiting: Sequence[_Waiting], slot: Slot = slot) -> tuple[int, _Waiting] | None:
                key = self._keys[name]
                first = key.first(waiting, slot, lines)
                return None if first is None else (key.held, first)

            if (found := self._queue.next(choose)) is not None:
                name, waiting = found
                self._free.remove(slot)
                self._give(name, self._keys[name], slot)
                waiting.ready.set_result(slot)

    def _take(self, key: _Key, worker: int | None) -> Slot | None:
        """Returns a free line for a key, or None: of the given worker, or of the one that has the most."""
        lines = self._lines()
        slot = next((slot for slot in self._roomiest() if key.can_use(slot, worker, lines)), None)
        if slot is not None:
            self._free.remove(slot)
        return slot

    def _roomiest(self) -> list[Slot]:
        """Returns the free lines, first those of the worker with the most; among equals, the express worker's first."""
        idle = Counter(slot.worker.number for slot in self._free)
        return sorted(self._free, key=lambda slot: (-idle[slot.worker.number], not slot.worker.express))

    def _give(self, name: str, key: _Key, slot: Slot) -> None:
        key.held += 1
        key.of[slot.worker.number] += 1
        self._holders[slot] = name, time.monotonic()

    def _let_go(self, slot: Slot) -> None:
        if slot not in self._holders:
            return
        name, since = self._holders.pop(slot)
        self._duration += _LATEST * (time.monotonic() - since - self._duration)
        key = self._keys[name]
        key.held -= 1
        key.of[slot.worker.number] -= 1
        self._forget(name, key)

    def _forget(self, name: str, key: _Key) -> None:
        """Removes a key that neither holds a line nor waits."""
        if not key.held and not self._queue.line(name):
            self._keys.pop(name, None)

    # --- workers ------------------------------------------------------------------------------------------------------

    def lost(self, worker: WorkerProcess) -> None:
        """Forgets the lines of a worker that has ended, and fails the requests that wait for it alone."""
        self._free = [slot for slot in self._free if slot.worker is not worker]
        for slot in [slot for slot in self._holders if slot.worker is worker]:
            self._let_go(slot)
        for name, key in tuple(self._keys.items()):
            for waiting in [each for each in self._queue.line(name) if each.worker == worker.number]:
                self._queue.remove(name, waiting)
                if not waiting.ready.done():
                    waiting.ready.set_exception(WorkerLost(begun=False))
            self._forget(name, key)
        self._hand_out()
