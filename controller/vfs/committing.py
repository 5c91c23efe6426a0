"""Writes the reviewed changes of an overlay to the host folder below.

Rules: everything is checked before anything is written, and every file is written before anything is deleted or
replaced, so that a full disk changes nothing. Files are written under temporary names and put in their places by
rename, by directory descriptors that host.py opened; what they replace must still be what the box was shown. Set-id
bits are never written, and no symlink that leads out of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat as st
from collections.abc import Sequence

from proxybox.controller.abi import RENAME_EXCHANGE, RENAME_NOREPLACE
from proxybox.controller.vfs import host
from proxybox.controller.vfs.changes import Change, Origin
from proxybox.controller.vfs.hostdirectory import HostDirectory
from proxybox.controller.vfs.overlay import OverlayMount
from proxybox.policies.errors import ProxyboxError

MAX_LINKS = 40


class CommitRefused(ProxyboxError):
    """Nothing was written. `reasons` says why, one line for each change that could not be made."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("nothing was written: " + "; ".join(reasons))
        self.reasons = reasons


def commit(overlay: OverlayMount, changes: Sequence[Change]) -> list[Change]:
    """Write `changes`; returns those that the mount hides and that were left out."""
    lower = overlay.lower
    if not isinstance(lower, HostDirectory):
        raise CommitRefused(["the overlay does not lie over a host folder"])
    mount = lower.mount
    wanted: list[Change] = []
    left_out: list[Change] = []
    for change in changes:
        hidden = any(mount.hides(name) for name in change.path.split(b"/"))
        (left_out if hidden else wanted).append(change)
    root = mount.host
    deleted = {change.path for change in wanted if change.kind == "deleted"}
    coming = {change.path: change for change in wanted if change.kind != "deleted"}
    reasons = [why for change in wanted if (why := _refusal(root, change, deleted, coming))]
    if reasons:
        raise CommitRefused(reasons)
    by_depth = sorted(wanted, key=lambda change: change.path.count(b"/"))
    with _Staged(root, deleted) as staged:
        for change in by_depth:
            if change.kind != "deleted" and change.type == "file":
                staged.write(change)
        for change in reversed(by_depth):
            if change.kind == "deleted":
                _delete(root, change)
        for type_of, write in (("dir", _write_dir), ("file", staged.put), ("symlink", _write_symlink)):
            for change in by_depth:
                if change.kind != "deleted" and change.type == type_of:
                    write(root, change)
    return left_out


# --- checks ---


def _refusal(root: host.HostRoot, change: Change, deleted: set[bytes], coming: dict[bytes, Change]) -> str | None:
    parts = change.path.split(b"/")
    if not change.path or any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
        return f"{change.name}: not a path inside the folder"
    if change.type == "file" and change.kind != "deleted" and change.content is None:
        return f"{change.name}: too large to be kept, or not to be read"
    found = _look(root, change.path)
    if change.kind == "added":
        if found is not None and change.path not in deleted:
            return f"{change.name}: appeared on the host meanwhile"
    elif found is None:
        return f"{change.name}: vanished from the host meanwhile"
    elif not _is_still(change, found):
        return f"{change.name}: changed on the host meanwhile"
    if change.type == "symlink" and change.kind != "deleted" and _leads_out(root, change, coming):
        return f"{change.name}: a symbolic link that leads out of the folder"
    return None


