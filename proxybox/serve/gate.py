"""The gate: who gets a worker's free line, who waits for one, and who is sent away at once.

Rules: of the keys that wait, the one that holds the fewest lines is next, and among equals the one that was served
longest ago. A key never holds more lines than its share. The queue is bounded; when it is full, the key of which the
most requests wait loses its latest one. So a key that floods the service waits behind itself alone.
"""

import asyncio
import itertools
import math
import time
from collections import deque
from typing import Final

import attrs

from proxybox.serve.workers import LineKind, Slot, WorkerLost, WorkerProcess

#: How much the latest job counts in the average duration of all.
_LATEST: Final = 0.05
#: The most seconds that anybody is asked to wait before the next try.
_LONGEST: Final = 60


class Overloaded(Exception):
    """There is no room. is_own: whether the key's own requests take it up. retry_after: seconds until the next try."""

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
    """What one key holds, and what of it waits. turn: when it was served last."""

    share: int
    held: int = 0
    turn: int = 0
    waiting: deque[_Waiting] = attrs.field(factory=deque)


class Gate:
    """Gives out the lines of one kind.

    share: how many lines a key may hold at once. queue: how many requests may wait. patience: for how many seconds.
    """

    def __init__(self, kind: LineKind, *, share: int, queue: int, patience: float) -> None:
        self.kind, self._share, self._queue, self._patience = kind, share, queue, patience
        self._free: list[Slot] = []
        self._keys: dict[str, _Key] = {}
        self._holders: dict[Slot, tuple[str, float]] = {}
        self._turns = itertools.count(1)
        self._duration = 0.05
        self.waiting = 0

    @property
    def held(self) -> int:
        """How many lines are in use."""
        return len(self._holders)

    @property
    def lines(self) -> int:
        """How many lines there are."""
        return len(self._holders) + len(self._free)

    # --- who comes ----------------------------------------------------------------------------------------------------

    async def enter(self, name: str, *, share: int | None = None, worker: int | None = None) -> Slot:
        """Returns a free line when it is this key's turn; `Workers.ask` gives it back.

        name: of the key. share: how many lines this key may hold, in place of the common number. worker: the number of
        the only worker whose lines will do. Raises Overloaded; WorkerLost when that worker ends meanwhile.
        """
        key = self._keys.setdefault(name, _Key(self._share))
        key.share = self._share if share is None else share
        slot = self._take(worker) if key.held < key.share and not key.waiting else None
        if slot is not None:
            self._give(name, key, slot)
            return slot
        self._make_room(key)
        waiting = _Waiting(worker, asyncio.get_running_loop().create_future())
        key.waiting.append(waiting)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                return await waiting.ready
        except BaseException as error:
            if waiting.ready.done() and not waiting.ready.cancelled() and waiting.ready.exception() is None:
                self.free(waiting.ready.result())  # it was given a line that it does not use
            if isinstance(error, TimeoutError):
                raise self._overloaded(key, "no box became free in time") from None
            raise
        finally:
            if waiting in key.waiting:
                key.waiting.remove(waiting)
                self.waiting -= 1
            self._forget(name, key)

    def _make_room(self, key: _Key) -> None:
        """Makes room in the queue for one more request of a key. Raises Overloaded."""
        if self.waiting < self._queue:
            return
        longest = max(self._keys.values(), key=lambda each: len(each.waiting))
        if len(longest.waiting) <= len(key.waiting) + 1:
            raise self._overloaded(key, "too many requests wait")
        latest = longest.waiting.pop()
        self.waiting -= 1
        if not latest.ready.done():
            latest.ready.set_exception(self._overloaded(longest, "too many of this key's requests wait"))

    def _overloaded(self, key: _Key, message: str) -> Overloaded:
        ahead = len(key.waiting) / max(1, min(key.share, self.lines))
        seconds = math.ceil(min(_LONGEST, max(1.0, ahead * self._duration)))
        return Overloaded(message, is_own=key.held >= key.share or len(key.waiting) > 1, retry_after=seconds)

    # --- who is next --------------------------------------------------------------------------------------------------

    def free(self, slot: Slot) -> None:
        """Takes a line that can be used, and gives it to whoever is next."""
        self._let_go(slot)
        if slot.worker.ended:
            return
        key_name = self._next(slot)
        if key_name is None:
            self._free.append(slot)
            return
        key = self._keys[key_name]
        waiting = next(each for each in key.waiting if each.worker in (None, slot.worker.number))
        key.waiting.remove(waiting)
        self.waiting -= 1
        self._give(key_name, key, slot)
        waiting.ready.set_result(slot)

    def _next(self, slot: Slot) -> str | None:
        """The key that gets a line: one that waits for such a line and has not got its share yet."""
        here = (None, slot.worker.number)
        wanting = [
            (key.held, key.turn, name)
            for name, key in self._keys.items()
            if key.held < key.share and any(each.worker in here for each in key.waiting)
        ]
        return min(wanting)[2] if wanting else None

    def _take(self, worker: int | None) -> Slot | None:
        """Takes a free line: of the worker that is wanted, or of the one that has the most."""
        fitting = [slot for slot in self._free if worker in (None, slot.worker.number)]
        if not fitting:
            return None
        if worker is None:
            idle: dict[int, int] = {}
            for slot in fitting:
                idle[slot.worker.number] = idle.get(slot.worker.number, 0) + 1
            slot = max(fitting, key=lambda each: idle[each.worker.number])
        else:
            slot = fitting[0]
        self._free.remove(slot)
        return slot

    def _give(self, name: str, key: _Key, slot: Slot) -> None:
        key.held += 1
        key.turn = next(self._turns)
        self._holders[slot] = name, time.monotonic()

    def _let_go(self, slot: Slot) -> None:
        if slot not in self._holders:
            return
        name, since = self._holders.pop(slot)
        self._duration += _LATEST * (time.monotonic() - since - self._duration)
        key = self._keys[name]
        key.held -= 1
        self._forget(name, key)
        # Its key may hold another line now, which it did not take because of its share.
        self._offer(key, name)

    def _offer(self, key: _Key, name: str) -> None:
        """Gives free lines to a key that waits only because it had its share."""
        while key.waiting and key.held < key.share:
            fitting = ((each, self._take(each.worker)) for each in tuple(key.waiting))
            found = next(((each, slot) for each, slot in fitting if slot is not None), None)
            if found is None:
                return
            waiting, slot = found
            key.waiting.remove(waiting)
            self.waiting -= 1
            self._give(name, key, slot)
            waiting.ready.set_result(slot)

    def _forget(self, name: str, key: _Key) -> None:
        """Keeps nothing of a key that neither holds nor waits."""
        if not key.held and not key.waiting:
            self._keys.pop(name, None)

    # --- workers ------------------------------------------------------------------------------------------------------

    def lost(self, worker: WorkerProcess) -> None:
        """Forgets the lines of a worker that has ended, and fails the requests that wait for it alone."""
        self._free = [slot for slot in self._free if slot.worker is not worker]
        for slot in [slot for slot in self._holders if slot.worker is worker]:
            self._let_go(slot)
        for name, key in tuple(self._keys.items()):
            for waiting in [each for each in key.waiting if each.worker == worker.number]:
                key.waiting.remove(waiting)
                self.waiting -= 1
                if not waiting.ready.done():
                    waiting.ready.set_exception(WorkerLost(begun=False))
            self._forget(name, key)
