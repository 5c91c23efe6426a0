"""Identifies a build of an interpreter: by the build ids of its program and of the libraries that it needs.

A linker writes such an id (ld(1), --build-id) into nearly every program of a distribution. It stays the same when the
file is copied, and changes with the code. A file without one is identified by its SHA-256.
"""

import functools
import hashlib
import os
import struct
from collections.abc import Iterator

from proxybox.controller.guests.guest import Guest

_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib")
_ELF = struct.Struct("<4s12xHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_NOTE = struct.Struct("<III")
_LOAD, _DYNAMIC, _NOTES = 1, 2, 4
_NEEDED, _STRINGS, _BUILD_ID = 1, 5, 3
#: The most bytes that are read at once: the notes and the dynamic section of a program are far smaller.
_MOST = 1 << 20


def builds_of(guest: Guest) -> dict[str, str]:
    """Returns the ids of an interpreter's program and of the libraries that it needs, by their names."""
    return dict(_builds(guest.executable, guest.prefix, os.stat(guest.executable).st_mtime_ns))


@functools.lru_cache(maxsize=16)
def _builds(executable: str, prefix: str | None, _: int) -> tuple[tuple[str, str], ...]:
    found, wanted = {}, [executable]
    beside = os.path.dirname(executable)
    folders = (beside, *((f"{prefix}/lib",) if prefix else ()), os.path.join(beside, "..", "lib"), *_FOLDERS)
    while wanted:
        path = wanted.pop()
        name = os.path.basename(path)
        if name in found:
            continue
        ident, needed = _look(path)
        found[name] = ident
        places = ([os.path.join(folder, each) for folder in folders] for each in needed)
        wanted += [place for each in places if (place := next(filter(os.path.isfile, each), ""))]
    return tuple(sorted(found.items()))


def _look(path: str) -> tuple[str, list[str]]:
    """Returns the id of an ELF file, and the names of the libraries that it needs."""
    try:
        with open(path, "rb") as file:
            segments = list(_segments(file.fileno()))
            ident = next(_build_ids(file.fileno(), segments), "")
            return ident or hashlib.file_digest(file, "sha256").hexdigest(), list(_needed(file.fileno(), segments))
    except (OSError, struct.error, ValueError):
        return "unreadable", []


def _segments(fd: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields the kind, the offset, the address and the size of each segment."""
    magic, _, _, _, _, table, _, _, _, size, count, *_ = _ELF.unpack(os.pread(fd, _ELF.size, 0))
    if magic != b"\x7fELF" or size != _SEGMENT.size:
        return
    for at in range(count):
        kind, _, offset, address, _, length, _, _ = _SEGMENT.unpack(os.pread(fd, size, table + at * size))
        yield kind, offset, address, length


def _build_ids(fd: int, segments: list[tuple[int, int, int, int]]) -> Iterator[str]:
    for kind, offset, _, length in segments:
        notes, at = os.pread(fd, min(length, _MOST), offset) if kind == _NOTES else b"", 0
        while at + _NOTE.size <= len(notes):
            name, size, number = _NOTE.unpack_from(notes, at)
            begin = at + _NOTE.size + (name + 3) // 4 * 4
            if number == _BUILD_ID and notes[at + _NOTE.size : at + _NOTE.size + 4] == b"GNU\0":
                yield notes[begin : begin + size].hex()
            at = begin + (size + 3) // 4 * 4


def _needed(fd: int, segments: list[tuple[int, int, int, int]]) -> Iterator[str]:
    dynamic = next((each for each in segments if each[0] == _DYNAMIC), None)
    if dynamic is None:
        return
    data = os.pread(fd, min(dynamic[3], _MOST), dynamic[1])
    entries = list(_ENTRY.iter_unpack(data[: len(data) // _ENTRY.size * _ENTRY.size]))
    place = next((value for tag, value in entries if tag == _STRINGS), None)
    for kind, offset, address, length in segments:
        if kind == _LOAD and place is not None and address <= place < address + length:
            names = os.pread(fd, _MOST, offset + place - address)
            for tag, value in entries:
                if tag == _NEEDED:
                    yield names[value : names.index(b"\0", value)].decode()
            return
