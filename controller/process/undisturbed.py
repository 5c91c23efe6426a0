"""Delays the caller's signal handlers while no code is responsible yet for ending a guest.

Python runs a handler between any two instructions of the main thread, and most handlers raise (KeyboardInterrupt, for
one). Between the start of a guest and the `try` that closes it, an exception would leave a process behind. Handlers of
signals that come meanwhile run at `release`.
"""

import _signal  # type: ignore[import-not-found]  # not `signal`: its enumerations make a call ten times as slow
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

#: The signals that people and supervisors send. Handlers of other signals are not held back.
HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


class Undisturbed:
    """A context in which no handler of a signal in HELD_BACK runs. Outside the main thread it does nothing."""

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._came: list[int] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            try:
                for number in HELD_BACK:
                    handler = _signal.getsignal(number)
                    if callable(handler):
                        self._handlers[number] = handler
                        _signal.signal(number, self._note)
            except BaseException:  # raised by a handler that is not delayed yet
                self.release()
                raise
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)

    def release(self) -> None:
        """Restores the handlers, and runs those whose signals have come meanwhile. Raises their exceptions."""
        raised: BaseException | None = None
        while self._handlers:
            try:
                for number, handler in self._handlers.items():
                    _signal.signal(number, handler)
                self._handlers = {}
            except BaseException as error:  # raised by a handler that is restored already: the loop restores the others
                raised = error
        came, self._came = self._came, []
        try:
            for number in dict.fromkeys(came):
                signal.raise_signal(number)
        finally:
            if raised is not None:
                raise raised

    def __exit__(self, *_: object) -> None:
        self.release()


class Closing:
    """A context at whose end `close` is called, with handlers held back."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close: Callable[[], object] | None = close

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        with Undisturbed():
            self.__del__()

    def __del__(self) -> None:  # also where a handler raises before __exit__ has begun
        close, self._close = self._close, None
        if close is not None:
            close()
