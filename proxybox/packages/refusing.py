"""Refusals of entries in foreign archives: wheels (unpacking.py) and builds of interpreters (tarballs.py)."""

import os
from typing import Final

#: The most bytes of a name, and levels of folders.
_LONGEST: Final = 1000
_DEEPEST: Final = 40


class NoArchive(Exception):
    """A file is no valid archive, or must not be unpacked; the text says why."""


def why_no_path(name: str) -> str:
    """Returns why a name in an archive is not a path below the archive's folder; "" if it is one."""
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in name or not name.isprintable():
        return "want a plain path below the folder"
    if len(os.fsencode(name)) > _LONGEST or len(parts) > _DEEPEST:
        return f"want at most {_LONGEST} bytes, and {_DEEPEST} folders"
    return ""
