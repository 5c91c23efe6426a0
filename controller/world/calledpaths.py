"""Follows the paths of an OS call, for interceptors (`OSCall.paths`): nothing here decides anything.

The path arguments are walked as the tree walks them (`vfs/tree.py`), from the current directory or the call's own
descriptor. Unlike there, a walk that cannot continue is not an error: the names that are left are then appended to the
path as text. A walk follows as many links as a call may follow, so that it does not end before the call's own walk.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from proxybox.controller import abi
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.nodes import Directory, Node, Symlink
from proxybox.controller.vfs.tree import MAX_SYMLINKS

if TYPE_CHECKING:
    from proxybox.controller.world.state import World


def called_paths(world: "World", paths: Mapping[str, str], arguments: Mapping[str, Any]) -> tuple[bytes, ...]:
    """Returns the absolute paths in the box that a call is about, each once.

    paths: the arguments that are paths, each with the argument from which it counts (`Row.paths`). For each path
    argument these are the path as it is written, each symbolic link on its way, and the final place, where a link at
    the end is followed, too.
    """
    found: dict[bytes, None] = {}
    for name, beginning in paths.items():
        path = arguments.get(name)
        if isinstance(path, bytes):
            found.update(dict.fromkeys(_places(world, path, arguments.get(beginning, abi.AT_FDCWD))))
            world.steps.renew()
    return tuple(found)


def _places(world: "World", path: bytes, dirfd: int) -> Iterator[bytes]:
    tree = world.tree
    current: Node = tree.root
    above: list[bytes] = []
    try:
        if path[:1] != b"/":
            file = None if dirfd == abi.AT_FDCWD else world.descriptors.get(dirfd)
            current = world.cwd if file is None else file.node
            start = tree.path_of(world.cwd) if file is None else namei.path_of(tree, file)
            above = _names(start)
    except OSError:  # no descriptor, or a folder that was removed: no file can be reached from it
        yield _joined([], _names(path))
        return
    names = _names(path)
    yield _joined(above, names)
    names.reverse()
    world.steps.left -= len(names)  # enough: a path has at most 2,048 names
    links = 0
    while names:
        name = names.pop()
        if name == b".":
            continue
        if not isinstance(current, Directory):
            break
        if name == b"..":
            current = tree.parent_of(current)
            del above[-1:]
            continue
        node = _lookup(world, current, name)
        if not isinstance(node, Symlink):
            above.append(name)
            if node is None:
                break
            current = node
            continue
        yield _joined(above, [name])
        links += 1
        try:
            target, jump = node.target, node.jump()
            further = _names(target)
            world.steps.take(len(further) + 1)
        except OSError:  # the link's target no longer has a name, or the steps are used up
            break
        if links > MAX_SYMLINKS or not target:
            break
        if jump is not None:
            current, above = jump, further
            continue
        if target[:1] == b"/":
            current, above = tree.root, []
        names += reversed(further)
    yield _joined(above, names[::-1])


def _lookup(world: "World", directory: Directory, name: bytes) -> Node | None:
    """Returns the node, or None for a name that does not exist, or that the call cannot reach."""
    try:
        return world.tree.lookup(directory, name)
    except OSError:
        return None


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name]


def _joined(above: list[bytes], names: list[bytes]) -> bytes:
    """Returns an absolute path without "." and ".."."""
    joined = above[:]
    for name in names:
        if name == b"..":
            del joined[-1:]
        elif name != b".":
            joined.append(name)
    return b"/" + b"/".join(joined)
