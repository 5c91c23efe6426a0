"""The standard streams of a program that runs in a box.

Rules: bytes go out as they come, past Python's own buffers. What goes to a terminal is made
harmless first, unless the policy says raw.
"""

import contextlib
import os
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from typing import Any

Write = Callable[[bytes], object]


def writer(fd: int, escapes: str) -> Write:
    """A function that writes all of its bytes to the descriptor `fd`.

    escapes: the policy's word (output.escapes): "raw", "neutralise", or "auto" for terminals alone.
    The function raises BrokenPipeError when nobody reads.
    """

    def write_all(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    if escapes == "raw" or (escapes == "auto" and not os.isatty(fd)):
        return write_all
    from proxybox.controller.output import TerminalFilter

    harmless = TerminalFilter()
    return lambda data: write_all(harmless.feed(data))


@contextlib.contextmanager
def kept_terminal() -> Iterator[None]:
    """Leaves the terminal of standard input as it was, also where a signal ends this process: a program that asks for a
    password has turned its echo off. While Ctrl-Z has stopped it, the shell has it as it was, too."""
    try:
        before = termios.tcgetattr(0)
    except (termios.error, OSError):
        yield
        return

    def restore(settings: list[Any]) -> None:
        with contextlib.suppress(termios.error, OSError):
            if os.tcgetpgrp(0) == os.getpgrp():
                termios.tcsetattr(0, termios.TCSANOW, settings)

    def on_signal(number: int, frame: object) -> None:
        now = termios.tcgetattr(0) if number == signal.SIGTSTP else before
        restore(before)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # SIGTSTP: until fg sends SIGCONT
        signal.signal(number, on_signal)
        restore(now)

    old: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
            if signal.getsignal(number) is signal.SIG_DFL:
                with contextlib.suppress(ValueError):  # not the main thread
                    old[number] = signal.signal(number, on_signal)
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        restore(before)


def standard_input() -> Any:
    """What the program reads as its standard input: ours, or nothing where it is closed."""
    return None if sys.stdin is None else getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
