"""Holds back the caller's signal handlers while a guest has no owner yet.

Python runs a handler between any two lines of the main thread, and most raise (KeyboardInterrupt for one). Between
the start of a guest and the `try` that ends it, that would leave a process behind. What came meanwhile is done at
`release`.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

#: Those that people and supervisors send; a handler of another signal is the caller's own business.
HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


class Undisturbed:
    """A context in which no handler of HELD_BACK runs. In other threads than the main one there is nothing to do."""

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._came: list[int] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in HELD_BACK:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)

    def release(self) -> None:
        """Puts the handlers back and runs those whose signals have come. Whatever they raise is raised here."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())
        if self._came:
            came, self._came = self._came, []
            for number in dict.fromkeys(came):
                signal.raise_signal(number)

    def __exit__(self, *_: object) -> None:
        self.release()


class Closing:
    """A context whose end calls `close`, undisturbed."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close = close

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        with Undisturbed():
            self._close()
