"""How many descriptors of this process may be held for guests, and which part of them each box gets.

Rules: the guests of all boxes together may take at most half of the present soft limit (RLIMIT_NOFILE). The other half
is for the caller, and for what an idle box needs. The limit of a caller's process is never raised. Half of the share is
for the first FLOOR descriptors of each box, which it gets whatever others hold, as long as this half lasts. In the
other half, a box may hold as many as are still free there. So the first greedy box leaves half of it, the next leaves
half of that, and later boxes are not shut out.
"""

from __future__ import annotations

import errno
import resource
import threading
from collections.abc import Callable

from proxybox.controller.perprocess import PerProcess

FLOOR = 8
_NO_LIMIT = 1 << 30
_OWN_LIMIT = 1 << 16


def soft_limit() -> int:
    """Returns how many descriptors this process may open now."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def raise_own_limit() -> None:
    """Raises the soft limit, for processes that are proxybox's own: a pool's workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OWN_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _OWN_LIMIT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


#: Reentrant: the garbage collector may close a file of a dead box while this thread holds the lock.
_counting = PerProcess(threading.RLock)


class DescriptorShare:
    """The descriptors that all boxes of this process may hold for their guests; any thread may use it.

    soft: returns the limit of the process.
    """

    def __init__(self, soft: Callable[[], int] = soft_limit) -> None:
        self._soft = soft
        self._held = 0
        self._beyond_floors = 0

    def take(self, box: Allotment, count: int) -> None:
        """Gives a box `count` descriptors more. Raises OSError (ENFILE)."""
        limit = self._soft() // 2
        with _counting():
            held = box.held + count
            beyond = 0 if held <= FLOOR else held - max(FLOOR, box.held)
            free = limit // 2 - self._beyond_floors - beyond
            if self._held + count > limit or (beyond and held - FLOOR > free):
                raise OSError(errno.ENFILE, "the box's part of the host's descriptors is used up")
            self._beyond_floors += beyond
            self._held += count
            box.held = held

    def give_back(self, box: Allotment, count: int) -> None:
        """Takes `count` descriptors of a box back."""
        with _counting():
            held = box.held - count
            if box.held > FLOOR:
                self._beyond_floors -= box.held - max(FLOOR, held)
            self._held -= count
            box.held = held


_share = DescriptorShare()


class Allotment:
    """The descriptors that one box holds for its guest.

    share: the share that they come from; by default that of the process.
    """

    __slots__ = ("_share", "held")

    def __init__(self, share: DescriptorShare | None = None) -> None:
        self._share = share or _share
        self.held = 0

    def again(self) -> Allotment:
        """Returns an allotment for another box, which holds nothing yet."""
        return Allotment(self._share)

    def take(self, count: int = 1) -> None:
        """Takes `count` descriptors more. Raises OSError (ENFILE)."""
        self._share.take(self, count)

    def give_back(self, count: int = 1) -> None:
        """Gives `count` descriptors back, which have been closed."""
        self._share.give_back(self, count)
