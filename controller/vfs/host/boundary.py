"""The only file that opens host paths: the boundary between virtual paths and the host's.

Rules: everything is opened relative to a mount's root descriptor and beneath it, and never through a symlink, a magic
link or another mount. openat2(2) enforces this; where a host refuses that call, a walk with O_NOFOLLOW does. A path is
opened with O_PATH first, and its type is checked. Only regular files and directories are then opened for more, through
that same descriptor. So no FIFO or device is ever opened, and nothing can be swapped in between. Relative paths here
consist of names from virtual directories: never "..", never empty.
"""

from __future__ import annotations

import ctypes
import errno
import heapq
import itertools
import os
import re
import stat as st
import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final

from proxybox.controller.abi import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from proxybox.controller.errors import Denied, SandboxStartError
from proxybox.controller.vfs.nodes import PORTION, finished

Found = tuple[bytes, int, tuple[int, int]]
"""An entry of a folder: its name, kind (S_IFMT), device and inode."""

MAX_ENTRIES: Final = 100_000
"""How many entries of one host directory are listed at most."""

_SYS_OPENAT2: Final = 437
_SYS_RENAMEAT2: Final = 316
_HOW = struct.pack(
    "<QQQ",
    os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC,
    0,
    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
)
_RETRIES: Final = 128

# statfs(2) types of filesystems that the kernel makes up. Some hold secrets; opening files of some has effects.
_REFUSED: Final = {
    0x9FA0: "procfs", 0x62656572: "sysfs", 0x27E0EB: "cgroup", 0x63677270: "cgroup2",
    0x64626720: "debugfs", 0x74726163: "tracefs", 0x73636673: "securityfs", 0xF97CFF8C: "selinuxfs",
    0xCAFE4A11: "bpf", 0x1CD1: "devpts", 0x19800202: "mqueue", 0x6165676C: "pstore",
    0xDE5E81E4: "efivarfs", 0x62656570: "configfs", 0x42494E4D: "binfmt_misc", 0x6E736673: "nsfs",
    0x65735543: "fusectl", 0x67596969: "rpc_pipefs", 0x187: "autofs", 0x1373: "devfs",
}  # fmt: skip

# statfs(2) types of filesystems on which unwritten parts of a file take no space. Some others fill a file with zeros.
_WITH_HOLES: Final = {
    0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0xF2F52010: "f2fs", 0x2FC12FC1: "zfs",
    0xCA451A4E: "bcachefs", 0x01021994: "tmpfs", 0x794C7630: "overlayfs",
}  # fmt: skip

