"""The behaviour that all writable kinds of file systems have in common."""

from __future__ import annotations

import errno
import os

import pytest

from proxybox.controller import abi
from proxybox.controller.vfs.nodes import Credentials

CREATE = os.O_RDWR | os.O_CREAT


def test_what_is_written_is_read(box):
    box.write(b"f", b"hello")
    assert box.read(b"f") == b"hello"
    assert box.stat(b"f").size == 5
    assert box.stat(b"f").mode == 0o100644
    assert box.node(b"f").stat_bytes() == abi.pack_stat(box.stat(b"f"))


def test_missing_and_existing(box, fails):
    with fails(errno.ENOENT):
        box.open(b"f")
    box.open(b"f", CREATE | os.O_EXCL).release()
    with fails(errno.EEXIST):
        box.open(b"f", CREATE | os.O_EXCL)
    with fails(errno.EEXIST):
        box.mkdir(b"f")
    with fails(errno.ENOTDIR):
        box.open(b"f/g", CREATE)
    with fails(errno.ENOTDIR):
        box.open(b"f/")
    with fails(errno.EISDIR):
        box.open(b"g/", CREATE)
    with fails(errno.ENOTDIR):
        box.open(b"f", os.O_RDONLY | os.O_DIRECTORY)


def test_append_and_truncate(box):
    box.write(b"f", b"12345")
    file = box.open(b"f", os.O_WRONLY | os.O_APPEND)
    file.seek(0, os.SEEK_SET)
    file.write(b"67")
    assert file.offset == 7
    assert file.pwrite(b"8", 0) == 1  # Linux appends, whatever the offset
    file.release()
    assert box.read(b"f") == b"12345678"
    box.open(b"f", os.O_WRONLY | os.O_TRUNC).release()
    assert box.read(b"f") == b""


def test_access_modes(box, fails):
    box.write(b"f", b"x")
    reading, writing = box.open(b"f"), box.open(b"f", os.O_WRONLY)
    with fails(errno.EBADF):
        reading.write(b"y")
    with fails(errno.EBADF):
        writing.read(1)
    with fails(errno.EINVAL):
        reading.truncate(0)
    place = box.open(b"f", os.O_PATH)
    for call in (lambda: place.read(1), lambda: place.pread(1, 0), lambda: place.seek(0, 0)):
        with fails(errno.EBADF):
            call()
    assert place.stat_bytes() == box.node(b"f").stat_bytes()
    for file in (reading, writing, place):
        file.release()


def test_seek(box, fails):
    box.write(b"f", b"0123456789")
    file = box.open(b"f", os.O_RDWR)
    assert file.seek(-2, os.SEEK_END) == 8
    assert file.read(10) == b"89"
    assert file.seek(3, os.SEEK_SET) == 3
    assert file.seek(1, os.SEEK_CUR) == 4
    with fails(errno.EINVAL):
        file.seek(-5, os.SEEK_SET)
    with fails(errno.EINVAL):
        file.seek(0, 99)
    with fails(errno.EINVAL):
        file.pread(1, -1)
    assert file.pread(2, 8) == b"89"
    assert file.pread(2, 1 << 62) == b""
    file.release()


def test_holes_read_as_zeros(box):
    file = box.open(b"f", CREATE)
    file.pwrite(b"x", 10_000)
    assert file.pread(20_000, 0) == bytes(10_000) + b"x"
    file.truncate(3)
    file.truncate(5)
    assert file.pread(10, 0) == bytes(5)
    file.release()


def test_unlink_while_open(box, fails):
    file = box.open(b"f", CREATE)
    file.write(b"still here")
    box.unlink(b"f")
    with fails(errno.ENOENT):
        box.stat(b"f")
    assert file.pread(100, 0) == b"still here"
    assert file.write(b"!") == 1
    assert abi.STAT.unpack(file.stat_bytes())[2] == 0
    file.release()


def test_links_share_a_file(box, fails):
    box.write(b"f", b"one")
    box.link(b"f", b"g")
    assert box.stat(b"f").nlink == box.stat(b"g").nlink == 2
    assert box.stat(b"f").ino == box.stat(b"g").ino
    box.write(b"g", b"two")
    assert box.read(b"f") == b"two"
    box.unlink(b"f")
    assert box.stat(b"g").nlink == 1
    box.mkdir(b"d")
    with fails(errno.EPERM):
        box.link(b"d", b"e")


