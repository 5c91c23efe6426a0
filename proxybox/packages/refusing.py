"""What of a stranger's archive is not unpacked: wheels (unpacking.py) and builds of interpreters (tarballs.py)."""

import os
from typing import Final

#: Bytes of a name, and levels of folders.
_LONGEST: Final = 1000
_DEEPEST: Final = 40


class NoArchive(Exception):
    """A file that is no archive as wanted, or one that must not be unpacked; the text says why."""


def why_no_path(name: str) -> str:
    """Returns why a name in an archive is not the path of something below its folder; "" where it is."""
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or "\\" in name or not name.isprintable():
        return "want a plain path below the folder"
    if len(os.fsencode(name)) > _LONGEST or len(parts) > _DEEPEST:
        return f"want at most {_LONGEST} bytes, and {_DEEPEST} folders"
    return ""
