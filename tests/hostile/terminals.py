"""Texts that attack a terminal, and the ways by which a box's text reaches the terminal at the prompt.

python tests/hostile/terminals.py       prints the table: sequences, the ways in, and what reached the terminal
"""

import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import proxybox
from proxybox.repl.commands import dispatch
from proxybox.repl.console import Console
from proxybox.repl.loop import Shell
from proxybox.repl.screen import Screen

SEQUENCES = {
    "clipboard (OSC 52)": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "clipboard, ended by ST": "\x1b]52;c;cm0gLXJmIH4=\x1b\\",
    "title (OSC 0)": "\x1b]0;owned\x07",
    "title, C1 form": "\x9d0;owned\x9c",
    "title asked for (CSI 21 t)": "\x1b[21t",
    "hyperlink (OSC 8)": "\x1b]8;;http://evil.example\x1b\\safe\x1b]8;;\x1b\\",
    "device control (DCS)": "\x1bP1$r0m\x1b\\",
    "device control, C1 form": "\x90+q544e\x9c",
    "application command (APC)": "\x1b_Gi=31,s=1,v=1;AAAA\x1b\\",
    "privacy message (PM)": "\x1b^hidden\x1b\\",
    "start of string (SOS)": "\x1bXhidden\x1b\\",
    "cursor up, line cleared": "\x1b[1A\x1b[2K",
    "cursor home, screen cleared": "\x1b[H\x1b[2J",
    "cursor moved, C1 form": "\x9b1A\x9b2K",
    "another screen": "\x1b[?1049h",
    "scroll region": "\x1b[1;1r",
    "keys as a paste": "\x1b[200~rm -rf ~\n\x1b[201~",
    "mouse reports": "\x1b[?1003h",
    "device attributes asked for": "\x1b[c\x1b[>c\x1bZ",
    "cursor position asked for": "\x1b[6n",
    "answer back (ENQ)": "\x05",
    "colours": "\x1b[8mhidden\x1b[0m",
    "character set": "\x1b(0\x0e",
    "reset": "\x1bc",
    "backspaces": "abc\b\b\bxyz",
    "carriage return": "\r>>> %get secret",
    "vertical tab, form feed": "\x0b\x0c",
    "delete, null, bell": "\x7f\x00\x07",
    "next line, C1 form": "a\x85b",
    "text from right to left (bidi override)": "\u202etxt.exe\u202c",
    "isolates (bidi)": "\u2066admin\u2069\u2067",
    "marks that reorder": "\u200f\u200e\u061c",
    "line and paragraph separators": "a\u2028b\u2029c",
    "what does not show": "a\u200b\u2060\ufeff\u00ad\u180eb",
    "tags that do not show": "\U000e0041\U000e0042",
    "annotations": "\ufff9a\ufffab\ufffb",
    "half a sequence": "\x1b",
    "half a sequence, C1 form": "\x9b",
    "a surrogate": "\udc9b\ud800",
}

Way = Callable[[Shell, str], None]


def code(text: str) -> Way:
    """A way that runs a program in which S is the sequence."""

    def run(shell: Shell, sequence: str) -> None:
        shell.take(f"S = {sequence!r}")
        shell.take(text)

    return run


def put_file(shell: Shell, sequence: str) -> None:
    """Makes a file whose name and content are the sequence."""
    shell.take(f"S = {sequence!r}.replace(chr(0), '').replace('/', '')")
    shell.take("import os\nos.makedirs('d', exist_ok=True)\nopen('d/a' + S, 'w', errors='surrogatepass').write(S)")


def listed(shell: Shell, sequence: str) -> None:
    put_file(shell, sequence)
    shell.take("%ls d")


def shown_file(shell: Shell, sequence: str) -> None:
    put_file(shell, sequence)
    shell.take("os.rename('d/' + os.listdir('d')[0], 'shown')")
    shell.take("%cat shown")


def looked_at(shell: Shell, sequence: str) -> None:
    shell.take(f"S = {sequence!r}")
    shell.take(
        "class A:\n    def __repr__(self): return S\n    __doc__ = S\na = A(); A.__name__ = 'A' + S.replace(chr(0), '')"
    )
    shell.take("def f(x=a): pass\nf.__doc__ = S\nf.__name__ = S")
    shell.take("a?")
    shell.take("f??")


def asked(shell: Shell, sequence: str) -> None:
    """Asks for input with the sequence as the prompt."""
    shell.take(f"S = {sequence!r}")
    shell.take("try: input(S)\nexcept UnicodeError: print('cannot be asked')")


