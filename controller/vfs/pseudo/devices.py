"""Character devices of the box: /dev/null and similar ones, and the standard streams.

Rules: no host device is ever opened; what a device does is implemented here. The standard streams are objects of the
world with the small interfaces `InputSource` and `Sink`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Set
from typing import Any, Protocol

import attrs

from proxybox.controller.abi import O_RDONLY, O_RDWR, O_WRONLY, S_IFCHR, S_IFIFO, pack_stat
from proxybox.controller.effects import Blocked
from proxybox.controller.vfs.inodes import Inode
from proxybox.controller.vfs.memory import MemoryDirectory, MemorySymlink
from proxybox.controller.vfs.nodes import Stat, Superblock
from proxybox.controller.vfs.openfiles import MAX_TRANSFER, OpenFile, StreamOpenFile


class InputSource(Protocol):
    """What a standard stream reads from."""

    @property
    def is_tty(self) -> bool:
        """Whether it is a terminal."""

    @property
    def host_fd(self) -> int | None:
        """A host descriptor that is readable when there is more to read; None when reading never waits."""

    def take(self, size: int) -> bytes | None:
        """Up to `size` bytes, b"" at the end, None when there is nothing yet."""

    def readable(self) -> bool:
        """Whether `take` would return data or the end."""

    def pending(self) -> int:
        """How many bytes are known to be waiting."""


class Sink(Protocol):
    """What a standard stream writes to."""

    @property
    def is_tty(self) -> bool:
        """Whether it is a terminal."""

    def write(self, data: bytes) -> int:
        """Accepts all of `data` and returns its length. Raises EPIPE when there is no reader any more."""


class Device(Inode):
    """A device node. It is not charged to the quota."""

    __slots__ = ("rdev",)
    kind = S_IFCHR

    def __init__(self, superblock: Superblock, rdev: int, mode: int = 0o666) -> None:
        super().__init__(superblock, mode, superblock.uid, superblock.gid)
        self.rdev = rdev

    def stat(self) -> Stat:
        return Stat(
            self.superblock.dev, self.ino, self.mode, self.nlink, self.uid, self.gid, self.rdev,
            0, 0, self.atime_ns, self.mtime_ns, self.ctime_ns,
        )  # fmt: skip

    def stat_bytes(self) -> bytes:
        return pack_stat(self.stat())

    def free(self) -> None:
        """Credits nothing, because nothing was charged."""


class MemoryDevice(Device):
    """A device that always answers at once. produce: makes what a read returns. full: whether writes fail (ENOSPC)."""

    __slots__ = ("full", "produce")

    def __init__(
        self,
        superblock: Superblock,
        rdev: int,
        produce: Callable[[int], bytes],
        *,
        full: bool = False,
    ) -> None:
        super().__init__(superblock, rdev)
        self.produce = produce
        self.full = full

    def open(self, flags: int) -> OpenFile:
        return MemoryDeviceFile(self, flags)


class MemoryDeviceFile(OpenFile):
    """An open /dev/null, /dev/zero, /dev/full, /dev/random or /dev/urandom."""

    __slots__ = ("_device",)

    def __init__(self, node: MemoryDevice, flags: int) -> None:
        super().__init__(node, flags)
        self._device = node

    def read(self, size: int) -> bytes:
        self.need_read()
        return self._device.produce(min(size, MAX_TRANSFER))

    def write(self, data: bytes) -> int:
        self.need_write()
        if self._device.full and data:
            raise OSError(errno.ENOSPC, "/dev/full is full")
        return len(data)

    def pread(self, size: int, offset: int) -> bytes:
        return self.read(size)

    def pwrite(self, data: bytes, offset: int) -> int:
        return self.write(data)

    def seek(self, offset: int, whence: int) -> int:
        return 0

    @property
    def pollable(self) -> bool:
        return True


class StandardStream(Device):
    """stdin, stdout, stderr or a terminal: a source, a sink, or both. If it is no terminal, it is a FIFO."""

    __slots__ = ("sink", "source")
    kind = S_IFIFO

    def __init__(self, superblock: Superblock, source: InputSource | None = None, sink: Sink | None = None) -> None:
        super().__init__(superblock, 0, 0o666)
        self.source = source
        self.sink = sink

    @property
    def is_tty(self) -> bool:
        """Whether it is a terminal."""
        return self.kind == S_IFCHR

    def open(self, flags: int) -> OpenFile:
        return StandardFile(self, flags)


class TerminalDevice(StandardStream):
    """A standard stream that is a terminal."""

    __slots__ = ()
    kind = S_IFCHR

    def __init__(self, superblock: Superblock, source: InputSource | None = None, sink: Sink | None = None) -> None:
        super().__init__(superblock, source, sink)
        self.rdev = os.makedev(136, 0)
        self.mode = S_IFCHR | 0o666


class StandardFile(StreamOpenFile):
    """An open standard stream."""

    __slots__ = ("_stream",)

    def __init__(self, node: StandardStream, flags: int) -> None:
        super().__init__(node, flags)
        self._stream = node

    @property
    def is_tty(self) -> bool:
        return self._stream.is_tty

    @property
    def host_fd(self) -> int | None:
        return self._stream.source.host_fd if self._stream.source else None

    def sources(self) -> Set[object]:
        """The source; the driver watches a source that is on the host, and reports its changes."""
        return frozenset((self._stream.source,))

    def blocked(self, attempt: Any, interrupted: Any = None) -> Blocked:
        return attrs.evolve(super().blocked(attempt, interrupted), sources=None)

    def take(self, size: int) -> bytes | None:
        source = self._stream.source
        return b"" if source is None else source.take(size)

    def put(self, data: bytes) -> int | None:
        sink = self._stream.sink
        if sink is None:
            raise OSError(errno.EBADF, "nothing can be written there")
        return sink.write(data)

    def write(self, data: bytes) -> int | Blocked:
        self.need_write()
        return self.put(data) or 0

    def available(self) -> int:
        source = self._stream.source
        return 0 if source is None else source.pending()

    def readable(self) -> bool:
        source = self._stream.source
        return source is None or source.readable()


class NoTerminal(Device):
    """/dev/tty in a box without a terminal."""

    __slots__ = ()

    def open(self, flags: int) -> OpenFile:
        raise OSError(errno.ENXIO, "no terminal")


def standard_stream(
    superblock: Superblock, source: InputSource | None = None, sink: Sink | None = None
) -> StandardStream:
    """The node for a stream of the world: a terminal when the source or the sink is one."""
    is_tty = bool((source and source.is_tty) or (sink and sink.is_tty))
    return (TerminalDevice if is_tty else StandardStream)(superblock, source, sink)


def dev_directory(
    superblock: Superblock, random_bytes: Callable[[int], bytes], stdin: InputSource, stdout: Sink
) -> MemoryDirectory:
    """The directory that is mounted at /dev. random_bytes: makes so many random bytes, for random and urandom.

    /dev/shm is not in it: mount a MemoryDirectory with the box's quota there.
    """
    root = MemoryDirectory(superblock, 0o755)
    makedev = os.makedev
    root.attach(b"null", MemoryDevice(superblock, makedev(1, 3), lambda size: b""))
    root.attach(b"zero", MemoryDevice(superblock, makedev(1, 5), bytes))
    root.attach(b"full", MemoryDevice(superblock, makedev(1, 7), bytes, full=True))
    root.attach(b"random", MemoryDevice(superblock, makedev(1, 8), random_bytes))
    root.attach(b"urandom", MemoryDevice(superblock, makedev(1, 9), random_bytes))
    for number, name in enumerate((b"stdin", b"stdout", b"stderr")):
        root.attach(name, MemorySymlink(superblock, b"/proc/self/fd/%d" % number, root.uid, root.gid))
    if stdin.is_tty or stdout.is_tty:
        root.attach(b"tty", TerminalDevice(superblock, stdin, stdout))
    else:
        root.attach(b"tty", NoTerminal(superblock, makedev(5, 0)))
    root.attach(b"fd", MemorySymlink(superblock, b"/proc/self/fd", root.uid, root.gid))
    return root


def open_standard(superblock: Superblock, stdin: InputSource, stdout: Sink, stderr: Sink) -> list[OpenFile]:
    """The open file descriptions for descriptors 0, 1 and 2."""
    nodes = (
        standard_stream(superblock, source=stdin), standard_stream(superblock, sink=stdout),
        standard_stream(superblock, sink=stderr),
    )  # fmt: skip
    flags = O_RDONLY, O_WRONLY, O_WRONLY
    return [node.open(O_RDWR if node.is_tty else flag) for node, flag in zip(nodes, flags, strict=True)]
