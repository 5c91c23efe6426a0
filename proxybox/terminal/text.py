"""Text for people, with colours if they are wanted.

Rules: colours are used only on terminals that have them. NO_COLOR (https://no-color.org) turns them off, and
FORCE_COLOR on.
"""

import os
from typing import Final, TextIO

COLOURS: Final = {
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "bold": "1",
    "dim": "2",
}


def has_colours(file: TextIO) -> bool:
    """Whether text that is written to `file` should be coloured."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return file.isatty() and os.environ.get("TERM") != "dumb"


class Paint:
    """Colours text for one file, or leaves it unchanged."""

    def __init__(self, file: TextIO) -> None:
        self.wanted = has_colours(file)

    def __call__(self, colour: str, text: str) -> str:
        """Returns the text in one of COLOURS, if colours are wanted."""
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.wanted else text
