"""The results of handlers: an answer, or a wait for a driver to carry out.

Rule: nothing here waits or talks to a guest. The same values serve every driver.
"""

from collections.abc import Callable, Set
from typing import Any, TypeAlias

import attrs

#: Bytes to store in the guest: (guest address, data).
Write: TypeAlias = tuple[int, bytes]


@attrs.frozen(slots=True, eq=False)
class Blocked:
    """A wait: the call cannot be answered yet.

    attempt: tried again when a source of the wait has changed; None means "still not ready". It may raise OSError.
    deadline_ns: host monotonic time in nanoseconds at which `on_timeout` returns the answer; None waits forever.
    on_interrupt: returns the answer when a signal ends the wait; without it, that is -EINTR. If it returns None,
    signals do not end the wait. host_fd: a host descriptor whose readability may unblock the call (standard input
    only). sources: what the wait depends on, in the terms of `Changes.tell`. None stands for anything, so that the wait
    is tried again after every call of the box. The sets may be views that change while the wait lasts. unfinished:
    whether the call waits only for its next turn.
    """

    attempt: Callable[[], "Reply | None"]
    deadline_ns: int | None = None
    on_timeout: Callable[[], "Reply"] | None = None
    on_interrupt: Callable[[], "Reply | None"] | None = None
    host_fd: int | None = None
    sources: tuple[Set[object], ...] | None = None
    unfinished: bool = False

    def names(self, source: object) -> bool:
        """Whether `source` is one of the wait's sources."""
        return self.sources is not None and any(source in each for each in self.sources)

    def is_about(self, changed: Set[object]) -> bool:
        """Whether the wait depends on one of the changed sources."""
        return self.sources is None or any(not each.isdisjoint(changed) for each in self.sources)


class AnotherTurn(Exception):
    """Raised inside a handler that has done as much as one turn allows.

    The handler has stored its progress, and has had no other effect. The call is made again at the driver's next turn,
    after the requests of others, and continues from there.
    """


class Changes:
    """What has changed in a box since its waits were last tried.

    Code that makes a description ready reports it here by its source: the buffer of a pipe, a counter, an epoll
    instance. everything: set for a change that has no source, or when there were too many sources. seen: results about
    descriptions that the current tries of waits share; None while none is tried. It is valid until something changes.
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
        """Notes that `source` has changed, so that the waits for it are tried again."""
        if self.seen:
            self.seen.clear()
        if len(self._sources) < self.MOST:
            self._sources.add(source)
        else:
            self.everything = True

    def take(self) -> Set[object] | None:
        """Returns the sources that have changed, and forgets them; None stands for everything."""
        everything, sources = self.everything, self._sources
        self.everything, self._sources = False, set()
        return None if everything else sources


Reply: TypeAlias = int | tuple[int, *tuple[Write, ...]] | Blocked
"""The call's value as the kernel would return it (>= 0 or -errno), perhaps with bytes to store; or a wait."""
