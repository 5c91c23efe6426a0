"""A real terminal for the prompt: tests type into it, and compare its screen."""

import contextlib
import io
import os
import select
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

import proxybox
from proxybox.repl.commands import dispatch
from proxybox.repl.console import Console
from proxybox.repl.loop import Shell
from proxybox.repl.screen import Screen

PROXYBOX = (sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())")
CTRL_C, CTRL_D, CTRL_R, CTRL_U, TAB, F1, UP, ESCAPE = "\x03", "\x04", "\x12", "\x15", "\t", "\x1bOP", "\x1b[A", "\x1b"
ROWS, COLUMNS = 50, 100


class TooLate(AssertionError):
    """A condition did not become true in time."""


class Terminal:
    """A terminal with a program in it. `raw`: all bytes that the program wrote."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self.screen = pyte.HistoryScreen(COLUMNS, ROWS, history=5000)
        self.screen.write_process_input = self.type  # replies, such as the cursor's position
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(argv[0], list(argv[1:]), env=dict(environment), dimensions=(ROWS, COLUMNS))
        self.child.delaybeforesend = None

    @property
    def lines(self) -> list[str]:
        """Returns the lines of the screen that are not empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @property
    def text(self) -> str:
        """Returns the screen as one text."""
        return "\n".join(self.lines)

    @property
    def row(self) -> str:
        """Returns the line of the cursor."""
        return self.screen.display[self.screen.cursor.y].rstrip()

    def _read(self, seconds: float) -> bool:
        """Reads the program's output. Returns whether the program still has the terminal."""
        if not select.select([self.child.child_fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.child.child_fd, 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def until(self, holds: Callable[[], bool], seconds: float = 100) -> None:
        """Reads output until a condition holds."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end or not self._read(0.5):
                raise TooLate(f"the screen is not as wanted:\n{self.text}")

    def see(self, *texts: str) -> None:
        """Waits until all texts are on the screen."""
        self.until(lambda: all(text in self.text for text in texts))

    def type(self, text: str) -> None:
        """Types a text, as a person would."""
        os.write(self.child.child_fd, text.encode())

    def run(self, block: str) -> str:
        """Pastes a block, types Enter, waits for the next prompt, and returns the screen."""
        self.type(f"{CTRL_U}\x1b[200~{block}\x1b[201~\r")
        mark = f"done{len(self.raw)}"
        self.type(f"'{mark[:2]}' '{mark[2:]}'\r")
        self.until(lambda: f"'{mark}'" in self.text and self.at_prompt())
        return self.text

    def at_prompt(self) -> bool:
        """Returns whether the cursor is behind an empty prompt."""
        return self.row == ">>>"

    def at_question(self) -> bool:
        """Returns whether the cursor is behind a question without a text; an earlier one may be above."""
        return self.row == "[input]"

    def end(self) -> int | None:
        """Waits for the end, and returns the exit status."""
        while self._read(100):
            pass
        self.child.close()
        return self.child.exitstatus  # type: ignore[no-any-return]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Returns a function that makes terminals with the prompt in them."""
    made: list[Terminal] = []

    def make(*options: str, shell: bool = False, **variables: str) -> Terminal:
        environment = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": str(tmp_path / "state"), **variables}
        environment.pop("NO_COLOR", None) if "NO_COLOR" not in variables else None
        command = [*PROXYBOX, "repl", *options]
        made.append(Terminal(["bash", "--norc", "--noprofile", "-i"] if shell else command, environment))
        if shell:  # an interactive shell, with job control
            made[-1].type(f"PS1='shell$ '; {shlex.join(command)}\r")
        made[-1].until(made[-1].at_prompt, 60)
        return made[-1]

    yield make
    for each in made:
        each.child.close(force=True)


class Recorder(io.StringIO):
    """Stands for a terminal; it only collects output."""

    encoding = "utf-8"  # type: ignore[assignment]


class Typist:
    """A `Prompter` that returns prepared blocks and answers."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.answers: list[str] = []
        self.asked: list[tuple[str, bool]] = []

    def read(self) -> str:
        if not self.blocks:
            raise EOFError
        return self.blocks.pop(0)

    def ask(self, message: str, *, echo: bool) -> str:
        self.asked.append((message, echo))
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)


class Sitting:
    """A shell without a terminal: `do` returns what a line printed."""

    def __init__(self, sandbox: proxybox.Sandbox) -> None:
        self.terminal = Recorder()
        self.shell = Shell(Screen(self.terminal), dispatch)
        self.typist = self.shell.prompter = Typist()
        self.shell.console = Console(sandbox.policy, lambda: sandbox.session(stdin=proxybox.Terminal(self.shell.ask)))

    def do(self, *lines: str) -> str:
        start = len(self.terminal.getvalue())
        for line in lines:
            self.shell.take(line)
        return self.terminal.getvalue()[start:]


@pytest.fixture
def sitting() -> Iterator[Callable[..., Sitting]]:
    """Returns a function that makes sittings; options: of the policy."""
    with contextlib.ExitStack() as closing:

        def make(**options: Any) -> Sitting:
            options.setdefault("session", {"branches": 12})
            sandbox = closing.enter_context(proxybox.Sandbox(warm=False, **options))
            made = Sitting(sandbox)
            closing.callback(made.shell.console.close)
            return made

        yield make
