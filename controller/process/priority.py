"""Which processes come first on a CPU: a controller before its boxes, and a box with one thread before those with many.

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

#: The lowest priority of the ordinary scheduler.
LOWEST: Final = 19
#: So much lower than their controller's is the priority of guests, so that controllers can answer first. At two steps
#: a program has two thirds of what it would have without a box, beside other programs in its control group.
BELOW: Final = 1
#: What one step of niceness makes of a thread's weight (sched(7)).
_STEP: Final = 1.25
#: The weight of a guest in a control group of its own (cgroups(7), cpu.weight); its controller's is 100.
WEIGHT: Final = round(100 * _STEP**-BELOW)
#: A guest may start threads while its threads are lowered, which is then done again.
_TRIES: Final = 8


def lower(steps: int) -> None:
    """Lowers the priority of this process by so many steps, with what it starts from now on.

    Also that of its session, unless others are in it: in the session of who has started it.
    """
    if not steps:
        return
    os.nice(steps)
    if os.getsid(0) == os.getpid():
        # A kernel without autogroups has no such file; others take only some changes a second from users (EAGAIN).
        with contextlib.suppress(OSError), open(f"/proc/{os.getpid()}/autogroup", "w") as file:
            file.write(str(min(os.getpriority(os.PRIO_PROCESS, 0), LOWEST)))


def of_guests(controller: int) -> int:
    """The niceness of guests. controller: that of the thread that starts them; what it has above others is its own."""
    return min(max(controller, 0) + BELOW, LOWEST)


def of_long(guest: int, threads: int) -> int:
    """The niceness of each of so many threads that compute for long, of a guest that began with niceness `guest`."""
    return min(guest + round(math.log(max(threads, 1), _STEP)), LOWEST)


def lower_all(pid: int, niceness: int) -> None:
    """Lowers all threads of a process to a niceness, as threads that they start later have it. Raises OSError.

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
