"""Finds out whether a guest computes, and how long to wait for it: by its threads' states and its CPU time.

Elapsed time says nothing about a guest: on a busy machine a runnable thread may wait for a CPU for long, or may be
stopped until its turn comes (rotation.py).
"""

import contextlib
from collections.abc import Callable

import attrs

from proxybox.controller import hostproc


def all_wait(pid: int) -> bool:
    """Whether all threads of a process wait for an event.

    A thread that runs, waits for a CPU, is stopped, or reads a page from a disk does not (proc_pid_stat(5)). False
    where the process has ended.
    """
    is_one_there = False
    with contextlib.suppress(OSError):
        for tid in hostproc.threads(pid):
            with contextlib.suppress(OSError, ValueError):  # this thread has ended
                state = hostproc.state(tid)
                if state == "S":
                    is_one_there = True
                elif state not in "ZX":
                    return False
    return is_one_there


@attrs.define(eq=False)
class Patience:
    """Decides how long to wait for the next call of a guest: until it has computed for a while, or does nothing.

    cpu_time: returns the CPU time that it has used, in nanoseconds. waits: whether all its threads wait (`all_wait`).
    The caller checks for calls of the guest between two calls of `is_over`.
    """

    cpu_time: Callable[[], int]
    waits: Callable[[], bool]
    _began_ns: int = 0
    _waited_ns: int = -1

    def begin(self) -> None:
        """Begins the wait."""
        self._began_ns, self._waited_ns = self.cpu_time(), -1

    def is_over(self, most_ns: int) -> bool:
        """Whether it has computed for `most_ns`, or has waited both now and at the last call, and not run between."""
        waits, used_ns = self.waits(), self.cpu_time()  # in this order: it may run meanwhile
        if waits:
            before, self._waited_ns = self._waited_ns, used_ns
            return before == used_ns
        self._waited_ns = -1
        return used_ns - self._began_ns >= most_ns
