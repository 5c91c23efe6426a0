"""The clocks of one box: the times that the guest reads, and how long a wait lasts.

Rules: all times are integers in nanoseconds. "Box time" is what the guest sees, "host time" is
`time.monotonic_ns()`. Unless the policy's time is real, no value that `now_ns` returns depends on the host's clocks,
with one exception: scaled time is the host's elapsed time, scaled, and begins at the host's time where the policy
names no start. Where time is not real, CPU clocks count clock reads, one microsecond each, so that a program that
polls a clock makes progress and a run can be repeated exactly.
"""

import errno
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from proxybox.controller import abi

if TYPE_CHECKING:
    from proxybox.policies import Time

TICK_NS: Final = 1_000
"""What one clock read costs in virtual time."""
MONOTONIC_START_NS: Final = 1_000 * abi.NS
"""How long the box claims to have been up when it starts; the host's uptime stays hidden."""
TAI_OFFSET_NS: Final = 37 * abi.NS
COARSE_NS: Final = 4_000_000
DEFAULT_START_NS: Final = 1_767_225_600 * abi.NS
"""2026-01-01, where virtual and frozen time begin when the policy names no start."""
FOREVER_NS: Final = 1 << 62
"""Longer waits than this (146 years) are waits for ever."""

_WALL: Final = frozenset({abi.CLOCK_REALTIME, abi.CLOCK_REALTIME_COARSE, abi.CLOCK_REALTIME_ALARM, abi.CLOCK_TAI})
_UP: Final = frozenset(
    {
        abi.CLOCK_MONOTONIC,
        abi.CLOCK_MONOTONIC_RAW,
        abi.CLOCK_MONOTONIC_COARSE,
        abi.CLOCK_BOOTTIME,
        abi.CLOCK_BOOTTIME_ALARM,
    }
)
_COARSE: Final = frozenset({abi.CLOCK_REALTIME_COARSE, abi.CLOCK_MONOTONIC_COARSE})
_CPU: Final = frozenset({abi.CLOCK_PROCESS_CPUTIME_ID, abi.CLOCK_THREAD_CPUTIME_ID})


@attrs.frozen(slots=True, eq=False)
class TimedWait:
    """A timed wait.

    deadline_ns: host time at which it is over, None when it is skipped or already over. ends_ns: the box's elapsed
    time at its end, for `Clock.finish`.
    """

    deadline_ns: int | None
    ends_ns: int


