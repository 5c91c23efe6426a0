"""Continues commits that were cut off, from their journals.

Rules: a journal comes from the caller and is trusted. What is in the target folder is not: it is compared with the
journal, including contents, before any of it is used. Everything is checked before anything is changed, and if the host
has changed since, the recovery stops.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.vfs.commits.applying import Applier
from proxybox.controller.vfs.commits.committing import clear, staging_of
from proxybox.controller.vfs.commits.journal import Act, Journal, Phase, StateFolder, Step
from proxybox.controller.vfs.commits.refusals import CommitRefused, CommitUnfinished, HostChanged
from proxybox.controller.vfs.commits.staging import Staging
from proxybox.controller.vfs.host import boundary


def journals() -> list[Journal]:
    """The journals of all commits of the caller that are not over, the oldest first.

    Raises CommitRefused when a journal cannot be read.
    """
    state = StateFolder()
    return sorted((state.load(ident) for ident in state.ids()), key=lambda journal: journal.started)


def resume(ident: str) -> Journal:
    """Finishes a commit. Raises CommitRefused, CommitUnfinished, OSError."""
    with _opened(ident) as (state, root, journal):
        if journal.phase in (Phase.STAGING, Phase.UNDONE):
            raise CommitRefused([f"commit {ident} has changed nothing: undo it and commit again"])
        staging = staging_of(root, journal)
        if journal.phase is Phase.APPLYING:
            with _stopping(journal):
                _do_rest(_applier(root, journal, staging), journal.steps)
            boundary.write_out(root.fd)
            state.save(attrs.evolve(journal, phase=Phase.DONE))
        clear(state, journal, staging)
        return journal


def undo(ident: str) -> Journal:
    """Brings the folder back to what it was. Raises CommitRefused, CommitUnfinished, OSError."""
    with _opened(ident) as (state, root, journal):
        if journal.phase is Phase.DONE:
            raise CommitRefused([f"commit {ident} is done, and what it replaced may be gone: resume clears it up"])
        staging = staging_of(root, journal)
        if journal.phase is Phase.APPLYING:
            with _stopping(journal):
                _undo_all(_applier(root, journal, staging), journal.steps)
            boundary.write_out(root.fd)
            state.save(attrs.evolve(journal, phase=Phase.UNDONE))
        clear(state, journal, staging)
        return journal


@contextmanager
def _opened(ident: str) -> Iterator[tuple[StateFolder, boundary.HostRoot, Journal]]:
    """The journal and its folder, locked."""
    state = StateFolder()
    journal = state.load(ident)
    try:
        root = boundary.HostRoot(os.fsencode(journal.folder))
    except SandboxStartError as error:
        raise CommitRefused([f"{journal.folder} is not there: bring it back, and do this again ({error})"]) from None
    try:
        if not journal.is_of(root):
            raise CommitRefused([f"{journal.folder} is another folder than commit {ident} was made to"])
        with state.alone(root):
            yield state, root, state.load(ident).on_device(root.device)
    finally:
        root.close()


def _applier(root: boundary.HostRoot, journal: Journal, staging: Staging) -> Applier:
    try:
        staged = staging.open()
    except OSError as error:
        why = f"{journal.staging} cannot be opened ({error.strerror})"
        raise CommitUnfinished(journal.id, why, error) from error
    return Applier(root, staged, believes=False)


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
    """Does the steps that were not done yet. After a power cut, the done ones need not be the first ones."""
    left = [step for step in steps if not applier.is_done(step)]
    applier.check_before_doing(left)
    for step in left:
        applier.do(step)


def _undo_all(applier: Applier, steps: Sequence[Step]) -> None:
    """Undoes all steps. Folders that the commit has closed at its end are opened first."""
    closing = len(steps)
    while closing and steps[closing - 1].act is Act.MODE:
        closing -= 1
    for step in reversed(steps[closing:]):
        applier.undo(step)
    applier.check_before_undoing(steps[:closing])
    for step in reversed(steps[:closing]):
        applier.undo(step)
