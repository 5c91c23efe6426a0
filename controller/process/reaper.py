"""The reaper: a thread that never ends and closes ended boxes, so that no caller waits for the kernel to do so.

The kernel needs about a millisecond to free a guest's memory; the Result is complete before that. `settle` waits until
all boxes are closed: sandboxes and pools call it when they are closed.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from proxybox.controller.perprocess import PerProcess

#: Seconds to wait before each closing, in which the caller can finish its work: the end of a process occupies its CPU.
PAUSE = 0.001
#: The most faults that are stored for `settle`.
MOST_FAULTS = 16


class Reaper:
    """The reaper thread. Use `reaper()`: there is one per process, and a new one after a fork."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._failed: deque[BaseException] = deque(maxlen=MOST_FAULTS)
        threading.Thread(target=self._run, name="proxybox-reaper", daemon=True).start()

    def bury(self, close: Callable[[], object]) -> None:
        """Calls `close` soon, in the reaper's thread."""
        self._jobs.put(close)

    def settle(self) -> None:
        """Returns when everything that was passed to `bury` before has been closed.

        Raises the exception of a `close` function since the last call; several exceptions as a BaseExceptionGroup.
        """
        done = threading.Event()
        self._jobs.put(done.set)
        done.wait()
        failed = [self._failed.popleft() for _ in range(len(self._failed))]
        if len(failed) == 1:
            raise failed[0]
        if failed:
            raise BaseExceptionGroup("boxes that could not be closed", failed)

    def _run(self) -> None:
        while True:
            try:
                self._close_next()
            except BaseException as error:  # `settle` raises it
                self._failed.append(error)

    def _close_next(self) -> None:
        close = self._jobs.get()
        time.sleep(PAUSE)
        close()


@PerProcess
def reaper() -> Reaper:
    """Returns the reaper of this process."""
    return Reaper()


def settle() -> None:
    """Waits for the reaper, where there is one: see `Reaper.settle`."""
    if reaper.made is not None:
        reaper.made.settle()
