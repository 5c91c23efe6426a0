"""Commits that are done and can still be undone: how long removed entries are kept, and how they are deleted.

Rules: removed entries stay in the commit's own folder, so that an undo brings back the same inodes. The journal records
that the commit is kept (`Journal.is_kept`). Commits that were done together are kept and deleted together. The newest
one is only deleted when the caller requests it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Final

import attrs

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.vfs.commits.journal import Journal, StateFolder
from proxybox.controller.vfs.commits.refusals import CommitRefused
from proxybox.controller.vfs.commits.staging import Staging
from proxybox.controller.vfs.host import boundary

MOST_COMMITS: Final = 20
MOST_BYTES: Final = 1 << 30
MOST_SECONDS: Final = 30 * 24 * 3600.0
_FOR_GIT: Final = b".gitignore"


def staging_of(root: boundary.HostRoot, journal: Journal) -> Staging:
    """The staging folder of a commit that was begun earlier."""
    return Staging(root, os.fsencode(journal.staging).rpartition(b"/")[0], journal.id, journal.staging_ino)


def clear(state: StateFolder, journal: Journal, staging: Staging) -> None:
    """Removes the remaining files of a commit that is done, undone, or was never begun.

    Files that cannot be removed now are removed by the next commit to that folder.
    """
    with contextlib.suppress(OSError):
        staging.remove()
        state.forget(journal)


def settle(staging: Staging) -> None:
    """Prepares a commit's own folder for keeping: a file in it makes git ignore it, as it is no part of a project."""
    if staging.host is None:
        return
    with contextlib.suppress(OSError):
        made = boundary.create_file(staging.host.fd, _FOR_GIT, 0o600)
        try:
            os.write(made, b"*\n")
        finally:
            os.close(made)


def kept_journals() -> list[Journal]:
    """The journals of all commits of the caller that are done and can be undone, the oldest first.

    Raises CommitRefused when no journal can be kept. A journal that cannot be read is left out.
    """
    return sorted((journal for journal in _readable(StateFolder()) if journal.is_kept), key=lambda each: each.started)


def _readable(state: StateFolder) -> list[Journal]:
    found = []
    for ident in state.ids():
        with contextlib.suppress(CommitRefused):
            found.append(state.load(ident))
    return found


def prune(older_than: float) -> list[Journal]:
    """Removes the kept entries of commits that are older than so many seconds, and returns their journals.

    Entries that another commit uses now stay. When the folder of a commit is gone, only its journal is removed.
    """
    now = time.time()
    return _prune(lambda groups: [group for group in groups if now - group[0].started >= older_than])


def prune_what_is_too_much() -> None:
    """Removes kept commits beyond the limits of number, size and age, the oldest first, but never the newest."""

    def too_much(groups: list[list[Journal]]) -> list[list[Journal]]:
        now, total, gone = time.time(), 0, []
        for count, group in enumerate(reversed(groups)):
            total += sum(journal.kept_bytes for journal in group)
            is_old = now - group[0].started > MOST_SECONDS
            if count and (count >= MOST_COMMITS or total > MOST_BYTES or is_old):
                gone.append(group)
        return gone

    with contextlib.suppress(CommitRefused, OSError):
        _prune(too_much)


def _prune(chosen: Callable[[list[list[Journal]]], list[list[Journal]]]) -> list[Journal]:
    groups: dict[str, list[Journal]] = {}
    for journal in kept_journals():
        groups.setdefault(journal.together[0], []).append(journal)
    state = StateFolder()
    return [journal for group in chosen(list(groups.values())) for journal in group if _remove(state, journal)]


def _remove(state: StateFolder, journal: Journal) -> bool:
    """Removes the kept entries of one commit. Returns False when they are in use, or cannot be removed."""
    try:
        root = boundary.HostRoot(os.fsencode(journal.folder))
    except SandboxStartError:
        state.forget(journal)
        return True
    try:
        if not journal.is_of(root):
            state.forget(journal)
            return True
        with state.alone(root):
            journal = state.load(journal.id)
            if not journal.is_kept:
                return False
            journal = attrs.evolve(journal, keeps=False)  # from now on it will be removed, even after a kill
            state.save(journal)
            clear(state, journal, staging_of(root, journal))
        return True
    except (CommitRefused, OSError):
        return False
    finally:
        root.close()
