"""Folders that the host does not move.

overlayfs without redirect_dir moves no folder of a lower layer: rename(2) fails with EXDEV. Such a folder is taken
apart. There is one step for each file and link in it, which are moved like all others, and one more step that removes
the empty folders. When the commit is undone, that step makes the folders again. Only their times are lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as st
from collections.abc import Iterator
from typing import Final

import attrs

from proxybox.controller.vfs.commits.fingerprints import fingerprint
from proxybox.controller.vfs.commits.journal import Act, RemovedFolder, Step
from proxybox.controller.vfs.host import attributes, boundary

OVERLAYFS: Final = 0x794C7630
_FULL: Final = b"full"
_AGAIN: Final = b"again"


def is_moved(root: boundary.HostRoot, path: bytes, staged: boundary.HostRoot) -> bool:
    """Whether the host can move a folder.

    This tries a move that cannot succeed, onto a folder that is not empty. overlayfs reports EXDEV before it reports
    that the place is taken.
    """
    if boundary.filesystem_type(root.fd) != OVERLAYFS:
        return True
    with contextlib.suppress(FileExistsError):
        os.mkdir(_FULL, 0o700, dir_fd=staged.fd)
        os.mkdir(_FULL + b"/x", 0o700, dir_fd=staged.fd)
    folder, _, name = path.rpartition(b"/")
    with root.directory_fd(folder) as fd:
        try:
            boundary.rename(fd, name, staged.fd, _FULL, 0)
        except OSError as error:
            return error.errno != errno.EXDEV
    raise OSError(errno.EIO, "a folder that is not empty was replaced")


def taken_apart(root: boundary.HostRoot, step: Step, numbers: Iterator[int]) -> list[Step]:
    """The steps that replace `step` where its folder cannot be moved: they remove it part by part.

    numbers: the numbers of free slots.
    """
    folders, parts, left = [], [], [step.place]
    while left:
        here = left.pop()
        with root.directory_fd(here) as fd:
            seen, has = os.fstat(fd), attributes.read(fd)
        mode = st.S_IMODE(seen.st_mode)
        folders.append(
            RemovedFolder(path=os.fsdecode(here), mode=mode, uid=seen.st_uid, gid=seen.st_gid, attributes=has)
        )
        for name, kind in root.kinds(here, boundary.MAX_ENTRIES):
            path = here + b"/" + name
            if kind == st.S_IFDIR:
                left.append(path)
            else:
                old = fingerprint(root, path)
                parts.append(Step(act=Act.PART, path=os.fsdecode(path), slot=next(numbers), old=old))
    return [*parts, attrs.evolve(step, act=Act.APART, old=None, folders=tuple(folders))]


def remove_folders(root: boundary.HostRoot, step: Step) -> None:
    """Removes all folders of the step, the deepest first. Folders that no longer exist are skipped.

    Raises OSError for a folder that is not empty.
    """
    for each in reversed(step.folders):
        folder, _, name = each.place.rpartition(b"/")
        with contextlib.suppress(FileNotFoundError), root.directory_fd(folder) as fd:
            os.rmdir(name, dir_fd=fd)


def make_folders(root: boundary.HostRoot, step: Step, staged: boundary.HostRoot) -> None:
    """Makes the removed folders of the step again, with their owners and modes.

    A folder can only be moved while its owner may write to it. So it is moved to its place with the bits 0700 added to
    its mode, and gets its own mode there.
    """
    for each in step.folders:
        folder, _, name = each.place.rpartition(b"/")
        with root.directory_fd(folder) as fd:
            if not _is_there(fd, name):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(_AGAIN, 0o700, dir_fd=staged.fd)
                with staged.directory_fd(_AGAIN) as made:
                    if os.geteuid() == 0:
                        boundary.change_owner(made, each.uid, each.gid)
                    attributes.write(made, attributes.at_mode(each.attributes, each.mode | 0o700))
                    boundary.restore_mode(made, each.mode | 0o700)
                boundary.rename(staged.fd, _AGAIN, fd, name, 0)
        with root.directory_fd(each.place) as fd:
            if each.mode != st.S_IMODE(os.fstat(fd).st_mode) == each.mode | 0o700:
                boundary.restore_mode(fd, each.mode)


def _is_there(fd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
