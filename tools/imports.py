#!/usr/bin/env python3
"""Prints which modules import which, from the sources alone: for each folder its rooms, floors, arrows and circles.

usage: tools/imports.py [FOLDER] [--arrows]

A room is an entry of a folder: a file, or a folder with everything below it. An arrow leads from one room to another if
a file of the first imports a file of the second: at its top, within a function, or for types only. The floor of a room
is the length of its longest path of arrows. A circle is a group of rooms whose arrows lead back to themselves.
"""

import ast
import signal
import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Folders at the top of the tree, with their packages. Folders to which a symbolic link leads are read only once.
PACKAGES = {"proxybox": "proxybox", "controller": "proxybox.controller", "policies": "proxybox.policies"}
#: Files of submissions and exercises.
NOT_OURS = ("proxybox/classroom/course", "proxybox/teach/exercises", "proxybox/teach/template")
#: Rooms that may form a circle: the package, and these rooms of it, with the file that explains it.
CIRCLES = {("proxybox.controller.vfs", ("inodes", "nodes", "openfiles")): "controller/vfs/README.md"}

Graph = dict[str, set[str]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Returns every module by its name."""
    found = {}
    for folder, package in PACKAGES.items():
        for file in sorted((root / folder).rglob("*.py")):
            place = file.relative_to(root)
            is_seen_by_a_link = any((root / above).is_symlink() for above in list(place.parents)[:-1])
            if is_seen_by_a_link or str(place).startswith(NOT_OURS):
                continue
            parts = (*package.split("."), *place.with_suffix("").parts[1:])
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(source: str) -> Iterator[str]:
    """Yields the full names of the modules and objects that a source imports; an object's begins with its module's."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(root: Path = ROOT) -> Graph:
    """Returns for each module the modules that it imports.

    The exports of a package count as imports from their own module.
    """
    known = modules(root)
    exported = {name: dict(_homes(name, file)) for name, file in known.items() if file.name == "__init__.py"}
    graph: Graph = {}
    for name, file in known.items():
        graph[name] = set()
        if exported.get(name):
            continue  # it only has a table of names, and loads them when they are used
        for target in imported(file.read_text(encoding="utf-8")):
            package, _, last = target.rpartition(".")
            target = exported.get(package, {}).get(last, target)
            while target and target not in known:
                target = target.rpartition(".")[0]
            if target not in ("", "proxybox", name):
                graph[name].add(target)
    return graph


def _homes(package: str, file: Path) -> Iterator[tuple[str, str]]:
    """Yields the names that a package exports, each with the module that defines it (the package's table _HOMES)."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            for home, names in ast.literal_eval(node.value).items():
                module = home if home.startswith("proxybox.") else f"{package}.{home}"
                yield from ((name, module) for name in names)


def rooms(graph: Mapping[str, set[str]], package: str) -> Graph:
    """Returns the rooms of `package`, each with the rooms that it imports there."""
    prefix = package + "."

    def room(module: str) -> str | None:
        return module[len(prefix) :].partition(".")[0] if module.startswith(prefix) else None

    found: Graph = {}
    for module, targets in graph.items():
        here = room(module)
        if here is not None:
            mine = found.setdefault(here, set())
            mine.update(there for there in map(room, targets) if there is not None and there != here)
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Returns the groups of rooms each of which leads to every other one of its group."""
    reach = {room: _reached(graph, room) for room in graph}
    groups = {frozenset(other for other in reach[room] if room in reach[other]) | {room} for room in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        room = waiting.pop()
        if room not in found:
            found.add(room)
            waiting.extend(graph.get(room, ()))
    return found


def floors(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Returns the floor of each room, from 0. Rooms of one circle have the same floor."""
    group_of = {room: (room,) for room in graph}
    for group in circles(graph):
        group_of.update(dict.fromkeys(group, tuple(group)))
    above = {group: set[tuple[str, ...]]() for group in group_of.values()}
    for room, targets in graph.items():
        above[group_of[room]] |= {group_of[there] for there in targets} - {group_of[room]}
    height: dict[tuple[str, ...], int] = {}
    for group in TopologicalSorter(above).static_order():
        height[group] = 1 + max((height[below] for below in above[group]), default=-1)
    return {room: height[group] for room, group in group_of.items()}


def main(arguments: list[str]) -> None:
    wanted = [word for word in arguments if not word.startswith("-")]
    graph = arrows()
    packages = ["proxybox", *sorted(name for name, file in modules().items() if file.name == "__init__.py")[1:]]
    for package in packages:
        folder = next(
            (f"{here}{package[len(name) :].replace('.', '/')}" for here, name in reversed(PACKAGES.items())
             if f"{package}.".startswith(f"{name}."))
        )  # fmt: skip
        if wanted and folder.rstrip("/") not in [word.rstrip("/") for word in wanted]:
            continue
        inside = rooms(graph, package)
        if not inside:
            continue
        storeys, round_trips = floors(inside), circles(inside)
        count = sum(map(len, inside.values()))
        print(
            f"{folder + '/':36} {len(inside):3} rooms on {max(storeys.values()) + 1:2} floors, {count:4} arrows, "
            f"{len(round_trips)} circles"
        )
        for group in round_trips:
            why = CIRCLES.get((package, tuple(group)), "not allowed: open it")
            print(f"    circle: {', '.join(group)} ({why})")
        if "--arrows" in arguments:
            for room in sorted(inside, key=lambda room: (-storeys[room], room)):
                print(f"    {storeys[room]:2} {room}: {', '.join(sorted(inside[room])) or '-'}")
    if not wanted:
        storeys = floors(graph)
        print(
            f"{'all files':36} {len(graph):3} rooms on {max(storeys.values()) + 1:2} floors, "
            f"{sum(map(len, graph.values())):4} arrows, {len(circles(graph))} circles"
        )


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the reader may close the pipe early
    main(sys.argv[1:])
