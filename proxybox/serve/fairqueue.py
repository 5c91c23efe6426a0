"""A queue of requests by key: of the keys that wait, the one that was served longest ago is next.

So a key that floods a service delays only its own requests. The user of the queue applies further bounds.
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

#: The number of keys for which the queue stores when they were served.
MOST_KEYS: Final = 10_000


class FairQueue(Generic[T]):
    """Each key has a line, in which the oldest item is first. Keys that were never served come before all others."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[T]] = {}
        self._served: OrderedDict[str, int] = OrderedDict()
        self._services = itertools.count(1)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(tuple(self._lines.values()))

    def line(self, key: str) -> Sequence[T]:
        """Returns the items of a key, the oldest first."""
        return self._lines.get(key, ())

    def longest(self) -> str:
        """The key of the longest line."""
        return max(self._lines, key=lambda key: len(self._lines[key]))

    def put(self, key: str, item: T, *, first: bool = False) -> None:
        """Adds an item to the line of its key: to its end, or as the first one."""
        line = self._lines.setdefault(key, deque())
        (line.appendleft if first else line.append)(item)
        self._count += 1

    def remove(self, key: str, item: T) -> bool:
        """Removes an item that is no longer to be served. Returns whether it was in the queue."""
        line = self._lines.get(key, deque())
        if item not in line:
            return False
        line.remove(item)
        self._count -= 1
        if not line:
            del self._lines[key]
        return True

    def next(self, choose: Callable[[str, Sequence[T]], tuple[Any, T] | None]) -> tuple[str, T] | None:
        """Removes the next item, and returns its key and the item; None if no item can be served.

        choose: is called with each key and its line. It returns a rank and the item that can be served now, or None.
        Items of lower ranks are next before those of higher ranks.
        """
        best: tuple[Any, int] | None = None
        found: tuple[str, T] | None = None
        for key, line in self._lines.items():
            chosen = choose(key, line)
            if chosen is not None and (best is None or (chosen[0], self._served.get(key, 0)) < best):
                best, found = (chosen[0], self._served.get(key, 0)), (key, chosen[1])
        if found is not None:
            self.remove(*found)
            self.serve(found[0])
        return found

    def serve(self, key: str) -> None:
        """Notes that a key is served now."""
        self._served[key] = next(self._services)
        self._served.move_to_end(key)
        if len(self._served) > MOST_KEYS:
            self._served.popitem(last=False)
