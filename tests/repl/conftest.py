"""A real terminal for the prompt: what a person types goes in, and screens come out."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pexpect
import pyte
import pytest

PROXYBOX = (sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())")
CTRL_C, CTRL_D, CTRL_R, CTRL_U, TAB, F1, UP, ESCAPE = "\x03", "\x04", "\x12", "\x15", "\t", "\x1bOP", "\x1b[A", "\x1b"
ROWS, COLUMNS = 50, 100


class TooLate(AssertionError):
    """What was waited for did not appear."""


class Terminal:
    """A terminal with a program in it. `raw`: every byte that reached it."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self.screen = pyte.HistoryScreen(COLUMNS, ROWS, history=5000)
        self.screen.write_process_input = self.type  # where the cursor is, when that is asked for
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(argv[0], list(argv[1:]), env=dict(environment), dimensions=(ROWS, COLUMNS))
        self.child.delaybeforesend = None

    @property
    def lines(self) -> list[str]:
        """What the screen shows, without what is empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    def _read(self, seconds: float) -> bool:
        """Takes what comes. Whether the program still has the terminal."""
        if not select.select([self.child.child_fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.child.child_fd, 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def until(self, holds: Callable[[], bool], seconds: float = 30) -> None:
        """Takes what comes until the screen is as wanted."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end or not self._read(0.5):
                raise TooLate(f"the screen is not as wanted:\n{self.text}")

    def see(self, *texts: str) -> None:
        """Waits until all of them are on the screen."""
        self.until(lambda: all(text in self.text for text in texts))

    def type(self, text: str) -> None:
        """What a person's fingers do."""
        os.write(self.child.child_fd, text.encode())

    def run(self, block: str) -> str:
        """Types a block and Enter, waits for the next prompt, and gives what stands between."""
        self.type(CTRL_U + block + "\r")
        mark = f"done{len(self.raw)}"
        self.type(f"'{mark[:2]}' '{mark[2:]}'\r")
        self.until(lambda: f"'{mark}'" in self.text and self.at_prompt())
        return self.text

    def at_prompt(self) -> bool:
        """Whether the cursor stands behind an empty prompt."""
        return self.screen.display[self.screen.cursor.y].rstrip() == ">>>"

    def end(self) -> int | None:
        """The exit status."""
        while self._read(30):
            pass
        self.child.close()
        return self.child.exitstatus  # type: ignore[no-any-return]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Makes terminals with the prompt in them."""
    made: list[Terminal] = []

    def make(*options: str, **variables: str) -> Terminal:
        environment = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": str(tmp_path / "state"), **variables}
        environment.pop("NO_COLOR", None) if "NO_COLOR" not in variables else None
        made.append(Terminal([*PROXYBOX, "repl", *options], environment))
        made[-1].until(made[-1].at_prompt)
        return made[-1]

    yield make
    for each in made:
        each.child.close(force=True)
