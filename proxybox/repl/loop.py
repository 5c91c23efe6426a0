"""The loop of the prompt: reads, runs and shows blocks of code, and handles Ctrl-C."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Protocol

from proxybox import Displayed, OSCall, Result, SandboxClosedError, Session, Status, explanations
from proxybox.repl.console import Console, Observers
from proxybox.repl.screen import LEAVING, OURS, Screen, one_line

_STILL_RUNNING = f"\n{OURS}it has been interrupted, and still runs. Ctrl-C once more ends the box.\n"


class Prompter(Protocol):
    """Reads what a person types. Both methods raise EOFError at Ctrl-D and KeyboardInterrupt at Ctrl-C."""

    def read(self) -> str:
        """Reads a block of code, or a command."""

    def ask(self, message: str, *, echo: bool) -> str:
        """Reads a line for the program. message: the program's question, which is already harmless."""


@contextlib.contextmanager
def _on_sigint(do: Callable[[], object]) -> Iterator[None]:
    """Sets what Ctrl-C does within the block."""
    try:
        before = signal.signal(signal.SIGINT, lambda number, frame: do())
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Shell:
    """One use of the prompt. dispatch: carries out a line that begins with % (commands.py)."""

    def __init__(self, screen: Screen, dispatch: Callable[["Shell", str], None]) -> None:
        self.screen = screen
        self._dispatch = dispatch
        self.tracing = "off"  # "on": OS calls are shown; "denied": those that are refused
        self._taking = False  # whether Ctrl-C ends the current command
        self._pressed = 0  # how often Ctrl-C was pressed while this block ran
        self._press: Callable[[], None] = lambda: None
        self.console: Console
        self.prompter: Prompter
        self._observers = Observers(screen.writer("stdout"), screen.writer("stderr"), self._show)

    def work(self) -> int:
        """Works until the person leaves, and returns the exit status. Ctrl-C does not leave, however often it comes."""
        with _on_sigint(self._end_taking):
            while True:
                try:
                    text = self.prompter.read()
                except KeyboardInterrupt:
                    continue
                except EOFError:
                    return 0
                if text.strip() in LEAVING:
                    return 0
                status = None
                try:
                    self._taking = True
                    status = self.take(text)
                    self._taking = False
                except KeyboardInterrupt:
                    self.screen.note("interrupted")
                    if not self.console.session.alive:
                        self.renew()
                if status is not None:
                    return status

    def _end_taking(self) -> None:
        """Handles Ctrl-C when no block runs: it ends a command, for example one that waits for a file of the host."""
        if self._taking:
            self._taking = False
            raise KeyboardInterrupt

    def take(self, text: str) -> int | None:
        """Carries out what was typed. Returns the exit status if the person has left by it."""
        line = text.strip()
        if not line:
            return None
        if line.startswith("%matplotlib") and "\n" in line:  # a cell of a notebook
            first, _, line = line.partition("\n")
            self._dispatch(self, first)
            return self.take(line)
        if line.startswith("%"):
            self._dispatch(self, line)
        elif line.startswith("!"):
            self.screen.fail(explanations.TABLE["programs"][0])
        elif line.endswith("?") and "\n" not in line and not line.startswith("#"):
            self.inspect(line.rstrip("?").strip(), source=line.endswith("??"))
        else:
            result = self.run(text)
            if result is not None and result.error is not None and result.error.type == "SystemExit":
                return result.exit_code or 0
        return None

    # --- one block ----------------------------------------------------------------------------------------------------

    def run(self, code: str, *, name: str = "", echo: bool = True) -> Result | None:
        """Runs a block and shows its results. Returns None when the box had ended or did not take the block."""
        session = self.console.session
        try:
            with self._ctrl_c(session.interrupt, session.close), self._tracing(session):
                result = self.console.run(code, self._observers, name=name, echo=echo)
        except SandboxClosedError:
            self.screen.fail("the box has ended")
            self.renew()
            return None
        except ValueError as error:  # the block is too large to be sent to the guest
            self.screen.fail(one_line(str(error)))
            return None
        self.screen.finish_line()
        if result.error is not None and result.error.traceback:
            self.screen.error(result.error.traceback)
        for each in result.explanations:
            self.screen.note(str(each))
        if session.alive and result.status in (Status.TIME_LIMIT, Status.CALL_LIMIT):
            self.screen.note("the block was interrupted; names and files are kept")
        if session.alive:
            with self._ctrl_c(lambda: None, session.close):
                self.console.keep()
        if not session.alive:
            self.renew()
        return result

    def renew(self) -> None:
        """Starts another box after one has ended. Ctrl-C does nothing meanwhile."""
        with _on_sigint(lambda: None):
            self.console.renew()
            self.screen.note("a new box was started: its names and files are those of the beginning")

    @contextlib.contextmanager
    def _ctrl_c(self, interrupt: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
        """Handles Ctrl-C: the first interrupts the program, the second also announces the third, which ends the box."""
        self._pressed = 0

        def on_sigint() -> None:
            self._pressed += 1
            if self._pressed == 2:
                with contextlib.suppress(OSError, ValueError):
                    os.write(self.screen.file.fileno(), _STILL_RUNNING.encode())
            if self._pressed > 2:
                end()
            else:
                interrupt()

        self._press = on_sigint
        with _on_sigint(on_sigint):
            yield

    # --- what the program wants ---------------------------------------------------------------------------------------

    def ask(self, size: int, echo: bool) -> str:
        """Reads a line of input for the program (`proxybox.Terminal`)."""
        message = self.screen.take_unfinished()
        try:
            text = self.prompter.ask(message, echo=echo)
        except EOFError:
            return ""
        except KeyboardInterrupt:  # prompt_toolkit reads Ctrl-C as a key, so there is no signal
            self._press()
            raise InterruptedError from None
        self._pressed = 0  # a person who answers does not want to end the program
        return text.encode("utf-8", "backslashreplace").decode() + "\n"

    def _show(self, shown: Displayed) -> None:
        """Shows the text of a value or of displayed data."""
        if shown.kind == "clear":
            return
        text = shown.data.get("text/plain")
        if isinstance(text, str):
            self.screen.value(text)
        others = [one_line(kind, 60) for kind in shown.data if not kind.startswith("text/")]
        if others:
            self.screen.say(f"({', '.join(others[:10])}: a notebook would show it)", "dim")

    # --- looks --------------------------------------------------------------------------------------------------------

    def inspect(self, name: str, *, source: bool = False) -> None:
        """Shows what is known about an object."""
        try:
            found = self.console.session.inspect(name, detail=int(source))
        except SandboxClosedError:
            found = None
        if found is None:
            self.screen.fail(f"nothing is known of {one_line(name)}")
            return
        head = one_line(found.name + (found.signature or ""), 400)
        self.screen.named(f"{head}  ({one_line(found.type)})", "bold")
        for text in (found.text, found.source if source else None, None if source and found.source else found.doc):
            if text:
                self.screen.value(text)

    @contextlib.contextmanager
    def _tracing(self, session: Session) -> Iterator[None]:
        """Shows the OS calls of a block, if tracing is on."""
        session.audit(None if self.tracing == "off" else self._traced)
        try:
            yield
        finally:
            session.audit(None)

    def _traced(self, call: OSCall) -> None:
        from proxybox.terminal.strace import call_line

        if call.name == "exchange":  # the session's own call to the controller, which the program did not make
            return
        if self.tracing == "on" or call.decision != "allowed":
            refused = call.decision in ("denied", "unknown")
            self.screen.say(f"  {call_line(call)}", "red" if refused else "dim")
