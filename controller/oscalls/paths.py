"""Calls that take a path: open, status, names, the current directory.

The tree walks the paths, `vfs/namei.py` checks permissions, and the flags are checked here. Each call without "at"
in its name does the same as the call with it, from the current directory.
"""

import errno
from typing import Annotated

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.errors import Denied
from proxybox.controller.header import CALL_OPEN, CALL_STAT, WHOLE_FILE
from proxybox.controller.oscalls import asked
from proxybox.controller.oscalls.descriptors import check_length
from proxybox.controller.roles import (
    AccessMode,
    Addr,
    AtFlags,
    DirFd,
    Fd,
    Int,
    Long,
    Mode,
    OpenFlags,
    Path,
    RenameFlags,
    Size,
    Struct,
    Text,
    UInt,
    UnlinkFlags,
)
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.nodes import Directory, Node, RegularFile, Symlink
from proxybox.controller.world.state import GuestThread, World

_CWD = abi.AT_FDCWD
_STATX_FLAGS = abi.AT_SYMLINK_NOFOLLOW | abi.AT_NO_AUTOMOUNT | abi.AT_EMPTY_PATH | 0x6000
_OPEN_HOW = 24


def start_of(world: World, dirfd: int, path: bytes) -> Directory:
    """Returns the directory that a path starts from. Raises OSError (EBADF, ENOTDIR)."""
    if dirfd == _CWD or path[:1] == b"/":
        return world.cwd
    node = world.descriptors.get(dirfd).node
    if not isinstance(node, Directory):
        raise OSError(errno.ENOTDIR, "dirfd is not a directory")
    return node


def node_at(world: World, dirfd: int, path: bytes, flags: int) -> Node:
    """Returns the node that dirfd, path and flags (AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH) name."""
    if not path and flags & abi.AT_EMPTY_PATH:
        return world.cwd if dirfd == _CWD else world.descriptors.get(dirfd).node
    follow = not flags & abi.AT_SYMLINK_NOFOLLOW
    return world.tree.resolve(path, start_of(world, dirfd, path), world.credentials, follow=follow)


def check_flags(flags: int, known: int) -> None:
    """Raises OSError (EINVAL) for a flag that is not known."""
    if flags & ~known:
        raise OSError(errno.EINVAL, "unknown flags")


# --- open -----------------------------------------------------------------------------------------


@oscall(257, effect=CallEffect.OPENS, asked=asked.opening)
def openat(world: World, dirfd: DirFd, path: Path, flags: OpenFlags, mode: Mode) -> Reply:
    """openat(2): a new descriptor. As in Linux, unknown flags are ignored."""
    return _open(world, dirfd, path, flags, mode)


def _open(world: World, dirfd: int, path: bytes, flags: int, mode: int) -> int:
    start = world.cwd if path[:1] == b"/" else start_of(world, dirfd, path)
    flags &= abi.O_KNOWN
    fd = world.descriptors.lowest()
    file = namei.open_file(world.tree, path, start, world.credentials, flags, mode & 0o7777, world.umask)
    return world.descriptors.enter(fd, file, bool(flags & abi.O_CLOEXEC))


@oscall(CALL_OPEN, form_of="openat", asked=asked.opening_whole)
def openat_whole(
    world: World, dirfd: DirFd, path: Path, flags: OpenFlags, mode: Mode, place: Addr, closed: Fd
) -> Reply:
    """openat(2) from the stub in a box whose calls nobody observes (stub_prefetched.c).

    The status and the content of a file that never changes are stored at `place`, unless it has more than WHOLE_FILE
    bytes. closed: a descriptor that the stub has closed meanwhile, or NO_DESCRIPTOR.
    """
    if closed in world.descriptors:  # not when the call continues in a new turn
        world.descriptors.close(closed)
    fd = _open(world, dirfd, path, flags, mode)
    file = world.descriptors.get(fd)
    try:
        content = None if file.is_path_only else file.node.unchanging(WHOLE_FILE)
    except OSError:  # the host's file was removed: reading it fails, but opening it does not
        content = None
    return fd if content is None else (fd, (place, file.stat_bytes() + content))


@oscall(2, effect=CallEffect.OPENS, asked=asked.opening)
def open_(world: World, path: Path, flags: OpenFlags, mode: Mode) -> Reply:
    """open(2): openat from the current directory."""
    return openat(world, _CWD, path, flags, mode)


@oscall(85, effect=CallEffect.OPENS)
def creat(world: World, path: Path, mode: Mode) -> Reply:
    """creat(2): creates or empties a file, and opens it for writing."""
    return openat(world, _CWD, path, abi.O_CREAT | abi.O_WRONLY | abi.O_TRUNC, mode)


