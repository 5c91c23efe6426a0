"""Descriptor numbers, and the descriptions that they share."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as some

from proxybox.controller.vfs.descriptors import DescriptorTable
from proxybox.controller.vfs.memory import MemoryFile
from proxybox.controller.vfs.nodes import Superblock
from proxybox.controller.vfs.openfiles import OpenFile


def new_file() -> OpenFile:
    return MemoryFile(Superblock(), 0o644, 0, 0).open(os.O_RDWR)


def test_the_lowest_free_number_is_given():
    table = DescriptorTable(10)
    assert [table.install(new_file()) for _ in range(4)] == [0, 1, 2, 3]
    table.close(1)
    table.close(2)
    assert [table.install(new_file()) for _ in range(3)] == [1, 2, 4]
    assert table.dup(0, minimum=7) == 7
    assert table.dup(0) == 5


def test_too_many(fails):
    table = DescriptorTable(3)
    for _ in range(3):
        table.install(new_file())
    with fails(errno.EMFILE):
        table.install(new_file())
    with fails(errno.EMFILE):
        table.dup(0)
    with fails(errno.EMFILE):
        table.room_for(1)
    with fails(errno.EINVAL):
        table.dup(0, minimum=3)
    with fails(errno.EBADF):
        table.dup2(0, 3)
    table.close(1)
    assert table.install(new_file()) == 1


@pytest.mark.parametrize("fd", [5, -1, 1 << 31, (1 << 32) - 1])
def test_numbers_that_are_not_open(fails, fd):
    table = DescriptorTable(3)
    for call in (table.get, table.close, table.dup, table.cloexec):
        with fails(errno.EBADF):
            call(fd)
    with fails(errno.EBADF):
        table.dup2(fd, 0)


def test_duplicates_share_offset_and_end_together():
    table = DescriptorTable()
    fd = table.install(new_file())
    other = table.dup(fd)
    table.get(fd).write(b"abc")
    assert table.get(other).offset == 3
    node = table.get(fd).node
    node.nlink = 0  # type: ignore[attr-defined]
    table.close(fd)
    assert table.get(other).pread(3, 0) == b"abc"
    table.close(other)
    assert node.opens == 0  # type: ignore[attr-defined]


def test_dup2_closes_what_was_there():
    table = DescriptorTable()
    one, two = table.install(new_file()), table.install(new_file())
    gone = table.get(two).node
    assert table.dup2(one, two) == two
    assert table.get(two) is table.get(one)
    assert gone.opens == 0  # type: ignore[attr-defined]
    assert table.dup2(one, one) == one
    assert table.dup2(one, 9) == 9


def test_close_on_exec():
    table = DescriptorTable()
    fd = table.install(new_file(), cloexec=True)
    assert table.cloexec(fd)
    assert not table.cloexec(table.dup(fd))
    table.set_cloexec(fd, False)
    assert not table.cloexec(fd)
    table.cloexec_range(0, 1 << 32)
    assert table.cloexec(1)


def test_ranges():
    table = DescriptorTable()
    for _ in range(6):
        table.install(new_file())
    table.close_range(2, 1 << 32)
    assert list(table) == [0, 1]
    table.close_all()
    assert len(table) == 0


@given(
    some.lists(
        some.tuples(some.sampled_from(["open", "close", "dup", "dup2"]), some.integers(0, 9), some.integers(0, 9))
    )
)
def test_numbers_as_the_kernel_gives_them(steps):
    table, mine = DescriptorTable(10), set()
    for name, fd, other in steps:
        free = min(set(range(11)) - mine)
        with contextlib.suppress(OSError):  # EBADF or EMFILE: then nothing may have changed
            if name == "open":
                assert table.install(new_file()) == free
                mine.add(free)
            elif name == "close":
                table.close(fd)
                mine.remove(fd)
            elif name == "dup":
                lowest = min(set(range(other, 11)) - mine)
                assert table.dup(fd, other) == lowest
                mine.add(lowest)
            else:
                table.dup2(fd, other)
                mine.add(other)
        assert set(table) == mine
