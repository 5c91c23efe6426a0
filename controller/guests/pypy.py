"""An ordinary PyPy: the distribution's, or an unpacked release."""

import re

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests import programs
from proxybox.controller.guests.guest import Guest

#: Versions of the Python language that the guest's own Python files (proxybox/guest) are written for.
VERSIONS = ((3, 9), (3, 10), (3, 11))
_LIBRARY = re.compile(rb"libpypy(3\.\d+)?-c\.so")


class PyPy(Guest):
    """Its program is small, and needs libpypy3.*-c.so."""

    __slots__ = ()

    title = "PyPy"
    stem = cache_stem = "pypy"
    homes = ("/usr/lib/pypy", "/opt/pypy", "/pypy")


def pypy_version(found: str, executable: str, head: bytes) -> tuple[int, int] | None:
    """Returns the version of a PyPy's language; None for another kind of program.

    found: the path that was named. executable: the same without symbolic links. head: the first bytes of that file.

    Raises SandboxStartError for a PyPy that cannot be a guest.
    """
    needed = _LIBRARY.search(head)
    return None if needed is None else _version(found, executable, needed[1])


def _version(found: str, executable: str, needed: bytes | None) -> tuple[int, int]:
    """Reads the version from the name of the library; if that has none, from the program's name."""
    named = re.search(r"pypy(3\.\d+)", executable)
    spoken = needed.decode() if needed else named[1] if named else ""
    if not spoken:
        raise SandboxStartError(f"{found}: a PyPy of Python 2; a box needs PyPy 3.9 to 3.11: {programs.INSTALL}")
    major, minor = map(int, spoken.split("."))
    if (major, minor) not in VERSIONS:
        raise SandboxStartError(
            f"{found}: a PyPy of Python {major}.{minor}; a box needs 3.9 to 3.11: {programs.INSTALL}"
        )
    return major, minor
