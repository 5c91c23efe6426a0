"""The process's own streams: the program's output as it comes, past Python's own buffers, and what the commands print.

What goes to a terminal is made harmless first, unless the policy says raw. A stream that cannot be written is told in
one line, and quietly where nobody reads any more.
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
    """A stream of the command's cannot be written. quietly: nobody reads it, and nobody is to be told."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"can't write {name}: {error.strerror or error}")
        self.quietly = isinstance(error, BrokenPipeError)
        self.status = EXIT_NO_READER if self.quietly else EXIT_CANNOT_RUN


class _Output(io.FileIO):
    """A file whose writes say which one it was."""

    told = ""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            raise CannotWrite(self.told, error) from None


def text_file(file: str | int, told: str, like: TextIO | None = None) -> TextIO:
    """A text file, new or a descriptor's, whose writes raise CannotWrite. told: what it is called. like: the stream
    whose place it takes. Raises OSError."""
    raw = _Output(file, "wb", closefd=isinstance(file, str))
    raw.told = told
    buffered = io.BufferedWriter(raw)
    if not isinstance(like, io.TextIOWrapper):
        return io.TextIOWrapper(buffered, "utf-8", errors=None if isinstance(file, str) else "backslashreplace")
    return io.TextIOWrapper(
        buffered, like.encoding, like.errors, line_buffering=like.line_buffering, write_through=like.write_through
    )


def secure() -> None:
    """For a process at its start: descriptors that are closed are taken, so that no file of ours gets their number, and
    what cannot be written is a CannotWrite. Writing a standard output that was closed fails as it would; standard error
    is nobody's then."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            flags = os.O_RDWR if fd == 2 else os.O_RDONLY
            taken = os.open(os.devnull, flags)  # the lowest number that is free
            if taken != fd:
                os.dup2(taken, fd)
                os.close(taken)
    sys.stdout = text_file(1, _NAMES[1], sys.stdout)
    sys.stderr = text_file(2, _NAMES[2], sys.stderr)


def forget(*fds: int) -> None:
    """What is left in buffers goes nowhere, and Python says nothing of it at its end."""
    for fd in fds:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        os.close(null)


def writer(fd: int, escapes: str) -> Write:
    """A function that writes all of its bytes to the descriptor `fd`.

    escapes: the policy's word (output.escapes): "raw", "neutralise", or "auto" for terminals alone.
    The program's own write fails as that of the function does: BrokenPipeError, WriteFailed.
    """

    def write_all(data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BrokenPipeError:
                raise
            except BlockingIOError:  # another process has made it so
                select.select((), (fd,), ())
            except OSError as error:
                from proxybox.controller.world.output import WriteFailed

                raise WriteFailed(error.errno, error.strerror) from None

    if escapes == "raw" or (escapes == "auto" and not os.isatty(fd)):
        return write_all
    from proxybox.controller.world.output import TerminalFilter

    harmless = TerminalFilter()
    return lambda data: write_all(harmless.feed(data))


def standard_input() -> Any:
    """What the program reads as its standard input: ours, or nothing where it is closed."""
    return None if sys.stdin is None else getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
