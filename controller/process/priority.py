"""Which processes come first on a CPU: a niceness for this process, one for its boxes, and boxes in the background.

Where the kernel shares CPUs between sessions (autogroups, sched(7)), a niceness counts within a session alone, and each
session has one of its own, which a new session does not inherit. Guests have sessions of their own, unless some of them
go to the background; the copies of a guest are in its session.

A guest that has used much CPU time can be put into the background (SCHED_IDLE): whatever is not in the background comes
before it, within the session or control group in which the kernel compares them. So who begins is not held up by those
that compute for long. No privileges are needed, but there is no way back for a process without them.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any, Final

from proxybox.controller import hostproc

#: What is done to a process, by its id. Raises OSError.
Step = Callable[[int], None]

#: Guests run at the lowest priority of the ordinary scheduler (sched(7)), so that controllers can answer first.
LOWEST: Final = 19
#: So much lower than their controller's priority is that of guests that go to the background later: each of them has
#: then a weight of about a hundred of those in the background, and a third of the controller's.
_BELOW: Final = 5
#: After this part of the time, a guest has the lowest niceness: of many that begin at once, the shortest come first.
_SOON: Final = 0.2
#: A guest may start threads while its threads are put into the background, which is then done again.
_TRIES: Final = 8

#: The niceness of the sessions of boxes.
_of_boxes = 0
#: The niceness of guests.
_of_guests = LOWEST
#: How guests come down: CPU time in nanoseconds, and what is done then.
_steps: tuple[tuple[int, Step], ...] = ()
#: Whether guests are in this process's session, each start's in a process group of its own.
_is_shared = False


def lower(nice: int, *, boxes: int, background_after: float | None = None) -> None:
    """Lowers the priority of this process, with threads that it starts from now on, and of boxes that it starts.

    nice, boxes: the niceness, 0 to 19, as in nice(2). background_after: seconds of CPU time after which a box is put
    into the background; None for never.
    """
    global _of_boxes, _of_guests, _steps, _is_shared
    _of_boxes = boxes
    if nice:
        os.nice(nice)
        _give(os.getpid(), nice)
    if background_after is not None:
        _of_guests = min(os.getpriority(os.PRIO_PROCESS, 0) - nice + boxes + _BELOW, LOWEST)
        _steps = steps_to_background(background_after)
        _is_shared = nice == boxes


def of_guests() -> int:
    """The niceness of guests that this process starts."""
    return _of_guests


def steps_to_background(after: float) -> tuple[tuple[int, Step], ...]:
    """Returns how a box comes down that goes to the background after so many seconds of CPU time."""
    return (int(after * _SOON * 1e9), to_lowest), (int(after * 1e9), to_background)


def steps() -> tuple[tuple[int, Step], ...]:
    """How boxes come down: after how much CPU time, in nanoseconds, and what is done then."""
    return _steps


def apart() -> dict[str, Any]:
    """Options of posix_spawn(3) for what begins a box: in a session of its own, or in a process group of its own.

    In the controller's session, who comes first between it, boxes that begin and boxes in the background is decided by
    their priorities alone. It would be decided by the sessions otherwise: half of the CPU for the controller, and half
    for boxes, whatever they are.
    """
    return {"setpgroup": 0} if _is_shared else {"setsid": True}


def pass_on(pid: int) -> None:
    """Gives a process that begins the session of a box its priority."""
    if _of_boxes and not _is_shared:
        _give(pid, _of_boxes)


def _give(pid: int, nice: int) -> None:
    # A kernel without autogroups has no such file; others take only some changes a second from ordinary users (EAGAIN).
    with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w") as file:
        file.write(str(nice))


def to_lowest(pid: int) -> None:
    """Gives all threads of a process the lowest niceness, as threads that they start later have it. Raises OSError."""
    _to_all(pid, _is_lowest, lambda tid: os.setpriority(os.PRIO_PROCESS, tid, LOWEST))


def to_background(pid: int) -> None:
    """Puts all threads of a process into the background. Threads that they start later are there, too.

    Raises OSError where the kernel refuses: root needs CAP_SYS_NICE for another user's process.
    """
    _to_all(pid, _is_behind, lambda tid: os.sched_setscheduler(tid, os.SCHED_IDLE, os.sched_param(0)))


def _is_lowest(tid: int) -> bool:
    return os.getpriority(os.PRIO_PROCESS, tid) >= LOWEST


def _is_behind(tid: int) -> bool:
    return os.sched_getscheduler(tid) == os.SCHED_IDLE


def _to_all(pid: int, is_there: Callable[[int], bool], put: Callable[[int], None]) -> None:
    """Puts each thread of a process where it is not yet."""
    for _ in range(_TRIES):
        others = False
        for tid in hostproc.threads(pid):
            with contextlib.suppress(ProcessLookupError):
                if not is_there(tid):
                    others = True
                    put(tid)
        if not others:
            return
