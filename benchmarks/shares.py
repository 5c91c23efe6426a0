"""The cost of many hostile boxes for a neighbour: `python -m benchmarks.shares` prints a Markdown table in ten minutes.

The neighbour's program takes 13 ms: a new box, 300 OS calls, the end. Each cell is a process of its own, in which the
program runs 20 times alone, and then 20 times beside 1, 10 or 60 boxes of one kind, all of them in one event loop
(engine), or in one pool of threads (pool), or the boxes in an event loop and the program in a thread beside it
(thread). A cell has the median beside them divided by the median alone, and in parentheses the longest single OS call
of all runs, in milliseconds. A cell that took more than two minutes is "-".

`--kinds "one loop,threads"`, `--counts 10`, `--hows pool`, `--cold` and `--guest` select a part of the table, or
another one. If this program is started in a control group, the table is about shares within it (docs/benchmarks.md).
"""

import argparse
import asyncio
import functools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypedDict

import attrs

import proxybox

RUNS: Final = 20
COUNTS: Final = (1, 10, 60)
#: Seconds in which runs of a cell begin, and those that hostile boxes get before: SETTLE, and BOX for each.
_LONGEST, _SETTLE, _BOX = 15.0, 1.5, 0.05
#: Seconds after which a cell is given up.
_CELL: Final = 120

_RAW = Path(__file__).parent.parent / "tests/hostile/guest/raw.py"
_SPIN = "import raw, threading\nspin = raw.function(bytes.fromhex('ebfe'))\n"
_SPINNERS = _SPIN + "for _ in range({}): threading.Thread(target=spin, daemon=True).start()\n"
_CLONES = """
import _thread, time
while True:
    lock = _thread.allocate_lock(); lock.acquire()
    try: _thread.start_new_thread(lock.release, ()); lock.acquire()
    except RuntimeError: time.sleep(.001)
"""
_MAPPINGS = """
import ctypes, glob, os
fd = os.open(glob.glob("/usr/lib/**/*.so*", recursive=True)[0], 0)
libc = ctypes.CDLL(None)
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
while True: libc.munmap(libc.mmap(None, 4096, 1, 2, fd, 0), 4096)
"""  # noqa: E501
_FILE = "import os\nf = os.open('/tmp/f', os.O_CREAT | os.O_RDWR)\n"
#: Programs by name, which never end; None for boxes that are started repeatedly.
KINDS: Final[dict[str, str | None]] = {
    "one loop": "while True: pass",
    "15 loops": _SPINNERS.format(14) + "spin()",
    "access": "import os\nwhile True: os.access('/tmp', 0)",
    "stat of new names": "import os\nwhile True: os.stat('/tmp/x') if os.path.exists('/nope%d' % id(object())) else 0",
    "threads": _CLONES,
    "threads and 10 loops": _SPINNERS.format(10) + _CLONES,
    "mappings": _MAPPINGS,
    "mappings and 14 loops": _SPINNERS.format(14) + _MAPPINGS,
    "output": "import os\nwhile True: os.write(1, b'x' * 65536)",
    "urandom of 1 MiB": "import os\nwhile True: os.urandom(1 << 20)",
    "pwrite of 1 MiB": _FILE + "b = bytes(1 << 20)\nwhile True: os.pwrite(f, b, 0)",
    "fallocate of 60 MiB": _FILE + "while True:\n os.posix_fallocate(f, 0, 60 << 20); os.ftruncate(f, 0)",
    "listdir of 9,000": (
        "import os\nfor i in range(9000): os.close(os.open('/tmp/%d' % i, os.O_CREAT))\nwhile True: os.listdir('/tmp')"
    ),
    "alarms": ("import signal\nsignal.signal(14, lambda *_: None)\nsignal.setitimer(0, .001, .001)\nwhile True: pass"),
    "200 MiB anew": "while True: b = [bytearray(1 << 20) for _ in range(200)]",
    "every file of /usr/lib": (
        "import os\nnames = [os.path.join(d, f) for d, _, fs in os.walk('/usr/lib') for f in fs]\n"
        "while True:\n for name in names:\n  try:\n   with open(name, 'rb') as file: file.read(1)\n"
        "  except OSError: pass"
    ),
    "rename of a deep folder": (
        "import os\ndeep = '/tmp/' + '/'.join('d' * 60)\nos.makedirs(deep)\n"
        "for i in range(100): os.close(os.open(deep + '/%d' % i, os.O_CREAT))\n"
        "while True: os.rename('/tmp/d', '/tmp/e'); os.rename('/tmp/e', '/tmp/d')"
    ),
    "15 short sleeps": (
        "import threading, time\ndef t():\n while True: time.sleep(1e-6)\n"
        "for i in range(14): threading.Thread(target=t, daemon=True).start()\nt()"
    ),
    "bursts": "import time\nwhile True:\n end = time.time() + .04\n while time.time() < end: pass\n time.sleep(.16)",
    "starts": None,
}
NEIGHBOUR = """
import os, time
longest = 0
for i in range(300):
    began = time.perf_counter()
    os.access('/x%d' % i, 0)
    longest = max(longest, time.perf_counter() - began)
print(longest * 1e3)
"""


class _Options(TypedDict):
    warm: bool
    guest: str | None


@attrs.frozen(kw_only=True)
class Cell:
    """A measurement, in milliseconds: medians of the program alone and beside others, and its longest OS call."""

    alone: float
    beside: float
    longest_call: float

    def __str__(self) -> str:
        return f"{self.beside / self.alone:.1f} ({self.longest_call:.0f})"


