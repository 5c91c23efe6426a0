"""The cost of an OS call, compared with the least cost of any exchange between two processes."""

from collections.abc import Callable

from benchmarks.bare import bare_json, boxed_json, pypy, python
from benchmarks.figures import Figure, Target

ROUNDS = 3
FLOOR = "pipe ping-pong, pinned"
TARGETS = {
    "getuid": Target(of="ratio", at_most=1.2),
    "stat of a library file": Target(of="ratio", at_most=1.5),
    "open, fstat, read, close of a library file": Target(of="ratio", at_most=4),
    "open, read 1 KiB, close (in memory)": Target(of="value", at_most=60),
    "open, read 1 KiB, close (in /box)": Target(of="value", at_most=60),
}


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns the best of all rounds, on both sides: other load can only make a round trip slower."""
    floor, boxed, native = float("inf"), [], []
    for number in range(ROUNDS):
        say(f"round {number + 1} of {ROUNDS}")
        floor = min(floor, bare_json(python(), "pingpong.py")["round trip"])
        boxed.append(boxed_json("calls.py", timeout=60))
        native.append(bare_json(pypy(), "calls.py"))
    figures = []
    for name in boxed[0]:
        value = min(each[name] for each in boxed)
        figures.append(
            Figure(name=name, value=value, unit="us", floor=FLOOR, floor_value=floor, target=TARGETS.get(name))
        )
    for name in boxed[0]:
        value, peer = (min(each[name] for each in side) for side in (boxed, native))
        figures.append(Figure(name=name, value=value, unit="us", floor="bare pypy3", floor_value=peer))
    return figures
