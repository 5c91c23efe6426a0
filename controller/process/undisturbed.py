"""Holds back the caller's signal handlers while a guest has no owner yet.

Python runs a handler between any two lines of the main thread, and most raise (KeyboardInterrupt for one). Between
the start of a guest and the `try` that ends it, that would leave a process behind. What came meanwhile is done at
`release`.
"""

import _signal  # type: ignore[import-not-found]  # without signal's enumerations, which cost ten times as much
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
            try:
                for number in HELD_BACK:
                    handler = _signal.getsignal(number)
                    if callable(handler):
                        self._handlers[number] = handler
                        _signal.signal(number, self._note)
            except BaseException:  # by a handler whose turn had not come
                self.release()
                raise
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)

    def release(self) -> None:
        """Puts the handlers back and runs those whose signals have come. Whatever they raise is raised here."""
        raised: BaseException | None = None
        while self._handlers:
            try:
                for number, handler in self._handlers.items():
                    _signal.signal(number, handler)
                self._handlers = {}
            except BaseException as error:  # one that is back has run already: the others are put back none the less
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
    """A context whose end calls `close`, undisturbed."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close: Callable[[], object] | None = close

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        with Undisturbed():
            self.__del__()

    def __del__(self) -> None:  # also where a handler has raised at the very door of __exit__
        close, self._close = self._close, None
        if close is not None:
            close()
