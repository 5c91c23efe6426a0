"""`proxybox packages`: lists, compiles and removes the packages that are installed for boxes."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from proxybox.cli.failures import UsageError
from proxybox.policies import PolicyError
from proxybox.policies.sizes import to_duration
from proxybox.terminal.harmless import harmless_lines

if TYPE_CHECKING:
    from proxybox.packages.cache import Cached


def show(*, as_json: bool) -> int:
    """Prints the packages in the cache."""
    from proxybox.packages.cache import cached

    _print_packages(
        list(cached()), as_json=as_json, none="none is installed: proxybox run --packages requirements.txt ..."
    )
    return 0


def compile_packages(path: Path, guest: str | None) -> int:
    """Compiles packages, and prints the folders where they are."""
    from proxybox.controller import find_guest
    from proxybox.packages.compiling import compile_all

    if not path.is_dir():
        raise UsageError(f"{path}: want a virtual environment, or a folder of packages")
    named = guest or (str(path) if (path / "pyvenv.cfg").is_file() else None)
    found = find_guest(named)
    for folder in attrs.evolve(found, packages=()).with_packages((str(path.absolute()),)).packages:
        compile_all(folder, found)
        print(f"{harmless_lines(folder)}: compiled for {found.name}")
    return 0


def prune(older_than: str, *, as_json: bool) -> int:
    """Removes packages that were not used for some time, and prints them."""
    from proxybox.packages import cache

    try:
        seconds = to_duration(older_than) or 0
    except PolicyError as error:
        raise UsageError(f"--older-than: {error}") from None
    gone = cache.prune(seconds)
    _print_packages(gone, as_json=as_json, none="nothing to remove")
    return 0


def _print_packages(found: "Sequence[Cached]", *, as_json: bool, none: str) -> None:
    if as_json:
        print(json.dumps([attrs.asdict(each) for each in found], indent=2))
        return
    if not found:
        print(none)
        return
    import datetime

    from rich.filesize import decimal
    from rich.table import Table

    from proxybox.terminal.tables import console

    table = Table.grid(padding=(0, 2))
    for each in found:
        day = datetime.datetime.fromtimestamp(each.used, tz=datetime.UTC).date().isoformat()
        table.add_row(each.guest, decimal(each.size), day, ", ".join(each.requirements), each.folder)
    console(sys.stdout).print(table)
