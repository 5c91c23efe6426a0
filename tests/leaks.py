"""What tests leave behind in their process: threads that still run, processes that nobody has ended."""

import contextlib
import os
import select
import threading
import time
from pathlib import Path

from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool

#: Threads that last as long as the process; their first user starts them: the controller's own, and idle worker threads
#: of anyio's and trio's event loops.
LASTING = (
    "MainThread",
    "proxybox-watchdog",
    "proxybox-reaper",
    "proxybox-engine",
    "proxybox-install",
    "AnyIO worker",
    "Trio thread",
)
#: Seconds within which what a module has ended must be gone.
GRACE = 10


def threads() -> set[threading.Thread]:
    """Returns the threads that somebody has to end."""
    return {each for each in threading.enumerate() if not each.name.startswith(LASTING)}


def children() -> dict[int, str]:
    """Returns the children of this process, zombies included, with their names."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended: its children are now another thread's
            for pid in (task / "children").read_text().split():
                with contextlib.suppress(OSError):
                    found[int(pid)] = Path("/proc", pid, "comm").read_text().strip()
    return found


def threads_since(before: set[threading.Thread]) -> list[str]:
    """Returns the names of threads that were started since `before`, and that do not end."""
    end = time.monotonic() + GRACE
    for each in threads() - before:
        each.join(max(0, end - time.monotonic()))
    return sorted(each.name for each in threads() - before)


def children_since(before: dict[int, str]) -> dict[int, str]:
    """Returns processes that were started since `before`, and that do not end, or that nobody waits for."""
    zygotepool.close()
    reaper.settle()
    end = time.monotonic() + GRACE
    for pid in children().keys() - before.keys():
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(max(0, end - time.monotonic()) * 1000)
            os.close(fd)
    reaper.settle()
    return {pid: name for pid, name in children().items() if pid not in before}
