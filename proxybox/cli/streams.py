"""The standard streams of a program that runs in a box.

Rules: bytes go out as they come, past Python's own buffers. What goes to a terminal is made
harmless first, unless the policy says raw.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

Write = Callable[[bytes], object]


def writer(fd: int, escapes: str) -> Write:
    """A function that writes all of its bytes to the descriptor `fd`.

    escapes: the policy's word (output.escapes): "raw", "neutralise", or "auto" for terminals alone.
    The function raises BrokenPipeError when nobody reads.
    """

    def write_all(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    if escapes == "raw" or (escapes == "auto" and not os.isatty(fd)):
        return write_all
    from proxybox.controller.output import TerminalFilter

    harmless = TerminalFilter()
    return lambda data: write_all(harmless.feed(data))


def standard_input() -> Any:
    """What the program reads as its standard input: ours, or nothing where it is closed."""
    return None if sys.stdin is None else getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
