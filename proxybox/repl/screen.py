"""The only way to the terminal.

Promise: of what comes from a box (output, values, errors, names) nothing reaches the terminal but printable text, line
ends and tabs. Whatever else a terminal might act on, escape sequences in C0 and C1 form and characters that reorder or
hide text, becomes visible, such as \\x1b. Colours are added afterwards, and only here. A carriage return is shown as a
new line: nothing that stands on the screen is overwritten. The place where a program reads input is marked, so that
it cannot pass for the prompt; a backslash stands before a box's lines that begin as the prompt, that mark or our own
words do.
"""

import contextlib
import re
import shutil
import signal
import sys
import termios
import unicodedata
from collections.abc import Callable, Iterator
from typing import TextIO

from wcwidth import wcwidth

from proxybox.modulepath import programs_of_absolute_folders
from proxybox.terminal import harmless as plain
from proxybox.terminal.colouring import python, traceback
from proxybox.terminal.harmless import on_one_line
from proxybox.terminal.settings import let_through
from proxybox.terminal.text import Paint

#: A value of more lines or characters is cut.
MOST_LINES, MOST_CHARACTERS = 200, 8_000
_RETURNS = re.compile("\r\n?")
#: What leaves, as a bare word.
LEAVING = ("exit", "quit")
PS1, PS2, MARK, OURS = ">>> ", "... ", "[input] ", "proxybox: "
_MARKED = "\\" * len(OURS)
_OURS = tuple(text.rstrip() for text in (PS1, PS2, MARK, OURS))
#: Of an unfinished line so much is remembered.
_MOST_UNFINISHED = 1000


def harmless(text: str) -> str:
    """A box's text, as it may be shown."""
    return plain.harmless(_RETURNS.sub("\n", text))


def one_line(text: str, most: int = 200) -> str:
    """A box's text on one line, such as a name: of a long one the beginning."""
    shown = on_one_line(text)
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def _seen(before: str, line: str) -> str:
    """How a line begins to the eye, as far as it matters; what was seen of it before goes first. What takes no place of
    its own is left out, such as marks and the letters that end Korean syllables; of others, letters that look like
    those of the prompt count as these (NFKC: wide ones, or three dots in one).
    """
    for char in line:
        if len(before) >= len(OURS):
            break
        if wcwidth(char) != 0 and unicodedata.category(char) not in ("Mn", "Me", "Cf"):
            before += unicodedata.normalize("NFKC", char)
    return before


@contextlib.contextmanager
def quiet_keys() -> Iterator[None]:
    """What is typed while a program runs is not shown then (ECHO of termios(3)): the prompt shows it, in its place."""
    try:
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (termios.error, OSError, ValueError):
        yield
        return
    now = [*before]
    now[3] &= ~termios.ECHO

    def suspend(number: int, frame: object) -> None:
        """Ctrl-Z: the shell gets its terminal as it was."""
        termios.tcsetattr(fd, termios.TCSANOW, before)
        let_through(number, suspend)
        termios.tcsetattr(fd, termios.TCSANOW, now)

    termios.tcsetattr(fd, termios.TCSANOW, now)
    old = signal.signal(signal.SIGTSTP, suspend)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, old)
        termios.tcsetattr(fd, termios.TCSANOW, before)


class Screen:
    """Shows what a box and its controller say. Where the cursor stands is known: nothing else writes."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = sys.stdout if file is None else file
        self.paint = Paint(self.file)
        self.unfinished = ""  # what stands on the last line, of a box
        self.last = ""  # the last long text, whole
        self._returned = False
        self._seen = ""  # how the unfinished line begins, to the eye

    # --- what a box says ----------------------------------------------------------------------------------------------

    def writer(self, stream: str) -> Callable[[str], None]:
        """A callback for what is printed to "stdout" or "stderr"."""
        colour = "red" if stream == "stderr" else ""  # which our words may have, too: they are told by their beginning

        def write(text: str) -> None:
            if self._returned and text.startswith("\n"):  # \r\n that came in two pieces
                text = text[1:]
            self._returned = text.endswith("\r")
            shown = self._unmistakable(harmless(text))
            self._put(self.paint(colour, shown) if colour else shown)
            rest = shown.rpartition("\n")
            self.unfinished = (rest[2] if rest[1] else self.unfinished + shown)[:_MOST_UNFINISHED]

        return write

    def value(self, text: str) -> None:
        """A value's repr."""
        self._text(text, python)

    def error(self, text: str) -> None:
        """A traceback."""
        self._text(text, traceback)

    def _text(self, text: str, colour: Callable[[str], str]) -> None:
        self.finish_line()
        shown = self._unmistakable(harmless(text).rstrip("\n"))
        cut = "\n".join(shown.split("\n", MOST_LINES)[:MOST_LINES])[:MOST_CHARACTERS]
        self._put((colour(cut) if self.paint.wanted else cut) + "\n")
        if len(cut) < len(shown):
            self.last = shown
            self.note(f"{len(shown) - len(cut):,} characters more: %page shows all of it")

    def _unmistakable(self, text: str) -> str:
        """Text that goes on behind the unfinished line, and cannot pass for ours."""
        seen, lines = (self._seen if self.unfinished else ""), text.split("\n")
        for number, line in enumerate(lines):
            seen = _seen(seen if number == 0 else "", line)
            if seen.startswith(_OURS):
                lines[number], seen = "\\" + line, _MARKED
        self._seen = seen
        return "\n".join(lines)

    # --- what is ours -------------------------------------------------------------------------------------------------

    def say(self, text: str, colour: str = "") -> None:
        """A line of our own. Whatever a box has named in it has passed `one_line`; where it begins with that, `named`
        is for it."""
        self.finish_line()
        self._put((self.paint(colour, text) if colour else text) + "\n")

    def named(self, text: str, colour: str = "") -> None:
        """A line that begins with what a box has named."""
        self.finish_line()
        self.say(self._unmistakable(text), colour)

    def note(self, text: str) -> None:
        """Something that a person should know."""
        self.say(f"{OURS}{text}", "yellow")

    def fail(self, text: str) -> None:
        """Why something could not be done."""
        self.say(f"{OURS}{text}", "red")

    def finish_line(self) -> None:
        """What comes next begins at the start of a line."""
        if self.unfinished:
            self._put("\n")
            self.unfinished = ""

    def take_unfinished(self) -> str:
        """Takes the unfinished line back, as what a program asks with; what comes next stands in its place."""
        text, self.unfinished = self.unfinished, ""
        if not text:
            return ""
        if self.paint.wanted and len(text) < shutil.get_terminal_size().columns:
            self._put("\r\x1b[K")
            return text
        self._put("\n")
        return ""

    def page(self, text: str) -> None:
        """A long text, in a pager where there is one."""
        import click

        with programs_of_absolute_folders():
            click.echo_via_pager(text if text.endswith("\n") else text + "\n")

    def _put(self, text: str) -> None:
        try:
            self.file.write(text)
        except UnicodeEncodeError:
            encoding = self.file.encoding or "ascii"
            self.file.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self.file.flush()
