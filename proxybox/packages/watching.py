"""Reports the progress of an installation."""

from collections.abc import Callable

import attrs


@attrs.frozen(kw_only=True)
class Progress:
    """How far an installation is. wheels: the number of all. size: their bytes, as far as the indexes tell them.

    fetched: bytes that have been fetched. file: the wheel that was unpacked last; "" before the first one.
    """

    wheels: int
    size: int
    fetched: int = 0
    file: str = ""


@attrs.frozen(kw_only=True)
class Watcher:
    """The functions that get the progress. tell: gets a line when a step begins. advance: gets the progress, often."""

    tell: Callable[[str], object] = lambda line: None
    advance: Callable[[Progress], object] = lambda progress: None
