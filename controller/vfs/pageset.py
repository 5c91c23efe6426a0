"""Which pages of a file are charged: a set that stays small, wherever a guest writes."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from proxybox.controller.vfs.quota import shrunk

_WORD = 512


class PageSet:
    """A set of page numbers: one bit for each, in words that are only stored when they have a bit.

    A page far from all others takes some 250 bytes; each of many adjacent pages takes less than one.
    """

    __slots__ = ("_starts", "_words", "count")

    def __init__(self) -> None:
        self.count = 0
        self._words: dict[int, int] = {}
        self._starts: list[int] = []  # the numbers of the words, ascending, so that the end can be cut off at once

    def copy(self) -> PageSet:
        """A separate set with the same pages."""
        other = PageSet()
        other.count, other._words, other._starts = self.count, dict(self._words), list(self._starts)
        return other

    def missing(self, first: int, last: int) -> list[int]:
        """The pages from `first` to `last` that are not in the set."""
        found: list[int] = []
        for word, low, high in _words_of(first, last):
            base, wanted = word * _WORD, _bits(low, high)
            absent = wanted & ~self._words.get(word, 0)
            if absent == wanted:
                found += range(base + low, base + high + 1)
            elif absent:
                found += [base + bit for bit in range(low, high + 1) if absent >> bit & 1]
        return found

    def count_missing(self, first: int, last: int) -> int:
        """How many pages from `first` to `last` are not in the set."""
        get = self._words.get
        return sum((_bits(low, high) & ~get(word, 0)).bit_count() for word, low, high in _words_of(first, last))

    def fill(self, first: int, last: int) -> None:
        """Adds all pages from `first` to `last`, whether they are in the set or not."""
        self.count += self.count_missing(first, last)
        get, new = self._words.get, []
        for word, low, high in _words_of(first, last):
            if word not in self._words:
                new.append(word)
            self._words[word] = get(word, 0) | _bits(low, high)
        self._begin(new)

    def add(self, pages: Iterable[int]) -> None:
        """Adds pages that are not in the set."""
        new = []
        for page in pages:
            word, bit = divmod(page, _WORD)
            if word not in self._words:
                self._words[word] = 0
                new.append(word)
            self._words[word] |= 1 << bit
            self.count += 1
        self._begin(new)

    def _begin(self, words: list[int]) -> None:
        """Adds new words. Inserting them one by one would take quadratic time."""
        if len(words) == 1:
            insort(self._starts, words[0])
        elif words:
            self._starts += words
            self._starts.sort()

    def remove(self, pages: Iterable[int]) -> None:
        """Removes pages that are in the set."""
        for page in pages:
            word, bit = divmod(page, _WORD)
            self._words[word] &= ~(1 << bit)
            self.count -= 1
            if not self._words[word]:
                del self._words[word], self._starts[bisect_left(self._starts, word)]
        self._words = shrunk(self._words)

    def cut(self, first: int) -> int:
        """Removes all pages from `first` on, and returns how many there were."""
        before = self.count
        word, bit = divmod(first, _WORD)
        count = bisect_left(self._starts, word + 1 if bit else word)
        for number in self._starts[count:]:
            self.count -= self._words.pop(number).bit_count()
        del self._starts[count:]
        self._words = shrunk(self._words)
        if bit and word in self._words:
            rest = self._words[word] >> bit
            self.count -= rest.bit_count()
            self._words[word] &= (1 << bit) - 1
        return before - self.count


def _words_of(first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """The words that have the pages from `first` to `last`, each with the first and the last bit of these pages."""
    for word in range(first // _WORD, last // _WORD + 1):
        yield word, max(first - word * _WORD, 0), min(last - word * _WORD, _WORD - 1)


def _bits(low: int, high: int) -> int:
    return (2 << high) - (1 << low)