@oscall(437, effect=CallEffect.OPENS, partial="of the RESOLVE flags only NO_MAGICLINKS is offered")
def openat2(world: World, dirfd: DirFd, path: Path, how: Annotated[bytes | None, Struct(24)], size: Size) -> Reply:
    """openat2(2): openat that refuses unknown flags. Of the RESOLVE flags only NO_MAGICLINKS is offered."""
    if how is None:
        raise OSError(errno.EFAULT, "no open_how")
    if size != _OPEN_HOW:
        raise OSError(errno.EINVAL if size < _OPEN_HOW else errno.E2BIG, "open_how has 24 bytes")
    flags, mode, resolve = abi.OPEN_HOW.unpack(how)
    check_flags(flags, abi.O_KNOWN)
    if mode & ~0o7777 or (mode and not flags & (abi.O_CREAT | abi.O_TMPFILE & ~abi.O_DIRECTORY)):
        raise OSError(errno.EINVAL, "a mode without a file to create")
    check_flags(resolve, 0x3F)
    if resolve & ~abi.RESOLVE_NO_MAGICLINKS:
        raise OSError(errno.EOPNOTSUPP, "no RESOLVE flags here")
    return openat(world, dirfd, path, flags, mode)


# --- status ---------------------------------------------------------------------------------------


@oscall(262, effect=CallEffect.LOOKS | CallEffect.STATUS)
def newfstatat(world: World, dirfd: DirFd, path: Path, statbuf: Addr, flags: AtFlags) -> Reply:
    """fstatat(2): status of a file."""
    if flags == 0 and path[:1] == b"/":
        node = world.tree.resolve(path, world.cwd, world.credentials)
        return 0, (statbuf, node.stat_bytes())
    check_flags(flags, abi.AT_SYMLINK_NOFOLLOW | abi.AT_NO_AUTOMOUNT | abi.AT_EMPTY_PATH)
    if not path and flags & abi.AT_EMPTY_PATH and dirfd != _CWD:
        return 0, (statbuf, world.descriptors.get(dirfd).stat_bytes())
    return 0, (statbuf, node_at(world, dirfd, path, flags).stat_bytes())


@oscall(CALL_STAT, form_of="newfstatat")
def fstatat_cached(world: World, path: Path, statbuf: Addr, flags: AtFlags) -> Reply:
    """stat(2) or lstat(2) from the stub in a box whose calls nobody observes (stub_statcache.c).

    The answer is 1 where only the box's own calls can change the status.
    """
    check_flags(flags, abi.AT_SYMLINK_NOFOLLOW)
    tree, follow = world.tree, not flags
    node = tree.resolve(path, world.cwd, world.credentials, follow=follow)
    return int(node.lasts and tree.is_kept(path, follow)), (statbuf, node.stat_bytes())


@oscall(4, effect=CallEffect.LOOKS | CallEffect.STATUS)
def stat(world: World, path: Path, statbuf: Addr) -> Reply:
    """stat(2): status of a file."""
    node = world.tree.resolve(path, world.cwd, world.credentials)
    return 0, (statbuf, node.stat_bytes())


@oscall(6, effect=CallEffect.LOOKS | CallEffect.STATUS)
def lstat(world: World, path: Path, statbuf: Addr) -> Reply:
    """lstat(2): status of a file or of a symbolic link itself."""
    node = world.tree.resolve(path, world.cwd, world.credentials, follow=False)
    return 0, (statbuf, node.stat_bytes())


@oscall(332, effect=CallEffect.LOOKS | CallEffect.STATUS, partial="without a birth time")
def statx(world: World, dirfd: DirFd, path: Path, flags: AtFlags, mask: UInt, statxbuf: Addr) -> Reply:
    """statx(2): status of a file, without a birth time."""
    check_flags(flags, _STATX_FLAGS)
    if mask >> 31 or flags & 0x6000 == 0x6000:
        raise OSError(errno.EINVAL, "a reserved bit")
    if not path and flags & abi.AT_EMPTY_PATH and dirfd != _CWD:
        status = world.descriptors.get(dirfd).stat_bytes()
    else:
        status = node_at(world, dirfd, path, flags).stat_bytes()
    return 0, (statxbuf, abi.stat_to_statx(status))


#: Blocks and files of a read-only mount, all in use: a guest does not learn how large the host's filesystem is.
_FULL = 1 << 20


def _statfs(node: Node) -> bytes:
    quota = node.superblock.quota
    if node.superblock.read_only:
        return abi.pack_statfs(blocks=_FULL, files=_FULL, read_only=True)
    inodes = quota.inodes or 0
    return abi.pack_statfs(
        blocks=quota.limit // abi.PAGE_SIZE,
        free=quota.free_pages(),
        files=inodes,
        files_free=max(0, inodes - quota.used_inodes),
    )


