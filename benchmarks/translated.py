"""OS calls over the wire of a translated PyPy: the conforming client of the tests makes them, in a box."""

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bare import bare_json, python
from benchmarks.figures import Figure
from proxybox import Sandbox

ROUNDS, CALLS = 3, 20_000
_BUILD = Path(__file__).resolve().parent.parent / "tests/guests/translated/build.py"
PROGRAMS = {
    "getuid": "repeat {count} -getuid()i",
    "stat64 of a library file": 'buffer s 144\nrepeat {count} -stat64(pp)i "/usr/lib/pypy/lib-python/3/os.py" @s',
}


def run(say: Callable[[str], None]) -> list[Figure]:
    """Best of all rounds, on both sides."""
    floor, best = float("inf"), dict.fromkeys(PROGRAMS, float("inf"))
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        _client(home).rename(home / "pypy-c")
        for path in ("lib-python/3/os.py", "lib_pypy/x.py"):
            (home / path).parent.mkdir(parents=True)
            (home / path).write_text("x = 1\n")
        with Sandbox(guest=home / "pypy-c", limits={"wall_time": 60, "cpu_time": 60, "calls": None}) as box:
            for number in range(ROUNDS):
                say(f"round {number + 1} of {ROUNDS}")
                floor = min(floor, bare_json(python(), "pingpong.py")["round trip"])
                for what, program in PROGRAMS.items():
                    best[what] = min(best[what], _microseconds(box, program))
    return [
        Figure(name=what, value=value, unit="us", floor="pipe ping-pong, pinned", floor_value=floor)
        for what, value in best.items()
    ]


def _microseconds(box: Sandbox, program: str) -> float:
    """For one call: what many take longer than none."""
    walls = []
    for count in (1, CALLS):
        result = box.run(program.format(count=count), check=True)
        walls.append(result.usage.wall)
    return (walls[1] - walls[0]) / (CALLS - 1) * 1e6


def _client(folder: Path) -> Path:
    spec = importlib.util.spec_from_file_location("translated_build", _BUILD)
    if spec is None or spec.loader is None:
        raise ImportError(str(_BUILD))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Path = module.client(folder)
    return made
