"""Streams inside the box: pipes, pairs of connected streams, event counters.

Rules: both ends belong to the same box, so a buffer is all that is needed; nothing reaches the host. Sizes are those of
Linux: 64 KiB, and writes of up to PIPE_BUF bytes are never split. Everything that may make an end ready is reported to
`Changes`; otherwise a call that waits for it would never be tried again.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Set

from proxybox.controller.abi import (
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    PIPE_BUF,
    S_IFIFO,
    S_IFSOCK,
)
from proxybox.controller.effects import Blocked, Changes
from proxybox.controller.vfs.inodes import Inode
from proxybox.controller.vfs.nodes import Superblock
from proxybox.controller.vfs.openfiles import StreamOpenFile

CAPACITY = 65536
MAX_CAPACITY = 1 << 20
ENLARGED_BYTES = 16 << 20
"""How many bytes the pipes of a box may hold together beyond their usual sizes."""
MAX_COUNT = (1 << 64) - 2
_U64 = struct.Struct("<Q")


class Buffer:
    """Bytes on their way from one end to the other, and how many ends there are."""

    __slots__ = ("_changes", "arrived", "capacity", "data", "readers", "start", "taken", "writers")

    def __init__(self, changes: Changes, capacity: int = CAPACITY) -> None:
        self._changes = changes
        self.data = bytearray()
        self.start = 0  # the data before this index was read already
        self.capacity = capacity
        self.readers = 0
        self.writers = 0
        # How often data was put in and taken out, for edge-triggered epoll(7).
        self.arrived = 0
        self.taken = 0

    def __len__(self) -> int:
        return len(self.data) - self.start

    @property
    def room(self) -> int:
        """How many more bytes fit."""
        return self.capacity - len(self)

    def changed(self) -> None:
        """Reports a change, so that calls that wait for either end are tried again."""
        self._changes.tell(self)

    def drop(self) -> None:
        """Frees data that nobody will read. The buffer itself may live longer, where an end is still referenced."""
        self.data = bytearray()
        self.start = 0

    def take(self, size: int, peek: bool = False) -> bytes | None:
        """Up to `size` bytes; b"" when there will be no more, None when there are none yet."""
        if size == 0:
            return b""
        if not len(self):
            return None if self.writers else b""
        piece = bytes(self.data[self.start : self.start + size])
        if not peek:
            self._changes.tell(self)
            self.taken += 1
            self.start += len(piece)
            if self.start == len(self.data) or self.start > CAPACITY:
                del self.data[: self.start]
                self.start = 0
        return piece

    def put(self, data: bytes, atomic: int = 0) -> int | None:
        """Accepts as many bytes as fit, and returns how many; None when nothing can be accepted yet.

        Data of at most `atomic` bytes is accepted whole or not at all. Raises EPIPE.
        """
        if not self.readers:
            raise BrokenPipeError(errno.EPIPE, "nobody reads the other end")
        if not data:
            return 0
        room = self.room
        if room < (len(data) if len(data) <= atomic else 1):
            return None
        self.data += data[:room]
        self._changes.tell(self)
        self.arrived += 1
        return min(room, len(data))


class PipeNode(Inode):
    """The inode behind both ends of a pipe. Opening it again, through /proc/self/fd, gives a new end."""

    __slots__ = ("buffer",)
    kind = S_IFIFO

    def resize(self, capacity: int) -> None:
        """Sets how many bytes the buffer may hold. Raises EPERM when the box's pipes would hold too much together."""
        more = max(CAPACITY, capacity) - max(CAPACITY, self.buffer.capacity)
        total = self.superblock.pipe_bytes + more
        if total > ENLARGED_BYTES:
            raise OSError(errno.EPERM, "more than /proc/sys/fs/pipe-user-pages-hard in all")
        self.superblock.pipe_bytes = total
        self.buffer.capacity = capacity
        self.buffer.changed()

    def __init__(self, superblock: Superblock) -> None:
        super().__init__(superblock, 0o600, superblock.uid, superblock.gid)
        self.buffer = Buffer(superblock.changes)

    def free(self) -> None:
        """Credits nothing: pipes are charged to the descriptors, not to the quota."""

    def open(self, flags: int) -> PipeEnd:
        return PipeEnd(self, flags)


