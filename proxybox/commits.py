"""Commits that were cut off, by a kill or a host that refused, and how to go on with them.

`files.commit()` writes down what it will do before it does any of it, in $XDG_STATE_HOME/proxybox/commits (by default
in ~/.local/state). What it has not finished waits there:

    >>> from proxybox import commits
    >>> commits.unfinished()
    []

Until a commit is finished or undone nothing of it is lost: what stands neither in its old nor in its new place is in
the folder `.proxybox-commit-ID` beside them.
"""

import attrs

from proxybox.controller.vfs.commits import recovering
from proxybox.controller.vfs.commits.journal import Act, Journal, Phase
from proxybox.controller.vfs.commits.refusals import CommitFailed as CommitFailed
from proxybox.controller.vfs.commits.refusals import CommitRefused as CommitRefused
from proxybox.controller.vfs.commits.refusals import CommitUnfinished as CommitUnfinished


@attrs.frozen(kw_only=True)
class Unfinished:
    """A commit that was cut off.

    id: by which it is resumed or undone. folder: of the host, to which it was made. kept: the folder that holds what is
    on its way. started: seconds since 1970. paths: what it changes, below the folder. can_resume, can_undo: what is
    left to do with it; one of both where all was done, or nothing, and only `kept` is to be removed.
    """

    id: str
    folder: str
    kept: str
    started: float
    paths: tuple[str, ...]
    can_resume: bool
    can_undo: bool


def unfinished() -> list[Unfinished]:
    """All commits of this user's that were cut off, the oldest first. Those that are under way are among them.

    Raises CommitRefused where a journal cannot be read.
    """
    return [_shown(journal) for journal in recovering.journals()]


def resume(id: str) -> Unfinished:  # noqa: A002 - as in the field
    """Finish a commit; returns what it was.

    All is looked at before anything is changed: raises CommitUnfinished where the host has changed since, or refuses,
    and CommitRefused where there is nothing to resume.
    """
    return _shown(recovering.resume(id))


def undo(id: str) -> Unfinished:  # noqa: A002 - as in the field
    """Bring the folder back to what it was before a commit; returns what it was. Raises as `resume`."""
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
