"""Recognises a translated guest, and checks before any start that it can be served.

When such a program is started with RPY_SANDBOX_DUMP=1, it prints what it is and every function that it can call. The
interpreter says this before it runs anything untrusted, so it is as reliable as any interpreter's version. The program
runs outside of any box then. So only a file that the caller has named, or one in an absolute folder of PATH, is
started, within limits that let it do little harm.
"""

import errno
import functools
import mmap
import os
import re
import signal
import stat
import struct
import subprocess
import sys
from typing import Final

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests import programs
from proxybox.controller.guests.pypy import VERSIONS
from proxybox.controller.guests.translated.guest import TranslatedPyPy
from proxybox.controller.guests.translated.libc import is_answered
from proxybox.controller.pidfd import has_ended, open_pidfd

#: Whatever contains this understands the variable: the program, or the library beside it that holds all but its `main`.
_MARK = b"RPY_SANDBOX_DUMP"
_LIBRARY = re.compile(rb"libpypy([0-9.]*)-c\.so")
_VERSIONS, _PLATFORMS = ("20001",), ("linux", "linux2")
_DUMP_SECONDS, _MOST_TOLD, _MOST_NAMED = 20, 1 << 20, 20
#: A separate process sets the limits, because between fork and exec no code of a process with threads may run.
#: RLIMIT_FSIZE bounds the answer, which goes to a file in memory. RLIMIT_NPROC does not bind root.
_ASK: Final = f"""\
import os, sys
from resource import *
for kind, most in (RLIMIT_CPU, 10), (RLIMIT_AS, 4 << 30), (RLIMIT_FSIZE, {_MOST_TOLD}), (RLIMIT_NPROC, 0), \\
                  (RLIMIT_NOFILE, 64), (RLIMIT_CORE, 0):
    hard = getrlimit(kind)[1]
    setrlimit(kind, (most, most) if hard == RLIM_INFINITY else (min(most, hard),) * 2)
os.execve(sys.argv[1], sys.argv[1:], {{"RPY_SANDBOX_DUMP": "1"}})
"""
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\([ipf]*v?\)[ipfv]")
#: Its library can be in the program's folder, or in one of this number of folders above it.
_ABOVE = 6
#: Versions in the names of libraries of ordinary PyPys, which are never translated with --sandbox: these libraries are
#: not searched.
_ORDINARY = {f"{major}.{minor}" for major, minor in VERSIONS}
_PYTHONS = {"lib-python/3": (3, 6), "lib-python/2.7": (2, 7)}


def find_translated(found: str, executable: str, library: str | None = None) -> TranslatedPyPy | None:
    """Returns the guest if the program is a translated PyPy, None if it is another kind of program.

    library: the folder that holds lib-python and lib_pypy.

    Raises SandboxStartError with what is missing, for a guest that cannot be served.
    """
    try:
        parts = [_identity(executable)]
        with open(executable, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(_MARK) < 0:
                beside = _library_beside(executable, data)
                if beside is None:
                    return None
                parts.append(beside)
            is_dynamic = programs.is_dynamic(data)
    except (OSError, ValueError, struct.error):
        return None
    if not is_dynamic:
        raise SandboxStartError(
            f"{found}: a statically linked program: it could not be sealed before its `main`. Link it dynamically"
        )
    functions = _dump(executable, *parts)
    missing = [each for each in functions if not is_answered(each)]
    if missing:
        more = f", and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        named = ", ".join(missing[:_MOST_NAMED])
        raise SandboxStartError(f"{found}: calls functions that are not known here: {named}{more}")
    home = _home(found, executable, library)
    python = next(version for name, version in _PYTHONS.items() if os.path.isdir(os.path.join(home, name)))
    return TranslatedPyPy(executable, python, home, functions=functions)


def _identity(path: str) -> tuple[str, int, int, int, int]:
    """Returns values that change when the file is replaced.

    Raises OSError, also when it is not a regular file: opening another kind of file might wait.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _library_beside(executable: str, data: mmap.mmap) -> tuple[str, int, int, int, int] | None:
    """Returns the identity of the library of a build in two files, or None for another program.

    Upstream's makefile leaves such a build: the small program finds the library by its rpath, $ORIGIN. Raises
    OSError.
    """
    needed = _LIBRARY.search(data)
    if needed is None or needed[1].decode() in _ORDINARY:
        return None
    library = _identity(os.path.join(os.path.dirname(executable), needed[0].decode()))
    return library if _has_mark(*library) else None


@functools.lru_cache(maxsize=8)
def _has_mark(library: str, *_: int) -> bool:
    """Whether the library contains the mark. It has some 60 MB, so the result is cached until the file changes."""
    with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(_MARK) >= 0


@functools.lru_cache(maxsize=8)
def _dump(executable: str, *_: tuple[str, int, int, int, int]) -> tuple[str, ...]:
    """Returns the functions that the program can call; the answer is cached until one of its files changes."""
    try:
        text = _ask(executable).decode("ascii", "replace")
    except OSError as error:
        raise SandboxStartError(f"{executable}: does not say what it can call (RPY_SANDBOX_DUMP=1): {error}") from None
    told = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    for key, known in (("Version", _VERSIONS), ("Platform", _PLATFORMS)):
        if told.get(key, "").strip() not in known:
            raise SandboxStartError(
                f"{executable}: {key.lower()} {told.get(key, 'unknown')!r} of the sandbox's wire; "
                f"known: {', '.join(known)}"
            )
    functions = tuple(dict.fromkeys(told.get("Funcs", "").split()))
    if not functions or not all(map(_FUNCTION.fullmatch, functions)):
        raise SandboxStartError(f"{executable}: its list of functions (RPY_SANDBOX_DUMP=1) makes no sense")
    return functions


def _ask(executable: str) -> bytes:
    """Returns what the program prints, run in / without the controller's environment. Raises OSError."""
    with open(os.memfd_create("dump"), "w+b") as answer:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ASK, executable], cwd="/", stdin=subprocess.DEVNULL, stdout=answer,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            has_ended = _wait(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with any processes that it has started
            process.wait()
        if not has_ended:
            raise TimeoutError(f"it has not ended in {_DUMP_SECONDS} s")
        answer.seek(0)
        return answer.read(_MOST_TOLD)


def _wait(pid: int) -> bool:
    """Whether a child ends in time. The child is not reaped yet, so that its process id stays its own."""
    pidfd = open_pidfd(pid)
    try:
        return has_ended(pidfd, _DUMP_SECONDS * 1000)
    finally:
        os.close(pidfd)


def _home(found: str, executable: str, library: str | None) -> str:
    """Returns the folder with lib-python and lib_pypy."""
    if library is not None:
        candidates = [os.path.realpath(library)]
    else:
        candidates = [os.path.dirname(executable)]
        for _ in range(_ABOVE):
            candidates.append(os.path.dirname(candidates[-1]))
    for folder in candidates:
        if any(os.path.isdir(os.path.join(folder, name)) for name in _PYTHONS) and os.path.isdir(f"{folder}/lib_pypy"):
            return folder
    where = f"in {library}" if library is not None else "beside it or in a folder above"
    raise SandboxStartError(
        f"{found}: its library (lib-python and lib_pypy) is not {where}: name the folder that holds both "
        "with --guest-library or PROXYBOX_GUEST_LIBRARY"
    )
