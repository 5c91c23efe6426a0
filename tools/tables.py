"""Tables that a program makes in a document: each is between two lines, of which the first names it."""

import re
from collections.abc import Iterable, Mapping

_BEGIN, _END = "<!-- made by {}: {} -->", "<!-- end -->"


def filled(text: str, maker: str, tables: Mapping[str, str]) -> str:
    """Returns a document with new tables of one program.

    maker: the program, as in the first line. Raises ValueError for a table without a place in the document, and
    KeyError for a place without a table.
    """
    begin = re.escape(_BEGIN.format(maker, "TABLE")).replace("TABLE", r"([\w. ]+)")
    if missing := tables.keys() - set(re.findall(begin, text)):
        name = missing.pop()
        raise ValueError(f"give the table a place: a line {_BEGIN.format(maker, name)}, and a line {_END}")
    place = re.compile(rf"^{begin}$\n.*?^{re.escape(_END)}$", re.MULTILINE | re.DOTALL)
    return place.sub(lambda found: f"{_BEGIN.format(maker, found[1])}\n\n{tables[found[1]]}\n{_END}", text)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table in Markdown."""
    head = list(head)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))
