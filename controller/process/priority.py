"""Which processes come first on a CPU: a niceness for this process and all that it starts.

Where the kernel shares CPUs between sessions (autogroups, sched(7)), a niceness counts within a session alone, and each
session has one of its own, which a new session does not inherit. Guests have sessions of their own.
"""

import contextlib
import os

#: The niceness that `lower` has given the session of this process.
_session = 0


def lower(nice: int) -> None:
    """Lowers the priority of this process, of threads that it starts from now on, and of boxes.

    nice: what is added to the niceness, 0 to 19, as in nice(2).
    """
    global _session
    _session = max(_session, os.nice(nice))
    _give(os.getpid())


def pass_on(pid: int) -> None:
    """Gives a process that begins a session of its own the priority of this one's."""
    if _session:
        _give(pid)


def _give(pid: int) -> None:
    # A kernel without autogroups has no such file; others take only some changes a second from ordinary users (EAGAIN).
    with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w") as file:
        file.write(str(_session))
