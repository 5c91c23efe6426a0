"""The engine: one thread, which never ends, serves all live boxes of callers that must not wait.

    the_engine().serve(driver, until, done)

The engine's thread answers all OS calls of these guests. `done` is called only when `until` returns true or the guest
has ended. There is one thread, and not one for each CPU, because only one thread at a time can run Python. The thread
moves to the CPU of a guest that calls again and again, where a round trip is a hand-over. When guests of several CPUs
do so, the kernel places it.

Rules: nothing in this thread waits for a guest. A function of a caller that runs in it (an interceptor, a `stdin`
function, a host function without a timeout) delays all other boxes. An exception that is raised while a guest is served
is passed to the caller that waits for this guest. One that is raised between two guests is passed to all callers, and
the thread starts over with no guests.
"""

import contextlib
import heapq
import itertools
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

import attrs

from proxybox.controller.callers import RaisedByCaller
from proxybox.controller.costs.interpreter import InterpreterShare
from proxybox.controller.costs.meter import thread_clock, thread_time_ns
from proxybox.controller.drivers.serving import Outcome, Serving
from proxybox.controller.drivers.turns import BURST, NOTICEABLE, QUANTUM, EngineTurns, wait_readable
from proxybox.controller.errors import EndBox, GuestMisbehaved
from proxybox.controller.faults import fault
from proxybox.controller.perprocess import PerProcess
from proxybox.controller.process.cpus import Stand, current_cpu
from proxybox.controller.process.listener import Listener

#: Called in the engine's thread, with how the guest has ended (None where `until` has returned true), or with the
#: exception that was raised.
Done = Callable[[Outcome | None, BaseException | None], object]

#: The most outdated deadlines in the heap, besides one deadline for each guest.
_STALE = 256
#: The longest single wait, in seconds: epoll_wait(2) takes a C int of milliseconds. For a later deadline the engine
#: waits again.
_LONGEST = 1_000_000.0
#: Nanoseconds after which the deadline of a guest that waits for its turn on the CPU is checked again.
_STOPPED_NS = 10_000_000
#: Events that epoll reports for every descriptor, requested or not: the other end of a guest's pipe was closed.
_ENDED = select.EPOLLHUP | select.EPOLLERR


@attrs.define(eq=False)
class _Job:
    """One guest that is being served.

    cpu: the CPU on which it runs. fds: descriptors of the controller that are watched for it, with their events.
    callers: descriptors of the caller, each with the copy of it that is watched. due_ns: its next deadline. is_alone,
    computes: the last values of its driver. is_ending: the engine only waits for the end of its process. is_over:
    `done` was called. credit_ns, step_ns, is_resting, dormant: see turns.py. overdue_ns: when a deadline of it passed
    while it rested.
    """

    driver: Serving
    until: Callable[[], bool]
    done: Done
    cpu: int | None
    fds: dict[int, int] = attrs.field(factory=dict)
    callers: dict[int, int] = attrs.field(factory=dict)
    due_ns: int | None = None
    is_alone: bool = False
    computes: bool = True
    is_ending: bool = False
    is_over: bool = False
    credit_ns: int = BURST
    step_ns: int = 0
    is_resting: bool = False
    dormant: int = 0
    overdue_ns: int | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether the guest waits for its turn on the CPU."""
        return self.driver.is_stopped

    def guest_cpu_ns(self) -> int:
        """CPU time of the guest's process, in nanoseconds."""
        return self.driver.guest_cpu_ns()


