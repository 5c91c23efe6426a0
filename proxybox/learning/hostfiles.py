"""Finds the host file for a path in a box, and what a mount of this file would allow.

Rule: only this module reads from the host. For a program's paths, it reads the status of files and the names in
folders, and opens no file.
"""

import fnmatch
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from proxybox.controller.vfs.host.boundary import why_no_mount
from proxybox.policies import Policy

BOX: Final = "/box"
#: Places of the host that no policy should show: they belong to the kernel and to running programs.
_NEVER: Final = ("/proc", "/sys", "/dev", "/run", "/boot")
#: Names of files that hold keys, passwords and the like, in lower case.
_SECRET_NAMES: Final = (
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "*.gpg", "*.ovpn", "*.keytab", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", "*secret*", "*password*", "*passwd*", "*credential*", "*token*", "shadow*", "gshadow*",
    "sudoers*", "wallet*",
)  # fmt: skip
_SECRET_FOLDERS: Final = frozenset({"private", "secrets", "credentials", "ssh"})
#: How many entries of a folder are read before it counts as too large.
MOST_ENTRIES: Final = 10_000
_MOST_NAMED: Final = 5


@attrs.frozen
class Shown:
    """The content of a folder, with all that is below it.

    files, size: how many files it shows, and their bytes. hidden: how many names begin with a dot. secrets: some of the
    names that look like those of secrets. whole: whether all of it was read.
    """

    files: int = 0
    size: int = 0
    hidden: int = 0
    secrets: tuple[str, ...] = ()
    whole: bool = True


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def automounts() -> tuple[str, ...]:
    """Returns the places where this host mounts filesystems at the first access (autofs), by proc_pid_mounts(5)."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split(" ") for line in file]
    except OSError:
        return ()
    return tuple(_unescaped(row[1]) for row in rows if len(row) > 2 and row[2] == "autofs")


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


@attrs.frozen(kw_only=True)
class Host:
    """The files of the host that a program may mean.

    home: the host's folder for the box's home. folder: the script's folder, which is /box; None if /box is empty.
    unseen: folders below which nothing is read: an access could reach other machines, whose names a program may have
    chosen.
    """

    home: str
    folder: str | None = None
    unseen: tuple[str, ...] = attrs.field(factory=automounts)

    def source_of(self, policy: Policy, path: str) -> str | None:
        """Returns the host's file or folder for a path in the box, without links; None if none exists.

        The candidates are, in this order: the path in a mount's source; the path in the script's folder or the home
        folder; the same path on the host; the path in the parent of the script's folder, which the program means by
        `..`.
        """
        found = (each for each in self._candidates(policy, path) if self._may_look(each) and os.path.exists(each))
        return next(map(os.path.realpath, found), None)

    def _may_look(self, path: str) -> bool:
        return not any(_below(os.path.normpath(path), folder) for folder in self.unseen)

    def _candidates(self, policy: Policy, path: str) -> Iterator[str]:
        covering = [(mount.target, mount.source) for mount in policy.filesystem.mounts if _below(path, mount.target)]
        if covering:
            target, source = max(covering, key=lambda item: len(item[0]))
            if isinstance(source, str):
                yield _joined(source, path[len(target) :])
                return
        if _below(path, BOX):
            if self.folder is not None:
                yield _joined(self.folder, path[len(BOX) :])
            return
        box_home = policy.environment.home
        if _below(path, box_home):
            yield _joined(self.home, path[len(box_home) :])
        yield path
        if self.folder is not None:
            yield _joined(os.path.dirname(self.folder), path)

    def why_never(self, source: str) -> str:
        """Returns why no policy should show this file or folder; an empty text if a policy may.

        source: a path without links.
        """
        if any(_below(source, place) for place in _NEVER):
            return "it belongs to the kernel or to running programs of the host"
        if why := why_no_mount(source):
            return f"it {why}"
        if os.path.isdir(source):
            if _below(os.path.realpath(self.home), source) or os.path.dirname(source) == "/home":
                return "it is a home folder, or holds one"
            if os.path.dirname(source) == "/":
                return "it is one of the host's own top folders"
        if not os.access(source, os.R_OK):
            return "you cannot read it yourself"
        return ""

    def why_secret(self, source: str) -> str:
        """Returns why a file or folder may contain a secret; an empty text if there is no sign of it."""
        names = [name for name in source.split("/") if name]
        hidden = next((name for name in names if name.startswith(".")), "")
        if hidden:
            return f"{hidden} begins with a dot: such files are hidden from boxes"
        if names and _is_secret_name(names[-1]):
            return f"{names[-1]} is named like a key or a password"
        kept = next((name for name in names[:-1] if name.lower() in _SECRET_FOLDERS), "")
        return f"the folder {kept} is named like one for keys" if kept else ""


def _joined(folder: str, rest: str) -> str:
    return os.path.join(folder, rest.lstrip("/")) if rest.strip("/") else folder


def _is_secret_name(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in _SECRET_NAMES)


def shown_by(folder: str, names: tuple[str, ...] | None = None) -> Shown:
    """Reads a folder and all that is below it, up to MOST_ENTRIES entries.

    names: only names directly in it that match these patterns are counted; None for all.
    """
    files = size = hidden = seen = 0
    secrets: list[str] = []
    waiting = [folder]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                seen += 1
                if seen > MOST_ENTRIES:
                    return Shown(files, size, hidden, tuple(secrets), False)
                is_shown = names is None or os.path.dirname(entry.path) != folder or matches(names, entry.name)
                if not is_shown:
                    continue
                if entry.name.startswith("."):
                    hidden += 1
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    files += 1
                    size += size_of(entry.path)
                if _is_secret_name(entry.name) and len(secrets) < _MOST_NAMED:
                    secrets.append(os.path.relpath(entry.path, folder))
    return Shown(files, size, hidden, tuple(secrets))


def matches(names: Iterable[str], name: str) -> bool:
    """Whether a name matches one of a mount's patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in names)


def size_of(path: str) -> int:
    """Returns the size of a file, 0 if it is no regular file."""
    try:
        status = os.stat(path)
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def is_empty(folder: str) -> bool:
    """Whether a folder has nothing in it, or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def is_private(path: str) -> bool:
    """Whether only its owner can read a file."""
    try:
        return not os.stat(path).st_mode & 0o077
    except OSError:
        return False
