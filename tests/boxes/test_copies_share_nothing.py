"""Copies of worlds share nothing that can change, and are complete."""

import functools
import gc
import inspect
import os
import re
import select
import signal
import struct
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import attrs
import pytest

from proxybox.controller import abi
from proxybox.controller.boxes import copying as world_copying
from proxybox.controller.boxes import copyingfiles
from proxybox.controller.boxes.worldbuilding import BoxFolder
from proxybox.controller.costs.descriptorshare import DescriptorShare
from proxybox.controller.guests.guest import Guest
from proxybox.controller.vfs.host import library
from proxybox.controller.vfs.memory import MemoryFile
from proxybox.controller.vfs.nodes import Superblock
from proxybox.controller.vfs.openfiles import OpenFile
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.state import SignalState, World
from proxybox.controller.world.stdin import Stdin
from proxybox.policies import Policy

OLD = b"0123456789" * 1000  # two pages and a part of a third
PAGE = 4096


def pair(side: Any, name: str, *arguments: Any) -> tuple[int, int]:
    """Makes a pair by pipe, pipe2 or socketpair. Returns its two descriptors."""
    return struct.unpack("<ii", side.call(name, *arguments))


def furnish(make_side: Any, host: Path) -> Any:
    """Makes a side with an object of every kind in it."""
    (host / "sub").mkdir()
    (host / "sub" / "file").write_bytes(OLD)
    (host / "link").symlink_to("sub/file")
    mounts: list[dict[str, Any]] = [
        {"target": f"/{mode}", "source": str(host), "mode": mode} for mode in ("ro", "rw", "overlay")
    ]
    mounts += [
        {"target": "/tree", "source": {"a": {"b": "c"}}, "mode": "overlay", "size": 1 << 20},
        {"target": "/one", "source": b"one"},
        {"target": "/told", "source": functools.partial(str, "told")},
        {"target": "/usr/lib/deep/er", "source": {"x": "y"}},
    ]
    side = make_side(files={"given": OLD}, filesystem={"mounts": mounts}, randomness=3, time={"kind": "virtual"})
    side.call("mkdir", b"/tmp/folder", 0o755)
    side.put(b"/tmp/folder/file", OLD)
    side.call("link", b"/tmp/folder/file", b"/tmp/link")
    side.call("symlink", b"x" * 200, b"/tmp/symlink")
    side.put(b"/overlay/sub/file", b"written")
    side.call("symlink", b"x", b"/overlay/sub/symlink")
    side.call("rename", b"/tree/a", b"/tree/moved")
    side.put(b"/box/given", b"changed")
    side.call("unlink", b"/overlay/link")
    side.put(b"/rw/created", b"x")
    for path, flags in (
        (b"/tmp/folder/file", os.O_RDWR), (b"/tmp", os.O_DIRECTORY), (b"/", os.O_DIRECTORY), (b"/box/given", 0),
        (b"/ro/sub/file", 0), (b"/rw/created", os.O_RDWR), (b"/rw/sub", os.O_DIRECTORY), (b"/tree/moved/b", 0),
        (b"/rw/link", os.O_PATH | os.O_NOFOLLOW), (b"/overlay/sub", os.O_PATH), (b"/dev/null", os.O_RDWR),
        (b"/dev/urandom", 0), (b"/dev/tty", os.O_PATH), (b"/proc/self/fd", os.O_DIRECTORY), (b"/proc/self/status", 0),
        (b"/proc/self/fd/1", os.O_PATH | os.O_NOFOLLOW), (b"/told", 0), (b"/one", 0), (b"/usr/lib", os.O_DIRECTORY),
        (b"/usr/share/zoneinfo", os.O_DIRECTORY), (b"/etc/ld.so.cache", 0), (b"/proc/self/exe", 0),
    ):  # fmt: skip
        fd = side.open(path, flags)
        if flags & os.O_DIRECTORY:
            side.call("getdents64", fd, 1, 64)
        elif not flags & os.O_PATH:
            side.read(fd, 1)
    below = side.open(b"/overlay/sub/file")
    side.call("chdir", b"/overlay/sub")
    out, into = pair(side, "pipe", 1)
    side.write(into, b"xyz")
    one, _ = pair(side, "socketpair", 1, 1, 0, 1)
    side.write(one, b"xyz")
    event, epoll = side.call("eventfd", 1), side.call("epoll_create1", 0)
    for fd in (out, one, event, 0):
        assert side.call("epoll_ctl", epoll, 1, fd, struct.pack("<IQ", select.EPOLLIN, fd)) == 0
    side.call("memfd_create", b"m", 0)
    side.call("flock", below, 1)
    side.call("mmap", 0, PAGE, 1, abi.MAP_PRIVATE, below, 0)
    side.call("alarm", 100)
    side.call("rt_sigprocmask", abi.SIG_BLOCK, struct.pack("<Q", 1 << signal.SIGUSR1 - 1), 0, 8)
    side.call("rt_sigaction", signal.SIGUSR1, abi.SIGACTION.pack(0x1234, 0, 0, 0), 0, 8)
    side.call("tgkill", side.world.process.pid, side.world.thread.tid, signal.SIGUSR1)
    side.world.exceeded.add("something")
    side.world.thread.slice = None
    side.call("futex", 0x1000, abi.FUTEX_WAIT, 0, None, 2, 0)
    return side


