"""What calls do to names: open, create, remove, rename, and the permission checks for each.

Rules: permissions are checked here, in the order in which Linux checks them (fs/namei.c), and nodes are changed only
after that. Every function takes the tree, a path and the directory that the path starts from. The caller has already
applied the umask to `mode`.
"""

from __future__ import annotations

import contextlib
import errno

from proxybox.controller.abi import (
    O_ACCMODE,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOATIME,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_TRUNC,
    O_WRONLY,
    PATH_MAX,
    R_OK,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFREG,
    S_IFSOCK,
    W_OK,
    X_OK,
)
from proxybox.controller.errors import Denied
from proxybox.controller.vfs.nodes import (
    Credentials,
    Directory,
    Node,
    RegularFile,
    Symlink,
)
from proxybox.controller.vfs.openfiles import DirectoryOpenFile, OpenFile, PathOpenFile
from proxybox.controller.vfs.tree import MAX_SYMLINKS, Tree

_DOTS = (b".", b"..")
_MASKS = {O_RDONLY: R_OK, O_WRONLY: W_OK, O_RDWR: R_OK | W_OK, 3: R_OK | W_OK}


# --- permissions ---


def need(node: Node, creds: Credentials, mask: int) -> None:
    """Raises EROFS or EACCES unless `creds` may do `mask` (R_OK, W_OK, X_OK) to the node."""
    if mask & W_OK and node.superblock.read_only and node.kind in (S_IFREG, S_IFDIR, S_IFLNK):
        raise Denied(errno.EROFS, "mounted read-only")
    if not node.permits(creds, mask):
        raise OSError(errno.EACCES, "permission denied by the mode")


def access(node: Node, creds: Credentials, mask: int) -> None:
    """access(2): `mask` is F_OK, or a combination of R_OK, W_OK, X_OK.

    The call only checks, so a refusal is not reported as a denial.
    """
    try:
        need(node, creds, mask)
    except Denied as error:
        raise OSError(error.errno, error.strerror) from None


def may_create(directory: Directory, creds: Credentials) -> None:
    """Raises the error of a call that would make an entry there."""
    if directory.is_removed():
        raise OSError(errno.ENOENT, "the directory was removed")
    need(directory, creds, W_OK | X_OK)


def may_delete(tree: Tree, directory: Directory, name: bytes, node: Node, creds: Credentials) -> None:
    """Raises the error of a call that would remove that entry."""
    need(directory, creds, W_OK | X_OK)
    stat = directory.stat()
    if stat.mode & 0o1000 and creds.uid not in (0, stat.uid) and not node.owned_by(creds):
        raise OSError(errno.EPERM, "the directory is sticky and the entry another's")
    if tree.is_mountpoint(directory, name):
        raise OSError(errno.EBUSY, "a mount point")


def _need_writable(directory: Directory) -> None:
    if directory.superblock.read_only:
        raise Denied(errno.EROFS, "mounted read-only")


def _find(tree: Tree, directory: Directory, name: bytes) -> Node | None:
    try:
        return tree.lookup(directory, name)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


# --- open ---


def open_file(
    tree: Tree, path: bytes, start: Directory, creds: Credentials, flags: int, mode: int, umask: int = 0
) -> OpenFile:
    """open(2): a new description. Raises the errors of open(2); the caller checks for unknown flags."""
    if flags & O_PATH:
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW
    elif flags & O_TMPFILE == O_TMPFILE:
        return _open_unnamed(tree, path, start, creds, flags, mode, umask)
    elif flags & O_CREAT:
        return _open_or_create(tree, path, start, creds, flags, mode, umask)
    node = tree.resolve(path, start, creds, follow=not flags & O_NOFOLLOW)
    return _opened(tree, node, path, start, creds, flags)


def _opened(tree: Tree, node: Node, path: bytes, start: Directory, creds: Credentials, flags: int) -> OpenFile:
    file = open_node(tree, node, creds, flags)
    if not isinstance(node, Directory):  # so no slash follows its name
        head, slash, name = path.rpartition(b"/")
        try:
            above = tree.resolve(head + slash, start, creds) if slash else start
        except OSError:
            return file
        if isinstance(above, Directory):
            file.location = (above, name)
    return file


