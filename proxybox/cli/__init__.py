"""The command line: arguments to API calls, results to exit statuses.

Rules: only the public API is used. `proxybox run` and `repl` are time-critical, so a well-formed one is parsed
by `arguments` alone; click is loaded for everything else (help, errors, completion, the other
commands) and rich only by what draws tables.
"""

import sys
from collections.abc import Sequence

from proxybox.cli.exits import EXIT_CANCELLED, EXIT_CANNOT_RUN
from proxybox.cli.failures import complain
from proxybox.modulepath import forget_the_current_folder

NO_CLICK = """\
proxybox: the command line needs the package {name}, which is not installed. Install it with
    pip install 'proxybox[cli]'"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default the process's own) and return the exit status."""
    if arguments is not None:
        return _command(list(arguments))
    forget_the_current_folder()
    from proxybox.cli import streams

    streams.secure()
    try:
        status = _command(sys.argv[1:])
        sys.stdout.flush()
        sys.stderr.flush()
    except streams.CannotWrite as error:
        status = error.status
        try:
            complain(error)
        except streams.CannotWrite:
            streams.forget(2)
    finally:
        _let_go()
    return status


def _let_go() -> None:
    """What could not be written is not tried again, and not complained of by Python at its end."""
    from proxybox.cli import streams

    for fd, file in ((1, sys.stdout), (2, sys.stderr)):
        try:
            file.flush()
        except streams.CannotWrite:
            streams.forget(fd)


def _command(words: list[str]) -> int:
    try:
        if words[:1] == ["run"]:
            from proxybox.cli.arguments import RUN, parse

            parsed = parse(words[1:], RUN)
            if parsed is not None:
                from proxybox.cli.run import run

                return run(parsed)
        if words[:1] == ["repl"]:
            from proxybox.cli.arguments import REPL, parse

            parsed = parse(words[1:], REPL, program=False)
            if parsed is not None:
                from proxybox.cli.repl import repl

                return repl(parsed)
        from proxybox.cli.app import run_command

        return run_command(words)
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        print(NO_CLICK.format(name=error.name), file=sys.stderr)
        return EXIT_CANNOT_RUN
    except KeyboardInterrupt:  # while a command is loaded
        return EXIT_CANCELLED