def test_rename_over(box, fails):
    box.write(b"a", b"a")
    box.write(b"b", b"b")
    held = box.open(b"b")
    box.rename(b"a", b"b")
    assert box.read(b"b") == b"a"
    assert held.read(1) == b"b"
    held.release()
    box.mkdir(b"d")
    box.mkdir(b"e")
    box.rename(b"d", b"e")
    box.write(b"e/f", b"")
    box.mkdir(b"d")
    with fails(errno.ENOTEMPTY):
        box.rename(b"d", b"e")
    with fails(errno.EISDIR):
        box.rename(b"b", b"d")
    with fails(errno.ENOTDIR):
        box.rename(b"d", b"b")
    with fails(errno.EINVAL):
        box.rename(b"d", b"d/x")


def test_rename_flags(box, fails):
    box.write(b"a", b"a")
    box.write(b"b", b"b")
    with fails(errno.EEXIST):
        box.rename(b"a", b"b", abi.RENAME_NOREPLACE)
    box.rename(b"a", b"b", abi.RENAME_EXCHANGE)
    assert (box.read(b"a"), box.read(b"b")) == (b"b", b"a")
    with fails(errno.ENOENT):
        box.rename(b"a", b"c", abi.RENAME_EXCHANGE)
    with fails(errno.EINVAL):
        box.rename(b"a", b"b", abi.RENAME_EXCHANGE | abi.RENAME_NOREPLACE)


def test_a_directory_is_followed_when_renamed(box):
    box.mkdir(b"d")
    box.mkdir(b"d/sub")
    held = box.node(b"d/sub")
    box.rename(b"d", b"e")
    assert box.tree.path_of(held) == b"/m/e/sub"
    box.start = held
    box.write(b"f", b"x")
    box.start = box.tree.resolve(b"/m", box.tree.root, box.creds)
    assert box.read(b"e/sub/f") == b"x"


def test_removed_directory(box, fails):
    box.mkdir(b"d")
    box.start = box.node(b"d")
    box.rmdir(b"/m/d")
    with fails(errno.ENOENT):
        box.tree.path_of(box.start)
    with fails(errno.ENOENT):
        box.open(b"f", CREATE)


def test_rmdir(box, fails):
    box.mkdir(b"d")
    box.write(b"d/f", b"")
    with fails(errno.ENOTEMPTY):
        box.rmdir(b"d")
    with fails(errno.EISDIR):
        box.unlink(b"d")
    with fails(errno.ENOTDIR):
        box.rmdir(b"d/f")
    with fails(errno.EINVAL):
        box.rmdir(b"d/.")
    with fails(errno.EACCES):
        box.rmdir(b"/m")
    box.creds = Credentials(0, 0)
    with fails(errno.EBUSY):
        box.rmdir(b"/m")
    with fails(errno.EBUSY):
        box.rename(b"/m", b"/n")
    box.unlink(b"d/f")
    box.rmdir(b"d/")
    assert box.names(b".") == set()


def test_symlinks(box, fails):
    box.write(b"f", b"x")
    box.symlink(b"f", b"l")
    assert box.read(b"l") == b"x"
    assert box.readlink(b"l") == b"f"
    assert box.stat(b"l", follow=False).mode & 0o170000 == 0o120000
    assert box.stat(b"l", follow=False).size == 1
    with fails(errno.ELOOP):
        box.open(b"l", os.O_RDONLY | os.O_NOFOLLOW)
    box.symlink(b"loop", b"loop")
    with fails(errno.ELOOP):
        box.open(b"loop")
    with fails(errno.ELOOP):
        box.open(b"loop", CREATE)
    box.symlink(b"new", b"dangling")
    box.open(b"dangling", CREATE).release()
    assert b"new" in box.names(b".")
    with fails(errno.EEXIST):
        box.open(b"l", CREATE | os.O_EXCL)
    box.unlink(b"l")
    assert box.read(b"f") == b"x"


def test_dotdot_leaves_the_mount(box):
    assert box.node(b"..") is box.tree.root
    assert box.node(b"../../m/../m") is box.start


def test_names(box, fails):
    strange = b"\xff\xfe\n\x01" + "ä".encode()
    box.write(strange, b"x")
    assert strange in box.names(b".")
    box.write(b"n" * 255, b"")
    with fails(errno.ENAMETOOLONG):
        box.write(b"n" * 256, b"")
    with fails(errno.ENAMETOOLONG):
        box.stat(b"./" * 2048 + b"x")
    with fails(errno.ENOENT):
        box.stat(b"")


