"""The bytes of bodies that are in memory for one client, and for all.

A request that finds no room waits, and is refused when it has waited too long.

Rules: requests are served in the order in which they come. A request that waits for others of the same client does not
delay other clients. A client that has no body in memory may send a body of any size, as soon as there is room in the
total: the size of one body has its own bound.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

import attrs

from proxybox.serve.problems import Refusal

#: Seconds after which a refused client may try again.
_AGAIN: Final = "2"


@attrs.define(eq=False)
class _Waiting:
    who: str
    size: int
    ready: "asyncio.Future[None]"


class Room:
    """Room for bodies.

    most: bytes of all. share: of one client. queue: how many may wait. patience: for how many seconds.
    """

    def __init__(self, *, most: int, share: int, queue: int, patience: float) -> None:
        self._most, self._share, self._queue, self._patience = most, share, queue, patience
        self.used = 0
        self._held: Counter[str] = Counter()
        self._waiting: deque[_Waiting] = deque()

    async def take(self, who: str, size: int) -> None:
        """Takes room for a body, to be released with `give`. Raises Refusal."""
        if self._take_now(who, size):
            return
        own = sum(each.who == who for each in self._waiting)
        if len(self._waiting) >= self._queue or own >= max(1, self._queue // 2):
            raise self._no_room(who)
        waiting = _Waiting(who, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._let_in()
        try:
            async with asyncio.timeout(self._patience):
                await waiting.ready
        except BaseException as error:
            if waiting.ready.done() and not waiting.ready.cancelled():
                self.give(who, size)
            else:
                self._waiting.remove(waiting)
                self._let_in()  # it may have delayed others
            if isinstance(error, TimeoutError):
                raise self._no_room(who) from None
            raise

    @contextlib.contextmanager
    def at_once(self, who: str, size: int) -> Iterator[None]:
        """A context with room for a body that is already in memory, and so cannot wait. Raises Refusal."""
        if not self._take_now(who, size):
            raise self._no_room(who)
        try:
            yield
        finally:
            self.give(who, size)

    def _take_now(self, who: str, size: int) -> bool:
        is_free = not self._waiting and self._fits(who, size) and self._is_room(size)
        if is_free:
            self._hold(who, size)
        return is_free

    def give(self, who: str, size: int) -> None:
        """Releases room."""
        self.used -= size
        self._held[who] -= size
        if self._held[who] <= 0:
            del self._held[who]
        self._let_in()

    def _hold(self, who: str, size: int) -> None:
        self.used += size
        self._held[who] += size

    def _fits(self, who: str, size: int) -> bool:
        return not self._held[who] or self._held[who] + size <= self._share

    def _is_room(self, size: int) -> bool:
        return not self.used or self.used + size <= self._most

    def _let_in(self) -> None:
        for waiting in tuple(self._waiting):
            if waiting.ready.done():  # it was cancelled, and removes itself
                continue
            if not self._fits(waiting.who, waiting.size):
                continue
            if not self._is_room(waiting.size):
                return
            self._waiting.remove(waiting)
            self._hold(waiting.who, waiting.size)
            waiting.ready.set_result(None)

    def _no_room(self, who: str) -> Refusal:
        headers = {"Retry-After": _AGAIN}
        if self._held[who]:
            return Refusal("rate-limited", "too many bytes of requests of this key are in memory", headers=headers)
        return Refusal("overloaded", "too many bytes of requests are in memory", headers=headers)
