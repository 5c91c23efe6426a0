"""A box has one descriptor of the host for each file and access mode. But the host checks permissions at every open."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxybox.controller.costs.descriptorshare import Allotment

MakeSide = Callable[..., Any]


def held() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def as_user() -> Iterator[None]:
    """Runs the block as a user to whom permissions apply."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(1000)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def folder(tmp_path: Path, open_the_way: Callable[[Path], None]) -> Path:
    made = tmp_path / "folder"
    open_the_way(made)
    made.mkdir()
    made.chmod(0o777)
    (made / "file").write_bytes(b"contents")
    (made / "file").chmod(0o666)
    (made / "other").write_bytes(b"other")
    os.link(made / "file", made / "again")
    return made


@pytest.fixture
def side(make_side: MakeSide, folder: Path) -> Any:
    mounts = [{"target": f"/{mode}", "source": str(folder), "mode": mode} for mode in ("ro", "rw", "overlay")]
    return make_side(filesystem={"mounts": mounts})


def test_one_descriptor_however_often_it_is_opened(side: Any) -> None:
    """By any name, in any mount, through /proc: `open(...).read()` in a loop uses one descriptor, though PyPy closes
    late.
    """
    before = held()
    fds = [side.open(f"/{mode}/{name}".encode()) for mode in ("ro", "rw", "overlay") for name in ("file", "again")]
    fds += [side.open(b"/proc/self/fd/%d" % fds[0]) for _ in range(50)]
    assert held() == before + 1
    assert side.world.allotment.held == 1
    writing = [side.open(b"/rw/file", os.O_RDWR) for _ in range(10)]
    assert (held(), side.world.allotment.held) == (before + 2, 2)
    assert {side.read(fd, 3) for fd in fds} == {b"con"}  # each has its own offset
    assert side.read(writing[0], 100) == b"contents"
    for fd in fds[1:]:
        side.call("close", fd)
    assert side.read(fds[0], 100) == b"tents"
    for fd in (fds[0], *writing):
        side.call("close", fd)
    assert (held(), side.world.allotment.held) == (before, 0)


def test_a_file_that_has_taken_the_name_of_another_is_another(side: Any, folder: Path) -> None:
    first = side.open(b"/ro/file")
    (folder / "new").write_bytes(b"new")
    (folder / "new").rename(folder / "file")
    assert side.get(b"/ro/file") == b"new"
    assert side.read(first, 100) == b"contents"


def test_a_number_that_is_given_again_is_no_old_descriptor(side: Any, folder: Path) -> None:
    for number in range(20):
        (folder / "file").unlink()
        (folder / "file").write_bytes(b"%d" % number)
        assert side.get(b"/ro/file") == b"%d" % number


def test_emptying_happens_each_time(side: Any, folder: Path) -> None:
    fd = side.open(b"/rw/file", os.O_RDWR)
    assert side.call("close", side.open(b"/rw/file", os.O_RDWR | os.O_TRUNC)) == 0
    assert side.read(fd, 100) == b""
    assert (folder / "file").read_bytes() == b""


def test_the_hosts_permissions_hold_each_time(side: Any, folder: Path) -> None:
    """A descriptor that is open already gives no access without permission."""
    fd = side.open(b"/rw/other", os.O_RDWR)
    assert side.read(fd, 100) == b"other"
    with as_user():
        if (folder / "other").stat().st_uid == os.geteuid():  # otherwise the file is root's
            (folder / "other").chmod(0)
        assert side.call("open", b"/rw/other", os.O_RDWR, 0) == -errno.EACCES
        assert side.call("open", b"/proc/self/fd/%d" % fd, os.O_RDWR, 0) == -errno.EACCES
    assert side.call("pread64", fd, 0x1000, 100, 0) == b"other"


def test_copies_of_a_world_hold_descriptors_of_their_own(side: Any) -> None:
    fd = side.open(b"/ro/file")
    for _ in range(3):
        side.open(b"/ro/again")
    before = held()
    copy = side.copy()
    assert held() == before + 4  # three mounts, one file
    assert (side.world.allotment.held, copy.world.allotment.held) == (1, 1)
    assert side.call("close", fd) == 0
    assert copy.read(fd, 100) == b"contents"
    copy.builder.close()
    assert held() == before
    assert copy.world.allotment.held == 0


def test_a_failing_open_holds_nothing(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before, used = held(), side.builder.quota.used_inodes

    def full(allotment: Allotment, count: int = 1) -> None:
        raise OSError(errno.ENFILE, "full")

    monkeypatch.setattr(Allotment, "take", full)
    for path, flags in ((b"/ro/file", 0), (b"/rw/new", os.O_CREAT | os.O_RDWR), (b"/overlay/file", os.O_RDWR)):
        assert side.call("open", path, flags, 0o644) == -errno.ENFILE
    assert side.names(b"/rw") == [b"again", b"file", b"other"]
    assert held() == before
    assert side.builder.quota.used_inodes == used


def test_a_copied_box_that_appends_moves_no_offset_of_the_others(side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other box appends between this box's append and the lookup of its new offset."""
    fd = side.open(b"/rw/file", os.O_RDWR | os.O_APPEND)
    copy = side.copy()
    pwritev = os.pwritev

    def overtaken(*arguments: Any) -> int:
        done = pwritev(*arguments)
        monkeypatch.setattr(os, "pwritev", pwritev)
        assert copy.write(fd, b"the other's") == 11
        return done

    monkeypatch.setattr(os, "pwritev", overtaken)
    assert side.write(fd, b"mine") == 4
    assert side.call("lseek", fd, 0, os.SEEK_CUR) == len(b"contentsmine")
    assert copy.call("lseek", fd, 0, os.SEEK_CUR) == len(b"contentsminethe other's")
