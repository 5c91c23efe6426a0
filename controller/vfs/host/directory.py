"""Folders of a host mount as nodes; see mount.py for the rules."""

from __future__ import annotations

import errno
import os
import stat as st
from collections.abc import Collection, Generator
from contextlib import ExitStack
from weakref import WeakValueDictionary

import attrs

from proxybox.controller.abi import O_RDWR, RENAME_EXCHANGE
from proxybox.controller.errors import Denied
from proxybox.controller.vfs.host import attributes, boundary, links
from proxybox.controller.vfs.host.filesystem import HIDDEN_NAMES, HostFilesystem
from proxybox.controller.vfs.host.nodes import HostFile, HostNode, HostSymlink
from proxybox.controller.vfs.host.use import identity
from proxybox.controller.vfs.memory import SHORT_TARGET
from proxybox.controller.vfs.nodes import (
    D_TYPES,
    Credentials,
    Directory,
    Entry,
    Node,
    Stat,
    Symlink,
    finished,
    in_portions,
)


class HostDirectory(HostNode, Directory):
    """A folder of the host. While it is in use there is one object for it, so that a rename reaches all its users."""

    __slots__ = ("_children", "_gone")
    stable = False

    def __init__(self, mount: HostFilesystem, above: HostDirectory | None = None, name: bytes = b"") -> None:
        super().__init__(mount, above, name)
        self._children: WeakValueDictionary[bytes, HostDirectory] = WeakValueDictionary()
        self._gone = False

    @property
    def parent(self) -> Directory | None:  # type: ignore[override]
        return self._above  # type: ignore[return-value]  # the node above is always a folder

    @property
    def name(self) -> bytes:  # type: ignore[override]
        return self._name

    def is_removed(self) -> bool:
        return self._gone

    def _child_path(self, name: bytes) -> bytes:
        base = self.relative()
        return base + b"/" + name if base else name

    def _hides(self, name: bytes) -> bool:
        return self._mount.hides(name) or (self._above is None and not self._mount.shows_at_top(name))

    def stat(self) -> Stat:
        shown = super().stat()
        if self._above is None and self._mount.names is not None:  # the host's numbers show how many names there are
            return attrs.evolve(shown, nlink=2, size=4096, blocks=8)
        return shown

    def lookup(self, name: bytes) -> Node:
        if self._hides(name):
            raise OSError(errno.ENOENT, "hidden")
        path = self._child_path(name)
        self.superblock.steps.take_host(path.count(b"/"))
        seen = self._mount.host.look(path)
        kind = st.S_IFMT(seen.st_mode)
        node: HostNode
        if kind == st.S_IFREG:
            node = HostFile(self._mount, self, name)
        elif kind == st.S_IFDIR:
            node = self._children.get(name) or HostDirectory(self._mount, self, name)
            self._children[name] = node
        elif kind == st.S_IFLNK:
            node = HostSymlink(self._mount, self, name)
        else:
            raise OSError(errno.ENOENT, "neither file, folder nor link on the host")
        node.note(seen)
        return node

    def entries(self) -> list[Entry]:
        return finished(self.listing())

    def listing(self) -> Generator[None, None, list[Entry]]:
        found = yield from self._mount.host.listing(self.relative())
        return (yield from in_portions(found, self._shown))

    def _shown(self, found: list[boundary.Found]) -> list[Entry]:
        mount = self._mount
        return [(name, mount.virtual_ino(key), D_TYPES[kind]) for name, kind, key in found if not self._hides(name)]

    def has_others(self, names: Collection[bytes]) -> bool:
        return self._mount.host.has_entry(self.relative(), lambda name: name not in names and not self._hides(name))

    # --- changes ---

    def default_acl(self) -> bytes | None:
        """Its default ACL, which new entries in it inherit."""
        with self.own_fd() as fd:
            return attributes.default_acl(fd)

    def permitted_by_default(self) -> int | None:
        acl = self.default_acl()
        return None if acl is None else attributes.permitted(acl)

    def _check_name(self, name: bytes) -> None:
        self.need_writable()
        if self._mount.hides(name):
            raise Denied(errno.EACCES, HIDDEN_NAMES)

    def create(self, name: bytes, mode: int, creds: Credentials) -> Node:
        self._check_name(name)
        use, file_fd = self._mount.use, -1
        use.allotment.take()  # before a file is made that could not be held open
        try:
            with self._mount.creating() as made, self.own_fd() as fd:
                file_fd = boundary.create_file(fd, name, mode)
                made.append(os.fstat(file_fd))
                self._changed(fd)
            self._mount.stamp(file_fd)
        except BaseException:
            if file_fd >= 0:
                os.close(file_fd)
            use.allotment.give_back()
            raise
        return HostFile(self._mount, self, name, use.keep(file_fd, identity(made[0]), O_RDWR))

    def mkdir(self, name: bytes, mode: int, creds: Credentials) -> Directory:
        self._check_name(name)
        node = HostDirectory(self._mount, self, name)
        with self._mount.creating() as made, self.own_fd() as fd:
            os.mkdir(name, 0o700, dir_fd=fd)
            made.append(os.stat(name, dir_fd=fd, follow_symlinks=False))
            with self._mount.host.directory_fd(node.relative()) as new_fd:
                boundary.change_mode(new_fd, mode & 0o1777)
                self._mount.stamp(new_fd)
            self._changed(fd)
        self._children[name] = node
        return node

    def symlink(self, name: bytes, target: bytes, creds: Credentials) -> Symlink:
        self._check_name(name)
        _refuse_leading_out(target)
        if any(map(self._mount.hides, links.names_in(target))):
            raise Denied(errno.EACCES, HIDDEN_NAMES)
        pages = 1 if len(target) > SHORT_TARGET else 0
        with self._mount.creating(pages=pages) as made, self.own_fd() as fd:
            os.symlink(target, name, dir_fd=fd)
            made.append(os.stat(name, dir_fd=fd, follow_symlinks=False))
            self._mount.stamp_link(fd, name)
            self._changed(fd)
        return HostSymlink(self._mount, self, name)

    def _changed(self, fd: int) -> None:
        self._seen = None
        self._mount.stamp(fd)

    def link(self, name: bytes, node: Node) -> None:
        self._check_name(name)
        if not isinstance(node, HostFile) or node.mount is not self._mount:
            raise OSError(errno.EXDEV, "another filesystem, or no regular file")
        with self._mount.creating(new=False) as made, node.folder.own_fd() as old, self.own_fd() as new:
            os.link(node.file_name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
            made.append(os.stat(name, dir_fd=new, follow_symlinks=False))
            self._changed(new)

    def unlink(self, name: bytes) -> None:
        self._check_name(name)
        with self._mount.host.path_fd(self._child_path(name)) as fd:
            seen = os.fstat(fd)
            with self.own_fd() as directory_fd:
                os.unlink(name, dir_fd=directory_fd)
                self._changed(directory_fd)
            self._lost_name(seen, fd)

    def _lost_name(self, seen: os.stat_result, fd: int) -> None:
        """Records that a file has lost a name in this folder.

        seen: its status while it still had the name. fd: a descriptor of it, of any kind.
        """
        if self._mount.use.lost_name(seen, fd):
            self._mount.forget_inode(identity(seen))

    def rmdir(self, name: bytes) -> None:
        self._check_name(name)
        with self.own_fd() as fd:
            seen = self._mount.host.look(self._child_path(name))
            os.rmdir(name, dir_fd=fd)
            self._changed(fd)
        self._mount.use.forget(identity(seen))
        self._mount.forget_inode(identity(seen))
        self._dropped(name)

    def _dropped(self, name: bytes) -> None:
        node = self._children.pop(name, None)
        if node is not None:
            node._gone = True

    def rename(self, name: bytes, newdir: Directory, newname: bytes, flags: int) -> None:
        if not isinstance(newdir, HostDirectory) or newdir._mount is not self._mount:
            raise OSError(errno.EXDEV, "another filesystem")
        self._check_name(name)
        newdir._check_name(newname)
        self._check_moved_link(name, newdir)
        if flags & RENAME_EXCHANGE:
            newdir._check_moved_link(newname, self)
        with ExitStack() as closing:
            replaced = None if flags else newdir._held_entry(newname, closing)
            with self.own_fd() as old, newdir.own_fd() as new:
                boundary.rename(old, name, new, newname, flags)
                self._changed(old)
                newdir._changed(new)
            if replaced is not None:
                newdir._lost_name(*replaced)
        moved, other = self._children.pop(name, None), newdir._children.pop(newname, None)
        if moved is not None:
            moved.moved(newdir, newname)
            newdir._children[newname] = moved
        if other is not None and flags & RENAME_EXCHANGE:
            other.moved(self, name)
            self._children[name] = other
        elif other is not None:
            other._gone = True
        self.superblock.forget()

    def _held_entry(self, name: bytes, closing: ExitStack) -> tuple[os.stat_result, int] | None:
        """The status of an entry and an O_PATH descriptor of it, which `closing` closes; None for no such entry."""
        try:
            fd = closing.enter_context(self._mount.host.path_fd(self._child_path(name)))
        except FileNotFoundError:
            return None
        return os.fstat(fd), fd

    def _check_moved_link(self, name: bytes, newdir: HostDirectory) -> None:
        """Refuses to move a link that may mean something else in another folder, or a folder with such links.

        A link that is moved by itself must not have ".." in its text. Links in a moved folder must not go up out of
        it.
        """
        if newdir is self:
            return
        node = self.lookup(name)
        if isinstance(node, HostSymlink):
            _refuse_leading_out(self._mount.host.read_link(node.relative()))
        elif isinstance(node, HostDirectory):
            links.refuse_moving_links_of_the_host(self._mount.host, node.relative())


def _refuse_leading_out(target: bytes) -> None:
    """Refuses a link that may lead out of the mount, because others on the host would follow it.

    A link to "." is refused too: it can take the place of a folder that an older link names as `folder/..`, and then
    that link leads one folder further up.
    """
    parts = target.split(b"/")
    if target[:1] == b"/" or b".." in parts or not set(parts) - {b"", b"."}:
        raise Denied(errno.EPERM, "a symbolic link that may lead out of the mount on the host")
