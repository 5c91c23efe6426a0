"""Restores the terminal of standard input, also when a signal ends or stops this process."""

import contextlib
import os
import signal
import termios
from collections.abc import Callable, Iterator
from typing import Any


def let_through(number: int, handler: Callable[[int, Any], object]) -> None:
    """Lets a signal that has arrived do its default action, and then sets the handler again.

    After SIGTSTP the process goes on here: fg sends SIGCONT.
    """
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.signal(number, handler)


@contextlib.contextmanager
def kept_terminal() -> Iterator[None]:
    """Restores the settings of the terminal of standard input, also when a signal ends this process.

    For example, a program that asks for a password has turned the echo off. While Ctrl-Z has stopped this process, the
    shell has the original settings, too.
    """
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
                with contextlib.suppress(ValueError):  # this is not the main thread
                    old[number] = signal.signal(number, on_signal)
        yield
    finally:
        for each, handler in old.items():
            signal.signal(each, handler)
        restore(before)
