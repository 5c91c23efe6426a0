"""A class of simulated students, a third of them hostile, with measured times, memory, events and work.

usage: python -m tests.soak.classroom [--students N] [--seconds S] [--kill]

Students are real HTTP clients in a process of their own. The lesson begins quietly; then a third of the class is
hostile, and for a fifth of the time more of them come, so that N hostile ones run at once. With --kill, the server is
killed at 50 random moments instead, and started again on the same data. It ends with 1 when an event, a text or a
hand-in was lost, or came twice.
"""

import argparse
import asyncio
import os
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import proxybox.teach
from tests.classroom.listening import classroom
from tests.soak.serving import family
from tests.soak.students import Tally, lesson

#: Seconds between two looks at the memory of all processes. A look itself takes CPU time.
_RHYTHM = 4.0
_TICK = os.sysconf("SC_CLK_TCK")
#: The marks of a lesson: seconds to the first output, MB, seconds until the grid shows an action.
MARKS = {"first": 0.4, "memory": 1500.0, "grid": 2.0}


def course(folder: Path) -> Path:
    """Makes a course of the exercises that come with proxybox."""
    shutil.copytree(Path(proxybox.teach.__file__).parent / "exercises", folder)
    (folder / "course.toml").write_text('title = "A class"\nseats = 200\n[limits]\nmemory = "128M"\n')
    return folder


class Usage(threading.Thread):
    """Measures the processes of a server: their highest memory, and their CPU time."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._ended = pid, threading.Event()
        self._was = _machine()
        self.began = time.monotonic()
        self.seen: list[tuple[float, Counter[str], int, int]] = []
        self.cpu: dict[int, tuple[str, float]] = {}

    def run(self) -> None:
        while not self._ended.wait(_RHYTHM):
            self._look()

    def end(self) -> None:
        self._look()
        self._ended.set()
        self.join()
        self.seconds = time.monotonic() - self.began
        self.machine = (_machine() - self._was) / self.seconds

    def _look(self) -> None:
        used, resident, count = Counter[str](), 0, 0
        for pid in set(family(self._pid)):
            try:
                kind = self._kind(pid)
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                self.cpu[pid] = kind, _spent(pid)
            except (OSError, ValueError):
                continue
            used[kind] += sum(map(int, re.findall(r"^Pss: +(\d+)", rollup, re.MULTILINE)))
            resident += sum(map(int, re.findall(r"^Rss: +(\d+)", rollup, re.MULTILINE)))
            count += 1
        self.seen.append((time.monotonic(), used, resident, count))

    def _kind(self, pid: int) -> str:
        if pid == self._pid:
            return "web"
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"/proxybox/worker.py" in command:
            return "workers"
        return "boxes" if b"pypy" in command or b"launcher" in command or not command else "tests"

    def used(self, kind: str) -> float:
        """Returns the number of CPUs that the processes of a kind have used."""
        return sum(spent for of, spent in self.cpu.values() if of == kind) / self.seconds


def _spent(pid: int) -> float:
    """Returns the CPU time of a process in seconds, without its children's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _machine() -> float:
    """Returns the CPU time of all processes of this machine in seconds."""
    fields = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]))
    return (sum(fields[:3]) + sum(fields[5:8])) / _TICK


def soak(students: int, seconds: float, folder: Path) -> int:
    """Holds a lesson, prints the results, and returns the exit status."""
    load = os.getloadavg()
    with classroom(folder / "data", course(folder / "course")) as server:
        usage = Usage(server.process.pid)
        usage.start()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=os.setsid) as elsewhere:
            told = elsewhere.submit(lesson, server.url, server.code, server.key, students, seconds).result()
        usage.end()
    print(
        f"{students} students, {seconds:g} s; load of the machine before {load[0]:.1f}, after {os.getloadavg()[0]:.1f}"
    )
    _tell(told, usage, seconds)
    log = (folder / "data.log").read_text()
    if log:
        print("the server has said:", log[-2000:], sep="\n")
    return 1 if told.faults or told.resyncs else 0


def _tell(told: Tally, usage: Usage, seconds: float) -> None:
    every = [each for times in told.first.values() for each in times]
    print(f"\n{'from Run to the first output, ms':40}{'median':>8}{'95 %':>8}{'worst':>8}{'runs':>8}")
    for name, times in (*told.first.items(), ("all", every)):
        _row(name, times)
    print(f"{'':40}{'mark':>8}{1e3 * MARKS['first']:>8.0f}")
    print(f"\n{'answers and rows, ms':40}{'median':>8}{'95 %':>8}{'worst':>8}{'number':>8}")
    _row("save", told.saves)
    for name, times in sorted(told.others.items()):
        if name != "files":
            _row(name, times)
    _row("an action in the teacher's grid", told.grid)
    _row("a text at the teacher who watches", told.watched)
    print(f"{'':40}{'grid, mark':>16}{1e3 * MARKS['grid']:>8.0f}")
    print(f"\n{'memory at its highest, MB':40}{'PSS':>8}{'RSS':>8}{'all':>8}   of that (PSS)")
    began = usage.began
    for name, ends in told.ends_at.items():
        seen = [each for each in usage.seen if began <= each[0] < ends]
        began = ends
        if seen:
            _, used, _, count = max(seen, key=lambda each: each[1].total())
            parts = ", ".join(f"{kind} {size / 1024:.0f}" for kind, size in used.items())
            resident = max(each[2] for each in seen)
            print(f"  {name:38}{used.total() / 1024:>8.0f}{resident / 1024:>8.0f}{count:>8}   {parts}")
    print(f"{'':40}{'mark':>8}{MARKS['memory']:>8.0f}\n")
    mine = {kind: usage.used(kind) for kind in ("web", "workers", "boxes", "tests")}
    print(
        f"CPUs: {', '.join(f'{kind} {each:.2f}' for kind, each in mine.items())} (short-lived ones not counted);",
        end="",
    )
    print(f" students {told.cpu:.2f} (at most {1e3 * told.lag:.0f} ms late); the whole machine {usage.machine:.2f}")
    print(f"saves: {len(told.saves) / seconds:.1f} a second; events: {told.events / seconds:.0f} a second")
    print("runs ended with:", ", ".join(f"{count:,} {end}" for end, count in told.ends.most_common()))
    print(
        f"{told.runs:,} good runs with {told.lines:,} lines; {told.cuts:,} streams were cut off; "
        f"{told.resyncs} had to load again; faults (lost, twice, wrong): {len(told.faults)}"
    )
    for fault in told.faults[:20]:
        print("  ", fault[:600])


def _row(name: str, times: Sequence[float]) -> None:
    if times:
        cuts = statistics.quantiles(times, n=20) if len(times) > 1 else [times[0]] * 19
        figures = (statistics.median(times), cuts[18], max(times))
        print(f"  {name:38}" + "".join(f"{1e3 * each:>8.0f}" for each in figures) + f"{len(times):>8}")


def main() -> int:
    """Parses the command line, and runs the soak; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.kill:
            from tests.soak.killed import kill

            return asyncio.run(kill(options.students, Path(name)))
        return soak(options.students, options.seconds, Path(name))


if __name__ == "__main__":
    sys.exit(main())
