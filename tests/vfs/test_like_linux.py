"""The same calls on a real file system and in a box: the same results, the same errors."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat as st
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from proxybox.controller.vfs.nodes import Credentials
from tests import sweeps

DEPTH = 10
LIBC = ctypes.CDLL(None, use_errno=True)

NAMES = some.sampled_from([b"a", b"b", b"c", b"d"])
PARTS = some.one_of(NAMES, NAMES, NAMES, some.sampled_from([b".", b"..", b"", b"n" * 256]))


def _joined(parts: list[bytes], tail: bytes) -> bytes:
    path = b"/".join(parts) + tail
    return path.lstrip(b"/") or b"."


PATHS = some.builds(_joined, some.lists(PARTS, min_size=1, max_size=4), some.sampled_from([b"", b"", b"", b"/"]))
PLAIN = some.builds(_joined, some.lists(NAMES, min_size=1, max_size=3), some.just(b""))
MODES = some.sampled_from([0o755, 0o700, 0o600, 0o444, 0o000, 0o1777, 0o644])
FLAGS = some.builds(
    lambda access, extras: access | sum(set(extras)),
    some.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]),
    some.lists(
        some.sampled_from([os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY, os.O_NOFOLLOW, os.O_PATH]),
        max_size=3,
    ),
)


def steps(
    targets: some.SearchStrategy[bytes], chmods: some.SearchStrategy[bytes] = PATHS
) -> some.SearchStrategy[list[tuple[object, ...]]]:
    write = os.O_WRONLY | os.O_CREAT
    return some.lists(
        some.one_of(
            some.tuples(some.just("open"), PATHS, FLAGS, MODES, some.binary(max_size=9)),
            some.tuples(some.just("open"), PLAIN, some.just(write), some.just(0o644), some.binary(max_size=9)),
            some.tuples(some.just("mkdir"), PATHS, MODES),
            some.tuples(some.just("mkdir"), PLAIN, some.just(0o755)),
            some.tuples(some.just("rmdir"), PATHS),
            some.tuples(some.just("unlink"), PATHS),
            some.tuples(some.just("symlink"), targets, PATHS),
            some.tuples(some.just("link"), PATHS, PATHS),
            some.tuples(some.just("rename"), PATHS, PATHS, some.sampled_from([0, 0, 0, 1, 2, 3])),
            some.tuples(some.just("chmod"), chmods, MODES),
            some.tuples(some.just("truncate"), PATHS, some.sampled_from([0, 3, 5000])),
            some.tuples(some.just("stat"), PATHS, some.booleans()),
            some.tuples(some.just("readlink"), PATHS),
            some.tuples(some.just("names"), PATHS),
            some.tuples(some.just("read"), PATHS),
        ),
        min_size=2,
        max_size=25,
    )


class Real:
    """The calls of `Box` made on the host."""

    def __init__(self, folder: str) -> None:
        self.fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)

    def open(self, path: bytes, flags: int, mode: int, data: bytes) -> bytes | int:
        fd = os.open(path, flags | os.O_NONBLOCK, mode, dir_fd=self.fd)
        try:
            if flags & os.O_PATH or st.S_ISDIR(os.fstat(fd).st_mode):
                return 0
            if flags & os.O_ACCMODE:
                os.write(fd, data)
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(path, mode, dir_fd=self.fd)

    def rmdir(self, path: bytes) -> None:
        os.rmdir(path, dir_fd=self.fd)

    def unlink(self, path: bytes) -> None:
        os.unlink(path, dir_fd=self.fd)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, path, dir_fd=self.fd)

    def link(self, old: bytes, new: bytes) -> None:
        os.link(old, new, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        if LIBC.renameat2(self.fd, old, self.fd, new, flags) != 0:
            raise OSError(ctypes.get_errno(), "renameat2")

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(path, mode, dir_fd=self.fd)

    def truncate(self, path: bytes, size: int) -> None:
        if LIBC.syscall(76, b"/proc/self/fd/%d/" % self.fd + path, size) != 0:
            raise OSError(ctypes.get_errno(), "truncate")

    def stat(self, path: bytes, follow: bool) -> tuple[int, ...]:
        seen = os.stat(path, dir_fd=self.fd, follow_symlinks=follow)
        return _shown(seen.st_mode, seen.st_nlink, seen.st_size)

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(path, dir_fd=self.fd)

    def names(self, path: bytes) -> set[bytes]:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.fd)
        try:
            return {os.fsencode(name) for name in os.listdir(fd)}
        finally:
            os.close(fd)

    def read(self, path: bytes) -> bytes:
        fd = os.open(path, os.O_RDONLY, dir_fd=self.fd)
        try:
            return os.read(fd, 10_000)
        finally:
            os.close(fd)


def _shown(mode: int, nlink: int, size: int) -> tuple[int, ...]:
    if st.S_ISDIR(mode):
        return (mode,)
    return (mode, nlink, size)


class Ours:
    """The same calls made in a `Box`."""

    def __init__(self, box) -> None:
        self.box = box

    def open(self, path, flags, mode, data):
        file = self.box.open(path, flags, mode)
        try:
            if flags & os.O_PATH or st.S_ISDIR(file.node.stat().mode):
                return 0
            if flags & os.O_ACCMODE:
                file.write(data)
            return file.node.stat().size
        finally:
            file.release()

    def stat(self, path, follow):
        seen = self.box.stat(path, follow)
        return _shown(seen.mode, seen.nlink, seen.size)

    def names(self, path):
        file = self.box.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return {name for name, _, _ in file.entries()} - {b".", b".."}
        finally:
            file.release()

    def read(self, path):
        file = self.box.open(path)
        try:
            return file.read(10_000)
        finally:
            file.release()

    def __getattr__(self, name):
        return getattr(self.box, name)


def outcome(side: object, step: tuple[object, ...]) -> object:
    name, *arguments = step
    try:
        return getattr(side, str(name))(*arguments)
    except OSError as error:
        return os.strerror(error.errno or 0)


def compare(new_box, kind: str, script: list[tuple[object, ...]]) -> None:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    parent = Path(tempfile.mkdtemp(dir=base))
    mask = os.umask(0o022)
    creds = Credentials(os.geteuid(), os.getegid(), frozenset(os.getgroups()))
    real = None
    try:
        deep = b"/".join([b"deep"] * DEPTH)
        (parent / "real" / os.fsdecode(deep)).mkdir(parents=True)
        (parent / "ours").mkdir()
        os.umask(0)
        real = Real(str(parent / "real" / os.fsdecode(deep)))
        with new_box(kind, parent / "ours", creds) as box:
            for level in range(DEPTH):
                box.mkdir(b"/".join([b"deep"] * (level + 1)))
            box.start = box.node(deep)
            ours = Ours(box)
            for number, step in enumerate(script):
                expected, got = outcome(real, step), outcome(ours, step)
                assert got == expected, (number, step)
    finally:
        os.umask(mask)
        if real is not None:
            os.close(real.fd)
        _remove(parent)


def _remove(folder: Path) -> None:
    if os.geteuid() != 0:
        for path, folders, _ in os.walk(folder):
            for name in folders:
                if not os.path.islink(os.path.join(path, name)):
                    os.chmod(os.path.join(path, name), 0o700)
    shutil.rmtree(folder)


SETTINGS = settings(
    max_examples=int(os.environ.get("PROXYBOX_EXAMPLES", sweeps.tries(33, 100))),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("kind", ["memory", "overlay-memory"])
@SETTINGS
@given(script=steps(PATHS))
def test_same_outcomes(new_box, kind, script):
    compare(new_box, kind, script)


@SETTINGS
@given(script=steps(PLAIN))
def test_same_outcomes_in_an_overlay_over_a_host_folder(new_box, script):
    # Links with ".." behind a name are refused there, so the targets have none.
    compare(new_box, "overlay", script)


@SETTINGS
@given(script=steps(PLAIN, PLAIN))
def test_same_outcomes_on_a_writable_host_folder(new_box, script):
    # Links with ".." are refused there, so the targets have none. A folder is reached by its path from the mount, so
    # those above it must stay searchable.
    compare(new_box, "rw", script)
