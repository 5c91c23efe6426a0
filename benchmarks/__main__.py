"""python -m benchmarks [--json] [--only NAME]... [--compare OLD]: measures, and prints each figure with its floor."""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import (
    batches,
    calls,
    classroom,
    computing,
    cpython,
    evaluating,
    grading,
    memory,
    neighbours,
    prompt,
    records,
    serving,
    start,
    transfers,
    translated,
    warm,
)
from benchmarks.bare import pypy
from benchmarks.comparing import NOISE, NoReport, compare, read_report
from benchmarks.figures import Benchmark, table

BENCHMARKS = (
    Benchmark(name="calls", title="OS calls", run=calls.run),
    Benchmark(name="translated", title="OS calls of a translated PyPy (its client)", run=translated.run),
    Benchmark(name="start", title="Start", run=start.run),
    Benchmark(name="warm", title="Warm boxes", run=warm.run),
    Benchmark(name="evaluating", title="Expressions, for their values", run=evaluating.run),
    Benchmark(name="cpython", title="A CPython guest", run=cpython.run),
    Benchmark(name="neighbours", title="Beside hostile neighbours, in one event loop", run=neighbours.run),
    Benchmark(name="serving", title="The service", run=serving.run),
    Benchmark(name="prompt", title="The interactive prompt", run=prompt.run),
    Benchmark(name="grading", title="Grading", run=grading.run),
    Benchmark(name="classroom", title="A classroom", run=classroom.run),
    Benchmark(name="records", title="Records and replays", run=records.run),
    Benchmark(name="batches", title="Batches", run=batches.run),
    Benchmark(name="cpu", title="Programs that compute", run=computing.run),
    Benchmark(name="files", title="100 MB from one end to the other", run=transfers.run),
    Benchmark(name="memory", title="Memory", run=memory.run),
)
#: The load average above which other work slows boxes.
BUSY = 0.7


def main() -> int:
    """Runs the benchmarks. Returns 0 whatever the figures are; 1 if a figure got slower than in OLD.json."""
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help=f"one of {', '.join(names)}")
    parser.add_argument("--compare", metavar="OLD.json", type=Path, help="what got slower since that report of --json")
    parser.add_argument(
        "--noise", metavar="PERCENT", type=float, default=NOISE, help=f"of --compare (default: {NOISE})"
    )
    options = parser.parse_args()
    try:
        old = options.compare and read_report(options.compare)
    except NoReport as error:
        parser.error(str(error))
    report: dict[str, Any] = {"host": _host(), "benchmarks": {}}
    if not options.json:
        print("  ".join(f"{key} {value}" for key, value in report["host"].items()), flush=True)
    if report["host"]["load"] > BUSY:
        print("this machine is busy: boxes run at a lower priority, so wall times are worse here than they are",
              file=sys.stderr)  # fmt: skip
    for benchmark in BENCHMARKS:
        if options.only and benchmark.name not in options.only:
            continue
        began = time.monotonic()
        figures = benchmark.run(lambda text, name=benchmark.name: _progress(f"{name}: {text}"))  # type: ignore[misc]
        _progress("")
        report["benchmarks"][benchmark.name] = {
            "seconds": time.monotonic() - began,
            "figures": [figure.to_dict() for figure in figures],
        }
        if not options.json:
            print("\n" + table(benchmark.title, figures), flush=True)
    if options.json:
        print(json.dumps(report, indent=2))
    if old is None:
        return 0
    reported, slower = compare(old, report, options.noise)
    print(f"\n{reported}", file=sys.stderr if options.json else sys.stdout)
    return 1 if slower else 0


def _host() -> dict[str, Any]:
    return {
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "guest": os.path.basename(pypy()),
    }


def _progress(text: str) -> None:
    """Returns a function that prints a line in place of the last one, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text[:78]}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
