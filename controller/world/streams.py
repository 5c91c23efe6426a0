"""The standard streams of one program, as its caller gives and takes them: one value, from the API to the world."""

from collections.abc import Callable
from typing import TypeAlias

import attrs

from proxybox.controller.world.stdin import Source

#: Is given what was printed, as it comes.
Taker: TypeAlias = Callable[[bytes], object]


@attrs.frozen(kw_only=True)
class Streams:
    """stdin: where the program reads (stdin.py); None: from nowhere, and in a session from where it did. stdout,
    stderr: are given what it prints; None: nobody is. keep: whether the Result has that, too; the end of standard error
    it always has."""

    stdin: Source | None = None
    stdout: Taker | None = None
    stderr: Taker | None = None
    keep: bool = True
