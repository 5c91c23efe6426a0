"""The handle by which other threads can end a run while its caller waits: `run(..., on_start=...)`."""

import contextlib
import threading
from collections.abc import Callable, Iterator


def _nothing() -> None:
    """Does nothing, for a run that has not begun or has ended."""


class Running:
    """One run of a program. Its methods can be called from any thread, at any moment; after its end they do nothing."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # `cancel` may be called by the run's own callbacks
        self._is_cancelled = False
        self._cancel: Callable[[], object] = _nothing
        self._interrupt: Callable[[], object] = _nothing

    def cancel(self) -> None:
        """Ends the program: its Result has the status "cancelled".

        A program that has not begun, because its run waits for a pool or its box is being made, never begins.
        """
        with self._lock:
            self._is_cancelled = True
            self._cancel()

    def interrupt(self) -> None:
        """Sends SIGINT to the program, as Ctrl-C does. Before the program has begun, nothing is sent."""
        with self._lock:
            self._interrupt()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._is_cancelled

    @contextlib.contextmanager
    def reached_by(self, cancel: Callable[[], object], interrupt: Callable[[], object] = _nothing) -> Iterator[None]:
        """A context in which the run is ended by `cancel`, which is called at once for a run that was cancelled before.

        `cancel` may be called several times. After the context, neither function is called.
        """
        with self._lock:
            self._cancel, self._interrupt = cancel, interrupt
            if self._is_cancelled:
                cancel()
        try:
            yield
        finally:
            with self._lock:
                self._cancel = self._interrupt = _nothing
