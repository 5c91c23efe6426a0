"""`proxybox commits`: shows interrupted commits, and finishes or undoes them."""

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from proxybox.cli.failures import complain
from proxybox.policies.errors import ProxyboxError

if TYPE_CHECKING:
    from proxybox.commits import Unfinished


def show(*, as_json: bool) -> int:
    """Prints the commits that are not finished."""
    from proxybox import commits

    try:
        found = commits.unfinished()
    except (ProxyboxError, OSError) as error:
        return complain(error)
    if as_json:
        print(json.dumps([attrs.asdict(each) for each in found], indent=2))
        return 0
    if not found:
        print("no commit was cut off")
    for each in found:
        _tell(each)
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


def _tell(each: "Unfinished") -> None:
    from proxybox.terminal.harmless import on_one_line

    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.started))
    print(f"{each.id}  {when}  {_plain(each.folder)}")
    for path in each.paths[:10]:
        print(f"    {on_one_line(path)}")
    if len(each.paths) > 10:
        print(f"    and {len(each.paths) - 10} more")
    words = [word for word, can in (("resume", each.can_resume), ("undo", each.can_undo)) if can]
    print("    " + "   or   ".join(f"proxybox commits {word} {each.id}" for word in words))
    sys.stdout.flush()


def _plain(path: str) -> str:
    from proxybox.terminal.harmless import on_one_line

    return on_one_line(path)
