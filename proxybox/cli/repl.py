"""`proxybox repl`: the interactive prompt, every line of which runs in a box."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs

from proxybox.cli.arguments import Parsed
from proxybox.cli.choosing import choose_policy
from proxybox.cli.exits import EXIT_CANCELLED
from proxybox.cli.failures import CommandError
from proxybox.cli.run import run, tell_failure

if TYPE_CHECKING:
    from proxybox.policies import Policy
    from proxybox.session import Session

#: Copies for %undo and %branch, where the policy is the one that is taken without asking.
_BRANCHES = 24


def repl(parsed: Parsed) -> int:
    """Sits a person down at the prompt; the exit status. Standard input that is no terminal is run as a script."""
    if sys.stdin is None or not sys.stdin.isatty():
        return run(Parsed(parsed.options, "stdin", "-", ()))
    try:
        return sit(parsed, policy_of(parsed))
    except KeyboardInterrupt:
        return EXIT_CANCELLED
    except Exception as error:
        return tell_failure(error)


def policy_of(parsed: Parsed) -> "Policy":
    """The policy that was chosen; the default one may be copied besides."""
    policy = choose_policy(parsed)
    if parsed.text("policy") is None and not any(text.startswith("session.branches") for text in parsed.texts("set")):
        policy = attrs.evolve(policy, session=attrs.evolve(policy.session, branches=_BRANCHES))
    return policy


def sit(parsed: Parsed, policy: "Policy") -> int:
    """The sitting itself. Its box starts while what the prompt is made of is loaded."""
    from proxybox import Sandbox, Terminal
    from proxybox.repl.loop import Shell
    from proxybox.repl.screen import Screen, quiet_keys

    folder = parsed.text("folder")
    if folder is not None and not os.path.isdir(folder):
        raise CommandError(f"--folder: {folder!r} is no folder")
    shell = Shell(Screen())
    with Sandbox(policy, guest=parsed.text("guest")) as sandbox, ThreadPoolExecutor(1) as starter:

        def start() -> "Session":
            session = sandbox.session(folder=folder, stdin=Terminal(shell.ask))
            session.exec("", echo=True)
            return session

        console = starter.submit(shell.begin, policy, start)
        try:
            from proxybox.repl.prompt import Prompt, history_file, plain_output
        except ModuleNotFoundError as error:
            raise CommandError(
                f"the prompt needs {error.name}, which is not installed: pip install 'proxybox[repl]'"
            ) from None
        with plain_output(shell.screen.file):
            history = None if parsed.flag("no_history") else history_file()
            shell.prompter = prompt = Prompt(shell, vi=parsed.flag("vi"), history=history)
            console.result()
            try:
                shell.screen.say(banner(parsed), "dim")
                if prompt.warning:
                    shell.screen.note(prompt.warning)
                with quiet_keys():
                    return shell.work()
            finally:
                shell.console.close()


def banner(parsed: Parsed) -> str:
    """What stands above the first prompt."""
    from proxybox import __version__

    policy = parsed.text("policy") or "default"
    return f"proxybox {__version__}: Python in a box, policy {policy}. %help lists the commands, exit or Ctrl-D leaves."
