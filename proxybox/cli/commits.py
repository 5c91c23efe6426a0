"""`proxybox commits`: shows commits that were interrupted or can be undone, and finishes, undoes or forgets them."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from proxybox.cli.failures import UsageError, complain
from proxybox.policies.errors import ProxyboxError

if TYPE_CHECKING:
    from proxybox.commits import Kept, Unfinished


def show(*, as_json: bool) -> int:
    """Prints the commits that are not finished, and those that can be undone."""
    from proxybox import commits

    try:
        interrupted, done = commits.unfinished(), commits.kept()
    except (ProxyboxError, OSError) as error:
        return complain(error)
    if as_json:
        body = [
            {**attrs.asdict(each), "is_done": is_done}
            for is_done, some in ((False, interrupted), (True, done))
            for each in some
        ]
        print(json.dumps(body, indent=2))
        return 0
    if not interrupted:
        print("no commit was interrupted")
    for each in interrupted:
        _print_commit(each, [word for word, can in (("resume", each.can_resume), ("undo", each.can_undo)) if can])
    if done:
        print("done, and can be undone:")
    for commit in done:
        _print_commit(commit, ["undo"])
    return 0


def prune(older_than: str, *, as_json: bool) -> int:
    """Removes the former files of finished commits, and prints which commits these were."""
    from proxybox import commits
    from proxybox.policies import PolicyError
    from proxybox.policies.sizes import to_duration

    try:
        seconds = to_duration(older_than) or 0.0
    except PolicyError as error:
        return complain(UsageError(f"--older-than: {error}"))
    try:
        gone = commits.prune(seconds)
    except (ProxyboxError, OSError) as error:
        return complain(error)
    if as_json:
        print(json.dumps([attrs.asdict(each) for each in gone], indent=2))
        return 0
    for each in gone:
        print(f"{each.id}  {_plain(each.folder)}")
    if not gone:
        print("nothing to remove")
    return 0


def resume(ident: str) -> int:
    """Finishes a commit."""
    from proxybox import commits

    return _go_on(commits.resume, ident, "is finished")


def undo(ident: str) -> int:
    """Undoes a commit."""
    from proxybox import commits

    return _go_on(commits.undo, ident, "is undone: the folder is as it was before")


def _go_on(work: "Callable[[str], Unfinished]", ident: str, said: str) -> int:
    try:
        done = work(ident)
    except (ProxyboxError, OSError) as error:
        return complain(error)
    print(f"the commit to {_plain(done.folder)} {said}")
    return 0


def _print_commit(each: "Unfinished | Kept", words: Sequence[str]) -> None:
    from proxybox.terminal.harmless import on_one_line

    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.started))
    print(f"{each.id}  {when}  {_plain(each.folder)}")
    for path in each.paths[:10]:
        print(f"    {on_one_line(path)}")
    if len(each.paths) > 10:
        print(f"    and {len(each.paths) - 10} more")
    print("    " + "   or   ".join(f"proxybox commits {word} {each.id}" for word in words))
    sys.stdout.flush()


def _plain(path: str) -> str:
    from proxybox.terminal.harmless import on_one_line

    return on_one_line(path)
