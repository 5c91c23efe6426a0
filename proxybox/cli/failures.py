"""Failures of the command itself: each is one line on stderr and an exit status."""

import sys
from typing import Final

from proxybox.cli.exits import EXIT_CANNOT_RUN, EXIT_USAGE

_FIRST: Final = "proxybox: "


class CommandError(Exception):
    """The command cannot do its work; the text says why."""

    status = EXIT_CANNOT_RUN
    quietly = False


class UsageError(CommandError):
    """The command line is invalid; the text says why."""

    status = EXIT_USAGE


def print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Prints a warning on stderr in the command's own form; `warnings.showwarning` is called like this."""
    from proxybox.terminal.harmless import harmless_lines

    print(_FIRST + harmless_lines(str(message)), file=sys.stderr)


def complain(error: Exception) -> int:
    """Prints an error on stderr and returns its exit status. Names in it, also of files, may be untrusted."""
    from proxybox.terminal.harmless import harmless_lines

    text = harmless_lines(str(error)) or type(error).__name__
    if not (isinstance(error, CommandError) and error.quietly):
        print(_FIRST + text.removeprefix(_FIRST), file=sys.stderr)
    return error.status if isinstance(error, CommandError) else EXIT_CANNOT_RUN
