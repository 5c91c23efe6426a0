"""What a handler returns: an answer, or a wait for a driver to carry out.

Rule: nothing here waits or talks to a guest. The same values serve every driver.
"""

from collections.abc import Callable, Set
from typing import Any, TypeAlias

import attrs

#: Bytes to store in the guest: (guest address, data).
Write: TypeAlias = tuple[int, bytes]


@attrs.frozen(slots=True)
class Blocked:
    """The call cannot be answered yet.

    attempt: tried again when something has changed that it waits for; None means "still not ready". May raise OSError.
    deadline_ns: host monotonic nanoseconds at which `on_timeout` gives the answer; None waits for ever.
    on_interrupt: the answer when a signal ends the wait; -EINTR when None. What gives None is not ended by signals.
    host_fd: a host descriptor whose readability may unblock the call (standard input only).
    sources: what it waits for, as `Changes` is told of it; None stands for whatever can happen, so that the wait is
    tried again after every call of the box. They may be views of what others add to.
    unfinished: it waits for nothing but its next turn.
    """

    attempt: Callable[[], "Reply | None"]
    deadline_ns: int | None = None
    on_timeout: Callable[[], "Reply"] | None = None
    on_interrupt: Callable[[], "Reply | None"] | None = None
    host_fd: int | None = None
    sources: tuple[Set[object], ...] | None = None
    unfinished: bool = False

    def names(self, source: object) -> bool:
        """Whether that is one of its sources."""
        return self.sources is not None and any(source in each for each in self.sources)

    def is_about(self, changed: Set[object]) -> bool:
        """Whether it waits for something of that."""
        return self.sources is None or any(not each.isdisjoint(changed) for each in self.sources)


class AnotherTurn(Exception):
    """Raised inside a handler that has done as much as one turn allows. What it has done is kept where it was done, and
    nothing else has happened: the call is made again, at once but behind what others want, and goes on from there."""


class Changes:
    """What has changed in a box since its waits were tried last.

    Whatever makes a description ready tells of it here, by its source: the buffer of a pipe, a counter, an epoll
    instance. everything: for what has no source, or when there were too many. seen: what the waits that are being tried
    have found out about descriptions already, None while none is tried: it is true until something changes.
    """

    __slots__ = ("_sources", "everything", "seen")

    MOST = 1024

    def __init__(self) -> None:
        self._sources: set[object] = set()
        self.everything = False
        self.seen: dict[Any, int] | None = None

    def __bool__(self) -> bool:
        return self.everything or bool(self._sources)

    def tell(self, source: object) -> None:
        """It has changed, so that those who wait for it look again."""
        if self.seen:
            self.seen.clear()
        if len(self._sources) < self.MOST:
            self._sources.add(source)
        else:
            self.everything = True

    def take(self) -> Set[object] | None:
        """What has changed, and is to be looked at now; None for everything."""
        everything, sources = self.everything, self._sources
        self.everything, self._sources = False, set()
        return None if everything else sources


Reply: TypeAlias = int | tuple[int, *tuple[Write, ...]] | Blocked
"""The value of the system call as the kernel would return it (>= 0 or -errno), with what is to be stored, or a wait."""
