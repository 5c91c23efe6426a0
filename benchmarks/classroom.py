"""A classroom: the time of a small program beside sixty hostile ones, and the time of an exercise's tests.

The service of a classroom, with two workers, is in this process. Hostile keys run their programs repeatedly, each in a
session of its own; one student runs a small program in a fresh session, as the button Run does.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import grading
from benchmarks.figures import Figure, Target
from proxybox.classroom.checks import Checks
from proxybox.policies import evolve, preset
from proxybox.serve.callers import Caller
from proxybox.serve.config import ServiceConfig
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service
from proxybox.teach.checking import find_exercise
from proxybox.teach.exercise import Exercise, load_exercise
from proxybox.teach.grading import pack

#: Hostile boxes; runs of the student of which the median is used; seconds until hostile boxes have settled.
BOXES, RUNS, SETTLING = 60, 20, 6.0
#: Checks of which the median is used, and those before them.
CHECKS, BEFORE = 50, 3

#: The student's program: it prints at once, counts, looks values up, and prints the result.
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
    "endless loops": "while True: pass",
    "OS calls without end": "import os\nwhile True: os.path.exists('/tmp/none')",
    "output without end": "while True: print('x' * 4000)",
    "full memories": "kept = []\nwhile True: kept.append(bytearray(1 << 20))",
    "loops in threads": "import threading\ndef f():\n    while True: pass\n"
    "for _ in range(8): threading.Thread(target=f, daemon=True).start()\nf()",
    "forks": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
}


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns medians, in milliseconds."""
    return [*asyncio.run(_beside_hostile(say)), *asyncio.run(_checks(say))]


# --- beside hostile programs ------------------------------------------------------------------------------------------


async def _beside_hostile(say: Callable[[str], None]) -> list[Figure]:
    figures = []
    async with classroom() as service:
        await _student(service)
        for kind, codes in {
            **{kind: [code] for kind, code in HOSTILE.items()},
            "all of these": [*HOSTILE.values()],
        }.items():
            say(f"beside {kind}")
            quiet = await _student(service)
            beside = await _beside(service, [codes[number % len(codes)] for number in range(BOXES)])
            figures.append(
                Figure(name=f"to the first output, beside {BOXES} x {kind}", value=beside, unit="ms", floor="alone",
                       floor_value=quiet, target=Target(of="ratio", at_most=2))
            )  # fmt: skip
    return figures


@contextlib.asynccontextmanager
async def classroom() -> AsyncIterator[Service]:
    """Returns a service like that of a classroom."""
    policy = evolve(
        preset("default"), limits={"wall_time": 30, "calls": None, "cpu_time": 10, "memory": "128M", "threads": 16}
    )
    with tempfile.TemporaryDirectory() as folder:
        config = ServiceConfig(
            data=folder, workers=2, express=False, slots=1, live=BOXES, limits={"live": 4, "queue_wait": 60},
            sessions={"most": 4 * BOXES, "share": 4}, policies={"default": policy},
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


def caller(name: str) -> Caller:
    """Returns a caller of the service."""
    return Caller(key=name, name=name)


async def first_output(service: Service, somebody: Caller, code: str) -> float:
    """Runs a program in a fresh session, to its end, and returns the seconds to its first output."""
    began, first = time.perf_counter(), 0.0

    def reported(event: Mapping[str, Any]) -> None:
        nonlocal first
        first = first or time.perf_counter() - began

    session = await service.sessions.open(somebody, {})
    try:
        await service.sessions.command(somebody, session.id, "exec", on_event=reported, code=code)
        return first
    finally:
        with contextlib.suppress(Refusal):
            await service.sessions.end(somebody, session.id)


async def _student(service: Service) -> float:
    times = []
    for _ in range(RUNS):
        times.append(await first_output(service, caller("student"), SMALL))
        await asyncio.sleep(0.1)
    return 1e3 * statistics.median(times)


async def _beside(service: Service, codes: list[str]) -> float:
    tasks = [asyncio.create_task(_again(service, caller(f"h{n}"), code)) for n, code in enumerate(codes)]
    try:
        await asyncio.sleep(SETTLING)
        return await _student(service)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in list(service.sessions._all.values()):
            with contextlib.suppress(Refusal):
                await service.sessions.end(session.caller, session.id)
        await asyncio.sleep(0.5)


async def _again(service: Service, somebody: Caller, code: str) -> None:
    while True:
        try:
            await first_output(service, somebody, code)
        except Refusal:
            await asyncio.sleep(0.1)


# --- checks -----------------------------------------------------------------------------------------------------------


async def _checks(say: Callable[[str], None]) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grading.write(folder)
        say("checks")
        ten = await _check(load_exercise(folder / "exercise"), {"solution.py": grading.CODE.encode()})
        say("plain pytest")
        plain = 1e3 * statistics.median(grading.timed(grading.PYTEST, folder / "plain") for _ in range(9))
        say("checks of the course")
        shipped = find_exercise("06-word-count")
        own = await _check(shipped, shipped.model_solutions()[0].files)
    return [
        Figure(name=f"a check of {grading.TESTS} tests", value=ten, unit="ms", floor="plain pytest", floor_value=plain),
        Figure(name="a check of 06-word-count, which comes with proxybox", value=own, unit="ms"),
    ]  # fmt: skip


async def _check(exercise: Exercise, files: Mapping[str, bytes]) -> float:
    checks, times = Checks(), []
    await checks.start()
    try:
        for _ in range(BEFORE + CHECKS):
            began = time.perf_counter()
            grade = await checks.check("student", pack(exercise), files)
            times.append(time.perf_counter() - began)
            if grade.failed or not grade.tests:
                raise RuntimeError(grade.message)
    finally:
        await checks.close()
    return 1e3 * statistics.median(times[BEFORE:])
