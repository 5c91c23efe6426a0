"""Calls that take a path."""

import errno
import struct

from proxybox.controller import abi
from proxybox.controller.oscalls import attributes, descriptors, directories, paths

CWD = abi.AT_FDCWD


def open_file(box, path, flags=abi.O_RDONLY, mode=0o666):
    fd = box.value(paths.openat, CWD, path, flags, mode)
    assert fd >= 0, errno.errorcode[-fd]
    return fd


def test_open_gives_the_lowest_number_and_read_its_bytes(box):
    first, second = open_file(box, b"/data/hello"), open_file(box, b"/data/empty")
    assert second == first + 1
    assert box.call(descriptors.read, first, 64, 100) == (13, (64, b"hello, world\n"))
    assert box.call(descriptors.read, second, 64, 100) == (0, (64, b""))
    assert box.value(descriptors.close, first) == 0
    assert open_file(box, b"data/hello") == first


def test_open_creates_with_the_umask_taken_off(box):
    box.world.umask = 0o077
    open_file(box, b"/tmp/new", abi.O_CREAT | abi.O_WRONLY, 0o666)
    status = box.written(paths.stat, b"/tmp/new", 1)
    assert abi.STAT.unpack(status)[3] == abi.S_IFREG | 0o600


def test_open_refuses_what_linux_refuses(box):
    exclusive = abi.O_CREAT | abi.O_EXCL
    assert box.value(paths.openat, CWD, b"/data/hello", exclusive, 0) == -errno.EEXIST
    assert box.value(paths.openat, CWD, b"/data", abi.O_WRONLY, 0) == -errno.EISDIR
    assert box.value(paths.openat, CWD, b"/data/hello", abi.O_DIRECTORY, 0) == -errno.ENOTDIR
    assert box.value(paths.openat, CWD, b"", 0, 0) == -errno.ENOENT
    assert box.value(paths.openat, 99, b"relative", 0, 0) == -errno.EBADF
    fd = open_file(box, b"/data/hello")
    assert box.value(paths.openat, fd, b"relative", 0, 0) == -errno.ENOTDIR
    assert box.value(paths.openat, fd, b"/data/hello", 0, 0) >= 0  # an absolute path needs no dirfd


def test_openat2_refuses_unknown_flags_and_resolve(box):
    def how(flags=0, mode=0, resolve=0):
        return struct.pack("<QQQ", flags, mode, resolve)

    assert box.value(paths.openat2, CWD, b"/data/hello", how(), 24) >= 0
    assert box.value(paths.openat2, CWD, b"/data/hello", how(1 << 40), 24) == -errno.EINVAL
    assert box.value(paths.openat2, CWD, b"/data/hello", how(mode=0o600), 24) == -errno.EINVAL
    beneath = how(resolve=abi.RESOLVE_BENEATH)
    assert box.value(paths.openat2, CWD, b"/data/hello", beneath, 24) == -errno.EOPNOTSUPP
    for bit in range(64):  # openat2(2): EINVAL for flags that no kernel knows
        offered = {abi.RESOLVE_NO_MAGICLINKS: 0}.get(1 << bit, -errno.EOPNOTSUPP if bit < 6 else -errno.EINVAL)
        assert min(box.value(paths.openat2, CWD, b"/data/hello", how(resolve=1 << bit), 24), 0) == offered, bit
    assert box.value(paths.openat2, CWD, b"/data/hello", how(), 32) == -errno.E2BIG
    assert box.value(paths.openat2, CWD, b"/data/hello", None, 24) == -errno.EFAULT


def test_the_stat_family_agrees(box):
    fd = open_file(box, b"/data/hello")
    one = box.written(paths.stat, b"/data/hello", 1)
    assert one == box.written(descriptors.fstat, fd, 1)
    assert one == box.written(paths.lstat, b"/data/hello", 1)
    assert one == box.written(paths.newfstatat, CWD, b"data/hello", 1, 0)
    assert one == box.written(paths.newfstatat, fd, b"", 1, abi.AT_EMPTY_PATH)
    wide = box.written(paths.statx, fd, b"", abi.AT_EMPTY_PATH, 0xFFF, 1)
    assert len(wide) == 256
    assert abi.STATX.unpack(wide)[9] == abi.STAT.unpack(one)[8] == 13
    assert box.value(paths.newfstatat, CWD, b"/data", 1, 1 << 20) == -errno.EINVAL
    assert box.value(paths.statx, CWD, b"/data", 0, 1 << 31, 1) == -errno.EINVAL


def test_symlinks_are_followed_unless_told_not_to(box):
    assert box.value(paths.symlink, b"/data/hello", b"/tmp/link") == 0
    assert box.call(paths.readlink, b"/tmp/link", 8, 100) == (11, (8, b"/data/hello"))
    assert box.call(paths.readlink, b"/tmp/link", 8, 5) == (5, (8, b"/data"))
    assert box.value(paths.readlink, b"/tmp/link", 8, 0) == -errno.EINVAL
    assert box.value(paths.readlink, b"/data/hello", 8, 9) == -errno.EINVAL
    follow = box.written(paths.stat, b"/tmp/link", 1)
    itself = box.written(paths.newfstatat, CWD, b"/tmp/link", 1, abi.AT_SYMLINK_NOFOLLOW)
    assert abi.STAT.unpack(follow)[3] & abi.S_IFMT == abi.S_IFREG
    assert abi.STAT.unpack(itself)[3] & abi.S_IFMT == abi.S_IFLNK
    assert box.value(paths.openat, CWD, b"/tmp/link", abi.O_NOFOLLOW, 0) == -errno.ELOOP