def open_node(tree: Tree, node: Node, creds: Credentials, flags: int) -> OpenFile:
    """Opens a node that was already found: checks its kind and the permissions, truncates, makes the description."""
    if isinstance(node, Symlink) and not flags & O_PATH:
        raise OSError(errno.ENOTDIR if flags & O_DIRECTORY else errno.ELOOP, "a symbolic link")
    directory = isinstance(node, Directory)
    if flags & O_DIRECTORY and not directory:
        raise OSError(errno.ENOTDIR, "not a directory")
    if flags & O_PATH:
        return PathOpenFile(node, flags)
    mask = _MASKS[flags & O_ACCMODE]
    if flags & O_TRUNC:
        mask |= W_OK
    if directory and mask & W_OK:
        raise OSError(errno.EISDIR, "a directory")
    need(node, creds, mask)
    if flags & O_NOATIME and not node.owned_by(creds):
        raise OSError(errno.EPERM, "O_NOATIME is for the owner")
    file = node.open(flags)
    if isinstance(file, DirectoryOpenFile) and isinstance(node, Directory):
        file.placed(tree.parent_of(node), tree.mounted_in(node), tree.listings)
    return file


def _open_unnamed(
    tree: Tree, path: bytes, start: Directory, creds: Credentials, flags: int, mode: int, umask: int
) -> OpenFile:
    if flags & O_ACCMODE not in (O_WRONLY, O_RDWR):
        raise OSError(errno.EINVAL, "O_TMPFILE wants to write")
    directory = tree.resolve(path, start, creds)
    if not isinstance(directory, Directory):
        raise OSError(errno.ENOTDIR, "not a directory")
    may_create(directory, creds)
    made = directory.tmpfile(directory.mode_of_new(mode & 0o7777, umask), creds)
    return made.open(flags & ~(O_TRUNC | O_CREAT | O_EXCL))


def _open_or_create(
    tree: Tree, path: bytes, start: Directory, creds: Credentials, flags: int, mode: int, umask: int
) -> OpenFile:
    if flags & O_DIRECTORY:
        raise OSError(errno.EINVAL, "O_CREAT makes no directories")
    for _ in range(MAX_SYMLINKS + 1):
        directory, name, trailing = tree.resolve_parent(path, start, creds)
        if not name or name in _DOTS:
            raise OSError(errno.EEXIST if flags & O_EXCL else errno.EISDIR, "a directory")
        if trailing:
            raise OSError(errno.EISDIR, "a slash after the name")
        node = _find(tree, directory, name)
        if node is None:
            may_create(directory, creds)
            node = directory.create(name, directory.mode_of_new(mode & 0o7777, umask), creds)
            # As in open(2), the call that creates a file may open it, whatever the new file's mode is.
            file = node.open(flags & ~O_TRUNC)
            file.location = (directory, name)
            return file
        if flags & O_EXCL:
            raise OSError(errno.EEXIST, "it exists")
        if not isinstance(node, Symlink) or flags & O_NOFOLLOW:
            break
        jump = node.jump()
        if jump is not None:
            node = jump
            break
        path, start = node.target, directory
    else:
        raise OSError(errno.ELOOP, "too many symbolic links")
    if isinstance(node, Directory):
        raise OSError(errno.EISDIR, "a directory")
    file = open_node(tree, node, creds, flags)
    file.location = (directory, name)
    return file


# --- names ---


def _for_new(
    tree: Tree, path: bytes, start: Directory, creds: Credentials, *, is_directory: bool = False
) -> tuple[Directory, bytes]:
    """The directory and name for a new entry. EEXIST is raised before EROFS, and both before EACCES."""
    directory, name, trailing = tree.resolve_parent(path, start, creds)
    if not name or name in _DOTS or _find(tree, directory, name) is not None:
        raise OSError(errno.EEXIST, "it exists")
    if trailing and not is_directory:
        raise OSError(errno.ENOENT, "a slash after the name of no directory")
    may_create(directory, creds)
    return directory, name


def mkdir(tree: Tree, path: bytes, start: Directory, creds: Credentials, mode: int, umask: int = 0) -> None:
    """mkdir(2)."""
    directory, name = _for_new(tree, path, start, creds, is_directory=True)
    directory.mkdir(name, directory.mode_of_new(mode & 0o1777, umask), creds)


def make_folders(tree: Tree, path: bytes, start: Directory, creds: Credentials, mode: int, umask: int = 0) -> None:
    """Makes the folders on the way to `path` that are missing.

    It is for the caller of the box, not for the guest, so each folder has the steps of a call of its own.
    """
    for end in (at for at, byte in enumerate(path) if byte == 0x2F and at):
        tree.steps.renew()
        with contextlib.suppress(FileExistsError):
            mkdir(tree, path[:end], start, creds, mode, umask)


