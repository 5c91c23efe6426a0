"""A classroom in which everybody else runs something hostile: what a student's small program waits for then.

A service of two workers is in this process. Hostile keys run what they run again and again, each in a session of its
own; one student runs a small program in a fresh session, as a classroom's Run does. The time from Run to the first
output and to the end is compared with the quiet service's, measured in turns with it.

    python -m benchmarks.classroom_fairness [KIND ...] [--boxes 60] [--background 0.1] [--warm 6] [--rounds 3]

It waits a while for a calm machine before each round, and tells which part of the CPUs others had: their load is shared
by both sides of a ratio, but not in equal parts.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from proxybox.controller import hostproc
from proxybox.policies import evolve, preset
from proxybox.serve.callers import Caller
from proxybox.serve.config import Config
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service

#: What a student runs: it says something at once, counts, looks things up, and says how it went.
SMALL: Final = """
print("begin")
total = sum(each * each for each in range(20_000))
words = {}
for each in ("the quick brown fox jumps over the lazy dog " * 50).split():
    words[each] = words.get(each, 0) + 1
for word in sorted(words):
    print(word, words[word])
print(total)
"""

HOSTILE: Final[Mapping[str, str]] = {
    "loops": "while True: pass",
    "calls": "import os\nwhile True: os.path.exists('/tmp/none')",
    "output": "while True: print('x' * 4000)",
    "memory": "kept = []\nwhile True: kept.append(bytearray(1 << 20))",
    "threads": "import threading\ndef f():\n    while True: pass\n"
    "for _ in range(8): threading.Thread(target=f, daemon=True).start()\nf()",
    "forks": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
}


def _caller(name: str) -> Caller:
    return Caller(key=name, name=name)


async def _run(service: Service, caller: Caller, code: str) -> tuple[float, float]:
    """Runs a program in a fresh session, and returns the seconds to its first output, and to its end."""
    began, first = time.perf_counter(), []

    def told(event: Mapping[str, Any]) -> None:
        if not first:
            first.append(time.perf_counter() - began)

    session = await service.sessions.open(caller, {})
    try:
        await service.sessions.command(caller, session.id, "exec", on_event=told, code=code)
        return (first or [0.0])[0], time.perf_counter() - began
    finally:
        with contextlib.suppress(Refusal):
            await service.sessions.end(caller, session.id)


async def _again(service: Service, caller: Caller, code: str) -> None:
    """Runs a hostile program again and again."""
    while True:
        try:
            await _run(service, caller, code)
        except Refusal:
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def classroom(background: float | None, boxes: int) -> AsyncIterator[Service]:
    """A service as a classroom has it."""
    policy = evolve(
        preset("default"), limits={"wall_time": 30, "calls": None, "cpu_time": 10, "memory": "128M", "threads": 16}
    )
    more: dict[str, Any] = {} if background is None else {"background_after": background}
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            data=folder, workers=2, express=False, slots=1, live=boxes, limits={"live": 4, "queue_wait": 60},
            sessions={"most": 4 * boxes, "share": 4}, policies={"default": policy}, **more,
        )  # fmt: skip
        service = Service(config)
        await service.start()
        try:
            await service.tried()
            if service.state != "ready":
                raise RuntimeError(service.why)
            yield service
        finally:
            await service.close()


async def _student(service: Service, runs: int) -> list[tuple[float, float]]:
    times = []
    for _ in range(runs):
        times.append(await _run(service, _caller("student"), SMALL))
        await asyncio.sleep(0.1)
    return times


async def _beside(
    service: Service, codes: list[str], runs: int, warm: float
) -> tuple[list[tuple[float, float]], float]:
    """The student's times beside programs, and the part of the CPUs that others than this benchmark had meanwhile."""
    tasks = [asyncio.create_task(_again(service, _caller(f"h{n}"), code)) for n, code in enumerate(codes)]
    try:
        await asyncio.sleep(warm)
        with _others() as others:
            times = await _student(service, runs)
        return times, others[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in list(service.sessions._all.values()):
            with contextlib.suppress(Refusal):
                await service.sessions.end(session.caller, session.id)


def _used() -> dict[int, tuple[int, int]]:
    """The parent and the CPU time of each process, in ticks."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            parent, user, system = hostproc.stat(pid, 4, 14, 15)
            found[pid] = parent, user + system
    return found


def _is_ours(pid: int, used: Mapping[int, tuple[int, int]]) -> bool:
    while pid and pid != os.getpid():
        pid = used.get(pid, (0, 0))[0]
    return bool(pid)


@contextlib.contextmanager
def _others() -> Iterator[list[float]]:
    """A context at whose end the list has the part of the CPUs that others' processes have used."""
    before, began, told = _used(), time.monotonic(), [0.0]
    yield told
    after = _used()
    ticks = sum(
        each - before.get(pid, (0, 0))[1] for pid, (_, each) in after.items() if not _is_ours(pid, after)
    )  # fmt: skip
    told[0] = ticks / os.sysconf("SC_CLK_TCK") / (time.monotonic() - began) / len(os.sched_getaffinity(0))


async def _until_calm() -> None:
    """Waits a while for others to let the machine alone."""
    for _ in range(20):
        with _others() as others:
            await asyncio.sleep(1)
        if others[0] < 0.1:
            return


def _told(times: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    firsts, ends = zip(*times, strict=True)
    return statistics.median(firsts), max(firsts), statistics.median(ends), max(ends)


async def measure(
    kinds: list[str],
    boxes: int,
    runs: int,
    background: float | None,
    warm: float,
    rounds: int,
    say: Callable[[str], None],
) -> None:
    """Measures each kind, in turns with the quiet service."""
    async with classroom(background, boxes) as service:
        await _student(service, 20)
        for kind in kinds:
            codes = list(HOSTILE.values()) if kind == "mixed" else [HOSTILE[kind]]
            hostile = [codes[number % len(codes)] for number in range(boxes)]
            for _ in range(rounds):
                await _until_calm()
                with _others() as before:
                    quiet = _told(await _student(service, runs))
                times, others = await _beside(service, hostile, runs, warm)
                beside = _told(times)
                await asyncio.sleep(0.5)
                names = ("first", "worst", "end", "worst")
                figures = (
                    f"{name} {1e3 * one:.0f} -> {1e3 * other:.0f} ms ({other / one:.1f}x)"
                    for name, one, other in zip(names, quiet, beside, strict=True)
                )
                say(f"{kind:8} " + "; ".join(figures) + f"; others had {before[0]:.0%}, {others:.0%}")


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=[*HOSTILE, "mixed"])
    parser.add_argument("--boxes", type=int, default=60)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--background", type=float)
    parser.add_argument("--warm", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    asyncio.run(
        measure(
            asked.kinds,
            asked.boxes,
            asked.runs,
            asked.background,
            asked.warm,
            asked.rounds,
            lambda text: print(text, flush=True),
        )
    )


if __name__ == "__main__":
    main()