#: A space, a tab, a newline or a backslash of a path in /proc/self/mountinfo.
_ESCAPED = re.compile(rb"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_fstatfs = _libc.fstatfs
_openat2_works = True


class HostRoot:
    """A host directory that a mount shows, held open by a descriptor.

    source: a path in the host; its symlinks are followed once, now. has_holes: whether files there may have holes.
    Raises SandboxStartError when `source` is missing, not a directory, or on a filesystem that is never shown.
    """

    __slots__ = ("device", "fd", "has_holes", "mount", "path")

    def __init__(self, source: str | bytes | os.PathLike[str]) -> None:
        self.fd = -1
        name = os.fsdecode(source)
        try:
            self.fd = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.path = os.path.realpath(os.fsencode(source))
            self.device = os.fstat(self.fd).st_dev
            self.mount = _mount_id(self.fd)
            kind = _filesystem(self.fd)
            self.has_holes = kind in _WITH_HOLES
            _refuse_kernel_filesystems(self.fd, kind, name)
            os.stat(f"/proc/self/fd/{self.fd}")
        except OSError as error:
            self.close()
            raise SandboxStartError(f"cannot mount {name!r}: {error.strerror}") from error
        except BaseException:  # a Ctrl-C, too
            self.close()
            raise

    def again(self) -> HostRoot:
        """Returns the same directory with a descriptor of its own, for a copy of the mount."""
        other = object.__new__(HostRoot)
        other.fd = -1
        other.path, other.device, other.mount, other.has_holes = self.path, self.device, self.mount, self.has_holes
        other.fd = os.dup(self.fd)
        return other

    def close(self) -> None:
        """Closes the descriptor; every method fails with EBADF afterwards."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    # --- looking ---

    @property
    def identity(self) -> tuple[int, int]:
        """Its device and inode."""
        seen = os.fstat(self.fd)
        return seen.st_dev, seen.st_ino

    @contextmanager
    def path_fd(self, relative: bytes) -> Iterator[int]:
        """An O_PATH descriptor for the file at a path; for a symlink itself, not its target."""
        fd = self.open_path(relative)
        try:
            yield fd
        finally:
            os.close(fd)

    def open_path(self, relative: bytes) -> int:
        """Like `path_fd`, but the caller closes the descriptor."""
        global _openat2_works
        path = relative or b"."
        if b"\0" in path:
            raise OSError(errno.EINVAL, "a NUL in a name")
        for _ in range(_RETRIES):
            fd = _syscall(_SYS_OPENAT2, self.fd, path, _HOW, len(_HOW))
            if fd >= 0:
                _openat2_works = True
                return int(fd)
            code = ctypes.get_errno()
            if code not in (errno.EAGAIN, errno.EINTR):
                break
        if code in (errno.ENOSYS, errno.EPERM):
            _openat2_works = False
            return self._walk(path)
        if code in (errno.EXDEV, errno.ELOOP):
            raise Denied(errno.EACCES, "leads out of the mount on the host")
        raise _for_guest(OSError(code, "refused by the host"))

    def _walk(self, path: bytes) -> int:
        """Does what openat2(2) would do, name by name."""
        fd = _open(".", os.O_PATH | os.O_DIRECTORY, dir_fd=self.fd)
        for name in path.split(b"/"):
            if name in (b"", b"."):
                continue
            if name == b"..":
                os.close(fd)
                raise Denied(errno.EACCES, "leads out of the mount on the host")
            try:
                step = _open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = step
            if self._is_another_mount(fd):
                os.close(fd)
                raise Denied(errno.EACCES, "leads out of the mount on the host")
        return fd

    def _is_another_mount(self, fd: int) -> bool:
        """Whether a file that was just opened in a folder of this mount of the host is the root of another mount.

        The device number cannot show this: a bind mount has the same one, and a file of an overlayfs or of gVisor may
        have another one than its folder. So this compares the kernel's mount ids, or, where the kernel reports none
        (gVisor), checks whether the path is a mount point.
        """
        try:
            if self.mount is not None:
                return _mount_id(fd) != self.mount
            return os.readlink(os.fsencode(_magic(fd))) in _mount_points()
        except OSError as error:
            os.close(fd)
            raise _for_guest(error) from None

    def look(self, relative: bytes) -> os.stat_result:
        """The host's status of the file at a path; a symlink is not followed."""
        fd = self.open_path(relative)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def read_link(self, relative: bytes) -> bytes:
        """The text of a symlink."""
        with self.path_fd(relative) as fd:
            return os.readlink(b"", dir_fd=fd)

    def list_directory(self, relative: bytes) -> list[Found]:
        """Every entry that is shown, sorted by name."""
        return finished(self.listing(relative))

    def has_entry(self, relative: bytes, is_meant: Callable[[bytes], bool]) -> bool:
        """Whether there is an entry that is shown and for whose name `is_meant` is true."""
        try:
            with self.path_fd(relative) as path_fd, os.scandir(_magic(path_fd)) as entries:
                return any(_kind(entry) and is_meant(os.fsencode(entry.name)) for entry in entries)
        except OSError as error:
            raise _for_guest(error) from None

    def listing(self, relative: bytes) -> Generator[None, None, list[Found]]:
        """Like `list_directory`, but yields where a turn of a call may end."""
        with self.path_fd(relative) as path_fd:
            fd = _open(_magic(path_fd), os.O_RDONLY | os.O_DIRECTORY)
        portions: list[list[Found]] = []
        try:
            device = os.fstat(fd).st_dev
            with os.scandir(fd) as entries:
                while entered := [*itertools.islice(entries, PORTION)]:
                    kinds = ((entry, _kind(entry)) for entry in entered)
                    portions.append(
                        sorted(
                            (os.fsencode(entry.name), kind, (device, entry.inode())) for entry, kind in kinds if kind
                        )
                    )
                    if len(portions) * PORTION > MAX_ENTRIES + PORTION:
                        raise Denied(errno.ENOMEM, f"more than {MAX_ENTRIES} entries")
                    if len(entered) == PORTION:
                        yield
        except OSError as error:  # a scan uses a descriptor of its own
            raise _for_guest(error) from None
        finally:
            os.close(fd)
        found: list[Found] = []
        merged = heapq.merge(*portions)
        while more := [*itertools.islice(merged, PORTION)]:
            found += more
            if len(more) == PORTION:
                yield
        if len(found) > MAX_ENTRIES:
            raise Denied(errno.ENOMEM, f"more than {MAX_ENTRIES} entries")
        return found

    def kinds(self, relative: bytes, limit: int) -> list[tuple[bytes, int]]:
        """The names and kinds of all entries, in no order, at most limit + 1 of them.

        A kind is an S_IFMT value, or 0 for what is never shown.
        """
        with self.path_fd(relative) as path_fd:
            fd = os.open(_magic(path_fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(fd) as entries:
                return [(os.fsencode(entry.name), _kind(entry)) for entry in islice(entries, max(0, limit) + 1)]
        finally:
            os.close(fd)

    def below(self, relative: bytes) -> HostRoot:
        """A folder below this one as a root of its own. Raises ENOTDIR."""
        with self.directory_fd(relative) as fd:
            other = object.__new__(HostRoot)
            other.fd = -1
            other.path = os.path.join(self.path, relative)
            other.device, other.mount, other.has_holes = self.device, self.mount, self.has_holes
            other.fd = os.dup(fd)
            return other

    # --- opening ---

    def open_file(self, relative: bytes, flags: int) -> int:
        """Opens a regular file with the access mode of `flags` (and O_TRUNC), and returns the descriptor."""
        with self.path_fd(relative) as fd:
            return reopen(fd, flags)

    @contextmanager
    def directory_fd(self, relative: bytes) -> Iterator[int]:
        """An O_PATH descriptor of a directory, for the *at(2) calls. Raises ENOTDIR."""
        with self.path_fd(relative) as fd:
            if not st.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.ENOTDIR, "not a directory on the host")
            yield fd


def reopen(fd: int, flags: int) -> int:
    """Opens the regular file behind a descriptor once more. Raises EACCES when it is not a regular file.

    A file that is opened to be written loses its set-id bits. The kernel takes them away at the first write, but not
    from root, and others would then run a box's data with the rights of the file's owner.
    """
    mode = os.fstat(fd).st_mode
    if not st.S_ISREG(mode):
        raise Denied(errno.EACCES, "neither a regular file nor a directory on the host")
    keep = os.O_ACCMODE | os.O_TRUNC
    opened = _open(_magic(fd), flags & keep | os.O_NOCTTY | os.O_NONBLOCK)
    if flags & keep and mode & 0o6000:
        with suppress(PermissionError):  # then the caller is not root
            os.fchmod(opened, mode & 0o1777)
    return opened


def create_file(directory_fd: int, name: bytes, mode: int) -> int:
    """Makes a new regular file, open for reading and writing. Set-id bits are not stored. Raises EEXIST."""
    fd = _open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, dir_fd=directory_fd)
    try:
        os.fchmod(fd, mode & 0o1777)
    except OSError:
        os.close(fd)
        raise
    return fd


def change_mode(fd: int, mode: int) -> None:
    """chmod of a regular file or directory, through a descriptor of any kind.

    A box is shown no set-id bits. So a folder keeps its set-id bits, which decide the group of new files in it. A file
    loses them.
    """
    seen = os.fstat(fd).st_mode
    os.chmod(_magic(fd), mode & 0o1777 | (seen & 0o6000 if st.S_ISDIR(seen) else 0))


def restore_mode(fd: int, mode: int) -> None:
    """Restores the mode that a file or directory of the host had, set-id bits included."""
    os.chmod(_magic(fd), mode & 0o7777)


def write_out(fd: int) -> None:
    """syncfs(2): when this returns, everything written to the filesystem of a directory is on the disk."""
    opened = os.open(_magic(fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(opened) != 0:
            raise OSError(ctypes.get_errno(), "refused by the host")
    finally:
        os.close(opened)


def filesystem_type(fd: int) -> int:
    """The magic number of the filesystem that holds a descriptor's file, from statfs(2); 0 when the call fails."""
    found = (ctypes.c_long * 32)()  # struct statfs begins with f_type
    return int(found[0]) & 0xFFFFFFFF if _libc.fstatfs(fd, found) == 0 else 0


def change_owner(fd: int, uid: int, gid: int) -> None:
    """chown of the file behind a descriptor of any kind; of a symlink itself, not its target."""
    os.chown(_magic(fd), uid, gid)


def change_times(fd: int, atime_ns: int, mtime_ns: int) -> None:
    """utimensat of a regular file or directory, through a descriptor of any kind."""
    os.utime(_magic(fd), ns=(atime_ns, mtime_ns))


def change_link_times(directory_fd: int, name: bytes, atime_ns: int, mtime_ns: int) -> None:
    """Like `change_times`, but for a symlink, which is given by its directory and name."""
    os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=directory_fd, follow_symlinks=False)


def rename(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int) -> None:
    """renameat2(2) between two directories that are given by descriptor."""
    if b"\0" in old or b"\0" in new:
        raise OSError(errno.EINVAL, "a NUL in a name")
    if _syscall(_SYS_RENAMEAT2, old_fd, old, new_fd, new, flags) != 0:
        raise OSError(ctypes.get_errno(), "refused by the host")


def _open(path: str | bytes, flags: int, *, dir_fd: int | None = None) -> int:
    """open(2) on behalf of a guest. New files are readable and writable only for their owner."""
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    except OSError as error:
        raise _for_guest(error) from None


def _for_guest(error: OSError) -> OSError:
    """Replaces EMFILE by ENFILE.

    EMFILE would tell the guest that it has too many open files. In fact the controller's process has, which is the
    whole system to a guest.
    """
    return OSError(errno.ENFILE, "no descriptor left in the controller") if error.errno == errno.EMFILE else error


def _magic(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _mount_id(fd: int) -> int | None:
    """The host's mount id of a descriptor's file (proc_pid_fdinfo(5)); None where the kernel reports none."""
    with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as file:
        found = re.search(rb"^mnt_id:\s*(\d+)$", file.read(4096), re.MULTILINE)
    return int(found[1]) if found else None


def _mount_points() -> set[bytes]:
    """The paths of all mounts (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo", "rb") as file:
        return {_ESCAPED.sub(lambda octal: bytes([int(octal[1], 8)]), line.split()[4]) for line in file}


def why_no_mount(source: str) -> str:
    """Why a file or folder that a policy names cannot be mounted, judged by one stat(2); empty when it can."""
    try:
        mode = os.stat(source).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except OSError as error:
        return f"cannot be reached ({error.strerror})"
    return "" if st.S_ISREG(mode) or st.S_ISDIR(mode) else "is neither a file nor a folder"


def _kind(entry: os.DirEntry[str]) -> int:
    """The kind of an entry that is shown, otherwise 0. FIFOs, sockets and devices are never shown."""
    if entry.is_symlink():
        return st.S_IFLNK
    if entry.is_file(follow_symlinks=False):
        return st.S_IFREG
    return st.S_IFDIR if entry.is_dir(follow_symlinks=False) else 0


def _filesystem(fd: int) -> int:
    """The type of filesystem, from statfs(2)."""
    status = ctypes.create_string_buffer(256)
    if _fstatfs(fd, status) != 0:
        raise OSError(ctypes.get_errno(), "statfs failed")
    return int(struct.unpack_from("<Q", status)[0]) & 0xFFFFFFFF


def _refuse_kernel_filesystems(fd: int, kind: int, name: str) -> None:
    if kind in _REFUSED:
        raise SandboxStartError(f"cannot mount {name!r}: {_REFUSED[kind]} is never shown to a box")
    try:
        devices = os.stat("/dev")
    except OSError:
        return
    # devtmpfs has the same type as tmpfs, so it is recognized by its place.
    mine = os.fstat(fd)
    if (mine.st_dev, mine.st_ino) == (devices.st_dev, devices.st_ino):
        raise SandboxStartError(f"cannot mount {name!r}: /dev is never shown to a box")
