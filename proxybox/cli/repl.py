"""`proxybox repl`: the interactive prompt, each line of which runs in a box."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from proxybox.cli.arguments import Parsed
from proxybox.cli.choosing import choose_policy, chosen_packages
from proxybox.cli.exits import EXIT_CANCELLED
from proxybox.cli.failures import CommandError, UsageError, complain
from proxybox.cli.run import print_failure, run

if TYPE_CHECKING:
    from proxybox.policies import Policy
    from proxybox.repl.loop import Shell
    from proxybox.session import Session


def repl(parsed: Parsed) -> int:
    """Runs the prompt and returns the exit status. Standard input that is not a terminal is run as a script."""
    if sys.stdin is None or not sys.stdin.isatty():
        if parsed.text("record") is not None:
            return complain(UsageError("--record: there is no terminal to sit at; use `proxybox run --record FILE -`"))
        return run(Parsed(parsed.options, "stdin", "-", ()))
    try:
        parsed = parsed._replace(options={"policy": "repl", **parsed.options})
        if has_own_prompt(parsed):
            return run(parsed._replace(kind="interactive"))
        return sit(parsed, choose_policy(parsed))
    except KeyboardInterrupt:
        return EXIT_CANCELLED
    except Exception as error:
        return print_failure(error)


def sit(parsed: Parsed, policy: "Policy") -> int:
    """Runs the prompt. Its box starts while the modules of the prompt are imported."""
    from proxybox import Sandbox, Terminal
    from proxybox.policies import evolve

    folder = parsed.text("folder")
    if folder is not None and not os.path.isdir(folder):
        raise CommandError(f"--folder: {folder!r} is no folder")
    shells: list[Shell] = []
    terminal = Terminal(lambda size, echo: shells[0].ask(size, echo))
    guest, library = parsed.text("guest"), parsed.text("guest_library")
    packages = chosen_packages(parsed.texts("packages"), guest, library)
    record = parsed.text("record")
    if record is not None:  # a recorded session cannot be copied
        policy = evolve(policy, session={"branches": 0})
    with Sandbox(policy, guest=guest, guest_library=library, packages=packages, record=record) as sandbox:

        def start() -> "Session":
            session = sandbox.session(folder=folder, stdin=terminal)
            session.exec("", echo=True)
            return session

        return at_prompt(
            policy, start, banner(parsed), shells, vi=parsed.flag("vi"), keeps_history=not parsed.flag("no_history")
        )


def at_prompt(
    policy: "Policy", start: "Callable[[], Session]", text: str, shells: "list[Shell]", *, vi: bool,
    keeps_history: bool,
) -> int:  # fmt: skip
    """Runs the prompt until the person leaves, and returns the exit status.

    start: makes the session, and another one after it has ended. text: the text above the first prompt. shells: the
    shell is added to this list.
    """
    first = Early(start)
    try:
        with swift_turns():
            from proxybox.repl import loop
            from proxybox.repl.commands import dispatch
            from proxybox.repl.console import Console
            from proxybox.repl.prompt import TerminalPrompter, history_file, plain_output
            from proxybox.repl.screen import Screen, quiet_keys
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the prompt needs {error.name}, which is not installed: pip install 'proxybox[repl]'"
        ) from None
    finally:
        first.wait()
    shell = loop.Shell(Screen(), dispatch)
    shells.append(shell)
    with plain_output(shell.screen.file), contextlib.closing(Console(policy, first.get)) as shell.console:
        shell.prompter = prompt = TerminalPrompter(shell, vi=vi, history=history_file() if keeps_history else None)
        shell.screen.say(text, "dim")
        if prompt.warning:
            shell.screen.note(prompt.warning)
        with quiet_keys():
            return shell.work()


def has_own_prompt(parsed: Parsed) -> bool:
    """Whether the guest's own prompt is used, because this guest can have no session. Raises SandboxStartError."""
    from proxybox.controller import find_guest

    return find_guest(parsed.text("guest"), parsed.text("guest_library")).lacks_bootstrap != ""


class Early:
    """Makes a session in a thread that starts at once."""

    def __init__(self, make: Callable[[], "Session"]) -> None:
        self._make = make
        self._made: list[Session] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="proxybox-start")
        self._thread.start()

    def _work(self) -> None:
        try:
            self._made.append(self._make())
        except BaseException as error:
            self._error = error

    def wait(self) -> None:
        """Waits until the session is made, or has failed to start."""
        self._thread.join()

    def get(self) -> "Session":
        """Returns the session at the first call, and a new one at each later call. Raises the error of its start."""
        self.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._made.pop() if self._made else self._make()


@contextlib.contextmanager
def swift_turns() -> Iterator[None]:
    """Shortens thread switches, so that the thread that serves the starting guest soon gets the interpreter lock."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def banner(parsed: Parsed) -> str:
    """Returns the text above the first prompt."""
    from proxybox import __version__

    return f"proxybox {__version__}: Python in a box, policy {parsed.text('policy')}. %help tells more, exit leaves."
