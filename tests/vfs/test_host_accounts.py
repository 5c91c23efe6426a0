"""A box is charged for files in a writable host folder as for the same files in memory, and never less than nothing."""

import errno
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxybox.controller.abi import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, S_IFDIR, S_IFLNK, S_IFMT, STAT
from proxybox.controller.vfs import pageset
from proxybox.controller.vfs.host.mount import HostMount
from proxybox.controller.vfs.pageset import PageSet

MakeSide = Callable[..., Any]
PAGE = 4096


class Account:
    """One side, its usage since the beginning, and its calls in the folder whose files are charged."""

    def __init__(self, side: Any, folder: bytes) -> None:
        self.side, self.folder = side, folder
        self.fds: list[int] = []
        self._before = side.builder.quota.used_bytes, side.builder.quota.used_inodes

    @property
    def used(self) -> tuple[int, int]:
        quota = self.side.builder.quota
        return quota.used_bytes - self._before[0], quota.used_inodes - self._before[1]

    def path(self, name: bytes) -> bytes:
        return self.folder + b"/" + name

    def call(self, name: str, *arguments: Any) -> Any:
        return self.side.call(name, *arguments)

    def open(self, path: bytes, flags: int) -> int:
        """Opens a path. Directories are closed again: the host folder's are not kept open, so removed ones are freed at
        once.
        """
        fd: int = self.call("open", path, flags, 0o644)
        if fd >= 0:
            self.fds.append(fd)
            if self.mode(fd=fd) == S_IFDIR:
                self.close(fd)
        return fd

    def mode(self, path: bytes = b"", fd: int = AT_FDCWD) -> int:
        """The S_IFMT part of the mode; 0 if there is no file."""
        status = self.call("newfstatat", fd, path, 0x1000, AT_SYMLINK_NOFOLLOW | (0 if path else AT_EMPTY_PATH))
        return 0 if isinstance(status, int) else STAT.unpack(status)[3] & S_IFMT

    def close(self, fd: int) -> None:
        if fd in self.fds:
            self.fds.remove(fd)
            assert self.call("close", fd) == 0

    def remove_all(self) -> None:
        for fd in list(self.fds):
            self.close(fd)
        for name in self.side.names(self.folder):
            if self.call("unlink", self.path(name)):
                assert self.call("rmdir", self.path(name)) == 0


@pytest.fixture
def make_account(make_side: MakeSide) -> Callable[..., Account]:
    def make(folder: Path | None = None, disk: int = 1 << 30, files: int = 10_000) -> Account:
        source = None if folder is None else str(folder)
        mode = "memory" if folder is None else "rw"
        mounts = [{"target": "/there", "source": source, "mode": mode}]
        side = make_side(filesystem={"mounts": mounts}, limits={"disk": disk, "files": files, "open_files": 32})
        return Account(side, b"/there")

    return make


NAMES = [b"a", b"b", b"c", b"d"]
OPENS = [
    os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_APPEND,
]  # fmt: skip
SIZES = [0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 50_000]
OFFSETS = [0, 1, PAGE, PAGE * 7 + 5, 1 << 20, (1 << 31) + 3]


def step(account: Account, dice: random.Random) -> Any:
    """Makes one random call, the same for the same state of `dice`, and returns its result."""
    name, other = account.path(dice.choice(NAMES)), account.path(dice.choice(NAMES))
    fd = dice.choice(account.fds) if account.fds else 99
    size, offset = dice.choice(SIZES), dice.choice(OFFSETS)
    what = dice.randrange(16)
    if what <= 2:
        return account.open(name, dice.choice(OPENS))
    if what == 3:
        return account.open(b"/proc/self/fd/%d" % fd, dice.choice([os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC]))
    if what == 4:
        account.close(fd)
        return None
    if what <= 6:
        return account.call("write", fd, bytes([dice.randrange(256)]) * size, size)
    if what == 7:
        return account.call("pwrite64", fd, bytes([dice.randrange(256)]) * size, size, offset)
    if what == 8:
        return account.call("lseek", fd, offset, os.SEEK_SET)
    if what == 9:
        return account.call("ftruncate", fd, dice.choice([*SIZES, *OFFSETS]))
    if what == 10:
        return account.call("truncate", name, dice.choice([*SIZES, *OFFSETS]))
    if what == 11:  # a symbolic link has one name on the host (limitations.md)
        return None if account.mode(name) == S_IFLNK else account.call("link", name, other)
    if what == 12:
        return account.call("unlink", name)
    if what == 13:
        return account.call("renameat2", AT_FDCWD, name, AT_FDCWD, other, dice.choice([0, 0, 0, 1, 2]))
    if what == 14:
        return account.call("mkdir", name, 0o755) if dice.randrange(2) else account.call("mknod", name, 0o100644, 0)
    if dice.randrange(2):
        return account.call("rmdir", name)
    return account.call("symlink", b"x" * dice.choice([1, 128, 129, 1000]), name)


