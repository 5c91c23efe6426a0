"""Sweeps: something happens at every line, or every call, of something else, or is tried in many ways.

All of one takes half a minute and more. So a run of the whole suite (`make test`) takes a sixth of them, another sixth
for each commit; where PROXYBOX_SWEEP is not set, as by hand, all of them come.
"""

import os
import zlib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

PARTS = 6


def part(items: Iterable[T], parts: int = PARTS) -> list[T]:
    """Those of the items that are tried: one of so many parts, and one item at the least."""
    word, all_of_them = os.environ.get("PROXYBOX_SWEEP", ""), list(items)
    if not word:
        return all_of_them
    return all_of_them[zlib.crc32(word.encode()) % min(parts, len(all_of_them)) :: parts]


def comes(name: str, parts: int = 2) -> bool:
    """Whether what has this name is in this commit's part of so many."""
    word = os.environ.get("PROXYBOX_SWEEP", "")
    return not word or zlib.crc32(f"{word} {name}".encode()) % parts == 0


def numbers(end: int) -> list[int]:
    """Those from 1 to `end` that are tried."""
    return part(range(1, end))
