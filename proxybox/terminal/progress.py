"""A progress bar, drawn by rich, which is loaded when one is shown."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from proxybox.terminal.tables import console


@contextlib.contextmanager
def shown_progress(what: str, total: int | None, done: int = 0) -> Iterator[Callable[[], None]]:
    """Shows a progress bar when standard error is a terminal; yields a function that advances it by one."""
    if not _is_terminal():
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


@contextlib.contextmanager
def shown_download() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function that shows a progress bar in bytes. It gets the description, the bytes so far, and all bytes.

    The bar disappears at the end of the block.
    """
    with contextlib.ExitStack() as shown:
        if not _is_terminal():
            yield lambda what, done, total: None
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        progress = Progress(*columns, console=console(sys.stderr), transient=True)
        task = progress.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            if not progress.live.is_started:
                shown.enter_context(progress)
            progress.update(task, description=what, completed=done, total=total or None)

        yield show


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
