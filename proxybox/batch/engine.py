"""Gives items to workers in chunks, collects their answers, and tries items again whose worker has ended.

    items ── chunks ── carrier ── workers
      │         ▲                    │
      │         └── the rest ────────┤ answers to the first items of a chunk
      └── suspects, each alone ◄─────┘ none: the worker has ended

Rules: an item that has an answer is never run again. When a worker ends, each item of its chunk may be the cause, so
each is tried again alone, up to `retries` times: an item that was alone with a worker that has ended is the cause, and
is given up. Without retries, each item is alone from the beginning. If a worker was told to leave, or an Executor is
broken, no item is the cause. An engine is used by one thread.
"""

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs

from proxybox.pool.executor import WorkerLeft

Item = TypeVar("Item")
Answer = TypeVar("Answer")
#: The most bytes of the items of one chunk, unless it has only one.
_MOST_BYTES: Final = 4 << 20
#: How often an item may be with a worker that leaves, before this counts as the end of a worker.
_MOST_LEFT: Final = 10


class Carrier(Protocol):
    """Sends tasks to workers (carriers.py)."""

    #: Seconds after which `look` is called, even if no task has ended; None if it need not be called.
    pause: float | None

    @property
    def workers(self) -> int:
        """How many tasks are worked on at once."""
        ...

    def has_room(self, *, alone: bool = False) -> bool:
        """Whether a task may be submitted now. alone: as for `submit`."""
        ...

    def submit(self, work: Callable[[Any], Any], task: Any, *, alone: bool = False) -> "Future[Any]":
        """Gives a task to a worker. The Future raises WorkerEnded when the worker has ended meanwhile.

        alone: whether no other task is with this worker until the Future is done.
        """
        ...

    def taken(self, future: "Future[Any]") -> None:
        """Notes that a task is over."""
        ...

    def look(self) -> None:
        """Checks for workers that have ended. Raises BatchError when no workers are left."""
        ...