class PipeEnd(StreamOpenFile):
    """One end of a pipe, as its access mode says; both ends when opened with O_RDWR."""

    __slots__ = ("_buffer", "_pipe")
    is_within = True

    def __init__(self, node: PipeNode, flags: int) -> None:
        super().__init__(node, flags)
        self._pipe = node
        self._buffer = node.buffer
        self._buffer.readers += self.may_read
        self._buffer.writers += self.may_write

    def close(self) -> None:
        self._buffer.readers -= self.may_read
        self._buffer.writers -= self.may_write
        self._buffer.changed()
        if not self._buffer.readers and not self._buffer.writers:
            self._buffer.drop()
            self._pipe.resize(CAPACITY)
        super().close()

    def take(self, size: int) -> bytes | None:
        return self._buffer.take(size)

    def put(self, data: bytes) -> int | None:
        return self._buffer.put(data, atomic=PIPE_BUF)

    def available(self) -> int:
        return len(self._buffer)

    def sources(self) -> Set[object]:
        return frozenset((self._buffer,))

    def readable(self) -> bool:
        return self.may_read and len(self._buffer) > 0

    def writable(self) -> bool:
        return self.may_write and self._buffer.room >= PIPE_BUF

    def edge(self) -> int:
        return self._buffer.arrived * self.may_read + self._buffer.taken * self.may_write

    def hangup(self) -> bool:
        return self.may_read and not self._buffer.writers

    def failed(self) -> bool:
        return self.may_write and not self._buffer.readers

    def capacity(self) -> int:
        """F_GETPIPE_SZ."""
        return self._buffer.capacity

    def set_capacity(self, size: int) -> int:
        """F_SETPIPE_SZ; the size is rounded up to a power of two of pages.

        Raises EINVAL, EBUSY, and EPERM for more than 1 MiB or for more than the pipes of the box may hold together.
        """
        if size <= 0 or size > 0x7FFFFFFF:
            raise OSError(errno.EINVAL, "no such size")
        if size > MAX_CAPACITY:
            raise OSError(errno.EPERM, "larger than /proc/sys/fs/pipe-max-size")
        rounded = max(4096, 1 << (size - 1).bit_length())
        if rounded < len(self._buffer):
            raise OSError(errno.EBUSY, "it holds more than that")
        self._pipe.resize(rounded)
        return rounded


def pipe(superblock: Superblock, flags: int = 0) -> tuple[PipeEnd, PipeEnd]:
    """pipe2(2): the reading and the writing end. flags: O_NONBLOCK."""
    node = PipeNode(superblock)
    node.nlink = 1
    keep = flags & O_NONBLOCK
    return PipeEnd(node, O_RDONLY | keep), PipeEnd(node, O_WRONLY | keep)


class SocketNode(Inode):
    """The inode of one end of a stream pair; it cannot be opened again."""

    __slots__ = ()
    kind = S_IFSOCK

    def __init__(self, superblock: Superblock) -> None:
        super().__init__(superblock, 0o777, superblock.uid, superblock.gid)

    def free(self) -> None:
        """Credits nothing: sockets are charged to the descriptors, not to the quota."""


