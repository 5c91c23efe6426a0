"""Files and symlinks of a host mount as nodes; see mount.py for the rules."""

from __future__ import annotations

import errno
import os
import stat as st
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from proxybox.controller.abi import O_ACCMODE, O_RDONLY, O_RDWR, O_TRUNC
from proxybox.controller.errors import Denied
from proxybox.controller.vfs.host import attributes, boundary
from proxybox.controller.vfs.host.attributes import Attributes
from proxybox.controller.vfs.host.filesystem import HostFilesystem, shown_mode
from proxybox.controller.vfs.host.use import FileId, HeldFile, identity
from proxybox.controller.vfs.nodes import (
    MAX_FILE_SIZE,
    Credentials,
    Node,
    RegularFile,
    Stat,
    Symlink,
    mode_permits,
)
from proxybox.controller.vfs.quota import PAGE

if TYPE_CHECKING:
    from proxybox.controller.vfs.openfiles import OpenFile

FRESH_NS = 1_000_000
"""How long the status from a lookup is used instead of asking the host again: long enough for the same OS call."""


class HostNode(Node):
    """The base of files, folders and links of the host."""

    __slots__ = ("_above", "_mount", "_name", "_seen", "_seen_at")

    def __init__(self, mount: HostFilesystem, above: HostNode | None, name: bytes) -> None:
        super().__init__(mount.superblock)
        self._mount = mount
        self._above = above
        self._name = name
        self._seen: os.stat_result | None = None  # the status from the lookup, for the call that looked it up
        self._seen_at = 0

    @property
    def mount(self) -> HostFilesystem:
        """The mount that the node belongs to."""
        return self._mount

    def note(self, seen: os.stat_result) -> None:
        """Stores the status from a lookup for the requests that follow at once."""
        self._seen, self._seen_at = seen, time.monotonic_ns()

    def moved(self, above: HostNode, name: bytes) -> None:
        """Records its new place in the mount."""
        self._above, self._name = above, name

    def relative(self) -> bytes:
        """The path below the mount's root; b"" for the root."""
        names = []
        step: HostNode | None = self
        while step is not None and step._above is not None:
            names.append(step._name)
            step = step._above
        return b"/".join(reversed(names))

    def own_fd(self) -> AbstractContextManager[int]:
        """A descriptor of this node, which must be a folder, until the context ends."""
        return self._mount.host.directory_fd(self.relative())

    def look(self) -> os.stat_result:
        """The host's status now, or the one from a lookup a moment ago."""
        seen = self._seen
        if seen is None or time.monotonic_ns() - self._seen_at > FRESH_NS:
            path = self.relative()
            self.superblock.steps.take_host(path.count(b"/"))
            seen = self._mount.host.look(path)
            if st.S_IFMT(seen.st_mode) != self.kind:
                raise OSError(errno.ENOENT, "it was replaced on the host")
            self.note(seen)
        return seen

    def stat(self) -> Stat:
        return self._mount.show(self.look())

    def attributes(self) -> Attributes:
        """The extended attributes that it has on the host now. They are not shown to the box."""
        with self._mount.host.path_fd(self.relative()) as fd:
            return attributes.read(fd)

    def permits(self, creds: Credentials, mask: int) -> bool:
        seen = self.look()
        superblock = self.superblock
        return mode_permits(shown_mode(seen), superblock.uid, superblock.gid, creds, mask)

    def owned_by(self, creds: Credentials) -> bool:
        return creds.uid in (0, self.superblock.uid)

    def need_writable(self) -> None:
        """Raises EROFS on a read-only mount."""
        if self.superblock.read_only:
            self.refuse_change()

    def chmod(self, mode: int) -> None:
        self.need_writable()
        with self._mount.host.path_fd(self.relative()) as fd:
            self._change_mode(fd, mode)

    def _change_mode(self, fd: int, mode: int) -> None:
        if st.S_IFMT(os.fstat(fd).st_mode) not in (st.S_IFREG, st.S_IFDIR):
            raise OSError(errno.EOPNOTSUPP, "no mode to change")
        boundary.change_mode(fd, mode)
        self._seen = None
        self.superblock.forget()

    def chown(self, uid: int, gid: int) -> None:
        self.need_writable()
        if uid not in (-1, self.superblock.uid) or gid not in (-1, self.superblock.gid):
            raise Denied(errno.EPERM, "owners of host files cannot be changed from a box")

    def utimens(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self.need_writable()
        with self._mount.host.path_fd(self.relative()) as fd:
            self._change_times(fd, atime_ns, mtime_ns)

    def _change_times(self, fd: int, atime_ns: int | None, mtime_ns: int | None) -> None:
        seen = os.fstat(fd)
        if st.S_IFMT(seen.st_mode) not in (st.S_IFREG, st.S_IFDIR):
            raise OSError(errno.EOPNOTSUPP, "neither a file nor a folder")
        with _representable():
            boundary.change_times(
                fd,
                seen.st_atime_ns if atime_ns is None else atime_ns,
                seen.st_mtime_ns if mtime_ns is None else mtime_ns,
            )
        self._seen = None


class HostFile(HostNode, RegularFile):
    """A regular file, found by its name, or open through the host descriptor that its box has of it.

    _fd: the descriptor of `_held`; None when the file is only known by name. _taken: whether the guest has opened the
    file through this node, or the node was closed.
    """

    __slots__ = ("_fd", "_held", "_taken")

    def __init__(
        self, mount: HostFilesystem, above: HostNode | None, name: bytes, held: HeldFile | None = None
    ) -> None:
        super().__init__(mount, above, name)
        self._held = held
        self._fd = None if held is None else held.fd
        self._taken = False
        if held is not None:
            mount.open_nodes.add(self)

    @property
    def file_name(self) -> bytes:
        """The name by which it was found."""
        return self._name

    @property
    def folder(self) -> HostNode:
        """The directory in which it was found."""
        if self._above is None:
            raise OSError(errno.ENOENT, "a file without a folder")
        return self._above

    def close_fd(self) -> None:
        """Releases the host descriptor if there is one."""
        held, self._held, self._fd = self._held, None, None
        if held is not None:
            self._taken = True
            if held.release():
                self._mount.forget_inode(held.file)

    def __del__(self) -> None:
        self.close_fd()

    def look(self) -> os.stat_result:
        if self._fd is not None:
            return os.fstat(self._fd)
        if self._taken:
            raise OSError(errno.EBADF, "closed")
        return super().look()

    def attributes(self) -> Attributes:
        return super().attributes() if self._fd is None else attributes.read(self._fd)

    def open(self, flags: int) -> OpenFile:
        from proxybox.controller.vfs.openfiles import HostOpenFile

        if flags & (O_ACCMODE | O_TRUNC):
            self.need_writable()
        if self._fd is not None and not self._taken:
            self._taken = True
            return HostOpenFile(self, flags)
        mode = flags & O_ACCMODE
        if mode == O_ACCMODE or (mode == O_RDONLY and flags & O_TRUNC):
            mode = O_RDWR
        if self._fd is not None:
            fd = boundary.reopen(self._fd, mode)
        else:
            fd = self._mount.host.open_file(self.relative(), mode)
        node = HostFile(self._mount, self._above, self._name, self._mount.use.hold(fd, mode))
        node._taken = True
        if flags & O_TRUNC:
            node.truncate(0)
        return HostOpenFile(node, flags)

    @contextmanager
    def _opened(self, flags: int) -> Iterator[tuple[int, FileId]]:
        """The held descriptor, or one that is opened for this context only, and the file's identity."""
        held = self._held
        if held is not None:
            yield held.fd, held.file
            return
        if self._taken:
            raise OSError(errno.EBADF, "closed")
        fd = self._mount.host.open_file(self.relative(), flags)
        try:
            yield fd, identity(os.fstat(fd))
        finally:
            os.close(fd)

    def size(self) -> int:
        return self.look().st_size

    def room(self) -> int:
        """How many bytes the host's disk has for this file when it is overwritten."""
        with self._mount.host.path_fd(self.relative()) as fd:
            disk, own = os.fstatvfs(fd), os.fstat(fd).st_blocks * 512
        return disk.f_bavail * disk.f_frsize + own

    def pread(self, size: int, offset: int) -> bytes:
        offset = min(offset, MAX_FILE_SIZE)
        if self._fd is not None:
            return os.pread(self._fd, size, offset)
        with self._opened(O_RDONLY) as (fd, _):
            return os.pread(fd, size, offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        return self._write(data, offset, os.pwrite)

    def append(self, data: bytes) -> tuple[int, int]:
        """Like `append` of every file; but the host finds the end, since other processes may write there, too."""
        done = self._write(data, self.size(), _append)
        if not done or self._fd is None:
            return done, self.size()
        return done, os.lseek(self._fd, 0, os.SEEK_CUR)

    def _write(self, data: bytes, offset: int, put: Callable[[int, bytes, int], int]) -> int:
        self.need_writable()
        if not data:
            return 0
        if offset + len(data) > MAX_FILE_SIZE:
            raise OSError(errno.EFBIG, "past the largest offset")
        held = self._held
        if held is not None:
            return self._charged(held.fd, held.file, data, offset, put)
        with self._opened(O_RDWR) as (fd, file):
            return self._charged(fd, file, data, offset, put)

    def _charged(self, fd: int, file: FileId, data: bytes, offset: int, put: Callable[[int, bytes, int], int]) -> int:
        """Writes as much as the quota allows."""
        mount, done = self._mount, 0
        gap = mount.charge_length(fd, file, offset)
        try:
            size, pages = mount.use.charge_write(fd, file, offset, len(data))
            try:
                done = put(fd, data[:size], offset)
            finally:  # the host may have less space than the box
                if done < size:
                    mount.use.credit(file, [page for page in pages if not done or page * PAGE >= offset + done])
        finally:
            if not done:
                mount.use.credit(file, gap)
        self._seen = None
        mount.stamp(fd)
        return done

    def truncate(self, size: int) -> None:
        self.need_writable()
        if size > MAX_FILE_SIZE:
            raise OSError(errno.EFBIG, "past the largest offset")
        with self._opened(O_RDWR) as (fd, file):
            gap = self._mount.charge_length(fd, file, size)
            try:
                os.ftruncate(fd, size)
            except OSError:
                self._mount.use.credit(file, gap)
                raise
            self._seen = None
            self._mount.use.cut(file, size)
            self._mount.stamp(fd)

    def allocate(self, offset: int, size: int, keep_size: bool) -> None:
        if keep_size:
            raise OSError(errno.EOPNOTSUPP, "not on host files")
        self.need_writable()
        if offset + size > self.size():
            self.truncate(offset + size)

    def seek_data(self, offset: int, hole: bool) -> int:
        with self._opened(O_RDONLY) as (fd, _):
            return os.lseek(fd, min(offset, MAX_FILE_SIZE), os.SEEK_HOLE if hole else os.SEEK_DATA)

    def chmod(self, mode: int) -> None:
        if self._fd is None:
            return super().chmod(mode)
        self.need_writable()
        return self._change_mode(self._fd, mode)

    def utimens(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        if self._fd is None:
            return super().utimens(atime_ns, mtime_ns)
        self.need_writable()
        return self._change_times(self._fd, atime_ns, mtime_ns)


def _append(fd: int, data: bytes, _: int) -> int:
    """pwritev2(2) at the end of the file. It moves the descriptor's own offset, too."""
    return os.pwritev(fd, [data], -1, os.RWF_APPEND)


class HostSymlink(HostNode, Symlink):
    """A symlink of the host; its text is walked in virtual space only."""

    __slots__ = ()

    @property
    def target(self) -> bytes:
        path = self.relative()
        folder = path.split(b"/")[:-1]
        self.superblock.steps.take_host(len(folder))
        return self._mount.show_target(self._mount.host.read_link(path), folder)

    def permits(self, creds: Credentials, mask: int) -> bool:
        return True

    def utimens(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self.need_writable()
        above, seen = self._above, self.look()
        if above is None:
            raise OSError(errno.ENOENT, "a link without a folder")
        atime_ns = seen.st_atime_ns if atime_ns is None else atime_ns
        mtime_ns = seen.st_mtime_ns if mtime_ns is None else mtime_ns
        with _representable(), self._mount.host.directory_fd(above.relative()) as fd:
            boundary.change_link_times(fd, self._name, atime_ns, mtime_ns)
        self._seen = None

    def stat(self) -> Stat:
        seen = self.look()
        shown = self._mount.show(seen)
        return shown if shown.size < 2 else _with_size(shown, len(self.target))


@contextmanager
def _representable() -> Iterator[None]:
    """Raises EINVAL for a time that the host cannot store."""
    try:
        yield
    except OverflowError:
        raise OSError(errno.EINVAL, "no such time on the host") from None


def _with_size(shown: Stat, size: int) -> Stat:
    return Stat(
        shown.dev, shown.ino, shown.mode, shown.nlink, shown.uid, shown.gid, shown.rdev, size,
        shown.blocks, shown.atime_ns, shown.mtime_ns, shown.ctime_ns,
    )  # fmt: skip
