"""The commands as click sees them: their arguments, their help, their completion.

Rules: the declarations of a command for click are in a file for commands of its kind. The work of a command is in the
file that has its name, which is imported when the command runs. Every failure that a user can cause ends with one line
on stderr and the exit status from exits.py.
"""

import io
import sys

import click
from click.shell_completion import get_completion_class

from proxybox.cli.committing import commits_group, review, undo
from proxybox.cli.exits import EXIT_CANCELLED, EXIT_CANNOT_RUN
from proxybox.cli.installing import doctor, guests_group, kernel_group, packages_group
from proxybox.cli.policycommands import policy_group
from proxybox.cli.programs import batch_command, learn, mcp, repl, run, trace
from proxybox.cli.recording import diff, explain, replay, verify
from proxybox.cli.serving import serve_group
from proxybox.cli.teaching import classroom_group, exercise_group, grade

SHELLS = ("bash", "zsh", "fish")

MAIN_EPILOG = """`proxybox COMMAND --help` tells more, with examples.

\b
Environment:
  PROXYBOX_GUEST           the interpreter to use
  PROXYBOX_GUEST_LIBRARY   where lib-python and lib_pypy of a translated PyPy are
  PROXYBOX_INSTALL_UNCONFINED
                           1: packages are installed without Landlock and seccomp, too
  NO_COLOR, FORCE_COLOR    colours never, or always"""


def main_group() -> click.Group:
    """Makes the group of all commands."""
    group = click.Group(
        "proxybox",
        help="Run untrusted Python in a process that can do nothing but compute and ask.",
        epilog=MAIN_EPILOG,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    click.version_option(package_name="proxybox", message="%(prog)s %(version)s")(group)
    for command in (
        run, trace, learn, repl, mcp, batch_command(), serve_group, policy_group, doctor, guests_group, packages_group,
        kernel_group, grade, exercise_group, classroom_group, commits_group, review, undo, explain, replay, diff,
        verify, completion,
    ):  # fmt: skip
        group.add_command(command)
    return group


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print the shell's completion script.

    \b
    bash:  eval "$(proxybox completion bash)"           in ~/.bashrc
    zsh:   eval "$(proxybox completion zsh)"            in ~/.zshrc
    fish:  proxybox completion fish > ~/.config/fish/completions/proxybox.fish
    """
    maker = get_completion_class(shell)
    if maker is None:
        raise click.ClickException(f"click has no completion for {shell}")
    click.echo(maker(main_group(), {}, "proxybox", "_PROXYBOX_COMPLETE").source())
    return 0


def name_the_nearest(error: click.ClickException) -> None:
    """Makes the error for an unknown option suggest only the most similar option: click suggests three."""
    from proxybox.policies.errors import nearest

    if isinstance(error, click.NoSuchOption) and error.possibilities:
        error.possibilities[:] = filter(None, [nearest(error.option_name, error.possibilities)])


def run_command(words: list[str]) -> int:
    """Runs one command line with click and returns its exit status. An error of a command is printed here."""
    from proxybox.cli import streams

    try:
        status = main_group().main(words, prog_name="proxybox", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        name_the_nearest(error)
        from proxybox.terminal.harmless import harmless_lines

        said = io.StringIO()
        error.show(said)
        sys.stderr.write(harmless_lines(said.getvalue()))
        return error.exit_code
    except click.Abort:
        return EXIT_CANCELLED
    except BrokenPipeError:
        streams.forget(1)
        return EXIT_CANNOT_RUN
    except (streams.CannotWrite, ModuleNotFoundError):  # the caller handles these
        raise
    except Exception as error:
        from proxybox.cli.run import print_failure

        return print_failure(error)
    return status if isinstance(status, int) else 0
