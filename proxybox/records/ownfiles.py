"""Distinguishes the files of an interpreter and its library from those of a program."""

import re
from collections.abc import Sequence
from typing import Final

#: Files that every interpreter looks for at its start, and its own library: they are shown as one line.
_SYSTEM: Final = ("/usr/", "/lib/", "/lib64/", "/bin/", "/sys/", "/proc/self/", "/proc/sys/")
_STARTING: Final = frozenset(
    {
        "/usr", "/lib", "/lib64", "/bin", "/etc/localtime", "/etc/ld.so.cache", "/proc/meminfo", "/proc/mounts",
        "/proc/cpuinfo", "/proc/stat", "/selinux",
    }
)  # fmt: skip
_NAMES_OF_START: Final = re.compile(r"pyvenv\.cfg|pybuilddir\.txt|python3\d+\.zip|.*\._pth|pypy3?[\d.]*|lib-python")


def prefix_of(argv: Sequence[str]) -> str:
    """Returns the folder that an interpreter is installed in. argv: its arguments, beginning with its own path."""
    return argv[0].rpartition("/")[0].rpartition("/")[0] if argv else ""


def is_of_interpreter(path: str, prefix: str) -> bool:
    """Whether a path is one of those that every interpreter reads. prefix: the folder that it is installed in."""
    return (
        path.startswith(_SYSTEM)
        or path in _STARTING
        or "/site-packages" in path
        or (len(prefix) > 1 and (path == prefix or path.startswith(f"{prefix}/")))
        or _NAMES_OF_START.fullmatch(path.rpartition("/")[2]) is not None
    )
