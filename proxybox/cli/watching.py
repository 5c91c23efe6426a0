"""Reports installations on standard error: with lines, and with a progress bar on a terminal."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from proxybox.terminal.harmless import harmless_lines
from proxybox.terminal.progress import shown_download

if TYPE_CHECKING:
    from proxybox.packages.watching import Watcher


@contextlib.contextmanager
def watched() -> "Iterator[Watcher]":
    """Yields the Watcher for an installation of packages."""
    from proxybox.packages.watching import Watcher

    with shown_download() as show:
        yield Watcher(
            tell=lambda line: print(f"proxybox: {harmless_lines(line)}", file=sys.stderr, flush=True),
            advance=lambda progress: show(progress.file or "fetching packages", progress.fetched, progress.size),
        )