def mknod(tree: Tree, path: bytes, start: Directory, creds: Credentials, mode: int, umask: int = 0) -> None:
    """mknod(2) of a regular file; the caller refuses any other kind."""
    directory, name = _for_new(tree, path, start, creds)
    directory.create(name, directory.mode_of_new(mode & 0o7777, umask), creds)


def symlink(tree: Tree, target: bytes, path: bytes, start: Directory, creds: Credentials) -> None:
    """symlink(2)."""
    if not target:
        raise OSError(errno.ENOENT, "an empty target")
    if len(target) >= PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "a target of more than 4095 bytes")
    directory, name = _for_new(tree, path, start, creds)
    directory.symlink(name, target, creds)


def link(tree: Tree, node: Node, path: bytes, start: Directory, creds: Credentials) -> None:
    """link(2) for a node that was already resolved. Raises EPERM for directories, EXDEV across mounts."""
    directory, name, trailing = tree.resolve_parent(path, start, creds)
    if not name or name in _DOTS or _find(tree, directory, name) is not None:
        raise OSError(errno.EEXIST, "it exists")
    if trailing:
        raise OSError(errno.ENOENT, "a slash after the name of no directory")
    _need_writable(directory)
    if node.superblock is not directory.superblock:
        raise OSError(errno.EXDEV, "another filesystem")
    may_create(directory, creds)
    if isinstance(node, Directory):
        raise OSError(errno.EPERM, "a directory")
    directory.link(name, node)


def unlink(tree: Tree, path: bytes, start: Directory, creds: Credentials) -> None:
    """unlink(2)."""
    directory, name, trailing = tree.resolve_parent(path, start, creds)
    if not name or name in _DOTS:
        raise OSError(errno.EISDIR, "a directory")
    # A missing entry is ENOENT on a read-only mount too. An ordinary user gets the same in a folder of root's.
    node = tree.lookup(directory, name)
    _need_writable(directory)
    if trailing:
        code = errno.EISDIR if isinstance(node, Directory) else errno.ENOTDIR
        raise OSError(code, "a slash after the name")
    may_delete(tree, directory, name, node, creds)
    if isinstance(node, Directory):
        raise OSError(errno.EISDIR, "a directory")
    directory.unlink(name)


def rmdir(tree: Tree, path: bytes, start: Directory, creds: Credentials) -> None:
    """rmdir(2)."""
    directory, name, _ = tree.resolve_parent(path, start, creds)
    if not name:
        raise OSError(errno.EBUSY, "the root")
    if name == b".":
        raise OSError(errno.EINVAL, "the last name is .")
    if name == b"..":
        raise OSError(errno.ENOTEMPTY, "the last name is ..")
    node = tree.lookup(directory, name)
    may_delete(tree, directory, name, node, creds)
    if not isinstance(node, Directory):
        raise OSError(errno.ENOTDIR, "not a directory")
    if tree.mounted_in(node):
        raise OSError(errno.EBUSY, "something is mounted in it")
    directory.rmdir(name)


def check_rename_flags(flags: int) -> None:
    """Raises EINVAL unless the flags are 0, RENAME_NOREPLACE or RENAME_EXCHANGE."""
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or flags == RENAME_NOREPLACE | RENAME_EXCHANGE:
        raise OSError(errno.EINVAL, "unknown flags, or flags that exclude each other")


