"""`run --review` and `proxybox review`: shows what a program has changed, asks, and writes what was accepted.

Rules: everything is printed on stderr, as stdout is the program's. What is asked is answered line by line from standard
input, when both are a terminal; otherwise the review is kept, with a page that shows it. Nothing is written before the
last question was answered: an interrupt, or an end of the input, writes nothing.
"""

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from proxybox.cli.exits import exit_status
from proxybox.cli.failures import CommandError, UsageError
from proxybox.cli.run import interrupted, tell_failure

if TYPE_CHECKING:
    from rich.console import Console

    from proxybox.result import Result
    from proxybox.review import Hunk, Item, Review

_KEYS: Final = """\
y - accept this
n - do not
a - accept this and the rest of the file, or of the folder
d - accept neither this nor the rest of the file, or of the folder
q - accept nothing more; what was accepted is written
all - accept this and everything that comes
none - accept nothing at all, and stop
"""
_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}


def after_a_run(result: "Result") -> int:
    """Reviews what a run has changed, and returns the exit status of the command.

    That is the run's own, or 125 when what was accepted could not be written.
    """
    try:
        review = result.files.review()
        if not review.items:
            _say("nothing was changed that could be written")
        elif _is_asked():
            _decide(review)
        else:
            _keep(review)
    except KeyboardInterrupt:
        _say("nothing was written")
        return interrupted()
    except ModuleNotFoundError:
        raise
    except Exception as error:
        return tell_failure(error)
    return exit_status(result)


def review(ident: str | None, *, accept: Sequence[str], discard: bool, page: str | None, as_json: bool) -> int:
    """Lists the reviews that wait, or shows, commits or discards one of them; returns the exit status."""
    from proxybox.review import kept

    try:
        if sum(map(bool, (accept, discard, page))) > 1 or (ident is None and (accept or discard or page)):
            raise UsageError("name an ID, and one of --accept, --discard and --page")
        if ident is None:
            _list(as_json=as_json)
            return 0
        waiting = kept.load(ident)
        if page is not None:
            from proxybox.cli.streams import text_file
            from proxybox.review.page import page_of

            with text_file(page, page) as file:
                file.write(page_of(waiting))
            return 0
        is_over = discard
        if accept:
            _accept(waiting, accept)
            is_over = _write(waiting)
        elif not discard:
            if not _is_asked():
                raise UsageError("standard input is no terminal: say what to --accept, or --discard")
            is_over = _decide(waiting)
        if is_over:
            kept.discard(ident)
        else:
            _say(f"the review still waits; to throw it away: proxybox review {ident} --discard")
    except KeyboardInterrupt:
        _say("nothing was written")
        return interrupted()
    except Exception as error:
        return tell_failure(error)
    return 0


def _list(*, as_json: bool) -> None:
    import json

    import attrs

    from proxybox.review import kept
    from proxybox.terminal.harmless import on_one_line

    found = kept.waiting()
    if as_json:
        print(json.dumps([attrs.asdict(each) for each in found], indent=2))
        return
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.since))
        print(f"{each.id}  {when}  {on_one_line(each.page)}")
    if not found:
        print("no review waits")


def _keep(review: "Review") -> None:
    from proxybox.review import kept

    waiting = kept.keep(review)
    _say(f"{_counted(len(review), 'change')} to review, none of them written; a page shows them: {waiting.page}")
    _say(f"to write some: proxybox review {waiting.id} --accept N, or --accept all; on a terminal it asks")


def _accept(review: "Review", words: Sequence[str]) -> None:
    """Accepts what --accept names. Raises UsageError, and ReviewRefused."""
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
    for each, some in sorted(chosen.items()):  # deletions come first, as those that need them expect
        review.accept(each, some)


def _decide(review: "Review") -> bool:
    """Asks about each change, and writes what was accepted. Returns whether anything was."""
    _forget_what_was_typed()
    _Asking(review).ask_all()
    return _write(review)


def _write(review: "Review") -> bool:
    """Writes what was accepted, and says how it can be undone. Returns whether anything was written."""
    done = review.commit()
    if not done.written:
        _say("nothing was accepted, and nothing was written")
        return False
    _say(f"{_counted(len(done.written), 'change')} written; to take them back: proxybox undo {done.id}")
    return True


class _Stop(Exception):
    """No further question is asked."""


class _Asking:
    """The questions about one review."""

    def __init__(self, review: "Review") -> None:
        from proxybox.terminal.tables import console

        self._review = review
        self._console: Console = console(sys.stderr)
        self._decided: set[int] = set()
        self._all = False

    def ask_all(self) -> None:
        """Asks about every change that is not decided by an answer to an earlier question."""
        count = len(self._review)
        self._console.print(f"{_counted(count, 'change')} to review, deletions first", style="bold")
        with contextlib.suppress(_Stop):
            for item in self._review:
                if item.number in self._decided:
                    continue
                if why := self._review.why_not(item):
                    self._print(f"{item.heading}: passed over: {why}", "yellow")
                elif self._all:
                    self._review.accept(item)
                else:
                    self._ask(item, count)

    def _ask(self, item: "Item", count: int) -> None:
        self._console.print()
        self._print(f"[{item.number}/{count}] {item.heading}", "bold")
        self._print(f"in {item.folder}", "dim")
        for hunk in item.hunks:
            self._show(hunk)
            what = "accept" if len(item.hunks) == 1 else f"accept part {hunk.number} of {len(item.hunks)}"
            answer = self._answer(f"{what} [y,n,a,d,q,all,none,?] ")
            if answer in ("y", "a", "all"):
                rest = None if answer == "y" else range(hunk.number, len(item.hunks) + 1)
                self._review.accept(item, [hunk.number] if rest is None else rest)
            self._all = self._all or answer == "all"
            if answer in ("a", "d"):
                self._settle_what_is_inside(item, accept=answer == "a")
            if answer == "none":
                self._review.reject_all()
            if answer in ("q", "none"):
                raise _Stop
            if answer in ("a", "d", "all"):
                return

    def _settle_what_is_inside(self, item: "Item", *, accept: bool) -> None:
        if item.change.type != "dir" or item.change.kind != "added":
            return
        for each in self._review.inside(item):
            self._decided.add(each.number)
            if accept and not self._review.why_not(each):
                self._print(f"with it: {each.heading}")
                self._review.accept(each)

    def _answer(self, question: str) -> str:
        while True:
            self._console.print(question, style="bold blue", end="")
            sys.stderr.flush()
            line = sys.stdin.readline()
            if not line:
                raise KeyboardInterrupt
            word = line.strip().lower()
            if word in ("y", "n", "a", "d", "q", "all", "none"):
                return word
            self._console.print(_KEYS, end="")

    def _show(self, hunk: "Hunk") -> None:
        for line in hunk.lines:
            self._print(line, _STYLES.get(line[:1], ""))

    def _print(self, line: str, style: str = "") -> None:
        """Prints one line as it is, however long; it was made harmless before."""
        self._console.print(line, style=style, soft_wrap=True)


def _is_asked() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _forget_what_was_typed() -> None:
    """Drops what was typed, or was sent by the terminal itself, while the program ran: it is no answer."""
    import termios

    with contextlib.suppress(termios.error, OSError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _say(text: str) -> None:
    from proxybox.terminal.harmless import on_one_line

    print(f"proxybox: {on_one_line(text)}", file=sys.stderr, flush=True)


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
