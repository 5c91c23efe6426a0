"""Fetches and unpacks builds of a translated PyPy, in a process that cannot start anything (child.py).

Of an archive, the program, the library beside it, and the folders lib-python and lib_pypy are unpacked, as plain files
and folders; other members are ignored. A member's owner and rights are ignored, too. A link or a device in one of these
places is refused.
"""

import bz2
import gzip
import http.client
import io
import lzma
import os
import re
import sys
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import attrs

from proxybox.packages.downloading import IndexOpener, fetched, tell
from proxybox.packages.refusing import NoArchive, why_no_path

#: The most for all archives of a build: bytes from the decompressor, stored bytes, files and folders, and members.
#: Upstream's whole source has 200 MB in 20,000 members, of which 70 MB in 4,000 files are stored.
_MOST_READ, _MOST, _MOST_FILES, _MOST_MEMBERS = 2 << 30, 512 << 20, 20_000, 100_000
#: Limits of headers with more data about the next member (its long name, its time): bytes of one header, bytes of all
#: headers of an archive, and headers for one member. tarfile reads each whole, in quadratic time for some, and it calls
#: itself for each header that follows another.
_MOST_IN_ONE, _MOST_IN_ALL, _MOST_FOR_ONE = 4 << 10, 8 << 20, 4
_PIECE = 1 << 18
_OPENERS: Final[dict[bytes, Callable[..., Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
#: The program and its library, in any folder up to three levels deep; and the folders of Python's libraries, at most
#: one folder deep.
_PROGRAMS: Final = re.compile(r"(?:[^/]+/){0,3}(pypy3?-c|libpypy3?-c\.so)")
_LIBRARIES: Final = re.compile(r"(?:[^/]+/)?((?:lib-python|lib_pypy)(?:/.*)?)")
#: Types of headers with data about the next member, or about all members.
_SAYS_MORE: Final = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
#: The exceptions for a file that is no archive, or no archive that Python knows.
_BROKEN = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, FileExistsError, NotADirectoryError)


def fetch(task: Mapping[str, Any]) -> None:
    """Fetches and unpacks the archives of a task. A failure ends the process with one line that says why."""
    os.umask(0o022)  # boxes of other users read the files
    try:
        tree, network = SourceFolder(task["target"]), IndexOpener([])
        for archive in task["archives"]:
            path = fetched(network, {**archive, "size": task["size"], "kept": ""}, task["downloads"])
            tell(unpacking=archive["file"])
            tree.unpack(path)
        tell(done=tree.kept)
    except (NoArchive, OSError, http.client.HTTPException, MemoryError) as error:
        sys.exit(str(error) or type(error).__name__)


@attrs.define
class SourceFolder:
    """A folder of a build. read, room, files, members: the limits that are left. kept: the number of files so far.

    folders: the folders that were made.
    """

    path: str
    read: int = _MOST_READ
    room: int = _MOST
    files: int = _MOST_FILES
    members: int = _MOST_MEMBERS
    kept: int = 0
    folders: set[str] = attrs.field(factory=lambda: {""})

    def unpack(self, archive: Path) -> None:
        """Unpacks the members that belong to a build. Raises NoArchive."""
        try:
            with archive.open("rb") as raw:
                head = raw.read(6)
                raw.seek(0)
                opener = next((each for magic, each in _OPENERS.items() if head.startswith(magic)), None)
                plain = raw if opener is None else opener(raw, "rb")
                with tarfile.open(fileobj=_Bounded(self, plain), mode="r|", tarinfo=_headers()) as members:
                    for member in members:
                        self._take(members, member)
        except NoArchive as error:
            raise NoArchive(f"{archive.name}: {error}") from None
        except _BROKEN as error:
            raise NoArchive(f"{archive.name}: cannot be unpacked: {error or type(error).__name__}") from None

    def _take(self, members: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self.members -= 1
        if self.members < 0:
            raise NoArchive(f"has more than {_MOST_MEMBERS:,} members")
        if member.size > self.read:  # tarfile would search endlessly behind the file's end
            raise NoArchive(f"unpacks to more than {_MOST_READ >> 30} GiB")
        name = member.name.removeprefix("./").removesuffix("/")
        place = _place(name)
        if place is None:
            return
        if why := why_no_path(name):
            raise NoArchive(f"{name!r}: {why}")
        if member.isdir():
            self._make_folder(place)
            return
        source = members.extractfile(member) if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) else None
        if source is None:
            raise NoArchive(f"{name!r}: want files and folders alone: no links, no devices")
        self._charge(member.size)
        self._write(place, name, source)

    def _charge(self, size: int) -> None:
        self.room -= max(size, 0)
        self.files -= 1
        if self.room < 0 or self.files < 0:
            raise NoArchive(f"unpacks to more than {_MOST >> 20} MiB or {_MOST_FILES:,} files and folders")

    def _make_folder(self, place: str) -> None:
        parts = place.split("/") if place else []
        for each in ("/".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if each not in self.folders:
                self._charge(0)
                os.mkdir(os.path.join(self.path, each))
                self.folders.add(each)

    def _write(self, place: str, name: str, source: IO[bytes]) -> None:
        path = os.path.join(self.path, place)
        self._make_folder(os.path.dirname(place))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o644 if "/" in place else 0o755)
        except FileExistsError:
            raise NoArchive(f"{name!r}: there is another {place}") from None
        with open(fd, "wb") as file:
            while piece := source.read(_PIECE):
                file.write(piece)
        self.kept += 1


def _place(name: str) -> str | None:
    """Returns the place of a member in the folder of a build; None for a member that is ignored."""
    found = _PROGRAMS.fullmatch(name) or _LIBRARIES.fullmatch(name)
    return None if found is None else found[1]


def _headers() -> type[tarfile.TarInfo]:
    """Returns a class for the headers of one archive, which checks them before tarfile reads the data after them."""
    left, together = _MOST_IN_ALL, 0

    class Header(tarfile.TarInfo):
        def _proc_member(self, archive: tarfile.TarFile) -> Any:
            """Checks a header; tarfile calls it for each header, and its source allows subclasses to override it."""
            nonlocal left, together
            if self.type in _SAYS_MORE:
                left -= self.size
                together += 1
                if not 0 <= self.size <= _MOST_IN_ONE or left < 0 or together > _MOST_FOR_ONE:
                    raise NoArchive("says too much of a member: want plain names of files and folders")
            else:
                together = 0
            return super()._proc_member(archive)  # type: ignore[misc]  # typeshed does not know it

    return Header


class _Bounded(io.RawIOBase):
    """The output of a decompressor, up to the limit of its tree."""

    def __init__(self, tree: SourceFolder, source: IO[bytes]) -> None:
        self._tree, self._source = tree, source

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(_PIECE if size < 0 else min(size, _PIECE))
        self._tree.read -= len(piece)
        if self._tree.read < 0:
            raise NoArchive(f"unpacks to more than {_MOST_READ >> 30} GiB")
        return piece
