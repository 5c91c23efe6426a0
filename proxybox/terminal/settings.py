"""The terminal of standard input: left as it was found, also where a signal ends or stops this process."""

import contextlib
import os
import signal
import termios
from collections.abc import Callable, Iterator
from typing import Any


def let_through(number: int, handler: Callable[[int, Any], object]) -> None:
    """A signal that has come does what it does without its handler. From SIGTSTP a process comes back: fg sends
    SIGCONT."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.signal(number, handler)


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
        let_through(number, on_signal)
        restore(now)

    old: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
            if signal.getsignal(number) is signal.SIG_DFL:
                with contextlib.suppress(ValueError):  # not the main thread
                    old[number] = signal.signal(number, on_signal)
        yield
    finally:
        for each, handler in old.items():
            signal.signal(each, handler)
        restore(before)
