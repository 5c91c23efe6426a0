"""Copies of worlds: they are equal at first, and neither side sees changes of the other."""

import errno
import os
import select
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxybox.controller import abi
from proxybox.controller.boxes import copyingfiles
from proxybox.controller.boxes.worldbuilding import BoxFolder, WorldBuilder
from proxybox.controller.effects import Blocked
from proxybox.controller.errors import CannotCopy
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.status import Status
from proxybox.controller.vfs.host import boundary, library
from proxybox.controller.vfs.host.nodes import HostNode
from proxybox.controller.vfs.inodes import Inode
from proxybox.controller.vfs.memory import MemoryFile
from proxybox.controller.vfs.nodes import Directory, Node, RegularFile, Symlink
from proxybox.controller.vfs.openfiles import OpenFile, StreamOpenFile
from proxybox.controller.vfs.overlay.layered import Layered, LayeredDirectory
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.state import Ended
from proxybox.controller.world.stdin import Stdin
from proxybox.policies import Policy

CREATE = os.O_CREAT | os.O_RDWR
PAGE = 4096


def size_of(side: Any, path: bytes) -> tuple[int, int]:
    """The size of a file in bytes and in blocks."""
    status = abi.STAT.unpack(side.call("stat", path, 1))
    return status[8], status[10]


def pair(side: Any, name: str, *arguments: Any) -> tuple[int, int]:
    """Makes a pair by pipe, pipe2 or socketpair. Returns its two descriptors."""
    return struct.unpack("<ii", side.call(name, *arguments))


# --- contents of files ------------------------------------------------------------------------------------------------

