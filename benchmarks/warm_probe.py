"""A separate controller with 1,000 live boxes: prints JSON, in MB and milliseconds.

Guests are not dumpable, so only root may read their sizes; "guest" is null otherwise, and "total" is always calculated
from the host's free memory.
"""

import gc
import json
import os
import statistics
import time
from pathlib import Path

import proxybox
from benchmarks.memory_probe import mean, proportional

BOXES = 1000


def free() -> float:
    """Returns the MB that the host can still allocate (MemAvailable of proc_meminfo(5))."""
    text = Path("/proc/meminfo").read_text()
    return int(text.partition("MemAvailable:")[2].split()[0]) * 1024 / 1e6


def private(process: int | str) -> float | None:
    """Returns the MB that a process does not share (proc_pid_smaps_rollup(5)); None if it may not be read."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Private_"))


def children() -> list[str]:
    """Returns the processes whose parent this process is."""
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def latency(session: proxybox.Session) -> float:
    """Returns the time of session.eval, in milliseconds."""
    taken = []
    for _ in range(3000):
        began = time.perf_counter()
        session.eval("1+1")
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken[500:])


def main() -> None:
    """Fills a pool, and measures it."""
    with proxybox.Sandbox(warm=True) as box, box.session() as session:
        alone = latency(session)
        box.run("import json", check=True)
        gc.collect()
        before, controller, held = free(), proportional("self") or 0.0, len(os.listdir("/proc/self/fd"))
        with proxybox.Pool(size=BOXES) as pool:
            while pool.ready < BOXES:
                time.sleep(0.05)
            beside = latency(session)
            after, grown = free(), proportional("self") or 0.0
            guests = mean(private(pid) for pid in children()[-200:])
            descriptors = len(os.listdir("/proc/self/fd")) - held
    print(json.dumps({
        "total": before - after, "controller": (grown - controller) / BOXES, "guest": guests,
        "descriptors": descriptors / BOXES, "eval": beside, "eval_alone": alone,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
