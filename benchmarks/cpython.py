"""A CPython guest: its start, pandas imported and loaded before, and programs that compute.

pandas is that of the environment PROXYBOX_BENCH_PACKAGES, for the CPython of the boxes; without it, its figures are
omitted.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable

import proxybox
from benchmarks import computing
from benchmarks.figures import Figure, Target, interleaved, medians
from proxybox.controller import find_guest
from proxybox.controller.warm import zygotepool

ROUNDS = 11
HELLO = "print(1)"
IMPORT = "import pandas"
#: A table, its statistics and their text; the first run is slower than those that follow.
TABLE = "print(pandas.DataFrame({'a': [1, 2, 3]}).describe().to_json())"
#: The part that warm guests have run before.
WARM_UP = f"import pandas; {TABLE}"
#: Prints the milliseconds of a fork(2) with the table, without a box.
FORKS = f"""
import os, pandas, time
for _ in range({ROUNDS}):
    began = time.perf_counter()
    if not (pid := os.fork()):
        pandas.DataFrame({{"a": [1, 2, 3]}}).describe().to_json()
        os._exit(0)
    os.waitpid(pid, 0)
    print((time.perf_counter() - began) * 1e3)
"""
#: The programs of benchmarks/programs that only compute, and their goal in parts of bare speed.
COMPUTES = ("nbody.py", "fannkuch.py", "dicts.py", "strings.py", "jsons.py", "regexes.py")
COMPUTING = 0.98


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns medians; each round measures each side."""
    python = find_guest("cpython").executable
    sides: list[tuple[str, Callable[[], float]]] = [
        ("hello, bare", lambda: _timed(lambda: _bare(python, HELLO))),
        ("hello, boxed", lambda: _timed(lambda: proxybox.run(HELLO, check=True, warm=False, guest="cpython"))),
    ]
    with proxybox.Sandbox(warm=True, guest="cpython") as cpython, proxybox.Sandbox(warm=True, guest="pypy") as pypy:
        for box in (cpython, pypy, cpython, pypy):
            box.run(HELLO, check=True)
        sides += [
            ("warm, CPython", lambda: _timed(lambda: cpython.run(HELLO, check=True))),
            ("warm, PyPy", lambda: _timed(lambda: pypy.run(HELLO, check=True))),
        ]
        middle = medians(interleaved(sides, ROUNDS, say))
    zygotepool.close()
    figures = [
        Figure(name="API, to the Result", value=middle["hello, boxed"], unit="ms", floor="bare python3",
               floor_value=middle["hello, bare"], target=Target(of="ratio", at_most=1.8)),
        Figure(name="warm box", value=middle["warm, CPython"], unit="ms", floor="warm box of a PyPy",
               floor_value=middle["warm, PyPy"], target=Target(of="ratio", at_most=1.5)),
    ]  # fmt: skip
    for program in COMPUTES:
        units = computing.WORK[program][1]
        figures += computing.boxed_and_bare(program, units, python, "bare python3", COMPUTING, say, guest="cpython")
    environment = os.environ.get("PROXYBOX_BENCH_PACKAGES")
    return [*figures, *(_pandas(environment, say) if environment else ())]


def _pandas(environment: str, say: Callable[[str], None]) -> list[Figure]:
    python = os.path.join(environment, "bin", "python")
    options = {"guest": environment, "limits": {"memory": "1G"}}
    proxybox.run(IMPORT, check=True, warm=False, **options)
    say("forks")
    bare_forks = [float(line) for line in _bare(python, FORKS).splitlines()]
    with (
        proxybox.Sandbox(warm=True, preload=["pandas"], warm_up=WARM_UP, **options) as loaded,
        proxybox.Pool(size=2, preload=["pandas"], warm_up=WARM_UP, **options) as pool,
    ):
        for _ in range(3):
            loaded.run(WARM_UP, check=True)
        taken = interleaved(
            [
                ("import, bare", lambda: _timed(lambda: _bare(python, IMPORT))),
                ("import, boxed", lambda: _timed(lambda: proxybox.run(IMPORT, check=True, warm=False, **options))),
                ("demand", lambda: _timed(lambda: loaded.run(WARM_UP, check=True))),
                ("stock", lambda: _stock(pool)),
            ],
            ROUNDS,
            say,
        )
    zygotepool.close()
    middle = medians(taken)
    memory = proxybox.run(IMPORT, check=True, warm=False, **options).usage.memory or 0
    return [
        Figure(name="import pandas", value=middle["import, boxed"], unit="ms", floor="bare python3",
               floor_value=middle["import, bare"], target=Target(of="ratio", at_most=1.6)),
        Figure(name="its peak of memory", value=memory / 1e6, unit="MB", floor="bare python3",
               floor_value=json.loads(_bare(python, _PEAK))),
        Figure(name="a table, pandas loaded, forked on demand", value=middle["demand"], unit="ms",
               floor="os.fork() and the table", floor_value=sorted(bare_forks)[len(bare_forks) // 2],
               target=Target(of="value", at_most=15)),
        Figure(name="a table, pandas loaded, box that stands ready", value=middle["stock"], unit="ms",
               target=Target(of="value", at_most=9)),
    ]  # fmt: skip


_PEAK = "import pandas, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)"


def _stock(pool: proxybox.Pool) -> float:
    time.sleep(0.05)  # so that the pool has filled again
    return _timed(lambda: pool.run(WARM_UP).check())


def _bare(python: str, program: str) -> str:
    return subprocess.run([python, "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout


def _timed(measure: Callable[[], object]) -> float:
    began = time.perf_counter()
    measure()
    return (time.perf_counter() - began) * 1e3