@oscall(137, effect=CallEffect.LOOKS | CallEffect.STATUS, partial="tells the box's quota as a filesystem in memory")
def statfs(world: World, path: Path, buf: Addr) -> Reply:
    """statfs(2): the box's quota, as the size of a filesystem in memory."""
    return 0, (buf, _statfs(node_at(world, _CWD, path, 0)))


@oscall(138, effect=CallEffect.STATUS, partial="tells the box's quota as a filesystem in memory")
def fstatfs(world: World, fd: Fd, buf: Addr) -> Reply:
    """fstatfs(2): as statfs, for an open file."""
    return 0, (buf, _statfs(world.descriptors.get(fd).node))


@oscall(21, effect=CallEffect.LOOKS)
def access(world: World, path: Path, mode: AccessMode) -> Reply:
    """access(2): whether a file may be read, written, executed."""
    return faccessat2(world, _CWD, path, mode, 0)


@oscall(269, effect=CallEffect.LOOKS)
def faccessat(world: World, dirfd: DirFd, path: Path, mode: AccessMode) -> Reply:
    """faccessat(2), as the kernel has it: without flags."""
    return faccessat2(world, dirfd, path, mode, 0)


@oscall(439, effect=CallEffect.LOOKS)
def faccessat2(world: World, dirfd: DirFd, path: Path, mode: AccessMode, flags: AtFlags) -> Reply:
    """faccessat2(2): as access, with flags; real and effective ids are the same here."""
    check_flags(mode, abi.R_OK | abi.W_OK | abi.X_OK)
    check_flags(flags, abi.AT_SYMLINK_NOFOLLOW | abi.AT_EACCESS | abi.AT_EMPTY_PATH)
    namei.access(node_at(world, dirfd, path, flags), world.credentials, mode)
    return 0


@oscall(89, effect=CallEffect.LOOKS)
def readlink(world: World, path: Path, buf: Addr, size: Int) -> Reply:
    """readlink(2): the target of a symbolic link."""
    return readlinkat(world, _CWD, path, buf, size)


@oscall(267, effect=CallEffect.LOOKS)
def readlinkat(world: World, dirfd: DirFd, path: Path, buf: Addr, size: Int) -> Reply:
    """readlinkat(2): as readlink; an empty path stands for the link that dirfd was opened on (O_PATH)."""
    if size <= 0:
        raise OSError(errno.EINVAL, "no room")
    flags = abi.AT_SYMLINK_NOFOLLOW | (0 if dirfd == _CWD else abi.AT_EMPTY_PATH)
    node = node_at(world, dirfd, path, flags)
    if not isinstance(node, Symlink):
        raise OSError(errno.EINVAL if path else errno.ENOENT, "not a symbolic link")
    target = node.target[:size]
    return len(target), (buf, target)


# --- names ----------------------------------------------------------------------------------------


@oscall(83, effect=CallEffect.MAKES | CallEffect.DIRECTORY)
def mkdir(world: World, path: Path, mode: Mode) -> Reply:
    """mkdir(2): a new directory."""
    return mkdirat(world, _CWD, path, mode)


@oscall(258, effect=CallEffect.MAKES | CallEffect.DIRECTORY)
def mkdirat(world: World, dirfd: DirFd, path: Path, mode: Mode) -> Reply:
    """mkdirat(2): a new directory."""
    start = start_of(world, dirfd, path)
    namei.mkdir(world.tree, path, start, world.credentials, mode & 0o1777, world.umask)
    return 0


@oscall(133, effect=CallEffect.MAKES, partial="regular files only")
def mknod(world: World, path: Path, mode: Mode, device: UInt) -> Reply:
    """mknod(2): regular files only."""
    return mknodat(world, _CWD, path, mode, device)


@oscall(259, effect=CallEffect.MAKES, partial="regular files only")
def mknodat(world: World, dirfd: DirFd, path: Path, mode: Mode, device: UInt) -> Reply:
    """mknodat(2): regular files only; devices, FIFOs and sockets are refused."""
    kind = mode & abi.S_IFMT
    if kind not in (0, abi.S_IFREG):
        raise Denied(errno.EPERM, "only regular files can be made")
    start = start_of(world, dirfd, path)
    namei.mknod(world.tree, path, start, world.credentials, mode & 0o7777, world.umask)
    return 0


@oscall(84, effect=CallEffect.REMOVES | CallEffect.DIRECTORY)
def rmdir(world: World, path: Path) -> Reply:
    """rmdir(2): removes an empty directory."""
    return unlinkat(world, _CWD, path, abi.AT_REMOVEDIR)


@oscall(87, effect=CallEffect.REMOVES)
def unlink(world: World, path: Path) -> Reply:
    """unlink(2): removes a name."""
    return unlinkat(world, _CWD, path, 0)