def _policy() -> proxybox.Policy:
    limits = {"wall_time": 120, "cpu_time": 60, "calls": None}
    return proxybox.Policy(limits=limits)


def _taken(runs: list[tuple[float, proxybox.Result]]) -> tuple[float, float]:
    """Returns the median of runs and their longest single call, in milliseconds."""
    for _, result in runs:
        if not result.ok:
            raise RuntimeError(f"the neighbour ended otherwise: {result.summary()}\n{result.stderr}")
    return statistics.median(seconds for seconds, _ in runs) * 1e3, max(float(each.stdout) for _, each in runs)


async def _loop(kind: str, count: int, options: _Options, *, in_thread: bool) -> Cell:
    code, files = KINDS[kind], {"raw.py": _RAW.read_bytes()}
    async with (
        proxybox.AsyncSandbox(_policy(), **options) as box,
        proxybox.AsyncSandbox(_policy(), **options) as good,
    ):
        beside_it = proxybox.Sandbox(_policy(), **options)

        async def runs(most: int) -> list[tuple[float, proxybox.Result]]:
            if in_thread:
                return await asyncio.to_thread(_runs, functools.partial(beside_it.run, NEIGHBOUR), most)
            found, began = [], time.monotonic()
            while len(found) < most and (not found or time.monotonic() - began < _LONGEST):
                before = time.monotonic()
                result = await good.run(NEIGHBOUR)
                found.append((time.monotonic() - before, result))
            return found

        async def hostile() -> None:
            while code is None:
                await box.run("1")
            await box.run(code, files=files)

        await runs(3)
        alone, _ = _taken(await runs(RUNS))
        others = [asyncio.create_task(hostile()) for _ in range(count)]
        await asyncio.sleep(_SETTLE + count * _BOX)
        beside, longest = _taken(await runs(RUNS))
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        return Cell(alone=alone, beside=beside, longest_call=longest)


def _runs(run: Callable[[], proxybox.Result], most: int) -> list[tuple[float, proxybox.Result]]:
    found, began = [], time.monotonic()
    while len(found) < most and (not found or time.monotonic() - began < _LONGEST):
        before = time.monotonic()
        result = run()
        found.append((time.monotonic() - before, result))
    return found


def _engine(kind: str, count: int, options: _Options) -> Cell:
    return asyncio.run(_loop(kind, count, options, in_thread=False))


def _thread(kind: str, count: int, options: _Options) -> Cell:
    return asyncio.run(_loop(kind, count, options, in_thread=True))


def _pool(kind: str, count: int, options: _Options) -> Cell:
    code, files = KINDS[kind], {"raw.py": _RAW.read_bytes()}
    with proxybox.Pool(_policy(), size=count + 2, **options) as pool:
        runs = functools.partial(_runs, functools.partial(pool.run, NEIGHBOUR))

        def hostile() -> None:
            while code is None:
                pool.run("1")
            pool.run(code, files=files)

        runs(3)
        alone, _ = _taken(runs(RUNS))
        for _ in range(count):
            threading.Thread(target=hostile, daemon=True).start()
        time.sleep(_SETTLE + count * _BOX)
        beside, longest = _taken(runs(RUNS))
        print(json.dumps(attrs.asdict(Cell(alone=alone, beside=beside, longest_call=longest))), flush=True)
        os._exit(0)  # does not wait for boxes that never end


_HOWS: Final[dict[str, Callable[[str, int, _Options], Cell]]] = {"engine": _engine, "pool": _pool, "thread": _thread}


def measure(kind: str, count: int, how: str, *options: str) -> Cell | None:
    """Returns a cell, measured in a separate process; None if that failed or was too slow. options: of this command."""
    command = [sys.executable, "-m", "benchmarks.shares", "--cell", kind, str(count), how, *options]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_CELL)
    except subprocess.TimeoutExpired:
        return None
    return Cell(**json.loads(done.stdout)) if done.returncode == 0 and done.stdout else None


def _some(names: list[str], text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - set(names):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: want some of {', '.join(names)}")
    return chosen


def main() -> None:
    """Prints the table, or the requested cell as JSON."""
    counts = [str(count) for count in COUNTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shares", description=__doc__)
    parser.add_argument("--kinds", type=functools.partial(_some, list(KINDS)), default=list(KINDS))
    parser.add_argument("--counts", type=functools.partial(_some, counts), default=counts)
    parser.add_argument("--hows", type=functools.partial(_some, list(_HOWS)), default=["engine", "pool"])
    parser.add_argument("--cold", action="store_true", help="each box starts an interpreter of its own")
    parser.add_argument("--guest", help="the interpreter, in place of pypy3")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        kind, count, how = options.cell
        cell = _HOWS[how](kind, int(count), {"warm": not options.cold, "guest": options.guest})
        print(json.dumps(attrs.asdict(cell)), flush=True)
        os._exit(0)
    passed = ["--cold"] * options.cold + (["--guest", options.guest] if options.guest else [])
    columns = [f"{how} {count}" for how in options.hows for count in options.counts]
    print("| beside boxes of |", " | ".join(columns), "|")
    print("| --- |" + " --- |" * len(columns), flush=True)
    for kind in options.kinds:
        print(f"| {kind} |", end="", flush=True)
        for how in options.hows:
            for count in options.counts:
                print(f" {measure(kind, int(count), how, *passed) or '-'} |", end="", flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