@pytest.mark.cover(1)
@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("disk", [1 << 30, 100_000])
def test_whatever_is_done_costs_what_it_costs_in_memory(
    make_account: Callable[..., Account], tmp_path: Path, seed: int, disk: int
) -> None:
    """The files in memory are the model: after each call the result, the bytes and the inodes are the same."""
    host, memory = make_account(tmp_path, disk, 12), make_account(None, disk, 12)
    held = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        first, second = random.Random(f"{seed} {number}"), random.Random(f"{seed} {number}")
        answers = step(host, first), step(memory, second)
        assert answers[0] == answers[1], number
        assert host.used == memory.used, number
        assert host.fds == memory.fds
    host.remove_all()
    memory.remove_all()
    assert host.used == memory.used == (0, 0)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == held


@pytest.mark.parametrize("seed", range(10))
def test_lengths_are_given_back_as_they_were_charged(
    make_account: Callable[..., Account], tmp_path: Path, seed: int
) -> None:
    """As on file systems that may have no holes."""
    account = make_account(tmp_path, 1 << 22, 12)
    mount = account.side.world.tree.resolve(b"/there", account.side.world.cwd, account.side.world.credentials).mount
    mount.host.has_holes = False
    for number in range(300):
        step(account, random.Random(f"{seed} {number}"))
        lengths = {
            (seen.st_ino, seen.st_size) for path in tmp_path.iterdir() if stat.S_ISREG((seen := path.lstat()).st_mode)
        }
        assert account.used[0] >= sum(-(-size // PAGE) * PAGE for _, size in lengths), number
        assert account.used[0] <= 1 << 22
    account.remove_all()
    assert account.used == (0, 0)


@pytest.mark.parametrize("seed", range(10))
def test_others_on_the_host_never_make_it_cost_less_than_nothing(
    make_account: Callable[..., Account], tmp_path: Path, seed: int
) -> None:
    """Meanwhile the host makes, writes, links and removes files in the same folder."""
    account = make_account(tmp_path, files=12)
    dice = random.Random(seed)
    for number in range(300):
        step(account, random.Random(f"{seed} {number}"))
        meddle(tmp_path, dice)
        assert min(account.used) >= 0, number
    account.remove_all()
    assert min(account.used) >= 0


def meddle(folder: Path, dice: random.Random) -> None:
    one, other = (folder / os.fsdecode(dice.choice(NAMES)) for _ in range(2))
    try:
        match dice.randrange(5):
            case 0:
                one.write_bytes(bytes(dice.choice(SIZES)))
            case 1:
                one.unlink()
            case 2:
                os.link(one, other)
            case 3:
                one.rename(other)
            case 4:
                os.truncate(one, dice.choice(SIZES))
    except OSError:
        pass


# --- the attacks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def account(make_account: Callable[..., Account], tmp_path: Path) -> Account:
    return make_account(tmp_path, disk=1 << 20, files=50)


def test_hard_links_are_not_free(account: Account) -> None:
    """319,013 names, 113 MiB on the disk, were once counted as one file."""
    account.side.put(b"/there/file", b"x")
    answers = [account.call("link", b"/there/file", b"/there/%d" % number) for number in range(60)]
    assert answers == [0] * 49 + [-errno.ENOSPC] * 11
    assert account.used == (PAGE, 50)
    assert account.call("unlink", b"/there/file") == 0
    assert account.call("rename", b"/there/0", b"/there/1") == 0  # both are names of one file: nothing happens
    assert account.used == (PAGE, 49)
    assert account.call("link", b"/there/1", b"/there/again") == 0
    account.remove_all()
    assert account.used == (0, 0)


def test_a_file_that_is_open_twice_is_credited_at_its_last_close(account: Account) -> None:
    """Once 300 MiB were on the disk at a limit of 4: each file was removed while it was open twice, and one of both was
    closed.
    """
    file = b"/there/file"
    first = account.open(file, os.O_RDWR | os.O_CREAT)
    second = account.open(file, os.O_RDONLY)
    assert account.side.write(first, bytes(600_000)) == 600_000
    used = account.used
    assert account.call("unlink", file) == 0
    account.close(first)
    assert account.used == used
    again = account.open(b"/there/again", os.O_RDWR | os.O_CREAT)
    assert account.side.write(again, bytes(600_000)) < 600_000
    assert account.side.write(again, b"x" * PAGE) == -errno.ENOSPC
    account.close(second)
    assert account.used == ((1 << 20) - used[0], 1)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY])
