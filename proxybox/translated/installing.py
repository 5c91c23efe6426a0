"""Installs a build of a translated PyPy, from the published release or from the user's own archives.

Its archives are fetched and unpacked by a process that can start nothing (proxybox/packages/tarballs.py). The
installation runs no code of a build; later, its code runs only in a box.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import attrs

from proxybox.controller.errors import PackagesError, SandboxStartError
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.guests.guest import Guest
from proxybox.controller.guests.programs import TRANSLATED
from proxybox.controller.guests.translated.installed import PROGRAMS, install_folder
from proxybox.packages import cache
from proxybox.packages.helper import network, work_on
from proxybox.packages.watching import Watcher

#: The most bytes of an archive.
_MOST: Final = 256 << 20
#: The file in the folder of a build that says where the build is from.
_TOLD: Final = "proxybox.json"


@attrs.frozen
class Archive:
    """An archive of a build. url: its address. sha256: of its bytes."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The last part of its address."""
        return unquote(self.url).rpartition("/")[2]

    @property
    def path(self) -> str:
        """Its path on this machine; "" for an archive that must be fetched."""
        return unquote(self.url.removeprefix("file://")) if self.url.startswith("file://") else ""


#: The published build for x86-64 (glibc), and the source with the library for it. The hashes are the same as in shannot
#: 0.11, which pins these files.
PUBLISHED: Final = (
    Archive(
        "https://github.com/corv89/pypy/releases/download/pypy3-sandbox-7.3.6/pypy3-sandbox-linux-amd64.tar.gz",
        "b5498d3ea1bd3d4d9de337e57e0784ed6bcb5ff669f160f9bc3e789d64aa812a",
    ),
    Archive(
        "https://downloads.python.org/pypy/pypy3.6-v7.3.3-src.tar.bz2",
        "a23d21ca0de0f613732af4b4abb0b0db1cc56134b5bf0e33614eca87ab8805af",
    ),
)


def local(paths: Sequence[str | os.PathLike[str]]) -> tuple[Archive, ...]:
    """Returns archives on this machine, with their hashes. Raises PackagesError if one cannot be read."""
    found = []
    for path in map(os.path.abspath, paths):
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise PackagesError(f"{path}: want an archive (.tar.gz, .tar.bz2, .tar.xz)")
            with open(path, "rb") as file:
                found.append(Archive(Path(path).as_uri(), hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError as error:
            raise PackagesError(f"{path}: {error.strerror}") from None
    return tuple(found)


def install(archives: Sequence[Archive] = PUBLISHED, watcher: Watcher | None = None) -> Guest:
    """Installs a build in the place of one that was installed before, and returns it as a guest.

    Raises PackagesError when it cannot be fetched or unpacked, or when no box could run it.
    """
    watcher = watcher or Watcher()
    folder = _folder()
    try:
        with cache.work_for(folder) as work:
            made = os.path.join(work, "made")
            for name in ("made", "empty", "downloads"):
                os.mkdir(os.path.join(work, name))
            _unpack(archives, work, watcher)
            os.chmod(made, 0o755)  # noqa: S103 - the user of root's boxes runs it
            _check(made)
            with open(os.path.join(made, _TOLD), "x", encoding="utf-8") as file:
                json.dump([attrs.asdict(each) for each in archives], file)
            _replace(made, folder, work)
    except OSError as error:
        raise PackagesError(f"{folder}: {error.strerror or error}") from None
    return find_guest(_program(folder), folder)


def remove() -> str | None:
    """Removes the installed build, and returns its folder; None if no build was installed."""
    folder = _folder()
    try:
        with cache.work_for(folder) as work, _alone(folder):
            return folder if _moved_away(folder, work) else None
    except OSError as error:
        raise PackagesError(f"{folder}: {error.strerror or error}") from None


def _folder() -> str:
    """Returns the folder of the build. Raises PackagesError if other users could write to it."""
    above = install_folder()
    if above is None:
        raise PackagesError("there is no folder for guests: set XDG_STATE_HOME, or HOME, to an absolute path")
    try:
        place = os.path.dirname(os.path.dirname(above))
        os.makedirs(place, exist_ok=True)
        cache.check_owner(place, "XDG_STATE_HOME", may_be_shared=True)
        for each in (os.path.dirname(above), above):
            if not os.path.isdir(each):
                os.mkdir(each)
                os.chmod(each, 0o755)  # noqa: S103 - the user of root's boxes goes through it, whatever the umask is
            cache.check_owner(each, "XDG_STATE_HOME")
    except OSError as error:
        raise PackagesError(f"{error.filename}: {error.strerror}") from None
    return os.path.join(above, TRANSLATED)


def _unpack(archives: Sequence[Archive], work: str, watcher: Watcher) -> None:
    done = False

    def on_line(line: dict[str, Any]) -> None:
        nonlocal done
        done = done or "done" in line

    for each in archives:
        watcher.tell(f"{'unpacking' if each.path else 'fetching'} {each.name} (SHA-256 {each.sha256})")
    made, downloads = os.path.join(work, "made"), os.path.join(work, "downloads")
    wanted = [{"file": each.name, "url": each.url, "hashes": [f"sha256:{each.sha256}"]} for each in archives]
    task = {"archives": wanted, "size": _MOST, "target": made, "downloads": downloads}
    reads = [each.path for each in archives if each.path]
    work_on(task, work, environment=network(), reads=reads, writes=[made, downloads], on_line=on_line)
    if not done:  # a thread that waits for all children may have taken its exit status
        raise PackagesError("the archives were not all unpacked")


def _program(folder: str) -> str:
    return next((path for name in PROGRAMS if os.path.isfile(path := os.path.join(folder, name))), "")


def _check(made: str) -> None:
    """Raises PackagesError for a folder without a build that boxes can run."""
    program = _program(made)
    if not program:
        raise PackagesError(f"the archives have no {PROGRAMS[0]}: want a build that `rpython --sandbox` has made")
    try:
        guest = find_guest(program, made)
    except SandboxStartError as error:
        raise PackagesError(str(error).replace(f"{made}/", "")) from None
    if not guest.marshals:
        raise PackagesError(f"{os.path.basename(program)}: a PyPy that was not translated with --sandbox")


def _replace(made: str, folder: str, work: str) -> None:
    with _alone(folder):
        _moved_away(folder, work)
        os.rename(made, folder)


def _moved_away(folder: str, work: str) -> bool:
    """Moves an installed build into the folder `work`, which is removed, and returns whether there was one."""
    if not os.path.lexists(folder):
        return False
    os.rename(folder, os.path.join(work, "old"))
    return True


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Locks the installed build: only one process at a time replaces or removes it."""
    above = os.open(os.path.dirname(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(above, fcntl.LOCK_EX)
        yield
    finally:
        os.close(above)
