"""Each class has its own name, and old names are gone. See "Old and new names" in CONTRIBUTING.md."""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("controller", "policies", "proxybox", "tools")
#: Programs of exercises and courses: their names are those of the task.
PROGRAMS = ("proxybox/classroom/course/", "proxybox/teach/exercises/", "proxybox/teach/template/")
#: Names that several files declare, with the reason.
TWINS = {
    "Calls": "on_pypy.py and on_cpython.py have the same names: a guest imports the one of its own kind",
}
TABLE = (
    (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Old and new names\n")[2].partition("\n## ")[0]
)
MOVED = re.findall(r"^\| (\S+\.\w+) \| (\S+\.\w+) \|$", TABLE, re.MULTILINE)
RENAMED = [
    (place, old, new)
    for place, names in re.findall(r"^\| (\S+) \| (.* → .*) \|$", TABLE, re.MULTILINE)
    for old, new in (each.split(" → ") for each in names.split(", "))
]
#: Modules that the documentation named, and that users may import.
STILL_THERE = {"controller/warm/nursery.py"}


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Returns the syntax tree of each file of the product; the rooms controller and policies are links in proxybox."""
    files = (file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py")))
    names = {file.resolve().relative_to(ROOT).as_posix(): file for file in files}
    return {
        name: ast.parse(file.read_text(encoding="utf-8"))
        for name, file in names.items()
        if not name.startswith(PROGRAMS) and "/node_modules/" not in name
    }


def declared(tree: ast.Module) -> Iterator[str]:
    """Yields the names that a module declares at its top level."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def test_a_class_has_a_name_of_its_own() -> None:
    homes = defaultdict(list)
    for name, tree in trees().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    doubled = {name: files for name, files in homes.items() if len(files) > 1}
    for name in TWINS:
        assert name in doubled, f"{name} is declared once now: remove it from TWINS"
    wrong = [f"{name}: {', '.join(files)}" for name, files in sorted(doubled.items()) if name not in TWINS]
    assert not wrong, "give each of these classes a name that says which one it is:\n" + "\n".join(wrong)


@pytest.mark.parametrize("place", sorted({place for place, _, _ in RENAMED}))
def test_old_names_are_gone(place: str) -> None:
    here = trees() if place == "everywhere" else {place: trees()[place]}
    for file, tree in here.items():
        found = {*declared(tree)}
        for where, old, new in RENAMED:
            assert where != place or old not in found, f"{file}: {old} is called {new} now, see CONTRIBUTING.md"
            assert place == "everywhere" or where != place or new in found, f"CONTRIBUTING.md: {file} has no {new}"


def test_files_are_where_the_table_says() -> None:
    for rows in (MOVED, RENAMED):
        assert rows, "CONTRIBUTING.md has lost a table of old and new names: remove its tests with it"
    for name, new in MOVED:
        old = f"{new.rpartition('/')[0]}/{name}"
        assert (ROOT / new).is_file(), f"CONTRIBUTING.md: there is no {new}"
        assert old in STILL_THERE or not (ROOT / old).exists(), (
            f"{old} is called {new} now: put there what this one has"
        )


def test_nothing_is_called_told() -> None:
    """The word says neither what a value is nor where it comes from."""
    public = {"proxybox/agents/__init__.py", "proxybox/agents/tool.py", "proxybox/modelsummary.py"}  # `agents.told`
    wrong = [
        f"{file}:{node.lineno}"
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if file not in public
        and (
            (isinstance(node, ast.Name) and node.id == "told" and isinstance(node.ctx, ast.Store))
            or (isinstance(node, ast.arg) and node.arg == "told")
        )
    ]
    assert not wrong, "say what it is (a body, a message, a header, a configuration):\n" + "\n".join(wrong)