class PairEnd(StreamOpenFile):
    """One end of a socketpair(2) of AF_UNIX streams."""

    __slots__ = ("_incoming", "_outgoing")
    is_within = True

    def __init__(self, superblock: Superblock, flags: int, incoming: Buffer, outgoing: Buffer) -> None:
        super().__init__(SocketNode(superblock), O_RDWR | flags & O_NONBLOCK)
        self._incoming, self._outgoing = incoming, outgoing
        incoming.readers += 1
        outgoing.writers += 1

    def close(self) -> None:
        self.shutdown(reading=True, writing=True)
        super().close()

    def shutdown(self, *, reading: bool, writing: bool) -> None:
        """shutdown(2)."""
        if reading:
            self._incoming.readers = 0
            self._incoming.drop()
            self._incoming.changed()
        if writing:
            self._outgoing.writers = 0
            self._outgoing.changed()

    def take(self, size: int) -> bytes | None:
        if not self._incoming.readers:
            return b""
        return self._incoming.take(size)

    def peek(self, size: int) -> bytes | None:
        """Like `take`, but leaves the bytes in the buffer (MSG_PEEK)."""
        if not self._incoming.readers:
            return b""
        return self._incoming.take(size, peek=True)

    def put(self, data: bytes) -> int | None:
        if not self._outgoing.writers:
            raise BrokenPipeError(errno.EPIPE, "shut down for writing")
        return self._outgoing.put(data)

    def available(self) -> int:
        return len(self._incoming)

    def sources(self) -> Set[object]:
        return frozenset((self._incoming, self._outgoing))

    def readable(self) -> bool:
        return len(self._incoming) > 0 or not self._incoming.writers or not self._incoming.readers

    def writable(self) -> bool:
        return self._outgoing.room > 0 or not self._outgoing.readers

    def edge(self) -> int:
        return self._incoming.arrived + self._outgoing.taken

    def hangup(self) -> bool:
        return not self._incoming.writers and not self._outgoing.readers


def stream_pair(superblock: Superblock, flags: int = 0) -> tuple[PairEnd, PairEnd]:
    """socketpair(2): two connected streams. flags: O_NONBLOCK."""
    one, other = Buffer(superblock.changes), Buffer(superblock.changes)
    return PairEnd(superblock, flags, one, other), PairEnd(superblock, flags, other, one)


class AnonymousNode(Inode):
    """The inode of an eventfd or an epoll instance, which has no place in the tree."""

    __slots__ = ()
    kind = 0

    def __init__(self, superblock: Superblock) -> None:
        super().__init__(superblock, 0o600, superblock.uid, superblock.gid)

    def free(self) -> None:
        """Credits nothing: these are charged to the descriptors, not to the quota."""


class EventFile(StreamOpenFile):
    """eventfd(2): a counter. semaphore: EFD_SEMAPHORE."""

    __slots__ = ("_posted", "_semaphore", "count")
    is_within = True

    def __init__(self, superblock: Superblock, count: int, flags: int, *, semaphore: bool = False) -> None:
        super().__init__(AnonymousNode(superblock), O_RDWR | flags & O_NONBLOCK)
        self.count = count
        self._semaphore = semaphore
        self._posted = 0

    def take(self, size: int) -> bytes | None:
        if size < 8:
            raise OSError(errno.EINVAL, "an event count has 8 bytes")
        if not self.count:
            return None
        value = 1 if self._semaphore else self.count
        self.count -= value
        self.node.superblock.changes.tell(self)
        return _U64.pack(value)

    def put(self, data: bytes) -> int | None:
        if len(data) < 8:
            raise OSError(errno.EINVAL, "an event count has 8 bytes")
        more = int(_U64.unpack_from(data)[0])
        if more > MAX_COUNT:
            raise OSError(errno.EINVAL, "too large a count")
        if self.count + more > MAX_COUNT:
            return None
        self.count += more
        self.node.superblock.changes.tell(self)
        self._posted += 1
        return 8

    def write(self, data: bytes) -> int | Blocked:
        return super().write(data[:8])  # only the first 8 bytes count; the rest is ignored

    def edge(self) -> int:
        return self._posted

    def sources(self) -> Set[object]:
        return frozenset((self,))

    def readable(self) -> bool:
        return self.count > 0

    def writable(self) -> bool:
        return self.count < MAX_COUNT
