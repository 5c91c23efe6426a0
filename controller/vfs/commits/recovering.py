"""Continues commits that were cut off, and undoes those that are done and kept, from their journals.

Rules: a journal comes from the caller and is trusted. The entries of the target folder are not: they are compared with
the journal, including contents, before they are used. Everything is checked before anything is changed, and if the host
has changed since, the recovery stops.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import attrs

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.vfs.commits.applying import Applier
from proxybox.controller.vfs.commits.journal import Act, CommitPhase, Journal, StateFolder, Step
from proxybox.controller.vfs.commits.keeping import clear, staging_of
from proxybox.controller.vfs.commits.refusals import CommitRefused, CommitUnfinished, HostChanged
from proxybox.controller.vfs.commits.staging import Staging
from proxybox.controller.vfs.host import boundary


def journals() -> list[Journal]:
    """The journals of the caller's unfinished commits, the oldest first; those of kept commits are left out.

    Raises CommitRefused when a journal cannot be read.
    """
    state = StateFolder()
    found = (state.load(ident) for ident in state.ids())
    return sorted((journal for journal in found if not journal.is_kept), key=lambda journal: journal.started)


def resume(ident: str) -> Journal:
    """Finishes a commit, with all that are done together with it. Raises CommitRefused, CommitUnfinished, OSError."""
    with _opened(ident) as (state, opened):
        journal = _of(ident, opened)
        if journal.is_kept and all(each.journal.is_kept for each in opened):
            raise CommitRefused([f"commit {ident} is done: undo takes it back"])
        is_whole = len(opened) == max(1, len(journal.together))
        if not is_whole or any(each.journal.phase in (CommitPhase.STAGING, CommitPhase.UNDONE) for each in opened):
            raise CommitRefused([f"commit {ident} has changed nothing, or not all of it: undo it and commit again"])
        for each in opened:
            if each.journal.phase is CommitPhase.APPLYING:
                with _stopping(each.journal):
                    _do_rest(each.applier(), each.journal.steps)
                boundary.write_out(each.root.fd)
        for each in opened:
            if each.journal.phase is CommitPhase.APPLYING:
                each.save(state, CommitPhase.DONE)
            if not each.journal.is_kept:
                clear(state, each.journal, each.staging)
        return journal


def undo(ident: str) -> Journal:
    """Restores the folder. After a commit that is done, this is possible if its removed entries are kept.

    All commits that were done together are undone together. Raises CommitRefused, CommitUnfinished, OSError. When a
    commit that is done cannot be undone, for instance because files have changed since, it stays done.
    """
    with _opened(ident) as (state, opened):
        journal = _of(ident, opened)
        done = [each for each in opened if each.journal.phase is CommitPhase.DONE]
        if any(not each.journal.keeps for each in done):
            raise CommitRefused([f"commit {ident} is done, and what it replaced may be gone: resume clears it up"])
        if done and len(opened) < len(journal.together):
            raise CommitRefused([f"a part of what commit {ident} has replaced is not kept any more"])
        begun = [each for each in opened if each.journal.phase in (CommitPhase.APPLYING, CommitPhase.DONE)]
        for each in done:
            each.save(state, CommitPhase.APPLYING)
        if len(done) == len(begun) > 0:
            _undo_or_leave(state, done)
        else:
            for each in begun:
                with _stopping(each.journal):
                    _undo_all(each.applier(), each.journal.steps)
        for each in begun:
            boundary.write_out(each.root.fd)
        for each in begun:
            each.save(state, CommitPhase.UNDONE)
        for each in opened:
            clear(state, each.journal, each.staging)
        return journal


@attrs.define
class _Opened:
    """A commit whose folder is open and locked."""

    root: boundary.HostRoot
    journal: Journal
    staging: Staging

    def applier(self) -> Applier:
        """Does and undoes its steps. Raises CommitUnfinished when the commit's own folder cannot be opened."""
        try:
            staged = self.staging.open()
        except OSError as error:
            why = f"{self.journal.staging} cannot be opened ({error.strerror})"
            raise CommitUnfinished(self.journal.id, why, error) from error
        return Applier(self.root, staged, believes=False)

    def save(self, state: StateFolder, phase: CommitPhase) -> None:
        """Records that the commit is in that phase now."""
        journal = attrs.evolve(self.journal, phase=phase)
        state.save(journal)
        self.journal = journal


def _of(ident: str, opened: Sequence[_Opened]) -> Journal:
    return next(each.journal for each in opened if each.journal.id == ident)


