"""Compiled files of packages. A box cannot write them, so without them each program compiles the sources again."""

import functools
import glob
import os
import shlex
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from proxybox.controller.errors import PackagesError, warn

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest

#: The most entries of a folder that are checked: modules and packages; of a package, one file is checked.
_MOST = 1000
_SECONDS = 900
#: PEP 552: the magic number, flags, and then the source's time and size or its hash.
_HEAD = struct.Struct("<4sIII")
_HAS_HASH = 1
#: The most names in a message; of further names, it has only the number.
_TOLD = 3


def not_compiled(folder: str, tag: str) -> list[str]:
    """Returns the modules and packages in a folder whose compiled file for an interpreter is missing or stale.

    tag: its sys.implementation.cache_tag. For a package, only its `__init__.py` is checked.
    """
    return [name for name, source in _sources(folder) if not _is_compiled(source, tag)]


def _sources(folder: str) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(os.listdir(folder))[:_MOST]
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if name.endswith(".py"):
            yield name.removesuffix(".py"), path
        elif name.isidentifier() and os.path.isfile(f"{path}/__init__.py"):
            yield name, f"{path}/__init__.py"


def _is_compiled(source: str, tag: str) -> bool:
    above, name = os.path.split(source)
    compiled = f"{above}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc"
    try:
        seen = os.stat(source)
        if not (seen.st_size and os.path.isfile(compiled)):
            return not seen.st_size
        with open(compiled, "rb") as file:
            _, flags, time, size = _HEAD.unpack(file.read(_HEAD.size))
    except (OSError, struct.error):
        return False
    return bool(flags & _HAS_HASH) or (time, size) == (int(seen.st_mtime) & 0xFFFFFFFF, seen.st_size & 0xFFFFFFFF)


def warn_of(guest: "Guest") -> None:
    """Warns of installed packages of a guest that are not compiled (ProxyboxWarning), once in a process.

    There is no warning for a folder without installed packages: its files may be changed by their author.

    Workers of pools and of grading do not warn: the process that has started them has warned.
    """
    processes = sys.modules.get("multiprocessing.process")
    if processes is None or processes.parent_process() is None:
        for folder in guest.packages:
            _warn(folder, guest.name, guest.cache_tag, guest.executable)


@functools.lru_cache(maxsize=256)
def _warn(folder: str, name: str, tag: str, executable: str) -> None:
    found = not_compiled(folder, tag)
    if found and glob.glob(f"{glob.escape(folder)}/*.dist-info"):
        more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        warn(
            f"{folder}: not compiled for {name}: {', '.join(found[:_TOLD])}{more}. Each program compiles what it "
            "imports of them. Compile them once: "
            f"proxybox packages compile {shlex.quote(folder)} --guest {shlex.quote(executable)}"
        )


def compile_all(folder: str, guest: "Guest") -> None:
    """Compiles the packages in a folder, by an interpreter in a box that can write only to this folder.

    The compiled files are not checked against their sources (PEP 552, unchecked hashes). Files that are not Python are
    left out. Raises SandboxStartError, and PackagesError if files were not compiled.
    """
    from proxybox.controller.boxes.box import BoxRunner
    from proxybox.controller.boxes.worldbuilding import BoxFolder
    from proxybox.policies import Filesystem, Limits, Policy

    limits = Limits(wall_time=_SECONDS, cpu_time=_SECONDS, memory="2G", disk="8G", files=None, calls=None)
    policy = Policy(limits=limits, filesystem=Filesystem(box="rw"))
    words = ("-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "/box")
    BoxRunner(policy, guest).run(words, folder=BoxFolder(folder=folder))
    left = not_compiled(folder, guest.cache_tag)
    if left:
        raise PackagesError(f"{folder}: could not be compiled for {guest.name}: {', '.join(left[:_TOLD])}")
