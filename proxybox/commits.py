"""Commits that were interrupted, and how to continue them; commits that are done, and how to undo them.

Before `files.commit()` changes anything, it writes down what it will do in $XDG_STATE_HOME/proxybox/commits (by default
below ~/.local/state). A commit that was not finished stays recorded there:

    >>> from proxybox import commits
    >>> commits.unfinished()
    []

Until a commit is finished or undone, no content is lost: content that is neither in its old nor in its new place is in
the folder `.proxybox-commit-ID` beside these places.

The commit of a review stores the files that it has replaced in that folder for some time (`kept`). During this time it
can be undone.
"""

import attrs

from proxybox.controller.vfs.commits import keeping, recovering
from proxybox.controller.vfs.commits.journal import Act, CommitPhase, Journal
from proxybox.controller.vfs.commits.refusals import CommitFailed as CommitFailed
from proxybox.controller.vfs.commits.refusals import CommitRefused as CommitRefused
from proxybox.controller.vfs.commits.refusals import CommitUnfinished as CommitUnfinished


@attrs.frozen(kw_only=True)
class Unfinished:
    """A commit that was interrupted.

    id: the id to pass to `resume` or `undo`. folder: the host folder to which the commit was made. kept: the folder
    with the content that is not in its place yet. started: seconds since 1970. paths: what the commit changes, below
    the folder. can_resume, can_undo: whether `resume` and `undo` are possible. If all steps or no step were done, only
    one of them is possible, and it only removes `kept`.
    """

    id: str
    folder: str
    kept: str
    started: float
    paths: tuple[str, ...]
    can_resume: bool
    can_undo: bool


@attrs.frozen(kw_only=True)
class Kept:
    """A commit that is done and can be undone.

    id, folder, started, paths: as in Unfinished. kept: the folder with what the commit has replaced and removed. size:
    how many bytes these files have. together: the ids of all commits that are undone together with this one, including
    its own id; there are several when several folders were changed.
    """

    id: str
    folder: str
    kept: str
    started: float
    paths: tuple[str, ...]
    size: int
    together: tuple[str, ...]


def unfinished() -> list[Unfinished]:
    """Returns all interrupted commits of this user, the oldest first, including commits that still run.

    Raises CommitRefused when a journal cannot be read.
    """
    return [_shown(journal) for journal in recovering.journals()]


def kept() -> list[Kept]:
    """Returns all commits of this user that are done and can be undone, the oldest first.

    Raises CommitRefused when this user can have no journals.
    """
    return [_shown_kept(journal) for journal in keeping.kept_journals()]


def resume(id: str) -> Unfinished:  # noqa: A002 - as in the field
    """Finishes an interrupted commit and returns its description.

    Everything is checked before anything is changed. Raises CommitUnfinished when the host's files have changed since
    or the host refuses, and CommitRefused when there is nothing to resume.
    """
    return _shown(recovering.resume(id))


def undo(id: str) -> Unfinished:  # noqa: A002 - as in the field
    """Restores the folder to its state before a commit, and returns the commit's description.

    The commit was interrupted, or it is done and the files that it replaced are still stored. Everything is checked
    before anything is changed. Raises CommitRefused when a commit that is done cannot be undone: `reasons` names the
    files that have changed since, and the commit stays as it is. In other cases it raises what `resume` raises.
    """
    return _shown(recovering.undo(id))


def prune(older_than: float = 0.0) -> list[Kept]:
    """Removes the stored files of commits older than so many seconds, and returns descriptions of these commits.

    These commits can no longer be undone. Files that are in use stay. Without this call, a commit that stores files
    removes those of older commits beyond 20 commits, 1 GiB or 30 days, the oldest first.
    """
    return [_shown_kept(journal) for journal in keeping.prune(older_than)]


def _shown(journal: Journal) -> Unfinished:
    return Unfinished(
        id=journal.id,
        folder=journal.folder,
        kept=f"{journal.folder}/{journal.staging}",
        started=journal.started,
        paths=_paths(journal),
        can_resume=journal.phase in (CommitPhase.APPLYING, CommitPhase.DONE),
        can_undo=journal.phase is not CommitPhase.DONE,
    )


def _shown_kept(journal: Journal) -> Kept:
    return Kept(
        id=journal.id,
        folder=journal.folder,
        kept=f"{journal.folder}/{journal.staging}",
        started=journal.started,
        paths=_paths(journal),
        size=journal.kept_bytes,
        together=journal.together,
    )


def _paths(journal: Journal) -> tuple[str, ...]:
    return tuple(dict.fromkeys(step.path for step in journal.steps if step.act is not Act.PART))
