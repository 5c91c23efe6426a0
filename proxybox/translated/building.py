"""Translates a PyPy with --sandbox from its source, and installs it.

RPython is a program for Python 2 that takes about an hour. It runs outside of any box, like make. Use it only with a
source that you would also trust to run its Makefile.
"""

import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from proxybox.controller.errors import PackagesError
from proxybox.controller.guests.guest import Guest
from proxybox.controller.guests.programs import on_path
from proxybox.controller.guests.translated.installed import PROGRAMS
from proxybox.packages.watching import Watcher
from proxybox.translated.installing import install, local

#: Interpreters of Python 2, the fastest first; a CPython takes some hours.
_PYTHON_2: Final = ("pypy2.7", "pypy2", "pypy", "python2.7", "python2")
_COMPILERS: Final = ("gcc", "cc")
#: Bytes of memory and of disk that a translation takes.
_MEMORY, _DISK = 6 << 30, 3 << 30
_GOAL: Final = "pypy/goal"
_NEEDED: Final = ("rpython/bin/rpython", f"{_GOAL}/targetpypystandalone.py", "lib_pypy", "lib-python")
#: A text in the sandbox translator of branches whose protocol is known here.
_SANDBOX, _MARK = "rpython/translator/sandbox", "RPY_SANDBOX_DUMP"
_BRANCHES: Final = "https://foss.heptapod.net/pypy/pypy, branch py3.6-sandbox-2"


@attrs.frozen
class BuildPlan:
    """A translation that can begin. source: its folder. python: the interpreter of Python 2."""

    source: str
    python: str

    def command(self) -> list[str]:
        """The command of the translation, which begins in the folder pypy/goal of the source."""
        return [self.python, "../../rpython/bin/rpython", "--batch", "-O2", "--sandbox", "targetpypystandalone.py"]


def plan(source: str | os.PathLike[str]) -> BuildPlan:
    """Returns the plan of a translation. Raises PackagesError, which names all that is missing."""
    folder = os.path.abspath(source)
    python = _python_2()
    missing = list(_missing(folder, python))
    if missing:
        raise PackagesError(f"{folder} cannot be translated here:\n" + "\n".join(f"  - {each}" for each in missing))
    return BuildPlan(folder, python or "")


def _python_2() -> str | None:
    """Returns an interpreter of Python 2; None if there is none.

    Each is started, because a name alone says little: `pypy` may be a PyPy of Python 3, and version managers install
    scripts with such names that start nothing.
    """
    found = filter(None, map(on_path, _PYTHON_2))
    return next((each for each in found if _runs(each, "import sys; sys.exit(sys.version_info[0] != 2)")), None)


def _runs(python: str, code: str) -> bool:
    return not subprocess.run([python, "-c", code], capture_output=True, check=False, cwd="/").returncode


def _missing(folder: str, python: str | None) -> Iterator[str]:
    lacks = [name for name in _NEEDED if not os.path.exists(os.path.join(folder, name))]
    if lacks:
        yield f"it has no {', '.join(lacks)}: want the source of PyPy ({_BRANCHES})"
    elif not any(_MARK in _text(path) for path in _sources(folder)):
        yield f"its RPython does not say what it calls ({_MARK}): want {_BRANCHES}"
    if python is None:
        yield f"there is no Python 2 to translate it with: install one of {', '.join(_PYTHON_2[:4])}"
    elif not _runs(python, "import cffi, pycparser"):
        yield f"{python} has no cffi: {python} -m ensurepip && {python} -m pip install cffi"
    if on_path(*_COMPILERS) is None:
        yield "there is no C compiler: apt install gcc libffi-dev pkg-config"
    elif on_path("make") is None:
        yield "there is no make: apt install make"
    if (memory := _available_memory()) < _MEMORY:
        yield f"it takes {_MEMORY >> 30} GiB of memory, and {memory / (1 << 30):.1f} GiB are available"
    if os.path.isdir(folder):
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < _DISK:
            yield f"it takes {_DISK >> 30} GiB of disk, and {folder} has less"
        elif not os.access(folder, os.W_OK):
            yield f"{folder} cannot be written to: the translation leaves its files there"


def _sources(folder: str) -> list[str]:
    place = os.path.join(folder, _SANDBOX)
    return [os.path.join(above, name) for above, _, names in os.walk(place) for name in names]


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(1 << 20)


def _available_memory() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        status = dict(line.split(":", 1) for line in file)
    return int(status["MemAvailable"].split()[0]) * 1024


def build(made: BuildPlan, watcher: Watcher | None = None) -> Guest:
    """Translates, and installs the result. The output of the translation goes to this process's own streams.

    Raises PackagesError when it has failed.
    """
    watcher = watcher or Watcher()
    watcher.tell(f"translating {made.source}: this takes about an hour")
    done = subprocess.run(made.command(), cwd=os.path.join(made.source, _GOAL), stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise PackagesError(f"the translation has failed (exit status {done.returncode}); its last lines say why")
    archive = os.path.join(made.source, _GOAL, "proxybox-build.tar")
    try:
        _pack(made.source, archive)
        return install(local([archive]), watcher)
    finally:
        Path(archive).unlink(missing_ok=True)


def _pack(source: str, archive: str) -> None:
    """Packs the files of a build into an archive, so that it is installed like a build from elsewhere."""
    goal = os.path.join(source, _GOAL)
    with tarfile.open(archive, "w") as packed:
        for name in (each for program in PROGRAMS for each in (program, f"lib{program}.so")):
            if os.path.isfile(os.path.join(goal, name)):
                packed.add(os.path.join(goal, name), name)
        for name in ("lib-python", "lib_pypy"):
            packed.add(os.path.join(source, name), name, filter=_without_links)


def _without_links(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return member if member.isfile() or member.isdir() else None