def rename(
    tree: Tree,
    old: bytes,
    old_start: Directory,
    new: bytes,
    new_start: Directory,
    creds: Credentials,
    flags: int = 0,
) -> None:
    """renameat2(2). The flags are RENAME_NOREPLACE and RENAME_EXCHANGE, which exclude each other."""
    check_rename_flags(flags)
    olddir, oldname, old_trailing = tree.resolve_parent(old, old_start, creds)
    newdir, newname, new_trailing = tree.resolve_parent(new, new_start, creds)
    if olddir.superblock is not newdir.superblock:
        raise OSError(errno.EXDEV, "another filesystem")
    if not oldname or oldname in _DOTS:
        raise OSError(errno.EBUSY, "the last name is . or ..")
    if not newname or newname in _DOTS:
        raise OSError(errno.EEXIST if flags & RENAME_NOREPLACE else errno.EBUSY, "the last name is . or ..")
    _need_writable(olddir)
    node = tree.lookup(olddir, oldname)
    other = _find(tree, newdir, newname)
    if other is not None and flags & RENAME_NOREPLACE:
        raise OSError(errno.EEXIST, "it exists")
    if other is None and flags & RENAME_EXCHANGE:
        raise OSError(errno.ENOENT, "nothing to exchange with")
    exchange = other is not None and bool(flags & RENAME_EXCHANGE)
    if exchange and not isinstance(other, Directory) and new_trailing:
        raise OSError(errno.ENOTDIR, "a slash after the name of no directory")
    if not isinstance(node, Directory) and (old_trailing or (new_trailing and not exchange)):
        raise OSError(errno.ENOTDIR, "a slash after the name of no directory")
    if isinstance(node, Directory) and node.holds(newdir):
        raise OSError(errno.EINVAL, "a directory cannot go below itself")
    if isinstance(other, Directory) and other.holds(olddir):
        raise OSError(errno.EINVAL if exchange else errno.ENOTEMPTY, "the target holds the source")
    if node is other:
        return
    may_delete(tree, olddir, oldname, node, creds)
    if other is None:
        may_create(newdir, creds)
    else:
        may_delete(tree, newdir, newname, other, creds)
    if olddir is not newdir:
        for moved in (node, other) if exchange else (node,):
            if isinstance(moved, Directory):
                need(moved, creds, W_OK)
    olddir.rename(oldname, newdir, newname, flags)


# --- status ---


def chmod(node: Node, creds: Credentials, mode: int) -> None:
    """chmod(2), for the owner. The set-group-ID bit is dropped unless `creds` are root's or in the file's group."""
    _need_change(node, creds)
    if creds.uid != 0 and not creds.in_group(node.stat().gid):
        mode &= ~0o2000
    node.chmod(mode & 0o7777)


def chown(node: Node, creds: Credentials, uid: int, gid: int) -> None:
    """chown(2); -1 leaves an id as it is. Without privilege, an owner may only set one of the owner's groups."""
    if node.superblock.read_only:
        raise Denied(errno.EROFS, "mounted read-only")
    if creds.uid != 0:
        stat = node.stat()
        owns = stat.uid == creds.uid
        if (uid != -1 and not (owns and uid == stat.uid)) or (
            gid != -1 and not (owns and (gid == stat.gid or creds.in_group(gid)))
        ):
            raise OSError(errno.EPERM, "not the owner, or not one's group")
    node.chown(uid, gid)


def utimens(node: Node, creds: Credentials, atime_ns: int | None, mtime_ns: int | None, *, touch: bool) -> None:
    """utimensat(2); None leaves a time as it is.

    touch: whether both times are set to the present, which any caller that may write to the file may do.
    """
    if atime_ns is None and mtime_ns is None:
        return
    if node.superblock.read_only:
        raise Denied(errno.EROFS, "mounted read-only")
    if not node.owned_by(creds):
        if not touch:
            raise OSError(errno.EPERM, "not the owner")
        if not node.permits(creds, W_OK):
            raise OSError(errno.EACCES, "neither the owner nor allowed to write")
    node.utimens(atime_ns, mtime_ns)


def truncate(node: Node, creds: Credentials, size: int) -> None:
    """truncate(2). The caller has refused a negative size."""
    if isinstance(node, Directory):
        raise OSError(errno.EISDIR, "a directory")
    if not isinstance(node, RegularFile):
        raise OSError(errno.EINVAL, "not a regular file")
    need(node, creds, W_OK)
    node.truncate(size)


def _need_change(node: Node, creds: Credentials) -> None:
    if node.superblock.read_only:
        raise Denied(errno.EROFS, "mounted read-only")
    if not node.owned_by(creds):
        raise OSError(errno.EPERM, "not the owner")


#: How /proc/self/fd shows files without a path, by kind. The terminal is the box's own, so it has a fixed name.
_NAMELESS = {S_IFIFO: b"pipe:[%d]", S_IFSOCK: b"socket:[%d]", S_IFCHR: b"/dev/tty"}


def path_of(tree: Tree, file: OpenFile) -> bytes:
    """The path of an open file as /proc/self/fd shows it, with " (deleted)" when its name is gone."""
    if isinstance(file.node, Directory):
        return tree.path_of(file.node)
    if file.location is None:
        text = _NAMELESS.get(file.node.kind, b"anon_inode:[file]")
        return text % file.node.stat().ino if b"%d" in text else text
    directory, name = file.location
    try:
        base = tree.path_of(directory).rstrip(b"/") + b"/" + name
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise
        return b"/" + name + b" (deleted)"
    return base if _find(tree, directory, name) is not None else base + b" (deleted)"
