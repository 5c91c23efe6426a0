"""Chooses the CPUs of guests and of the threads that serve them.

On one CPU a round trip is a switch between two processes. Across two CPUs, an idle CPU has to be woken each time.
"""

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Final

try:
    #: The CPU that runs the calling thread; -1 where it is not known. (PyDLL: so short a call keeps the GIL.)
    current_cpu: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
except (OSError, AttributeError):  # a C library without sched_getcpu(3)

    def current_cpu() -> int:
        """Returns -1: the CPU is not known."""
        return -1


#: After FOLLOWED calls in a row from guests of one CPU, a thread (`Stand`) moves to that CPU. When two calls from
#: guests of other CPUs come within RARE_NS nanoseconds, the kernel chooses the thread's CPU again.
FOLLOWED: Final = 32
RARE_NS: Final = 1_000_000


class _Cpus:
    """Spreads the boxes of this process over the CPUs that it may use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._boxes: dict[int, int] = {}

    def share(self) -> "Share":
        """A CPU for one box, until the end of the with block; None where affinity is not available."""
        return Share(self)

    def take(self) -> int | None:
        try:
            allowed = os.sched_getaffinity(0)
        except OSError:
            return None
        with self._lock:
            # Among CPUs with equally few boxes, the CPU that runs this thread is preferred, because it is evidently
            # free. If several controllers all began with the same CPU, they would starve each other's guests, which run
            # at a lower priority.
            here = current_cpu()
            cpu = min(allowed, key=lambda each: (self._boxes.get(each, 0), each != here, each))
            self._boxes[cpu] = self._boxes.get(cpu, 0) + 1
        return cpu

    def give_back(self, cpu: int | None) -> None:
        if cpu is not None:
            with self._lock:
                self._boxes[cpu] -= 1


class Share:
    """A context in which a guest has a CPU. It gives the CPU's number, or None where affinity is not available."""

    def __init__(self, cpus: _Cpus) -> None:
        self._cpus = cpus
        self._cpu: int | None = None

    def __enter__(self) -> int | None:
        self._cpu = self._cpus.take()
        return self._cpu

    def __exit__(self, *_: object) -> None:
        self._cpus.give_back(self._cpu)


cpus = _Cpus()


class _Affinity(threading.local):
    """The affinity that this thread had before `on_cpu` or `Stand` placed it; None where neither has placed it."""

    allowed: set[int] | None = None


_here = _Affinity()


def allowed_cpus() -> set[int]:
    """Returns the CPUs on which the calling thread may run when it serves no guest. Raises OSError."""
    return os.sched_getaffinity(0) if _here.allowed is None else _here.allowed


def shares_of_cpus(count: int) -> list[set[int]]:
    """Divides the CPUs on which the calling thread may run among `count` processes, each of which keeps to its share.

    Where there are more processes than CPUs, several have the same one; all sets are empty where CPU affinity is not
    available.
    """
    try:
        allowed = sorted(allowed_cpus())
    except OSError:
        return [set() for _ in range(count)]
    return [set(allowed[number::count]) or {allowed[number % len(allowed)]} for number in range(count)]


class on_cpu:  # noqa: N801 - used as a function is
    """A context in which the calling thread runs on its guest's CPU; its own affinity is restored at the end.

    cpu: of the guest; None changes nothing. at_first: a thread that runs there already is not pinned yet, because that
    would be too expensive for one exchange; `stay` is called when more follow.
    """

    __slots__ = ("_at_first", "_before", "_cpu", "_is_first")

    def __init__(self, cpu: int | None, *, at_first: bool = False) -> None:
        self._cpu = cpu
        self._at_first = at_first
        self._before: set[int] | None = None
        self._is_first = False

    def __enter__(self) -> "on_cpu":
        if not self._at_first or current_cpu() != self._cpu:
            self.stay()
        return self

    def stay(self) -> None:
        """Pins the thread to the CPU, if it is not pinned yet."""
        if self._cpu is None or self._before is not None:
            return
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, (self._cpu,))
        except OSError:
            self._cpu = None  # a host that refuses this is not tried again
            return
        self._before = before
        if _here.allowed is None:
            _here.allowed, self._is_first = before, True

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, self._before)
        if self._is_first:
            _here.allowed = None


class Stand:
    """The CPU of a thread that serves many guests.

    The thread runs on the CPU of the guests that call again and again. Otherwise the kernel places it, among the CPUs
    on which the thread that made this object may run. cpu: the CPU; None while the kernel places the thread.
    """

    __slots__ = ("_all", "_calls", "_from", "_strayed_ns", "cpu")

    def __init__(self) -> None:
        self._all: set[int] = set()
        with contextlib.suppress(OSError):
            self._all = allowed_cpus()
        self._calls = 0
        self._from: int | None = None
        self._strayed_ns = 0
        self.cpu: int | None = None

    def begin(self) -> None:
        """Leaves the placing to the kernel. The serving thread calls this first."""
        self._move(None)

    def called_from(self, cpu: int | None) -> None:
        """Notes a call of a guest whose CPU is not this thread's. The serving thread itself calls this."""
        if self.cpu is not None:
            before, self._strayed_ns = self._strayed_ns, time.monotonic_ns()
            if self._strayed_ns - before <= RARE_NS:
                self._move(None)
        elif cpu != self._from:
            self._from, self._calls = cpu, 1
        else:
            self._calls += 1
            if self._calls == FOLLOWED:
                self._move(cpu)

    def _move(self, cpu: int | None) -> None:
        self._from, self._calls = cpu, 0
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, self._all if cpu is None else (cpu,))
            self.cpu, _here.allowed = cpu, None if cpu is None else self._all
