"""The command line: turns arguments into API calls, and results into exit statuses.

Rules: only the public API is used. `proxybox run` and `proxybox repl` must start fast, so well-formed ones are parsed
by arguments.py alone. click is loaded for everything else (help, errors, completion, the other commands), and rich only
by the code that draws tables or progress.
"""

import gc
import sys
import warnings
from collections.abc import Sequence

from proxybox.cli.exits import EXIT_CANCELLED, EXIT_CANNOT_RUN
from proxybox.cli.failures import complain, print_warning
from proxybox.modulepath import forget_the_current_folder

#: The number of new objects after which Python collects garbage. With the default, 700, it does so 60 times while
#: modules are loaded, and finds no garbage: this takes a twelfth of the time until a program starts.
_MADE_BEFORE_COLLECTION = 20_000

NO_CLICK = """\
proxybox: the command line needs the package {name}, which is not installed. Install it with
    pip install 'proxybox[cli]'"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line (by default that of this process) and returns the exit status."""
    if arguments is not None:
        return _command(list(arguments))
    gc.set_threshold(_MADE_BEFORE_COLLECTION)
    forget_the_current_folder()
    from proxybox.cli import streams

    streams.secure()
    warnings.showwarning = print_warning
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
    """Drops output that could not be written, so that Python does not try again and print an error at its exit."""
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
        if error.name not in ("click", "rich", "jinja2"):
            raise
        print(NO_CLICK.format(name=error.name), file=sys.stderr)
        return EXIT_CANNOT_RUN
    except KeyboardInterrupt:  # while the modules of a command are imported
        return EXIT_CANCELLED
