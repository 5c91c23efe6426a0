"""The peers: interpreters that run a program without a box."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import proxybox

#: The nursery of every measured PyPy, in a box (limits.nursery) or not: PyPy's own choice depends on the CPU's cache.
NURSERY = 32 << 20
os.environ["PYPY_GC_NURSERY"] = os.environ["PYPY_GC_MIN"] = str(NURSERY)

PROGRAMS = Path(__file__).resolve().parent / "programs"


def pypy() -> str:
    """Returns the interpreter of boxes, as a program of the host. Raises SandboxStartError."""
    with proxybox.Sandbox() as box:
        return box.guest().executable


def python() -> str:
    """Returns the CPython that runs the controller."""
    return sys.executable


def bare_json(interpreter: str, program: str, *arguments: object, folder: str | os.PathLike[str] | None = None) -> Any:
    """Runs a program of `programs/` without a box and returns the JSON that it prints."""
    command = [interpreter, str(PROGRAMS / program), *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=folder).stdout)


def boxed_json(program: str, *arguments: object, **options: Any) -> Any:
    """Runs a program of `programs/` in a box with the default policy and `options`, and returns its JSON."""
    source = (PROGRAMS / program).read_text()
    limits = {"nursery": NURSERY, **options.pop("limits", {})}
    result = proxybox.run(source, [str(each) for each in arguments], check=True, limits=limits, **options)
    return json.loads(result.stdout)
