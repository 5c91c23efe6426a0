"""What a box is charged for on a writable host folder: what it would be for the same in memory, and never less."""

import errno
import os
import random
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxybox.controller.abi import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, S_IFDIR, S_IFLNK, S_IFMT, STAT
from proxybox.controller.vfs.hostmount import HostMount

MakeSide = Callable[..., Any]
PAGE = 4096


class Account:
    """One side, what it has used since it began, and its calls in the folder where files are charged."""

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
        """Directories are closed again: on the host none is held open, and so a removed one is gone at once."""
        fd: int = self.call("open", path, flags, 0o644)
        if fd >= 0:
            self.fds.append(fd)
            if self.mode(fd=fd) == S_IFDIR:
                self.close(fd)
        return fd

    def mode(self, path: bytes = b"", fd: int = AT_FDCWD) -> int:
        """The S_IFMT part, 0 where there is nothing."""
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
    """One call, the same for the same dice; its answer."""
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


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("disk", [1 << 30, 100_000])
def test_whatever_is_done_costs_what_it_costs_in_memory(
    make_account: Callable[..., Account], tmp_path: Path, seed: int, disk: int
) -> None:
    """The files in memory are the model: the same answers, and the same bytes and inodes after each call."""
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