@contextmanager
def _opened(ident: str) -> Iterator[tuple[StateFolder, list[_Opened]]]:
    """The commit with all that were done together with it and of which journals are left, each open and locked."""
    state = StateFolder()
    kept = set(state.ids())
    idents = [each for each in state.load(ident).together if each in kept] or [ident]
    with ExitStack() as held:
        opened = []
        for each in idents:
            journal = state.load(each)
            root = held.enter_context(_root_of(journal))
            held.enter_context(state.alone(root))
            journal = state.load(each).on_device(root.device)
            opened.append(_Opened(root, journal, staging_of(root, journal)))
        yield state, opened


@contextmanager
def _root_of(journal: Journal) -> Iterator[boundary.HostRoot]:
    try:
        root = boundary.HostRoot(os.fsencode(journal.folder))
    except SandboxStartError as error:
        raise CommitRefused([f"{journal.folder} is not there: bring it back, and do this again ({error})"]) from None
    try:
        if not journal.is_of(root):
            raise CommitRefused([f"{journal.folder} is another folder than commit {journal.id} was made to"])
        yield root
    finally:
        root.close()


def _undo_or_leave(state: StateFolder, done: Sequence[_Opened]) -> None:
    """Undoes commits that are done. If that is not possible, they are done and kept as before.

    Raises CommitRefused, with every reason, when files are not as the commits have left them; CommitFailed when the
    host refuses; CommitUnfinished when the commits are then neither done nor undone.
    """
    undone: list[tuple[Applier, Step]] = []
    try:
        _undo_each([(each.applier(), each.journal.steps) for each in done], undone)
    except BaseException as error:
        with _stopping(done[0].journal):
            for applier, step in reversed(undone):
                applier.do_again(step)
            for each in done:
                boundary.write_out(each.root.fd)
            for each in done:
                each.save(state, CommitPhase.DONE)
        if isinstance(error, CommitUnfinished):  # its own folder was removed, or is another one
            raise CommitRefused([error.why]) from error
        if isinstance(error, HostChanged):
            raise CommitRefused([str(error)]) from error
        if isinstance(error, OSError):
            raise CommitRefused([f"the host refused: {error.strerror}"]) from error
        raise


def _undo_each(commits: Sequence[tuple[Applier, Sequence[Step]]], undone: list[tuple[Applier, Step]]) -> None:
    """Undoes all steps of these commits, after it has checked that this is possible. undone: receives each step."""

    def undo(applier: Applier, step: Step) -> None:
        undone.append((applier, step))
        try:
            applier.undo(step)
        except (HostChanged, OSError) as error:
            if isinstance(error, HostChanged) or step.act is Act.MODE:  # then the step was not undone
                undone.pop()
            raise

    for applier, steps in commits:
        for step in reversed(_closing(steps)):
            if applier.has_set_mode(step):
                undo(applier, step)
    reasons = [reason for applier, steps in commits for reason in applier.changed_since(_before_closing(steps))]
    if reasons:
        raise CommitRefused(reasons)
    for applier, steps in reversed(commits):
        for step in reversed(_before_closing(steps)):
            undo(applier, step)


@contextmanager
def _stopping(journal: Journal) -> Iterator[None]:
    """Turns every error that prevents going on into CommitUnfinished, with the id of the commit that waits."""
    try:
        yield
    except HostChanged as error:
        raise CommitUnfinished(journal.id, str(error), error) from None
    except OSError as error:
        if isinstance(error, CommitUnfinished):
            raise
        raise CommitUnfinished(journal.id, f"the host refused: {error.strerror}", error) from error


def _do_rest(applier: Applier, steps: Sequence[Step]) -> None:
    """Does the steps that were not done yet. After a power failure, the finished ones need not be the first ones."""
    left = [step for step in steps if not applier.is_done(step)]
    applier.check_before_doing(left)
    for step in left:
        applier.do(step)


def _undo_all(applier: Applier, steps: Sequence[Step]) -> None:
    """Undoes all steps. Folders that the commit has closed at its end are opened first."""
    for step in reversed(_closing(steps)):
        applier.undo(step)
    applier.check_before_undoing(_before_closing(steps))
    for step in reversed(_before_closing(steps)):
        applier.undo(step)


def _before_closing(steps: Sequence[Step]) -> Sequence[Step]:
    """All steps but those at the end that set modes of folders."""
    end = len(steps)
    while end and steps[end - 1].act is Act.MODE:
        end -= 1
    return steps[:end]


def _closing(steps: Sequence[Step]) -> Sequence[Step]:
    return steps[len(_before_closing(steps)) :]
