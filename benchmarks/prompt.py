"""The interactive prompt: times until it appears, from Enter to the result, and from Tab to the completions."""

import os
import pty
import select
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.bare import pypy
from benchmarks.figures import Figure, Target

STARTS, ROUNDS = 11, 60
PROXYBOX = [sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())", "repl", "--no-history"]


class Typed:
    """A program in a terminal, without colours. started: milliseconds until its prompt has appeared."""

    def __init__(self, command: Sequence[str], prompt: bytes) -> None:
        began = time.perf_counter()
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.environ.update(TERM="xterm", NO_COLOR="1")
            os.execvp(command[0], list(command))
        self.wait(prompt)
        self.started = (time.perf_counter() - began) * 1e3

    def type(self, text: bytes, until: bytes) -> float:
        """Returns the milliseconds from typing a text until `until` is shown."""
        began = time.perf_counter()
        os.write(self._fd, text)
        self.wait(until)
        return (time.perf_counter() - began) * 1e3

    def send(self, text: bytes) -> None:
        """Types a text, and waits until the terminal is idle."""
        os.write(self._fd, text)
        self.settle()

    def wait(self, for_: bytes) -> None:
        """Reads until a text is shown. Raises TimeoutError after 20 seconds without output."""
        seen = b""
        while for_ not in seen:
            if not select.select([self._fd], [], [], 20)[0]:
                raise TimeoutError(f"{for_!r} was not shown: {seen[-500:]!r}")
            seen += self._read()

    def settle(self) -> None:
        """Reads until there was no output for a while: then the prompt is drawn, and waits."""
        while select.select([self._fd], [], [], 0.1)[0]:
            self._read()

    def _read(self) -> bytes:
        data = os.read(self._fd, 65536)
        if b"\x1b[6n" in data:  # answers the query for the cursor's position, as a terminal does
            os.write(self._fd, b"\x1b[1;1R")
        return data

    def close(self) -> None:
        os.close(self._fd)
        os.waitpid(self._pid, 0)


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns medians, in milliseconds."""
    say("starts")
    ours, theirs = [], []
    for _ in range(STARTS):
        for command, prompt, taken in ((PROXYBOX, b">>> ", ours), ([pypy()], b">>>> ", theirs)):
            terminal = Typed(command, prompt)
            taken.append(terminal.started)
            terminal.close()
    say("results")
    results = [_results(PROXYBOX, b">>> "), _results([pypy()], b">>>> ")]
    say("completions")
    return [
        Figure(name="until the prompt is there", value=statistics.median(ours), unit="ms", floor="bare pypy3",
               floor_value=statistics.median(theirs), target=Target(of="value", at_most=400)),
        Figure(name="Enter to the result of 1+1", value=results[0], unit="ms", floor="bare pypy3",
               floor_value=results[1], target=Target(of="value", at_most=10)),
        Figure(name="Tab to what follows os.path.", value=_completions(), unit="ms",
               target=Target(of="value", at_most=50)),
    ]  # fmt: skip


def _results(command: Sequence[str], prompt: bytes) -> float:
    terminal = Typed(command, prompt)
    taken = []
    for number in range(ROUNDS):
        terminal.settle()
        terminal.send(b"%d+1" % (1_000_000 + number))
        taken.append(terminal.type(b"\r", b"%d" % (1_000_001 + number)))
    terminal.close()
    return statistics.median(taken[10:])


def _completions() -> float:
    terminal = Typed(PROXYBOX, b">>> ")
    terminal.type(b"import os\r", b">>> ")
    taken = []
    for _ in range(ROUNDS):
        terminal.settle()
        terminal.send(b"os.path.")
        taken.append(terminal.type(b"\t", b"basename"))
        terminal.send(b"\x15")
    terminal.close()
    return statistics.median(taken[10:])
