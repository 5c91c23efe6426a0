"""`proxybox review`: lists the waiting reviews, and writes or discards the changes of one of them."""

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxybox.cli.asking import decide, is_asked, say, write
from proxybox.cli.failures import CommandError, UsageError
from proxybox.cli.run import interrupted

if TYPE_CHECKING:
    from proxybox.review import Review


def review(ident: str | None, *, accept: Sequence[str], discard: bool, page: str | None, as_json: bool) -> int:
    """Lists the waiting reviews, or shows, commits or discards one of them; returns the exit status."""
    from proxybox.review import pending

    try:
        if sum(map(bool, (accept, discard, page))) > 1 or (ident is None and (accept or discard or page)):
            raise UsageError("name an ID, and one of --accept, --discard and --page")
        if ident is None:
            _list(as_json=as_json)
            return 0
        waiting = pending.load(ident)
        if page is not None:
            from proxybox.cli.streams import text_file
            from proxybox.controller.statefolder import make_ours_alone
            from proxybox.review.page import page_of

            # The page has contents of files that not everybody may read.
            fd = os.open(page, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
            try:
                make_ours_alone(fd)
                with text_file(fd, page) as file:
                    file.write(page_of(waiting))
            finally:
                os.close(fd)
            return 0
        is_over = discard
        if accept:
            _accept(waiting, accept)
            is_over = write(waiting)
        elif not discard:
            if not is_asked():
                raise UsageError("standard input is no terminal: say what to --accept, or --discard")
            is_over = decide(waiting)
        if is_over:
            pending.discard(ident)
        else:
            say(f"the review still waits; to throw it away: proxybox review {ident} --discard")
    except KeyboardInterrupt:
        return interrupted()
    except ModuleNotFoundError:
        raise
    return 0


def _list(*, as_json: bool) -> None:
    import json

    import attrs

    from proxybox.review import pending
    from proxybox.terminal.harmless import on_one_line

    found = pending.waiting()
    if as_json:
        print(json.dumps([attrs.asdict(each) for each in found], indent=2))
        return
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.since))
        print(f"{each.id}  {when}  {on_one_line(each.page)}")
    if not found:
        print("no review waits")


def _accept(review: "Review", words: Sequence[str]) -> None:
    """Accepts the changes that --accept names. Raises UsageError, CommandError and ReviewRefused."""
    if "all" in words:
        refused = review.accept_all()
        if refused:
            raise CommandError(f"{review.why_not(refused[0])}: name the others one by one")
        return
    chosen: dict[int, set[int] | None] = {}
    for word in words:
        number, dot, hunk = word.partition(".")
        if not number.isdecimal() or (dot and not hunk.isdecimal()):
            raise UsageError(f"--accept: want the number of a change, such as 3 or 3.1, or all; got {word!r}")
        hunks = chosen.setdefault(int(number), set())
        if not dot:
            chosen[int(number)] = None
        elif hunks is not None:
            hunks.add(int(hunk))
    for each, some in sorted(chosen.items()):  # deletions come first, because other changes may need them
        review.accept(each, some)