class Engine:
    """The engine and its thread. Use `the_engine()`: there is one per process, and a new one after a fork."""

    def __init__(self) -> None:
        self._stand = Stand()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._new: deque[_Job] = deque()
        self._jobs: set[_Job] = set()
        self._owners: dict[int, _Job] = {}
        self._listeners: dict[int, tuple[Listener, set[_Job]]] = {}
        self._deadlines: list[tuple[int, int, _Job]] = []
        self._numbers = itertools.count()
        self._served: _Job | None = None  # the guest whose meter runs
        self._interpreter = InterpreterShare()  # takes no turns itself; threads that serve one guest leave time to it
        self._turns = EngineTurns(lambda: self._jobs, self._mask, self._unmask, self._wait_shortly, current_cpu)  # type: ignore[arg-type, return-value]
        threading.Thread(target=self._run, name="proxybox-engine", daemon=True).start()

    def serve(self, driver: Serving, until: Callable[[], bool], done: Done) -> None:
        """Answers a guest's calls until `until` returns true, as `BlockingDriver.serve` does; from any thread.

        `done` is called once, after the engine has used the guest's descriptors for the last time. The guest may be
        closed then, and not before.
        """
        self._new.append(_Job(driver, until, done, driver.cpu))
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        self._stand.begin()
        self._clock = thread_clock()
        while True:
            try:
                self._round()
            except BaseException as error:  # a fault of the engine, not of a guest
                try:
                    self._begin_anew(error)
                except BaseException as another:
                    fault(another)

    def _round(self) -> None:
        turns = self._turns
        if turns.resting:
            self._turn_to(None)
            turns.go_on()
        ready = self._epoll.poll(0 if turns.resting else self._timeout())
        now = time.monotonic_ns()
        if len(ready) > 1:
            ready.sort(key=self._credit_behind, reverse=True)
        for fd, events in ready:
            job = self._owners.get(fd)
            if job is None:
                self._sort(fd)
                now = time.monotonic_ns()  # the next guest is not charged for that
                continue
            if job.is_over:  # `_forget` has failed for it
                self._unregister(fd)
                continue
            if job.credit_ns <= turns.line:
                if self._must_rest(job, events):
                    continue
            elif job.credit_ns > turns.line + 2 * QUANTUM:
                turns.came(job)
            if not job.is_alone or fd != job.driver.main_fd:
                self._step(job, {fd: events})
            else:  # nearly every OS call comes here
                self._step(job, None)
            before, now = now, time.monotonic_ns()
            job.step_ns = now - before
            job.credit_ns -= job.step_ns
            if job.step_ns > NOTICEABLE:  # look for new requests; epoll reports the remaining ones again
                break
        self._look_at_the_clock(now)
        self._begin()

    def _must_rest(self, job: _Job, events: int = 0) -> bool:
        """Whether a guest with too little credit is left for later.

        It is not left when it is the only guest, or when it is ending. events: of its descriptor.
        """
        if len(self._jobs) == 1:
            job.credit_ns, self._turns.line = BURST, 0
            return False
        job.credit_ns = max(job.credit_ns, -BURST)
        if job.is_ending or events & _ENDED:
            return False
        if not job.is_resting:
            self._turns.rest(job)
        return True

    def _credit_behind(self, event: tuple[int, int]) -> int:
        job = self._owners.get(event[0])
        return BURST if job is None else job.credit_ns

    def _mask(self, job: _Job) -> None:
        for fd in (*job.fds, *job.callers.values()):
            self._epoll.modify(fd, 0)

    def _unmask(self, job: _Job) -> None:
        for fd, events in job.fds.items():
            self._epoll.modify(fd, events)
        for copy in job.callers.values():
            self._epoll.modify(copy, select.EPOLLIN)
        if job.overdue_ns is not None:
            self._set_due(job, job.overdue_ns)

    def _wait_shortly(self, ns: int) -> bool:
        if self._deadlines:
            ns = min(ns, max(0, self._deadlines[0][0] - time.monotonic_ns()))
        return wait_readable(self._epoll.fileno(), ns)

    def _sort(self, fd: int) -> None:
        """Handles a descriptor that no job owns: a family's listener, or the eventfd that announces new jobs."""
        self._turn_to(None)
        if fd in self._listeners:
            listener, jobs = self._listeners[fd]
            try:
                listener.sort()
            except BaseException as error:
                for job in tuple(jobs):
                    self._fail(job, error)
        elif fd == self._wake:  # not read in `_begin`, which may run before it is written
            self._take_wake()
        else:
            self._unregister(fd)

    def _begin_anew(self, error: BaseException) -> None:
        """Starts over after a fault of the engine: drops all jobs and watched descriptors, and calls every `done`."""
        jobs, self._jobs = self._jobs, set()
        self._interpreter.end()
        self._turn_to(None)
        self._take_wake()
        while self._new:
            jobs.add(self._new.popleft())
        self._owners, self._listeners, self._deadlines = {}, {}, []
        self._turns.resting.clear()
        self._turns.line = 0
        with (
            contextlib.suppress(OSError),
            select.epoll() as fresh,
        ):  # where this fails, `_sort` unregisters descriptors that no job owns
            fresh.register(self._wake, select.EPOLLIN)
            os.dup2(fresh.fileno(), self._epoll.fileno(), inheritable=False)
        for job in jobs:
            for copy in job.callers.values():
                with contextlib.suppress(OSError):
                    os.close(copy)
            _call_done(job, None, error)
        if not jobs:
            fault(error)

    def _begin(self) -> None:
        """Accepts new jobs. It is called after the events of a round, none of which can be for them."""
        if self._new:
            self._turn_to(None)
        while self._new:
            job = self._new.popleft()
            if not self._jobs:
                self._interpreter.begin()
            self._jobs.add(job)
            self._guarded(job, lambda job=job: self._take_in(job))  # type: ignore[misc]

    def _take_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _take_in(self, job: _Job) -> None:
        job.driver.set_blocking(False)
        job.driver.begin()
        listener = job.driver.listener
        if listener is not None:
            known = self._listeners.get(listener.fd)
            if known is None or known[0] is not listener:  # a fault may have left a closed one registered
                with contextlib.suppress(FileExistsError):
                    self._epoll.register(listener.fd, select.EPOLLIN)
                known = self._listeners[listener.fd] = listener, set()
            known[1].add(job)

    # --- one guest's turn ---------------------------------------------------------------------------------------------

    def _step(self, job: _Job, ready: dict[int, int] | None) -> None:
        """Answers a guest's requests that have come. ready: descriptors with their events; None for a plain call."""
        if job is not self._served:
            self._turn_to(job)
        if job.cpu != self._stand.cpu:
            self._stand.called_from(job.cpu)
        _here.job = job
        try:
            if ready is None:
                if job.driver.serve_alone(once=True):
                    return
                self._guarded(job, job.driver.heed_interrupt)
            elif job.is_ending:
                self._drop(job, job.driver.reap(), None)
            else:
                self._guarded(job, lambda: job.driver.step(ready))
        except BaseException as error:
            self._fail(job, error)
        finally:
            _here.job = None

    def _turn_to(self, job: _Job | None) -> None:
        """Begins to charge the CPU time of this thread to `job`; None: to no guest."""
        if job is self._served:
            return
        now = thread_time_ns()
        if self._served is not None:
            self._served.driver.meter.end(now)
        self._served = job
        if job is not None:
            job.driver.meter.begin(now, self._clock)

    def _guarded(self, job: _Job, action: Callable[[], None]) -> None:
        """Carries out a part of a guest's turn, and then watches the descriptors that its driver waits for next."""
        driver = job.driver
        try:
            action()
            if driver.is_over:
                self._conclude(job, None)
            elif job.until():
                self._drop(job, None, None)
            else:
                self._watch(job)
        except BaseException as error:
            self._fail(job, error)

    def _fail(self, job: _Job, error: BaseException) -> None:
        if isinstance(error, RaisedByCaller):
            self._drop(job, None, error.error)
            return
        try:
            if isinstance(error, EndBox | GuestMisbehaved):
                self._conclude(job, error)
                return
        except BaseException as another:
            error = another
        self._drop(job, None, error)

    def _conclude(self, job: _Job, end: EndBox | GuestMisbehaved | None) -> None:
        """Handles a guest that has ended or has to be ended. The end of its process is awaited with epoll, too."""
        outcome = job.driver.conclude(end)
        end_fd = job.driver.end_fd
        if outcome is None and end_fd is not None:
            job.is_ending, job.is_alone, job.due_ns = True, False, None
            self._forget(job)
            self._register(job, {end_fd: select.EPOLLIN})
        else:
            self._drop(job, outcome or job.driver.reap(), None)

    def _drop(self, job: _Job, outcome: Outcome | None, error: BaseException | None) -> None:
        if job.is_over:
            return
        job.due_ns = None
        if job is self._served:
            self._turn_to(None)
        try:
            self._forget(job)
        except BaseException as another:  # `_round` unregisters its other descriptors
            error = error or another
        self._jobs.discard(job)
        if not self._jobs:
            self._interpreter.end()
        _call_done(job, outcome, error)

    # --- what is waited for -------------------------------------------------------------------------------------------

    def _watch(self, job: _Job) -> None:
        fds, callers, due = job.driver.waits()
        if fds != job.fds:
            self._register(job, fds)
        if callers or job.callers:
            self._watch_callers(job, callers)
        if due != job.due_ns:
            self._set_due(job, due)
        job.is_alone = job.driver.is_alone
        job.computes = job.is_alone or job.driver.computes
        job.driver.begin_waiting()

    def _set_due(self, job: _Job, due: int | None) -> None:
        job.due_ns, job.overdue_ns = due, None
        if due is not None:
            heapq.heappush(self._deadlines, (due, next(self._numbers), job))

    def _register(self, job: _Job, fds: dict[int, int]) -> None:
        for fd in job.fds.keys() - fds.keys():
            self._unregister(fd)
        for fd, events in fds.items():
            if fd not in job.fds:
                self._owners[fd] = job
                self._epoll.register(fd, events)
            elif job.fds[fd] != events:
                self._epoll.modify(fd, events)
        job.fds = fds

    def _watch_callers(self, job: _Job, callers: list[int]) -> None:
        """Watches copies of the caller's descriptors: it may give one to several boxes, and close it at any time."""
        for fd in job.callers.keys() - set(callers):
            self._close_copy(job, fd)
        for fd in callers:
            if fd not in job.callers:
                copy = job.callers[fd] = os.dup(fd)
                self._owners[copy] = job
                self._epoll.register(copy, select.EPOLLIN)

    def _close_copy(self, job: _Job, fd: int) -> None:
        copy = job.callers.pop(fd)
        self._unregister(copy)
        os.close(copy)

    def _unregister(self, fd: int) -> None:
        self._owners.pop(fd, None)
        with contextlib.suppress(OSError):  # its registration may have failed
            self._epoll.unregister(fd)

    def _forget(self, job: _Job) -> None:
        """Stops watching all descriptors of a guest."""
        self._turns.forget(job)
        job.driver.end_waiting()
        self._register(job, {})
        for fd in tuple(job.callers):
            self._close_copy(job, fd)
        listener = job.driver.listener
        if listener is not None and listener.fd in self._listeners:
            jobs = self._listeners[listener.fd][1]
            jobs.discard(job)
            if not jobs:
                del self._listeners[listener.fd]
                self._unregister(listener.fd)

    # --- deadlines ----------------------------------------------------------------------------------------------------

    def _timeout(self) -> float:
        deadlines = self._deadlines
        if len(deadlines) > len(self._jobs) + _STALE:
            deadlines[:] = [entry for entry in deadlines if entry[2].due_ns == entry[0]]
            heapq.heapify(deadlines)
        while deadlines and deadlines[0][2].due_ns != deadlines[0][0]:
            heapq.heappop(deadlines)
        return min(max(0.0, (deadlines[0][0] - time.monotonic_ns()) / 1e9), _LONGEST) if deadlines else -1

    def _look_at_the_clock(self, now: int) -> None:
        due = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, _, job = heapq.heappop(self._deadlines)
            if job.due_ns == deadline:
                job.due_ns = None
                due.append(job)
        for job in due:
            if job.is_over or job.is_ending:
                continue
            if job.is_stopped:  # neither its alarms nor the ends of its waits matter before its turn
                self._set_due(job, now + _STOPPED_NS)
                continue
            if job.credit_ns <= self._turns.line and self._must_rest(job):
                job.overdue_ns = now
                continue
            self._step(job, {})
            before, now = now, time.monotonic_ns()
            job.credit_ns -= now - before


def _call_done(job: _Job, outcome: Outcome | None, error: BaseException | None) -> None:
    """Calls `done`, once. An exception of `done` is reported as a fault, because it concerns no guest of the engine."""
    if not job.is_over:
        job.is_over = True
        try:
            job.done(outcome, error)
        except BaseException as failed:
            fault(failed)


class _Serving(threading.local):
    job: _Job | None = None


_here = _Serving()


def served_here() -> Serving | None:
    """The driver of the guest whose call this thread answers now; None in a thread that is not an engine's."""
    return None if _here.job is None else _here.job.driver


def _forget(engine: Engine) -> None:
    """Closes the descriptors of the parent's engine in a forked child."""
    engine._epoll.close()
    os.close(engine._wake)


#: The engine of this process. Raises OSError and RuntimeError where it cannot be started.
the_engine = PerProcess(Engine, _forget)
