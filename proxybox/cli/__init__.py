"""The command line: arguments to API calls, results to exit statuses.

Rules: only the public API is used. `proxybox run` and `repl` are time-critical, so a well-formed one is parsed
by `arguments` alone; click is loaded for everything else (help, errors, completion, the other
commands) and rich only by what draws tables.
"""

import sys
from collections.abc import Sequence

from proxybox.cli.exits import EXIT_CANCELLED, EXIT_CANNOT_RUN
from proxybox.modulepath import forget_the_current_folder

NO_CLICK = """\
proxybox: the command line needs the package {name}, which is not installed. Install it with
    pip install 'proxybox[cli]'"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (by default the process's own) and return the exit status."""
    if arguments is None:
        forget_the_current_folder()
    words = list(sys.argv[1:] if arguments is None else arguments)
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
