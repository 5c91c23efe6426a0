"""The descriptor table of a box: small numbers for open file descriptions.

Rules: a new descriptor is always the lowest free number; a description is closed with its last descriptor. The numbers
belong to the box and have nothing to do with host descriptors.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from proxybox.controller.vfs.openfiles import OpenFile, RegularOpenFile


class DescriptorTable:
    """The table. open_files: the limit for the number of descriptors, and the first number that is never used."""

    __slots__ = ("_cloexec", "_files", "_hint", "open_files")

    def __init__(self, open_files: int | None = 256) -> None:
        self.open_files = 1 << 20 if open_files is None else open_files
        self._files: dict[int, OpenFile] = {}
        self._cloexec: set[int] = set()
        self._hint = 0  # no number below it is free

    def get(self, fd: int) -> OpenFile:
        """The description behind a descriptor. Raises EBADF."""
        file = self._files.get(fd)
        if file is None:
            raise OSError(errno.EBADF, "not an open descriptor")
        return file

    def __contains__(self, fd: int) -> bool:
        return fd in self._files

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[int]:
        """The open descriptors, ascending."""
        return iter(sorted(self._files))

    def writable_files(self) -> list[tuple[int, RegularOpenFile]]:
        """The descriptors of regular files that are open for writing, and their descriptions."""
        return [(fd, file) for fd, file in self._files.items() if isinstance(file, RegularOpenFile) and file.may_write]

    def install(self, file: OpenFile, cloexec: bool = False, minimum: int = 0) -> int:
        """Gives `file` the lowest free number from `minimum` on. Raises EMFILE, after closing an unused `file`."""
        try:
            fd = self.lowest(minimum)
        except OSError:
            if file.references == 0:
                file.close()
            raise
        return self.enter(fd, file, cloexec)

    def room_for(self, count: int) -> None:
        """Raises EMFILE unless `count` more descriptors are free (for pipe, socketpair)."""
        if len(self._files) + count > self.open_files:
            raise OSError(errno.EMFILE, "too many open descriptors")

    def lowest(self, minimum: int = 0) -> int:
        """Returns the lowest free number from `minimum` on. Raises EMFILE; as in Linux, before a file is made."""
        fd = max(minimum, self._hint)
        while fd in self._files:
            fd += 1
        if fd >= self.open_files:
            raise OSError(errno.EMFILE, "too many open descriptors")
        if minimum <= self._hint:
            self._hint = fd
        return fd

    def enter(self, fd: int, file: OpenFile, cloexec: bool) -> int:
        """Gives `file` a number that is free, and returns it."""
        file.hold()
        self._files[fd] = file
        if cloexec:
            self._cloexec.add(fd)
        else:
            self._cloexec.discard(fd)
        return fd

    def dup(self, fd: int, minimum: int = 0, cloexec: bool = False) -> int:
        """Makes another descriptor for the same description, the lowest free one from `minimum` on.

        Raises EBADF, EINVAL, EMFILE.
        """
        file = self.get(fd)
        if not 0 <= minimum < self.open_files:
            raise OSError(errno.EINVAL, "no such descriptor number can be")
        return self.install(file, cloexec, minimum)

    def dup2(self, fd: int, newfd: int, cloexec: bool = False) -> int:
        """Makes `newfd` another descriptor for the description of `fd`, and closes the old one. Raises EBADF."""
        file = self.get(fd)
        if not 0 <= newfd < self.open_files:
            raise OSError(errno.EBADF, "no such descriptor number can be")
        if fd == newfd:
            return fd
        file.hold()
        try:
            if newfd in self._files:
                self.close(newfd)
            self.enter(newfd, file, cloexec)
        finally:
            file.release()
        return newfd

    def close(self, fd: int) -> None:
        """Closes a descriptor. Raises EBADF."""
        file = self._files.pop(fd, None)
        if file is None:
            raise OSError(errno.EBADF, "not an open descriptor")
        self._cloexec.discard(fd)
        self._hint = min(self._hint, fd)
        file.release()

    def close_range(self, first: int, last: int) -> None:
        """Closes every open descriptor from `first` to `last`."""
        for fd in [fd for fd in self._files if first <= fd <= last]:
            self.close(fd)

    def cloexec_range(self, first: int, last: int) -> None:
        """Sets close-on-exec on every open descriptor from `first` to `last`."""
        self._cloexec.update(fd for fd in self._files if first <= fd <= last)

    def close_all(self) -> None:
        """Closes everything at the end of the box; continues after errors."""
        for fd in list(self._files):
            try:
                self.close(fd)
            except OSError:
                continue

    def cloexec(self, fd: int) -> bool:
        """F_GETFD: the close-on-exec flag. Raises EBADF."""
        self.get(fd)
        return fd in self._cloexec

    def set_cloexec(self, fd: int, value: bool) -> None:
        """F_SETFD: sets the close-on-exec flag. Raises EBADF."""
        self.get(fd)
        if value:
            self._cloexec.add(fd)
        else:
            self._cloexec.discard(fd)
