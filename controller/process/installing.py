"""Threads that install descriptors in guests, so that the engine, which serves many guests, does not wait for one.

The kernel installs a descriptor when the thread whose call it holds runs (seccomp_unotify(2),
SECCOMP_IOCTL_NOTIF_ADDFD), and the ioctl returns only then. That takes long on a busy CPU, and a hostile guest can keep
the CPU busy with its own threads.

Of each guest, one call is processed at a time. Where all threads are busy, further calls wait. A guest occupies a
thread only until it runs, is stopped, or ends.
"""

import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from proxybox.controller.faults import fault
from proxybox.controller.perprocess import PerProcess

T = TypeVar("T")

#: The most threads at a time, and the seconds after which an idle thread ends.
MOST: Final = 32
_IDLE: Final = 5.0


class Installation(Generic[T]):
    """Work for a call that the kernel holds, in a thread of its own.

    work: the function to call. then: is called with its result by `finish`. notify: is called when the work is done.
    discard: releases the result if the installation was abandoned.
    """

    def __init__(
        self,
        work: Callable[[], T],
        then: Callable[[T], object],
        notify: Callable[[], object],
        discard: Callable[[T], object],
    ) -> None:
        self._work, self._then, self._notify, self._discard = work, then, notify, discard
        self._done: list[T] = []
        self._raised: BaseException | None = None
        self._is_abandoned = False
        self._lock = threading.Lock()
        self.is_done = False

    def run(self) -> None:
        """Does the work. From any thread."""
        try:
            self._done.append(self._work())
        except BaseException as error:
            self._raised = error
        with self._lock:
            self.is_done = True
            is_late = self._is_abandoned
        if is_late:
            self._release()
        else:
            self._notify()

    def finish(self) -> None:
        """Calls `then` with the result of the work. Raises the exception of the work."""
        if self._raised is not None:
            raise self._raised
        self._then(self._done.pop())

    def abandon(self) -> None:
        """Abandons the installation. The work runs to its end, and its result is released."""
        with self._lock:
            self._is_abandoned = True
            is_done = self.is_done
        if is_done:
            self._release()

    def _release(self) -> None:
        while self._done:
            self._discard(self._done.pop())


class Installers:
    """The threads. Use `installers()`: each process has its own, and a new set after a fork."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._wanted = 0  # jobs that have not ended

    def submit(self, job: Callable[[], object]) -> None:
        """Runs a job in one of the threads, or here where no thread can be started."""
        with self._lock:
            self._wanted += 1
            is_more = self._threads < min(self._wanted, MOST)
            self._threads += is_more
        if is_more:
            try:
                threading.Thread(target=self._run, name="proxybox-install", daemon=True).start()
            except RuntimeError:  # the host has no room for one more thread
                with self._lock:
                    self._threads -= 1
                self._do(job)
                return
        self._jobs.put(job)

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE)
            except queue.Empty:
                with self._lock:  # `submit` counts a job first, and then checks for a thread
                    if self._wanted < self._threads:
                        self._threads -= 1
                        return
                continue
            self._do(job)

    def _do(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            fault(error)
        finally:
            with self._lock:
                self._wanted -= 1


@PerProcess
def installers() -> Installers:
    """Returns the threads of this process."""
    return Installers()
