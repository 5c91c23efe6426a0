"""The limits of one guest: of its time, and of its memory (memory.py). The watchdog's thread enforces them."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import attrs

from proxybox.controller.costs.interpreter import InterpreterShare
from proxybox.controller.costs.meter import Meter
from proxybox.controller.process import priority
from proxybox.controller.process.memory import Beginning, GuestMemory
from proxybox.controller.process.rotation import ALLOWANCE_NS
from proxybox.controller.process.signalled import Signalled

#: In `Watch.expired`: the caller has ended the guest.
CANCELLED = "cancelled"
#: In `Watch.expired`: the guest has used more memory than it may.
MEMORY = "memory"
#: In `Watch.expired`: the guest's limits could not be enforced; `Watch.fault` says why.
FAULTED = "faulted"

#: A guest that cannot reach a limit within NEAR nanoseconds is checked again only when it could, or after _LONGEST.
NEAR, _LONGEST = 50_000_000, 5_000_000_000
#: A guest that is not in the rotation is checked after at least this time, and later while it uses no CPU time.
_SHORT, _IDLE = 10_000_000, 400_000_000
#: The most CPU time that is charged to a guest per time of the clock: it computes on every CPU, and so does a thread of
#: the controller for it.
_COUNT = os.cpu_count() or 1
_FASTEST = _COUNT + 1


@attrs.frozen(slots=True, eq=False)
class SuspendedWait:
    """A wait for which the wall time limit is suspended.

    deadline_ns: the limit before the wait. since_ns, cpu_ns: host time, and the guest's CPU time, when it began.
    """

    deadline_ns: int
    since_ns: int
    cpu_ns: int


@attrs.define(slots=True, eq=False)
class Watch(Signalled):
    """The limits of one running guest.

    deadline_ns: the end of its wall time on the host's monotonic clock; None while wall time is not charged. cpu_ns:
    the limit of `charged_ns`. meter: CPU time that the controller spends for the guest. interpreter: its turns, where a
    thread serves it. free_ns: how much of the meter's time is not charged. interrupt: called when the guest reaches a
    limit for the first time; the guest is killed only grace_ns after that. interrupted: the limit for which `interrupt`
    was called. fault: an exception of the controller while it checked the guest; the guest has not caused it. back_ns:
    the time of its next check by the watchdog, if it is not near; 0 for no such time. cpu: on which it runs; None for
    any. niceness: of its threads at the launch. shares_ns: the `spent_ns` from which on it takes turns with others
    (rotation.py); None for never. is_asked: whether it has got a command since the last check. memory: the limits of
    its memory; None for no limit. full_ns: in how many nanoseconds it could use up its memory.
    """

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
    back_ns: int = 0
    cpu: int | None = None
    niceness: int = 0
    shares_ns: int | None = None
    is_asked: bool = False
    memory: GuestMemory | None = None
    full_ns: int = _LONGEST
    _seen_ns: int = -1
    _idle_ns: int = 0
    _carried_ns: int = 0
    _waiting: "SuspendedWait | None" = None

    @property
    def expired(self) -> str:
        """Why the guest was ended: a limit, CANCELLED or FAULTED; "" where it was not."""
        return self._expired or (MEMORY if self.memory is not None and self.memory.was_ended else "")

    @expired.setter
    def expired(self, value: str) -> None:
        self._expired = value

    @property
    def deadline_ns(self) -> int | None:
        """The end of its wall time. When it is set, the watchdog checks the guest soon."""
        return self._deadline_ns

    @deadline_ns.setter
    def deadline_ns(self, value: int | None) -> None:
        self._deadline_ns = value
        self.look_soon()

    @property
    def cpu_ns(self) -> int | None:
        """The limit of its CPU time. When it is set, the watchdog checks the guest soon."""
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
        """Returns the CPU time that counts against its limit: its own, and the controller's beyond `free_ns`.

        cpu_ns: its own, if the caller has just read it.
        """
        own = self.cpu_time_ns() if cpu_ns is None else cpu_ns
        return own + self._carried_ns + max(0, self.meter.spent_ns() - self.free_ns)

    def memory_of(self, limit: int, began: Beginning, asks: bool) -> GuestMemory:
        """Returns the memory of this guest, with a limit in bytes: see `GuestMemory`."""
        return GuestMemory(self.pid, limit, began, asks, self.pidfd, _COUNT if self.cpu is None else 1)

    def begin_sharing(self) -> None:
        """Notes that it computes for a program from now on: after its allowance it takes turns with others."""
        self.shares_ns = self.spent_ns() + ALLOWANCE_NS
        self.interpreter.limit(False)
        self.look_soon()

    def share(self, threads: int) -> None:
        """Gives `threads` computing threads together the weight of one, as far as the kernel allows that."""
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
        cpu_end_ns: a limit of `charged_ns`; the lower of both limits counts.
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

    def cancel(self) -> None:
        """Ends the guest for the caller, from any thread."""
        self.expired = self.expired or CANCELLED
        self.kill()

    @property
    def takes_turns(self) -> bool:
        """Whether it has used more CPU time than it may before it takes turns."""
        return self.shares_ns is not None and self.spent_ns() >= self.shares_ns

    @contextlib.contextmanager
    def uncharged(self) -> Iterator[None]:
        """A context in which wall time is not charged, unless another deadline is set meanwhile."""
        since = self.suspend()
        try:
            yield
        finally:
            self.resume(since)

    def suspend(self) -> "SuspendedWait | None":
        """Suspends the wall time limit; the CPU time that the guest uses meanwhile is still charged as wall time.

        Returns the argument for `resume`: None where no limit is suspended.
        """
        with self.lock:
            if self.interrupted or self.deadline_ns is None:  # the grace after an interrupt is never suspended
                return None
            waiting = self._waiting = SuspendedWait(self.deadline_ns, time.monotonic_ns(), self.cpu_time_ns())
            self.deadline_ns = None
        return waiting

    def resume(self, waiting: "SuspendedWait | None") -> None:
        """Ends the suspension that `suspend` has begun, unless a later one has replaced it."""
        with self.lock:
            if waiting is None or self._waiting is not waiting:
                return
            self._waiting = None
            if self.deadline_ns is None:
                computed = self.cpu_time_ns() - waiting.cpu_ns
                self.deadline_ns = waiting.deadline_ns + time.monotonic_ns() - waiting.since_ns - computed

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
        """Returns in how many nanoseconds to check whether it takes turns: ever later while it uses no CPU time."""
        spent = self.spent_ns()
        if spent != self._seen_ns:
            self._seen_ns, self._idle_ns = spent, NEAR
        else:
            self._idle_ns = min(2 * self._idle_ns, _IDLE)
        return max((shares_ns - spent) // _FASTEST, self._idle_ns if self._idle_ns > NEAR else _SHORT)

    def spent_ns(self) -> int:
        """Returns the CPU time spent so far, by the guest and for it."""
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

    def _on_park(self, parks: bool) -> None:
        if self.memory is not None:
            self.memory.rest(parks)

    def _before_close(self) -> None:
        if self.memory is not None:
            self.memory.close()
