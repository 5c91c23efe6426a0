"""OS calls over the wire of a translated PyPy: the conforming client of the tests makes them, in a box.

In the same rounds, and also pinned, the same client makes them to upstream's own controller.
"""

import importlib.util
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bare import bare_json, python
from benchmarks.figures import Figure, Target
from proxybox import Sandbox

ROUNDS, CALLS = 5, 20_000
_BUILD = Path(__file__).resolve().parent.parent / "tests/guests/translated/build.py"
_PEERS = Path(__file__).resolve().parent.parent / ".venv-peers/bin/python"
_UPSTREAM = Path(__file__).with_name("upstream.py")
PROGRAMS = {
    "getuid": "repeat COUNT -getuid()i",
    "stat64 of a library file": 'buffer s 144\nrepeat COUNT -stat64(pp)i "/usr/lib/pypy/lib-python/3/os.py" @s',
}
#: The goal compared with upstream's own controller.
TARGETS = {"getuid": Target(of="ratio", at_most=1.3), "stat64 of a library file": Target(of="ratio", at_most=0.8)}


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns the best of all rounds, on all sides."""
    floor, best, upstream = float("inf"), dict.fromkeys(PROGRAMS, float("inf")), dict.fromkeys(PROGRAMS, float("inf"))
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        _client(home).rename(home / "pypy3-c")
        for path in ("lib-python/3/os.py", "lib_pypy/x.py"):
            (home / path).parent.mkdir(parents=True)
            (home / path).write_text("x = 1\n")
        with Sandbox(guest=home / "pypy3-c", limits={"wall_time": 60, "cpu_time": 60, "calls": None}) as box:
            for number in range(ROUNDS):
                say(f"round {number + 1} of {ROUNDS}")
                floor = min(floor, bare_json(python(), "pingpong.py")["round trip"])
                for what, program in PROGRAMS.items():
                    best[what] = min(best[what], _microseconds(box, program))
                    upstream[what] = min(upstream[what], _upstream(home, program))
    figures = [
        Figure(name=what, value=value, unit="us", floor="pipe ping-pong, pinned", floor_value=floor)
        for what, value in best.items()
    ]
    peers = [
        Figure(name=what, value=best[what], unit="us", floor="upstream's controller, pinned", floor_value=value,
               target=TARGETS[what])
        for what, value in upstream.items() if value < float("inf")
    ]  # fmt: skip
    return figures + peers


def _microseconds(box: Sandbox, program: str) -> float:
    """Returns the microseconds of a call: the difference between many calls and one."""
    walls = []
    for count in (1, CALLS):
        result = box.run(program.replace("COUNT", str(count)), check=True)
        walls.append(result.usage.wall)
    return (walls[1] - walls[0]) / (CALLS - 1) * 1e6


def _upstream(home: Path, program: str) -> float:
    """Returns the same with upstream's controller; infinity if it is not installed (tools/peers)."""
    words = [_PEERS, _UPSTREAM, home / "pypy3-c", home, str(CALLS), program]
    if not os.access(_PEERS, os.X_OK):
        return float("inf")
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    return float(json.loads(done.stdout)) if done.returncode == 0 else float("inf")


def _client(folder: Path) -> Path:
    spec = importlib.util.spec_from_file_location("translated_build", _BUILD)
    if spec is None or spec.loader is None:
        raise ImportError(str(_BUILD))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Path = module.client(folder)
    return made