#: Types that both sides may share: they never change, or belong to no box. Objects behind them are not checked.
SHARED = (
    Policy, Guest, BoxFolder, library.LibraryMount, library.LibraryFile, library.LibraryDirectory,
    library.LibrarySymlink, types.ModuleType, type, types.BuiltinFunctionType, types.CodeType,
    functools.partial,  # the policy's function above
    DescriptorShare,  # belongs to the process
    os.stat_result, bytes, str, int, float, frozenset,
)  # fmt: skip


def behind(thing: Any) -> Iterable[Any]:
    if isinstance(thing, SHARED) or (isinstance(thing, Superblock) and thing.shared):
        return ()
    if isinstance(thing, types.FunctionType):
        return [cell.cell_contents for cell in thing.__closure__ or ()]
    if isinstance(thing, WeakValueDictionary):
        return [thing.data, *thing.values()]
    if isinstance(thing, WeakSet):
        return [thing.data, *thing]
    return gc.get_referents(thing)


def reachable(*roots: Any) -> dict[int, Any]:
    """All objects that can be reached from `roots`, by their ids."""
    found: dict[int, Any] = {}
    left = list(roots)
    while left:
        thing = left.pop()
        if id(thing) not in found:
            found[id(thing)] = thing
            left.extend(behind(thing))
    return found


def is_harmless(thing: Any) -> bool:
    """Whether both sides may share an object."""
    if isinstance(thing, SHARED) or thing is None or (isinstance(thing, Superblock) and thing.shared):
        return True
    if isinstance(thing, types.FunctionType):
        return not thing.__closure__
    if isinstance(thing, tuple):
        return all(is_harmless(item) for item in thing)
    frozen = attrs.has(type(thing)) and type(thing).__setattr__ is not object.__setattr__
    return frozen and all(is_harmless(getattr(thing, field.name)) for field in attrs.fields(type(thing)))


def test_nothing_that_changes_is_reachable_from_both_sides(make_side: Any, tmp_path: Path) -> None:
    side = furnish(make_side, tmp_path)
    branch = side.copy()
    ours, theirs = reachable(side.builder, side.world), reachable(branch.builder, branch.world)
    pages: set[int] = set()
    for node in ours.values():
        if isinstance(node, MemoryFile) and node._shared:
            pages |= {id(node._pages), *map(id, node._pages.values())}
    common = [thing for key, thing in ours.items() if key in theirs and key not in pages]
    assert {type(thing).__name__ for thing in common if not is_harmless(thing)} == set()
    assert id(side.world.policy) in {id(thing) for thing in common}
    assert sum(isinstance(thing, OpenFile) for thing in theirs.values()) > 30
    # Shared contents are not changed in place, but replaced by copies.
    written = next(node for node in theirs.values() if isinstance(node, MemoryFile) and node._size == len(OLD))
    written.pwrite(b"x", 0)
    assert id(written._pages) not in pages
    assert id(written._pages[0]) not in pages


