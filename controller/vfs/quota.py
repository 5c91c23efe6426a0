"""How much a box may keep in memory-backed filesystems: bytes (counted in pages) and inodes.

Rule: everything that a guest can make the controller remember in a filesystem is charged here before it is allocated,
and credited when it is freed.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TypeVar

import attrs

PAGE = 4096
#: A dict or set that has only grown has fewer bytes than this: when it is empty, and for each entry.
_EMPTY, _OF_AN_ENTRY = 512, 256

_Entries = TypeVar("_Entries", dict[Any, Any], set[Any])


def shrunk(entries: _Entries) -> _Entries:
    """The same entries, in less memory where most have been removed: Python does not free the room of removed entries.

    No quota is charged for that room. So every dict or set of a guest's pages or names must be shrunk when some are
    removed.
    """
    if sys.getsizeof(entries) <= _EMPTY + _OF_AN_ENTRY * len(entries):
        return entries
    return entries.copy()


def half_of_memory() -> int:
    """Half of the machine's memory in bytes, which is the default limit of tmpfs(5)."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


@attrs.define(slots=True, kw_only=True, eq=False)
class Quota:
    """Limits shared by all memory-backed nodes of a box, or of one mount with the box's quota as `parent`.

    bytes: how many bytes may be kept; None stands for half of the machine's memory. inodes: how many files, directories
    and links may exist; None for no limit. exceeded: becomes True, here and in the parents, when something was
    refused.
    """

    bytes: int | None = None
    inodes: int | None = None
    parent: Quota | None = None
    used_bytes: int = 0
    used_inodes: int = 0
    exceeded: bool = False
    _limit: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._limit = half_of_memory() if self.bytes is None else self.bytes

    def allow(self, bytes: int | None, inodes: int | None) -> None:  # noqa: A002 - as in the fields
        """Sets the limits to so much more than is used now. None: half of memory for bytes, no limit for inodes."""
        self.bytes = None if bytes is None else self.used_bytes + bytes
        self.inodes = None if inodes is None else self.used_inodes + inodes
        self._limit = self.used_bytes + (half_of_memory() if bytes is None else bytes)

    @property
    def limit(self) -> int:
        """How many bytes may be kept; a number also when `bytes` is None."""
        return self._limit

    def free_pages(self) -> int:
        """How many more pages may be charged, here and in the parents."""
        free = (self._limit - self.used_bytes) // PAGE
        return max(0, free if self.parent is None else min(free, self.parent.free_pages()))

    def free_inodes(self) -> int | None:
        """How many more inodes may be charged, here and in the parents; None for no limit."""
        own = None if self.inodes is None else max(0, self.inodes - self.used_inodes)
        above = None if self.parent is None else self.parent.free_inodes()
        return own if above is None else above if own is None else min(own, above)

    def charge_pages(self, count: int) -> None:
        """Charges `count` pages. Raises ENOSPC, as a full tmpfs does."""
        if count > self.free_pages():
            self.refuse("no space left in the box's memory filesystems")
        self._add(count * PAGE, 0)

    def credit_pages(self, count: int) -> None:
        """Credits pages that were charged by `charge_pages`."""
        self._add(-count * PAGE, 0)

    def charge_inode(self) -> None:
        """Charges one inode. Raises ENOSPC."""
        if self.free_inodes() == 0:
            self.refuse("no inodes left in the box's memory filesystems")
        self._add(0, 1)

    def credit_inode(self) -> None:
        """Credits one inode."""
        self._add(0, -1)

    def refuse(self, why: str) -> None:
        """Records that a limit was reached, and raises ENOSPC."""
        level: Quota | None = self
        while level is not None:
            level.exceeded = True
            level = level.parent
        raise OSError(errno.ENOSPC, why)

    def _add(self, size: int, inodes: int) -> None:
        level: Quota | None = self
        while level is not None:
            level.used_bytes += size
            level.used_inodes += inodes
            level = level.parent
