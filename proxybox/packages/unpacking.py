"""Unpacks wheels into a folder of packages: files and folders, nothing else, and nothing outside of it.

No program is started or made. A wheel's list of its files (RECORD) has no effect; where it is wrong, this is reported.
"""

import base64
import csv
import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import attrs
from installer.exceptions import InstallerError
from installer.records import InvalidRecordEntry, parse_record_file
from installer.sources import WheelFile

from proxybox.packages.cache import TOLD
from proxybox.packages.refusing import NoArchive, why_no_path

#: The most bytes and files of all unpacked wheels. Then the most bytes of a RECORD.
_MOST, _MOST_FILES = 16 << 30, 500_000
_MOST_RECORD = 64 << 20
_PIECE = 1 << 18
#: The most notes on one wheel; of further notes, only the number is reported.
_MOST_NOTES = 3
#: The folders of NAME.data that belong to the packages. A box needs no scripts: only the guest starts in it.
_KEPT, _LEFT_OUT = ("purelib", "platlib", "data"), ("scripts", "headers")
#: Other compressions return more in one piece than requested.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: The libraries' exceptions for a file that is no archive, or no archive that they know.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, InstallerError, InvalidRecordEntry, csv.Error, ValueError, LookupError, EOFError,
    AssertionError, RuntimeError, FileExistsError, NotADirectoryError,
)  # fmt: skip


class NoWheel(NoArchive):
    """A file is no wheel, or must not be unpacked; the text says why."""


@attrs.define
class UnpackedFolder:
    """A folder of packages. digests: of each unpacked file, by its place. room, files: the limits that are left."""

    path: str
    digests: dict[str, str] = attrs.field(factory=dict)
    room: int = _MOST
    files: int = _MOST_FILES

    def unpack(self, wheel: Path) -> list[str]:
        """Unpacks a wheel. Returns differences from its RECORD, and from files of other wheels. Raises NoWheel."""
        try:
            with zipfile.ZipFile(wheel) as archive:
                self._check(archive)
                notes = list(self._unpack(WheelFile(archive)))
        except NoWheel as error:
            raise NoWheel(f"{wheel.name}: {error}") from None
        except _BROKEN as error:
            raise NoWheel(f"{wheel.name}: cannot be unpacked: {error or type(error).__name__}") from None
        more = len(notes) - _MOST_NOTES
        return notes[:_MOST_NOTES] + ([f"and {more} more"] if more > 0 else [])

    def _check(self, archive: zipfile.ZipFile) -> None:
        """Raises NoWheel for an archive with links or devices, with equal names, or above a limit."""
        seen = set()
        for each in archive.infolist():
            name = each.filename.removesuffix("/")
            if why := _why_not(each, name):
                raise NoWheel(f"{each.orig_filename!r}: {why}")
            if name in seen and not each.is_dir():
                raise NoWheel(f"{name!r}: is there twice")
            seen.add(name)
            self.room -= each.file_size  # zipfile reads no more bytes than this
            self.files -= 1
            if self.room < 0 or self.files < 0:
                raise NoWheel(f"unpacks to more than {_MOST >> 30} GiB or {_MOST_FILES:,} files in all")

    def _unpack(self, source: WheelFile) -> Iterator[str]:
        record = f"{source.dist_info_dir}/RECORD"
        listed = {row[0] for row in parse_record_file(source.read_dist_info("RECORD").splitlines())}
        for (name, digest, _), stream, is_executable in source.get_contents():
            listed.discard(name)
            place = _place(name, source.data_dir)
            if place is None:
                continue
            found, is_new = self._write(place, stream, is_executable, digest.partition("=")[0])
            if not is_new and self.digests[place] != found:
                yield f"{place}: another package has another file of this name, which stays"
            elif name not in (record, f"{record}.jws", f"{record}.p7s") and found != digest:
                yield f"{name}: is not what its RECORD says" if digest else f"{name}: its RECORD has no hash of it"
        yield from (f"{name}: is in its RECORD alone" for name in sorted(listed))

    def _write(self, place: str, stream: BinaryIO, is_executable: bool, kind: str) -> tuple[str, bool]:
        """Writes a file if its place is free. Returns its digest as in a RECORD, and whether the place was free."""
        path = os.path.join(self.path, place)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        digest = hashlib.new(kind if kind in ("sha384", "sha512") else "sha256")
        is_new = place not in self.digests
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o755 if is_executable else 0o644) if is_new else os.open(os.devnull, os.O_WRONLY)
        with open(fd, "wb") as file:
            while piece := stream.read(_PIECE):
                digest.update(piece)
                file.write(piece)
        found = f"{digest.name}={base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}"
        self.digests.setdefault(place, found)
        return found, is_new


def _why_not(each: zipfile.ZipInfo, name: str) -> str:
    """Returns why an entry of an archive is not unpacked; "" if it is unpacked."""
    kind = stat.S_IFMT(each.external_attr >> 16)
    if each.filename != each.orig_filename:
        return "want a plain path below the folder"
    if why := why_no_path(name):
        return why
    if name.partition("/")[0] == TOLD:
        return "is a name that packages do not have here"
    if kind not in (0, stat.S_IFDIR if each.is_dir() else stat.S_IFREG):
        return "want files and folders alone: no links, no devices"
    if each.compress_type not in _COMPRESSIONS:
        return "want it compressed by deflate, or not at all"
    return "is too large" if name.endswith(".dist-info/RECORD") and each.file_size > _MOST_RECORD else ""


def _place(name: str, data: str) -> str | None:
    """Returns the place of a wheel's file in the folder of packages; None for a file that is left out."""
    if "__pycache__" in name.split("/")[:-1]:
        return None  # they are compiled in a box
    if not name.startswith(f"{data}/"):
        return name
    kind, _, rest = name[len(data) + 1 :].partition("/")
    if kind in _LEFT_OUT:
        return None
    if kind not in _KEPT or not rest:
        raise NoWheel(f"{name!r}: {data} has {', '.join(_KEPT + _LEFT_OUT)}")
    if rest.partition("/")[0] == TOLD:
        raise NoWheel(f"{name!r}: is a name that packages do not have here")
    return rest
