"""The memory of a live box: in the controller, and in its guest."""

import json
import subprocess
import sys
from collections.abc import Callable

from benchmarks.bare import bare_json, pypy
from benchmarks.figures import Figure
from benchmarks.memory_probe import BOXES


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns proportional set sizes in MB, per box, with several live boxes in one controller."""
    say(f"{BOXES} bare pypy3")
    bare = bare_json(sys.executable, "idle.py", BOXES, pypy())["each"]
    say(f"{BOXES} boxes in one controller")
    probe = subprocess.run([sys.executable, "-m", "benchmarks.memory_probe"], stdout=subprocess.PIPE, check=True)
    found = json.loads(probe.stdout)
    figures = [
        Figure(name="controller, per box", value=found["controller"], unit="MB", floor="bare pypy3", floor_value=bare),
        Figure(name="controller without a box", value=found["alone"], unit="MB", floor="bare pypy3", floor_value=bare),
        Figure(name="controller with its caches", value=found["warm"], unit="MB", floor="bare pypy3", floor_value=bare),
    ]
    if found["guest"]:
        figures.append(Figure(name="guest", value=found["guest"], unit="MB", floor="bare pypy3", floor_value=bare))
    return figures
