"""`proxybox guests`: the interpreters of this machine, whether boxes run with them, and how one is installed."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from proxybox.cli.exits import EXIT_CANNOT_RUN
from proxybox.cli.run import interrupted
from proxybox.diagnosis import FoundGuest, guests, tried

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest
    from proxybox.packages.watching import Watcher


def report(*, as_json: bool) -> int:
    """Prints the interpreters; returns 0 when a program ran in one of them, otherwise 125."""
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
    """Prints a row for each, and below it its packages, its warnings, and why it cannot be used."""
    from rich.table import Table
    from rich.text import Text

    from proxybox.terminal.tables import console

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # so that long paths can be copied
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


def install(archives: Sequence[Path]) -> int:
    """Installs a translated PyPy from these archives, or the published one, and tries it."""

    def work(watcher: "Watcher") -> "Guest":
        from proxybox.translated.installing import PUBLISHED, local
        from proxybox.translated.installing import install as put

        return put(local(archives) if archives else PUBLISHED, watcher)

    return _install(work)


def build(source: Path, *, check_only: bool) -> int:
    """Translates a PyPy, installs and tries it. check_only: only prints what is missing for the translation."""

    def work(watcher: "Watcher") -> "Guest | None":
        from proxybox.translated import building

        plan = building.plan(source)
        if check_only:
            watcher.tell(f"{plan.source} can be translated by {plan.python}")
            return None
        return building.build(plan, watcher)

    return _install(work)


def _install(work: "Callable[[Watcher], Guest | None]") -> int:
    """Installs, and returns 0 when a program runs in the installed interpreter, otherwise 125."""
    from proxybox.cli.watching import watched

    try:
        with watched() as watcher:
            made = work(watcher)
        if made is None:
            return 0
        found = tried(made.executable)
    except KeyboardInterrupt:
        return interrupted()
    draw([found])
    if not found.problem:
        print("proxybox run --guest translated script.py")
    return EXIT_CANNOT_RUN if found.problem else 0


def remove() -> int:
    """Removes the translated PyPy that was installed."""
    from proxybox.terminal.harmless import harmless_lines
    from proxybox.translated import installing

    folder = installing.remove()
    print(harmless_lines(f"removed {folder}") if folder else "none is installed")
    return 0
