"""Zip archives from untrusted authors: nothing is unpacked onto the disk, and the amount that is read is bounded."""

import datetime
import functools
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import attrs

from proxybox.policies.errors import ProxyboxError

#: The most bytes of the table of contents of a submission's archive, and of a download's. Each 50 bytes become an
#: object of 600 bytes.
MOST_CONTENTS, MOST_OF_DOWNLOAD = 2 << 20, 8 << 20
#: Names of files that tools create and that are not part of a submission.
IGNORED = ("__MACOSX", "__pycache__", ".git", ".DS_Store", ".ipynb_checkpoints")


class SubmissionError(ProxyboxError):
    """A submission that cannot be read; the text says which, and why."""


@attrs.frozen
class ArchiveFile:
    """A file that can be read.

    time: of the last change, if that is known. packed: its bytes in the archive, as the archive states it; no more than
    that are unpacked. is_link: whether it is a symbolic link, whose content is the path of its target.
    """

    path: str
    open: Callable[[], IO[bytes]]
    time: datetime.datetime | None
    packed: int = 0
    is_link: bool = False


class _Careful:
    """A file for zipfile. It limits reads: zipfile reads the whole table of contents at once, however long it is."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self._most:
            raise SubmissionError(f"more than {self._most >> 20} MiB of table of contents")
        return self._file.read(size)

    def __del__(self) -> None:
        self._file.close()


def open_archive(file: Path | IO[bytes], most: int = MOST_CONTENTS) -> zipfile.ZipFile:
    """Opens an archive; its file is closed when nothing refers to the archive or its members any more."""
    opened = file.open("rb") if isinstance(file, Path) else file
    return zipfile.ZipFile(_Careful(opened, most))


def members(archive: zipfile.ZipFile) -> Iterator[ArchiveFile]:
    """Yields the files of an archive."""
    for info in archive.infolist():
        parts = PurePosixPath(info.filename).parts
        if parts and not info.is_dir() and not set(parts) & set(IGNORED):
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            opened = functools.partial(_member, archive, info)
            yield ArchiveFile("/".join(parts), opened, _date(info), info.compress_size, is_link)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):  # with other methods zipfile unpacks gigabytes at once
        raise SubmissionError("it is compressed in another way than by deflate")
    return archive.open(info)


def _date(info: zipfile.ZipInfo) -> datetime.datetime | None:
    """The time of a member; None if the archive has none, which is written as 1980.

    An archive has local times without their zone, which is assumed to be the zone of this machine. Some archives also
    have a time in UTC.
    """
    if (stated := _stated(info.extra)) is not None:
        return stated
    try:
        time = datetime.datetime(*info.date_time)
    except ValueError:
        return None
    return time.astimezone(datetime.UTC) if time.year > 1980 else None


def _stated(extra: bytes) -> datetime.datetime | None:
    """The time of last change in UTC, from Info-ZIP's extra field with the number 0x5455."""
    while len(extra) >= 4:
        number, size = struct.unpack_from("<HH", extra)
        held, extra = extra[4 : 4 + size], extra[4 + size :]
        if number == 0x5455 and len(held) >= 5 and held[0] & 1:
            seconds: int = struct.unpack_from("<i", held, 1)[0]
            return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return None
