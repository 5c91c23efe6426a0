"""The guest's standard input: bytes, a host descriptor, or a function of the caller's.

Rules: nothing here ever waits. A source that has nothing yet is told to the driver as `Blocked`
with the host descriptor to watch. The descriptor is read only after poll(2) has said that it is
readable, and is never closed.
"""

import errno
import os
import select
from collections.abc import Callable
from typing import Any

from proxybox.controller.effects import Blocked

#: What a source can be. A function is given the most bytes wanted and gives some; b"" is the end.
Source = bytes | int | Callable[[int], bytes | str]


class Stdin:
    """Standard input of one box."""

    __slots__ = ("_buffer", "_ended", "_function", "_offset", "host_fd", "taken")

    def __init__(self, source: Source | None = None) -> None:
        self.taken = 0
        self.feed(source)

    def feed(self, source: Source | None) -> None:
        """Reads come from another source from here on."""
        self.host_fd: int | None = None
        self._function: Callable[[int], bytes | str] | None = None
        self._buffer = b""
        self._offset = 0
        self._ended = False
        if isinstance(source, int):
            self.host_fd = source
        elif callable(source):
            self._function = source
        else:
            self._buffer = bytes(source or b"")

    @property
    def is_tty(self) -> bool:
        """Whether the source is a terminal of the host's."""
        return self.host_fd is not None and os.isatty(self.host_fd)

    def readable(self) -> bool:
        """Whether a read would not wait: there is data, or the end is reached. A function always
        has an answer.
        """
        if self.host_fd is None or self._offset < len(self._buffer):
            return True
        try:
            poll = select.poll()
            poll.register(self.host_fd, select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            return True

    def pending(self) -> int:
        """Bytes that are known to be waiting (FIONREAD)."""
        return len(self._buffer) - self._offset

    def take(self, size: int) -> bytes | None:
        """At most `size` bytes, b"" at the end, None when there is nothing yet."""
        if size <= 0:
            return b""
        if self._offset == len(self._buffer):
            if self.host_fd is not None:
                taken = self._take_host(self.host_fd, size)
                self.taken += len(taken or b"")
                return taken
            if self._function is not None:
                self._call(size)
        data = self._buffer[self._offset : self._offset + size]
        self._offset += len(data)
        self.taken += len(data)
        if self._offset == len(self._buffer) and self._function is not None:
            self._buffer, self._offset = b"", 0
        return data

    def read(self, size: int) -> bytes | Blocked:
        """`take`, with the wait as `Blocked`, whose attempt gives the bytes."""
        data = self.take(size)
        if data is not None:
            return data
        attempt: Any = lambda: self.take(size)  # noqa: E731 - a wait of bytes, not of a reply
        return Blocked(attempt, host_fd=self.host_fd)

    def _take_host(self, fd: int, size: int) -> bytes | None:
        if not self.readable():
            return None
        try:
            return os.read(fd, size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise OSError(errno.EIO, "standard input cannot be read") from error

    def _call(self, size: int) -> None:
        if self._ended or self._function is None:
            return
        try:
            data = self._function(size)
        except OSError as error:
            raise RuntimeError("the stdin function failed") from error
        self._buffer = data.encode() if isinstance(data, str) else bytes(data)
        self._offset = 0
        self._ended = not self._buffer
