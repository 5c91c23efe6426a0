"""Which processes come first on a CPU: a niceness for this process, and one for its boxes.

Where the kernel shares CPUs between sessions (autogroups, sched(7)), a niceness counts within a session alone, and each
session has one of its own, which a new session does not inherit. Guests have sessions of their own.
"""

import contextlib
import os

#: The niceness of the sessions of boxes. Their guests are at the lowest one within these (launch.py).
_of_boxes = 0


def lower(nice: int, *, boxes: int) -> None:
    """Lowers the priority of this process, with threads that it starts from now on, and of boxes that it starts.

    nice, boxes: the niceness, 0 to 19, as in nice(2).
    """
    global _of_boxes
    _of_boxes = boxes
    if nice:
        os.nice(nice)
        _give(os.getpid(), nice)


def pass_on(pid: int) -> None:
    """Gives a process that begins the session of a box its priority."""
    if _of_boxes:
        _give(pid, _of_boxes)


def _give(pid: int, nice: int) -> None:
    # A kernel without autogroups has no such file; others take only some changes a second from ordinary users (EAGAIN).
    with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w") as file:
        file.write(str(nice))