class Clock:
    """All clocks of a box, according to its time policy.

    guest_pid: the guest's pid on the host, set once the guest runs; the real CPU clocks need it.
    """

    __slots__ = (
        "_cpu_before_ns",
        "_host_ns",
        "_jumped_ns",
        "_rate",
        "_reads",
        "_start_ns",
        "_started",
        "_wall_ns",
        "guest_pid",
        "kind",
        "skips",
    )

    def __init__(
        self,
        policy: "Time",
        host_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.kind: str = policy.kind
        self.skips: bool = policy.sleep == "skip"
        self.guest_pid: int | None = None
        self._rate = float(policy.rate) if self.kind == "scaled" else 1.0
        self._host_ns = host_ns
        self._wall_ns = wall_ns
        self._started = host_ns()
        self._jumped_ns = 0
        self._reads = 0
        self._cpu_before_ns: int | None = None  # CPU time of the processes from which this one was copied
        if policy.start is not None:
            self._start_ns = round(policy.start * abi.NS)
        elif self.kind in ("real", "scaled"):
            self._start_ns = wall_ns()
        else:
            self._start_ns = DEFAULT_START_NS

    # --- reading ----------------------------------------------------------------------------------

    def elapsed_ns(self) -> int:
        """Returns the box time since the box started, without advancing any clock."""
        if self.kind in ("virtual", "frozen"):
            return self._jumped_ns
        host = self._host_ns() - self._started
        if self.kind == "scaled":
            host = int(host * self._rate)
        return host + self._jumped_ns

    def now_ns(self, clock_id: int) -> int:
        """Returns the time of a clock of clock_gettime(2). Raises OSError (EINVAL) for a clock that does not exist."""
        self._reads += 1
        if self.kind == "virtual":
            self._jumped_ns += TICK_NS
        return self.peek_ns(clock_id)

    def mark(self) -> tuple[int, int]:
        """Returns the state of the clocks for `back_to`, if they do not advance by themselves."""
        return self._jumped_ns, self._reads

    def back_to(self, mark: tuple[int, int]) -> None:
        """Resets the clocks to `mark`: later reads do not count."""
        self._jumped_ns, self._reads = mark

    def peek_ns(self, clock_id: int) -> int:
        """As `now_ns`, without advancing the clock: for reads that are not the guest's own (file times)."""
        if clock_id in _CPU:
            return self.cpu_ns()
        if clock_id in _WALL:
            if self.kind == "real":
                now = self._wall_ns() + self._jumped_ns
            else:
                now = self._start_ns + (0 if self.kind == "frozen" else self.elapsed_ns())
            if clock_id == abi.CLOCK_TAI:
                now += TAI_OFFSET_NS
        elif clock_id in _UP:
            now = MONOTONIC_START_NS + (0 if self.kind == "frozen" else self.elapsed_ns())
        else:
            raise OSError(errno.EINVAL, "no such clock")
        return now - now % COARSE_NS if clock_id in _COARSE else now

    def wall_ns(self) -> int:
        """Returns CLOCK_REALTIME for file times, without advancing any clock."""
        return self.peek_ns(abi.CLOCK_REALTIME)

    def cpu_ns(self) -> int:
        """Returns the guest's CPU time: of its process where time is real, otherwise a count of clock reads."""
        if self.kind != "real" or (self.guest_pid is None and self._cpu_before_ns is None):
            return self._reads * TICK_NS
        return self.host_cpu_ns()

    def host_cpu_ns(self) -> int:
        """Returns the CPU time of the guest's process on the host.

        It is for CPU timers. Where time is not real, the guest must not see it.
        """
        before = self._cpu_before_ns
        if self.guest_pid is None:
            return self._host_ns() - self._started if before is None else before
        try:
            return time.clock_gettime_ns((~self.guest_pid << 3) | 2) + (before or 0)
        except OSError:
            return before or 0

    def offset_ns(self) -> int | None:
        """Returns the box's CLOCK_MONOTONIC minus the host's; None where the box's clocks are not the host's."""
        return MONOTONIC_START_NS - self._started if self.kind == "real" and not self.skips else None

    def resolution_ns(self, clock_id: int) -> int:
        """Returns the answer of clock_getres(2). Raises OSError (EINVAL) for a clock that does not exist."""
        if clock_id in _COARSE:
            return COARSE_NS
        if clock_id in _WALL or clock_id in _UP or clock_id in _CPU:
            return 1
        raise OSError(errno.EINVAL, "no such clock")

    # --- waiting ----------------------------------------------------------------------------------

    def wait(self, clock_id: int, ns: int, *, absolute: bool = False, skip: bool = True) -> TimedWait:
        """Returns the wait for `ns` nanoseconds of a clock, or until `ns` (`absolute`).

        With `skip` false the wait is real even where the policy skips sleeps, because another thread may end it.
        Raises OSError (EINVAL) for a clock that cannot be waited for.
        """
        if clock_id in _CPU:
            raise OSError(errno.EINVAL, "CPU clocks cannot be waited for")
        duration = ns - self.peek_ns(clock_id) if absolute else ns
        duration = min(max(duration, 0), FOREVER_NS)
        ends = self.elapsed_ns() + duration
        if duration == 0 or (skip and self.skips):
            return TimedWait(None, ends)
        return TimedWait(self._host_ns() + self._host_duration(duration), ends)

    def finish(self, wait: TimedWait) -> None:
        """Moves virtual and skipped time to the end of a wait that is over.

        Time that flows by itself does not change.
        """
        self.advance_to(wait.ends_ns)

    def advance_to(self, elapsed_ns: int) -> None:
        """Moves box time forward to `elapsed_ns`, never back.

        Frozen time does not move. Time that flows by itself moves only where the policy skips sleeps.
        """
        if self.kind == "frozen":
            return
        if self.kind == "virtual" or self.skips:
            self._jumped_ns += max(0, elapsed_ns - self.elapsed_ns())

    def host_deadline_ns(self, elapsed_ns: int) -> int:
        """Returns the host time at which box time will be `elapsed_ns`, if only the host's clock advances it."""
        remaining = max(0, elapsed_ns - self.elapsed_ns())
        return self._host_ns() + self._host_duration(remaining)

    def _host_duration(self, box_ns: int) -> int:
        return int(min(box_ns / self._rate, FOREVER_NS))

    def host_ns(self) -> int:
        """Returns the host time, for deadlines only."""
        return self._host_ns()
