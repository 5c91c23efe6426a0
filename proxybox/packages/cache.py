"""The cache of installed packages: a folder for each interpreter and each list of requirements, which never changes.

$XDG_CACHE_HOME/proxybox/packages/NAME-DIGEST contains packages in the layout of pip's --target, and the file
`proxybox.json`, which describes them. Folders are shared by all boxes, which see them read-only. A folder gets its name
when it is complete. proxybox/wheels contains the fetched wheels under their SHA-256, which is compared again at each
use.

Rule: content of the cache is used only if it belongs to the user or root, and nobody else could have written it.
"""

import contextlib
import fcntl
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import attrs

from proxybox.controller.errors import PackagesError
from proxybox.controller.removal import remove_folder
from proxybox.controller.statefolder import cache_folder, is_ours

#: The file beside packages that describes them.
TOLD = "proxybox.json"
_UNFINISHED = ".new-"


@attrs.frozen
class Cached:
    """Packages in the cache. used: when they were used last, in seconds since 1970. size: in bytes.

    packages: the installed packages, such as attrs==25.1.0.
    """

    folder: str
    guest: str
    requirements: tuple[str, ...]
    used: float
    size: int
    packages: tuple[str, ...] = ()


def place(name: str) -> str:
    """Returns the path of a folder in the cache. Raises PackagesError without a cache, or if others can write to it."""
    return os.path.join(_own("packages"), name)


def _own(name: str) -> str:
    """Makes a folder of the cache and returns its path. Raises PackagesError if other users can write to it."""
    folder = cache_folder(name)
    if folder is None:
        raise PackagesError("there is no folder for packages: set XDG_CACHE_HOME, or HOME, to an absolute path")
    above = os.path.dirname(folder)
    try:
        os.makedirs(os.path.dirname(above), exist_ok=True)
        check_owner(os.path.dirname(above), may_be_shared=True)
        for each in (above, folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(each, 0o755)
            check_owner(each)
    except OSError as error:
        raise PackagesError(f"{error.filename}: {error.strerror}: set XDG_CACHE_HOME to a folder of your own") from None
    return folder


def check_owner(path: str, variable: str = "XDG_CACHE_HOME", *, may_be_shared: bool = False) -> None:
    """Raises PackagesError for a folder of another user, or to which other users can write (`is_ours`).

    variable: the environment variable that can name another folder.
    """
    if not is_ours(path, may_be_shared=may_be_shared):
        raise PackagesError(f"{path}: other users can write there: set {variable} to a folder of your own")


def is_there(folder: str) -> bool:
    """Whether a folder of packages is complete; then its time of last use is set. Raises as `check_owner`."""
    facts = os.path.join(folder, TOLD)
    if not os.path.isfile(facts):
        return False
    check_owner(folder)
    with contextlib.suppress(OSError):
        os.utime(facts)
    return True


@contextlib.contextmanager
def work_for(folder: str) -> Iterator[str]:
    """Makes a folder for work, beside the future `folder`. It is removed after the block, or after its process."""
    parent = os.path.dirname(folder)
    _sweep(parent)
    work = tempfile.mkdtemp(dir=parent, prefix=_UNFINISHED)
    held = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield work
    finally:
        with contextlib.suppress(OSError):  # the next installation tries again
            remove_folder(work)
        os.close(held)


def finish(made: str, folder: str, facts: dict[str, Any]) -> None:
    """Moves packages to their place in the cache, unless another process was faster."""
    with open(os.path.join(made, TOLD), "x", encoding="utf-8") as file:  # "x": follows no link
        json.dump(facts, file)
    try:
        os.rename(made, folder)
    except OSError:
        if not is_there(folder):
            raise


def wheel(sha256: str) -> str:
    """Returns the path of a wheel in the cache; "" if it is not in it."""
    path = os.path.join(_own("wheels"), sha256)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return ""
        os.utime(path)
    except OSError:
        return ""
    return path


def keep_wheel(path: str, sha256: str) -> None:
    """Moves a wheel into the cache."""
    with contextlib.suppress(OSError):  # it is fetched again the next time
        os.replace(path, os.path.join(_own("wheels"), sha256))


def cached() -> Iterator[Cached]:
    """Yields the packages in the cache, the least recently used first."""
    found = []
    for folder in _entries(cache_folder("packages") or ""):
        if os.path.basename(folder).startswith("."):
            continue
        try:
            used = os.stat(os.path.join(folder, TOLD)).st_mtime
            with open(os.path.join(folder, TOLD), encoding="utf-8") as file:
                facts: dict[str, Any] = json.load(file)
            named = tuple(facts["requirements"]), used, _size(folder), tuple(facts.get("packages", ()))
            found.append(Cached(folder, facts["guest"], *named))
        except (OSError, ValueError, LookupError, TypeError):  # removed meanwhile, or not ours
            continue
    return iter(sorted(found, key=lambda each: each.used))


def prune(older_than: float = 0) -> list[Cached]:
    """Removes packages and wheels that were not used for that many seconds. Returns the removed packages.

    Boxes that run during this lose the files that they have not read yet.
    """
    gone = [each for each in cached() if time.time() - each.used >= older_than]
    for each in gone:
        with contextlib.suppress(OSError):
            remove_folder(each.folder)
    _sweep(cache_folder("packages") or "")
    wheels = cache_folder("wheels") or ""
    for path in _entries(wheels):
        with contextlib.suppress(OSError):
            if time.time() - os.lstat(path).st_mtime >= older_than:
                os.unlink(path)
    return gone


def _sweep(parent: str) -> None:
    """Removes the folders of installations whose process was killed. Running installations hold a lock."""
    for path in _entries(parent):
        if os.path.basename(path).startswith(_UNFINISHED):
            _remove(path)


def _remove(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if time.time() - os.fstat(fd).st_mtime > 1:  # a new folder may not have its lock yet
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_folder(path)
    except OSError:  # an installation uses it
        pass
    finally:
        os.close(fd)


def _entries(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    except OSError:
        return []


def _size(folder: str) -> int:
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names)