OLD = b"0123456789" * 1000  # two pages and a part of a third
WRITES: dict[str, Callable[[Any, bytes], Any]] = {
    "a few bytes": lambda side, path: side.call("pwrite64", side.open(path, os.O_RDWR), b"new", 3, 10),
    "a page": lambda side, path: side.call("pwrite64", side.open(path, os.O_RDWR), b"n" * PAGE, PAGE, PAGE),
    "over three pages": lambda side, path: side.call("pwrite64", side.open(path, os.O_RDWR), b"n" * 5000, 5000, 4000),
    "at the end": lambda side, path: side.write(side.open(path, os.O_WRONLY | os.O_APPEND), b"new"),
    "emptied": lambda side, path: side.open(path, os.O_WRONLY | os.O_TRUNC),
    "made shorter": lambda side, path: side.call("truncate", path, 5000),
    "made shorter at a page": lambda side, path: side.call("truncate", path, PAGE),
    "made shorter in its last page": lambda side, path: side.call("truncate", path, 9000),
    "made longer": lambda side, path: side.call("truncate", path, 20_000),
    "space set aside": lambda side, path: side.call("fallocate", side.open(path, os.O_RDWR), 0, 30_000, 10_000),
    "replaced": lambda side, path: side.put(path, b"new"),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("path", [b"/tmp/file", b"/box/made", b"/box/given", b"/over/file", b"/host/file"])
@pytest.mark.parametrize("writer", ["trunk", "branch"])
def test_what_one_side_writes_the_other_does_not_see(
    make_side: Any, tmp_path: Path, path: bytes, name: str, writer: str
) -> None:
    (tmp_path / "file").write_bytes(OLD)
    mounts = [
        {"target": "/over", "source": {"file": OLD}, "mode": "overlay"},
        {"target": "/host", "source": str(tmp_path), "mode": "overlay"},
    ]
    trunk = make_side(files={"given": OLD}, filesystem={"mounts": mounts})
    if path in (b"/tmp/file", b"/box/made"):
        for piece in (OLD[:5000], OLD[5000:]):  # pages of both kinds
            trunk.put(path, piece, os.O_CREAT | os.O_APPEND)
    branch = trunk.copy()
    one, other = (trunk, branch) if writer == "trunk" else (branch, trunk)
    before = size_of(other, path)
    WRITES[name](one, path)
    assert size_of(other, path) == before
    assert other.get(path) == OLD
    changed = one.get(path)
    if name != "space set aside":
        assert changed != OLD
    # And again, now that one side has its own pages; then with the sides exchanged.
    WRITES["a few bytes"](one, path)
    assert other.get(path) == OLD
    WRITES["over three pages"](other, path)
    assert one.get(path)[:13] == (changed[:10].ljust(10, b"\0") + b"new")
    assert other.get(path) == OLD[:4000] + b"n" * 5000 + OLD[9000:]
    assert (tmp_path / "file").read_bytes() == OLD


def test_copies_of_copies_go_on_by_themselves(side: Any) -> None:
    side.put(b"/tmp/x", OLD)
    sides = [side]
    for number in range(4):
        sides.append(sides[-1].copy(pid=200 + number))
        for index, each in enumerate(sides):
            each.call("pwrite64", each.open(b"/tmp/x", os.O_RDWR), b"%d%d" % (number, index), 2, 0)
    assert [each.get(b"/tmp/x")[:2] for each in sides] == [b"30", b"31", b"32", b"33", b"34"]
    assert {each.get(b"/tmp/x")[2:] for each in sides} == {OLD[2:]}


def test_contents_are_not_copied_until_they_are_written(side: Any) -> None:
    side.put(b"/tmp/x", OLD)
    branch = side.copy()
    nodes = [each.world.tree.resolve(b"/tmp/x", each.world.cwd, each.world.credentials) for each in (side, branch)]
    assert nodes[0] is not nodes[1]
    assert nodes[0]._pages is nodes[1]._pages
    branch.call("pwrite64", branch.open(b"/tmp/x", os.O_RDWR), b"new", 3, 0)
    assert nodes[0]._pages[1] is nodes[1]._pages[1]


def test_written_pages_are_copied_once_only(side: Any) -> None:
    side.put(b"/tmp/x", b"few")
    branch = side.copy()
    fd = branch.open(b"/tmp/x", os.O_WRONLY)
    pages = set()
    for _ in range(3):
        branch.write(fd, b"y")
        pages.add(id(branch.world.descriptors.get(fd).node._pages[0]))
    assert len(pages) == 1


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_names_are_each_sides_own(side: Any) -> None:
    for name in (b"stays", b"goes", b"moves"):
        side.put(b"/tmp/" + name, name)
    side.call("mkdir", b"/tmp/folder", 0o755)
    branch = side.copy()
    branch.call("unlink", b"/tmp/goes")
    branch.call("rename", b"/tmp/moves", b"/tmp/folder/moved")
    side.put(b"/tmp/new", b"trunk's")
    side.call("chmod", b"/tmp/stays", 0o600)
    assert side.names(b"/tmp") == [b"folder", b"goes", b"moves", b"new", b"stays"]
    assert branch.names(b"/tmp") == [b"folder", b"stays"]
    assert (side.names(b"/tmp/folder"), branch.names(b"/tmp/folder")) == ([], [b"moved"])
    assert abi.STAT.unpack(branch.call("stat", b"/tmp/stays", 1))[3] & 0o777 == 0o644


def test_status_is_as_it_was(side: Any) -> None:
    side.put(b"/tmp/file", OLD)
    side.call("symlink", b"file", b"/tmp/link")
    side.call("symlink", b"x" * 200, b"/tmp/long")
    side.call("mkdir", b"/tmp/dir", 0o2750)
    branch = side.copy()
    for path in (b"/", b"/tmp", b"/tmp/file", b"/tmp/link", b"/tmp/long", b"/tmp/dir", b"/dev/null", b"/etc/passwd"):
        assert side.call("lstat", path, 1) == branch.call("lstat", path, 1)
    assert branch.get(b"/tmp/link") == OLD


def test_what_the_tree_remembers_does_not_lead_into_the_other_world(side: Any) -> None:
    side.put(b"/tmp/x", b"old")
    assert side.get(b"/tmp/x") == b"old"
    assert side.call("access", b"/tmp/y", 0) == -errno.ENOENT
    branch = side.copy()
    branch.put(b"/tmp/x", b"new")
    branch.put(b"/tmp/y", b"new")
    assert branch.get(b"/tmp/x") == branch.get(b"/tmp/y") == b"new"
    assert side.get(b"/tmp/x") == b"old"
    assert side.call("access", b"/tmp/y", 0) == -errno.ENOENT


@pytest.mark.parametrize("folder", [b"/tmp/", b"/box/"])
def test_hard_links_stay_links_to_one_file(side: Any, folder: bytes) -> None:
    side.put(folder + b"a", b"old")
    side.call("link", folder + b"a", folder + b"b")
    branch = side.copy()
    branch.put(folder + b"a", b"branch")
    assert branch.get(folder + b"b") == b"branch"
    assert side.get(folder + b"b") == b"old"
    branch.call("unlink", folder + b"a")
    assert abi.STAT.unpack(branch.call("stat", folder + b"b", 1))[2] == 1
    assert abi.STAT.unpack(side.call("stat", folder + b"b", 1))[2] == 2


@pytest.mark.parametrize("folder", [b"/tmp/", b"/box/"])
def test_files_that_were_removed_while_open(side: Any, folder: bytes) -> None:
    before = side.world.quota.used_bytes, side.world.quota.used_inodes
    fd = side.open(folder + b"gone", CREATE)
    side.write(fd, OLD)
    side.call("unlink", folder + b"gone")
    branch = side.copy()
    assert branch.call("pread64", fd, 1, 10, 0) == OLD[:10]
    side.call("close", fd)
    assert (side.world.quota.used_bytes, side.world.quota.used_inodes) == before
    assert branch.world.quota.used_bytes > before[0]
    assert branch.call("pread64", fd, 1, 10, 0) == OLD[:10]
    branch.call("close", fd)
    assert (branch.world.quota.used_bytes, branch.world.quota.used_inodes) == before


@pytest.mark.parametrize("folder", [b"/tmp/", b"/box/"])
def test_working_directories(side: Any, folder: bytes) -> None:
    side.call("mkdir", folder + b"a", 0o755)
    side.call("chdir", folder + b"a")
    branch = side.copy()
    branch.put(b"relative", b"x")
    assert branch.names(folder + b"a") == [b"relative"]
    assert side.names(folder + b"a") == []
    side.call("chdir", b"/")
    assert branch.call("getcwd", 1, 4096) == folder + b"a\0"
    branch.call("unlink", b"relative")
    branch.call("rmdir", folder + b"a")
    twig = branch.copy(201)
    assert branch.call("getcwd", 1, 4096) == twig.call("getcwd", 1, 4096) == -errno.ENOENT


def test_a_folder_of_an_overlay_that_is_held_is_the_one_that_is_found(make_side: Any, tmp_path: Path) -> None:
    """While it is open, it is used in place of the folder below, and must not be made twice."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"below")
    side = make_side(folder=str(tmp_path))
    side.call("chdir", b"/box/sub")
    fd = side.open(b"file")
    branch = side.copy()
    for each in (side, branch):
        world = each.world
        assert world.tree.resolve(b"/box/sub", world.tree.root, world.credentials) is world.cwd
        assert world.tree.resolve(b"file", world.cwd, world.credentials) is world.descriptors.get(fd).node
    branch.put(b"/box/sub/file", b"written")
    assert branch.read(fd, 100) == b"written"
    assert side.read(fd, 100) == b"below"
    branch.call("rename", b"/box/sub", b"/box/moved")
    assert branch.call("getcwd", 1, 4096) == b"/box/moved\0"
    assert side.call("getcwd", 1, 4096) == b"/box/sub\0"


def test_mounts_stay_where_they_are(make_side: Any) -> None:
    home = b"/home/user/in"
    mounts = [
        {"target": home.decode(), "source": {"a": "b"}},
        {"target": home.decode() + "/deep/er", "source": b"single"},
    ]
    side = make_side(filesystem={"mounts": mounts})
    branch = side.copy()
    assert branch.get(home + b"/a") == b"b"
    assert branch.get(home + b"/deep/er") == b"single"
    assert branch.call("open", home + b"/a", os.O_WRONLY, 0) == -errno.EROFS
    assert side.get(b"/proc/mounts") == branch.get(b"/proc/mounts")
    assert branch.call("rmdir", home) == -errno.EBUSY


def test_functions_of_the_policy_are_asked_by_both(make_side: Any) -> None:
    asked: list[None] = []

    def seen() -> str:
        asked.append(None)
        return f"answer {len(asked)}"

    side = make_side(filesystem={"mounts": [{"target": "/told", "source": seen}]})
    fd = side.open(b"/told")
    branch = side.copy()
    assert branch.read(fd, 100) == side.read(fd, 100) == b"answer 1"
    assert (branch.get(b"/told"), side.get(b"/told")) == (b"answer 2", b"answer 3")


# --- quotas and changes -----------------------------------------------------------------------------------------------


def test_quotas_are_each_sides_own(make_side: Any) -> None:
    mounts = [{"target": "/small", "size": 8192, "files": 10}]
    side = make_side(limits={"disk": 1 << 20, "files": 50}, filesystem={"mounts": mounts})
    side.put(b"/tmp/x", bytes(OLD))
    side.put(b"/small/x", b"1" * PAGE)
    branch = side.copy()
    assert branch.builder.quota is branch.world.quota is not side.world.quota
    used = side.world.quota.used_bytes
    assert branch.world.quota.used_bytes == used
    branch.put(b"/small/y", b"2" * PAGE)
    assert branch.call("write", branch.open(b"/small/z", CREATE), b"3", 1) == -errno.ENOSPC
    assert branch.builder.quota.exceeded
    assert not side.builder.quota.exceeded
    assert side.world.quota.used_bytes == used
    side.put(b"/small/other", b"2" * PAGE)
    while side.call("open", b"/tmp/%d" % side.world.quota.used_inodes, CREATE, 0o644) >= 0:
        pass
    assert side.world.quota.used_inodes == side.world.quota.inodes
    assert branch.open(b"/tmp/room", CREATE) > 0
    branch.call("unlink", b"/tmp/x")
    assert branch.world.quota.used_bytes == used + PAGE - 3 * PAGE


def changed(side: Any) -> dict[str, tuple[str, bytes | None]]:
    return {change.name: (change.kind, change.content) for found in side.builder.changes() for change in found.changes}


def test_changes_are_each_sides_own(make_side: Any, tmp_path: Path) -> None:
    for name in ("kept", "edited", "gone", "later"):
        (tmp_path / name).write_text(name)
    side = make_side(folder=str(tmp_path), files={"given": b"given"})
    side.put(b"/box/edited", b"before")
    side.call("unlink", b"/box/gone")
    side.call("mkdir", b"/box/dir", 0o755)
    before = changed(side)
    assert before == {
        "dir": ("added", None),
        "edited": ("modified", b"before"),
        "gone": ("deleted", None),
    }
    branch = side.copy()
    assert changed(branch) == changed(side) == before
    branch.put(b"/box/dir/new", b"branch")
    branch.put(b"/box/gone", b"back")
    branch.call("rename", b"/box/later", b"/box/now")
    side.put(b"/box/edited", b"after")
    assert changed(side) == {**before, "edited": ("modified", b"after")}
    assert changed(branch) == {
        **before,
        "dir/new": ("added", b"branch"),
        "gone": ("modified", b"back"),
        "later": ("deleted", None),
        "now": ("added", b"later"),
    }


def test_one_sides_changes_are_written_back(make_side: Any, tmp_path: Path) -> None:
    for name in ("kept", "edited", "gone"):
        (tmp_path / name).write_text(name)
    side = make_side(folder=str(tmp_path))
    side.put(b"/box/edited", b"trunk")
    branch = side.copy()
    side.builder.close()
    branch.put(b"/box/edited", b"branch")
    branch.put(b"/box/new", b"branch's")
    branch.call("unlink", b"/box/gone")
    (found,) = branch.builder.changes()
    assert [change.name for change in found.commit()] == ["edited", "gone", "new"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "edited": "branch",
        "kept": "kept",
        "new": "branch's",
    }


# --- host folders -----------------------------------------------------------------------------------------------------


def host_side(make_side: Any, folder: Path, mode: str) -> Any:
    return make_side(filesystem={"mounts": [{"target": "/host", "source": str(folder), "mode": mode}]})


@pytest.mark.parametrize("mode", ["ro", "rw", "overlay"])
@pytest.mark.parametrize("first", ["trunk", "branch"])
def test_closing_one_side_leaves_the_others_host_files_open(
    make_side: Any, tmp_path: Path, mode: str, first: str
) -> None:
    (tmp_path / "file").write_bytes(OLD)
    trunk = host_side(make_side, tmp_path, mode)
    fd, folder = trunk.open(b"/host/file"), trunk.open(b"/host", os.O_DIRECTORY)
    branch = trunk.copy()
    closed, other = (trunk, branch) if first == "trunk" else (branch, trunk)
    closed.builder.close()
    assert other.read(fd, 10) == OLD[:10]
    assert other.call("openat", folder, b"file", os.O_RDONLY, 0) > folder
    assert other.get(b"/host/file") == OLD
    assert closed.call("open", b"/host/file", os.O_RDONLY, 0) == -errno.EBADF


def test_no_host_descriptor_is_left_open(make_side: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    trunk = host_side(make_side, tmp_path, "ro")
    trunk.open(b"/host/file")
    before = len(os.listdir("/proc/self/fd"))
    branch = trunk.copy()
    assert len(os.listdir("/proc/self/fd")) > before
    branch.builder.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_both_sides_write_to_one_host_folder_on_their_own_account(make_side: Any, tmp_path: Path) -> None:
    trunk = host_side(make_side, tmp_path, "rw")
    fd = trunk.open(b"/host/file", CREATE)
    trunk.write(fd, OLD)
    used = trunk.world.quota.used_bytes
    branch = trunk.copy()
    branch.write(fd, b"more")
    assert (tmp_path / "file").read_bytes() == OLD + b"more"
    assert trunk.read(fd, 10) == b"more"  # one file of the host, but two offsets
    branch.call("truncate", b"/host/file", 0)
    assert branch.world.quota.used_bytes < used
    assert trunk.world.quota.used_bytes == used


def test_host_files_that_are_removed_while_open_in_a_copy(make_side: Any, tmp_path: Path) -> None:
    trunk = host_side(make_side, tmp_path, "rw")
    inodes = trunk.world.quota.used_inodes
    fd = trunk.open(b"/host/file", CREATE)
    branch = trunk.copy()
    branch.call("unlink", b"/host/file")
    assert branch.world.quota.used_inodes == inodes + 1  # it exists while it is open
    branch.call("close", fd)
    assert branch.world.quota.used_inodes == inodes
    assert trunk.world.quota.used_inodes == inodes + 1
    trunk.call("close", fd)
    assert trunk.world.quota.used_inodes == inodes


def test_a_single_host_file(make_side: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    trunk = host_side(make_side, tmp_path / "file", "rw")
    branch = trunk.copy()
    trunk.builder.close()
    assert branch.get(b"/host") == OLD


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_numbers_offsets_and_flags(side: Any) -> None:
    side.put(b"/tmp/x", OLD)
    fd = side.open(b"/tmp/x", os.O_RDWR | os.O_CLOEXEC)
    twin = side.call("dup2", fd, 40)
    side.read(fd, 100)
    side.call("close", 0)
    branch = side.copy()
    assert list(branch.world.descriptors) == list(side.world.descriptors)
    assert [branch.world.descriptors.cloexec(each) for each in (fd, twin)] == [True, False]
    assert branch.read(fd, 10) == OLD[100:110]
    assert branch.read(twin, 10) == OLD[110:120]  # one description, one offset
    assert side.read(twin, 10) == OLD[100:110]  # here there are two
    branch.call("fcntl", fd, abi.F_SETFL, (os.O_NONBLOCK | os.O_APPEND, None))
    assert branch.call("fcntl", twin, abi.F_GETFL, (0, None)) & os.O_APPEND
    assert not side.call("fcntl", fd, abi.F_GETFL, (0, None)) & os.O_APPEND
    assert branch.open(b"/tmp/x") == side.open(b"/tmp/x") == 0
    branch.call("close", fd)
    assert branch.call("lseek", twin, 0, os.SEEK_CUR) == 120
    assert side.call("lseek", fd, 0, os.SEEK_CUR) == 110
    branch.call("close", twin)
    assert branch.read(twin, 1) == -errno.EBADF


def test_paths_without_an_open_file(side: Any) -> None:
    side.put(b"/tmp/x", b"x")
    fd = side.open(b"/tmp/x", os.O_PATH)
    link = side.open(b"/proc/self/fd/%d" % fd, os.O_PATH | os.O_NOFOLLOW)
    branch = side.copy()
    assert branch.read(fd, 1) == -errno.EBADF
    assert branch.call("readlinkat", link, b"", 1, 100) == b"/tmp/x"


def test_where_a_directory_was_read_to(side: Any) -> None:
    for number in range(20):
        side.put(b"/tmp/%02d" % number, b"")
    fd = side.open(b"/tmp", os.O_DIRECTORY)
    first = side.call("getdents64", fd, 1, 300)
    branch = side.copy()
    side.put(b"/tmp/new", b"")
    rest = [side.call("getdents64", fd, 1, 10_000), branch.call("getdents64", fd, 1, 10_000)]
    assert rest[0] == rest[1] != first
    branch.call("lseek", fd, 0, os.SEEK_SET)
    side.call("lseek", fd, 0, os.SEEK_SET)
    assert b"new" in side.call("getdents64", fd, 1, 10_000)
    assert b"new" not in branch.call("getdents64", fd, 1, 10_000)
    room = branch.world.tree.listings.room
    branch.call("close", fd)
    assert branch.world.tree.listings.room == room + 22
    assert side.world.tree.listings.room == room - 1


def test_directories_with_mounts_in_them(side: Any) -> None:
    fd = side.open(b"/", os.O_DIRECTORY)
    branch = side.copy()
    assert b"box" in branch.call("getdents64", fd, 1, 10_000)
    root = branch.world.descriptors.get(fd)
    assert root._mounted[b"tmp"] is branch.world.tree.resolve(b"/tmp", branch.world.cwd, branch.world.credentials)


def test_pipes_with_what_is_in_them(side: Any) -> None:
    out, into = pair(side, "pipe", 1)
    side.write(into, b"before")
    side.read(out, 2)
    branch = side.copy()
    branch.write(into, b" branch")
    side.write(into, b" trunk")
    assert branch.read(out, 100) == b"fore branch"
    assert side.read(out, 100) == b"fore trunk"
    assert isinstance(branch.read(out, 1), Blocked)
    branch.call("close", into)
    assert branch.read(out, 1) == b""
    assert isinstance(side.read(out, 1), Blocked)
    side.call("close", out)
    assert side.write(into, b"x") == -errno.EPIPE


def test_sizes_of_pipes(side: Any) -> None:
    out, into = pair(side, "pipe2", 1, os.O_NONBLOCK)
    side.call("fcntl", into, abi.F_SETPIPE_SZ, (1 << 20, None))
    assert side.write(into, b"x" * (1 << 20)) == 1 << 20
    enlarged = side.world.anonymous.pipe_bytes
    branch = side.copy()
    assert branch.write(into, b"x") == -errno.EAGAIN
    assert branch.world.anonymous.pipe_bytes == enlarged > 0
    branch.call("close", into)
    branch.call("close", out)
    assert branch.world.anonymous.pipe_bytes == 0
    assert side.world.anonymous.pipe_bytes == enlarged


def test_a_pipe_opened_anew(side: Any) -> None:
    out, into = pair(side, "pipe", 1)
    again = side.open(b"/proc/self/fd/%d" % into, os.O_WRONLY)
    branch = side.copy()
    branch.call("close", into)
    branch.write(again, b"through the other end")
    assert branch.read(out, 100) == b"through the other end"
    assert isinstance(side.read(out, 1), Blocked)
    more = branch.open(b"/proc/self/fd/%d" % out, os.O_WRONLY)
    branch.write(more, b"and a third")
    assert branch.read(out, 100) == b"and a third"


def test_connected_streams(side: Any) -> None:
    one, other = pair(side, "socketpair", 1, 1, 0, 1)
    side.write(one, b"hello")
    side.call("shutdown", other, 1)
    branch = side.copy()
    assert branch.read(other, 100) == side.read(other, 100) == b"hello"
    assert branch.read(one, 100) == b""
    assert branch.write(other, b"x") == -errno.EPIPE
    branch.call("close", other)
    assert branch.write(one, b"x") == -errno.EPIPE
    assert side.write(one, b"x") == 1


def test_event_counters(side: Any) -> None:
    fd = side.call("eventfd2", 3, os.O_NONBLOCK | 1)
    branch = side.copy()
    assert [struct.unpack("<Q", branch.read(fd, 8))[0] for _ in range(3)] == [1, 1, 1]
    assert branch.read(fd, 8) == -errno.EAGAIN
    assert side.read(fd, 8) == struct.pack("<Q", 1)


def epoll_wait(side: Any, fd: int) -> list[tuple[int, int]]:
    """The events that are ready, as (events, data)."""
    found = side.call("epoll_wait", fd, 1, 10, 0)
    return [] if found == 0 else list(struct.iter_unpack("<IQ", found))


def test_epoll_instances(side: Any) -> None:
    out, into = pair(side, "pipe", 1)
    other, _ = pair(side, "pipe", 1)
    epoll = side.call("epoll_create1", 0)
    for fd, events in ((out, select.EPOLLIN), (other, select.EPOLLIN | select.EPOLLONESHOT), (1, select.EPOLLOUT)):
        assert side.call("epoll_ctl", epoll, 1, fd, struct.pack("<IQ", events, fd)) == 0
    branch = side.copy()
    assert branch.world.epoll_watches == 3
    branch.write(into, b"x")
    assert epoll_wait(branch, epoll) == [(select.EPOLLIN, out), (select.EPOLLOUT, 1)]
    assert epoll_wait(side, epoll) == [(select.EPOLLOUT, 1)]
    event = struct.pack("<IQ", select.EPOLLIN, 7)
    assert branch.call("epoll_ctl", epoll, 1, out, event) == -errno.EEXIST
    assert branch.call("epoll_ctl", epoll, 3, out, event) == 0
    assert (select.EPOLLIN, 7) in epoll_wait(branch, epoll)
    branch.call("close", out)
    assert (branch.world.epoll_watches, side.world.epoll_watches) == (2, 3)
    branch.call("close", epoll)
    assert (branch.world.epoll_watches, side.world.epoll_watches) == (0, 3)
    side.write(into, b"x")
    assert (select.EPOLLIN, out) in epoll_wait(side, epoll)


def test_edges_that_were_reported_are_not_reported_again(side: Any) -> None:
    out, into = pair(side, "pipe", 1)
    epoll = side.call("epoll_create1", 0)
    side.call("epoll_ctl", epoll, 1, out, struct.pack("<IQ", select.EPOLLIN | select.EPOLLET, out))
    side.write(into, b"x")
    assert len(epoll_wait(side, epoll)) == 1
    branch = side.copy()
    assert epoll_wait(branch, epoll) == []
    branch.write(into, b"x")
    assert len(epoll_wait(branch, epoll)) == 1
    assert epoll_wait(side, epoll) == []


def test_locks(side: Any) -> None:
    one, other = side.open(b"/tmp/lock", CREATE), side.open(b"/tmp/lock", CREATE)
    exclusive, unlock = 2 | 4, 8
    assert side.call("flock", one, exclusive) == 0
    branch = side.copy()
    assert branch.call("flock", other, exclusive) == -errno.EWOULDBLOCK
    assert branch.call("flock", one, exclusive) == 0
    branch.call("flock", one, unlock)
    assert branch.call("flock", other, exclusive) == 0
    assert side.call("flock", other, exclusive) == -errno.EWOULDBLOCK
    side.call("close", one)
    assert side.call("flock", other, exclusive) == 0
    branch.call("close", other)
    assert branch.world.flocks == {}
    assert len(side.world.flocks) == 1


def test_mappings(side: Any) -> None:
    fd = side.open(b"/tmp/x", CREATE)
    side.write(fd, OLD)
    number = side.call("mmap", 0, PAGE, 3, abi.MAP_SHARED, fd, 0)
    side.call("close", fd)
    branch = side.copy()
    assert branch.call("pwrite64", number, b"mapped", 6, 0) == 6
    assert branch.get(b"/tmp/x")[:6] == b"mapped"
    assert side.get(b"/tmp/x") == OLD
    branch.call("close", number)
    assert branch.call("pread64", number, 1, 1, 0) == -errno.EBADF
    assert side.call("pread64", number, 1, 5, 0) == OLD[:5]


def test_files_without_a_name(side: Any) -> None:
    memory = side.call("memfd_create", b"m", 0)
    unnamed = side.open(b"/tmp", os.O_TMPFILE | os.O_RDWR)
    for fd in (memory, unnamed):
        side.write(fd, b"old")
    branch = side.copy()
    for fd in (memory, unnamed):
        branch.write(fd, b" new")
        assert branch.call("pread64", fd, 1, 100, 0) == b"old new"
        assert side.call("pread64", fd, 1, 100, 0) == b"old"


# --- /dev and /proc ---------------------------------------------------------------------------------------------------


def test_standard_streams_are_the_copys(side: Any) -> None:
    again = side.open(b"/dev/stdout", os.O_WRONLY)
    side.write(1, b"trunk ")
    branch = side.copy(stdin=b"given")
    assert branch.read(0, 100) == b"given"
    assert branch.get(b"/dev/stdin") == b""
    for fd in (1, again, branch.open(b"/dev/stdout", os.O_WRONLY)):
        branch.write(fd, b"branch ")
    branch.write(2, b"error")
    assert branch.world.stdout.getvalue() == b"branch branch branch "
    assert branch.world.stderr.getvalue() == b"error"
    side.write(again, b"only")
    assert side.world.stdout.getvalue() == b"trunk only"


def test_output_limits_end_the_side_that_meets_them(make_side: Any) -> None:
    side = make_side(output={"limit": 1024, "on_excess": "end"})
    output = side.world.policy.output
    builder = side.builder.copy(Stdin(), OutputSink("stdout", output), OutputSink("stderr", output), pid=200)
    builder.world.stdout.write(b"x" * 2000)
    assert builder.world.ending is not None
    assert builder.world.exceeded == {"output"}
    assert side.world.ending is None
    assert side.world.exceeded == set()
    builder.close()


def test_open_devices(make_side: Any) -> None:
    side = make_side(randomness=7)
    opened = {
        name: side.open(b"/dev/" + name, os.O_RDWR)
        for name in (b"null", b"zero", b"full", b"urandom", b"random")
    }  # fmt: skip
    branch = side.copy()
    assert branch.read(opened[b"null"], 10) == b""
    assert branch.read(opened[b"zero"], 2) == bytes(2)
    assert branch.write(opened[b"full"], b"x") == -errno.ENOSPC
    draws = [each.read(opened[name], 8) for each in (side, branch) for name in (b"urandom", b"random")]
    assert draws[:2] == draws[2:]
    assert draws[0] != draws[1]


def test_proc_tells_of_the_copy(side: Any) -> None:
    old = side.world.process.pid
    side.call("chdir", b"/tmp")
    status = side.open(b"/proc/self/status")
    folder, fds = side.open(b"/proc/self", os.O_DIRECTORY), side.open(b"/proc/self/fd", os.O_DIRECTORY)
    branch = side.copy(pid=321)
    assert branch.call("readlink", b"/proc/self", 1, 100) == b"321"
    assert branch.call("readlink", b"/proc/thread-self", 1, 100) == b"321/task/321"
    assert b"\nPid:\t321\n" in branch.get(b"/proc/self/status")
    assert b"\nPid:\t321\n" in branch.get(b"/proc/321/task/321/status")
    assert b"\nPid:\t%d\n" % old in branch.read(status, 10_000)  # as when it was opened
    assert branch.call("access", b"/proc/%d" % old, 0) == -errno.ENOENT
    assert branch.names(b"/proc") == sorted(b"321" if name == b"%d" % old else name for name in side.names(b"/proc"))
    branch.call("chdir", b"/box")
    assert branch.call("readlink", b"/proc/self/cwd", 1, 100) == b"/box"
    assert side.call("readlink", b"/proc/self/cwd", 1, 100) == b"/tmp"
    branch.call("fchdir", folder)
    assert branch.call("getcwd", 1, 100) == b"/proc/321\0"
    mark = branch.open(b"/tmp/mark", CREATE)
    assert b"%d" % mark in branch.names(b"/proc/self/fd")
    assert b"%d" % mark in [name for name, _, _ in branch.world.descriptors.get(fds).entries()]
    assert mark not in side.world.descriptors
    assert side.call("readlink", b"/proc/self", 1, 100) == b"%d" % old
    branch.write(branch.open(b"/proc/self/fd/%d" % mark, os.O_WRONLY), b"by its link")
    assert branch.get(b"/tmp/mark") == b"by its link"


def test_proc_is_made_where_a_program_looks_into_it(side: Any) -> None:
    """Most programs never do that, and it is two fifths of a world."""

    def is_made(of: Any) -> bool:
        return of.world.tree.mounted_in(of.world.tree.root)[b"proc"].filling is None

    branch = side.copy(pid=321)
    assert not is_made(side)
    assert not is_made(branch)
    assert branch.call("readlink", b"/proc/self", 1, 100) == b"321"
    assert (is_made(side), is_made(branch)) == (False, True)
    names = sorted(b"321" if name == b"%d" % side.world.process.pid else name for name in side.names(b"/proc"))
    assert branch.names(b"/proc") == branch.copy(pid=321).names(b"/proc") == names
    assert side.copy(pid=7).call("readlink", b"/proc/self", 1, 100) == b"7"


def test_the_status_of_proc_is_as_if_it_had_been_made(make_side: Any) -> None:
    looked_first, looked_later = make_side(time={"kind": "virtual"}), make_side(time={"kind": "virtual"})
    looked_first.names(b"/proc")
    assert looked_first.call("stat", b"/proc", 1) == looked_later.call("stat", b"/proc", 1)


# --- the process ------------------------------------------------------------------------------------------------------


def test_ids(side: Any) -> None:
    old = side.world.process.pid
    branch = side.copy(pid=321)
    assert (branch.call("getpid"), branch.call("gettid"), branch.call("getpgid", 0)) == (321, 321, 321)
    assert branch.call("getsid", 0) == side.call("getsid", 0)
    assert branch.call("getppid") == side.call("getppid")
    assert side.call("getpid") == old
    assert branch.world.allocate_thread().tid == 322
    side.world.process.pgid = 55
    assert side.copy().call("getpgid", 0) == 55


def test_masks_limits_and_the_terminal(side: Any) -> None:
    side.call("umask", 0o077)
    side.world.process.rlimits[abi.RLIMIT_NOFILE] = (100, 200)
    side.world.termios = b"t" * len(side.world.termios)
    side.world.stdout.winsize = (1, 2)
    side.world.thread_limit = 1
    branch = side.copy()
    assert branch.world.thread_limit == 1
    branch.world.process.rlimits[abi.RLIMIT_NOFILE] = (5, 5)
    assert side.world.process.rlimits[abi.RLIMIT_NOFILE] == (100, 200)
    assert branch.world.termios == side.world.termios
    assert branch.world.stdout.winsize == (1, 2)
    assert (branch.call("umask", 0), branch.call("umask", 0), side.call("umask", 0)) == (0o077, 0, 0o077)


def test_signals(side: Any) -> None:
    handler = abi.SIGACTION.pack(0x1234, 0, 0, 0)
    side.call("rt_sigaction", signal.SIGUSR1, handler, 0, 8)
    side.call("rt_sigprocmask", abi.SIG_BLOCK, struct.pack("<Q", 1 << signal.SIGUSR1 - 1), 0, 8)
    side.world.thread.altstack = abi.STACK_T.pack(4096, 0, 0, 8192)
    side.call("tgkill", side.world.process.pid, side.world.thread.tid, signal.SIGUSR1)
    branch = side.copy()
    assert branch.world.thread.altstack == side.world.thread.altstack
    assert branch.world.signals.pending[0].thread is branch.world.thread
    branch.call("rt_sigprocmask", abi.SIG_UNBLOCK, struct.pack("<Q", 1 << signal.SIGUSR1 - 1), 0, 8)
    assert [each.number for each in branch.world.signals.outbox] == [signal.SIGUSR1]
    assert side.world.signals.outbox == []
    assert len(side.world.signals.pending) == 1
    branch.call("rt_sigaction", signal.SIGUSR1, abi.SIGACTION.pack(abi.SIG_IGN, 0, 0, 0), 0, 8)
    assert side.world.signals.handler(signal.SIGUSR1) == 0x1234
    branch.call("kill", branch.world.process.pid, abi.SIGTERM)
    assert branch.world.ending is not None
    assert side.world.ending is None


def test_alarms_are_kept(make_side: Any) -> None:
    side = make_side(time={"kind": "virtual"})
    side.call("rt_sigaction", abi.SIGALRM, abi.SIGACTION.pack(0x1234, 0, 0, 0), 0, 8)
    side.call("alarm", 10)
    branch = side.copy()
    assert branch.call("alarm", 0) == 10
    assert branch.world.next_alarm_ns() is None
    assert side.world.jump_to_alarm(None)
    assert [each.number for each in side.world.signals.outbox] == [abi.SIGALRM]
    assert branch.world.signals.outbox == []


def test_cpu_time_and_its_alarms_go_on(side: Any) -> None:
    """The copy's process has used no CPU time yet, but for the guest it is the same process as before."""
    side.world.clock.guest_pid = os.getpid()
    used = side.world.clock.host_cpu_ns()
    side.world.set_timer(abi.ITIMER_PROF, 5 * abi.NS, 0)
    branch = side.copy()
    assert branch.world.clock.guest_pid is None
    assert branch.world.clock.cpu_ns() >= used > 0
    left, _ = branch.world.timer_left(abi.ITIMER_PROF)
    assert 0 < left <= 5 * abi.NS
    branch.world.clock.guest_pid = os.getpid()
    assert branch.world.clock.host_cpu_ns() >= 2 * used
    branch.world.clock.guest_pid = 1 << 22  # no such process
    assert branch.world.clock.host_cpu_ns() >= used


def test_virtual_time_has_the_same_past(make_side: Any) -> None:
    side = make_side(time={"kind": "virtual"})
    clock = side.world.clock
    clock.advance_to(5 * abi.NS)
    clock.now_ns(abi.CLOCK_MONOTONIC)
    branch = side.copy()
    copied = branch.world.clock
    assert branch.builder.clock is copied is not clock
    assert copied.elapsed_ns() == clock.elapsed_ns() > 5 * abi.NS
    assert copied.cpu_ns() == clock.cpu_ns()
    copied.advance_to(100 * abi.NS)
    assert clock.elapsed_ns() < 6 * abi.NS
    branch.put(b"/tmp/x", b"")
    seconds = abi.STAT.unpack(branch.call("stat", b"/tmp/x", 1))[13]
    assert seconds == copied.wall_ns() // abi.NS
    assert branch.get(b"/proc/uptime").startswith(b"1100.00")


def test_real_time_has_the_same_start(side: Any) -> None:
    branch = side.copy()
    ours = (side.world.clock.elapsed_ns(), branch.world.clock.elapsed_ns(), side.world.clock.elapsed_ns())
    assert sorted(ours) == list(ours)


def test_seeded_randomness_goes_on_from_the_same_position(make_side: Any) -> None:
    side = make_side(randomness=1)
    side.world.randomness.bytes(100)
    branch = side.copy()
    first, second = side.world.randomness.bytes(3000), branch.world.randomness.bytes(3000)
    assert first == second
    side.world.randomness.bytes(1)
    assert side.world.randomness.bytes(8) != branch.world.randomness.bytes(8)


def test_system_randomness_is_each_sides_own(side: Any) -> None:
    branch = side.copy()
    assert side.world.randomness.bytes(16) != branch.world.randomness.bytes(16)


def test_a_wait_in_pieces_goes_on(side: Any) -> None:
    arguments = 0x1000, abi.FUTEX_WAIT, 0, struct.pack("<QQ", 100, 0), 2, 0
    assert isinstance(side.call("futex", *arguments), Blocked)
    branch = side.copy()
    assert branch.world.thread.slice is not side.world.thread.slice
    assert isinstance(branch.call("futex", *arguments[:4], 1, 0), Blocked)
    assert (branch.world.thread.slice.count, side.world.thread.slice.count) == (2, 1)


def test_the_environment_of_further_copies(tmp_path: Path) -> None:
    builder = WorldBuilder(Policy(), attrs.evolve(find_guest(), packages=(str(tmp_path),)), BoxFolder())
    builder.build(Stdin(), OutputSink("stdout"), OutputSink("stderr"))
    copy = builder.copy(Stdin(), OutputSink("stdout"), OutputSink("stderr"), pid=200)
    assert copy.environment() == builder.environment()
    assert "TZ" in copy.environment()
    copy.close()
    builder.close()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_threads_are_refused(side: Any) -> None:
    thread = side.world.allocate_thread()
    with pytest.raises(CannotCopy, match="2 threads"):
        side.copy()
    side.world.end_thread(thread)
    assert side.copy().world.threads[0].tid == 200


def test_the_thread_that_is_left_becomes_the_copys_first(side: Any) -> None:
    left = side.world.allocate_thread()
    side.world.end_thread(side.world.thread)
    side.world.thread = left
    left.name = b"worker"
    branch = side.copy()
    assert (branch.call("gettid"), branch.world.thread.name) == (200, b"worker")


@pytest.mark.parametrize("how", ["ending", "exited"])
def test_what_has_ended_is_refused(side: Any, how: str) -> None:
    if how == "ending":
        side.world.end(Ended(Status.CRASHED, "signal 11", 11))
    else:
        side.world.exit_code = 0
    with pytest.raises(CannotCopy, match="ended"):
        side.copy()


@pytest.mark.parametrize("room", range(4))
def test_a_host_without_descriptors_left(
    make_side: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    (tmp_path / "file").write_bytes(OLD)
    side = make_side(folder=str(tmp_path))
    fds = [side.open(b"/box/file") for _ in range(4)]
    before = len(os.listdir("/proc/self/fd"))
    left = room

    def scarce(function: Any) -> Any:
        def work(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return function(*arguments)

        return work

    monkeypatch.setattr(os, "dup", scarce(os.dup))
    monkeypatch.setattr(boundary, "reopen", scarce(boundary.reopen))
    with pytest.raises(CannotCopy, match="Too many open files"):
        side.copy()
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before
    branch = side.copy()
    assert [branch.read(fd, 4) for fd in fds] == [side.read(fd, 4) for fd in fds] == [OLD[:4]] * 4


class Unthought(OpenFile):
    """A description that the copier does not know."""


class UnthoughtNode(MemoryFile):
    """A node that the copier does not know, though it knows the base class."""


def test_a_class_that_nobody_has_thought_of_fails_loudly(side: Any) -> None:
    world = side.world
    fd = world.descriptors.install(Unthought(world.cwd, os.O_RDONLY))
    with pytest.raises(TypeError, match="Unthought is copied"):
        side.copy()
    world.descriptors.close(fd)
    world.tree.resolve(b"/tmp", world.cwd, world.credentials).attach(
        b"x", UnthoughtNode(world.anonymous, 0o644, 0, 0)
    )  # fmt: skip
    with pytest.raises(TypeError, match="UnthoughtNode is copied"):
        side.copy()


def test_a_function_that_may_lead_back_fails_loudly(side: Any) -> None:
    side.world.anonymous.now = lambda: side.world.clock.wall_ns()
    with pytest.raises(TypeError, match="is copied"):
        side.copy()


def test_every_class_of_nodes_and_descriptions_is_known() -> None:
    abstract = {
        Node,
        RegularFile,
        Symlink,
        Directory,
        Inode,
        Layered,
        LayeredDirectory,
        HostNode,
        library.LibraryNode,
        OpenFile,
    }
    abstract |= {StreamOpenFile, next(kind for kind in Inode.__subclasses__() if kind.__name__ == "Device")}
    kinds: list[type] = [Node, OpenFile]
    for kind in kinds:
        kinds += kind.__subclasses__()
    ours = {kind for kind in kinds if kind.__module__.startswith("proxybox.")}
    assert {kind for kind in ours - abstract if not copyingfiles.is_known(kind)} == set()
