"""The keeper: a thread of the controller that never ends. It starts every guest, and ends those whose time is up.

Why it starts guests: the kernel ties a parent-death signal (prctl(2), PR_SET_PDEATHSIG) to the *thread* that made the
child, so a guest that was started by a caller's short-lived thread would die with that thread. Why it ends guests: a
blocking driver waits in read(2) while its guest computes, so another thread has to look at the clock.

Rules: nothing here waits for a guest, and nothing here holds a reference to a box that has ended. An exception that is
raised while one guest is checked ends that guest, and is raised for whoever waits for it (`Watch.fault`).
"""

import contextlib
import errno
import heapq
import itertools
import os
import queue
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from proxybox.controller import hostproc, pidfd
from proxybox.controller.costs.interpreter import InterpreterShare
from proxybox.controller.costs.meter import Meter
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.faults import fault
from proxybox.controller.header import WOKEN
from proxybox.controller.process import priority
from proxybox.controller.process.cpus import allowed_cpus
from proxybox.controller.process.memory import Beginning, Memory
from proxybox.controller.process.rotation import ALLOWANCE_NS, Rotations

#: In `Watch.expired`: the caller has ended the guest.
CANCELLED = "cancelled"
#: In `Watch.expired`: the guest has used more memory than it may.
MEMORY = "memory"
#: In `Watch.expired`: the guest's limits could not be enforced; `Watch.fault` says why.
FAULTED = "faulted"

#: Seconds between two checks of the guests that are near a limit. So a time limit may be enforced this much too late.
TICK = 0.02
_TICK_NS = int(TICK * 1e9)
#: A guest that cannot reach a limit within _NEAR nanoseconds is checked again only then, or after _LONGEST.
_NEAR, _LONGEST = 50_000_000, 5_000_000_000
#: A guest that is not in the rotation is looked at after at least this time, and after longer while it costs nothing.
_SHORT, _IDLE = 10_000_000, 400_000_000
#: The most CPU time that is charged to a guest per time of the clock: it computes on every CPU, and so does a thread of
#: the controller for it.
_COUNT = os.cpu_count() or 1
_FASTEST = _COUNT + 1

#: The most signals, of those that a guest itself has caused, that are pending for it at one time. The kernel counts the
#: pending signals of all processes of a user together (RLIMIT_SIGPENDING), so a guest that never takes its own signals
#: would use up the share of others.
SIGNALS_AT_ONCE = 8
_FIRST_REAL_TIME = 32
_OF_STOPS = (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL)


@attrs.frozen(slots=True, eq=False)
class Waiting:
    """A wait for which the wall time limit is suspended.

    deadline_ns: the limit before the wait. since_ns, cpu_ns: host time, and the guest's CPU time, when it began.
    """

    deadline_ns: int
    since_ns: int
    cpu_ns: int


