"""Commits that were interrupted, by a kill or by an error of the host, and how to continue them.

Before `files.commit()` changes anything, it writes down what it will do in $XDG_STATE_HOME/proxybox/commits (by default
below ~/.local/state). A commit that was not finished stays recorded there:

    >>> from proxybox import commits
    >>> commits.unfinished()
    []

Until a commit is finished or undone, nothing of it is lost: content that is neither in its old nor in its new place is
in the folder `.proxybox-commit-ID` beside them.
"""

import attrs

from proxybox.controller.vfs.commits import recovering
from proxybox.controller.vfs.commits.journal import Act, Journal, Phase
from proxybox.controller.vfs.commits.refusals import CommitFailed as CommitFailed
from proxybox.controller.vfs.commits.refusals import CommitRefused as CommitRefused
from proxybox.controller.vfs.commits.refusals import CommitUnfinished as CommitUnfinished


@attrs.frozen(kw_only=True)
class Unfinished:
    """A commit that was interrupted.

    id: the id to pass to `resume` or `undo`. folder: the host folder to which the commit was made. kept: the folder
    with the content that is not in its place yet. started: seconds since 1970. paths: what the commit changes, below
    the folder. can_resume, can_undo: whether `resume` and `undo` are possible. Only one is when all steps were done, or
    none, and only `kept` has to be removed.
    """

    id: str
    folder: str
    kept: str
    started: float
    paths: tuple[str, ...]
    can_resume: bool
    can_undo: bool


def unfinished() -> list[Unfinished]:
    """All interrupted commits of this user, the oldest first; commits that are still running are among them.

    Raises CommitRefused when a journal cannot be read.
    """
    return [_shown(journal) for journal in recovering.journals()]


def resume(id: str) -> Unfinished:  # noqa: A002 - as in the field
    """Finishes a commit and returns what it was.

    Everything is checked before anything is changed. Raises CommitUnfinished when the host's files have changed since
    or the host refuses, and CommitRefused when there is nothing to resume.
    """
    return _shown(recovering.resume(id))


def undo(id: str) -> Unfinished:  # noqa: A002 - as in the field
    """Restores the folder to its state before a commit, and returns what the commit was. Raises as `resume` does."""
    return _shown(recovering.undo(id))


def _shown(journal: Journal) -> Unfinished:
    return Unfinished(
        id=journal.id,
        folder=journal.folder,
        kept=f"{journal.folder}/{journal.staging}",
        started=journal.started,
        paths=tuple(dict.fromkeys(step.path for step in journal.steps if step.act is not Act.PART)),
        can_resume=journal.phase in (Phase.APPLYING, Phase.DONE),
        can_undo=journal.phase is not Phase.DONE,
    )
