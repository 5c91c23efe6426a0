"""Recognises a translated guest, and checks before any start that it can be served.

Such a program prints what it is and every function that it can call when it is started with RPY_SANDBOX_DUMP=1. That is
the interpreter's own word, given before it runs anything untrusted, as the version of any interpreter is. It runs
outside of any box then: only a file that the caller has named, or that stands in an absolute folder of PATH, is asked,
and it has little to do harm with.
"""

import errno
import functools
import mmap
import os
import re
import select
import signal
import stat
import struct
import subprocess
import sys
from typing import Final

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests.guest import VERSIONS, Guest
from proxybox.controller.guests.translated.libc import is_answered

#: What has it in it knows the question: the program, or the library beside it that holds all but its `main`.
_MARK = b"RPY_SANDBOX_DUMP"
_LIBRARY = re.compile(rb"libpypy([0-9.]*)-c\.so")
_VERSIONS, _PLATFORMS = ("20001",), ("linux", "linux2")
_DUMP_SECONDS, _MOST_TOLD, _MOST_NAMED = 20, 1 << 20, 20
#: A process of its own sets the limits: between fork and exec nothing of a process with threads may run. RLIMIT_FSIZE
#: bounds the answer, which goes to a file of memory. NPROC does not count for root.
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
_PT_INTERP = 3
#: Where its library can stand: beside the program, or in one of the folders above it.
_ABOVE = 6
#: In names of libraries of PyPys that nobody translates with --sandbox: these are not searched.
_ORDINARY = {f"{major}.{minor}" for major, minor in VERSIONS}
_PYTHONS = {"lib-python/3": (3, 6), "lib-python/2.7": (2, 7)}


def find_translated(found: str, executable: str, library: str | None = None) -> Guest | None:
    """The guest, where the program is one; None where it is another kind of program. library: the folder that holds
    lib-python and lib_pypy.

    Raises SandboxStartError for one that cannot be served, with what is missing.
    """
    try:
        parts = [_identity(executable)]
        with open(executable, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(_MARK) < 0:
                beside = _library_beside(executable, data)
                if beside is None:
                    return None
                parts.append(beside)
            is_dynamic = _is_dynamic(data)
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
    return Guest(executable, python, home, functions=functions)


def _identity(path: str) -> tuple[str, int, int, int, int]:
    """Changes when the file is another. Raises OSError, also where it is none that can be opened without waiting."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _library_beside(executable: str, data: mmap.mmap) -> tuple[str, int, int, int, int] | None:
    """The library of a build in two files, as upstream's makefile leaves them: the small program finds it by its rpath,
    $ORIGIN. None where it is another program. Raises OSError."""
    needed = _LIBRARY.search(data)
    if needed is None or needed[1].decode() in _ORDINARY:
        return None
    library = _identity(os.path.join(os.path.dirname(executable), needed[0].decode()))
    return library if _has_mark(*library) else None


@functools.lru_cache(maxsize=8)
def _has_mark(library: str, *_: int) -> bool:
    """Some 60 MB are searched; again when the file is another."""
    with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(_MARK) >= 0


def _is_dynamic(data: mmap.mmap) -> bool:
    """Whether the kernel starts a loader for it, which preloads (elf(5))."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    return any(struct.unpack_from("<I", data, table + size * number)[0] == _PT_INTERP for number in range(count))


@functools.lru_cache(maxsize=8)
def _dump(executable: str, *_: tuple[str, int, int, int, int]) -> tuple[str, ...]:
    """The functions that it can call; asked again when one of its files is another."""
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
    """What it prints, in a neutral folder, without our environment. Raises OSError."""
    with open(os.memfd_create("dump"), "w+b") as answer:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _ASK, executable], cwd="/", stdin=subprocess.DEVNULL, stdout=answer,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            has_ended = _wait(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with what it may have started
            process.wait()
        if not has_ended:
            raise TimeoutError(f"it has not ended in {_DUMP_SECONDS} s")
        answer.seek(0)
        return answer.read(_MOST_TOLD)


def _wait(pid: int) -> bool:
    """Whether a child ends in time; it is not reaped yet, so that its number stays its own."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(_DUMP_SECONDS * 1000))
    finally:
        os.close(pidfd)


def _home(found: str, executable: str, library: str | None) -> str:
    """The folder with lib-python and lib_pypy."""
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
