"""Finds the interpreter that runs as guest.

It is recognised by its files, without being run.
"""

import functools
import os
import re
from collections.abc import Iterator

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests import programs
from proxybox.controller.guests.guest import Guest
from proxybox.controller.guests.programs import INSTALL, LIBRARY_VARIABLE, TRANSLATED, VARIABLE, to_install
from proxybox.controller.guests.pypy import PyPy, pypy_version

#: For the name of a kind of guest, the programs that are searched on PATH, in this order.
_PROGRAMS = {"pypy": ("pypy3",), "cpython": ("python3", *(f"python3.{minor}" for minor in range(14, 8, -1)))}
#: Programs of a release, or of a virtual environment: the first that exists is used.
_IN_RELEASE = re.compile(r"(pypy|python)3(\.\d+)?")
_VERSION = re.compile(r"3\.\d+")


def find_guest(path: str | os.PathLike[str] | None = None, library: str | os.PathLike[str] | None = None) -> Guest:
    """Returns the interpreter at `path`; without it, that of $PROXYBOX_GUEST; without that, pypy3.

    path: a program, or the folder of an unpacked release or of a virtual environment. A name without "/" is looked up
    in the absolute folders of PATH. It is a program's name, "pypy", "cpython", or a version such as "3.13" (of
    CPython); "translated" is the translated PyPy that was installed. library: the library of a translated guest;
    without it, that of $PROXYBOX_GUEST_LIBRARY or the one beside the guest.

    Raises SandboxStartError with the reason and what to do, for anything that cannot be a guest.
    """
    named = (_variable(VARIABLE) if path is None else absolute_guest(path)) or "pypy"
    found = named if "/" in named else _on_path(named)
    if os.path.isdir(found):
        found = _in_release(found)
        if os.path.isdir(found) and programs.is_environment(found):
            from proxybox.controller.guests.environments import settings

            raise SandboxStartError(
                f"{found}: a virtual environment whose interpreter is gone (it was in "
                f"{settings(found).get('home') or 'an unknown folder'}): make it anew"
            )
        if os.path.isdir(found):
            raise SandboxStartError(
                f"{found}: a folder without bin/pypy3 or bin/python3, or one that cannot be read: name an unpacked "
                "release, a virtual environment, or a program"
            )
    executable = os.path.realpath(found)
    if not _is_installed(executable):
        from proxybox.controller.guests.translated.finding import find_translated

        home = _variable(LIBRARY_VARIABLE, is_searched=False) if library is None else os.fspath(library)
        translated = find_translated(found, executable, home)
        if translated is not None:
            return translated
    kind, version = _recognised(found, executable, *programs.identity(found, executable))
    name = kind.named(version)
    beside, prefix = programs.library_beside(found, executable, name)
    root = os.path.dirname(os.path.dirname(os.path.abspath(found)))
    return kind(executable, version, beside, prefix).with_packages((root,) if programs.is_environment(root) else ())


@functools.lru_cache(maxsize=16)
def _recognised(found: str, executable: str, *_: int) -> tuple[type[Guest], tuple[int, int]]:
    """Returns the kind and the version of a program, by its beginning; the answer is cached until the file changes."""
    head = programs.head_of(found, executable)
    version = pypy_version(found, executable, head)
    if version is not None:
        return PyPy, version
    from proxybox.controller.guests.cpython import CPython, cpython_version

    version = cpython_version(found, executable, head)
    if version is not None:
        return CPython, version
    raise SandboxStartError(
        f"{found}: neither a PyPy (it does not need libpypy3.*-c.so) nor a CPython (it does not offer "
        f"Py_BytesMain): {INSTALL}"
    )


def find_guests() -> Iterator[tuple[str, Guest | SandboxStartError]]:
    """Yields the interpreters in the folders of PATH, and the translated PyPy that was installed.

    Each comes once, with the path under which it was found.

    For an interpreter that cannot be a guest, yields the error that says why.
    """
    seen = set()
    named = os.environ.get(VARIABLE)
    for path in (*([None] if named else []), *_interpreters()):
        try:
            found: Guest | SandboxStartError = find_guest(path)  # None: as the variable names it, by its own rules
        except SandboxStartError as error:
            found = error
        key = (found.executable, found.packages) if isinstance(found, Guest) else path and os.path.realpath(path)
        if key not in seen:
            seen.add(key)
            yield path or named or "", found


def _interpreters() -> Iterator[str]:
    for folder in programs.folders():
        try:
            names = sorted(name for name in os.listdir(folder) if _IN_RELEASE.fullmatch(name))
        except OSError:
            continue
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path) and not programs.is_script(path):
                yield path
    from proxybox.controller.guests.translated.installed import installed

    put = installed()
    if put is not None:
        yield put


def absolute_guest(path: str | os.PathLike[str]) -> str:
    """Returns a guest that a caller has named, independent of the working directory.

    A str without "/" is returned unchanged, because it is looked up on PATH, unless it begins with a dot, such as
    `.venv`. Anything else is a path and becomes absolute.
    """
    is_name = isinstance(path, str) and "/" not in path and not path.startswith(".")
    return str(path) if is_name else os.path.abspath(path)


def _variable(name: str, *, is_searched: bool = True) -> str | None:
    """Returns the value of an environment variable that names a guest or a library.

    is_searched: whether a name without "/" is allowed, which is then looked up on PATH.

    Raises SandboxStartError for a relative path: the variable is set once, and would mean another file in each
    folder.
    """
    value = os.environ.get(name)
    if value and not os.path.isabs(value) and ("/" in value or not is_searched):
        raise SandboxStartError(
            f"{name}={value}: a relative path, which is another one in each folder: make it absolute"
        )
    return value


def _on_path(named: str) -> str:
    """Returns the path of the program that a name without "/" means. Raises SandboxStartError where there is none."""
    if named == TRANSLATED:
        from proxybox.controller.guests.translated.installed import HOW, installed

        put = installed()
        if put is None:
            raise SandboxStartError(f"no translated PyPy is installed: {HOW}")
        return put
    names = _PROGRAMS.get(named, (f"python{named}" if _VERSION.fullmatch(named) else named,))
    found = programs.on_path(*names)
    if found is None:
        if os.path.exists(named):  # the folder may be another user's: its program is not run unasked
            raise SandboxStartError(f"no {named} was found on PATH: for the one in this folder, name ./{named}")
        package = names[0] if names[0].startswith("python") else "pypy3"
        raise SandboxStartError(f"no {names[0]} was found on PATH: {to_install(package)}")
    return found


def _in_release(folder: str) -> str:
    """Returns the program of an unpacked release; the folder itself where there is none, or where it cannot be read."""
    inside = os.path.join(folder, "bin")
    try:
        names = sorted(name for name in os.listdir(inside) if _IN_RELEASE.fullmatch(name))
    except OSError:
        return folder
    return next(filter(os.path.isfile, (os.path.join(inside, name) for name in names)), folder)


def _is_installed(executable: str) -> bool:
    """Whether the program is in the folder of the distribution's programs.

    These are never translated with --sandbox, so the file need not be searched for the mark of such a program.
    """
    return executable.startswith("/usr/bin/")
