"""Worlds that are hard to copy, and branches that try to reach the world that they were copied from.

No guest runs here: the tests make the calls that a guest would make.
"""

import errno
import os
import select
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxybox.controller import abi
from proxybox.controller.boxes.copyingfiles import Copier
from proxybox.controller.vfs.streams import ENLARGED_BYTES, Buffer

CREATE = os.O_CREAT | os.O_RDWR
OLD = b"0123456789" * 1000


def pair(side: Any, name: str, *arguments: Any) -> tuple[int, int]:
    return struct.unpack("<ii", side.call(name, *arguments))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list of the number of objects that each copy has visited."""
    counts: list[int] = []
    copied, finished = Copier.of, Copier.finish

    def of(copier: Copier, old: Any) -> Any:
        copier.looked = getattr(copier, "looked", 0) + 1  # type: ignore[attr-defined]
        return copied(copier, old)

    def finish(copier: Copier) -> None:
        finished(copier)
        counts.append(copier.looked)  # type: ignore[attr-defined]

    monkeypatch.setattr(Copier, "of", of)
    monkeypatch.setattr(Copier, "finish", finish)
    return counts


# --- worlds that are deep, wide, full ---------------------------------------------------------------------------------


@pytest.fixture
def host_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of the host. rm(1) removes it: pytest's own cleaning recurses, and would make a later run fail."""
    (tmp_path / "host").mkdir()
    yield tmp_path / "host"
    subprocess.run(["rm", "-rf", "--", tmp_path / "host"], check=True)


@pytest.mark.cover(1)
@pytest.mark.parametrize(("folder", "depth"), [(b"/tmp", 10_000), (b"/box", 10_000), (b"/host", 1500)])
def test_folders_nested_deeper_than_the_stack(make_side: Any, host_folder: Path, folder: bytes, depth: int) -> None:
    assert depth > sys.getrecursionlimit()
    mounts = [{"target": "/host", "source": str(host_folder), "mode": "rw"}]
    side = make_side(limits={"files": 20_000}, filesystem={"mounts": mounts})
    side.call("chdir", folder)
    for _ in range(depth):
        assert side.call("mkdir", b"d", 0o755) == 0
        assert side.call("chdir", b"d") == 0
    side.put(b"bottom", b"x")
    branch = side.copy()
    twig = branch.copy(201)
    assert twig.get(b"bottom") == b"x"
    for _ in range(depth):
        assert branch.call("chdir", b"..") == 0
        assert branch.call("access", b"d", 0) == 0
    assert branch.call("getcwd", 1, 4096) == folder + b"\0"


def test_folders_nested_below_one_that_nobody_can_reach(side: Any) -> None:
    """Only the bottom folder is open; the copy finds the others from there upwards."""
    side.call("mkdir", b"/tmp/a", 0o755)
    side.call("chdir", b"/tmp/a")
    for _ in range(2000):
        side.call("mkdir", b"d", 0o755)
        side.call("chdir", b"d")
    side.call("chmod", b"/tmp/a", 0)
    bottom = side.open(b".", os.O_DIRECTORY)
    side.call("chdir", b"/")
    branch = side.copy()
    assert branch.call("fchdir", bottom) == 0
    assert branch.call("getcwd", 1, 5000).count(b"/d") == 2000


@pytest.mark.parametrize("kind", ["files", "links to one file", "folders", "descriptors", "watches", "whiteouts"])
def test_work_grows_as_the_world_does(make_side: Any, steps: list[int], kind: str, tmp_path: Path) -> None:
    for number in range(1000 if kind == "whiteouts" else 0):
        (tmp_path / str(number)).touch()
    side = make_side(folder=str(tmp_path), limits={"open_files": 3000})
    side.copy()
    side.put(b"/tmp/first", b"x")
    epoll = side.call("epoll_create1", 0)
    out, _ = pair(side, "pipe", 1)

    def more(number: int) -> None:
        if kind == "files":
            side.put(b"/tmp/%d" % number, b"x")
        elif kind == "links to one file":
            side.call("link", b"/tmp/first", b"/tmp/%d" % number)
        elif kind == "folders":
            side.call("mkdir", b"/tmp/%d" % number, 0o755)
        elif kind == "descriptors":
            side.open(b"/tmp/first")
        elif kind == "watches":
            fd = side.call("dup", out)
            assert side.call("epoll_ctl", epoll, 1, fd, struct.pack("<IQ", select.EPOLLIN, fd)) == 0
        else:
            assert side.call("unlink", b"/box/%d" % number) == 0

    for count in (500, 500):
        for number in range(count):
            more(number + 500 * (len(steps) - 1))
        side.copy()
    fresh, first, second = steps
    assert second - first <= (first - fresh) * 1.1 + 20
    assert first - fresh <= 500 * 8