@attrs.define(kw_only=True)
class BatchEngine(Generic[Item, Answer]):
    """The items that are waiting and running, by their number, from 0.

    items: read when workers become free. work: the function that workers call; it returns answers for the first of its
    items, at least for one. Exceptions among the answers are failures of single items. pack: makes the argument of
    `work` from items. give_up: makes the answer for an item that was tried too often. is_fatal: whether an exception
    ends the batch. retries: how often an item is tried again. total: how many items there are, if that is known. chunk,
    most_chunk: items of a chunk, at first and at most. seconds: how long a chunk should take. weigh: the size of an
    item in bytes. on_lost: called with the number of an item whose worker has ended, and with the exception.
    """

    items: Iterator[Item]
    carrier: Carrier
    work: Callable[[Any], Sequence[Answer | Exception]]
    pack: Callable[[Sequence[Item]], Any]
    give_up: Callable[[int, Item, BaseException], Answer]
    is_fatal: Callable[[BaseException], bool]
    retries: int
    total: int | None = None
    chunk: int
    most_chunk: int
    seconds: float
    weigh: Callable[[Item], int] = lambda _: 0
    on_lost: Callable[[int, BaseException], object] = lambda *_: None

    #: How many items have an answer of their own, without those that were given up.
    answered: int = attrs.field(init=False, default=0)
    #: The reason why the executor accepts no more tasks.
    broken: BrokenExecutor | None = attrs.field(init=False, default=None)
    #: The reason why no further items could be read; those before have their answers.
    unreadable: Exception | None = attrs.field(init=False, default=None)
    _began: float = attrs.field(init=False, factory=lambda: time.monotonic())
    _numbered: Iterator[tuple[int, Item]] = attrs.field(init=False)
    _is_read: bool = attrs.field(init=False, default=False)
    _is_stopped: bool = attrs.field(init=False, default=False)
    _read: int = attrs.field(init=False, default=0)
    _unanswered: int = attrs.field(init=False, default=0)
    _returned: deque[tuple[int, Item]] = attrs.field(init=False, factory=deque)
    _suspects: deque[tuple[int, Item]] = attrs.field(init=False, factory=deque)
    _tries: Counter[int] = attrs.field(init=False, factory=Counter)
    _left: Counter[int] = attrs.field(init=False, factory=Counter)
    _running: dict["Future[Any]", tuple[tuple[tuple[int, Item], ...], bool]] = attrs.field(init=False, factory=dict)

    @_numbered.default
    def _number_them(self) -> Iterator[tuple[int, Item]]:
        return enumerate(self.items)

    @property
    def is_unfinished(self) -> bool:
        """Whether items are left to do."""
        if self._is_stopped or self.broken:
            return bool(self._running)
        return bool(self._running or self._suspects or self._returned) or not self._is_read

    def step(self, most: int = sys.maxsize) -> list[tuple[int, Answer]]:
        """Submits tasks, waits until one ends, and returns the new answers.

        most: no further item is read while this many have no answer.
        """
        self._give(most)
        if not self._running and self.carrier.pause and self.is_unfinished:
            time.sleep(self.carrier.pause)  # there is no worker at the moment
        done, _ = wait(self._running, timeout=self.carrier.pause, return_when=FIRST_COMPLETED)
        self.carrier.look()
        came = [answer for future in done for answer in self._take(future)]
        self._unanswered -= len(came)
        return came

    def stop(self) -> int:
        """Submits no more tasks, and cancels those that have not begun. Returns how many items are still running."""
        self._is_stopped = True
        for future in tuple(self._running):
            if future.cancel():
                self._forget(future)
        return sum(len(some) for some, _ in self._running.values())

    # --- giving -------------------------------------------------------------------------------------------------------

    def _give(self, most: int) -> None:
        """Submits tasks while workers have room. Suspects come first, so that they need not wait for other tasks."""
        while not self._is_stopped and self.broken is None:
            alone = bool(self._suspects) or not self.retries
            if not self.carrier.has_room(alone=alone):
                return
            some = (self._suspects.popleft(),) if self._suspects else self._next(most)
            if not some:
                return
            source = self._suspects if alone else self._returned
            try:
                task = self.pack([item for _, item in some])
                self._running[self.carrier.submit(self.work, task, alone=alone)] = some, alone
            except BrokenExecutor as error:
                source.extendleft(reversed(some))
                self.broken = error
            except BaseException:
                source.extendleft(reversed(some))
                raise

    def _next(self, most: int) -> tuple[tuple[int, Item], ...]:
        """Returns the items of the next chunk: those that a chunk has left, or new ones."""
        size = self._size()
        source, is_new = (iter(self._returned), False) if self._returned else (self._numbered, True)
        if is_new:
            size = min(size, most - self._unanswered)
        some: list[tuple[int, Item]] = []
        weight = 0
        while len(some) < size and (not some or weight < _MOST_BYTES):
            try:
                found = next(source, None)
            except Exception as error:  # the caller's iterator may raise any exception
                found, self.unreadable = None, error
            if found is None:
                self._is_read |= is_new
                break
            some.append(found)
            weight += self.weigh(found[1])
        if is_new:
            self._read += len(some)
            self._unanswered += len(some)
        else:
            for _ in some:
                self._returned.popleft()
        return tuple(some)

    def _size(self) -> int:
        """Returns the next chunk's number of items: as many as answer in `seconds`, while enough remain for all."""
        if not self.retries:
            return 1
        workers = max(self.carrier.workers, 1)
        pace = self.answered / max(time.monotonic() - self._began, 0.001) / workers
        size = min(int(pace * self.seconds), self.most_chunk)
        if self.total is None:
            return max(self.chunk, size)
        share = math.ceil((self.total - self._read) / (2 * workers))
        return max(min(self.chunk, math.ceil(self.total / (3 * workers))), min(size, share), 1)

    # --- taking -------------------------------------------------------------------------------------------------------

    def _forget(self, future: "Future[Any]") -> tuple[tuple[tuple[int, Item], ...], bool]:
        self.carrier.taken(future)
        return self._running.pop(future)

    def _take(self, future: "Future[Any]") -> Iterator[tuple[int, Answer]]:
        some, alone = self._forget(future)
        error = future.exception()
        answers: Sequence[Answer | BaseException]
        if error is None:
            answers = future.result()
        elif self.is_fatal(error):
            raise error
        else:
            answers = [error] * len(some)
            if isinstance(error, BrokenExecutor):
                self.broken = error
        self._returned.extend(some[len(answers) :])
        for (number, item), answer in zip(some, answers, strict=False):
            if isinstance(answer, BaseException):
                yield from self._failed(number, item, answer, alone)
            else:
                self.answered += 1
                yield number, self._over(number, answer)

    def _failed(self, number: int, item: Item, error: BaseException, alone: bool) -> Iterator[tuple[int, Answer]]:
        if self.is_fatal(error):
            raise error
        self.on_lost(number, error)
        is_left = isinstance(error, WorkerLeft) and self._left[number] < _MOST_LEFT
        self._left[number] += is_left
        if is_left or isinstance(error, BrokenExecutor):
            (self._suspects if alone else self._returned).append((number, item))
            return
        self._tries[number] += alone
        if self._tries[number] < self.retries:
            self._suspects.append((number, item))
        else:
            yield number, self._over(number, self.give_up(number, item, error))

    def _over(self, number: int, answer: Answer) -> Answer:
        """Removes the counts of an item that has its answer."""
        self._tries.pop(number, None)
        self._left.pop(number, None)
        return answer
