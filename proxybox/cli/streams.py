"""The streams of this process: the program's output, written at once and without Python's buffers, and our own output.

Output to a terminal is made harmless first, unless the policy says raw. When a stream cannot be written, the command
prints one line about it, but nothing when the stream has no reader any more.
"""

import io
import os
import select
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

from proxybox.cli.exits import EXIT_CANNOT_RUN, EXIT_NO_READER
from proxybox.cli.failures import CommandError

Write = Callable[[bytes], object]
_NAMES: Final = {1: "standard output", 2: "standard error"}


class CannotWrite(CommandError):
    """A stream of the command cannot be written. quietly: it has no reader any more, and no message is printed."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"can't write {name}: {error.strerror or error}")
        self.quietly = isinstance(error, BrokenPipeError)
        self.status = EXIT_NO_READER if self.quietly else EXIT_CANNOT_RUN


class _Output(io.FileIO):
    """A file whose errors name the stream when writing fails."""

    shown_name = ""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            raise CannotWrite(self.shown_name, error) from None


def text_file(file: str | int, shown_name: str, like: TextIO | None = None) -> TextIO:
    """Opens a text file, or a descriptor as one, whose writes raise CannotWrite.

    shown_name: its name in error messages. like: the stream that it replaces. Raises OSError.
    """
    raw = _Output(file, "wb", closefd=isinstance(file, str))
    raw.shown_name = shown_name
    buffered = io.BufferedWriter(raw)
    if not isinstance(like, io.TextIOWrapper):
        return io.TextIOWrapper(buffered, "utf-8", errors=None if isinstance(file, str) else "backslashreplace")
    return io.TextIOWrapper(
        buffered, like.encoding, like.errors, line_buffering=like.line_buffering, write_through=like.write_through
    )


def secure() -> None:
    """Prepares the standard streams when a process starts.

    Descriptors 0 to 2 that are closed are opened to /dev/null, so that no other file gets their number. An output that
    cannot be written raises CannotWrite. Writing to a standard output that was closed still fails (EBADF); data for a
    standard error that was closed is discarded.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            flags = os.O_RDWR if fd == 2 else os.O_RDONLY
            taken = os.open(os.devnull, flags)  # gets the lowest free number
            if taken != fd:
                os.dup2(taken, fd)
                os.close(taken)
    sys.stdout = text_file(1, _NAMES[1], sys.stdout)
    sys.stderr = text_file(2, _NAMES[2], sys.stderr)


def forget(*fds: int) -> None:
    """Redirects descriptors to /dev/null, so that Python prints no error about unwritten buffers at its exit."""
    for fd in fds:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        os.close(null)


def writer(fd: int, escapes: str) -> Write:
    """Returns a function that writes all of its bytes to the descriptor `fd`.

    escapes: the value of the policy's output.escapes: "raw", "neutralise", or "auto" (neutralise on terminals only).
    The function raises BrokenPipeError or WriteFailed; the program's own write then fails in the same way.
    """
    place = _place(fd)

    def write_all(data: bytes) -> None:
        view = memoryview(data)
        if data:
            _last[place] = data[-1:]
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BrokenPipeError:
                raise
            except BlockingIOError:  # another process has made the descriptor non-blocking
                select.select((), (fd,), ())
            except OSError as error:
                from proxybox.controller.world.output import WriteFailed

                raise WriteFailed(error.errno, error.strerror) from None

    if escapes == "raw" or (escapes == "auto" and not os.isatty(fd)):
        return write_all
    from proxybox.controller.world.output import TerminalFilter

    harmless = TerminalFilter()
    return lambda data: write_all(harmless.feed(data))


#: The last byte that was written to each file, pipe or terminal, which several descriptors may share.
_last: dict[tuple[int, int], bytes] = {}


def _place(fd: int) -> tuple[int, int]:
    try:
        found = os.fstat(fd)
    except OSError:
        return -1, -1
    return found.st_dev, found.st_ino


def line_break() -> str:
    """Returns the line break before a message on standard error; "" if the program's last line there is finished."""
    return "" if _last.pop(_place(2), b"\n") == b"\n" else "\n"


def standard_input() -> Any:
    """Returns the standard input for the program: that of this process, or None when it is closed."""
    return None if sys.stdin is None else getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
