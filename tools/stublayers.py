#!/usr/bin/env python3
"""Checks the layers of the stub: which of its files uses which names of which other file, from the object files.

usage: tools/stublayers.py

A layer is a header, stub_LAYER.h, which includes that of the layer below it. A file belongs to the layer whose header
it includes. It may use names that files of its own layer or of a lower one define, and no file may use itself
indirectly. Prints the layers. If a file breaks these rules, or proxybox/guest/README.md shows other layers, it prints
what to do, and exits with status 1.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from proxybox.guest import build
from tools.imports import circles

_INCLUDED = re.compile(r'^#include "stub_(\w+)\.h"$', re.MULTILINE)

#: For each file the files that it uses, with the names that it uses of each.
Uses = dict[str, dict[str, list[str]]]


def layers(sources: Path) -> dict[str, list[str]]:
    """Returns the layers from the top down, each with its files. Raises ValueError if they are not a single stack."""
    below = {}
    for header in sources.glob("stub_*.h"):
        included = _INCLUDED.findall(header.read_text(encoding="utf-8"))
        if len(included) > 1:
            raise ValueError(f"{header.name} includes the headers of several layers: leave the one right below it")
        below[header.stem.removeprefix("stub_")] = included[0] if included else ""
    tops = below.keys() - set(below.values())
    order = sorted(tops)
    while order and below.get(order[-1]):
        order.append(below[order[-1]])
    if len(tops) != 1 or set(order) != set(below):
        raise ValueError("the headers stub_*.h are no single stack: each includes the one right below it, and no other")
    files: dict[str, list[str]] = {layer: [] for layer in order}
    for source in sorted(sources.glob("stub*.c")):
        included = _INCLUDED.findall(source.read_text(encoding="utf-8"))
        if len(included) != 1 or included[0] not in files:
            headers = " and ".join(included) or "no layer"
            raise ValueError(f"{source.name} includes the header of {headers}: include that of its own layer alone")
        files[included[0]].append(source.name)
    return files


def uses(sources: Path) -> Uses:
    """Compiles the files, and returns which file uses which names of which other file."""
    nm = build.find_program("nm")
    if nm is None:
        raise build.BuildError("proxybox: nm was not found; it comes with the compiler (apt install binutils)")
    with tempfile.TemporaryDirectory() as folder:

        def symbols(source: Path) -> dict[str, str]:
            made = Path(folder, source.with_suffix(".o").name)
            flags = [flag for flag in build.STUB_FLAGS if flag != "-shared"]
            build.run_compiler([*build.find_compiler(), *flags, "-c", "-o", str(made), str(source)])
            symbols = subprocess.run([nm, "-P", made], capture_output=True, text=True, check=True).stdout
            return {name: kind for name, kind, *_ in map(str.split, symbols.splitlines())}

        files = sorted(sources.glob("stub*.c"))
        with ThreadPoolExecutor() as pool:
            found = dict(zip((file.name for file in files), pool.map(symbols, files), strict=True))
    homes = {
        name: file
        for file, names in found.items()
        for name, kind in names.items()
        if kind.isupper() and kind not in "UW"
    }
    made: Uses = {}
    for file, names in found.items():
        made[file] = {}
        for name, kind in names.items():
            if kind in "Uw" and name in homes:
                made[file].setdefault(homes[name], []).append(name)
    return made


def complaints(files: Mapping[str, list[str]], used: Uses) -> list[str]:
    """Returns a message with advice for each use of a higher layer, and for each circle."""
    layer_of = {file: layer for layer, names in files.items() for file in names}
    found = []
    for file, others in used.items():
        for other, names in others.items():
            if list(files).index(layer_of[other]) < list(files).index(layer_of[file]):
                found.append(
                    f"{file} ({layer_of[file]}) uses {', '.join(sorted(names))} of {other} ({layer_of[other]}), which "
                    "stands further up: move what is used to a lower layer, or have it passed down at the start"
                )
    for group in circles({file: set(others) for file, others in used.items()}):
        found.append(f"{', '.join(group)} lead back to themselves: move a function, or pass it down at the start")
    return found


def picture(files: Mapping[str, list[str]]) -> str:
    """Returns the layers in the form of README.md."""
    width = max(map(len, files))
    return "\n".join(f"    {layer:{width}}  {'  '.join(map(_short, names))}" for layer, names in files.items())


def _short(file: str) -> str:
    return file.removesuffix(".c").removeprefix("stub_")


def check(sources: Path) -> list[str]:
    """Returns all messages about the stub whose files are in this folder."""
    try:
        files = layers(sources)
    except ValueError as error:
        return [str(error)]
    found = complaints(files, uses(sources))
    drawn = picture(files)
    if drawn not in (sources / "README.md").read_text(encoding="utf-8"):
        found.append(f"README.md shows other layers: put these into it\n\n{drawn}\n")
    return found


if __name__ == "__main__":
    if found := check(build.SOURCES):
        sys.exit("\n".join(f"stub: {each}" for each in found))
    print(picture(layers(build.SOURCES)))
