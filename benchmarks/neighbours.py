"""What hostile boxes cost their neighbour: eight of them in one event loop, and 300 stats of one that means well.

The floor is the same neighbour beside eight boxes that wait. Its fair share of the CPU is what it would take if all
boxes on its CPU had equal parts of it.
"""

import json
import os
import statistics
from collections.abc import Callable

import anyio

from benchmarks.figures import Figure, Target
from proxybox import AsyncSandbox, Result

HOSTILE = 8
STATS = 300
TRIES = 5

KINDS = {
    "waiting": "import time\ntime.sleep(3600)",
    "computing": "while True: pass",
    "stat loops": "import os\nwhile True: os.stat('/box')",
    "listdir of 5,000": (
        "import os\nos.mkdir('/tmp/d')\nfor n in range(5000): open(f'/tmp/d/{n}', 'w').close()\n"
        "while True: os.listdir('/tmp/d')"
    ),
    "pwrite of 1 MiB": (
        "import os\nfd = os.open('/tmp/x', os.O_RDWR | os.O_CREAT)\nwhile True: os.pwrite(fd, bytes(1 << 20), 0)"
    ),
    "read of 1 MiB": (
        "import os\nopen('/tmp/x', 'wb').write(bytes(1 << 20))\nfd = os.open('/tmp/x', os.O_RDONLY)\n"
        "while True: os.pread(fd, 1 << 20, 0)"
    ),
    "urandom of 1 MiB": "import os\nwhile True: os.urandom(1 << 20)",
}
#: What the dearest of them do is a multiple of a stat.
ORDINARY = ("computing", "stat loops")

NEIGHBOUR = f"""
import os, time
for _ in range(50): os.stat("/box")
input()
times = []
before = time.perf_counter()
for _ in range({STATS}):
    os.stat("/box")
    now = time.perf_counter()
    times.append(now - before)
    before = now
print([round(each * 1e6) for each in times])
"""


async def _beside(code: str, busy: float = 0.5) -> tuple[list[int], Result]:
    """Microseconds of each stat of the neighbour beside HOSTILE boxes with that code, and how it ended."""
    limits = {"wall_time": 60, "cpu_time": 60, "calls": None, "files": None, "disk": "256M"}
    reading, writing = os.pipe()
    async with AsyncSandbox(warm=False, limits=limits) as box, anyio.create_task_group() as group:
        found: list[Result] = []

        async def neighbour() -> None:
            with open(reading) as stdin:
                found.append(await box.run(NEIGHBOUR, stdin=stdin))
            group.cancel_scope.cancel()

        group.start_soon(neighbour)
        for _ in range(HOSTILE):
            group.start_soon(box.run, code)
        await anyio.sleep(1 + busy)
        os.write(writing, b"\n")
    os.close(writing)
    return json.loads(found[0].stdout) if found[0].ok else [], found[0]


def run(progress: Callable[[str], None]) -> list[Figure]:
    """The figures."""
    figures, quiet = [], 0.0
    share = -(-(HOSTILE + 1) // len(os.sched_getaffinity(0)))
    for kind, code in KINDS.items():
        totals, worst = [], []
        for number in range(TRIES):
            progress(f"{kind}, {number + 1} of {TRIES}")
            times, result = anyio.run(_beside, code)
            if not times:
                raise RuntimeError(f"beside {kind} the neighbour ended otherwise: {result.summary()}\n{result.stderr}")
            totals.append(sum(times) / 1000)
            worst.append(max(times) / 1000)
        total = statistics.median(totals)
        quiet = quiet or total
        if kind in ORDINARY:
            floor, value, bound = f"its fair share, {share} times quiet", share * quiet, 3.0
        else:
            floor, value, bound = f"quiet, and {STATS} slices of 200 us", quiet + STATS * 0.2, 1.0
        figures += [
            Figure(name=f"{STATS} stats beside {HOSTILE} x {kind}", value=total, unit="ms", floor=floor,
                   floor_value=value, target=Target(of="ratio", at_most=bound)),
            Figure(name="    the longest of them", value=statistics.median(worst), unit="ms"),
        ]  # fmt: skip
    return figures
