"""Compile the stand-in for a translated PyPy (client.c), with the standard library only. Tests and benchmarks call
it.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "client.c"
PROGRAM = SOURCE.with_name("program.c")
#: The names that upstream uses in a build of Python 3.
LIBRARY, ENTRY = "libpypy3-c.so", "pypy_main_startup"
FLAGS = ("-std=c11", "-O2", "-g0", "-Wall", "-Wextra")


def compiler() -> list[str]:
    """The compiler as the start of a command line: $CC (which may hold options), else gcc, else cc."""
    if named := shlex.split(os.environ.get("CC", "")):
        return named
    for name in ("gcc", "cc"):
        if path := shutil.which(name):
            return [path]
    raise FileNotFoundError("no C compiler was found: looked for $CC, gcc and cc")


def client(folder: Path, *, single: bool = False, static: bool = False) -> Path:
    """Compile the client into `folder`, and return its path. Files are replaced atomically, so several processes may
    build.

    Like a real build it is a small program with a library beside it (rpath $ORIGIN) that contains all the rest.

    single: in one file. static: in one file, without a loader.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if single or static:
        return _compile(folder / ("client-static" if static else "client"), SOURCE, *(["-static"] if static else []))
    shared = ("-shared", "-fPIC", f"-Dmain={ENTRY}", f"-Wl,-soname,{LIBRARY}")
    library = _compile(folder / LIBRARY, SOURCE, *shared)
    return _compile(folder / "client", PROGRAM, str(library), "-Wl,-rpath,$ORIGIN/")


def _compile(output: Path, *words: str | Path) -> Path:
    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    command = [*compiler(), *FLAGS, "-o", str(fresh), *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr or done.stdout}")
        os.replace(fresh, output)
    finally:
        fresh.unlink(missing_ok=True)
    return output


if __name__ == "__main__":
    print(client(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
