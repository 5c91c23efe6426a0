"""What a box uses of the host: the files that it holds open there, and what it has put on the disk.

Rules: a box has one host descriptor for each inode and access mode, however often its guest opens the file. It can be
shared because offsets, flags and locks are the box's own (openfiles.py). Each open of the guest still opens the file on
the host, which checks permissions. What is written is charged like files in memory: an inode for a name, a page for a
page that did not exist, nothing for a hole. It is credited when it is deleted from the disk: for an unlinked file, when
its last descriptor is closed. The credit is never larger than the charge, whatever other processes on the host do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from proxybox.controller.abi import O_RDONLY, O_RDWR, O_WRONLY
from proxybox.controller.costs.descriptorshare import Allotment
from proxybox.controller.vfs.pageset import PageSet
from proxybox.controller.vfs.quota import PAGE, Quota

FileId = tuple[int, int]
"""Device and inode number of a file on the host."""

_NOWHERE = 1 << 64


def identity(seen: os.stat_result) -> FileId:
    """Device and inode, which identify a file on the host as long as it exists."""
    return seen.st_dev, seen.st_ino


class HeldFile:
    """An open file of the host. users: how many nodes share it."""

    __slots__ = ("_use", "fd", "file", "mode", "users")

    def __init__(self, use: HostUse, fd: int, file: FileId, mode: int) -> None:
        self._use = use
        self.fd = fd
        self.file = file
        self.mode = mode
        self.users = 1

    def release(self) -> bool:
        """Removes one user. Returns whether this was the last one and the file itself was deleted from the disk."""
        self.users -= 1
        return self.users == 0 and self._use._close(self)


class FileCharge:
    """What a box was charged for one file of the host.

    names: how many names of it the box has made. pages: the pages that the box has written.
    """

    __slots__ = ("names", "pages")

    def __init__(self, names: int = 0, pages: PageSet | None = None) -> None:
        self.names = names
        self.pages = PageSet() if pages is None else pages


class HostUse:
    """What one box uses of the host. quota: pays for it. allotment: the box's share of host descriptors."""

    def __init__(self, quota: Quota, allotment: Allotment | None = None) -> None:
        self.quota = quota
        self.allotment = Allotment() if allotment is None else allotment
        self._held: dict[tuple[FileId, int], HeldFile] = {}
        self._accounts: dict[FileId, FileCharge] = {}

    # --- descriptors ---

    def hold(self, fd: int, mode: int) -> HeldFile:
        """Holds a file that was opened with the access mode `mode`.

        `fd` is closed when the file is already held, and when the allotment has no descriptor left: ENFILE.
        """
        try:
            file = identity(os.fstat(fd))
            held = self._held.get((file, mode))
            if held is not None:
                held.users += 1  # at once: from here on the garbage collector cannot close it
                if held.fd >= 0:
                    os.close(fd)
                    return held
            self.allotment.take()
        except OSError:
            os.close(fd)
            raise
        return self.keep(fd, file, mode)

    def keep(self, fd: int, file: FileId, mode: int) -> HeldFile:
        """Like `hold`, for a file that is not held yet, and whose descriptor was already taken from the allotment."""
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
        """Records a name whose inode was charged.

        new: whether the file is new. Then an earlier file with its number was removed by other processes, and is
        forgotten.
        """
        if new:
            self.forget(file)
        self._account(file).names += 1

    def lost_name(self, before: os.stat_result, fd: int) -> bool:
        """Records that a file has lost a name in this box. Returns whether the file itself was deleted from the disk.

        before: its status while it had the name. fd: a descriptor of the file, of any kind.
        """
        file, left = identity(before), _links_left(fd)
        if left == 0:
            if self._holds(file):
                return False  # closing the last descriptor reports it
            self.forget(file)
            return True
        account = self._accounts.get(file)
        if account is not None and left < before.st_nlink and account.names:
            account.names -= 1
            self.quota.credit_inode()
            self._drop_empty(file, account)
        return False

    def forget(self, file: FileId) -> None:
        """Credits everything that was charged for a file that no longer exists."""
        account = self._accounts.pop(file, None)
        if account is not None:
            self.quota.credit_pages(account.pages.count)
            for _ in range(account.names):
                self.quota.credit_inode()

    # --- contents ---

    def charge_write(self, fd: int, file: FileId, offset: int, size: int) -> tuple[int, list[int]]:
        """Charges the pages that a write of at most a megabyte would add.

        Returns how many bytes may be written, and the charged pages. Raises ENOSPC when no byte may be.
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
        """Like `charge_write`, for everything between two lengths, on filesystems that may not support holes."""
        first, last = pages_of(was), pages_of(size) - 1
        if last - first >= self.quota.free_pages():  # checked before the pages are listed: there may be very many
            self.quota.refuse("no space left for what the box may write")
        missing = self._missing(file, first, last)
        self._charge(file, missing)
        return missing

    def credit(self, file: FileId, pages: list[int]) -> None:
        """Credits pages that were charged but not written."""
        account = self._accounts.get(file)
        if account is not None and pages:
            account.pages.remove(pages)
            self.quota.credit_pages(len(pages))
            self._drop_empty(file, account)

    def cut(self, file: FileId, size: int) -> None:
        """Records that a file has no more than `size` bytes now."""
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

    def _account(self, file: FileId) -> FileCharge:
        return self._accounts.setdefault(file, FileCharge())

    def _drop_empty(self, file: FileId, account: FileCharge) -> None:
        if not account.names and not account.pages.count:
            del self._accounts[file]


def pages_of(size: int) -> int:
    """How many pages `size` bytes take."""
    return (size + PAGE - 1) // PAGE


def _links_left(fd: int) -> int:
    try:
        return os.fstat(fd).st_nlink
    except OSError:  # some network filesystems have no status of a removed file
        return 0


def _absent(fd: int, pages: list[int]) -> list[int]:
    """Which of the pages (ascending) a file does not have: those in holes, and those beyond its end."""
    absent = []
    start = end = -1  # the piece of data that was looked up last
    for page in pages:
        at = page * PAGE
        if at >= end:
            start = _seek(fd, at, os.SEEK_DATA)
            end = _seek(fd, start, os.SEEK_HOLE)
        if at + PAGE <= start:
            absent.append(page)
    return absent


def _seek(fd: int, offset: int, whence: int) -> int:
    """lseek(2). Where the host does not know, the pages count as a hole, and are charged."""
    try:
        return os.lseek(fd, offset, whence) if offset < _NOWHERE else _NOWHERE
    except OSError as error:
        if error.errno == errno.EBADF:
            raise
        return _NOWHERE
