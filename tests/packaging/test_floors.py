"""Which rooms may import which: the rooms of each folder are on floors, and imports go down. See tools/imports.py."""

import functools
import re

import pytest

from tools import imports

README = imports.ROOT / "proxybox" / "README.md"
#: A row of the table: the floor, the room, and its purpose.
_ROW = re.compile(r"^\| (\d+) \| `([\w.]+/?)` \| (.+) \|$", re.MULTILINE)


def _floors_of_readme() -> str:
    """Returns the floors of the package itself from its README, in the form of those below."""
    floors: dict[int, list[str]] = {}
    for number, room, _ in _ROW.findall(README.read_text()):
        floors.setdefault(int(number), []).append(room.removesuffix(".py").removesuffix("/"))
    return "\n".join(" ".join(floors[number]) for number in sorted(floors, reverse=True))


#: From the top floor down; rooms on one line do not import each other.
FLOORS = {
    "proxybox": _floors_of_readme(),
    "proxybox.controller": """
        warm
        boxes
        record
        drivers
        process
        guests
        oscalls
        dispatch
        wire
        world
        exchange
        vfs
        seal
        roles
        callers errors
        abi audit calleffects costs effects faults header hostproc pidfd removal statefolder status
        perprocess
    """,
    "proxybox.controller.vfs": """
        commits pseudo
        overlay namei
        host snapshot tree
        descriptors memory streams
        inodes nodes openfiles
        pageset
        quota
    """,
}
FOLDERS = sorted(name for name, file in imports.modules().items() if file.name == "__init__.py")


@functools.cache
def graph() -> imports.Graph:
    """Returns the imports of all modules. Reading them takes seconds, so only test processes that need them do that."""
    return imports.arrows()


@pytest.mark.full
@pytest.mark.parametrize("folder", FLOORS)
def test_imports_go_down(folder: str) -> None:
    floors = [line.split() for line in FLOORS[folder].strip().splitlines()]
    height = {room: -floor for floor, line in enumerate(floors) for room in line}
    rooms = imports.rooms(graph(), folder)
    where = "proxybox/README.md" if folder == "proxybox" else "FLOORS in this file"
    missing, gone = sorted(set(rooms) - set(height)), sorted(set(height) - set(rooms))
    assert not missing, f"{where}: give {', '.join(missing)} a line, on a floor above all that it imports"
    assert not gone, f"{where}: delete the line of {', '.join(gone)}, which is no longer there"
    excused = {room for where, group in imports.CIRCLES if where == folder for room in group}
    wrong = [
        f"{folder}: {room} imports {below}"
        for room, others in rooms.items()
        for below in others
        if height[below] >= height[room] and not {room, below} <= excused
    ]
    assert not wrong


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_circles(folder: str) -> None:
    found = {(folder, tuple(group)) for group in imports.circles(imports.rooms(graph(), folder))}
    allowed = {each for each in imports.CIRCLES if each[0] == folder}
    assert found == allowed, "open the circle, or say why it is one idea: CIRCLES in tools/imports.py"
    for each in found:
        assert "circle" in (imports.ROOT / imports.CIRCLES[each]).read_text()


def test_a_circle_is_seen() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d2"}, "d2": set()}
    assert imports.circles(graph) == [["b", "c"]]
    assert imports.floors(graph) == {"a": 1, "b": 0, "c": 0, "d": 1, "d2": 0}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("def f():\n    from proxybox.controller import boxes", "proxybox.controller.boxes"),
        ("if TYPE_CHECKING:\n    import proxybox.controller.abi as a", "proxybox.controller.abi"),
        ("from proxybox.result import Result as R", "proxybox.result.Result"),
    ],
)
def test_every_kind_of_import_counts(source: str, target: str) -> None:
    assert list(imports.imported(source)) == [target]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_says_its_rule(folder: str) -> None:
    text = imports.modules()[folder].read_text()
    assert text.startswith('"""'), f"{folder}: the first line of its __init__.py says what lives there"
