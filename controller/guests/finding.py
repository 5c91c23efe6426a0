"""Finds the interpreter that runs as guest.

A guest is a PyPy of Python 3.9 to 3.11: the distribution's, or an unpacked release. It is recognised by its files,
without being run; only a translated PyPy is run once (translated/finding.py).
"""

import functools
import os
import re

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests.guest import VERSIONS, Guest

VARIABLE, LIBRARY_VARIABLE = "PROXYBOX_GUEST", "PROXYBOX_GUEST_LIBRARY"
_LIBPYPY = re.compile(rb"libpypy(3\.\d+)?-c\.so")
_ELF_X86_64 = re.compile(rb"\x7fELF\x02\x01.{12}\x3e\x00", re.DOTALL)

_INSTALL = "install it (Debian, Ubuntu: apt install pypy3), or name one with --guest PATH or " + VARIABLE


def find_guest(path: str | os.PathLike[str] | None = None, library: str | os.PathLike[str] | None = None) -> Guest:
    """Returns the interpreter at `path`, or else that of $PROXYBOX_GUEST, or else pypy3.

    A name without "/" is looked up in the absolute folders of PATH. library: the library of a translated guest; without
    it, that of $PROXYBOX_GUEST_LIBRARY or the one beside the guest.

    Raises SandboxStartError with the reason and what to do, for anything that cannot be a guest.
    """
    named = (_variable(VARIABLE) if path is None else absolute_guest(path)) or "pypy3"
    found = named if "/" in named else _on_path(named)
    if not found:
        raise SandboxStartError(f"no {named} was found on PATH: {_INSTALL}")
    if os.path.isdir(found):
        found = _in_release(found)
    executable = os.path.realpath(found)
    if not _is_installed(executable):
        from proxybox.controller.guests.translated.finding import find_translated

        home = _variable(LIBRARY_VARIABLE, is_searched=False) if library is None else os.fspath(library)
        translated = find_translated(found, executable, home)
        if translated is not None:
            return translated
    version = _pypy_version(found, executable)
    for library, prefix in _libraries(executable, version):
        if os.path.isfile(f"{library}/os.py"):
            return Guest(executable, version, library, prefix, _environment_packages(found, version))
    raise SandboxStartError(
        f"{found}: this PyPy's standard library (lib/pypy{version[0]}.{version[1]}/os.py) is not beside it: "
        "name the program inside its unpacked release, not a copy of it"
    )


def absolute_guest(path: str | os.PathLike[str]) -> str:
    """Makes what a caller has named independent of the working directory.

    A str without "/" is returned as it is, because it is looked up on PATH. Anything else is a path and becomes
    absolute.
    """
    return path if isinstance(path, str) and "/" not in path else os.path.abspath(path)


def _variable(name: str, *, is_searched: bool = True) -> str | None:
    """Returns what an environment variable names.

    is_searched: a name without "/" is allowed, and is looked up on PATH.

    Raises SandboxStartError for a relative path: the variable is set once, and would mean another file in each
    folder.
    """
    value = os.environ.get(name)
    if value and not os.path.isabs(value) and ("/" in value or not is_searched):
        raise SandboxStartError(
            f"{name}={value}: a relative path, which is another one in each folder: make it absolute"
        )
    return value


def _on_path(name: str) -> str | None:
    """Returns the path of the program of that name; None where there is none.

    Empty and relative entries of PATH are left out: the working directory may hold anybody's programs. (shutil.which
    would import all that packs and unpacks archives, too, at each start of a command.)
    """
    folders = filter(os.path.isabs, os.environ.get("PATH", "").split(os.pathsep))
    paths = (os.path.join(folder, name) for folder in (*folders, "/usr/bin", "/usr/local/bin"))
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def _in_release(folder: str) -> str:
    """Returns the program of an unpacked release; the folder itself where there is none, or where it cannot be read."""
    programs = os.path.join(folder, "bin")
    try:
        names = sorted(name for name in os.listdir(programs) if name.startswith("pypy3"))
    except OSError:
        return folder
    return next(filter(os.path.isfile, (os.path.join(programs, name) for name in names)), folder)


def _is_installed(executable: str) -> bool:
    """Whether the program is in the folder of the distribution's programs.

    These are never translated with --sandbox, so the file need not be searched for the mark of such a program.
    """
    return executable.startswith("/usr/bin/")


def _pypy_version(found: str, executable: str) -> tuple[int, int]:
    """Returns the version of the Python language of the executable."""
    try:
        status = os.stat(executable)
    except OSError as error:
        raise SandboxStartError(f"{found}: cannot be read ({error.strerror}): {_INSTALL}") from error
    return _version_of(found, executable, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _version_of(found: str, executable: str, *_: int) -> tuple[int, int]:
    """Reads the version from the name of the library that the executable needs.

    The result is cached until the file changes.
    """
    try:
        with open(executable, "rb") as file:
            head = file.read(1 << 20)
    except OSError as error:
        raise SandboxStartError(f"{found}: cannot be read ({error.strerror}): {_INSTALL}") from error
    if not _ELF_X86_64.match(head):
        raise SandboxStartError(f"{found}: not an x86-64 program of Linux: {_INSTALL}")
    match = _LIBPYPY.search(head)
    if match is None:
        raise SandboxStartError(
            f"{found}: not a PyPy (it does not need libpypy3.*-c.so); a box needs PyPy 3.9 to 3.11: {_INSTALL}"
        )
    # The name of a distribution's library may have no version; then the program's name has it.
    named = re.search(r"pypy(3\.\d+)", executable)
    spoken = match[1].decode() if match[1] else named[1] if named else ""
    if not spoken:
        raise SandboxStartError(f"{found}: a PyPy of Python 2; a box needs PyPy 3.9 to 3.11: {_INSTALL}")
    major, minor = spoken.split(".")
    version = (int(major), int(minor))
    if version not in VERSIONS:
        raise SandboxStartError(
            f"{found}: a PyPy of Python {version[0]}.{version[1]}; a box needs 3.9 to 3.11: {_INSTALL}"
        )
    return version


def _libraries(executable: str, version: tuple[int, int]) -> list[tuple[str, str | None]]:
    """Returns the folders where the standard library can be, each with the prefix of a release or None."""
    name = f"pypy{version[0]}.{version[1]}"
    above = os.path.dirname(os.path.dirname(executable))
    candidates: list[tuple[str, str | None]] = []
    if above == "/usr":
        candidates += [(f"/usr/lib/{name}", None)]
    return [*candidates, (f"{above}/lib/{name}", above), (os.path.dirname(executable) + f"/../lib/{name}", above)]


def _environment_packages(found: str, version: tuple[int, int]) -> tuple[str, ...]:
    """Returns the packages of the virtual environment whose interpreter is `found` (PEP 405)."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(found)))
    folder = f"{root}/lib/pypy{version[0]}.{version[1]}/site-packages"
    return (folder,) if os.path.isfile(f"{root}/pyvenv.cfg") and os.path.isdir(folder) else ()