def test_a_file_that_is_opened_through_proc_is_credited_at_its_last_close(account: Account, flags: int) -> None:
    fd = account.open(b"/there/file", os.O_RDWR | os.O_CREAT)
    assert account.side.write(fd, bytes(PAGE)) == PAGE
    assert account.call("unlink", b"/there/file") == 0
    again = account.open(b"/proc/self/fd/%d" % fd, flags)
    account.close(fd)
    assert account.used == (PAGE, 1)
    account.close(account.open(b"/proc/self/fd/%d" % again, os.O_RDONLY))
    assert account.used == (PAGE, 1)
    account.close(again)
    assert account.used == (0, 0)


def test_a_file_that_was_renamed_over_while_it_was_open_is_credited_at_its_last_close(account: Account) -> None:
    fd = account.open(b"/there/old", os.O_RDWR | os.O_CREAT)
    assert account.side.write(fd, bytes(PAGE)) == PAGE
    account.side.put(b"/there/new", b"")
    assert account.call("rename", b"/there/new", b"/there/old") == 0
    assert account.used == (PAGE, 2)
    account.close(fd)
    assert account.used == (0, 1)


def test_a_folder_that_is_renamed_over_is_credited(account: Account) -> None:
    for _ in range(100):
        assert account.call("mkdir", b"/there/a", 0o755) == account.call("mkdir", b"/there/b", 0o755) == 0
        assert account.call("rename", b"/there/a", b"/there/b") == 0
        assert account.call("rename", b"/there/b", b"/there/b") == 0
        assert account.used == (0, 1)
        assert account.call("rmdir", b"/there/b") == 0
    assert account.used == (0, 0)


def test_a_folder_in_memory_that_is_removed_while_it_is_open_is_credited_once(make_side: MakeSide) -> None:
    """It was once credited twice: so files in memory had no limit."""
    side = make_side(limits={"files": 50})
    before = side.builder.quota.used_inodes
    for _ in range(100):
        assert side.call("mkdir", b"/tmp/folder", 0o755) == 0
        fd = side.open(b"/tmp/folder", os.O_DIRECTORY)
        assert side.call("rmdir", b"/tmp/folder") == 0
        assert side.call("close", fd) == 0
    assert side.builder.quota.used_inodes == before


def test_long_symbolic_links_take_a_page(account: Account) -> None:
    for number in range(20):
        assert account.call("symlink", b"x" * 200, b"/there/%d" % number) == 0
    assert account.used == (20 * PAGE, 20)
    account.remove_all()
    assert account.used == (0, 0)


def test_the_hosts_own_files_are_no_credit(account: Account, tmp_path: Path) -> None:
    """Neither removing nor truncating them gives credit, nor do further names."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(10 * PAGE))
    assert account.call("truncate", b"/there/a", 0) == 0
    assert account.call("unlink", b"/there/a") == account.call("rename", b"/there/b", b"/there/c") == 0
    assert account.used == (0, 0)
    assert account.call("link", b"/there/c", b"/there/d") == 0
    assert account.call("unlink", b"/there/c") == account.call("unlink", b"/there/d") == 0
    assert account.used == (0, 0)


def test_what_others_on_the_host_keep_stays_charged(account: Account, tmp_path: Path) -> None:
    account.side.put(b"/there/file", bytes(3 * PAGE))
    os.link(tmp_path / "file", tmp_path / "theirs")
    account.call("unlink", b"/there/file")
    assert account.used == (3 * PAGE, 0)


def test_a_number_that_the_host_gives_again_is_another_file(account: Account, tmp_path: Path) -> None:
    account.side.put(b"/there/file", bytes(3 * PAGE))
    number = (tmp_path / "file").stat().st_ino
    for _ in range(50):  # file systems that never reuse a number prove nothing here
        (tmp_path / "file").unlink()
        account.side.put(b"/there/file", b"x")
        if (tmp_path / "file").stat().st_ino == number:
            assert account.used == (PAGE, 1)
            break
    account.remove_all()
    assert account.used[0] >= 0


def test_pages_of_the_hosts_are_free_and_its_holes_are_not(account: Account, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2 * PAGE + 1))
    os.truncate(tmp_path / "file", 1 << 40)
    fd = account.open(b"/there/file", os.O_RDWR)
    assert account.call("pwrite64", fd, bytes(2 * PAGE), 2 * PAGE, 100) == 2 * PAGE
    assert account.used == (0, 0)
    for _ in range(2):
        assert account.call("pwrite64", fd, bytes(PAGE), PAGE, 10 * PAGE + 1) == PAGE
        assert account.used == (2 * PAGE, 0)
    assert account.call("pwrite64", fd, bytes(1 << 20), 1 << 20, 9 * PAGE) == (1 << 20)
    assert account.call("pwrite64", fd, b"x", 1, 1 << 39) == -errno.ENOSPC
    assert account.call("ftruncate", fd, 10 * PAGE) == 0
    assert account.used == (PAGE, 0)


def test_a_sparse_file_costs_what_was_written(account: Account) -> None:
    fd = account.open(b"/there/file", os.O_RDWR | os.O_CREAT)
    assert account.call("ftruncate", fd, 1 << 40) == 0
    assert account.call("pwrite64", fd, b"x", 1, 1 << 39) == 1
    assert account.used == (PAGE, 1)
    for number in range(255):
        assert account.call("pwrite64", fd, b"x", 1, number << 30) == 1
    assert account.call("pwrite64", fd, b"x", 1, (1 << 40) - 1) == -errno.ENOSPC
    assert account.call("ftruncate", fd, 0) == 0
    assert account.used == (0, 1)


def test_where_files_may_have_no_holes_lengths_are_charged(tmp_path: Path, new_box: Any, fails: Any) -> None:
    """On a file system that writes the zeros, truncating to 1 TB fills the disk."""
    with new_box("rw", tmp_path, bytes=1 << 20) as box:
        file, quota = box.open(b"a", os.O_RDWR | os.O_CREAT), box.start.superblock.quota
        mount = file.node.mount
        assert isinstance(mount, HostMount)
        mount.host.has_holes = False
        file.truncate(10 * PAGE)
        assert quota.used_bytes == 10 * PAGE
        assert file.pwrite(b"x", 5 * PAGE) == 1
        assert quota.used_bytes == 10 * PAGE
        assert file.pwrite(b"x", 20 * PAGE) == 1
        assert quota.used_bytes == 21 * PAGE
        for attempt in (lambda: file.truncate(1 << 40), lambda: file.pwrite(b"x", 1 << 40)):
            with fails(errno.ENOSPC):
                attempt()
        assert quota.used_bytes == 21 * PAGE
        file.truncate(PAGE)
        assert quota.used_bytes == PAGE
        file.release()


APPENDER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(2000):
    os.write(fd, b"host %06d\\n" % number)
"""


