"""Recognises a translated guest, and checks before any start that it can be served.

RPython writes a text into such a program, which the program prints when it is started with RPY_SANDBOX_DUMP=1: the
version of its wire, its platform, and every function of libc that it can call. The text is read from the file, and the
program is not run. If the text is false, that does no harm: libc.py's tables decide on each call.
"""

import errno
import functools
import mmap
import os
import re
import stat
import struct
from typing import Final

import attrs

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests import programs
from proxybox.controller.guests.pypy import VERSIONS
from proxybox.controller.guests.translated import functions as _functions  # noqa: F401 - fills libc's tables
from proxybox.controller.guests.translated.guest import LIBRARIES, TranslatedPyPy
from proxybox.controller.guests.translated.libc import is_answered

#: A program that was translated with --sandbox contains this, or the library beside it, which has all but its `main`.
_MARK: Final = b"RPY_SANDBOX_DUMP"
_LIBRARY: Final = re.compile(rb"libpypy([0-9.]*)-c\.so")
#: The text that it would print, and its beginning; then the beginning of its sys.version.
_TOLD: Final = re.compile(rb"Version: (.{0,20})\nPlatform: (.{0,20})\nFuncs: ([^\n\0]*)[\n\0]")
_TOLD_BEGINS: Final = b"Version: "
_PYTHON: Final = re.compile(rb"(\d)\.(\d{1,2})\.\d{1,3} \([^()\n\0]*$")
_PYTHON_ENDS, _PYTHON_LENGTH = b")\n[PyPy ", 100
_VERSION, _PLATFORMS = "20001", ("linux", "linux2")
_FUNCTION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\([ipf]*v?\)[ipfv]")
#: The most bytes of its list of functions; upstream's has 3,000.
_MOST: Final = 1 << 16
#: The most places in a file where that text could begin; upstream's have fewer than ten.
_MOST_PLACES: Final = 10_000
#: The most bytes of a program or library; upstream's have 30 to 60 million.
_LARGEST: Final = 1 << 30
#: Python's library can be in the program's folder, or in one of this number of folders above it.
_ABOVE: Final = 6
#: Versions in the names of libraries of ordinary PyPys, which are never translated with --sandbox: these libraries are
#: not searched.
_ORDINARY: Final = {f"{major}.{minor}" for major, minor in VERSIONS}


@attrs.frozen
class Build:
    """The text in a build. version: of the Python language. functions: those of libc that it can call."""

    version: tuple[int, int]
    functions: tuple[str, ...]


def find_translated(found: str, executable: str, library: str | None = None) -> TranslatedPyPy | None:
    """Returns the guest if the program is a translated PyPy, None if it is another kind of program.

    library: the folder that holds lib-python and lib_pypy.

    Raises SandboxStartError, which names what is missing, for a guest that cannot be served.
    """
    try:
        holder: tuple[str, int, int, int, int] | None = _identity(executable)
        with open(executable, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(_MARK) < 0:
                holder = _library_beside(executable, data)
            is_dynamic = programs.is_dynamic(data)
    except (OSError, ValueError, struct.error):
        return None
    if holder is None:
        return None
    if not is_dynamic:
        raise SandboxStartError(
            f"{found}: a statically linked program: it could not be sealed before its `main`. Link it dynamically"
        )
    build = _build(*holder)
    home = _home(found, executable, library, LIBRARIES[build.version[0]])
    unknown = tuple(each for each in build.functions if not is_answered(each))
    return TranslatedPyPy(executable, build.version, home, functions=build.functions, unknown=unknown)


def _identity(path: str) -> tuple[str, int, int, int, int]:
    """Returns values that change when the file is replaced.

    Raises OSError, also when it is not a regular file, since opening another kind of file might wait, or when it has
    more bytes than are searched.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    if status.st_size > _LARGEST:
        raise OSError(errno.EFBIG, "larger than any build", path)
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
def _build(holder: str, *_: int) -> Build:
    """Returns the text in a build, parsed; the answer is cached until the file changes. Raises SandboxStartError."""
    try:
        with open(holder, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            answers, python = _answers(data), _python(data)
    except (OSError, ValueError) as error:
        raise SandboxStartError(f"{holder}: cannot be read: {error}") from None
    if answers is None:
        raise SandboxStartError(f"{holder}: does not say which functions it can call (RPY_SANDBOX_DUMP)")
    version, platform, listed = (each.decode("ascii", "backslashreplace") for each in answers)
    if version != _VERSION:
        raise SandboxStartError(f"{holder}: version {version!r} of the sandbox's wire; known: {_VERSION}")
    if platform not in _PLATFORMS:
        raise SandboxStartError(f"{holder}: platform {platform!r} of the sandbox's wire; known: {_PLATFORMS[0]}")
    functions = tuple(dict.fromkeys(listed.split()))
    if not functions or not all(map(_FUNCTION.fullmatch, functions)):
        raise SandboxStartError(f"{holder}: its list of functions (RPY_SANDBOX_DUMP) makes no sense")
    if python is None or python[0] not in LIBRARIES:
        raise SandboxStartError(f"{holder}: does not say which version of Python it is")
    return Build(python, functions)


def _answers(data: mmap.mmap) -> tuple[bytes, bytes, bytes] | None:
    at = data.find(_TOLD_BEGINS)
    for _ in range(_MOST_PLACES):
        if at < 0:
            break
        if found := _TOLD.match(data, at, min(len(data), at + _MOST)):
            return found[1], found[2], found[3]
        at = data.find(_TOLD_BEGINS, at + 1)
    return None


def _python(data: mmap.mmap) -> tuple[int, int] | None:
    """Returns the version in its sys.version, such as `3.6.9 (...)` before `[PyPy 7.2.0`."""
    at = data.find(_PYTHON_ENDS)
    found = _PYTHON.search(data[max(0, at - _PYTHON_LENGTH) : at]) if at >= 0 else None
    return None if found is None else (int(found[1]), int(found[2]))


def _home(found: str, executable: str, library: str | None, name: str) -> str:
    """Returns the folder with lib-python and lib_pypy. name: the folder of Python's own library in it."""
    if library is not None:
        candidates = [os.path.realpath(library)]
    else:
        candidates = [os.path.dirname(executable)]
        for _ in range(_ABOVE):
            candidates.append(os.path.dirname(candidates[-1]))
    for folder in candidates:
        if os.path.isdir(f"{folder}/{name}") and os.path.isdir(f"{folder}/lib_pypy"):
            return folder
    where = f"in {library}" if library is not None else "beside it or in a folder above"
    raise SandboxStartError(
        f"{found}: its library ({name} and lib_pypy) is not {where}: name the folder that holds both "
        "with --guest-library or PROXYBOX_GUEST_LIBRARY"
    )
