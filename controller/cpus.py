"""Where guests and those who serve them run: on one CPU a round trip is a hand-over, across two it is a wake-up."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable

try:
    _current_cpu: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
except (OSError, AttributeError):  # a C library without sched_getcpu(3)

    def _current_cpu() -> int:
        return -1


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
            here = _current_cpu()
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


class on_cpu:  # noqa: N801 - used as a function is
    """The calling thread runs where its guest runs; its own affinity is restored at the end. cpu: None does nothing."""

    __slots__ = ("_before", "_cpu")

    def __init__(self, cpu: int | None) -> None:
        self._cpu = cpu
        self._before: set[int] | None = None

    def __enter__(self) -> None:
        if self._cpu is None:
            return
        before = os.sched_getaffinity(0)
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, (self._cpu,))
            self._before = before

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self._before)
