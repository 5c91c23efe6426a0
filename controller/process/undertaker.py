"""The one lasting thread that closes ended boxes, so that nobody waits for a process to be taken apart.

The kernel needs about a millisecond to give back a guest's memory; a Result is complete before. `settle` waits until
all is done: sandboxes and pools do so when they are closed.
"""

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

#: Seconds in which whoever has brought something gets its work done: a dying process takes the CPU that it is on.
PAUSE = 0.001
#: So many faults are kept until somebody settles.
MOST_FAULTS = 16


class Undertaker:
    """Use `undertaker()`; there is one per process, and a new one after a fork."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._failed: deque[BaseException] = deque(maxlen=MOST_FAULTS)
        threading.Thread(target=self._run, name="proxybox-undertaker", daemon=True).start()

    def bury(self, close: Callable[[], object]) -> None:
        """Calls `close` soon."""
        self._jobs.put(close)

    def settle(self) -> None:
        """Returns when all that was buried before has been closed. Raises what went wrong meanwhile; several faults as
        a BaseExceptionGroup."""
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
            except BaseException as error:  # for whoever settles
                self._failed.append(error)

    def _close_next(self) -> None:
        close = self._jobs.get()
        time.sleep(PAUSE)
        close()


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
