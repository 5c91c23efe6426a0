"""`proxybox guests`: the interpreters of this machine, and whether boxes run with them."""

import json
import sys

from proxybox.cli.exits import EXIT_CANNOT_RUN
from proxybox.diagnosis import FoundGuest, guests


def report(*, as_json: bool) -> int:
    """Prints what was found; returns 0 when a program ran in one of them, else 125."""
    import attrs

    found = list(guests())
    if as_json:
        print(json.dumps([attrs.asdict(each) for each in found], indent=2))
    elif found:
        draw(found)
    else:
        print("no interpreter was found on PATH: apt install pypy3")
    return 0 if any(not each.problem for each in found) else EXIT_CANNOT_RUN


def draw(found: list[FoundGuest]) -> None:
    """Prints a row for each, and below it why it cannot be used, or where its packages lie."""
    from rich.table import Table
    from rich.text import Text

    from proxybox.terminal.tables import console

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a path can be copied from it, however long
    for each in found:
        mark = Text("no", style="red") if each.problem else Text("yes", style="green")
        what = Text(f"{each.kind} {each.version}".strip())
        if not each.problem and not each.sessions:
            what.append("\nno sessions, pools and copies", style="dim")
        where = Text(each.path)
        for words in (*each.packages, *each.warnings, *([each.problem] if each.problem else [])):
            where.append(f"\n{words}", style="dim")
        table.add_row(mark, what, where)
    console(sys.stdout).print(table)
