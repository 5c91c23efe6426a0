"""The questions of `run --review` and `proxybox review`: each change is shown, and accepted changes are written.

Rules: everything is printed on stderr, because stdout belongs to the program. Questions are answered line by line from
standard input, when both are a terminal; otherwise the review is stored, with a page of it. Nothing is written before
the
last question was answered: an interrupt, or an end of the input, writes nothing.
"""

import contextlib
import sys
from typing import TYPE_CHECKING, Final

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


def review_changes(result: "Result") -> None:
    """Asks about a run's changes, and writes accepted ones; without a terminal, stores the review for later.

    Raises the exceptions of `Review.commit` and `pending.keep`, and KeyboardInterrupt.
    """
    review = result.files.review()
    if not review.items:
        say("nothing was changed that could be written")
    elif is_asked():
        decide(review)
    else:
        _keep(review)


def _keep(review: "Review") -> None:
    from proxybox.review import pending

    waiting = pending.keep(review)
    say(f"{_counted(len(review), 'change')} to review, none of them written; a page shows them: {waiting.page}")
    say(f"to write some: proxybox review {waiting.id} --accept N, or --accept all; on a terminal it asks")


def decide(review: "Review") -> bool:
    """Asks about each change, and writes accepted changes. Returns whether anything was written."""
    _forget_what_was_typed()
    try:
        _Asking(review).ask_all()
    except KeyboardInterrupt:
        say("nothing was written")
        raise
    return write(review)


def write(review: "Review") -> bool:
    """Writes accepted changes, and prints how to undo them. Returns whether anything was written."""
    done = review.commit()
    if not done.written:
        say("nothing was accepted, and nothing was written")
        return False
    say(f"{_counted(len(done.written), 'change')} written; to take them back: proxybox undo {done.id}")
    return True


class _Stop(Exception):
    """Ends the questions."""


class _Asking:
    """The questions about one review."""

    def __init__(self, review: "Review") -> None:
        from proxybox.terminal.tables import console

        self._review = review
        self._console: Console = console(sys.stderr)
        self._decided: set[int] = set()
        self._all = False

    def ask_all(self) -> None:
        """Asks about every change that no earlier answer has decided."""
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
        for note in item.notes:
            self._print(note, "dim")
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
            line = sys.stdin.buffer.readline()
            if not line:
                raise KeyboardInterrupt
            word = line.decode(errors="replace").strip().lower()
            if word in ("y", "n", "a", "d", "q", "all", "none"):
                return word
            self._console.print(_KEYS, end="")

    def _show(self, hunk: "Hunk") -> None:
        for line in hunk.lines:
            self._print(line, _STYLES.get(line[:1], ""))

    def _print(self, line: str, style: str = "") -> None:
        """Prints one line without wrapping; it was made harmless before."""
        self._console.print(line, style=style, soft_wrap=True)


def is_asked() -> bool:
    """Whether there is a terminal to ask on."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _forget_what_was_typed() -> None:
    """Drops input that was typed, or sent by the terminal itself, while the program ran: it is no answer."""
    import termios

    with contextlib.suppress(termios.error, OSError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def say(text: str) -> None:
    """Prints a line of the command itself on stderr."""
    from proxybox.terminal.harmless import on_one_line

    print(f"proxybox: {on_one_line(text)}", file=sys.stderr, flush=True)


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
