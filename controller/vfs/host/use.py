"""What a box has of the host: the files that it holds open there, and what it has put on the disk.

Rules: a box has one host descriptor for each inode and access mode, however often its guest opens it; offsets, flags
and locks are the box's own (openfiles.py), so it does not matter which. The opening itself happens each time, for the
host's permissions. What is written is charged as files in memory are: a name an inode, a page that did not exist a
page, a hole nothing. It is credited when it is gone from the disk, which the last descriptor of an unlinked file keeps
from happening; never more than was charged, whatever others on the host do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from proxybox.controller.abi import O_RDONLY, O_RDWR, O_WRONLY
from proxybox.controller.costs.descriptorshare import Allotment
from proxybox.controller.vfs.host.pageset import PageSet
from proxybox.controller.vfs.quota import PAGE, Quota

FileId = tuple[int, int]
"""Device and inode number of a file on the host."""

_NOWHERE = 1 << 64


def identity(seen: os.stat_result) -> FileId:
    """What identifies a file on the host, as long as it exists."""
    return seen.st_dev, seen.st_ino


class HeldFile:
    """An open file of the host. users: the nodes that share it."""

    __slots__ = ("_use", "fd", "file", "mode", "users")

    def __init__(self, use: HostUse, fd: int, file: FileId, mode: int) -> None:
        self._use = use
        self.fd = fd
        self.file = file
        self.mode = mode
        self.users = 1

    def release(self) -> bool:
        """One user less; whether the file itself is gone from the disk with the last."""
        self.users -= 1
        return self.users == 0 and self._use._close(self)


class Account:
    """What a box was charged for one file of the host. names: how many it has made. pages: that it has written."""

    __slots__ = ("names", "pages")

    def __init__(self, names: int = 0, pages: PageSet | None = None) -> None:
        self.names = names
        self.pages = PageSet() if pages is None else pages


class HostUse:
    """One for each box. quota: what is charged. allotment: of descriptors."""

    def __init__(self, quota: Quota, allotment: Allotment | None = None) -> None:
        self.quota = quota
        self.allotment = Allotment() if allotment is None else allotment
        self._held: dict[tuple[FileId, int], HeldFile] = {}
        self._accounts: dict[FileId, Account] = {}

    # --- descriptors ---

    def hold(self, fd: int, mode: int) -> HeldFile:
        """Keep what was opened, with the access mode `mode`. `fd` is closed where the file is held already, and where
        there is no place for it: ENFILE.
        """
        try:
            file = identity(os.fstat(fd))
            held = self._held.get((file, mode))
            if held is not None:
                held.users += 1  # at once: from here on the collector of garbage cannot close it
                if held.fd >= 0:
                    os.close(fd)
                    return held
            self.allotment.take()
        except OSError:
            os.close(fd)
            raise
        return self.keep(fd, file, mode)

    def keep(self, fd: int, file: FileId, mode: int) -> HeldFile:
        """As `hold`, for a file that is not held yet, and for whose descriptor the allotment was asked."""
        held = self._held[file, mode] = HeldFile(self, fd, file, mode)
        return held

    def _close(self, held: HeldFile) -> bool:
        fd, held.fd = held.fd, -1
        if self._held.get((held.file, held.mode)) is held:
            del self._held[held.file, held.mode]
        try:
            gone = not self._holds(held.file) and _links_left(fd) == 0
            if gone:
                self.forget(held.file)
        finally:
            os.close(fd)
            self.allotment.give_back()
        return gone

    def _holds(self, file: FileId) -> bool:
        held = self._held
        return (file, O_RDONLY) in held or (file, O_RDWR) in held or (file, O_WRONLY) in held

    # --- names ---

    def named(self, file: FileId, *, new: bool) -> None:
        """Note a name whose inode was charged. new: of a new file; what had its number before was removed by others."""
        if new:
            self.forget(file)
        self._account(file).names += 1

    def lost_name(self, before: os.stat_result, fd: int) -> bool:
        """Note that a file has lost a name in this box; whether it is gone with it. before: its status with the name.
        fd: of the file, of any kind.
        """
        file, left = identity(before), _links_left(fd)
        if left == 0:
            if self._holds(file):
                return False  # the last descriptor says so
            self.forget(file)
            return True
        account = self._accounts.get(file)
        if account is not None and left < before.st_nlink and account.names:
            account.names -= 1
            self.quota.credit_inode()
            self._drop_empty(file, account)
        return False

    def forget(self, file: FileId) -> None:
        """Credit all that was charged for a file that does not exist any more."""
        account = self._accounts.pop(file, None)
        if account is not None:
            self.quota.credit_pages(account.pages.count)
            for _ in range(account.names):
                self.quota.credit_inode()

    # --- contents ---

    def charge_write(self, fd: int, file: FileId, offset: int, size: int) -> tuple[int, list[int]]:
        """Charge the pages that a write of at most a megabyte would add. How many bytes may be written, and the pages.
        ENOSPC when it is none.
        """
        missing = self._missing(file, offset // PAGE, (offset + size - 1) // PAGE)
        absent = _absent(fd, missing) if missing else missing
        if not absent:
            return size, absent
        free = self.quota.free_pages()
        if free < len(absent):
            size = absent[free] * PAGE - offset
            if size <= 0:
                self.quota.refuse("no space left for what the box may write")
            del absent[free:]
        self._charge(file, absent)
        return size, absent

    def charge_length(self, file: FileId, was: int, size: int) -> list[int]:
        """As `charge_write`, for all that lies between two lengths: on filesystems that may not have holes."""
        first, last = pages_of(was), pages_of(size) - 1
        if last - first >= self.quota.free_pages():  # looked at before the pages: they may be very many
            self.quota.refuse("no space left for what the box may write")
        missing = self._missing(file, first, last)
        self._charge(file, missing)
        return missing

    def credit(self, file: FileId, pages: list[int]) -> None:
        """Give back charged pages that were not written after all."""
        account = self._accounts.get(file)
        if account is not None and pages:
            account.pages.remove(pages)
            self.quota.credit_pages(len(pages))
            self._drop_empty(file, account)

    def cut(self, file: FileId, size: int) -> None:
        """Note that a file has no more than `size` bytes now."""
        account = self._accounts.get(file)
        if account is not None:
            self.quota.credit_pages(account.pages.cut(pages_of(size)))
            self._drop_empty(file, account)

    def _missing(self, file: FileId, first: int, last: int) -> list[int]:
        account = self._accounts.get(file)
        return list(range(first, last + 1)) if account is None else account.pages.missing(first, last)

    def _charge(self, file: FileId, pages: Iterable[int]) -> None:
        pages = list(pages)
        if pages:
            self.quota.charge_pages(len(pages))
            self._account(file).pages.add(pages)

    def _account(self, file: FileId) -> Account:
        return self._accounts.setdefault(file, Account())

    def _drop_empty(self, file: FileId, account: Account) -> None:
        if not account.names and not account.pages.count:
            del self._accounts[file]


def pages_of(size: int) -> int:
    """How many pages so many bytes touch."""
    return (size + PAGE - 1) // PAGE


def _links_left(fd: int) -> int:
    try:
        return os.fstat(fd).st_nlink
    except OSError:  # some network filesystems know nothing of a file that was removed
        return 0


def _absent(fd: int, pages: list[int]) -> list[int]:
    """Those of the pages, ascending, that a file does not have: its holes, and what is beyond its end."""
    absent = []
    start = end = -1  # of the stretch of data that was looked at last
    for page in pages:
        at = page * PAGE
        if at >= end:
            start = _seek(fd, at, os.SEEK_DATA)
            end = _seek(fd, start, os.SEEK_HOLE)
        if at + PAGE <= start:
            absent.append(page)
    return absent


def _seek(fd: int, offset: int, whence: int) -> int:
    """lseek(2). What cannot be told counts as a hole, and is charged."""
    try:
        return os.lseek(fd, offset, whence) if offset < _NOWHERE else _NOWHERE
    except OSError as error:
        if error.errno == errno.EBADF:
            raise
        return _NOWHERE
