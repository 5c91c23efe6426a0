"""The costs of recording a run and of replaying it, compared with the same run without a record."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import proxybox
from benchmarks.figures import Figure, Target

#: Runs of which the median is used.
RUNS: Final = 7
#: Programs, with the most that recording a run may cost.
PROGRAMS: Final = {
    "calls without arguments": ("import os\nfor _ in range(100_000): os.getppid()", 1.25),
    "writes of 500 bytes": ("f = open('/tmp/x', 'wb', 0)\nfor _ in range(20_000): f.write(b'x' * 500)", 1.25),
    "open, read, close": (
        "import os\nopen('/tmp/x', 'wb').write(b'ab' * 500)\n"
        "for _ in range(15_000): fd = os.open('/tmp/x', 0); os.read(fd, 1000); os.close(fd)",
        1.25,
    ),
    "a megabyte, read 300 times": (
        "open('/tmp/x', 'wb').write(b'ab' * (1 << 19))\nfor _ in range(300): open('/tmp/x', 'rb', 0).read()",
        1.25,
    ),
    "a loop that computes": ("n = 0\nfor i in range(600_000_000): n += i", 1.02),
    "readings of the clock": ("import time\nfor _ in range(200_000): time.monotonic()", None),
    "a loop of locks": (
        "import threading\nlock = threading.Lock()\nfor _ in range(200_000): lock.acquire(timeout=1); lock.release()",
        2.0,
    ),
}


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns medians, in milliseconds, of the three, measured in turn."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.pbx")
        for name, (code, most) in PROGRAMS.items():
            say(name)
            plain, recorded, replayed, size, calls = _measured(code, path)
            target = None if most is None else Target(of="ratio", at_most=most)
            figures += [
                Figure(
                    name=f"{name}, recorded", value=recorded, unit="ms", floor="without a record", floor_value=plain,
                    target=target,
                ),
                Figure(
                    name=f"{name}, replayed", value=replayed, unit="ms", floor="recorded", floor_value=recorded,
                    target=Target(of="ratio", at_most=1.0),
                ),
                Figure(name=f"{name}, record of 10,000 calls", value=size / calls * 10, unit="kB"),
            ]  # fmt: skip
    return figures


def _measured(code: str, path: Path) -> tuple[float, float, float, int, int]:
    times: dict[str, list[float]] = {"plain": [], "recorded": [], "replayed": []}
    calls = 1

    def timed(name: str, action: Callable[[], object]) -> object:
        begun = time.perf_counter()
        done = action()
        times[name].append((time.perf_counter() - begun) * 1e3)
        return done

    with proxybox.Sandbox(warm=False) as box:
        box.run(code)
        for _ in range(RUNS):
            timed("plain", lambda: box.run(code))
            timed("recorded", lambda: box.run(code, record=path))
            done = timed("replayed", lambda: proxybox.replay(path))
            if not isinstance(done, proxybox.Replay) or not done.ok:
                raise RuntimeError(f"a replay that parts: {done}")
            calls = done.calls
    medians = {name: statistics.median(each) for name, each in times.items()}
    return medians["plain"], medians["recorded"], medians["replayed"], path.stat().st_size, calls
