"""`proxybox doctor`: prints whether boxes can run here, with which defences, and what to do when they cannot."""

import json
import sys
from typing import TYPE_CHECKING, Any

from proxybox.cli.exits import EXIT_CANNOT_RUN

if TYPE_CHECKING:
    from rich.table import Table

    from proxybox.diagnosis import Diagnosis


def report(guest: str | None, *, as_json: bool) -> int:
    """Prints the diagnosis of this host; returns 0 when a box can run, otherwise 125."""
    from proxybox.diagnosis import diagnose

    diagnosis = diagnose(guest)
    if as_json:
        print(json.dumps(as_dict(diagnosis), indent=2))
    else:
        draw(diagnosis)
    return EXIT_CANNOT_RUN if diagnosis.problems else 0


def as_dict(diagnosis: "Diagnosis") -> dict[str, Any]:
    """Returns the diagnosis as JSON-compatible values."""
    import attrs

    guest = diagnosis.guest
    return {
        "ok": not diagnosis.problems,
        "guest": None if guest is None else str(guest),
        "layers": [attrs.asdict(layer) for layer in diagnosis.layers],
        "problems": list(diagnosis.problems),
        "warnings": list(diagnosis.warnings),
    }


def draw(diagnosis: "Diagnosis") -> None:
    """Prints the diagnosis for people."""
    from rich.text import Text

    from proxybox.terminal.tables import console

    out = console(sys.stdout)
    out.print("interpreter", style="bold")
    found = Text(str(diagnosis.guest)) if diagnosis.guest else Text("none found", style="red")
    out.print(Text("  ") + found, soft_wrap=True)
    for title, mandatory in (("needed at every start", True), ("further layers", False)):
        layers = [layer for layer in diagnosis.layers if layer.mandatory is mandatory]
        if layers:
            out.print(f"\n{title}", style="bold")
            out.print(layer_table(layers))
    out.print()
    for problem in diagnosis.problems:
        out.print(Text("problem: ", style="red") + Text(problem), soft_wrap=True)
    for warning in diagnosis.warnings:
        out.print(Text("warning: ", style="yellow") + Text(warning), soft_wrap=True)
    if not diagnosis.problems:
        out.print("Boxes can run here.", style="green")


def layer_table(layers: list[Any]) -> "Table":
    """Returns a table with a row for each layer: whether it exists, its details, and advice if it is missing."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for layer in layers:
        style = "green" if layer.available else "red" if layer.mandatory else "yellow"
        words = Text(layer.detail or "")
        if not layer.available and layer.advice:
            words.append(f"\n{layer.advice}" if layer.detail else layer.advice, style="dim")
        mark = Text("  yes" if layer.available else "  no", style=style)
        table.add_row(mark, Text(layer.name, no_wrap=True), words)
    return table
