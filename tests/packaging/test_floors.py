"""Who may import whom: each folder's rooms stand on floors, and imports go down. See tools/imports.py."""

import functools

import pytest

from tools import imports

#: From the top floor down; rooms of one line do not import each other.
FLOORS = {
    "proxybox": """
        __main__
        cli
        classroom
        serve
        agents
        aio api evaluating shims teach
        batch
        diagnosis kernel pool remote repl
        sandbox
        records
        translated
        packages
        session
        commands errors learning modelsummary
        program result
        explanations review
        argumentchecks commits jsonvalues terminal
        controller
        policies guest madeup modulepath running worker
    """,
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
        abi audit costs effects faults header hostproc pidfd removal statefolder status
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
#: Rooms that lead back to themselves, with the file whose comment says why.
CIRCLES = {("proxybox.controller.vfs", ("inodes", "nodes", "openfiles")): "controller/vfs/nodes.py"}

FOLDERS = sorted(name for name, file in imports.modules().items() if file.name == "__init__.py")


@functools.cache
def graph() -> imports.Graph:
    """Of all modules; reading them takes seconds, which the workers that do not come here need not spend."""
    return imports.arrows()


@pytest.mark.parametrize("folder", FLOORS)
def test_imports_go_down(folder: str) -> None:
    floors = [line.split() for line in FLOORS[folder].strip().splitlines()]
    height = {room: -floor for floor, line in enumerate(floors) for room in line}
    rooms = imports.rooms(graph(), folder)
    assert set(height) == set(rooms), "the floors above name every room"
    excused = {room for (where, group), _ in CIRCLES.items() if where == folder for room in group}
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
    assert found <= set(CIRCLES), found
    for where in found:
        assert "circle" in (imports.ROOT / CIRCLES[where]).read_text()


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
