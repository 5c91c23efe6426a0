"""Folders of the host that store a sample's files between commands, each of which has a box of its own.

Rules: programs have these folders as writable mounts, so they choose the names, depth and modes of the files. This
module only counts and removes files; only boxes read and write them. Links are never followed.
"""

import errno
import os
import stat
import tempfile

from proxybox.controller.removal import remove_folder
from proxybox.controller.vfs.host.boundary import HostRoot, change_mode
from proxybox.policies import Environment, Mount, Policy, evolve
from proxybox.program import BOX

#: The names of the folders on the host.
_NAMES = ("box", "tmp", "home")
#: How many entries of a folder are counted: in effect all.
_EVERY = 1 << 30


class SampleFolder:
    """The files of one sample: those in /box, /tmp and the home folder of its boxes.

    policy: that of the boxes, without these folders. `limits.disk` and `limits.files` bound the files of all commands
    together; of commands that run at the same time, each may use what was left at its beginning.
    """

    def __init__(self, policy: Policy) -> None:
        self._path = tempfile.mkdtemp(prefix="proxybox-sample-")
        for name in _NAMES:
            os.mkdir(os.path.join(self._path, name), 0o755)
        places = {"/tmp": "tmp", policy.environment.home: "home"}  # noqa: S108 - a path in the box
        own = {mount.target for mount in policy.filesystem.mounts}
        mounts = [
            Mount(place, os.path.join(self._path, name), mode="rw")
            for place, name in places.items()
            if place not in own and not f"{place}/".startswith(f"{BOX}/")
        ]
        self._policy = evolve(
            policy,
            filesystem={"box": "rw", "hide_dotfiles": False, "mounts": [*mounts, *policy.filesystem.mounts]},
        )

    @property
    def environment(self) -> Environment:
        """The user and the working directory of programs."""
        return self._policy.environment

    @property
    def box(self) -> str:
        """The host folder of /box."""
        return os.path.join(self._path, "box")

    def policy(self) -> Policy:
        """Returns the policy of the next command, whose limits are reduced by the files of the earlier ones."""
        limits = self._policy.limits
        size, files = self._used()
        disk = None if limits.disk is None else max(0, limits.disk - size)
        count = None if limits.files is None else max(0, limits.files - files)
        return evolve(self._policy, limits={"disk": disk, "files": count})

    def remove(self) -> None:
        """Removes the folders. No box may run at that time."""
        remove_folder(self._path)

    def _used(self) -> tuple[int, int]:
        """Returns how many bytes and how many files exist; returns the limits if a path is too long to be read."""
        root, size, files = HostRoot(self._path), 0, -len(_NAMES)
        try:
            pending = [b""]
            while pending:
                folder = pending.pop()
                for name, kind in _entries(root, folder):
                    path = folder + b"/" + name if folder else name
                    files += 1
                    size += _size(root, path) if kind == stat.S_IFREG else 0
                    if kind == stat.S_IFDIR:
                        pending.append(path)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return self._policy.limits.disk or 0, self._policy.limits.files or 0
        finally:
            root.close()
        return size, files


def _entries(root: HostRoot, folder: bytes) -> list[tuple[bytes, int]]:
    """Returns names and kinds; an empty list for a folder that a command has removed meanwhile.

    A folder that its owner cannot read is made readable: otherwise it would hide files.
    """
    try:
        try:
            return root.kinds(folder, _EVERY)
        except PermissionError:
            with root.path_fd(folder) as fd:
                change_mode(fd, 0o700)
            return root.kinds(folder, _EVERY)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _size(root: HostRoot, path: bytes) -> int:
    try:
        return root.look(path).st_blocks * 512
    except (FileNotFoundError, NotADirectoryError):
        return 0
