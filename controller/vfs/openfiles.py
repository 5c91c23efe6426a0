"""Open file descriptions: a node with flags and an offset, shared by dup'ed descriptors.

Rules: nothing here waits. A description that has no data or no room yet returns `Blocked`, whose attempt returns what
the call would have returned (bytes, or a count). Under O_NONBLOCK it raises EAGAIN instead. No call moves more than
MAX_TRANSFER bytes, even if the guest asks for more.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Set
from typing import Any, ClassVar

import attrs

from proxybox.controller.abi import (
    DT_DIR,
    O_ACCMODE,
    O_APPEND,
    O_NONBLOCK,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    S_IFIFO,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
    pack_dirent,
)
from proxybox.controller.effects import AnotherTurn, Blocked
from proxybox.controller.vfs.inodes import Inode, node_ino
from proxybox.controller.vfs.nodes import MAX_FILE_SIZE, PORTION, Directory, Entry, Node, RegularFile

MAX_TRANSFER = 1 << 20
#: Whether an access mode allows reading, and writing; with O_PATH none does.
_ALLOWED = {O_RDONLY: (True, False), O_WRONLY: (False, True), O_RDWR: (True, True)}
_NOBODY: frozenset[Callable[[OpenFile], None]] = frozenset()


class OpenFile:
    """An open file description. The base class refuses everything, as O_PATH descriptors do.

    location: the directory and name by which it was opened, for /proc/self/fd. references: how many descriptors (and
    mappings) share it; changed by `hold` and `release`. on_close: functions that are called when the last reference is
    gone. Locks and epoll instances register here, because they have references that would otherwise keep the
    description alive. is_within: whether nothing but the box's own calls changes what it is ready for.
    """

    is_within: ClassVar[bool] = False

    __slots__ = (
        "__weakref__",
        "_can_read",
        "_can_write",
        "flags",
        "location",
        "node",
        "offset",
        "on_close",
        "references",
    )

    def __init__(self, node: Node, flags: int) -> None:
        self.node = node
        self.flags = flags
        self.offset = 0
        self.references = 0
        self.location: tuple[Directory, bytes] | None = None
        self.on_close: frozenset[Callable[[OpenFile], None]] = _NOBODY
        self._can_read, self._can_write = _ALLOWED.get(flags & (O_ACCMODE | O_PATH), (False, False))
        if isinstance(node, Inode):
            node.opened()

    # --- lifetime ---

    def hold(self) -> None:
        """Adds a user of this description."""
        self.references += 1

    def release(self) -> None:
        """Removes a user. When it was the last, the description is closed."""
        self.references -= 1
        if self.references <= 0:
            for forget in self.on_close:
                forget(self)
            self.close()

    def close(self) -> None:
        """Releases the node. Called once, by the last `release`."""
        if isinstance(self.node, Inode):
            self.node.closed()

    # --- what it may do ---

    @property
    def is_tty(self) -> bool:
        """Whether it is a terminal."""
        return False

    @property
    def host_fd(self) -> int | None:
        """A host descriptor whose readability may unblock a read. Only standard input has one."""
        return None

    @property
    def is_path_only(self) -> bool:
        """Whether it was opened with O_PATH."""
        return bool(self.flags & O_PATH)

    @property
    def may_read(self) -> bool:
        """Whether its access mode allows reading."""
        return self._can_read

    @property
    def may_write(self) -> bool:
        """Whether its access mode allows writing."""
        return self._can_write

    @property
    def nonblocking(self) -> bool:
        """Whether O_NONBLOCK is set; F_SETFL changes `flags`."""
        return bool(self.flags & O_NONBLOCK)

    def need_read(self) -> None:
        """Raises EBADF unless the description may be read."""
        if not self._can_read:
            raise OSError(errno.EBADF, "not open for reading")

    def need_write(self) -> None:
        """Raises EBADF unless the description may be written."""
        if not self._can_write:
            raise OSError(errno.EBADF, "not open for writing")

    # --- calls ---

    def read(self, size: int) -> bytes | Blocked:
        """read(2): up to `size` bytes from the offset on; b"" at the end."""
        self.need_read()
        raise OSError(errno.EINVAL, "cannot be read")

    def write(self, data: bytes) -> int | Blocked:
        """write(2): writes at the offset, and returns how many bytes were written."""
        self.need_write()
        raise OSError(errno.EINVAL, "cannot be written")

    def pread(self, size: int, offset: int) -> bytes:
        """pread(2). Raises ESPIPE when the file has no offsets."""
        if self.is_path_only:
            raise OSError(errno.EBADF, "opened with O_PATH")
        raise OSError(errno.ESPIPE, "cannot seek")

    def pwrite(self, data: bytes, offset: int) -> int:
        """pwrite(2)."""
        if self.is_path_only:
            raise OSError(errno.EBADF, "opened with O_PATH")
        raise OSError(errno.ESPIPE, "cannot seek")

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2): the new offset. Raises EINVAL, ENXIO, ESPIPE."""
        if self.is_path_only:
            raise OSError(errno.EBADF, "opened with O_PATH")
        raise OSError(errno.ESPIPE if SEEK_SET <= whence <= SEEK_HOLE else errno.EINVAL, "cannot seek")

    def truncate(self, size: int) -> None:
        """ftruncate(2)."""
        raise OSError(errno.EBADF if self.is_path_only else errno.EINVAL, "cannot be truncated")

    def allocate(self, offset: int, size: int, keep_size: bool) -> None:
        """fallocate(2) of a file that is open for writing; `offset` is not negative, and `size` is at least 1."""
        raise OSError(errno.ESPIPE if self.node.kind == S_IFIFO else errno.ENODEV, "not a regular file")

    def fsync(self) -> None:
        """fsync(2) and fdatasync(2). Nothing to do: data is written to host files at once, and the host syncs them."""
        if self.is_path_only:
            raise OSError(errno.EBADF, "opened with O_PATH")

    def stat_bytes(self) -> bytes:
        """The struct stat of the open file, 144 bytes."""
        return self.node.stat_bytes()

    def getdents(self, size: int) -> bytes:
        """The next linux_dirent64 records in at most `size` bytes; b"" at the end. Raises EINVAL when none fits."""
        raise OSError(errno.EBADF if self.is_path_only else errno.ENOTDIR, "not a directory")

    def available(self) -> int:
        """FIONREAD: how many bytes can be read at once. Raises ENOTTY for files without such a count."""
        raise OSError(errno.ENOTTY, "no such ioctl here")

    # --- readiness, for poll, select, epoll ---

    def sources(self) -> Set[object]:
        """The objects reported to `Changes` when an answer below may have changed; empty when none ever does."""
        return frozenset()

    def readable(self) -> bool:
        """Whether a read would not wait."""
        return True

    def writable(self) -> bool:
        """Whether a write would not wait."""
        return True

    def hangup(self) -> bool:
        """Whether the other end is closed (POLLHUP)."""
        return False

    def edge(self) -> int | None:
        """A number that grows whenever the other end may have made this end ready; None when that is unknown."""
        return None

    def failed(self) -> bool:
        """Whether a write would fail (POLLERR) because the reading end of a pipe is closed."""
        return False

    @property
    def pollable(self) -> bool:
        """Whether epoll_ctl(2) accepts it; regular files and directories are refused with EPERM."""
        return False


