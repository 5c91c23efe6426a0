"""Collections of a limited size: further items are only counted."""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Table(dict[Key, Value], Generic[Key, Value]):
    """Values by key, each made at the first use of its key; all keys beyond the first `most` share one value.

    rest: that value. left_out: how often `rest` was returned.
    """

    def __init__(self, make: Callable[[], Value], most: int) -> None:
        super().__init__()
        self._make, self._most = make, most
        self.rest = make()
        self.left_out = 0

    def of(self, key: Key) -> Value:
        """Returns the value of a key."""
        if key in self:
            return self[key]
        if len(self) >= self._most:
            self.left_out += 1
            return self.rest
        made = self[key] = self._make()
        return made


class Counts(Counter[Key]):
    """Counts by key. Keys beyond the first `most` are counted as `other`."""

    def __init__(self, most: int, other: Key) -> None:
        super().__init__()
        self._most, self._other = most, other

    def add(self, key: Key, count: int = 1) -> None:
        """Adds to the count of a key."""
        self[key if key in self or len(self) < self._most else self._other] += count
