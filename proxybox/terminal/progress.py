"""A progress bar, drawn by rich, which is loaded when one is shown."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from proxybox.terminal.tables import console


@contextlib.contextmanager
def shown_progress(what: str, total: int | None, done: int = 0) -> Iterator[Callable[[], None]]:
    """Shows a progress bar when standard error is a terminal; yields a function that advances it by one."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console(sys.stderr), transient=True) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda: progress.advance(task)