def fields_of(thing: Any) -> dict[str, Any]:
    slots = {name for base in type(thing).__mro__ for name in getattr(base, "__slots__", ()) if name != "__weakref__"}
    slots |= set(getattr(thing, "__dict__", ()))
    return {name: getattr(thing, name) for name in slots if hasattr(thing, name)}


#: Fields that are different objects in a copy.
OTHERS = {
    ("Tree", "_followed"), ("Tree", "_unfollowed"), ("Tree", "_cached_for"), ("Buffer", "start"), ("Buffer", "data"),
    ("Clock", "_cpu_before_ns"), ("MemoryFile", "_own"), ("OverlayFile", "_own"), ("World", "on_exit"),
    ("World", "grant_library"), ("World", "_next_tid"), ("ProcessState", "pid"), ("ProcessState", "pgid"),
    ("GuestThread", "tid"), ("ProcFacts", "pid"), ("HostRoot", "fd"), ("HostFile", "_fd"),
    ("Changes", "_sources"), ("Changes", "everything"),
    *((kind, name) for kind in ("HostFile", "HostDirectory", "HostSymlink") for name in ("_seen", "_seen_at")),
}  # fmt: skip


def test_every_field_is_copied(make_side: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a class gets a new field, this test fails until its copies have the field, too."""
    side = furnish(make_side, tmp_path)
    kept: list[copyingfiles.Copier] = []
    finish = copyingfiles.Copier.finish
    monkeypatch.setattr(copyingfiles.Copier, "finish", lambda copier: (finish(copier), kept.append(copier))[0])
    branch = side.copy()
    ours = reachable(side.builder, side.world)
    copies = {key: new for key, new in kept[0]._copies.items() if key in ours and new is not ours[key]}
    assert id(side.world) in copies
    copies[id(side.world.signals)] = branch.world.signals
    copies[id(side.world.process)] = branch.world.process
    for key, new in copies.items():
        old = ours[key]
        if isinstance(old, Stdin | OutputSink | dict):
            continue
        was, now = fields_of(old), fields_of(new)
        kind = type(old).__name__
        assert type(new) is type(old)
        assert set(now) >= set(was), kind
        for name, value in was.items():
            if (kind, name) in OTHERS or (kind == "MemoryDirectory" and old.name == b"100" and name == "name"):
                continue
            if isinstance(value, bool | int | str | bytes | None):
                assert now[name] == value, (kind, name)
            elif id(value) in copies:
                assert now[name] is copies[id(value)], (kind, name)
            elif isinstance(value, dict | list | set):
                assert len(now[name]) == len(value), (kind, name)


@pytest.mark.parametrize("kind", [World, SignalState])
def test_somebody_has_thought_of_every_field_of_a_world(kind: type) -> None:
    """Copies of worlds are made by constructors, where a forgotten field would get its default value."""
    text = inspect.getsource(world_copying)
    drivers = {"on_exit", "on_fork", "grant_library", "make_room", "port", "_world"}
    fields = {field.name for field in attrs.fields(kind)} if attrs.has(kind) else set(kind.__slots__)  # type: ignore[attr-defined]
    assert {name for name in fields - drivers if not re.search(rf"\b{name}\b", text)} == set()


def test_worlds_are_collected_one_by_one(side: Any) -> None:
    """No object of one side refers to the other side."""
    kinds = World, MemoryFile
    gc.collect()
    before = sum(isinstance(thing, kinds) for thing in gc.get_objects())
    builder = side.builder.copy(Stdin(), OutputSink("stdout"), OutputSink("stderr"), pid=200)
    builder.close()
    del builder
    gc.collect()
    assert sum(isinstance(thing, kinds) for thing in gc.get_objects()) == before
