"""The only way to the terminal.

Promise: of what comes from a box (output, values, errors, names), only printable text, line ends and tabs reach the
terminal. Everything else that a terminal might act on becomes visible, such as \\x1b: escape sequences in C0 and C1
form, and characters that reorder or hide text. Colours are added afterwards, and only here. A carriage return is shown
as a new line, so that nothing on the screen is overwritten. The place where a program reads input is marked, so that
nobody takes it for the prompt. A backslash is put before lines of a box that begin like the prompt, like this mark or
like our own messages.
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

#: A value with more lines or characters is cut.
MOST_LINES, MOST_CHARACTERS = 200, 8_000
_RETURNS = re.compile("\r\n?")
#: The words that leave the prompt.
LEAVING = ("exit", "quit")
PS1, PS2, MARK, OURS = ">>> ", "... ", "[input] ", "proxybox: "
_MARKED = "\\" * len(OURS)
_OURS = tuple(text.rstrip() for text in (PS1, PS2, MARK, OURS))
#: How many characters of an unfinished line are remembered.
_MOST_UNFINISHED = 1000


def harmless(text: str) -> str:
    """Returns a box's text with everything but printable text, line ends and tabs made visible."""
    return plain.harmless(_RETURNS.sub("\n", text))


def one_line(text: str, most: int = 200) -> str:
    """Returns a box's text on one line, for example a name; a long text is cut."""
    shown = on_one_line(text)
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def _seen(before: str, line: str) -> str:
    """Returns how the beginning of a line looks, as far as it matters. before: the same for the line so far.

    Characters without a width of their own are left out, such as marks and the letters that end Korean syllables.
    Characters that look like those of the prompt count as these (NFKC: wide letters, or three dots in one).
    """
    for char in line:
        if len(before) >= len(OURS):
            break
        if wcwidth(char) != 0 and unicodedata.category(char) not in ("Mn", "Me", "Cf"):
            before += unicodedata.normalize("NFKC", char)
    return before


@contextlib.contextmanager
def quiet_keys() -> Iterator[None]:
    """Turns off the echo of what is typed while a program runs (ECHO of termios(3)): the prompt shows it later."""
    try:
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (termios.error, OSError, ValueError):
        yield
        return
    now = [*before]
    now[3] &= ~termios.ECHO

    def suspend(number: int, frame: object) -> None:
        """Handles Ctrl-Z: the shell gets the terminal as it was before."""
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
    """Shows the output of a box and our own messages. It knows the cursor's place, because nothing else writes."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = sys.stdout if file is None else file
        self.paint = Paint(self.file)
        self.unfinished = ""  # a box's text on the last line
        self.last = ""  # the last long text, uncut
        self._returned = False
        self._seen = ""  # how the beginning of the unfinished line looks

    # --- what a box says ----------------------------------------------------------------------------------------------

    def writer(self, stream: str) -> Callable[[str], None]:
        """Returns a callback for what is printed to "stdout" or "stderr"."""
        colour = "red" if stream == "stderr" else ""  # our own messages can be red too: their beginning differs

        def write(text: str) -> None:
            if self._returned and text.startswith("\n"):  # a \r\n that came in two pieces
                text = text[1:]
            self._returned = text.endswith("\r")
            shown = self._unmistakable(harmless(text))
            self._put(self.paint(colour, shown) if colour else shown)
            rest = shown.rpartition("\n")
            self.unfinished = (rest[2] if rest[1] else self.unfinished + shown)[:_MOST_UNFINISHED]

        return write

    def value(self, text: str) -> None:
        """Shows the repr of a value."""
        self._text(text, python)

    def error(self, text: str) -> None:
        """Shows a traceback."""
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
        """Marks lines that look like ours. The text continues the unfinished line."""
        seen, lines = (self._seen if self.unfinished else ""), text.split("\n")
        for number, line in enumerate(lines):
            seen = _seen(seen if number == 0 else "", line)
            if seen.startswith(_OURS):
                lines[number], seen = "\\" + line, _MARKED
        self._seen = seen
        return "\n".join(lines)

    # --- our own messages ---------------------------------------------------------------------------------------------

    def say(self, text: str, colour: str = "") -> None:
        """Shows a line of our own.

        A name from a box must have passed `one_line`. Use `named` for a line that begins with such a name.
        """
        self.finish_line()
        self._put((self.paint(colour, text) if colour else text) + "\n")

    def named(self, text: str, colour: str = "") -> None:
        """Shows a line that begins with a name from a box."""
        self.finish_line()
        self.say(self._unmistakable(text), colour)

    def note(self, text: str) -> None:
        """Shows something that a person should know."""
        self.say(f"{OURS}{text}", "yellow")

    def fail(self, text: str) -> None:
        """Shows why something could not be done."""
        self.say(f"{OURS}{text}", "red")

    def finish_line(self) -> None:
        """Ends an unfinished line, so that the next text begins on a new one."""
        if self.unfinished:
            self._put("\n")
            self.unfinished = ""

    def take_unfinished(self) -> str:
        """Removes the unfinished line from the screen and returns it: the question of a program that reads input.

        Returns "" when it cannot be removed; then it is ended.
        """
        text, self.unfinished = self.unfinished, ""
        if not text:
            return ""
        if self.paint.wanted and len(text) < shutil.get_terminal_size().columns:
            self._put("\r\x1b[K")
            return text
        self._put("\n")
        return ""

    def page(self, text: str) -> None:
        """Shows a long text in a pager, if there is one."""
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
