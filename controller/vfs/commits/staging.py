"""The folder in which a commit is staged.

It is on the target's own filesystem, with a name that nobody can guess, and mode 0700. Slot `N` holds the entry that
step N is to put in its place. Slot `N.old` holds the entry that the step took away from there, until the whole commit
is done. Nothing here is trusted because of its name: see applying.py.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat as st
from collections.abc import Iterable, Mapping, Sequence

import attrs

from proxybox.controller.vfs.commits.planning import OWN_PREFIX, Unit, look
from proxybox.controller.vfs.commits.refusals import CommitRefused
from proxybox.controller.vfs.host import attributes, boundary
from proxybox.controller.vfs.overlay.changes import Change


def name_of(ident: str) -> bytes:
    """The name of the folder for the commit with that id."""
    return OWN_PREFIX + ident.encode()


def slot(number: int) -> bytes:
    """The name of the entry that the step of that number puts in its place."""
    return b"%d" % number


def old_slot(number: int) -> bytes:
    """The name of the entry that the step of that number has taken away."""
    return b"%d.old" % number


_EMPTIED = -1
_PIECE = 1 << 16


class Staging:
    """The folder of one commit. folder: the folder of the target that contains it.

    ino: its inode; 0 when the journal does not have it. Nothing was put into such a folder, so it is removed when it is
    empty, and otherwise not touched.
    """

    def __init__(self, root: boundary.HostRoot, folder: bytes, ident: str, ino: int = 0) -> None:
        self._root = root
        self._folder = folder
        self._name = name_of(ident)
        self.ino = ino
        self.is_private = False
        self.host: boundary.HostRoot | None = None

    @property
    def path(self) -> bytes:
        """The path of the folder, below the target."""
        return self._folder + b"/" + self._name if self._folder else self._name

    def make(self) -> boundary.HostRoot:
        """Makes the folder, empty, and returns it as a root of its own.

        Raises PermissionError when another folder already has its name.
        """
        with self._root.directory_fd(self._folder) as fd:
            os.mkdir(self._name, 0o700, dir_fd=fd)
        found = self._root.below(self.path)
        seen = os.fstat(found.fd)
        self.is_private = seen.st_uid == os.geteuid() and not st.S_IMODE(seen.st_mode) & 0o077
        if found.kinds(b"", 1) or not (self.is_private or _has_no_modes(found)):
            found.close()
            raise PermissionError(errno.EACCES, "it is not the folder that the commit has made")
        self.ino, self.host = seen.st_ino, found
        return found

    def open(self) -> boundary.HostRoot:
        """Opens the folder that was made before. Raises PermissionError when the folder of that name is another one."""
        found = self._root.below(self.path)
        if os.fstat(found.fd).st_ino != self.ino:
            found.close()
            raise PermissionError(errno.EACCES, "it is not the folder that the commit has made")
        self.host = found
        return found

    def remove(self) -> None:
        """Removes the folder with everything that is left in it.

        Its contents are removed through a descriptor, so it does not matter which entry has the folder's name by now.
        """
        try:
            if self.ino:
                found = self.host or self.open()
                empty(found)
                found.close()
            with self._root.directory_fd(self._folder) as fd:
                os.rmdir(self._name, dir_fd=fd)
        except FileNotFoundError:
            return


def _has_no_modes(folder: boundary.HostRoot) -> bool:
    """Whether the filesystem stores no modes, or no owners.

    This is tried with a new file, which belongs to the caller.
    """
    with folder.directory_fd(b"") as fd:
        made = boundary.create_file(fd, b"probe", 0o604)
        try:
            seen = os.fstat(made)
        finally:
            os.close(made)
            os.unlink(b"probe", dir_fd=fd)
    return seen.st_uid != os.geteuid() or st.S_IMODE(seen.st_mode) != 0o604


def stage(root: boundary.HostRoot, unit: Unit, staged: boundary.HostRoot, number: int) -> None:
    """Makes the new entry of a unit, with everything in it, in the slot of that number.

    Folders keep mode 0700 until they are in their places. An entry that root writes into a user's folder belongs to
    that user, and a replacement belongs to the owner of the old entry. Raises CommitRefused for an entry that cannot
    get its owner, group or attributes.
    """
    if unit.new is None:
        return
    folders = {b"": _owner_of(root, unit.path, staged)}
    for change in (unit.new, *unit.below):
        path = slot(number) + change.path[len(unit.path) :]
        owner = folders[path.rpartition(b"/")[0]]
        try:
            folders[path] = _make(staged, path, change, owner)
        except attributes.NotCarried as error:
            raise CommitRefused([f"{change.name}: {error.strerror}"]) from error


@attrs.frozen
class _Owner:
    """The owner and group of new files in a folder; -1 for those that the kernel chooses.

    set_group_id: whether the folder has the set-group-id bit, which new folders in it inherit.
    """

    uid: int
    gid: int
    set_group_id: bool

    def for_change(self, change: Change) -> _Owner:
        """The owner of the entry that a change makes: a file that existed before keeps its owner and group."""
        like, is_root = change.like, os.geteuid() == 0
        if like is None:
            return self
        return _Owner(like.uid if is_root else -1, like.gid, bool(like.mode & st.S_ISGID))


def _owner_of(root: boundary.HostRoot, path: bytes, staged: boundary.HostRoot) -> _Owner:
    above = root.look(path.rpartition(b"/")[0])
    set_group_id = bool(above.st_mode & st.S_ISGID)
    if os.geteuid() == 0:
        seen = look(root, path) or above
        return _Owner(seen.st_uid, seen.st_gid, set_group_id)
    mine = os.getegid() if staged.look(b"").st_mode & st.S_ISGID else -1
    return _Owner(-1, above.st_gid if set_group_id else mine, set_group_id)


def _make(staged: boundary.HostRoot, path: bytes, change: Change, owner: _Owner) -> _Owner:
    """Makes one entry, and returns the owner of new files in it."""
    owner = owner.for_change(change)
    folder, _, name = path.rpartition(b"/")
    with staged.directory_fd(folder) as fd:
        if change.type == "file":
            made = boundary.create_file(fd, name, 0o600)
        elif change.type == "dir":
            os.mkdir(name, 0o700, dir_fd=fd)
            made = staged.open_path(path)
        else:
            os.symlink(change.target or b".", name, dir_fd=fd)
            made = staged.open_path(path)
    try:
        if change.type == "dir":
            boundary.restore_mode(made, 0o700)  # without the set-group-id bit of the folder above
        if change.type == "file":
            _write_all(made, change.content or b"")
        _give(made, owner, change)  # by descriptor: by now another file may have the name
        if change.type == "file":
            attributes.write(made, change.attributes)
            os.fchmod(made, change.mode & 0o777)
        elif change.type == "dir":
            attributes.write(made, attributes.at_mode(change.attributes, 0o700))
            if owner.set_group_id:
                boundary.restore_mode(made, 0o2700)
    finally:
        os.close(made)
    return owner


def _give(fd: int, owner: _Owner, change: Change) -> None:
    """Sets the owner and group of a new entry. Raises NotCarried.

    Another group than the right one is accepted only where the right group may do no more than all other users.
    """
    seen = os.fstat(fd)
    if owner.uid in (-1, seen.st_uid) and owner.gid in (-1, seen.st_gid):
        return
    try:
        boundary.change_owner(fd, owner.uid, owner.gid)
    except PermissionError:
        if change.type == "symlink":
            return
        if change.mode >> 3 & 7 & ~change.mode or attributes.has_acl(change.attributes):
            why = f"it is to be of group {owner.gid}, to which you cannot give a file and which may do more than others"
            raise attributes.NotCarried(why) from None


def _write_all(fd: int, data: bytes) -> None:
    """Writes a file that is empty. Pieces of zeros become holes."""
    end = 0
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE]
        if piece.count(0) == len(piece) == _PIECE:
            continue
        view = memoryview(piece)
        os.lseek(fd, start, os.SEEK_SET)
        while view:
            view = view[os.write(fd, view) :]
        end = start + len(piece)
    if end < len(data):
        os.ftruncate(fd, len(data))


def folder_to_stage_in(root: boundary.HostRoot, places: Sequence[bytes], modes: Mapping[bytes, int]) -> bytes:
    """The folder of the target in which a commit makes its own folder: one to which the caller may write.

    modes: the new modes of the folders whose mode the commit changes. Such a folder is used only when there is no other
    one, and only when the caller can write to it both before and after that change.
    """
    common = common_folder(places)
    above = [common[:end] for end, byte in enumerate(common) if byte == ord("/")]
    wanted = dict.fromkeys([common, *reversed(above), b"", *(place.rpartition(b"/")[0] for place in places)])
    staying = (folder for folder in wanted if not _new_modes(folder, modes))
    open_still = (
        folder for folder in (*wanted, *modes) if all(mode & 0o300 == 0o300 for mode in _new_modes(folder, modes))
    )
    return next((folder for folder in itertools.chain(staying, open_still) if _is_writable(root, folder)), common)


def _new_modes(folder: bytes, modes: Mapping[bytes, int]) -> list[int]:
    """The new modes of `folder` and of the folders above it, where they are to change."""
    ends = (end for end, byte in enumerate(folder + b"/") if byte == ord("/"))
    return [modes[folder[:end]] for end in ends if folder[:end] in modes]


def _is_writable(root: boundary.HostRoot, folder: bytes) -> bool:
    try:
        with root.directory_fd(folder) as fd:
            return os.access(f"/proc/self/fd/{fd}", os.W_OK | os.X_OK, effective_ids=True)
    except OSError:
        return False


def common_folder(paths: Iterable[bytes]) -> bytes:
    """The deepest folder that contains all these places. A user who may change them may make a folder there."""
    folders = [path.split(b"/")[:-1] for path in paths]
    first, last = min(folders), max(folders)
    same = itertools.takewhile(lambda names: names[0] == names[1], zip(first, last, strict=False))
    return b"/".join(name for name, _ in same)


def empty(root: boundary.HostRoot) -> None:
    """Removes everything in a folder, without recursion and through no link. Closed folders are opened first."""
    left: list[tuple[bytes, int]] = list(root.kinds(b"", boundary.MAX_ENTRIES))
    while left:
        here, kind = left.pop()
        folder, _, name = here.rpartition(b"/")
        if kind == st.S_IFDIR:
            with root.directory_fd(here) as fd:
                if st.S_IMODE(os.fstat(fd).st_mode) & 0o700 != 0o700:
                    boundary.change_mode(fd, 0o700)
            left.append((here, _EMPTIED))
            left.extend((here + b"/" + entry, below) for entry, below in root.kinds(here, boundary.MAX_ENTRIES))
            continue
        with root.directory_fd(folder) as fd:
            if kind == _EMPTIED:
                os.rmdir(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
