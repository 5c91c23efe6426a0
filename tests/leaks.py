"""What tests leave behind in the process that runs them: threads that go on, processes that nobody has ended."""

import contextlib
import os
import select
import threading
import time
from pathlib import Path

from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool

#: Threads that last as long as the process, and that whoever needs one first starts: the controller's own, and those
#: that wait for work in anyio's and trio's event loops.
LASTING = (
    "MainThread",
    "proxybox-watchdog",
    "proxybox-reaper",
    "proxybox-engine",
    "proxybox-install",
    "AnyIO worker",
    "Trio thread",
)
#: Seconds that what a module has ended may take to be gone.
GRACE = 10


def threads() -> set[threading.Thread]:
    """Those that somebody has to end."""
    return {each for each in threading.enumerate() if not each.name.startswith(LASTING)}


def children() -> dict[int, str]:
    """Processes whose parent this one is, zombies included, with their names."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile: its children are another one's now
            for pid in (task / "children").read_text().split():
                with contextlib.suppress(OSError):
                    found[int(pid)] = Path("/proc", pid, "comm").read_text().strip()
    return found


def threads_since(before: set[threading.Thread]) -> list[str]:
    """The names of threads that have come since then, and that do not end."""
    end = time.monotonic() + GRACE
    for each in threads() - before:
        each.join(max(0, end - time.monotonic()))
    return sorted(each.name for each in threads() - before)


def children_since(before: dict[int, str]) -> dict[int, str]:
    """Processes that have come since then, and that do not end or that nobody waits for."""
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