class PathOpenFile(OpenFile):
    """What open(2) with O_PATH returns: a place in the tree, without access to contents."""

    __slots__ = ()


def _check_range(offset: int, size: int) -> None:
    """Raises EINVAL for a range that ends beyond all possible offsets. Linux checks this before anything else, too."""
    if offset < 0 or offset + min(size, MAX_TRANSFER) > MAX_FILE_SIZE:
        raise OSError(errno.EINVAL, "a range outside of all files")


class RegularOpenFile(OpenFile):
    """A regular file opened for reading or writing at an offset.

    was_left_open: whether it was open for writing when a call of a session ended (warm/leftopen.py).
    """

    __slots__ = ("_file", "was_left_open")

    def __init__(self, node: RegularFile, flags: int) -> None:
        super().__init__(node, flags)
        self._file = node
        self.was_left_open = False

    def read(self, size: int) -> bytes:
        if not self._can_read:
            self.need_read()
        _check_range(self.offset, size)
        data = self._file.pread(size if size < MAX_TRANSFER else MAX_TRANSFER, self.offset)
        self.offset += len(data)
        return data

    def write(self, data: bytes) -> int:
        if not self._can_write:
            self.need_write()
        _check_range(self.offset, len(data))
        if self.flags & O_APPEND:
            done, self.offset = self._file.append(data)
            return done
        done = self._file.pwrite(data, self.offset)
        self.offset += done
        return done

    def pread(self, size: int, offset: int) -> bytes:
        self.need_read()
        _check_range(offset, size)
        return self._file.pread(min(size, MAX_TRANSFER), offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        self.need_write()
        _check_range(offset, len(data))
        # O_APPEND wins over the offset: Linux does so, although POSIX says otherwise.
        return self._file.append(data)[0] if self.flags & O_APPEND else self._file.pwrite(data, offset)

    def size(self) -> int:
        """The length now, in bytes."""
        return self._file.size()

    def seek(self, offset: int, whence: int) -> int:
        if whence == SEEK_SET:
            new = offset
        elif whence == SEEK_CUR:
            new = self.offset + offset
        elif whence == SEEK_END:
            new = self.size() + offset
        elif whence in (SEEK_DATA, SEEK_HOLE):
            if offset < 0:
                raise OSError(errno.ENXIO, "a negative offset")
            new = self._file.seek_data(offset, whence == SEEK_HOLE)
        else:
            raise OSError(errno.EINVAL, "unknown whence")
        if not 0 <= new <= MAX_FILE_SIZE:
            raise OSError(errno.EINVAL, "an offset out of range")
        self.offset = new
        return new

    def truncate(self, size: int) -> None:
        if not self._can_write or size < 0:
            raise OSError(errno.EINVAL, "not open for writing, or a negative size")
        self._file.truncate(size)

    def allocate(self, offset: int, size: int, keep_size: bool) -> None:
        self._file.allocate(offset, size, keep_size)

    def available(self) -> int:
        return min(max(0, self.size() - self.offset), 0x7FFFFFFF)


@attrs.define(slots=True, eq=False)
class Listings:
    """The entries that all open directories of a box store.

    room: how many more entries they may store. reads: the directory whose entries are being read now, in several turns.
    """

    room: int = 200_000
    reads: DirectoryOpenFile | None = None


class DirectoryOpenFile(OpenFile):
    """An open directory. It takes a snapshot of its entries at the first read, and again after a rewind.

    A snapshot of many entries is taken in several turns of a call.
    """

    __slots__ = ("_above", "_directory", "_listing", "_listings", "_mounted", "_snapshot")

    def __init__(self, node: Directory, flags: int) -> None:
        super().__init__(node, flags)
        self._directory = node
        self._snapshot: list[Entry] | None = None
        self._listing: Generator[None, None, list[Entry]] | None = None
        self._above: Directory = node
        self._mounted: dict[bytes, Node] = {}
        self._listings = Listings()

    def placed(self, above: Directory, mounted: dict[bytes, Node], listings: Listings) -> None:
        """Sets the facts that only the tree knows.

        above: the directory behind "..". mounted: what is mounted on entries. listings: how many entries may be stored.
        """
        self._above = above
        self._mounted = mounted
        self._listings = listings

    def close(self) -> None:
        self._forget_entries()
        super().close()

    def _forget_entries(self) -> None:
        self._listings.room += len(self._snapshot or ())
        self._snapshot = None
        if self._listing is not None:
            self._listing.close()
            self._end_reading()

    def _end_reading(self) -> None:
        self._listing = self._listings.reads = None

    def read(self, size: int) -> bytes:
        return self.pread(size, self.offset)

    def pread(self, size: int, offset: int) -> bytes:
        self.need_read()
        _check_range(offset, size)
        raise OSError(errno.EISDIR, "a directory")

    def pwrite(self, data: bytes, offset: int) -> int:
        raise OSError(errno.EBADF, "not open for writing")

    def entries(self) -> list[Entry]:
        """All entries, "." and ".." first, as they were at the first read.

        Raises ENOMEM, and AnotherTurn while there are more entries than one turn can read.
        """
        if self._snapshot is None:
            own = self._read_entries()
            from proxybox.controller.vfs.nodes import D_TYPES

            mounted = self._mounted
            listed = [(b".", node_ino(self.node), DT_DIR), (b"..", node_ino(self._above), DT_DIR)]
            listed += [entry for entry in own if entry[0] not in mounted] if mounted else own
            listed += [(name, node_ino(node), D_TYPES[node.kind]) for name, node in mounted.items()]
            if len(listed) > self._listings.room:
                raise OSError(errno.ENOMEM, "the open directories remember too many entries")
            self._listings.room -= len(listed)
            self._snapshot = listed
        return self._snapshot

    def _read_entries(self) -> list[Entry]:
        """Reads the directory for one turn. Returns the entries after the last turn, and raises AnotherTurn before."""
        if self._directory.is_removed():
            self._forget_entries()
            raise OSError(errno.ENOENT, "the directory was removed")
        # Only one directory is read at a time: entries that are being read are not counted against `room` yet.
        if self._listings.reads not in (None, self):
            raise AnotherTurn
        if self._listing is None:
            self._listing, self._listings.reads = self._directory.listing(), self
        try:
            next(self._listing)
        except StopIteration as stop:
            self._end_reading()
            own: list[Entry] = stop.value
            return own
        except OSError:
            self._end_reading()
            raise
        raise AnotherTurn

    def getdents(self, size: int) -> bytes:
        self.need_read()
        entries = self.entries()
        records: list[bytes] = []
        room = size
        end = self.offset + PORTION
        while self.offset < len(entries) and self.offset < end:
            name, ino, kind = entries[self.offset]
            record = pack_dirent(ino, self.offset + 1, kind, name)
            if len(record) > room:
                if not records:
                    raise OSError(errno.EINVAL, "the buffer is too small for an entry")
                break
            records.append(record)
            room -= len(record)
            self.offset += 1
        return b"".join(records)

    def seek(self, offset: int, whence: int) -> int:
        if whence == SEEK_CUR:
            offset += self.offset
        elif whence == SEEK_END:
            offset += len(self.entries())
        elif whence != SEEK_SET:
            raise OSError(errno.EINVAL, "unknown whence")
        if not 0 <= offset <= MAX_FILE_SIZE:
            raise OSError(errno.EINVAL, "an offset out of range")
        if offset == 0:
            self._forget_entries()
        self.offset = offset
        return offset


class StreamOpenFile(OpenFile):
    """A description without offsets: pipes, sockets, devices. Subclasses implement `take` and `put`."""

    __slots__ = ()

    def take(self, size: int) -> bytes | None:
        """Up to `size` bytes, b"" at the end, None when there is nothing yet."""
        raise OSError(errno.EINVAL, "cannot be read")

    def put(self, data: bytes) -> int | None:
        """How many bytes were accepted; None when there is no room yet."""
        raise OSError(errno.EINVAL, "cannot be written")

    def read(self, size: int) -> bytes | Blocked:
        self.need_read()
        size = min(size, MAX_TRANSFER)
        data = self.take(size)
        if data is not None:
            return data
        if self.flags & O_NONBLOCK:
            raise BlockingIOError(errno.EAGAIN, "nothing to read yet")
        return self.blocked(lambda: self.take(size))

    def write(self, data: bytes) -> int | Blocked:
        self.need_write()
        done = self.put(data)
        if self.flags & O_NONBLOCK:
            if done is None:
                raise BlockingIOError(errno.EAGAIN, "no room yet")
            return done
        total = done or 0
        if done is not None and total >= len(data):
            return total

        def attempt() -> int | None:
            nonlocal total
            try:
                total += self.put(data[total:]) or 0
            except OSError:
                if total:
                    return total
                raise
            return total if total >= len(data) else None

        return self.blocked(attempt, interrupted=lambda: total or -errno.EINTR)

    def fsync(self) -> None:
        raise OSError(errno.EINVAL, "nothing that could be written out")

    def blocked(self, attempt: Any, interrupted: Any = None) -> Blocked:
        """A wait for this description. `attempt` returns what `read` or `write` would have returned."""
        sources = self.sources()
        return Blocked(attempt, on_interrupt=interrupted, host_fd=self.host_fd, sources=(sources,) if sources else None)

    @property
    def pollable(self) -> bool:
        return True


class HostOpenFile(RegularOpenFile):
    """An open host file. Its node is bound to a host descriptor, which is closed with this description."""

    __slots__ = ()

    def close(self) -> None:
        super().close()
        close_fd = getattr(self.node, "close_fd", None)
        if close_fd is not None:
            close_fd()


RegularFile.description = RegularOpenFile
Directory.description = DirectoryOpenFile