def _look(root: host.HostRoot, path: bytes) -> os.stat_result | None:
    try:
        return root.look(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def _is_still(change: Change, found: os.stat_result) -> bool:
    if change.type == "dir":
        return st.S_ISDIR(found.st_mode)
    return change.origin is not None and Origin.of(found) == change.origin


def _leads_out(root: host.HostRoot, change: Change, coming: dict[bytes, Change]) -> bool:
    """Walk the link's text over what the folder will be; absolute, or above it, leads out."""
    here = change.path.split(b"/")[:-1]
    left = (change.target or b"").split(b"/")[::-1]
    if (change.target or b"/")[:1] == b"/":
        return True
    links = 0
    while left:
        name = left.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            if not here:
                return True
            here.pop()
            continue
        here.append(name)
        target = _target_at(root, b"/".join(here), coming)
        if target is None:
            continue
        links += 1
        if target == b"" or (b".." in left and target == b"?"):
            return True  # leads to nothing yet, and ".." after that could mean anything
        if target == b"?":
            continue
        if target[:1] == b"/" or links > MAX_LINKS:
            return True
        here.pop()
        left.extend(target.split(b"/")[::-1])
    return False


def _target_at(root: host.HostRoot, path: bytes, coming: dict[bytes, Change]) -> bytes | None:
    """The text of the link at `path`, None for a file or folder, b"?" for nothing."""
    change = coming.get(path)
    if change is not None:
        return (change.target or b"") if change.type == "symlink" else None
    found = _look(root, path)
    if found is None:
        return b"?"
    return root.read_link(path) if st.S_ISLNK(found.st_mode) else None


# --- writing ---


def _split(path: bytes) -> tuple[bytes, bytes]:
    folder, _, name = path.rpartition(b"/")
    return folder, name


def _delete(root: host.HostRoot, change: Change) -> None:
    folder, name = _split(change.path)
    with root.directory_fd(folder) as fd:
        if change.type == "dir":
            os.rmdir(name, dir_fd=fd)
        else:
            os.unlink(name, dir_fd=fd)


def _write_dir(root: host.HostRoot, change: Change) -> None:
    folder, name = _split(change.path)
    with root.directory_fd(folder) as fd:
        if change.kind == "added":
            os.mkdir(name, 0o700, dir_fd=fd)
        with root.directory_fd(change.path) as made:
            if change.kind == "added":
                _give_to_owner(fd, made)
            host.change_mode(made, change.mode)


class _Staged:
    """Files under temporary names, each in the last folder of its path that is there and stays. At the end of the with
    block those are removed that were not put in their places."""

    def __init__(self, root: host.HostRoot, deleted: set[bytes]) -> None:
        self._root = root
        self._deleted = deleted
        self._lasts: dict[bytes, bool] = {b"": True}
        self._names: dict[bytes, tuple[bytes, bytes]] = {}  # of what is written: (folder, temporary name)

    def __enter__(self) -> _Staged:
        return self

    def __exit__(self, *_: object) -> None:
        for folder, temporary in self._names.values():
            with contextlib.suppress(OSError), self._root.directory_fd(folder) as fd:
                os.unlink(temporary, dir_fd=fd)

    def write(self, change: Change) -> None:
        folder = self._lasting_folder(_split(change.path)[0])
        temporary = b".%s.proxybox" % secrets.token_hex(8).encode()
        with self._root.directory_fd(folder) as fd:
            file_fd = host.create_file(fd, temporary, 0o600)
            self._names[change.path] = folder, temporary
            try:
                _write_all(file_fd, change.content or b"")
                _give_to_owner(fd, file_fd)
                os.fchmod(file_fd, change.mode & 0o777)
            finally:
                os.close(file_fd)

    def put(self, root: host.HostRoot, change: Change) -> None:
        folder, name = _split(change.path)
        staged_in, temporary = self._names[change.path]
        with root.directory_fd(folder) as fd, root.directory_fd(staged_in) as staged_fd:
            _put(staged_fd, temporary, fd, name, change)
        del self._names[change.path]

    def _lasting_folder(self, folder: bytes) -> bytes:
        lasting, parts = b"", folder.split(b"/")
        for count in range(1, len(parts) + 1):
            prefix = b"/".join(parts[:count])
            if prefix not in self._lasts:
                found = None if prefix in self._deleted else _look(self._root, prefix)
                self._lasts[prefix] = found is not None and st.S_ISDIR(found.st_mode)
            if not self._lasts[prefix]:
                break
            lasting = prefix
        return lasting


def _put(staged_fd: int, temporary: bytes, fd: int, name: bytes, change: Change) -> None:
    """Into its place, if that is still free, or still holds what the box was shown."""
    if change.kind == "added":
        host.rename(staged_fd, temporary, fd, name, RENAME_NOREPLACE)
        return
    host.rename(staged_fd, temporary, fd, name, RENAME_EXCHANGE)
    displaced = os.stat(temporary, dir_fd=staged_fd, follow_symlinks=False)
    if change.origin is None or not _same_file(displaced, change.origin):
        host.rename(staged_fd, temporary, fd, name, RENAME_EXCHANGE)
        raise OSError(errno.EBUSY, f"{change.name}: changed on the host while it was written")
    os.unlink(temporary, dir_fd=staged_fd)


def _same_file(found: os.stat_result, origin: Origin) -> bool:
    return Origin.of(found) == origin


def _write_symlink(root: host.HostRoot, change: Change) -> None:
    folder, name = _split(change.path)
    with root.directory_fd(folder) as fd:
        if change.kind == "modified":
            os.unlink(name, dir_fd=fd)
        os.symlink(change.target or b".", name, dir_fd=fd)
        with root.path_fd(change.path) as made:
            if st.S_ISLNK(os.fstat(made).st_mode):
                _give_to_owner(fd, made)


def _give_to_owner(directory_fd: int, made: int) -> None:
    """What root writes into somebody's folder is theirs. By descriptor: by now the name may be another's."""
    if os.geteuid() == 0:
        owner = os.fstat(directory_fd)
        host.change_owner(made, owner.st_uid, owner.st_gid)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