def test_modes_are_kept_and_times_set(box):
    box.write(b"f", b"", 0o600)
    box.chmod(b"f", 0o751)
    assert box.stat(b"f").mode & 0o7777 == 0o751
    box.node(b"f").utimens(1_000_000_001, 2_000_000_002)
    assert box.stat(b"f").atime_ns == 1_000_000_001
    assert box.stat(b"f").mtime_ns == 2_000_000_002
    box.node(b"f").utimens(None, 3)
    assert (box.stat(b"f").atime_ns, box.stat(b"f").mtime_ns) == (1_000_000_001, 3)


def test_permissions(box, fails):
    box.write(b"f", b"x", 0o400)
    with fails(errno.EACCES):
        box.open(b"f", os.O_WRONLY)
    box.mkdir(b"d", 0o700)
    box.write(b"d/f", b"x")
    box.chmod(b"d", 0o600)
    with fails(errno.EACCES):
        box.stat(b"d/f")
    box.chmod(b"d", 0o500)
    with fails(errno.EACCES):
        box.write(b"d/g", b"x")
    with fails(errno.EACCES):
        box.unlink(b"d/f")
    box.chmod(b"d", 0o700)


def test_a_file_may_be_created_with_a_mode_that_forbids_opening_it(box):
    file = box.open(b"f", CREATE, 0o000)
    assert file.write(b"x") == 1
    file.release()
    assert box.stat(b"f").mode & 0o777 == 0


def test_getdents(box, fails):
    box.mkdir(b"d")
    for name in (b"a", b"b", b"c"):
        box.write(b"d/" + name, b"")
    file = box.open(b"d")
    with fails(errno.EINVAL):
        file.getdents(8)
    with fails(errno.EISDIR):
        file.read(1)
    records = b""
    while piece := file.getdents(64):
        records += piece
    for name in (b".\0", b"..\0", b"a\0", b"b\0", b"c\0"):
        assert name in records
    box.write(b"d/e", b"")
    assert file.getdents(1000) == b""
    file.seek(0, os.SEEK_SET)
    assert b"e\0" in file.getdents(1000)
    file.release()


def test_space_is_limited_and_given_back(new_box, tmp_path, fails, request):
    for kind in ("memory", "overlay", "rw"):
        folder = tmp_path / kind
        folder.mkdir()
        with new_box(kind, folder, bytes=64 << 10, inodes=5) as box:
            quota = box.start.superblock.quota
            before = quota.used_inodes
            for _ in range(20):
                box.write(b"f", bytes(40 << 10))
                box.unlink(b"f")
            file = box.open(b"f", CREATE)
            assert file.write(bytes(100 << 10)) == 64 << 10
            with fails(errno.ENOSPC):
                file.write(b"x")
            assert quota.exceeded
            file.truncate(10)
            assert quota.used_bytes == 4096
            assert file.pwrite(bytes(4096), 4096) == 4096
            box.unlink(b"f")
            assert quota.used_bytes > 0
            file.release()
            assert quota.used_bytes == 0
            assert quota.used_inodes == before


def test_inodes_are_limited(new_box, tmp_path, fails):
    for kind in ("memory", "overlay", "rw"):
        folder = tmp_path / kind
        folder.mkdir()
        with new_box(kind, folder, inodes=6) as box, fails(errno.ENOSPC):
            for number in range(10):
                box.mkdir(b"%d" % number)


@pytest.mark.parametrize("kind", ["ro"])
def test_read_only_refuses_every_change(new_box, host_folder, fails, kind):
    with new_box(kind, host_folder) as box:
        for call in (
            lambda: box.write(b"new", b""),
            lambda: box.open(b"file", os.O_RDWR),
            lambda: box.open(b"file", os.O_RDONLY | os.O_TRUNC),
            lambda: box.mkdir(b"new"),
            lambda: box.unlink(b"file"),
            lambda: box.rmdir(b"sub"),
            lambda: box.rename(b"file", b"other"),
            lambda: box.symlink(b"file", b"new"),
            lambda: box.link(b"file", b"new"),
            lambda: box.chmod(b"file", 0o600),
            lambda: box.truncate(b"file", 0),
        ):
            with fails(errno.EROFS):
                call()
        with fails(errno.EEXIST):
            box.mkdir(b"sub")
        assert box.read(b"file") == b"contents\n"
