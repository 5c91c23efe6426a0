"""Host folders and files as nodes: mounts of mode ro and rw.

Rules: a node holds names, never a host path; boundary.py opens them. Owners, device and inode numbers are the box's.
Set-id bits are neither shown nor stored. FIFOs, sockets, devices and, on request, dotfiles and names that match no
pattern are hidden: they are not listed, and looking them up fails with ENOENT. In a box whose clock is not real,
written files get the box's time, and times that the host sets by itself are not shown.
"""

from __future__ import annotations

import os

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.vfs.host.directory import HostDirectory
from proxybox.controller.vfs.host.filesystem import HostFilesystem
from proxybox.controller.vfs.host.nodes import HostFile
from proxybox.controller.vfs.host.use import HostUse
from proxybox.controller.vfs.nodes import Node, Superblock


class HostMount(HostFilesystem):
    """A host folder (or one file of it) in the tree.

    source: a path in the host. superblock: the box's; its `read_only` is set unless `writable`. target: where the mount
    will be; absolute symlinks inside are shown as paths in the box, and those that lead elsewhere in the host are not
    shown. root: the node to mount. use: the box's use of the host so far, which charges the quota of the superblock.
    names: patterns of the names directly in the folder that are shown, for a folder that is not written; None for all.
    Raises SandboxStartError.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        superblock: Superblock,
        *,
        writable: bool = False,
        hide_dotfiles: bool = False,
        target: bytes = b"",
        use: HostUse | None = None,
        names: tuple[str, ...] | None = None,
    ) -> None:
        path = os.path.realpath(source)
        is_file = os.path.isfile(path)
        folder, name = os.path.split(path) if is_file else (path, "")
        if names is not None and (is_file or writable):
            raise SandboxStartError(f"{path}: names choose among those of a folder that is mounted read-only")
        super().__init__(
            folder, superblock, writable=writable, hide_dotfiles=hide_dotfiles, target=target, use=use, names=names
        )
        top = HostDirectory(self)
        self.root: Node = HostFile(self, top, os.fsencode(name)) if is_file else top