def traced(shell: Shell, sequence: str) -> None:
    shell.take("%trace on")
    shell.take(f"import os\ntry: os.stat({sequence!r})\nexcept (OSError, ValueError): pass")
    shell.take("%trace off")


def not_found(shell: Shell, sequence: str) -> None:
    shell.take(f"%cat 'x{sequence}'".replace("\n", ""))
    shell.take(f"%nothing{sequence}".replace("\n", ""))
    shell.take(f"%get 'x{sequence}'".replace("\n", ""))


WAYS: dict[str, Way] = {
    "stdout": code("import sys\nprint(S.encode('utf-8', 'replace').decode())"),
    "stdout, byte by byte": code("for b in S.encode('utf-8', 'replace'): sys.stdout.buffer.write(bytes([b])); sys.stdout.flush()"),
    "raw bytes": code("import os\nos.write(1, S.encode('latin-1', 'replace'))"),
    "stderr": code("print(S.encode('utf-8', 'replace').decode(), file=sys.stderr)"),
    "a value's repr": code("class R:\n    def __repr__(self): return S\nR()"),
    "an exception's text": code("raise ValueError(S)"),
    "an exception's name": code("raise type('E' + S.replace(chr(0), ''), (Exception,), {})"),
    "a source line": code("exec(compile('1/0 #' + S.replace(chr(0), '').replace(chr(10), ''), '<' + S.replace(chr(0), '') + '>', 'exec'))"),
    "something displayed": code("display({'text/plain': S, 'a/' + S: S}, raw=True)"),
    "object?": looked_at,
    "input": asked,
    "a file's name": listed,
    "a file's content": shown_file,
    "a traced call": traced,
    "a failing command": not_found,
}  # fmt: skip


class Recorder(io.StringIO):
    """Stands in for the terminal."""

    encoding = "utf-8"  # type: ignore[assignment]


class Asked:
    """Answers without typing. It writes the prompt to the terminal as the real prompter does."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def ask(self, message: str, *, echo: bool) -> str:
        self._shell.screen.say(f"[input] {message}")
        return "typed"


@contextmanager
def shells() -> Iterator[Callable[[], tuple[Shell, Recorder]]]:
    """Makes shells whose terminal is a Recorder."""
    with proxybox.Sandbox(session={"branches": 0}, limits={"wall_time": None}, warm=False) as sandbox:
        made: list[Shell] = []

        def make() -> tuple[Shell, Recorder]:
            terminal = Recorder()
            shell = Shell(Screen(terminal), dispatch)
            shell.console = Console(sandbox.policy, lambda: sandbox.session(stdin=proxybox.Terminal(shell.ask)))
            shell.prompter = Asked(shell)  # type: ignore[assignment]
            made.append(shell)
            return shell, terminal

        yield make
        for shell in made:
            shell.console.close()


_COLOUR = re.compile("\x1b\\[[0-9;]*m")
#: Characters that join letters of scripts, and pictures.
_JOINERS = "\u200c\u200d"


def active(text: str) -> str:
    """The characters of a text on which a terminal might act: neither printed nor ends of lines."""
    return "".join(
        char for char in text if (not char.isprintable() and char not in "\n\t" + _JOINERS)
        or (unicodedata.category(char) in ("Cf", "Cs") and char not in _JOINERS)
    )  # fmt: skip


def table() -> None:
    """Prints, for each sequence, the text that the terminal got, and each way by which active characters reached it."""
    leaks: dict[str, list[str]] = {name: [] for name in SEQUENCES}
    shown: dict[str, str] = {}
    with shells() as make:
        for label, way in WAYS.items():
            shell, terminal = make()
            for name, sequence in SEQUENCES.items():
                start = len(terminal.getvalue())
                way(shell, sequence)
                text = terminal.getvalue()[start:]
                shown.setdefault(name, text.strip().replace("\n", " / ").replace("|", "\\|"))
                if reached := active(text):
                    leaks[name].append(f"{label}: {reached!r}")
    print(
        f"Ways in: {', '.join(WAYS)}.\n\n| sequence | what was seen of it on standard output | anything else, by any way |"
    )
    print("| --- | --- | --- |")
    for name, found in leaks.items():
        print(f"| {name} | `{shown[name]}` | {'; '.join(found) or 'nothing'} |")


if __name__ == "__main__":
    table()
