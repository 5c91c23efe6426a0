"""The priorities of processes: a controller's is above its boxes', and a box of one thread is above those of many.

The niceness of boxes is one step below the controller's own (sched(7)). A box that gets too little
of the CPUs reaches its limit of wall time before its program ends. So a program with one thread takes at most 1.3 times
as long as without a box, also beside programs that compute.

The kernel gives shares to threads, and a box may have many. Each box has a session of its own: where the kernel shares
CPUs between sessions (autogroups, sched(7)), that is a share for each box. In a control group it does not, unless each
box has one of its own (cgroups.py). There the threads of a box that computes for long together have the weight of one
thread: each step of niceness is a fifth less of it. A niceness cannot be undone without privileges.
"""

import contextlib
import math
import os
from typing import Final

from proxybox.controller import hostproc

#: The lowest priority (the highest niceness) of the ordinary scheduler.
LOWEST: Final = 19
#: The niceness of guests above their controller's, so that controllers can answer first. With 2, a program would get
#: two thirds of its CPU time without a box, beside other programs in its control group.
BELOW: Final = 1
#: By this factor one step of niceness changes a thread's weight (sched(7)).
_STEP: Final = 1.25
#: The weight of a guest in a control group of its own (cgroups(7), cpu.weight); its controller's is 100.
WEIGHT: Final = round(100 * _STEP**-BELOW)
#: How often the threads of a guest are lowered again, if it starts threads meanwhile.
_TRIES: Final = 8


def lower(steps: int) -> None:
    """Lowers the priority of this process, and of its later children, by `steps` of niceness.

    Also lowers its session's (its autogroup), if this process is the session's leader.
    """
    if not steps:
        return
    os.nice(steps)
    if os.getsid(0) == os.getpid():
        # A kernel without autogroups has no such file; others take only some changes a second from users (EAGAIN).
        with contextlib.suppress(OSError), open(f"/proc/{os.getpid()}/autogroup", "w") as file:
            file.write(str(min(os.getpriority(os.PRIO_PROCESS, 0), LOWEST)))


def of_guests(controller: int) -> int:
    """Returns the niceness of guests. controller: that of the thread that starts them; a negative one counts as 0."""
    return min(max(controller, 0) + BELOW, LOWEST)


def of_long(guest: int, threads: int) -> int:
    """Returns the niceness of each of `threads` threads that compute for long. guest: its niceness at its start."""
    return min(guest + round(math.log(max(threads, 1), _STEP)), LOWEST)


def lower_all(pid: int, niceness: int) -> None:
    """Lowers all threads of a process to a niceness, which later threads inherit. Raises OSError.

    Root needs CAP_SYS_NICE for another user's process.
    """
    for _ in range(_TRIES):
        others = False
        for tid in hostproc.threads(pid):
            with contextlib.suppress(ProcessLookupError):
                if os.getpriority(os.PRIO_PROCESS, tid) < niceness:
                    others = True
                    os.setpriority(os.PRIO_PROCESS, tid, niceness)
        if not others:
            return
