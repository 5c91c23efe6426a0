"""Sweeps: something happens at every line, or every call, of something else, or is tried in many ways.

All of one takes half a minute and more. So a run of the whole suite (`make test`) takes a third of them, another third
for each commit; where PROXYBOX_SWEEP is not set, as by hand, all of them come.
"""

import os
import zlib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

PARTS = 3


def part(items: Iterable[T]) -> list[T]:
    """Those of the items that are tried."""
    word = os.environ.get("PROXYBOX_SWEEP", "")
    return list(items)[zlib.crc32(word.encode()) % PARTS :: PARTS] if word else list(items)


def numbers(end: int) -> list[int]:
    """Those from 1 to `end` that are tried."""
    return part(range(1, end))
