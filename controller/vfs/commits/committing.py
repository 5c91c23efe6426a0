"""Writes the reviewed changes of an overlay to the host folder below.

Rules: a commit is completely planned (planning.py), staged on the folder's own filesystem (staging.py), compared with
what the box was shown, recorded in a journal (journal.py), and then applied (applying.py). First folders are made
writable where that is planned. Then come additions, replacements, removals, and at last the other modes of folders.
Removed entries are kept until everything is done, or for longer (keeping.py). An error undoes the commit; after a kill,
recovering.py continues from the journal.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import secrets
import stat as st
from collections.abc import Callable, Iterator, Sequence

import attrs

from proxybox.controller.vfs.commits import apart, keeping
from proxybox.controller.vfs.commits.applying import Applier
from proxybox.controller.vfs.commits.fingerprints import Fingerprint, fingerprint, identity
from proxybox.controller.vfs.commits.journal import Act, CommitPhase, StateFolder, Step, new_journal
from proxybox.controller.vfs.commits.keeping import clear, staging_of
from proxybox.controller.vfs.commits.ordering import in_order
from proxybox.controller.vfs.commits.planning import CommitPlan, Unit, is_still, look, plan, unshown
from proxybox.controller.vfs.commits.refusals import CommitFailed, CommitUnfinished, HostChanged
from proxybox.controller.vfs.commits.refusals import CommitRefused as CommitRefused
from proxybox.controller.vfs.commits.staging import Staging, folder_to_stage_in, slot, stage
from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.overlay.changes import Change


@attrs.frozen
class Target:
    """A host folder, and the changes that are to be written to it.

    hides: which names were hidden from the box; changes with such a name in their path are not written. left_out: how
    many changes were not kept.
    """

    root: boundary.HostRoot
    changes: Sequence[Change]
    hides: Callable[[bytes], bool]
    left_out: int = 0

    def wanted(self) -> list[Change]:
        """The changes that are to be written."""
        return [change for change in self.changes if not any(map(self.hides, change.path.split(b"/")))]


@attrs.frozen
class Committed:
    """The changes that a commit has written. id: the id by which it can be undone; empty when it cannot."""

    id: str
    written: tuple[Change, ...]


def commit(targets: Sequence[Target]) -> list[Change]:
    """Writes to all of these folders, or to none; returns what was written.

    Raises CommitRefused with nothing written, CommitFailed with everything undone, CommitUnfinished when a commit could
    be neither finished nor undone.
    """
    return list(_commit(targets, keeps=False).written)


def commit_and_keep(targets: Sequence[Target]) -> Committed:
    """As `commit`, but keeps the removed entries, so that the commit can be undone later."""
    done = _commit(targets, keeps=True)
    keeping.prune_what_is_too_much()
    return done


def _commit(targets: Sequence[Target], *, keeps: bool) -> Committed:
    targets = [target for target in targets if target.wanted()]
    idents = tuple(secrets.token_hex(8) for _ in targets)
    all_of_them = _Together(idents if keeps else ())
    _refuse_twice(targets)
    with contextlib.ExitStack() as stack:
        commits = [
            stack.enter_context(_prepared(target, ident, all_of_them))
            for target, ident in zip(targets, idents, strict=True)
        ]
        for each in commits:
            each.apply()
        _close(commits, all_of_them)
        for each in commits:
            each.clear()
        return Committed(next(iter(all_of_them.kept), ""), tuple(change for each in commits for change in each.written))


def _refuse_twice(targets: Sequence[Target]) -> None:
    """Refuses two overlays over one folder. They know nothing of each other, so their changes cannot be joined."""
    seen: set[tuple[int, int]] = set()
    for target in targets:
        if target.root.identity in seen:
            folder = os.fsdecode(target.root.path)
            raise CommitRefused([f"{folder} is mounted twice, and was changed in both places: mount it once"])
        seen.add(target.root.identity)


@attrs.define
class _Together:
    """Commits that are done together or not at all.

    kept: the ids of all, when removed entries are kept. are_done: whether one is done; after that, none is undone.
    """

    kept: tuple[str, ...] = ()
    are_done: bool = False


def _close(commits: Sequence[Commit], all_of_them: _Together) -> None:
    """Records of each commit that it is done.

    If this fails for the first commit, all may still be undone. If it fails for a later one, it is tried again; if it
    fails once more, that commit waits to be resumed, and no commit is cleared.
    """
    again = []
    for each in commits:
        try:
            each.close()
        except OSError:
            if not all_of_them.are_done:
                raise
            again.append(each)
        else:
            all_of_them.are_done = True
    for each in again:
        try:
            each.close()
        except OSError as error:
            why = (
                f"all is written, but that {each.journal.folder} is cannot be noted ({error.strerror}): do not undo it"
            )
            raise CommitUnfinished(each.journal.id, why, error) from error


@contextlib.contextmanager
def _prepared(target: Target, ident: str, all_of_them: _Together) -> Iterator[Commit]:
    """A commit that only needs to be applied and closed. The end of the with block undoes it if not all are done."""
    root = target.root
    if target.left_out:
        message = f"{target.left_out} changes were not kept, and what was moved there would be lost"
        raise CommitRefused([f"{os.fsdecode(root.path)}: {message}"])
    state = StateFolder(root)
    with state.alone(root):
        clear_up(state, root)
        agreed = plan(root, target.wanted(), target.hides)
        commit = Commit(root, state, agreed, ident, all_of_them)
        with commit.or_undone():
            commit.stage(agreed)
            yield commit


class Commit:
    """One commit that is under way."""

    def __init__(
        self, root: boundary.HostRoot, state: StateFolder, agreed: CommitPlan, ident: str, all_of_them: _Together
    ) -> None:
        self.root = root
        self.written = agreed.written
        self._state = state
        self._together = all_of_them
        self._is_closing = False
        places = [unit.path for unit in agreed.units] or [change.path for change in agreed.modes]
        if all_of_them.kept:  # for longer: at the top, where it prevents no later removal of a folder
            places.append(b"")
        modes = {change.path: change.mode for change in agreed.modes}
        self._staging = Staging(root, folder_to_stage_in(root, places, modes), ident)
        self.journal = new_journal(
            ident, root, self._staging.path, together=all_of_them.kept, kept_bytes=_bytes_that_go(agreed)
        )

    def stage(self, agreed: CommitPlan) -> None:
        """Makes all new entries, compares all entries that are to be removed, and records both in the journal."""
        self._state.save(self.journal)
        staged = self._staging.make()
        # Any later commit may remove what is staged, so the journal first records which folder that is.
        self.journal = attrs.evolve(self.journal, staging_ino=self._staging.ino)
        self._state.save(self.journal)
        steps = []
        gone: dict[int, set[bytes]] = {}
        come: dict[int, set[bytes]] = {}
        more = itertools.count(len(agreed.units))
        for number, unit in enumerate(agreed.units):
            stage(self.root, unit, staged, number)
            gone[number], come[number] = set(), set()
            whole = _step(self.root, unit, staged, number, agreed.hides, gone[number], come[number])
            is_folder = whole.old is not None and whole.old.kind == st.S_IFDIR
            is_moved = not is_folder or apart.is_moved(self.root, unit.path, staged)
            steps += [whole] if is_moved else apart.taken_apart(self.root, whole, more)
            steps += _new_modes(unit, staged, number)
        steps += [step for change in agreed.modes if (step := _mode_step(self.root, change))]
        boundary.write_out(staged.fd)
        self.journal = attrs.evolve(self.journal, phase=CommitPhase.APPLYING, steps=in_order(steps, gone, come))
        self._state.save(self.journal)

    def apply(self) -> None:
        """Changes the target folder."""
        applier = self._applier()
        applier.check_before_doing(self.journal.steps)
        for step in self.journal.steps:
            applier.do(step)
        boundary.write_out(self.root.fd)

    def close(self) -> None:
        """Records that the commit is done. That holds even if this process is killed afterwards."""
        self._is_closing = True
        self._save(CommitPhase.DONE)

    def clear(self) -> None:
        """Removes the entries that the commit took away, unless they are kept."""
        if self.journal.is_kept:
            keeping.settle(self._staging)
        else:
            clear(self._state, self.journal, self._staging)

    @contextlib.contextmanager
    def or_undone(self) -> Iterator[None]:
        """Undoes the commit when the with block ends before all are done, for whatever reason."""
        try:
            yield
            if not self._together.are_done:
                self._undo()
        except BaseException as error:
            if self._together.are_done:
                raise
            try:
                self._undo()
            except (OSError, HostChanged) as again:
                message = again.strerror if isinstance(again, OSError) else str(again)
                why = f"the commit to {self.journal.folder} was stopped ({error}), and cannot be undone ({message})"
                raise CommitUnfinished(self.journal.id, why, error) from error
            if isinstance(error, HostChanged):
                raise CommitRefused([str(error)]) from error
            if isinstance(error, OSError) and not isinstance(error, CommitFailed):
                raise CommitFailed(error) from error
            raise

    def _undo(self) -> None:
        if self.journal.phase is not CommitPhase.STAGING:
            if self._is_closing:  # the journal may already say that the commit is done; that is taken back first
                self._save(CommitPhase.APPLYING)
            applier = self._applier()
            for step in reversed(self.journal.steps):
                applier.undo(step)
            self._save(CommitPhase.UNDONE)
        clear(self._state, self.journal, self._staging)

    def _applier(self) -> Applier:
        if self._staging.host is None:
            raise OSError(errno.ENOENT, "nothing was staged")
        return Applier(self.root, self._staging.host, believes=self._staging.is_private)

    def _save(self, phase: CommitPhase) -> None:
        journal = attrs.evolve(self.journal, phase=phase)
        self._state.save(journal)
        self.journal = journal


def _bytes_that_go(agreed: CommitPlan) -> int:
    """The size of all files that a commit takes away."""
    gone = (change for unit in agreed.units for change in (unit.old, *unit.gone) if change is not None)
    return sum(change.origin.size for change in gone if change.origin is not None and change.type == "file")


def clear_up(state: StateFolder, root: boundary.HostRoot) -> None:
    """Removes the files that earlier commits to this folder have left.

    The folder is locked, so none of them is under way. Raises CommitRefused for a commit that waits to be finished or
    undone.
    """
    for ident in state.ids():
        try:
            journal = state.load(ident)
        except CommitRefused:  # the journal cannot be read: `proxybox commits` reports it
            continue
        if not journal.is_of(root):
            continue
        if journal.is_kept:
            continue
        if journal.phase is CommitPhase.APPLYING:
            message = f"proxybox commits resume {ident} goes on with it, proxybox commits undo {ident} takes it back"
            raise CommitRefused([f"an earlier commit to {journal.folder} was cut off: {message}"])
        clear(state, journal, staging_of(root, journal))


# --- steps ---


def _step(
    root: boundary.HostRoot,
    unit: Unit,
    staged: boundary.HostRoot,
    number: int,
    hides: Callable[[bytes], bool],
    gone: set[bytes],
    come: set[bytes],
) -> Step:
    """The step for a unit, with the entry that is in its place now.

    gone, come: receive a digest of the contents of each file that the step takes away, or brings.
    """
    old, mode = None, 0
    if unit.old is not None:
        old, mode = _what_goes(root, unit, unit.old, hides, gone)
    new: Fingerprint | None = fingerprint(staged, slot(number), found=come) if unit.new is not None else None
    act = Act.TAKE if new is None else Act.PUT if old is None else Act.SWAP
    return Step(act=act, path=os.fsdecode(unit.path), slot=number, new=new, old=old, old_mode=mode)


def _what_goes(
    root: boundary.HostRoot, unit: Unit, top: Change, hides: Callable[[bytes], bool], found: set[bytes]
) -> tuple[Fingerprint, int]:
    """Returns the fingerprint and mode of an entry to remove. Raises HostChanged unless the box was shown all of it.

    This is checked after the fingerprint was taken, so that applying.py notices later changes by the fingerprint.
    """
    try:
        old = fingerprint(root, unit.path, found=found)
    except FileNotFoundError:
        raise HostChanged(f"{top.name}: changed on the host meanwhile") from None
    mode = 0
    for change in (top, *unit.gone):
        seen = look(root, change.path)
        if seen is None or not is_still(root, change, seen) or not _holds_what_was_shown(change, found):
            raise HostChanged(f"{change.name}: changed on the host meanwhile")
        if change is top:
            mode = st.S_IMODE(seen.st_mode)
            _refuse_another_mode(change, mode)
    reasons = unshown(root, (top, *unit.gone), hides) if top.type == "dir" else []
    if reasons:
        raise HostChanged("; ".join(reasons))
    return old, mode


def _holds_what_was_shown(change: Change, found: set[bytes]) -> bool:
    """Whether a file to remove still has the old contents in its Change. True when the Change has none.

    found: digests of the files to remove; for a file that cannot be read, its size and time.
    """
    if change.old is None or change.origin is None or change.type != "file":
        return True
    unread = b"%d %d" % (change.origin.size, change.origin.mtime_ns)
    return unread in found or hashlib.sha256(change.old).digest() in found


def _refuse_another_mode(change: Change, mode: int) -> None:
    """Raises HostChanged when a modified entry has another mode than its Change says."""
    if change.kind == "modified" and change.type != "symlink" and change.old_mode not in (None, mode & 0o1777):
        raise HostChanged(f"{change.name}: its mode was changed on the host meanwhile")


def _mode_step(root: boundary.HostRoot, change: Change) -> Step | None:
    """The step that sets the mode of a folder that stays; None when the mode is right already."""
    seen = root.look(change.path)
    old = st.S_IMODE(seen.st_mode)
    _refuse_another_mode(change, old)
    if not is_still(root, change, seen):
        raise HostChanged(f"{change.name}: changed on the host meanwhile")
    mode = change.mode & 0o1777 | old & 0o6000  # the box was shown no set-id bits, so it has taken none away
    if old == mode:
        return None
    return Step(act=Act.MODE, path=os.fsdecode(change.path), new=identity(seen), mode=mode, old_mode=old)


def _new_modes(unit: Unit, staged: boundary.HostRoot, number: int) -> list[Step]:
    """The steps that set the modes of new folders. Until everything is in place, only their owner may use them."""
    steps = []
    for change in (unit.new, *unit.below):
        if change is not None and change.type == "dir" and change.mode != 0o700:
            seen = staged.look(slot(number) + change.path[len(unit.path) :])
            old = st.S_IMODE(seen.st_mode)
            if old & 0o1777 != 0o700:  # the filesystem stores no modes
                continue
            mode = change.mode & 0o1777 | old & 0o6000
            new, path = identity(seen), os.fsdecode(change.path)
            steps.append(Step(act=Act.MODE, path=path, slot=number, new=new, mode=mode, old_mode=old))
    return steps
