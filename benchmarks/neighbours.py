"""The cost of hostile boxes for their neighbour: eight of them in one event loop, and 300 stats of a well-behaved one.

The floor is the same neighbour beside eight boxes that wait. With its fair share of the CPU, all boxes on its CPU would
have equal parts of it. 300 stats are within a box's saved time (BURST in turns.py); 3,000 are not.
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
MANY = 3000
TRIES = 5

KINDS = {
    "waiting": "import time\ntime.sleep(3600)",
    "computing": "while True: pass",
    "stat loops": "import os\nwhile True: os.stat('/box/main.py')",
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
    "opens through 38 links": (
        "import os\nfor n in range(800):\n    os.mkdir('a'); os.chdir('a')\n"
        "way = '/box' + '/a' * 800 + '/..' * 801 + '/tmp'\n"
        "for n in range(38): os.symlink(way if n == 0 else f'{way}/l{n - 1}', f'/tmp/l{n}')\n"
        "while True:\n    try: os.open('/tmp/l37/x', os.O_RDONLY)\n    except OSError: pass"
    ),
    "polls of an epoll of 120 pipes": (
        "import os, select\nepoll = select.epoll()\nends = [os.pipe() for _ in range(120)]\n"
        "for reader, _ in ends: epoll.register(reader, select.EPOLLIN)\npoll = select.poll()\n"
        "ready = os.pipe()\nos.write(ready[1], b'x')\npoll.register(ready[0])\npoll.register(epoll.fileno())\n"
        "while True: poll.poll(0)"
    ),
    "calls of a function with 1 MiB": "import host\nnumbers = set(range(110_000))\nwhile True: host.f(numbers)",
}
#: Kinds that are compared with the fair share; the calls of the others cost a multiple of a stat.
ORDINARY = ("computing", "stat loops")

NEIGHBOUR = """
import os, time
for _ in range(50): os.stat("/box/main.py")
count = int(input())
times = []
before = time.perf_counter()
for _ in range(count):
    os.stat("/box/main.py")
    now = time.perf_counter()
    times.append(now - before)
    before = now
print([round(each * 1e6) for each in times])
"""


async def _beside(code: str, count: int = STATS, busy: float = 0.5) -> tuple[list[int], Result]:
    """Returns the microseconds of each stat of the neighbour beside HOSTILE boxes with that code, and how it ended."""
    limits = {"wall_time": 60, "cpu_time": 60, "calls": None, "files": None, "disk": "256M"}
    reading, writing = os.pipe()
    functions = {"f": len} if "import host" in code else {}
    async with (
        AsyncSandbox(warm=bool(functions), limits=limits, functions=functions) as box,
        anyio.create_task_group() as group,
    ):
        found: list[Result] = []

        async def neighbour() -> None:
            with open(reading) as stdin:
                found.append(await box.run(NEIGHBOUR, stdin=stdin))
            group.cancel_scope.cancel()

        group.start_soon(neighbour)
        for _ in range(HOSTILE):
            group.start_soon(box.run, code)
        await anyio.sleep(1 + busy)
        os.write(writing, b"%d\n" % count)
    os.close(writing)
    return json.loads(found[0].stdout) if found[0].ok else [], found[0]


def _measured(kind: str, count: int, progress: Callable[[str], None]) -> tuple[float, float]:
    """Returns medians of the sum and of the longest of that many stats, in milliseconds."""
    totals, worst = [], []
    for number in range(TRIES):
        progress(f"{count} beside {kind}, {number + 1} of {TRIES}")
        times, result = anyio.run(_beside, KINDS[kind], count)
        if not times:
            raise RuntimeError(f"beside {kind} the neighbour ended otherwise: {result.summary()}\n{result.stderr}")
        totals.append(sum(times) / 1000)
        worst.append(max(times) / 1000)
    return statistics.median(totals), statistics.median(worst)


def run(progress: Callable[[str], None]) -> list[Figure]:
    """Returns the figures."""
    figures, quiet = [], 0.0
    share = -(-(HOSTILE + 1) // len(os.sched_getaffinity(0)))
    for kind in KINDS:
        total, worst = _measured(kind, STATS, progress)
        quiet = quiet or total
        if kind in ORDINARY:
            floor, value, bound = f"its fair share, {share} times quiet", share * quiet, 3.0
        else:
            floor, value, bound = f"quiet, and {STATS} slices of 200 us", quiet + STATS * 0.2, 1.0
        figures += [
            Figure(name=f"{STATS} stats beside {HOSTILE} x {kind}", value=total, unit="ms", floor=floor,
                   floor_value=value, target=Target(of="ratio", at_most=bound)),
            Figure(name="    the longest of them", value=worst, unit="ms"),
        ]  # fmt: skip
    quiet = _measured("waiting", MANY, progress)[0]
    for kind in (*ORDINARY, "listdir of 5,000"):
        total, _ = _measured(kind, MANY, progress)
        figures.append(
            Figure(name=f"{MANY:,} stats beside {HOSTILE} x {kind}", value=total, unit="ms",
                   floor=f"its fair share, {share} times quiet", floor_value=share * quiet,
                   target=Target(of="ratio", at_most=3.0) if kind in ORDINARY else None)
        )  # fmt: skip
    return figures
