"""Tables, drawn by rich: it knows how wide terminals show a text, and cuts cells when a terminal is too narrow.

Rules: rich is not loaded before a table is shown. Text in cells is taken literally: rich's markup and emoji codes have
no effect. Output to a file or a pipe has no colours, no trailing spaces and no limit of width, so that it is the same
everywhere.
"""

import io
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, TextIO, TypeAlias

from proxybox.terminal.text import has_colours

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: A text, or a pair of a rich style (a colour, "bold", "dim") and a text.
Cell: TypeAlias = str | tuple[str, str]
#: The width for output to a file, whose lines can have any length.
ANY_WIDTH = 1 << 20
_GAP = 2


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    foot: Sequence[str] = (),
    *,
    right: Collection[int] = (),
    coloured: bool = False,
    columns: int = ANY_WIDTH,
    shrinking: Collection[int] = (),
    least: int = 10,
) -> str:
    """Draws a table with a rule below its head and above its foot; without a head, only its rows.

    right: the columns, by number from 0, that are aligned to the right (figures). coloured: whether styles are used.
    columns: the most columns of the terminal that the table uses; for this, cells of the `shrinking` columns are cut,
    but not below `least`.
    """
    from rich.rule import Rule
    from rich.table import Table

    heads, feet = [_text(name) for name in head], [_text(name) for name in foot]
    cells = [[_text(cell) for cell in row] for row in rows]
    rule = [Rule(characters="-", style="none") for _ in head]
    texts = [each for each in (heads, *cells, feet) if each]
    drawn, taken = Table.grid(padding=(0, _GAP, 0, 0)), -_GAP
    for index in range(max(map(len, texts), default=0)):
        widest = max(row[index].cell_len for row in texts)
        if index in shrinking:
            short = min(widest, max(least, heads[index].cell_len if heads else 0))
        else:
            short = widest
        drawn.add_column(justify="right" if index in right else "left", min_width=short, no_wrap=short == widest)
        taken += short + _GAP
    for row in (heads, rule) if heads else ():
        drawn.add_row(*row)
    for row in cells:
        drawn.add_row(*row)
    for row in (rule, feet) if feet else ():
        drawn.add_row(*row)
    shown = io.StringIO()
    _console(shown, coloured=coloured, width=max(columns, taken)).print(drawn, crop=False)
    return "\n".join(line.rstrip() for line in shown.getvalue().removesuffix("\n").split("\n"))


def _text(cell: Cell) -> "Text":
    """Returns a cell on one line: text that does not fit is cut, and not wrapped. Only the text has the style."""
    from rich.text import Text

    style, text = ("", cell) if isinstance(cell, str) else cell
    return Text.assemble((text, style), no_wrap=True, overflow="ellipsis")


def console(file: TextIO) -> "Console":
    """Returns a rich console for a file; it uses colours if our other text in this file does."""
    return _console(file, coloured=has_colours(file))


def _console(file: TextIO, *, coloured: bool, width: int | None = None) -> "Console":
    from rich.console import Console

    return Console(
        file=file,
        width=width,
        height=None if width is None else 1 << 10,
        force_terminal=None if width is None else False,
        color_system="standard" if coloured else None,
        no_color=not coloured,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
