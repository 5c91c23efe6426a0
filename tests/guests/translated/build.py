"""Compile the stand-in for a translated PyPy (client.c). The standard library only: tests and benchmarks call it."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "client.c"
FLAGS = ("-std=c11", "-O2", "-g0", "-Wall", "-Wextra")


def compiler() -> list[str]:
    """The compiler as the start of a command line: $CC (which may hold options), else gcc, else cc."""
    if named := shlex.split(os.environ.get("CC", "")):
        return named
    for name in ("gcc", "cc"):
        if path := shutil.which(name):
            return [path]
    raise FileNotFoundError("no C compiler was found: looked for $CC, gcc and cc")


def client(folder: Path, *, static: bool = False) -> Path:
    """Compile the client into `folder`, and return its path. It appears whole, so several may build it at once."""
    program = folder / ("client-static" if static else "client")
    fresh = folder / f".{program.name}.{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    command = [*compiler(), *FLAGS, *(["-static"] if static else []), "-o", str(fresh), str(SOURCE)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr or done.stdout}")
        os.replace(fresh, program)
    finally:
        fresh.unlink(missing_ok=True)
    return program


if __name__ == "__main__":
    print(client(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
