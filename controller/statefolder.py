"""Folders for a user's files, by the XDG base directory specification, to which no other user can write.

They are $XDG_STATE_HOME/proxybox and $XDG_CACHE_HOME/proxybox.
"""

import contextlib
import os
import stat


def state_folder(name: str) -> str | None:
    """Returns the path of a folder for files that must not be lost; None for a user without a home.

    It may not exist yet. A relative $XDG_STATE_HOME is ignored.
    """
    return _folder("XDG_STATE_HOME", (".local", "state"), name)


def cache_folder(name: str) -> str | None:
    """Returns the path of a folder for files that can be made again, in $XDG_CACHE_HOME; see `state_folder`."""
    return _folder("XDG_CACHE_HOME", (".cache",), name)


def is_ours(path: str, *, may_be_shared: bool = False) -> bool:
    """Whether a folder belongs to this user or root, and not all users may write to it. Raises OSError.

    For a symbolic link, both the link and its target are checked. may_be_shared: whether it may be like /tmp (the
    sticky bit).
    """
    for seen in (os.lstat(path), os.stat(path)):
        is_open = seen.st_mode & stat.S_IWOTH and not stat.S_ISLNK(seen.st_mode)
        is_shared = may_be_shared and seen.st_mode & stat.S_ISVTX
        if seen.st_uid not in (os.geteuid(), 0) or (is_open and not is_shared):
            return False
    return True


def make_ours_alone(fd: int) -> None:
    """Makes a file accessible to its owner only. Call it before writing: an older file may be accessible to others.

    Raises OSError for another user's file. The modes of a filesystem without modes, and of a terminal, do not change.
    """
    seen = os.fstat(fd)
    if stat.S_ISREG(seen.st_mode) and stat.S_IMODE(seen.st_mode) & 0o077:
        with contextlib.suppress(PermissionError) if seen.st_uid == os.geteuid() else contextlib.nullcontext():
            os.fchmod(fd, 0o600)


def _folder(variable: str, default: tuple[str, ...], name: str) -> str | None:
    parent = os.environ.get(variable, "")
    if not os.path.isabs(parent):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        parent = os.path.join(home, *default)
    return os.path.join(parent, "proxybox", name)
