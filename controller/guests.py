"""Finds the interpreter that runs as guest, and says where its files stand for it.

A guest is a PyPy of Python 3.9 to 3.11: the distribution's, or an unpacked release. It is recognised by its files,
without running it.
"""

import functools
import os
import re
import shutil
from pathlib import Path

import attrs

from proxybox.controller.errors import SandboxStartError

VERSIONS = ((3, 9), (3, 10), (3, 11))
VARIABLE, LIBRARY_VARIABLE = "PROXYBOX_GUEST", "PROXYBOX_GUEST_LIBRARY"
#: Where a translated guest finds itself, with its library beside it.
TRANSLATED_HOME = "/usr/lib/pypy"
_LIBPYPY = re.compile(rb"libpypy(3\.\d+)?-c\.so")
_ELF_X86_64 = re.compile(rb"\x7fELF\x02\x01.{12}\x3e\x00", re.DOTALL)

_INSTALL = "install it (Debian, Ubuntu: apt install pypy3), or name one with --guest PATH or " + VARIABLE


@attrs.frozen
class Guest:
    """An interpreter.

    executable: on the host. version: of the Python language. library: host folder of the standard library.
    prefix: host folder of an unpacked release, None for a distribution's, whose paths are no secret.
    packages: host folders to put on sys.path (a virtual environment's). functions: of libc, which a PyPy that was
    translated with --sandbox marshals itself (translated/); its library is the folder of lib-python and lib_pypy.
    """

    executable: str
    version: tuple[int, int]
    library: str
    prefix: str | None = None
    packages: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()

    @property
    def is_translated(self) -> bool:
        """Whether it marshals its calls itself: it can be started, and nothing else."""
        return bool(self.functions)

    def visible(self, path: str) -> str:
        """The guest's view of a path of the interpreter's. A release stands at a path in the box that is not longer
        than its own (stub_hide.c replaces in place)."""
        if self.is_translated:
            return f"{TRANSLATED_HOME}/pypy-c"
        prefix = self.prefix
        if prefix is None or not f"{path}/".startswith(f"{prefix}/"):
            return path
        return _fitting(prefix) + path[len(prefix) :]

    @property
    def hidden(self) -> tuple[tuple[str, str], ...]:
        """Host folders whose paths the loader leaves in its memory, and what is to stand there instead."""
        folder = os.path.dirname(self.executable) if self.is_translated else self.prefix
        # Not the likes of /opt, which others' paths begin with.
        if folder is None or (self.is_translated and (folder.count("/") < 2 or folder.startswith("/usr/"))):
            return ()
        return ((folder, _fitting(folder)),)


def _fitting(folder: str) -> str:
    """A path for the guest to see, no longer than that one."""
    return next((seen for seen in ("/usr/lib/pypy", "/opt/pypy", "/pypy") if len(seen) <= len(folder)), "/p")


def require_bootstrap(guest: Guest) -> None:
    """Raises SandboxStartError for a guest that cannot be led from inside: one that was translated with --sandbox."""
    if guest.is_translated:
        raise SandboxStartError(
            f"{guest.executable}: a PyPy translated with --sandbox runs programs, each from its start: it has no "
            "sessions, copies, pools of warm boxes or host functions (docs/guests.md)"
        )


def find_guest(path: str | os.PathLike[str] | None = None, library: str | os.PathLike[str] | None = None) -> Guest:
    """The interpreter at `path`, else of $PROXYBOX_GUEST, else pypy3. A name without "/" is looked for in the absolute
    folders of PATH. library: of a translated guest, else $PROXYBOX_GUEST_LIBRARY, else what stands beside it.

    Raises SandboxStartError with the reason and what to do, for anything that cannot be a guest.
    """
    named = (_variable(VARIABLE) if path is None else absolute_guest(path)) or "pypy3"
    found = named if "/" in named else shutil.which(named, path=_folders_of_programs())
    if not found:
        raise SandboxStartError(f"no {named} was found on PATH: {_INSTALL}")
    if os.path.isdir(found):
        found = next((str(file) for file in sorted(Path(found, "bin").glob("pypy3*")) if file.is_file()), found)
    executable = os.path.realpath(found)
    if not _is_installed(executable):
        from proxybox.controller.translated.finding import find_translated

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
    """What a caller has named, so that it stays the same wherever somebody stands later: a str without "/" is looked
    for on PATH, and anything else is a path."""
    return path if isinstance(path, str) and "/" not in path else os.path.abspath(path)


def _variable(name: str, *, is_searched: bool = True) -> str | None:
    """What a variable of the environment names; is_searched: a name without "/" may be looked for on PATH.

    Raises SandboxStartError for a relative path: it is set once, and would be another file in each folder.
    """
    value = os.environ.get(name)
    if value and not os.path.isabs(value) and ("/" in value or not is_searched):
        raise SandboxStartError(
            f"{name}={value}: a relative path, which is another one in each folder: make it absolute"
        )
    return value


def _folders_of_programs() -> str:
    """PATH without empty and relative entries: the folder that somebody stands in may hold anybody's programs."""
    absolute = filter(os.path.isabs, os.environ.get("PATH", "").split(os.pathsep))
    return os.pathsep.join([*absolute, "/usr/bin", "/usr/local/bin"])


def _is_installed(executable: str) -> bool:
    """Whether it stands where distributions put theirs, which are none of that kind: nobody has to look into it."""
    return executable.startswith("/usr/bin/")


def _pypy_version(found: str, executable: str) -> tuple[int, int]:
    """Which Python the executable speaks."""
    try:
        status = os.stat(executable)
    except OSError as error:
        raise SandboxStartError(f"{found}: cannot be read ({error.strerror}): {_INSTALL}") from error
    return _version_of(found, executable, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _version_of(found: str, executable: str, *_: int) -> tuple[int, int]:
    """From the library that it needs, by its name; looked for again when the file is another."""
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
    # A distribution's library may carry no version in its name; the program's name does then.
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
    """Where the standard library can be: (folder, prefix of a release)."""
    name = f"pypy{version[0]}.{version[1]}"
    above = os.path.dirname(os.path.dirname(executable))
    candidates: list[tuple[str, str | None]] = []
    if above == "/usr":
        candidates += [(f"/usr/lib/{name}", None)]
    return [*candidates, (f"{above}/lib/{name}", above), (os.path.dirname(executable) + f"/../lib/{name}", above)]


def _environment_packages(found: str, version: tuple[int, int]) -> tuple[str, ...]:
    """The packages of the virtual environment that `found` is the interpreter of (PEP 405)."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(found)))
    folder = f"{root}/lib/pypy{version[0]}.{version[1]}/site-packages"
    return (folder,) if os.path.isfile(f"{root}/pyvenv.cfg") and os.path.isdir(folder) else ()
