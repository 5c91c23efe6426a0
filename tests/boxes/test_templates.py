"""Worlds from a template: they are equal to worlds that are built singly, and filled when they are first used."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import attrs
import pytest

import proxybox
from proxybox.controller.abi import O_RDONLY
from proxybox.controller.boxes.worldbuilding import BoxFolder, WorldBuilder, WorldTemplate
from proxybox.controller.vfs.memory import MemoryDirectory, MemoryFile
from proxybox.controller.vfs.nodes import Directory, Node, RegularFile, Symlink
from proxybox.controller.vfs.tree import Tree
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.stdin import Stdin

POLICY = proxybox.Policy(
    filesystem={"mounts": [{"target": "/data/deep", "source": {"a": {"b": "c"}}, "mode": "overlay"}]}
)


@contextmanager
def made(template: WorldTemplate) -> Iterator[WorldBuilder]:
    with closing(template.make(Stdin(), OutputSink("stdout"), OutputSink("stderr"))) as builder:
        yield builder


@pytest.fixture
def template() -> Iterator[WorldTemplate]:
    with closing(WorldTemplate(POLICY, proxybox.Sandbox().guest())) as found:
        yield found


def shown(tree: Tree) -> dict[bytes, Any]:
    """All paths of a tree with status and contents, except the host's library and data about the process's time."""
    found: dict[bytes, Any] = {}
    left: list[tuple[bytes, Node]] = [(b"", tree.root)]
    while left:
        path, node = left.pop()
        status = attrs.evolve(node.stat(), dev=0, ino=0, atime_ns=0, mtime_ns=0, ctime_ns=0)
        content: Any = None
        if isinstance(node, Symlink):
            content = node.target
        elif isinstance(node, RegularFile) and not path.endswith((b"stat", b"uptime", b"loadavg", b"sched")):
            content = node.open(O_RDONLY).read(1 << 16)
        elif isinstance(node, Directory) and not node.superblock.shared:
            names = {name for name, _, _ in node.entries()} | set(tree.mounted_in(node))
            content = sorted(names)
            left += [(path + b"/" + name, tree.lookup(node, name)) for name in names]
        found[path] = status, content
    return found


def test_it_is_the_same_world(template: WorldTemplate) -> None:
    builder = WorldBuilder(POLICY, template.guest, BoxFolder())
    with closing(builder), made(template) as first, made(template) as second:
        builder.build(Stdin(), OutputSink("stdout"), OutputSink("stderr"), with_box=False)
        wanted = shown(builder.world.tree)
        assert len(wanted) > 100
        assert b"/proc/self" in wanted
        for each in (first, second):
            assert shown(each.world.tree) == wanted


def test_what_nobody_looks_at_is_not_made(template: WorldTemplate) -> None:
    with made(template) as builder:
        proc = builder.world.tree.resolve(b"/proc", builder.world.tree.root, builder.world.credentials)
        assert isinstance(proc, MemoryDirectory)
        assert hasattr(proc, "_fill")
        assert proc.children
        assert proc.children is proc.children
        assert not hasattr(proc, "_fill")
        with pytest.raises(AttributeError, match="no childs"):
            _ = proc.childs  # type: ignore[attr-defined]


def test_two_threads_fill_a_folder_once(template: WorldTemplate) -> None:
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            for _ in range(200):
                with made(template) as builder:
                    tree = builder.world.tree
                    proc = tree.resolve(b"/proc", tree.root, builder.world.credentials)
                    found = list(threads.map(lambda _, proc=proc: proc.children, range(2)))  # type: ignore[misc]
                    assert found[0] is found[1]
    finally:
        sys.setswitchinterval(switch)


def test_each_is_for_itself(template: WorldTemplate) -> None:
    """Worlds of one template are independent, in whatever order they are filled and changed."""
    with made(template) as one, made(template) as two:
        roots = [each.world.tree.root for each in (one, two)]
        etcs = [each.world.tree.resolve(b"/etc", root, each.world.credentials)
                for each, root in zip((one, two), roots, strict=True)]  # fmt: skip
        first, second = (etc.lookup(b"passwd") for etc in etcs if isinstance(etc, Directory))
        assert first is not second
        assert isinstance(first, MemoryFile)
        assert isinstance(second, MemoryFile)
        first.pwrite(b"changed", 0)
        assert not second.whole().startswith(b"changed")
        with made(template) as three:
            third = three.world.tree.resolve(b"/etc/passwd", three.world.tree.root, three.world.credentials)
            assert isinstance(third, MemoryFile)
            assert third.whole() == second.whole()


def test_a_copy_of_such_a_world_is_whole(template: WorldTemplate) -> None:
    """A session's branch is such a copy: folders that were not used before are filled on both sides separately."""
    with made(template) as trunk:
        trunk.enter(BoxFolder(files={"given": b"x"}))
        sinks = OutputSink("stdout"), OutputSink("stderr")
        with closing(trunk.copy(Stdin(), *sinks, pid=trunk.world.process.pid)) as branch:
            wanted = shown(branch.world.tree)
            assert wanted[b"/box/given"][1] == b"x"
            assert shown(trunk.world.tree) == wanted
            seen: set[int] = set()
            for each in (trunk, branch):
                proc = each.world.tree.resolve(b"/proc", each.world.tree.root, each.world.credentials)
                assert isinstance(proc, MemoryDirectory)
                nodes = {id(node) for node in proc.children.values()}
                assert not nodes & seen
                seen |= nodes


@pytest.mark.parametrize("box", ["memory", "overlay", "rw", "ro"])
def test_another_folder_stands_at_box(box: str, tmp_path: Any) -> None:
    """A world from a template already has an empty /box: a host's folder replaces it."""
    (tmp_path / "main.py").write_text("import os; print(sorted(os.listdir('.'))); open('new', 'w').write('1')")
    with proxybox.Sandbox(warm=True, filesystem={"box": box}) as sandbox:
        for _ in range(2):
            result = sandbox.run_file(tmp_path / "main.py")
            assert result.stdout == "['main.py']\n", result
            assert dict(result.files) == ({} if box in ("rw", "ro") else {"new": b"1"})
            (tmp_path / "new").unlink(missing_ok=True)
