"""A separate controller, whose memory nothing else has increased: prints JSON, in MB of proportional set size.

Guests are not dumpable, so only root may read their sizes; "guest" is null otherwise.
"""

import gc
import json
import threading
from collections.abc import Iterable
from pathlib import Path

import proxybox

BOXES = 20
PROGRAM = "print('ready', flush=True); input()"


def proportional(process: int | str) -> float | None:
    """Returns the MB of a process (proc_pid_smaps_rollup(5)); None if it may not be read."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 / 1e6 for line in text.splitlines() if line.startswith("Pss:"))


def mean(values: Iterable[float | None]) -> float | None:
    """Returns the mean; None if no size could be read."""
    seen = [value for value in values if value is not None]
    return sum(seen) / len(seen) if seen else None


def _children() -> list[str]:
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def main() -> None:
    """Starts the boxes, measures them, and ends them."""
    alone = proportional("self")
    proxybox.run("import json, re, decimal", check=True, warm=False)
    gc.collect()
    warm = proportional("self")
    all_ready, may_end = threading.Semaphore(0), threading.Event()

    def line(_: int) -> bytes:
        may_end.wait()
        return b"\n"

    def box() -> None:
        proxybox.run(PROGRAM, stdin=line, check=True, on_stdout=lambda _: all_ready.release(), timeout=120, warm=False)

    threads = [threading.Thread(target=box) for _ in range(BOXES)]
    for thread in threads:
        thread.start()
    for _ in threads:
        all_ready.acquire()
    full, guests = proportional("self"), mean(proportional(pid) for pid in _children())
    may_end.set()
    for thread in threads:
        thread.join()
    growth = ((full or 0) - (warm or 0)) / BOXES
    print(json.dumps({"alone": alone, "warm": warm, "controller": growth, "guest": guests}))


if __name__ == "__main__":
    main()