def test_a_host_that_appends_meanwhile_loses_nothing(account: Account, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"")
    fd = account.open(b"/there/log", os.O_WRONLY | os.O_APPEND)
    with subprocess.Popen([sys.executable, "-c", APPENDER, str(tmp_path / "log")]) as appender:
        number = 0
        while appender.poll() is None or number < 100:
            assert account.side.write(fd, b"box  %06d\n" % number) == 12
            number += 1
    assert appender.returncode == 0
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [line for line in lines if line.startswith(b"host")] == [b"host %06d" % each for each in range(2000)]
    assert [line for line in lines if line.startswith(b"box")] == [b"box  %06d" % each for each in range(number)]


def test_appending_moves_the_offset_behind_what_was_appended(account: Account, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"12345")
    fd = account.open(b"/there/log", os.O_RDWR | os.O_APPEND)
    assert account.side.write(fd, b"abc") == 3
    assert account.call("lseek", fd, 0, os.SEEK_CUR) == 8
    assert account.call("pwrite64", fd, b"def", 3, 0) == 3
    assert account.call("lseek", fd, 0, os.SEEK_CUR) == 8
    assert account.side.read(fd, 100) == b"def"
    assert (tmp_path / "log").read_bytes() == b"12345abcdef"


def test_pages_far_from_each_other_are_noted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest may write pages in descending order. Inserting each one would take seconds for 512 MiB."""
    inserted: list[int] = []
    monkeypatch.setattr(pageset, "insort", lambda starts, word: inserted.append(word))
    pages = PageSet()
    pages.add(range(1 << 19, 0, -1024))
    pages.fill(1 << 20, 1 << 21)
    assert inserted == []
    assert pages.cut(1024) == (1 << 9) + (1 << 20) + 1


def test_pages_are_counted_as_a_set_is() -> None:
    dice = random.Random(0)
    for _ in range(200):
        pages, model = PageSet(), set[int]()
        for _ in range(30):
            first = dice.choice([0, 1, 500, 511, 512, 1024, 1 << 50]) + dice.randrange(3)
            last = first + dice.choice([0, 1, 300, 600])
            missing = pages.missing(first, last)
            assert missing == [page for page in range(first, last + 1) if page not in model]
            assert pages.count_missing(first, last) == len(missing)
            match dice.randrange(5):
                case 0:
                    assert pages.cut(first) == len({page for page in model if page >= first})
                    model = {page for page in model if page < first}
                case 1:
                    gone = sorted(model)[:: dice.choice([1, 2, 7])]
                    pages.remove(gone)
                    model -= set(gone)
                case 2:
                    pages.fill(first, last)
                    model |= set(missing)
                case _:
                    pages.add(missing)
                    model |= set(missing)
            assert pages.count == len(model)
        assert pages.copy().cut(0) == len(model)
