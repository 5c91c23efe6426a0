"""Room for so many programs at once."""

import threading

from proxybox.running import Running


class Slots:
    """A semaphore for runs: a wait for it ends when the run is cancelled."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._change = threading.Condition()

    def acquire(self, running: Running | None = None) -> bool:
        """Waits for room and takes it. Returns False for a run that was cancelled before it had any."""
        with self._change:
            if self._free and not (running and running.is_cancelled):
                self._free -= 1
                return True
        running = running or Running()
        with running.reached_by(self._look), self._change:
            while not self._free and not running.is_cancelled:
                self._change.wait()
            if running.is_cancelled:
                self._change.notify()  # it may have been woken in place of one that waits
                return False
            self._free -= 1
            return True

    def release(self) -> None:
        """Gives room back."""
        with self._change:
            self._free += 1
            self._change.notify()

    def _look(self) -> None:
        with self._change:
            self._change.notify_all()
