"""Programs that compute, or wait for their own threads and tasks: a box must not make them slower."""

import statistics
from collections.abc import Callable
from typing import Any

import attrs

from benchmarks.bare import bare_json, boxed_json, pypy, python
from benchmarks.figures import Figure, Target

ROUNDS = 7
#: Units of work of each program, for PyPy and for CPython: each takes about a second.
WORK = {
    "nbody.py": (60, 3), "fannkuch.py": (100, 25), "dicts.py": (50, 30), "strings.py": (40, 36),
    "jsons.py": (50, 230), "regexes.py": (80, 100),
    "locks.py": (140, 100), "queues.py": (10, 100), "turns.py": (50, 10),
}  # fmt: skip
#: The goal for a box, in parts of the speed of bare pypy3, if it is not COMPUTING.
GOALS = {"locks.py": 0.8, "queues.py": 0.95, "turns.py": 0.25}
COMPUTING = 0.97


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns median speeds in units of work per second, with those of CPython without a box.

    Guests run at a lower priority, so other load on the machine slows a box and not its bare peer: their CPU times can
    be compared all the same.
    """
    figures, interpreter = [], pypy()
    for program, (many, few) in WORK.items():
        goal = GOALS.get(program, COMPUTING)
        speeds = boxed_and_bare(program, many, interpreter, "bare pypy3", goal, say)
        say(f"{program}, python3")
        cpython = few / float(bare_json(python(), program, few)["seconds"])
        figures += [*speeds, attrs.evolve(speeds[0], floor="python3", floor_value=cpython, target=None)]
    return figures


def boxed_and_bare(
    program: str, units: int, interpreter: str, floor: str, goal: float, say: Callable[[str], None], **options: Any
) -> list[Figure]:
    """Returns the speed of a program of `programs/` in a box and in the bare interpreter: by wall time and by CPU time.

    The program measures itself, so its start does not count. Each round measures both.
    """
    name = program.removesuffix(".py")
    boxed, bare = [], []
    for number in range(ROUNDS):
        say(f"{name}, {number + 1} of {ROUNDS}")
        bare.append(bare_json(interpreter, program, units))
        boxed.append(boxed_json(program, units, timeout=60, limits={"cpu_time": 60, "calls": None}, **options))
    return [
        Figure(name=name, value=_speed(boxed, "seconds", units), unit="/s", floor=floor,
               floor_value=_speed(bare, "seconds", units), target=Target(of="ratio", at_least=goal)),
        Figure(name=f"{name}, by CPU time", value=_speed(boxed, "cpu", units), unit="/s", floor=floor,
               floor_value=_speed(bare, "cpu", units)),
    ]  # fmt: skip


def _speed(runs: list[dict[str, Any]], key: str, units: int) -> float:
    return units / statistics.median([float(run[key]) for run in runs])