def test_names_come_and_go(box):
    assert box.value(paths.mkdir, b"/tmp/d", 0o755) == 0
    assert box.value(paths.mkdir, b"/tmp/d", 0o755) == -errno.EEXIST
    assert box.value(paths.mknod, b"/tmp/d/f", abi.S_IFREG | 0o600, 0) == 0
    assert box.value(paths.mknod, b"/tmp/d/dev", abi.S_IFCHR | 0o600, 0x103) == -errno.EPERM
    assert box.value(paths.rmdir, b"/tmp/d") == -errno.ENOTEMPTY
    assert box.value(paths.link, b"/tmp/d/f", b"/tmp/g") == 0
    assert box.value(paths.rename, b"/tmp/g", b"/tmp/h") == 0
    assert box.value(paths.renameat2, CWD, b"/tmp/h", CWD, b"/tmp/d/f", 64) == -errno.EINVAL
    assert box.value(paths.unlinkat, CWD, b"/tmp/d/f", 1) == -errno.EINVAL
    assert box.value(paths.unlink, b"/tmp/d/f") == 0
    assert box.value(paths.unlink, b"/tmp/d") == -errno.EISDIR
    assert box.value(paths.rmdir, b"/tmp/d") == 0
    assert box.value(paths.unlink, b"/tmp/h") == 0


def test_chdir_moves_relative_paths(box):
    assert box.value(paths.chdir, b"/data/sub") == 0
    assert box.call(paths.getcwd, 8, 100) == (10, (8, b"/data/sub\0"))
    assert box.value(paths.getcwd, 8, 9) == -errno.ERANGE
    assert box.value(paths.access, b"deep", abi.R_OK) == 0
    assert box.value(paths.chdir, b"deep") == -errno.ENOTDIR
    fd = open_file(box, b"/data", abi.O_DIRECTORY)
    assert box.value(paths.fchdir, fd) == 0
    assert box.written(paths.getcwd, 8, 100) == b"/data\0"
    assert box.value(directories.chroot, b"/data") == -errno.EPERM


def test_modes_and_times(box):
    assert box.value(attributes.chmod, b"/data/hello", 0o400) == 0
    assert box.value(paths.access, b"/data/hello", abi.W_OK) == -errno.EACCES
    assert box.value(paths.access, b"/data/hello", 8) == -errno.EINVAL
    times = abi.pack_timespec(1_500_000_000) + struct.pack("<qq", 0, abi.UTIME_OMIT)
    assert box.value(attributes.utimensat, CWD, b"/data/hello", times, 0) == 0
    status = abi.STAT.unpack(box.written(paths.stat, b"/data/hello", 1))
    assert status[11:13] == (1, 500_000_000)
    fd = open_file(box, b"/data/hello")
    assert box.value(attributes.utimensat, fd, None, None, 0) == 0
    bad = struct.pack("<qqqq", 0, -1, 0, 0)
    assert box.value(attributes.utimensat, CWD, b"/data/hello", bad, 0) == -errno.EINVAL
    assert box.value(attributes.utimensat, CWD, None, None, 0) == -errno.EFAULT
    assert box.value(attributes.utimes, b"/data/hello", struct.pack("<qqqq", -1, 0, 1 << 62, 0)) == 0
    assert box.value(attributes.chown, b"/data/hello", 0xFFFFFFFF, 0xFFFFFFFF) == 0
    assert box.value(attributes.chown, b"/data/hello", 0, 0) == -errno.EPERM


def test_getdents_gives_every_entry_once(box):
    fd = open_file(box, b"/data", abi.O_DIRECTORY)
    names = []
    while data := box.call(directories.getdents64, fd, 8, 64):
        records = data[1][1]
        while records:
            _, _, size, _ = abi.DIRENT_HEAD.unpack_from(records)
            names.append(records[19:size].rstrip(b"\0"))
            records = records[size:]
    assert sorted(names) == [b".", b"..", b"empty", b"hello", b"sub"]
    assert box.value(directories.getdents64, fd, 8, 1) == 0  # at the end of the folder
    box.value(descriptors.lseek, fd, 0, abi.SEEK_SET)
    assert box.value(directories.getdents64, fd, 8, 1) == -errno.EINVAL
    assert box.value(directories.getdents64, open_file(box, b"/data/hello"), 8, 64) == -errno.ENOTDIR


def test_statfs_tells_the_quota(make_box):
    box = make_box(limits={"disk": "1M"})
    status = abi.STATFS.unpack(box.written(paths.statfs, b"/", 1))
    assert status[2] == (1 << 20) // 4096
    assert 0 < status[3] < status[2]