def test_as_many_watches_as_there_can_be(side: Any) -> None:
    out, into = pair(side, "pipe", 1)
    epolls = [side.call("epoll_create1", 0) for _ in range(32)]
    fds = [side.call("dup", out) for _ in range(128)]
    for epoll in epolls:
        for fd in fds:
            assert side.call("epoll_ctl", epoll, 1, fd, struct.pack("<IQ", select.EPOLLIN, fd)) == 0
    more = struct.pack("<IQ", select.EPOLLIN, 1)
    branch = side.copy()
    assert branch.call("epoll_ctl", epolls[0], 1, into, more) == -errno.ENOSPC
    for fd in (*fds, out):
        branch.call("close", fd)
    assert branch.world.epoll_watches == 0
    assert side.world.epoll_watches == 4096


def test_pipes_that_hold_all_they_can(make_side: Any) -> None:
    side = make_side(limits={"open_files": 1000})
    full = 0
    while side.world.anonymous.pipe_bytes < ENLARGED_BYTES - (1 << 20):
        out, into = pair(side, "pipe2", 1, os.O_NONBLOCK)
        side.call("fcntl", into, abi.F_SETPIPE_SZ, (1 << 20, None))
        full += side.write(into, b"x" * (1 << 20))
        side.read(out, 1000)
    branch = side.copy()
    pipes = [branch.world.descriptors.get(fd) for fd in branch.world.descriptors]
    buffers = {id(buffer): buffer for pipe in pipes if isinstance(buffer := getattr(pipe, "_buffer", None), Buffer)}
    assert sum(len(buffer.data) for buffer in buffers.values()) == full - 1000 * len(buffers)
    out, into = pair(branch, "pipe2", 1, os.O_NONBLOCK)
    branch.call("fcntl", into, abi.F_SETPIPE_SZ, (1 << 20, None))
    _, another = pair(branch, "pipe2", 1, os.O_NONBLOCK)
    assert branch.call("fcntl", another, abi.F_SETPIPE_SZ, (1 << 20, None)) == -errno.EPERM


def test_one_description_under_every_number(side: Any) -> None:
    fd = side.open(b"/tmp/x", CREATE)
    while side.call("dup", fd) >= 0:
        pass
    side.call("unlink", b"/tmp/x")
    branch = side.copy()
    file = branch.world.descriptors.get(fd)
    assert file.references == 1024 - 3
    assert branch.call("dup", fd) == -errno.EMFILE
    used = branch.world.quota.used_inodes
    branch.call("close_range", fd, 0xFFFFFFFF, 0)
    assert file.references == 0
    assert branch.world.quota.used_inodes == used - 1


# --- contents, by every way that writes -------------------------------------------------------------------------------


def _by_mapping(side: Any, fd: int) -> None:
    number = side.call("mmap", 0, 4096, 3, abi.MAP_SHARED, fd, 0)
    assert side.call("pwrite64", number, b"new", 3, 0) == 3


def _by_proc(side: Any, fd: int) -> None:
    assert side.write(side.open(b"/proc/self/fd/%d" % fd, os.O_WRONLY), b"new") == 3


def _by_link(side: Any, fd: int) -> None:
    assert side.write(side.open(b"/tmp/link", os.O_WRONLY), b"new") == 3


def _by_copying(side: Any, fd: int) -> None:
    source = side.open(b"/etc/passwd")
    assert side.call("copy_file_range", source, (0, None), fd, (0, None), 100, 0) == 100


def _by_sending(side: Any, fd: int) -> None:
    assert side.call("sendfile", fd, side.open(b"/etc/passwd"), (0, None), 100) == 100


def _by_vectors(side: Any, fd: int) -> None:
    assert side.call("writev", fd, b"new", 1) == 3


WAYS = [_by_mapping, _by_proc, _by_link, _by_copying, _by_sending, _by_vectors]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("writer", ["trunk", "branch"])
def test_contents_written_by_a_way_around(side: Any, way: Any, writer: str) -> None:
    side.put(b"/tmp/x", OLD[:5000])
    side.put(b"/tmp/x", OLD[5000:], os.O_APPEND)
    side.call("link", b"/tmp/x", b"/tmp/link")
    fd = side.open(b"/tmp/x", os.O_RDWR)
    branch = side.copy()
    one, other = (side, branch) if writer == "trunk" else (branch, side)
    way(one, fd)
    assert other.get(b"/tmp/x") == OLD
    assert one.get(b"/tmp/x") != OLD
    assert other.call("pread64", fd, 1, 10, 0) == OLD[:10]


def test_pages_set_aside_by_one_side_cost_the_other_nothing(side: Any) -> None:
    side.put(b"/tmp/x", b"x")
    branch = side.copy()
    used = side.world.quota.used_bytes
    branch.call("fallocate", branch.open(b"/tmp/x", os.O_RDWR), 0, 0, 1 << 20)
    side.call("unlink", b"/tmp/x")
    assert side.world.quota.used_bytes == used - 4096


# --- accounts ---------------------------------------------------------------------------------------------------------


def accounts(side: Any) -> tuple[int, int]:
    return side.world.quota.used_bytes, side.world.quota.used_inodes


