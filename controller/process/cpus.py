"""Where guests and those who serve them run: on one CPU a round trip is a hand-over, across two it is a wake-up."""

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Final

try:
    #: The CPU that runs the calling thread; -1 where that cannot be known.
    current_cpu: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
except (OSError, AttributeError):  # a C library without sched_getcpu(3)

    def current_cpu() -> int:
        return -1


#: So many calls in a row from one CPU bring a thread there. Those from elsewhere, where they come in no more
#: nanoseconds than these one behind another, free it.
FOLLOWED: Final = 32
RARE_NS: Final = 1_000_000


class _Cpus:
    """Spreads the boxes of this process over the CPUs that it may use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._boxes: dict[int, int] = {}

    def share(self) -> "Share":
        """A CPU for one box, until the end of the with block; None where affinity is not to be had."""
        return Share(self)

    def take(self) -> int | None:
        try:
            allowed = os.sched_getaffinity(0)
        except OSError:
            return None
        with self._lock:
            # Among equals the CPU that runs this thread: it has room for it. Several controllers that all began with
            # the same CPU would starve each other's guests, which run at the lowest priority.
            here = current_cpu()
            cpu = min(allowed, key=lambda each: (self._boxes.get(each, 0), each != here, each))
            self._boxes[cpu] = self._boxes.get(cpu, 0) + 1
        return cpu

    def give_back(self, cpu: int | None) -> None:
        if cpu is not None:
            with self._lock:
                self._boxes[cpu] -= 1


class Share:
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
    """Where this thread may run when it is not `on_cpu`; None where it is not."""

    allowed: set[int] | None = None


_here = _Affinity()


def allowed_cpus() -> set[int]:
    """Where the calling thread may run, of its own accord: it may serve a guest at the moment. Raises OSError."""
    return os.sched_getaffinity(0) if _here.allowed is None else _here.allowed


class on_cpu:  # noqa: N801 - used as a function is
    """The calling thread runs where its guest runs; its own affinity is restored at the end. cpu: None does nothing."""

    __slots__ = ("_before", "_cpu", "_is_first")

    def __init__(self, cpu: int | None) -> None:
        self._cpu = cpu
        self._before: set[int] | None = None
        self._is_first = False

    def __enter__(self) -> None:
        if self._cpu is None:
            return
        before = os.sched_getaffinity(0)
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, (self._cpu,))
            self._before = before
            if _here.allowed is None:
                _here.allowed, self._is_first = before, True

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self._before)
            if self._is_first:
                _here.allowed = None


class Stand:
    """Where one thread stands that serves many guests: on the CPU of those that call again and again, else where the
    kernel places it, among those that its maker may run on. cpu: None there."""

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
        """By the thread itself, before anything else."""
        self._move(None)

    def called_from(self, cpu: int | None) -> None:
        """A guest calls that runs elsewhere than this thread. By the thread itself."""
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
            self.cpu = cpu
