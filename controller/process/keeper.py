"""The one lasting thread of a controller: it starts every guest, and it ends those whose time is up.

Starts guests: the kernel ties a parent-death signal to the *thread* that made the child, so a guest that was started
by a caller's short-lived thread would die with it. Ends guests: a blocking driver sits in read(2) while its guest
computes, and needs somebody else to look at the clock.

Rules: nothing here waits for a guest, and nothing here holds a reference to a box that has ended. What is raised while
one guest is looked at ends that guest, and whoever waits for it is told (`Watch.fault`); the thread never ends.
"""

import contextlib
import ctypes
import errno
import functools
import os
import queue
import select
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from proxybox.controller import hostproc
from proxybox.controller.costs.meter import Meter
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.faults import fault

#: In `Watch.expired`: ended on the caller's word.
CANCELLED = "cancelled"
#: In `Watch.expired`: its limits could not be enforced; `Watch.fault` says why.
FAULTED = "faulted"

#: Seconds between two looks at the running guests: how late a time limit can be.
TICK = 0.02

#: So many signals of a guest's own making are on their way to it at once. The kernel counts the pending ones of all
#: processes of a user together (RLIMIT_SIGPENDING), so that a guest which takes none of its own would take them from
#: others.
SIGNALS_AT_ONCE = 8
_FIRST_REAL_TIME = 32


#: siginfo_t: signo, errno, code; sender's pid and uid are zero.
_SIGINFO = struct.Struct("=iii116x")
_PIDFD_SEND_SIGNAL, _SI_QUEUE = 424, -1


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@attrs.frozen(slots=True, eq=False)
class Waiting:
    """A wait that wall time stands still in: its end as it was, host time and the guest's CPU time at the begin."""

    deadline_ns: int
    since_ns: int
    cpu_ns: int


@attrs.define(slots=True, eq=False)
class Watch:
    """The limits of one running guest.

    pid: of the guest. pidfd: the same for signals, owned by this object; -1 once closed, so that a late `kill` from
    another thread meets nobody. deadline_ns: host monotonic end of its wall time, None while it is not charged.
    cpu_ns: its CPU time limit, of what `charged_ns` says. meter: CPU time that the controller spends for it; free_ns:
    how much of that costs it nothing. interrupt: a first word to a guest that has reached a limit, which then has
    grace_ns to heed it. interrupted: the limit for which it got that. expired: why the keeper has killed it. fault:
    what went wrong when it was looked at, which is no doing of the guest's. unreachable: the kernel does not let this
    process send it signals, so that nobody may wait for the end that one would have brought. offered: the set, as a
    mask, of the signals that `offer` has sent, and that may be pending.
    """

    pid: int
    pidfd: int
    deadline_ns: int | None = None
    cpu_ns: int | None = None
    meter: Meter = attrs.field(factory=Meter)
    free_ns: int = 0
    interrupt: Callable[[], None] | None = None
    grace_ns: int = 0
    interrupted: str = ""
    expired: str = ""
    fault: BaseException | None = None
    unreachable: bool = False
    offered: int = 0
    lock: threading.RLock = attrs.field(factory=threading.RLock)  # re-entered by signal handlers
    _carried_ns: int = 0
    _waiting: "Waiting | None" = None

    def cpu_time_ns(self) -> int:
        """CPU time that the guest has used, in nanoseconds; 0 when it cannot be told."""
        try:
            return time.clock_gettime_ns(~self.pid << 3 | 2)  # clock_getcpuclockid(3)
        except OSError:
            return 0

    def charged_ns(self) -> int:
        """CPU time that counts against its limit: its own, and what the controller has spent beyond what is free."""
        return self.cpu_time_ns() + self._carried_ns + max(0, self.meter.spent_ns() - self.free_ns)

    def free(self, seconds: float | None) -> None:
        """The controller may spend so much for it, from now on, that costs it nothing: how long the same calls take
        depends on the machine's load, and no honest program shall come to its limit by that."""
        with self.lock:
            spent = self.meter.spent_ns()
            self._carried_ns += max(0, spent - self.free_ns)
            self.free_ns = spent + int((seconds or 0) * 1e9)

    def is_running(self) -> bool:
        """Whether it has not ended: a pidfd is readable when its process has (pidfd_open(2))."""
        with self.lock:
            if self.pidfd < 0:
                return False
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            return not poll.poll(0)

    def cancel(self) -> None:
        """Ends the guest on the caller's word; from any thread."""
        self.expired = self.expired or CANCELLED
        self.kill()

    def kill(self) -> None:
        """Ends the guest at once."""
        self.send(signal.SIGKILL)

    def send(self, number: int) -> bool:
        """A real signal, by pidfd, so that no other process can be meant. Its siginfo tells the guest nothing of us:
        pidfd_send_signal(2) lets a sender write its own for SI_QUEUE.

        False where it is to be sent again later: as many real-time signals as may be are pending (EAGAIN). Others do
        not fail so: beyond the limit the kernel sends them without their siginfo."""
        with self.lock:
            if self.pidfd < 0:
                return True
            told = _SIGINFO.pack(number, 0, _SI_QUEUE)
            if _libc().syscall(_PIDFD_SEND_SIGNAL, self.pidfd, number, told, 0) >= 0:
                return True
            error = ctypes.get_errno()
            self.unreachable = self.unreachable or error == errno.EPERM
            return error != errno.EAGAIN

    def offer(self, numbers: Sequence[int]) -> list[bool]:
        """Sends signals that the guest itself has caused: for each, whether it has been. The others are to be offered
        again: of one real-time signal one is pending at a time, and of all signals SIGNALS_AT_ONCE."""
        wanted = queued = 0
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
        if not self.send(number):
            return False
        self.offered |= bit
        return True

    def undelivered(self) -> int:
        """The set, as a mask, of the signals to the process that it has not taken; all of them where that cannot be
        told."""
        try:
            return hostproc.status(self.pid, "ShdPnd", 16)
        except (OSError, ValueError):
            return -1

    @contextlib.contextmanager
    def uncharged(self) -> Iterator[None]:
        """Wall time stands still meanwhile, unless somebody sets another end of it."""
        since = self.suspend()
        try:
            yield
        finally:
            self.resume(since)

    def suspend(self) -> "Waiting | None":
        """Wall time stands still, but for what the guest computes while it is said to wait. What `resume` wants to
        know, None where there is no limit."""
        with self.lock:
            if self.interrupted or self.deadline_ns is None:  # the time to heed an interrupt is short, and its own
                return None
            waiting = self._waiting = Waiting(self.deadline_ns, time.monotonic_ns(), self.cpu_time_ns())
            self.deadline_ns = None
        return waiting

    def resume(self, waiting: "Waiting | None") -> None:
        """Wall time goes on."""
        with self.lock:
            if waiting is None or self._waiting is not waiting:
                return
            self._waiting = None
            if self.deadline_ns is None:
                computed = self.cpu_time_ns() - waiting.cpu_ns
                self.deadline_ns = waiting.deadline_ns + time.monotonic_ns() - waiting.since_ns - computed

    def close(self) -> None:
        """Closes the pidfd."""
        with self.lock:
            fd, self.pidfd = self.pidfd, -1
            if fd >= 0:
                os.close(fd)

    def _check(self) -> None:
        try:
            with self.lock:  # whoever sets other limits meanwhile has the last word
                self._enforce()
        except BaseException as error:
            self.fault = self.fault or error
            self.expired = self.expired or FAULTED
            self.kill()

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


