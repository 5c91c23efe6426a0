"""Whether a guest computes, and how long to wait for one that does: by its threads' states and its CPU time.

The time of the clock says nothing of a guest: on a busy machine a thread that could run waits for a CPU for long, or is
stopped until its turn comes (rotation.py).
"""

import contextlib
from collections.abc import Callable

import attrs

from proxybox.controller import hostproc


def all_wait(pid: int) -> bool:
    """Whether each thread of a process waits, so that it does nothing until something comes.

    That is not so where one runs, waits for a CPU, is stopped, or reads a page from a disk (proc_pid_stat(5)), and not
    where the process has ended.
    """
    is_one_there = False
    with contextlib.suppress(OSError):
        for tid in hostproc.threads(pid):
            with contextlib.suppress(OSError, ValueError):  # this one has ended
                state = hostproc.state(tid)
                if state == "S":
                    is_one_there = True
                elif state not in "ZX":
                    return False
    return is_one_there


@attrs.define(eq=False)
class Patience:
    """Waits for what a guest does next, until it has computed for a while without that, or does nothing.

    cpu_time: what it has used, in nanoseconds. waits: whether all its threads wait (`all_wait`). Whoever asks looks for
    calls of the guest between two questions: one that it has made is no reason to go on without it.
    """

    cpu_time: Callable[[], int]
    waits: Callable[[], bool]
    _began_ns: int = 0
    _waited_ns: int = -1

    def begin(self) -> None:
        """Begins to wait."""
        self._began_ns, self._waited_ns = self.cpu_time(), -1

    def is_over(self, most_ns: int) -> bool:
        """Whether it has computed for so long, or has waited both at the last question and now, and not run between."""
        waits, used_ns = self.waits(), self.cpu_time()  # in this order: it may go on meanwhile
        if waits:
            before, self._waited_ns = self._waited_ns, used_ns
            return before == used_ns
        self._waited_ns = -1
        return used_ns - self._began_ns >= most_ns
