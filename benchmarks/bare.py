"""The peers: interpreters that run a program without any box."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import proxybox

#: Of every PyPy that is measured, in a box (limits.nursery) or not: what it takes by itself depends on the cache.
NURSERY = 32 << 20
os.environ["PYPY_GC_NURSERY"] = os.environ["PYPY_GC_MIN"] = str(NURSERY)

PROGRAMS = Path(__file__).resolve().parent / "programs"


def pypy() -> str:
    """The interpreter that boxes run, as a program of the host. Raises SandboxStartError."""
    with proxybox.Sandbox() as box:
        return box.guest().executable


def python() -> str:
    """The CPython that the controller runs on."""
    return sys.executable


def bare_json(interpreter: str, program: str, *arguments: object, folder: str | os.PathLike[str] | None = None) -> Any:
    """Runs a program of `programs/` without a box and returns the JSON that it prints."""
    command = [interpreter, str(PROGRAMS / program), *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=folder).stdout)


def boxed_json(program: str, *arguments: object, **options: Any) -> Any:
    """Runs a program of `programs/` in a box with the default policy, but for `options`; its JSON."""
    source = (PROGRAMS / program).read_text()
    limits = {"nursery": NURSERY, **options.pop("limits", {})}
    result = proxybox.run(source, [str(each) for each in arguments], check=True, limits=limits, **options)
    return json.loads(result.stdout)