def test_space_is_not_gained_by_branching(make_side: Any) -> None:
    side = make_side(limits={"disk": 1 << 20})
    while side.write(side.open(b"/tmp/x", CREATE | os.O_APPEND), bytes(1 << 16) + b"x") > 0:
        pass
    for number in range(5):
        branch = side.copy(200 + number)
        assert accounts(branch) == accounts(side)
        assert branch.write(branch.open(b"/tmp/y", CREATE), b"x") == -errno.ENOSPC
        assert branch.builder.quota.exceeded
        side = branch


@pytest.mark.parametrize("folder", [b"/tmp/", b"/box/", b"/host/"])
def test_what_is_removed_is_credited_once_on_each_side(make_side: Any, tmp_path: Path, folder: bytes) -> None:
    side = make_side(filesystem={"mounts": [{"target": "/host", "source": str(tmp_path), "mode": "rw"}]})
    before = accounts(side)
    side.put(folder + b"x", OLD)
    side.call("link", folder + b"x", folder + b"y")
    held = side.open(folder + b"x")
    branch = side.copy()
    for each in (side, branch, side, branch):
        for name in (b"x", b"y", b"x"):
            each.call("unlink", folder + name)
        each.call("close", held)
    assert accounts(branch)[0] >= before[0]
    assert accounts(branch)[1] >= before[1]
    assert accounts(side) == before
    if folder != b"/host/":  # in /host/ both sides share one file: it is removed for both, but one side does not know
        assert accounts(branch) == before


def test_a_full_branch_does_not_fill_its_trunk(make_side: Any) -> None:
    side = make_side(limits={"disk": 1 << 20, "files": 10})
    branch = side.copy()
    number = 0
    while branch.call("open", b"/tmp/%d" % number, CREATE, 0o644) >= 0:
        number += 1
    assert accounts(side)[1] < accounts(branch)[1]
    side.put(b"/tmp/x", OLD)
    assert not side.builder.quota.exceeded


# --- ways into the other world ----------------------------------------------------------------------------------------


def test_a_branch_that_walks_wherever_it_can(make_side: Any, tmp_path: Path) -> None:
    """Every name, every descriptor, every link of /proc and every parent folder leads to the branch's own nodes."""
    (tmp_path / "sub").mkdir()
    side = make_side(folder=str(tmp_path))
    for path in (b"/tmp/a", b"/box/b"):
        side.call("mkdir", path, 0o755)
    held = [side.open(path, os.O_DIRECTORY) for path in (b"/", b"/tmp/a", b"/box/b", b"/box/sub", b"/proc", b"/dev")]
    side.call("rmdir", b"/tmp/a")
    side.call("chdir", b"/box/b")
    branch = side.copy()
    marks = [b"/tmp/mark", b"/box/mark", b"mark", b"/dev/shm/mark", b"/home/user/mark"]
    for path in marks:
        branch.put(path, b"branch's")
    for path in (*marks, *(b"/proc/self/fd/%d/../mark" % fd for fd in held), b"/proc/self/cwd/mark"):
        assert side.call("access", path, 0) == -errno.ENOENT, path
    superblocks = {id(node.superblock) for _, node in side.world.tree.mounts() if not node.superblock.shared}
    for fd in held:
        assert branch.call("fchdir", fd) == 0
        for _ in range(3):
            assert id(branch.world.cwd.superblock) not in superblocks
            branch.world.cwd = branch.world.tree.parent_of(branch.world.cwd)


def test_a_host_folder_moved_away_by_the_other_side(make_side: Any, tmp_path: Path) -> None:
    """As after a move by any other process of the host, open files stay open and the path no longer exists."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(OLD)
    side = make_side(filesystem={"mounts": [{"target": "/host", "source": str(tmp_path), "mode": "rw"}]})
    fd, folder = side.open(b"/host/sub/file"), side.open(b"/host/sub", os.O_DIRECTORY)
    branch = side.copy()
    assert branch.call("rename", b"/host/sub", b"/host/moved") == 0
    assert branch.call("openat", folder, b"file", os.O_RDONLY, 0) > 0
    assert side.call("openat", folder, b"file", os.O_RDONLY, 0) == -errno.ENOENT
    assert side.read(fd, 10) == OLD[:10]


def test_files_of_the_host_are_not_reached_by_a_copy_of_what_was_closed(make_side: Any, tmp_path: Path) -> None:
    """After a host file is closed its descriptor number may be another file's. A copy of the file then fails with
    EBADF.
    """
    (tmp_path / "file").write_bytes(OLD)
    side = make_side(filesystem={"mounts": [{"target": "/host", "source": str(tmp_path), "mode": "ro"}]})
    fd = side.open(b"/host/file")
    branch = side.copy()
    file = branch.world.descriptors.get(fd)
    file.hold()
    branch.builder.close()
    with open(tmp_path / "other", "wb+") as other:
        assert other.fileno() >= 0
        with pytest.raises(OSError) as caught:
            file.pread(10, 0)
        assert caught.value.errno == errno.EBADF
    assert side.read(fd, 10) == OLD[:10]
