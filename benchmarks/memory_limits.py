"""python -m benchmarks.memory_limits ENVIRONMENT [NAME...]: how much of limits.memory programs can use.

Prints a row of a Markdown table for each program: for each limit, the MiB that it has used when an allocation fails or
its box is ended, and which of the two happens. Then it prints by how much programs that use memory as fast as they can
exceed their limit before their box is ended, alone and beside eight threads that compute here. ENVIRONMENT has NumPy,
pandas, pyarrow, polars and scikit-learn: a virtual environment of the CPython on PATH, or a folder
(`pip install --target`).
"""

import argparse
import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxybox import Result, Sandbox, Status

LIMITS = ("300M", "512M", "900M", "1G", "1500M", "2G")
_M = 1 << 20
_TIME = {"wall_time": 120, "cpu_time": 60, "threads": 32}
#: Each program repeatedly allocates 4 MiB and keeps them, after some preparation.
PROGRAMS = {
    "pypy: objects": ("", "[float(i) for i in range(1 << 19)]"),
    "pypy: bytearrays": ("", "bytearray(4 << 20)"),
    "pypy: bytearrays, in threads": ("THREADS", "bytearray(4 << 20)"),
    "bytearrays": ("", "bytearray(4 << 20)"),
    "objects": ("", "[float(i) for i in range(1 << 17)]"),
    "bytearrays, in threads": ("THREADS", "bytearray(4 << 20)"),
    "numpy": ("import numpy", "numpy.ones(1 << 19)"),
    "pandas": (
        "import numpy, pandas\nframe = pandas.DataFrame({'a': range(1000)}).groupby('a').sum()",
        "pandas.DataFrame(numpy.ones((1 << 16, 8))) + 1",
    ),
    "pyarrow": (
        "import pyarrow, pyarrow.compute\nones = pyarrow.array(range(1 << 19))", "pyarrow.compute.add(ones, 1)"
    ),
    "polars": ("import polars\nones = polars.Series(range(1 << 19))", "ones + 1"),
    "sklearn": (
        "import numpy, sklearn.datasets, sklearn.ensemble\n"
        "sklearn.ensemble.RandomForestClassifier(20).fit(*sklearn.datasets.load_iris(return_X_y=True))",
        "numpy.ones(1 << 19)",
    ),
    "all of them": (
        "import numpy, pandas, pyarrow, polars, sklearn.ensemble, sklearn.datasets\n"
        "pandas.DataFrame({'a': range(1000)}).groupby('a').sum()\npolars.DataFrame({'a': range(1000)}).to_pandas()\n"
        "sklearn.ensemble.RandomForestClassifier(20).fit(*sklearn.datasets.load_iris(return_X_y=True))",
        "numpy.ones(1 << 19)",
    ),
}  # fmt: skip
_THREADS = """
import threading
lock, failed = threading.Lock(), []
def run():
    global kept
    while not failed:
        try: more = {more}
        except MemoryError: failed.append(1); break
        with lock: kept.append(more); print(len(kept), flush=True)
threads = [threading.Thread(target=run) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
kept = None
print("MemoryError" if failed else "?")
"""
_ALONE = """
try:
    while True:
        kept.append({more})
        print(len(kept), flush=True)
except BaseException as error:
    kept = None
    print(type(error).__name__)
"""
#: Programs in native code that use reserved memory, or allocate it, as fast as they can.
HOSTILE = {
    "memset of a reservation": """
import ctypes, mmap
kept = mmap.mmap(-1, 6 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)
print("begins", flush=True)
ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(kept)), 1, 6 << 30)
""",
    "the same, in eight threads": """
import ctypes, mmap, threading
kept = mmap.mmap(-1, 6 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)
at = ctypes.addressof(ctypes.c_char.from_buffer(kept))
print("begins", flush=True)
for i in range(8): threading.Thread(target=ctypes.memset, args=(at + i * (700 << 20), 1, 700 << 20)).start()
""",
    "the same, in fifteen threads": """
import ctypes, mmap, threading
kept = mmap.mmap(-1, 6 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)
at = ctypes.addressof(ctypes.c_char.from_buffer(kept))
print("begins", flush=True)
for i in range(15): threading.Thread(target=ctypes.memset, args=(at + i * (400 << 20), 1, 400 << 20)).start()
""",
    "the same, after half a second of sleep": """
import ctypes, mmap, threading
kept = mmap.mmap(-1, 6 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)
at = ctypes.addressof(ctypes.c_char.from_buffer(kept))
ctypes.memset(at, 1, 200 << 20)
threading.Event().wait(0.5)
ctypes.memset(at, 1, 6 << 30)
""",
    "maps and uses, by libc": """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
for size in [1 << 30] * 6 + [1 << 20] * 9000:
    at = libc.mmap(None, size, 3, 0x4022, -1, 0)
    if at != ctypes.c_void_p(-1).value: ctypes.memset(at, 1, size)
""",
}


