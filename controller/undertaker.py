"""The one lasting thread that closes ended boxes, so that nobody waits for a process to be taken apart.

The kernel needs about a millisecond to give back a guest's memory; a Result is complete before. `settle` waits until
all is done: sandboxes and pools do so when they are closed.
"""

import os
import queue
import threading
import time
from collections.abc import Callable

#: Seconds in which whoever has brought something gets its work done: a dying process takes the CPU that it is on.
PAUSE = 0.001


class Undertaker:
    """Use `undertaker()`; there is one per process, and a new one after a fork."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._failed: list[BaseException] = []
        threading.Thread(target=self._run, name="proxybox-undertaker", daemon=True).start()

    def bury(self, close: Callable[[], object]) -> None:
        """Calls `close` soon."""
        self._jobs.put(close)

    def settle(self) -> None:
        """Returns when all that was buried before has been closed. Raises what went wrong meanwhile."""
        done = threading.Event()
        self._jobs.put(done.set)
        done.wait()
        failed, self._failed = self._failed, []
        for error in failed:
            raise error

    def _run(self) -> None:
        while True:
            close = self._jobs.get()
            time.sleep(PAUSE)
            try:
                close()
            except BaseException as error:  # for whoever settles
                self._failed.append(error)
            del close


_undertaker: Undertaker | None = None
_making = threading.Lock()


def undertaker() -> Undertaker:
    """The undertaker of this process."""
    global _undertaker
    if _undertaker is None:
        with _making:
            if _undertaker is None:
                _undertaker = Undertaker()
    return _undertaker


def settle() -> None:
    """Waits for the undertaker, where there is one."""
    if _undertaker is not None:
        _undertaker.settle()


def _forget() -> None:
    global _undertaker, _making
    _undertaker = None
    _making = threading.Lock()


os.register_at_fork(after_in_child=_forget)