@attrs.define(slots=True, eq=False)
class Watch:
    """The limits of one running guest.

    pid: of the guest. pidfd: its pidfd, for signals, owned by this object; -1 once closed, so that a late `kill` from
    another thread reaches no process. deadline_ns: the end of its wall time on the host's monotonic clock; None while
    wall time is not charged. cpu_ns: the limit of `charged_ns`. meter: CPU time that the controller spends for the
    guest. interpreter: its turns, where a thread serves it. free_ns: how much of that is not charged. interrupt: called
    when the guest reaches a limit for the first time; the guest is killed only grace_ns after that. interrupted: the
    limit for which `interrupt` was called. fault: an exception of the controller while it checked the guest; the guest
    has not caused it. unreachable: the kernel does
    not let this process send the guest signals, so nobody may wait for it to end by one. offered: a mask of the signals
    that `offer` has sent, and that may still be pending. near: the guests that the keeper checks at each tick; None
    while it does not watch this one. cpu: on which it runs; None for any. niceness: its threads', as its launch has set
    it. shares_ns: the `spent_ns` from which on it takes turns with others (rotation.py); None for never. is_asked:
    whether it has been given something to do since it was last looked at. stops: how often it has been stopped.
    back_ns: when the keeper comes back to it at the latest, if it is not near; 0 for no such time.
    """

    pid: int
    pidfd: int
    _deadline_ns: int | None = None
    _cpu_ns: int | None = None
    meter: Meter = attrs.field(factory=Meter)
    interpreter: InterpreterShare = attrs.field(factory=InterpreterShare)
    free_ns: int = 0
    interrupt: Callable[[], None] | None = None
    grace_ns: int = 0
    interrupted: str = ""
    _expired: str = ""
    fault: BaseException | None = None
    unreachable: bool = False
    offered: int = 0
    lock: threading.RLock = attrs.field(factory=threading.RLock)  # signal handlers re-enter it
    near: "set[Watch] | None" = None
    back_ns: int = 0
    cpu: int | None = None
    niceness: int = 0
    shares_ns: int | None = None
    is_asked: bool = False
    stops: int = 0
    memory: Memory | None = None
    full_ns: int = _LONGEST
    waits: Callable[[], bool] = bool
    is_parked: bool = False
    _seen_ns: int = -1
    _idle_ns: int = 0
    _sleeps: bool = False
    _waits_for_turn: bool = False
    _awake: int = 0
    _carried_ns: int = 0
    _waiting: "Waiting | None" = None

    @property
    def expired(self) -> str:
        """Why the guest was ended: a limit, CANCELLED or FAULTED; "" where it was not."""
        return self._expired or (MEMORY if self.memory is not None and self.memory.was_ended else "")

    @expired.setter
    def expired(self, value: str) -> None:
        self._expired = value

    @property
    def deadline_ns(self) -> int | None:
        """The end of its wall time. When it is set, the keeper looks at the guest soon."""
        return self._deadline_ns

    @deadline_ns.setter
    def deadline_ns(self, value: int | None) -> None:
        self._deadline_ns = value
        self.look_soon()

    @property
    def cpu_ns(self) -> int | None:
        """The limit of its CPU time. When it is set, the keeper looks at the guest soon."""
        return self._cpu_ns

    @cpu_ns.setter
    def cpu_ns(self, value: int | None) -> None:
        self._cpu_ns = value
        self.look_soon()

    def cpu_time_ns(self) -> int:
        """CPU time that the guest has used, in nanoseconds; 0 when its clock cannot be read."""
        try:
            return time.clock_gettime_ns(~self.pid << 3 | 2)  # clock_getcpuclockid(3)
        except OSError:
            return 0

    def charged_ns(self, cpu_ns: int | None = None) -> int:
        """CPU time that counts against its limit: its own, and the controller's as far as it exceeds what is free.

        cpu_ns: its own, where the caller has just read it.
        """
        own = self.cpu_time_ns() if cpu_ns is None else cpu_ns
        return own + self._carried_ns + max(0, self.meter.spent_ns() - self.free_ns)

    def memory_of(self, limit: int, began: Beginning, asks: bool) -> Memory:
        """The memory of this guest, with a limit in bytes: see `Memory`."""
        return Memory(self.pid, limit, began, asks, self.pidfd, _COUNT if self.cpu is None else 1)

    def begin_sharing(self) -> None:
        """From now on it computes for a program: after its allowance it takes turns with others."""
        self.shares_ns = self.spent_ns() + ALLOWANCE_NS
        self.interpreter.limit(False)
        self.look_soon()

    def share(self, threads: int) -> None:
        """Gives so many threads that compute the weight of one, as far as the kernel lets this process do so."""
        with self.lock, contextlib.suppress(OSError):
            if self._has_its_pid():
                priority.lower_all(self.pid, priority.of_long(self.niceness, threads))

    def free(self, seconds: float | None) -> None:
        """Sets how much CPU time the controller may spend for the guest, from now on, without charging it.

        The time that the same calls take depends on the machine's load, and an honest program should not reach its
        limit because of that. seconds: None for 0.
        """
        with self.lock:
            spent = self.meter.spent_ns()
            if spent > self.free_ns:
                self._carried_ns += spent - self.free_ns
            self.free_ns = spent + int((seconds or 0) * 1e9)

    def renew(
        self, deadline_ns: int | None, seconds: float | None, free_seconds: float | None, cpu_end_ns: int | None
    ) -> int:
        """Sets its limits anew, from now on, and returns the CPU time that it has used itself, in nanoseconds.

        seconds: of CPU time that may be charged from now on; None for no limit of that kind. free_seconds: see `free`.
        cpu_end_ns: the limit of all that is charged; the earlier one counts.
        """
        with self.lock:
            self.free(free_seconds)
            own = self.cpu_time_ns()
            limit = cpu_end_ns
            if seconds is not None:
                limit = own + self._carried_ns + int(seconds * 1e9)
                if cpu_end_ns is not None and cpu_end_ns < limit:
                    limit = cpu_end_ns
            self._deadline_ns, self._cpu_ns, self.is_asked = deadline_ns, limit, True
            self.shares_ns = own + self.meter.spent_ns() + ALLOWANCE_NS
            self.interpreter.limit(False)
            self.take_turn()
            self.look_soon()
        return own

    def is_running(self) -> bool:
        """Whether the guest has not ended yet. A pidfd becomes readable when its process ends (pidfd_open(2))."""
        with self.lock:
            if self.pidfd < 0:
                return False
            return not pidfd.has_ended(self.pidfd)

    def cancel(self) -> None:
        """Ends the guest for the caller, from any thread."""
        self.expired = self.expired or CANCELLED
        self.kill()

    def kill(self) -> None:
        """Ends the guest at once."""
        self.send(signal.SIGKILL)

    def stop(self) -> None:
        """Stops all threads of the guest, whatever they do, until `go_on`."""
        self._stop(sleeps=True)

    def go_on(self) -> None:
        """Lets a guest that was stopped go on. Its program is not told."""
        self._stop(sleeps=False)

    def wait_for_turn(self) -> None:
        """Stops the guest until `take_turn`, whether or not it is stopped otherwise; not while it is `awake`."""
        with self.lock:
            self._stop(waits_for_turn=not self._awake)

    def take_turn(self) -> None:
        """Lets the guest go on, unless it is stopped otherwise."""
        self._stop(waits_for_turn=False)

    def park(self) -> None:
        """Stops a guest that waits for answers until it gets one (`unpark`): so nobody has to look at its memory."""
        with self.lock:
            if not self._awake and self.waits():
                self._stop(parks=True)
                if not self.waits():  # it has been answered at this very moment
                    self._stop(parks=False)
            if self.memory is not None:
                self.memory.rest(self.is_parked)

    def unpark(self) -> None:
        """Lets a guest go on that gets an answer now, or a signal."""
        if self.memory is not None:
            self.memory.rest(False)
        self._stop(parks=False)
        self.look_soon()

    @property
    def takes_turns(self) -> bool:
        """Whether it has used more CPU time than it may before it takes turns."""
        return self.shares_ns is not None and self.spent_ns() >= self.shares_ns

    @property
    def is_stopped(self) -> bool:
        """Whether the guest is stopped, for another reason than that it waits for an answer."""
        return self._sleeps or self._waits_for_turn

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """A context in which the guest does not wait for its turn."""
        with self.lock:
            self._awake += 1
            self.take_turn()
            self.unpark()
        try:
            yield
        finally:
            with self.lock:
                self._awake -= 1

    def _stop(
        self, *, sleeps: bool | None = None, waits_for_turn: bool | None = None, parks: bool | None = None
    ) -> None:
        with self.lock:
            was = self.is_stopped or self.is_parked
            self.is_parked = self.is_parked if parks is None else parks
            self._sleeps = self._sleeps if sleeps is None else sleeps
            self._waits_for_turn = self._waits_for_turn if waits_for_turn is None else waits_for_turn
            stops = self.is_stopped or self.is_parked
            if was and not stops:
                self.send(signal.SIGCONT, WOKEN)
            elif stops and not was:
                self.stops += 1
                self.send(signal.SIGSTOP)
                self._stop_each_thread()

    def _stop_each_thread(self) -> None:
        """Has the kernel stop the guest at once, also where all of its threads compute.

        One of them has to take the signal before any is stopped, and the one that the kernel chooses may be the last to
        run: of fifteen threads, each of which runs for a tick, after 60 ms. The one that runs now takes it at once.
        """
        with contextlib.suppress(OSError):
            if (tids := hostproc.threads(self.pid))[1:] and self._has_its_pid():
                pidfd.stop_threads(self.pid, tids)

    def _has_its_pid(self) -> bool:
        """Whether its pid is its own. It is reaped after `release`, but other code of the caller may have done so."""
        return self.pidfd >= 0 and self.near is not None and not pidfd.has_ended(self.pidfd)

    def send(self, number: int, value: int = 0) -> bool:
        """Sends a real signal, by pidfd, so that it cannot reach another process.

        Its siginfo tells the guest nothing about the controller. Returns False where the signal has to be sent again
        later, because the kernel's limit of pending real-time signals is reached (EAGAIN). Other signals do not fail
        in this way: beyond the limit the kernel sends them without their siginfo.
        """
        with self.lock:
            if self.pidfd < 0:
                return True
            if self.is_parked and number not in _OF_STOPS:
                self.unpark()
            error = pidfd.send(self.pidfd, self.pid, number, value)
            self.unreachable = self.unreachable or error == errno.EPERM
            return error != errno.EAGAIN

    def offer(self, numbers: Sequence[int]) -> list[bool]:
        """Sends signals that the guest itself has caused, and returns for each whether it was sent.

        The caller offers the others again later: one of each real-time signal may be pending at a time, and
        SIGNALS_AT_ONCE different signals in total.
        """
        wanted = queued = 0
        if self.is_parked:
            self.unpark()
        for number in numbers:
            wanted |= 1 << number - 1
            queued |= 1 << number - 1 if number >= _FIRST_REAL_TIME else 0
        if self.offered & queued or (self.offered | wanted).bit_count() > SIGNALS_AT_ONCE:
            self.offered &= self.undelivered()
        return [self._offer(number) for number in numbers]

    def _offer(self, number: int) -> bool:
        bit = 1 << number - 1
        if self.offered & bit:
            if number >= _FIRST_REAL_TIME:
                return False
        elif self.offered.bit_count() >= SIGNALS_AT_ONCE:
            return False
        with self.lock:
            if number == signal.SIGCONT and self.is_stopped:  # it would end the stop: for who sends it, too
                return False
            if not self.send(number):
                return False
        self.offered |= bit
        return True

    def undelivered(self) -> int:
        """A mask of the signals that are pending for the whole process; every bit is set where it cannot be read."""
        try:
            return hostproc.status(self.pid, "ShdPnd", 16)
        except (OSError, ValueError):
            return -1

    @contextlib.contextmanager
    def uncharged(self) -> Iterator[None]:
        """A context in which wall time is not charged, unless another deadline is set meanwhile."""
        since = self.suspend()
        try:
            yield
        finally:
            self.resume(since)

    def suspend(self) -> "Waiting | None":
        """Suspends the wall time limit; the CPU time that the guest uses meanwhile is still charged as wall time.

        Returns the argument for `resume`: None where no limit is suspended.
        """
        with self.lock:
            if self.interrupted or self.deadline_ns is None:  # the grace after an interrupt is never suspended
                return None
            waiting = self._waiting = Waiting(self.deadline_ns, time.monotonic_ns(), self.cpu_time_ns())
            self.deadline_ns = None
        return waiting

    def resume(self, waiting: "Waiting | None") -> None:
        """Ends the suspension that `suspend` has begun, unless a later one has replaced it."""
        with self.lock:
            if waiting is None or self._waiting is not waiting:
                return
            self._waiting = None
            if self.deadline_ns is None:
                computed = self.cpu_time_ns() - waiting.cpu_ns
                self.deadline_ns = waiting.deadline_ns + time.monotonic_ns() - waiting.since_ns - computed

    def close(self) -> None:
        """Closes the pidfd, after all that uses it."""
        with self.lock:
            if self.memory is not None:
                self.memory.close()
            fd, self.pidfd = self.pidfd, -1
            if fd >= 0:
                os.close(fd)

    def look_soon(self) -> None:
        """Has the keeper look at the guest at its next tick."""
        if self.near is not None:
            self.near.add(self)

    def check(self) -> int:
        """Enforces the limits, and returns in how many nanoseconds the guest can reach one at the earliest."""
        try:
            with self.lock:  # another thread may set new limits: they are set before this check or after it
                self._enforce()
                self._look_at_memory()
                return self._left_ns()
        except BaseException as error:
            self._fail(error)
            return _LONGEST

    def check_memory(self) -> None:
        """Enforces the limit of memory alone."""
        try:
            with self.lock:
                self._look_at_memory()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.fault = self.fault or error
        self.expired = self.expired or FAULTED
        self.kill()

    def _look_at_memory(self) -> None:
        self.full_ns = _LONGEST
        if self.memory is None or self.is_parked or not self.memory.is_watched:
            return
        with contextlib.suppress(OSError, ValueError):  # it has ended
            self.full_ns = self.memory.look(self.cpu_time_ns())
        if not self.full_ns:
            self.expired = self.expired or MEMORY
            self.kill()
        elif self.memory.is_idle:
            self.park()
            self.full_ns = _LONGEST if self.is_parked else self.full_ns

    def _left_ns(self) -> int:
        if self._waiting is not None:
            return 0
        left = min(_LONGEST, self.full_ns)
        if self._deadline_ns is not None:
            left = min(left, self._deadline_ns - time.monotonic_ns())
        if self._cpu_ns is not None:
            left = min(left, (self._cpu_ns - self.charged_ns()) // _FASTEST)
        if self.shares_ns is not None and not self.takes_turns:
            left = min(left, self._until_turns_ns(self.shares_ns))
        return left

    def _until_turns_ns(self, shares_ns: int) -> int:
        """In how many nanoseconds to look whether it takes turns: later and later while it costs nothing."""
        spent = self.spent_ns()
        if spent != self._seen_ns:
            self._seen_ns, self._idle_ns = spent, _NEAR
        else:
            self._idle_ns = min(2 * self._idle_ns, _IDLE)
        return max((shares_ns - spent) // _FASTEST, self._idle_ns if self._idle_ns > _NEAR else _SHORT)

    def spent_ns(self) -> int:
        """CPU time that was spent so far, by the guest and for it."""
        return self.cpu_time_ns() + self.meter.spent_ns()

    def _enforce(self) -> None:
        reason = ""
        waiting = self._waiting
        if self.deadline_ns is not None:
            if time.monotonic_ns() >= self.deadline_ns:
                reason = "wall_time"
        elif waiting is not None and self.cpu_time_ns() - waiting.cpu_ns >= waiting.deadline_ns - waiting.since_ns:
            reason = "wall_time"
        if not reason and self.cpu_ns is not None and self.charged_ns() >= self.cpu_ns:
            reason = "cpu_time"
        if not reason:
            return
        if self.interrupt is not None and self.grace_ns and not self.interrupted:
            self.interrupted = reason
            self.cpu_ns = None
            self.deadline_ns = time.monotonic_ns() + self.grace_ns
            self.interrupt()
            return
        self.expired = self.interrupted or reason
        self.kill()


def _count_cpus() -> int:
    try:
        return len(allowed_cpus())
    except OSError:  # no CPU affinity here
        return os.cpu_count() or 1


class Keeper:
    """The keeper thread. Use `keeper()`: there is one per process, and a new one after a fork.

    A guest is checked at each tick only while it is near a limit. Others are put off until they can be near one.
    Between two ticks only those are looked at that could use up their memory before the next one.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._watched: set[Watch] = set()
        self._filling: list[Watch] = []
        self._tick_ns = 0  # when the next tick is
        self._near: set[Watch] = set()  # any thread adds to it, so it is copied before it is looked through
        self._later: list[tuple[int, int, weakref.ref[Watch]]] = []  # a heap: host time, a number, the guest
        self._numbers = itertools.count()
        self._rotations = Rotations(_count_cpus())
        self._adding = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="proxybox-keeper", daemon=True)
        self._thread.start()

    @property
    def niceness(self) -> int:
        """Of its thread, from which those that it starts have theirs. Raises OSError."""
        return os.getpriority(os.PRIO_PROCESS, self._thread.native_id or 0)

    def spawn(self, path: str, argv: list[str], env: Mapping[str, str], **options: Any) -> int:
        """Calls posix_spawn(3) in the keeper's thread, and returns the child's pid. Raises OSError."""
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
        with self._adding:  # of two concurrent calls, exactly one sees that its guest is the first
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
        """Has boxes that compute for long on a CPU make way for one that begins, or gets a command (rotation.py)."""
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
        """Seconds until the next tick, or until a guest may have used up its memory."""
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
            if left > _NEAR:
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


_keeper: Keeper | None = None
_making = threading.Lock()


def keeper() -> Keeper:
    """The keeper of this process. Raises SandboxStartError where its thread cannot be started."""
    global _keeper
    if _keeper is None:
        with _making:
            if _keeper is None:
                try:
                    _keeper = Keeper()
                except RuntimeError as error:  # threading raises it for EAGAIN
                    raise SandboxStartError(f"the box could not be started: {error} (RLIMIT_NPROC)") from error
    return _keeper


def _forget() -> None:
    """Forgets the keeper in a forked child: it has no keeper thread, and its parent's guests are not its own."""
    global _keeper, _making
    _keeper = None
    _making = threading.Lock()


os.register_at_fork(after_in_child=_forget)