class Keeper:
    """Use `keeper()`; there is one per process, and a new one after a fork."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._watched: set[Watch] = set()
        self._adding = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="proxybox-keeper", daemon=True)
        self._thread.start()

    def spawn(self, path: str, argv: list[str], env: Mapping[str, str], **options: Any) -> int:
        """posix_spawn(3) in the lasting thread; the child's pid. Raises OSError."""
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
        with self._adding:  # of two at once, one sees that it is the first
            self._watched.add(watch)
            is_first = len(self._watched) == 1
        if is_first:
            self._jobs.put(None)

    def release(self, watch: Watch) -> None:
        """Stops looking at a guest; before it is reaped, so that its pid still is its own."""
        self._watched.discard(watch)

    def _run(self) -> None:
        while True:
            try:
                self._turn()
            except BaseException as error:
                fault(error)

    def _turn(self) -> None:
        try:
            job = self._jobs.get(timeout=TICK if self._watched else None)
        except queue.Empty:
            job = None
        if job is not None:
            job()
        for watch in tuple(self._watched):
            if not watch.expired:
                watch._check()


_keeper: Keeper | None = None
_making = threading.Lock()


def keeper() -> Keeper:
    """The keeper of this process. Raises SandboxStartError where no thread can be had for it."""
    global _keeper
    if _keeper is None:
        with _making:
            if _keeper is None:
                try:
                    _keeper = Keeper()
                except RuntimeError as error:  # threading's word for EAGAIN
                    raise SandboxStartError(f"the box could not be started: {error} (RLIMIT_NPROC)") from error
    return _keeper


def _forget() -> None:
    """A forked child has no keeper thread; its parent's guests are not its own."""
    global _keeper, _making
    _keeper = None
    _making = threading.Lock()


os.register_at_fork(after_in_child=_forget)
