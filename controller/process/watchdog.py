"""The watchdog: a thread of the controller that never ends. It starts every guest, and ends guests at their limits.

Why it starts guests: the kernel ties a parent-death signal (prctl(2), PR_SET_PDEATHSIG) to the *thread* that made the
child, so a guest that was started by a caller's short-lived thread would die with that thread. Why it ends guests: a
blocking driver waits in read(2) while its guest computes, so another thread has to look at the clock.

Rules: nothing here waits for a guest, and nothing here holds a reference to a box that has ended. An exception that is
raised while one guest is checked ends that guest, and is raised in the thread that waits for it (`Watch.fault`).
"""

import heapq
import itertools
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.faults import fault
from proxybox.controller.perprocess import PerProcess
from proxybox.controller.process.cpus import allowed_cpus
from proxybox.controller.process.rotation import Rotations
from proxybox.controller.process.watch import NEAR, Watch

#: Seconds between two checks of the guests that are near a limit. So a time limit may be enforced this much too late.
TICK = 0.02
_TICK_NS = int(TICK * 1e9)


def _count_cpus() -> int:
    try:
        return len(allowed_cpus())
    except OSError:  # no CPU affinity here
        return os.cpu_count() or 1


class Watchdog:
    """The watchdog thread. Use `watchdog()`: there is one per process, and a new one after a fork.

    A guest is checked at each tick only while it is near a limit. Others are checked when they can be near one. Between
    two ticks, only guests that could use up their memory before the next tick are checked.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._watched: set[Watch] = set()
        self._filling: list[Watch] = []
        self._tick_ns = 0  # when the next tick is
        self._near: set[Watch] = set()  # any thread adds to it, so it is copied before a loop
        self._later: list[tuple[int, int, weakref.ref[Watch]]] = []  # a heap: host time, a number, the guest
        self._numbers = itertools.count()
        self._rotations = Rotations(_count_cpus())
        self._adding = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="proxybox-watchdog", daemon=True)
        self._thread.start()

    @property
    def niceness(self) -> int:
        """The niceness of its thread, which guests inherit. Raises OSError."""
        return os.getpriority(os.PRIO_PROCESS, self._thread.native_id or 0)

    def spawn(self, path: str, argv: list[str], env: Mapping[str, str], **options: Any) -> int:
        """Calls posix_spawn(3) in the watchdog's thread, and returns the child's pid. Raises OSError."""
        done = threading.Lock()
        done.acquire()
        outcome: list[int | BaseException] = []

        def job() -> None:
            try:
                outcome.append(os.posix_spawn(path, argv, env, **options))
            except BaseException as error:
                outcome.append(error)
            finally:
                done.release()

        self._jobs.put(job)
        done.acquire()
        result = outcome[0]
        if isinstance(result, BaseException):
            raise result
        return result

    def watch(self, watch: Watch) -> None:
        """Begins to enforce a guest's limits."""
        with self._adding:  # of two concurrent calls, exactly one finds that its guest is the first
            self._watched.add(watch)
            is_first = len(self._watched) == 1
            watch.near = self._near
            self._near.add(watch)
        if is_first:
            self._jobs.put(None)

    def release(self, watch: Watch) -> None:
        """Stops enforcing a guest's limits. To be called before the guest is reaped, while its pid is still its own."""
        with watch.lock:
            watch.near = None
        self._watched.discard(watch)
        self._near.discard(watch)

    def make_way(self, cpu: int | None) -> None:
        """Stops boxes that compute for long on a CPU for a moment, while another one begins (rotation.py)."""
        self._rotations.make_way(cpu)

    def _run(self) -> None:
        while True:
            try:
                self._turn()
            except BaseException as error:
                fault(error)

    def _turn(self) -> None:
        try:
            job = self._jobs.get(timeout=self._pause() if self._watched or self._rotations else None)
        except queue.Empty:
            job = None
        if job is not None:
            job()
        now = time.monotonic_ns()
        if self._filling and job is None and now < self._tick_ns:
            for watch in self._filling:
                watch.check_memory()
            self._filling = [watch for watch in self._filling if watch.near is not None and not watch.expired]
            return
        self._tick_ns = now + _TICK_NS
        self._come_back(now)
        for watch in tuple(self._near):
            self._near.discard(watch)  # before the check: a limit that is set from here on brings it back
            if not watch.expired:
                self._check(watch, now)
        self._filling = [watch for watch in tuple(self._near) if watch.full_ns < _TICK_NS]
        self._rotations.pass_on(now)

    def _pause(self) -> float:
        """Returns the seconds until the next tick, or until a guest may have used up its memory."""
        if not self._filling:
            return TICK
        until_tick = self._tick_ns - time.monotonic_ns()
        return max(0, min(until_tick, *(watch.full_ns for watch in self._filling))) / 1e9

    def _check(self, watch: Watch, now: int) -> None:
        is_near = True
        try:
            left = watch.check()
            if watch.takes_turns:
                watch.interpreter.limit(True)
                self._rotations.join(watch)
            if left > NEAR:
                self._put_off(watch, now + left)
                is_near = False
        finally:
            if is_near and watch.near is not None:
                self._near.add(watch)

    def _put_off(self, watch: Watch, until_ns: int) -> None:
        if not watch.back_ns or until_ns < watch.back_ns:
            heapq.heappush(self._later, (until_ns, next(self._numbers), weakref.ref(watch)))
            watch.back_ns = until_ns

    def _come_back(self, now: int) -> None:
        while self._later and self._later[0][0] <= now:
            due, _, known = heapq.heappop(self._later)
            watch = known()
            if watch is not None and watch.near is not None and watch.back_ns == due:
                watch.back_ns = 0
                self._near.add(watch)


@PerProcess
def watchdog() -> Watchdog:
    """Returns the watchdog of this process. Raises SandboxStartError where its thread cannot be started."""
    try:
        return Watchdog()
    except RuntimeError as error:  # threading raises it for EAGAIN
        raise SandboxStartError(f"the box could not be started: {error} (RLIMIT_NPROC)") from error
