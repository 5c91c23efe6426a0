"""The steps of a commit, each done and undone by renames between the target folder and the commit's own folder.

Rules: each check finds out how far a step has come from the places of its inodes, so a kill between any two calls
changes nothing. A moved entry is checked after the move: if it differs from the journal, it is moved back, and the
commit stops (HostChanged). Nothing is removed here, so at every moment each byte is in one of the two places.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat as st
from collections.abc import Iterator, Sequence

from proxybox.controller.abi import RENAME_EXCHANGE, RENAME_NOREPLACE
from proxybox.controller.errors import Denied
from proxybox.controller.vfs.commits import apart
from proxybox.controller.vfs.commits.fingerprints import Fingerprint, fingerprint
from proxybox.controller.vfs.commits.journal import Act, Step
from proxybox.controller.vfs.commits.planning import look
from proxybox.controller.vfs.commits.refusals import HostChanged
from proxybox.controller.vfs.commits.staging import old_slot, slot
from proxybox.controller.vfs.host import boundary

_OPENED = 0o700
_NO_SUCH_FLAG = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class At(enum.Enum):
    """How far a step has come. between: its place is empty, and both the old and the new are in the commit's folder."""

    BEFORE = "before"
    BETWEEN = "between"
    AFTER = "after"


class Applier:
    """Does and undoes steps. root: the target folder. staged: the commit's own folder.

    believes: whether the contents of `staged` can be relied on, because nobody but this commit has had access since
    they were put there. Otherwise they are compared with the journal before they are used.
    """

    def __init__(self, root: boundary.HostRoot, staged: boundary.HostRoot, *, believes: bool) -> None:
        self._root = root
        self._staged = staged
        self._believes = believes

    def at(self, step: Step) -> At:
        """How far the step has come. Raises HostChanged when the host's files fit no state of the step."""
        seen = self._there(step)
        if step.act is Act.MODE:
            if step.new is not None and step.new.is_of(seen) and seen is not None:
                mode, wanted, old = (each & ~st.S_ISGID for each in (seen.st_mode, step.mode, step.old_mode))
                mode = st.S_IMODE(mode)  # chmod(2) drops that bit when the caller is not in the folder's group
                if mode in (wanted, old):
                    return At.AFTER if mode == wanted else At.BEFORE
            raise HostChanged(f"{step.path}: the folder, or its mode, was changed on the host since")
        staged = step.new is not None and self._is_in(slot(step.slot), step.new)
        if step.act is Act.APART:
            return self._apart_at(step, seen, staged)
        if step.old is not None and step.old.is_of(seen) and (staged or step.new is None):
            return At.BEFORE
        kept = self._kept(step) is not None
        if step.act is Act.PART and kept:  # its place may already hold a part of the folder's replacement
            return At.AFTER
        if kept or step.old is None:
            if seen is None and staged:
                return At.BETWEEN if kept else At.BEFORE
            if seen is None if step.new is None else step.new.is_of(seen):
                return At.AFTER
        raise HostChanged(f"{step.path}: changed on the host since")

    def _apart_at(self, step: Step, seen: os.stat_result | None, staged: bool) -> At:
        """How far an APART step has come.

        Any folder in its place is taken for the one to be removed: when it is empty, nothing in it can be lost.
        """
        if step.new is None:
            if seen is None:
                return At.AFTER
        elif step.new.is_of(seen):
            return At.AFTER
        elif seen is None and staged:
            return At.BETWEEN
        if seen is not None and st.S_ISDIR(seen.st_mode) and (staged or step.new is None):
            return At.BEFORE
        raise HostChanged(f"{step.path}: changed on the host since")

    def is_done(self, step: Step) -> bool:
        """Whether the step was done, and its result is still there. Raises HostChanged.

        In a folder that the commit itself has closed, the contents of the slots decide.
        """
        new = step.new
        try:
            if step.act is Act.MODE:  # its folder may not exist yet
                return new is not None and new.is_of(self._there(step)) and self.at(step) is At.AFTER
            if self.at(step) is not At.AFTER:
                return False
            if new is not None:
                self._compare(step, self._root, step.place, new)
        except PermissionError:
            is_left = new is not None and step.act is not Act.MODE and self._is_in(slot(step.slot), new)
            return not is_left and (step.old is None or self._kept(step) is not None)
        return True

    def has_set_mode(self, step: Step) -> bool:
        """Whether a folder has the mode that a MODE step sets. A mode that the host has set meanwhile stays."""
        try:
            return self.at(step) is At.AFTER
        except HostChanged:
            return False

    def is_begun(self, step: Step) -> bool:
        """Whether anything was moved for the step, so that there may be something to undo."""
        if step.new is not None and step.new.is_of(self._there(step)):
            return True
        return self._kept(step) is not None or not (step.new is None or self._is_in(slot(step.slot), step.new))

    def check_before_doing(self, steps: Sequence[Step]) -> None:
        """Checks that all of these steps can be done, before any of them is done. Raises HostChanged.

        A folder whose mode is to be set need not exist yet.
        """
        for step in steps:
            if step.act is Act.MODE or (at := self.at(step)) is At.AFTER or self._believes:
                continue
            if step.new is not None:
                self._compare(step, self._staged, slot(step.slot), step.new)
            if step.old is not None and at is At.BEFORE:
                self._compare(step, self._root, step.place, step.old)

    def check_before_undoing(self, steps: Sequence[Step]) -> None:
        """Checks that all of these steps can be undone, before any of them is undone. Raises HostChanged."""
        for step in steps:
            if step.act is Act.MODE or not self.is_begun(step):
                continue
            at, kept = self.at(step), self._kept(step)
            if step.new is not None and at is At.AFTER:
                self._compare(step, self._root, step.place, step.new)
            if step.old is not None and kept is not None:
                self._compare(step, self._staged, kept, step.old)

    def changed_since(self, steps: Sequence[Step]) -> list[str]:
        """Why a commit that is done cannot be undone: one line for each place that has changed since the commit."""
        reasons = []
        for step in steps:
            try:
                self.check_before_undoing([step])
                if step.act is Act.TAKE and step.old is not None:
                    with self._parent(step):
                        pass
            except HostChanged as error:
                reasons.append(str(error))
            except OSError as error:
                reasons.append(f"{step.path}: cannot be looked at: {error.strerror}")
        return reasons

    def _compare(self, step: Step, root: boundary.HostRoot, path: bytes, wanted: Fingerprint) -> None:
        found = fingerprint(root, path)
        touched = root is self._root and wanted is step.old and found.stamp != wanted.stamp
        if touched or found.digest != wanted.digest or found.has_other_rights(wanted):
            raise HostChanged(f"{step.path}: {os.fsdecode(os.path.join(root.path, path))} was changed since")

    # --- forward ---

    def do(self, step: Step) -> None:
        """Does the step. When it raises HostChanged, the step is as it was before."""
        at = self.at(step)
        if at is At.AFTER:
            return
        if step.act is Act.MODE:
            self._set_mode(step, step.new, step.mode)
        elif step.act is Act.APART:
            self._put_apart(step)
        elif step.act in (Act.TAKE, Act.PART):
            self._take(step)
        elif step.act is Act.PUT or at is At.BETWEEN:
            self._place(slot(step.slot), step)
        elif self._exchange(step):
            if not self._is_what_was_shown(slot(step.slot), step.old):
                self._exchange(step)
                raise HostChanged(f"{step.path}: changed on the host while it was replaced")
        else:
            self._take(step)
            self._place(slot(step.slot), step)

    def _put_apart(self, step: Step) -> None:
        try:
            apart.remove_folders(self._root, step)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise HostChanged(f"{step.path}: something appeared in it on the host since") from None
        if step.new is not None:
            self._place(slot(step.slot), step)

    def _take(self, step: Step) -> None:
        self._move_out(step, old_slot(step.slot), step.old)
        if not self._is_what_was_shown(old_slot(step.slot), step.old):
            self._place(old_slot(step.slot), step)
            raise HostChanged(f"{step.path}: changed on the host while it was taken away")

    def _is_what_was_shown(self, name: bytes, old: Fingerprint | None) -> bool:
        """Whether a slot holds the entry that is to be taken away, unchanged since the plan."""
        if old is None or not old.is_of(look(self._staged, name)):
            return False
        found = fingerprint(self._staged, name, contents=False)
        return found.stamp == old.stamp and not found.has_other_rights(old)

    def do_again(self, step: Step) -> None:
        """Does a step that was just undone. A mode that the host has set meanwhile stays."""
        if step.act is not Act.MODE:
            self.do(step)
            return
        with contextlib.suppress(HostChanged):
            self.do(step)

    # --- backward ---

    def undo(self, step: Step) -> None:
        """Undoes the step. When it raises HostChanged, the step is as it was before."""
        if step.act is Act.MODE:
            self._undo_mode(step)
            return
        if step.act is Act.APART:
            if step.new is not None and self.at(step) is At.AFTER:
                self._withdraw(step, step.new)
            apart.make_folders(self._root, step, self._staged)
            return
        at = self.at(step) if self.is_begun(step) else At.BEFORE
        if at is At.BEFORE:
            self._restore_mode(step)
            return
        if at is At.AFTER and step.new is not None:
            if step.old is not None and self._is_in(slot(step.slot), step.old) and self._exchange(step):
                if not self._is_ours(slot(step.slot), step.new):
                    self._exchange(step)
                    raise HostChanged(f"{step.path}: changed on the host since")
                self._restore_mode(step)
                return
            self._withdraw(step, step.new)
        if step.old is not None:
            self._place(self._kept(step) or b"", step)
            self._restore_mode(step)

    def _undo_mode(self, step: Step) -> None:
        """Restores the old mode. A mode that is no longer the commit's was set by the host, and stays."""
        try:
            if self.at(step) is At.BEFORE:
                return
        except HostChanged:
            return
        self._set_mode(step, step.new, step.old_mode)

    def _withdraw(self, step: Step, new: Fingerprint) -> None:
        """Moves the step's new entry back from its place to its slot, which may hold the old entry."""
        name = slot(step.slot)
        if step.old is not None and self._is_in(name, step.old):
            boundary.rename(self._staged.fd, name, self._staged.fd, old_slot(step.slot), 0)
        self._move_out(step, name, new)
        if not self._is_ours(name, new):
            self._place(name, step)
            raise HostChanged(f"{step.path}: changed on the host since")

    def _is_ours(self, name: bytes, new: Fingerprint) -> bool:
        if not new.is_of(look(self._staged, name)):
            return False
        found = fingerprint(self._staged, name)
        return found.digest == new.digest and not found.has_other_rights(new)

    def _restore_mode(self, step: Step) -> None:
        """Restores the mode of a folder that was made writable so that it could be moved."""
        seen = self._there(step)
        if step.old is None or step.old.kind != st.S_IFDIR or seen is None or not step.old.is_of(seen):
            return
        if step.old_mode != st.S_IMODE(seen.st_mode) == step.old_mode | _OPENED:
            self._set_mode(step, step.old, step.old_mode)

    # --- moves ---

    def _there(self, step: Step) -> os.stat_result | None:
        """The status of the entry in the step's place.

        Returns None when the place lies behind a link that the commit has not replaced yet.
        """
        try:
            return look(self._root, step.place)
        except Denied:
            return None

    def _is_in(self, name: bytes, what: Fingerprint) -> bool:
        return what.is_of(look(self._staged, name))

    def _kept(self, step: Step) -> bytes | None:
        """The name of the slot that holds what the step took away; None when there is none."""
        for name in (old_slot(step.slot), slot(step.slot)):
            if step.old is not None and self._is_in(name, step.old):
                return name
        return None

    @contextlib.contextmanager
    def _parent(self, step: Step) -> Iterator[tuple[int, bytes]]:
        folder, _, name = step.place.rpartition(b"/")
        with self._root.directory_fd(folder) as fd:
            yield fd, name

    def _move_out(self, step: Step, name: bytes, what: Fingerprint | None) -> None:
        """Moves `what` from the step's place to a slot.

        Only a user who may write to a folder can move it, so a read-only folder is made writable first. If the slot
        already holds `what`, this is the same file: `_rename_to_free` was stopped before it removed the file's other
        name.
        """
        if what is not None and self._is_in(name, what):
            os.unlink(name, dir_fd=self._staged.fd)
        with self._parent(step) as (fd, base):
            try:
                boundary.rename(fd, base, self._staged.fd, name, 0)
            except PermissionError:
                if what is None or what.kind != st.S_IFDIR:
                    raise
                self._set_mode(step, what, step.old_mode | _OPENED)
                boundary.rename(fd, base, self._staged.fd, name, 0)

    def _set_mode(self, step: Step, what: Fingerprint | None, mode: int) -> None:
        """Sets the mode of the folder in the step's place. Raises HostChanged when another folder is there."""
        with self._root.directory_fd(step.place) as fd:
            if what is None or not what.is_of(os.fstat(fd)):
                raise HostChanged(f"{step.path}: changed on the host since")
            boundary.restore_mode(fd, mode)

    def _exchange(self, step: Step) -> bool:
        """Exchanges the contents of place and slot atomically. Returns False where the host cannot do that."""
        with self._parent(step) as (fd, base):
            try:
                boundary.rename(self._staged.fd, slot(step.slot), fd, base, RENAME_EXCHANGE)
            except PermissionError:
                return False  # the folder is not writable: it is taken away separately
            except OSError as error:
                if error.errno not in _NO_SUCH_FLAG:
                    raise
                return False
        return True

    def _place(self, name: bytes, step: Step) -> None:
        """Moves from a slot to a place that must be free. Raises HostChanged when it is not."""
        with self._parent(step) as (fd, base):
            try:
                self._rename_to_free(name, fd, base)
            except FileExistsError:
                raise HostChanged(f"{step.path}: appeared on the host since") from None

    def _rename_to_free(self, name: bytes, fd: int, base: bytes) -> None:
        try:
            return boundary.rename(self._staged.fd, name, fd, base, RENAME_NOREPLACE)
        except OSError as error:
            if error.errno not in _NO_SUCH_FLAG:
                raise
        if not st.S_ISDIR(self._staged.look(name).st_mode):
            try:
                os.link(name, base, src_dir_fd=self._staged.fd, dst_dir_fd=fd, follow_symlinks=False)
                return os.unlink(name, dir_fd=self._staged.fd)
            except FileExistsError:
                raise
            except OSError:  # no hard links there: only stat(2) can show whether the place is free
                pass
        try:
            os.stat(base, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return boundary.rename(self._staged.fd, name, fd, base, 0)
        raise FileExistsError(errno.EEXIST, "the name is taken")