def _source(name: str) -> str:
    before, more = PROGRAMS[name]
    if before == "THREADS":
        return f"kept = []{_THREADS.format(more=more)}"
    return f"{before}\nkept = []{_ALONE.format(more=more)}"


def _run(source: str, memory: str, **guest: Any) -> Result:
    with Sandbox(warm=False, limits={**_TIME, "memory": memory}, output={"limit": "64M"}, **guest) as box:
        return box.run(source)


def usable(name: str, memory: str, environment: Path) -> tuple[int, str]:
    """Returns the MiB that a program could use with a limit, and how it ended: an exception's name, or a status."""
    guest = {} if name.startswith("pypy") else {"guest": "cpython", "packages": [environment]}
    result = _run(_source(name), memory, **guest)
    words = result.stdout.split()
    counts = [int(word) for word in words if word.isdigit()]
    return 4 * max(counts, default=0), words[-1] if result.ok and words else result.status.value


def beyond(source: str, memory: int) -> int:
    """Returns by how many MiB the peak of a hostile program exceeds its limit, its interpreter included."""
    result = _run(source, f"{memory}M", guest="cpython")
    if result.status is not Status.MEMORY_LIMIT:
        raise AssertionError(f"it was not ended for its memory: {result}")
    return -(-(result.usage.memory or 0) // _M) - memory


@contextlib.contextmanager
def _computing(threads: int) -> Iterator[None]:
    """A context in which this many threads of this process compute: each always wants the interpreter's lock."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    computing = [threading.Thread(target=compute) for _ in range(threads)]
    for thread in computing:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in computing:
            thread.join()


def _rows(environment: Path, names: list[str]) -> Iterator[str]:
    yield f"| program | {' | '.join(LIMITS)} | ends by |"
    yield f"|{' --- |' * (len(LIMITS) + 2)}"
    for name in names:
        found = [usable(name, memory, environment) for memory in LIMITS]
        ends = ", ".join(sorted({end for _, end in found}))
        yield f"| {name} | {' | '.join(str(count) for count, _ in found)} | {ends} |"
    yield "\n| uses memory as fast as it can | MiB beyond 512M, of three runs | beside eight threads |"
    yield "| --- | --- | --- |"
    for name, source in HOSTILE.items():
        alone = sorted(beyond(source, 512) for _ in range(3))
        with _computing(8):
            yield f"| {name} | {alone} | {sorted(beyond(source, 512) for _ in range(3))} |"


def main() -> int:
    """Prints the tables, a row at a time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_limits", description=__doc__)
    parser.add_argument("environment", metavar="ENVIRONMENT", type=Path, help="a virtual environment, or a folder")
    parser.add_argument("names", metavar="NAME", nargs="*", help="those programs alone, such as numpy")
    options = parser.parse_args()
    for row in _rows(options.environment, options.names or [*PROGRAMS]):
        print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
