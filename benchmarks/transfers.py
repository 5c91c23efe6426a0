"""Files read and written from one end to the other: the wire's throughput."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

from benchmarks.bare import bare_json, boxed_json, pypy
from benchmarks.figures import Figure, Target
from proxybox import Mount

Mode: TypeAlias = Literal["ro", "rw"] | None
MEGABYTES = 100
ROUNDS = 3
PIECES = {"1 MiB": 1 << 20, "64 KiB": 1 << 16}
#: (what, name of the place, mode of its mount or None for the box's memory)
CASES: list[tuple[str, str, Mode]] = [
    ("read", "host folder, ro", "ro"),
    ("read", "memory", None),
    ("write", "host folder, rw", "rw"),
    ("write", "memory", None),
]


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns the best of all rounds, in MB/s."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for piece_name, piece in PIECES.items():
            for what, place, mode in CASES:
                name = f"{what}, {place}, {piece_name} a call"
                Path(folder, "read").write_bytes(bytes(MEGABYTES * 1_000_000))
                boxed = bare = 0.0
                on_host = (what, f"{folder}/{what}", piece, MEGABYTES)
                for number in range(ROUNDS):
                    say(f"{name}: {number + 1} of {ROUNDS}")
                    boxed = max(boxed, _boxed(what, piece, folder, mode))
                    bare = max(bare, bare_json(pypy(), "sequential.py", *on_host)["MB/s"])
                target = Target(of="value", at_least=500) if what == "read" else None
                figures.append(
                    Figure(name=name, value=boxed, unit="MB/s", floor="bare pypy3", floor_value=bare, target=target)
                )
    return figures


def _boxed(what: str, piece: int, folder: str, mode: Mode) -> float:
    options: dict[str, Any] = {"limits": {"disk": "256M", "cpu_time": 60}, "timeout": 60}
    if mode is not None:
        options["filesystem"] = [Mount(target="/data", source=folder, mode=mode)]
    path = "/tmp/file" if mode is None else f"/data/{what}"
    return float(boxed_json("sequential.py", what, path, piece, MEGABYTES, **options)["MB/s"])
