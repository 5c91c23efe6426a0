"""`proxybox repl`: the interactive prompt, every line of which runs in a box."""

import os
import sys
from typing import TYPE_CHECKING

import attrs

from proxybox.cli.arguments import Parsed
from proxybox.cli.choosing import choose_policy
from proxybox.cli.failures import CommandError
from proxybox.cli.run import run, tell_failure

if TYPE_CHECKING:
    from proxybox.policies import Policy

#: Copies for %undo and %branch, where the policy is the one that is taken without asking.
_BRANCHES = 24


def repl(parsed: Parsed) -> int:
    """Sits a person down at the prompt; the exit status. Standard input that is no terminal is run as a script."""
    if sys.stdin is None or not sys.stdin.isatty():
        return run(Parsed(parsed.options, "stdin", "-", ()))
    try:
        return sit(parsed, policy_of(parsed))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return tell_failure(error)


def policy_of(parsed: Parsed) -> "Policy":
    """The policy that was chosen; the default one may be copied besides."""
    policy = choose_policy(parsed)
    if parsed.text("policy") is None and not any(text.startswith("session.branches") for text in parsed.texts("set")):
        policy = attrs.evolve(policy, session=attrs.evolve(policy.session, branches=_BRANCHES))
    return policy


def sit(parsed: Parsed, policy: "Policy") -> int:
    """The sitting itself. Its box starts while the prompt is loaded."""
    import threading

    from proxybox import Sandbox, Terminal
    from proxybox.repl.console import Console
    from proxybox.repl.loop import Shell
    from proxybox.repl.screen import Screen

    folder = parsed.text("folder")
    if folder is not None and not os.path.isdir(folder):
        raise CommandError(f"--folder: {folder!r} is no folder")
    shell = Shell(Screen())
    with Sandbox(policy, guest=parsed.text("guest")) as sandbox:

        def start():  # type: ignore[no-untyped-def]
            session = sandbox.session(folder=folder, stdin=Terminal(shell.ask))
            session.exec("", echo=True)
            return session

        failed: list[BaseException] = []

        def begin() -> None:
            try:
                shell.console = Console(policy, start)
            except BaseException as error:
                failed.append(error)

        beginning = threading.Thread(target=begin, name="proxybox-start")
        beginning.start()
        try:
            from proxybox.repl.prompt import Prompt, history_file

            shell.prompter = prompt = Prompt(
                shell, vi=parsed.flag("vi"), history=None if parsed.flag("no_history") else history_file()
            )
        except ModuleNotFoundError as error:
            failed.append(
                CommandError(f"the prompt needs {error.name}, which is not installed: pip install 'proxybox[repl]'")
            )
        finally:
            beginning.join()
        if failed:
            raise failed[0]
        if prompt.warning:
            shell.screen.note(prompt.warning)
        shell.screen.say(banner(parsed, shell.console), "dim")
        try:
            return shell.work()
        finally:
            shell.console.close()


def banner(parsed: Parsed, console: object) -> str:
    """What stands above the first prompt."""
    from proxybox import __version__

    policy = parsed.text("policy") or "default"
    return f"proxybox {__version__}: Python in a box, policy {policy}. %help lists the commands, exit or Ctrl-D leaves."