@oscall(263, effect=CallEffect.REMOVES)
def unlinkat(world: World, dirfd: DirFd, path: Path, flags: UnlinkFlags) -> Reply:
    """unlinkat(2): removes a name, or an empty directory with AT_REMOVEDIR."""
    check_flags(flags, abi.AT_REMOVEDIR)
    remove = namei.rmdir if flags else namei.unlink
    remove(world.tree, path, start_of(world, dirfd, path), world.credentials)
    return 0


@oscall(82, effect=CallEffect.RENAMES)
def rename(world: World, old: Path, new: Path) -> Reply:
    """rename(2): moves a file, over another one if there is one."""
    return renameat2(world, _CWD, old, _CWD, new, 0)


@oscall(264, effect=CallEffect.RENAMES)
def renameat(world: World, olddirfd: DirFd, old: Path, newdirfd: DirFd, new: Path) -> Reply:
    """renameat(2): moves a file."""
    return renameat2(world, olddirfd, old, newdirfd, new, 0)


@oscall(316, effect=CallEffect.RENAMES)
def renameat2(world: World, olddirfd: DirFd, old: Path, newdirfd: DirFd, new: Path, flags: RenameFlags) -> Reply:
    """renameat2(2): renameat with RENAME_NOREPLACE or RENAME_EXCHANGE."""
    namei.check_rename_flags(flags)
    old_start = start_of(world, olddirfd, old)
    try:
        new_start = start_of(world, newdirfd, new)
    except OSError:
        world.tree.resolve_parent(old, old_start, world.credentials)  # an error of the old path comes first
        raise
    namei.rename(world.tree, old, old_start, new, new_start, world.credentials, flags)
    return 0


@oscall(86, effect=CallEffect.LINKS)
def link(world: World, old: Path, new: Path) -> Reply:
    """link(2): another name for a file."""
    return linkat(world, _CWD, old, _CWD, new, 0)


@oscall(265, effect=CallEffect.LINKS)
def linkat(world: World, olddirfd: DirFd, old: Path, newdirfd: DirFd, new: Path, flags: AtFlags) -> Reply:
    """linkat(2): another name for a file; a final symbolic link is followed only with AT_SYMLINK_FOLLOW."""
    check_flags(flags, abi.AT_SYMLINK_FOLLOW | abi.AT_EMPTY_PATH)
    nofollow = 0 if flags & abi.AT_SYMLINK_FOLLOW else abi.AT_SYMLINK_NOFOLLOW
    node = node_at(world, olddirfd, old, nofollow | flags & abi.AT_EMPTY_PATH)
    namei.link(world.tree, node, new, start_of(world, newdirfd, new), world.credentials)
    return 0


@oscall(88, effect=CallEffect.MAKES | CallEffect.SYMLINK)
def symlink(world: World, target: Text, path: Path) -> Reply:
    """symlink(2): a new symbolic link."""
    return symlinkat(world, target, _CWD, path)


@oscall(266, effect=CallEffect.MAKES | CallEffect.SYMLINK)
def symlinkat(world: World, target: Text, dirfd: DirFd, path: Path) -> Reply:
    """symlinkat(2): a new symbolic link."""
    namei.symlink(world.tree, target, path, start_of(world, dirfd, path), world.credentials)
    return 0


@oscall(76, effect=CallEffect.RESIZES)
def truncate(world: World, thread: GuestThread, path: Path, length: Long) -> Reply:
    """truncate(2): sets the length of a file."""
    if length < 0:
        raise OSError(errno.EINVAL, "a negative length")
    node = node_at(world, _CWD, path, 0)
    if isinstance(node, RegularFile):
        check_length(world, thread, node.size(), length)
    namei.truncate(node, world.credentials, length)
    return 0


# --- the current directory ------------------------------------------------------------------------


@oscall(80, effect=CallEffect.LOOKS | CallEffect.ENTERS)
def chdir(world: World, path: Path) -> Reply:
    """chdir(2): sets the current directory."""
    return _enter(world, node_at(world, _CWD, path, 0))


@oscall(81, effect=CallEffect.ENTERS)
def fchdir(world: World, fd: Fd) -> Reply:
    """fchdir(2): sets the current directory, by descriptor."""
    return _enter(world, world.descriptors.get(fd).node)


def _enter(world: World, node: Node) -> Reply:
    if not isinstance(node, Directory):
        raise OSError(errno.ENOTDIR, "not a directory")
    namei.access(node, world.credentials, abi.X_OK)
    world.cwd = node
    return 0


@oscall(79, effect=CallEffect.NONE)
def getcwd(world: World, buf: Addr, size: Size) -> Reply:
    """getcwd(2): stores the path, and returns its length with the NUL, as the kernel does."""
    path = world.tree.path_of(world.cwd) + b"\0"
    if len(path) > size:
        raise OSError(errno.ERANGE, "too small a buffer")
    if len(path) > abi.PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "too deep a directory")
    return len(path), (buf, path)
