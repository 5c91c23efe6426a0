"""The guest's standard input: bytes, a host descriptor, or a function of the caller's.

Rules: nothing here waits, except the caller's function. For a descriptor without data yet, the driver gets `Blocked`
with the descriptor to watch. The descriptor is read only after poll(2) has said that it is readable, and is never
closed.
"""

import contextlib
import errno
import os
import select
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import attrs

from proxybox.controller.callers import Callers, RaisedByCaller
from proxybox.controller.effects import Blocked
from proxybox.policies.checks import as_bytes
from proxybox.policies.errors import shown


@attrs.frozen
class Terminal:
    """A source that the program sees as a terminal with a person at it.

    read: a function that gets the most bytes wanted, and whether typed text is shown (ECHO of termios(3): False where a
    program reads a password). It returns some bytes or text, usually a line with its end. b"" is the end of the file,
    as with Ctrl-D; the program can read again after it. Where the function raises InterruptedError, the program's read
    fails with EINTR, as after Ctrl-C.
    """

    read: Callable[[int, bool], bytes | str]

    def __attrs_post_init__(self) -> None:
        if not callable(self.read):
            raise TypeError(f"read: want a function, got {shown(self.read)}")


#: The types of a source. A function gets the most bytes wanted and returns some; b"" is the end.
Source = bytes | int | Callable[[int], bytes | str] | Terminal


class Stdin:
    """The standard input of one box.

    asks: whether the caller's function is called; if it is not, there is nothing to read. echoes: whether the guest's
    terminal shows typed text. waiting: limits.input_wait, which says whether waits for input are charged to the
    program. uncharged: makes a context in which the caller's function is not charged to the program.
    """

    __slots__ = (
        "_buffer",
        "_ended",
        "_function",
        "_hides_typing",
        "_offset",
        "_terminal",
        "asks",
        "callers",
        "echoes",
        "host_fd",
        "taken",
        "uncharged",
        "waiting",
    )

    def __init__(self, source: Source | None = None) -> None:
        self.taken = 0
        self._hides_typing = False
        self.echoes: Callable[[], bool] = lambda: True
        self.asks = True
        self.waiting = "auto"
        self.callers = Callers()
        self.uncharged: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
        self.feed(source)

    def feed(self, source: Source | None) -> None:
        """Sets another source for later reads."""
        if self._hides_typing:
            self.restore()
        self.host_fd: int | None = None
        self._function: Callable[[int], bytes | str] | None = None
        self._terminal = source if isinstance(source, Terminal) else None
        self._buffer = b""
        self._offset = 0
        self._ended = False
        if isinstance(source, int):
            self.host_fd = source
        elif isinstance(source, Terminal):
            self._function = lambda size: source.read(size, self.echoes())
        elif callable(source):
            self._function = source
        else:
            self._buffer = bytes(source or b"")

    def show_typing(self, wanted: bool) -> None:
        """Sets whether the host's terminal shows typed text (ECHO of termios(3)), where the source is a terminal.

        Text is hidden while the guest reads a password. Of all terminal settings of a guest, only this one is applied
        to the host's terminal; `restore` undoes it.
        """
        fd = self.host_fd
        if fd is None or (wanted and not self._hides_typing):
            return
        with contextlib.suppress(OSError, termios.error):
            if os.tcgetpgrp(fd) != os.getpgrp():  # otherwise SIGTTOU would stop a background process
                return
            settings = termios.tcgetattr(fd)
            if bool(settings[3] & termios.ECHO) is not wanted:
                settings[3] ^= termios.ECHO
                termios.tcsetattr(fd, termios.TCSANOW, settings)
                self._hides_typing = not wanted

    def restore(self) -> None:
        """Makes the host's terminal show typed text, if `show_typing` has switched that off."""
        self.show_typing(True)

    @property
    def is_tty(self) -> bool:
        """Whether the source is a terminal, of the host or of the caller."""
        return self._terminal is not None or (self.host_fd is not None and os.isatty(self.host_fd))

    @property
    def is_given_time(self) -> bool:
        """Whether wall time is suspended while the program waits for this source."""
        if self.waiting == "auto":
            return self._function is not None or self.is_tty
        return self.waiting == "free"

    def for_copy(self) -> "Stdin":
        """Returns the standard input of a copy of the box: the same terminal of the caller's, or nothing.

        With any other source, chance would decide which box reads the rest.
        """
        return Stdin(self._terminal)

    def readable(self) -> bool:
        """Whether a read would not wait, because there is data or the end is reached.

        A function always has an answer.
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
        """Returns the number of bytes that are known to be available (FIONREAD)."""
        return len(self._buffer) - self._offset

    def take(self, size: int) -> bytes | None:
        """Returns at most `size` bytes, b"" at the end, or None when there is nothing yet."""
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
        """Returns the result of `take`, but instead of None a `Blocked` whose attempt returns the bytes."""
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
        if self._ended or self._function is None or not self.asks:
            return
        try:
            with self.uncharged() if self.is_given_time else contextlib.nullcontext(), self.callers:
                data = self._function(size)
        except RaisedByCaller as raised:
            if isinstance(raised.error, InterruptedError):  # the caller's function need not set the errno
                raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR)) from raised.error
            raise
        self._buffer = as_bytes("stdin: what its function returned", data)
        self._offset = 0
        self._ended = not self._buffer and self._terminal is None
