"""Text for people: colours where they are wanted, and plain tables.

Rules: colours only on terminals that have them; NO_COLOR (https://no-color.org) turns them off and
FORCE_COLOR on.
"""

import os
import re
from collections.abc import Sequence
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
_CODES: Final = re.compile("\x1b\\[[0-9;]*m")


def has_colours(file: TextIO) -> bool:
    """Whether text on `file` should be coloured."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return file.isatty() and os.environ.get("TERM") != "dumb"


class Paint:
    """Colours text for one file, or leaves it alone."""

    def __init__(self, file: TextIO) -> None:
        self.wanted = has_colours(file)

    def __call__(self, colour: str, text: str) -> str:
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.wanted else text


def width(text: str) -> int:
    """How many columns a text takes, colours not counted."""
    return len(_CODES.sub("", text))


def fitted(
    head: Sequence[str], rows: Sequence[Sequence[str]], columns: int, shrinking: Sequence[int], least: int = 10
) -> list[list[str]]:
    """The rows of a table of at most so many columns, as far as that can be: cells of the `shrinking` columns, the
    widest first, are cut, to no less than `least`. Cells that are cut must have no colours."""
    widths = [max(width(row[i]) for row in (head, *rows)) for i in range(len(head))]
    room = columns - 2 * (len(head) - 1) - sum(widths)
    while room < 0 and (able := [i for i in shrinking if widths[i] > max(least, width(head[i]))]):
        widths[max(able, key=lambda i: widths[i])] -= 1
        room += 1
    return [
        [
            cell[: widths[i] - 1] + "…" if i in shrinking and width(cell) > widths[i] else cell
            for i, cell in enumerate(row)
        ]
        for row in rows
    ]


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    foot: Sequence[str] = (),
    *,
    right: int = 0,
) -> str:
    """A table with a rule below its head and above its foot; the first `right` columns are
    numbers and stand to the right."""
    everything = [head, *rows, *([foot] if foot else [])]
    widths = [max(width(row[i]) for row in everything) for i in range(len(head))]

    def one(row: Sequence[str]) -> str:
        cells = []
        for index, (cell, columns) in enumerate(zip(row, widths, strict=True)):
            pad = " " * (columns - width(cell))
            cells.append(pad + cell if index < right else cell + pad)
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * columns for columns in widths)
    lines = [one(head), rule, *map(one, rows)]
    return "\n".join([*lines, rule, one(foot)] if foot else lines)
