"""The commands about changes of host files, as click sees them; their work is done in commits.py and review.py."""

from typing import Any

import click

from proxybox.cli.options import complete_file, json_flag


@click.group("commits", invoke_without_command=True)
@json_flag
@click.pass_context
def commits_group(context: click.Context, as_json: bool) -> int | None:
    """List commits that were interrupted, and those that can be undone. A commit writes a box's files to the host.

    An interrupted commit loses nothing: new files that are not in place yet, and old ones that were replaced, are in a
    folder .proxybox-commit-ID beside the target. If others have changed the target since then, `resume` and `undo`
    change nothing and report the differences. Files that the commit of a review has replaced are stored for 30 days, at
    most those of 20 commits and 1 GiB.

    \b
    Examples:
      proxybox commits
      proxybox commits resume 3f0c2a9d5b7e1846
      proxybox commits undo 3f0c2a9d5b7e1846
      proxybox commits prune --older-than 7d
    """
    if context.invoked_subcommand is not None:
        return None
    from proxybox.cli import commits

    return commits.show(as_json=as_json)


@commits_group.command("resume", short_help="Finish a commit that was interrupted.")
@click.argument("id")
def commits_resume(id: str) -> int:  # noqa: A002 - as it is called on the command line
    """Finish a commit that was interrupted."""
    from proxybox.cli import commits

    return commits.resume(id)


@commits_group.command("undo", short_help="Undo a commit.")
@click.argument("id")
def commits_undo(id: str) -> int:  # noqa: A002 - as it is called on the command line
    """Restore the folder to its state before a commit that was interrupted or is done."""
    from proxybox.cli import commits

    return commits.undo(id)


@commits_group.command("prune", short_help="Remove the former files of commits.")
@click.option(
    "--older-than",
    default="0",
    metavar="DURATION",
    help="Remove only those of commits that are at least this old: 30d, 12h.",
)
@json_flag
def commits_prune(older_than: str, as_json: bool) -> int:
    """Remove the stored former files of finished commits. These commits can then no longer be undone."""
    from proxybox.cli import commits

    return commits.prune(older_than, as_json=as_json)


@click.command("undo", short_help="Undo a commit.")
@click.argument("id")
def undo(id: str) -> int:  # noqa: A002 - as it is called on the command line
    """Restore a folder to its state before a commit, as `proxybox commits undo` does.

    `proxybox commits` lists the commits that can be undone. If a file has changed since then, nothing is undone, and
    the changed files are named.
    """
    from proxybox.cli import commits

    return commits.undo(id)


@click.command("review", short_help="Accept or discard the changes of a program.")
@click.argument("id", required=False)
@click.option("--accept", multiple=True, metavar="N|N.M|all", help="Write this change, this part of a change, or all.")
@click.option("--discard", is_flag=True, help="Discard the changes.")
@click.option(
    "--page", metavar="FILE", help="Write the page that shows the changes to FILE.", shell_complete=complete_file
)
@json_flag
def review(id: str | None, **options: Any) -> int:  # noqa: A002 - as it is called on the command line
    """Decide on the changes of a program that ran with `proxybox run --review` without a terminal.

    Without an ID, it lists the waiting reviews. With an ID, it shows the changes on a terminal and asks about each.
    With --accept, only the named changes are written. The page of the review shows their numbers.

    \b
    Examples:
      proxybox review
      proxybox review 3f0c2a9d5b7e1846
      proxybox review 3f0c2a9d5b7e1846 --accept 1 --accept 3.2
      proxybox review 3f0c2a9d5b7e1846 --accept all
      proxybox review 3f0c2a9d5b7e1846 --discard
    """
    from proxybox.cli import review as work

    return work.review(id, **options)
