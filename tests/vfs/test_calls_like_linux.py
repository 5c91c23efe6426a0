"""Each call on names of each kind, on a real file system and in a box: the same results and errors."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxybox.controller import abi
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.nodes import Credentials
from tests.vfs.test_like_linux import Ours, Real, _remove, outcome

USER = 1000
_CREATE = os.O_WRONLY | os.O_CREAT
#: The contents of the working directory of the calls. Files that root makes there stay root's.
TREE = [
    ("open", b"f", _CREATE, 0o644, b"12345"), ("open", b"g", _CREATE, 0o640, b"g"), ("open", b"dark", _CREATE, 0, b""),
    ("mkdir", b"d", 0o755), ("mkdir", b"e", 0o755), ("mkdir", b"full", 0o755), ("mkdir", b"full/sub", 0o755),
    ("mkdir", b"closed", 0o755), ("open", b"closed/f", _CREATE, 0o644, b"c"), ("chmod", b"closed", 0),
    ("mkdir", b"fixed", 0o755), ("open", b"fixed/f", _CREATE, 0o644, b"x"), ("mkdir", b"fixed/d", 0o755),
    ("chmod", b"fixed", 0o555), ("mkdir", b"still", 0o555), ("symlink", b"f", b"to_f"), ("symlink", b"d", b"to_d"),
    ("symlink", b"new", b"to_new"), ("symlink", b"loop", b"loop"), ("symlink", b"d/", b"to_slash"),
]  # fmt: skip
OF_ROOT = [
    ("mkdir", b"sticky", 0o1777), ("open", b"sticky/f", _CREATE, 0o666, b"root's"), ("mkdir", b"sticky/d", 0o777),
    ("open", b"roots", _CREATE, 0o666, b"r"),
]  # fmt: skip
NAMES = [
    b"f", b"d", b"e", b"full", b"full/sub", b"none", b"none/", b"none/x", b"f/", b"f/x", b"d/", b"d/new", b"d/new/",
    b".", b"..", b"d/.", b"d/..", b"to_f", b"to_f/", b"to_d", b"to_d/", b"to_new", b"to_new/", b"loop", b"loop/x",
    b"closed/f", b"fixed/f", b"fixed/d", b"fixed/new", b"still", b"sticky/f", b"sticky/d", b"sticky/new",
]  # fmt: skip
FURTHER = [b"", b"g", b"dark", b"roots", b"closed", b"full/", b"to_slash", b"to_slash/new", b"n" * 256, b"x/" * 2048]
FLAGS = [
    os.O_RDONLY, os.O_WRONLY, 3, os.O_RDWR | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC, _CREATE, _CREATE | os.O_EXCL,
    _CREATE | os.O_TRUNC, _CREATE | os.O_NOFOLLOW, os.O_RDWR | os.O_APPEND, os.O_DIRECTORY, os.O_NOFOLLOW, os.O_PATH,
    os.O_DIRECTORY | os.O_NOFOLLOW, os.O_PATH | os.O_NOFOLLOW, os.O_PATH | os.O_DIRECTORY, os.O_TMPFILE | os.O_RDWR,
    os.O_TMPFILE, os.O_NOATIME,
]  # fmt: skip


class FurtherReal(Real):
    """More calls on the host."""

    def access(self, path: bytes, mask: int) -> None:
        if not os.access(path, mask, dir_fd=self.fd, effective_ids=True):
            raise OSError(0, "access")

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        os.chown(path, uid, gid, dir_fd=self.fd)

    def utimens(self, path: bytes, seconds: tuple[int, int] | None) -> None:
        os.utime(path, seconds, dir_fd=self.fd)

    def mknod(self, path: bytes, mode: int) -> None:
        os.mknod(path, mode, dir_fd=self.fd)


class FurtherOurs(Ours):
    """The same calls in a box."""

    def access(self, path: bytes, mask: int) -> None:
        try:
            namei.access(self.box.node(path), self.box.creds, mask)
        except OSError:
            raise OSError(0, "access") from None

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        namei.chown(self.box.node(path), self.box.creds, uid, gid)

    def utimens(self, path: bytes, seconds: tuple[int, int] | None) -> None:
        times = (abi.NS, abi.NS) if seconds is None else (seconds[0] * abi.NS, seconds[1] * abi.NS)
        namei.utimens(self.box.node(path), self.box.creds, *times, touch=seconds is None)

    def mknod(self, path: bytes, mode: int) -> None:
        namei.mknod(self.box.tree, path, self.box.start, self.box.creds, mode)


def on_one_name(name: bytes) -> Iterator[tuple[object, ...]]:
    yield from (("open", name, flags, 0o751, b"abc") for flags in FLAGS)
    yield from (("mkdir", name, 0o751), ("rmdir", name), ("unlink", name), ("readlink", name), ("mknod", name, 0o6640))
    yield from (("symlink", target, name) for target in (b"f", b"", b"t" * 4095, b"t" * 4096))
    yield from (("chmod", name, mode) for mode in (0o7777, 0o2070))
    yield from (("truncate", name, size) for size in (0, 3, 9) if name)
    yield from (("access", name, mask) for mask in range(8))
    yield from (("chown", name, uid, gid) for uid, gid in itertools.product((-1, 0, USER), (-1, 0, USER)))
    yield from (("utimens", name, seconds) for seconds in (None, (1, 2)))
    yield from (("stat", name, True), ("stat", name, False), ("names", name), ("read", name))


def on_two_names(old: bytes, new: bytes) -> Iterator[tuple[object, ...]]:
    if old != b"sticky/d":  # EPERM by fs.protected_hardlinks, which the kernel checks first
        yield "link", old, new
    yield from (("rename", old, new, flags) for flags in range(4))


class Sides:
    """A folder of the host and one of a box, made again after each call that has changed something."""

    def __init__(self, box, top: Path, uid: int) -> None:
        self.box, self.top, self.uid, self.number, self.real = box, top, uid, 0, None
        self.ours = FurtherOurs(box)

    def anew(self) -> None:
        self.close()
        self.number += 1
        real, name = self.top / str(self.number) / "start", b"/m/%d/start" % self.number
        real.parent.mkdir(0o755)
        real.mkdir(0o755)
        self.box.mkdir(b"/m/%d" % self.number)
        self.box.mkdir(name)
        self.box.start = self.box.node(name)
        self.real = FurtherReal(str(real))
        if os.geteuid() == 0:
            self._as(0, OF_ROOT)
            os.chown(real, self.uid, self.uid)
            os.chown(real.parent, self.uid, self.uid)
        for node in (self.box.start, self.box.start.parent):
            namei.chown(node, Credentials(0, 0), self.uid, self.uid)
        self._as(self.uid, TREE)

    def _as(self, uid: int, steps: list[tuple[object, ...]]) -> None:
        for step in steps:
            assert self.both(uid, step) == ("same", False), step

    def both(self, uid: int, step: tuple[object, ...]) -> tuple[object, bool]:
        """Makes a call on both sides. Returns "same" or both results, and whether the box's was an error."""
        self.box.creds = Credentials(uid, uid)
        before = os.geteuid()
        if before != uid:
            os.setegid(uid)
            os.seteuid(uid)
        try:
            expected = outcome(self.real, step)
        finally:
            if before != uid:
                os.seteuid(before)
                os.setegid(before)
        got = outcome(self.ours, step)
        return "same" if got == expected else (got, expected), isinstance(got, str)

    def close(self) -> None:
        self.box.creds = Credentials(0, 0)
        if self.real is not None:
            os.close(self.real.fd)


@pytest.fixture(params=["root", "user"])
def uid(request: pytest.FixtureRequest) -> Iterator[int]:
    if os.geteuid() != 0 and request.param == "root":
        pytest.skip("needs root")
    groups, mask = os.getgroups(), os.umask(0)
    if os.geteuid() == 0:
        os.setgroups([])
    yield os.geteuid() if os.geteuid() else {"root": 0, "user": USER}[request.param]
    if os.geteuid() == 0:
        os.setgroups(groups)
    os.umask(mask)


def compare(new_box: Callable[..., object], kind: str, uid: int, steps: Iterator[tuple[object, ...]]) -> None:
    top = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    top.chmod(0o755)
    differ = []
    with new_box(kind, top, Credentials(0, 0)) as box:
        sides = Sides(box, top, uid)
        sides.anew()
        for step in steps:
            same, failed = sides.both(uid, step)
            if same != "same":
                differ.append((step, same))
            if not failed:
                for name in {each for each in step[1:] if isinstance(each, bytes)}:
                    after = sides.both(0 if os.geteuid() == 0 else uid, ("stat", name, False))[0]
                    if after != "same":
                        differ.append((step, "then", name, after))
                sides.anew()
        sides.close()
    _remove(top)
    print(*differ, sep="\n")
    assert not differ


@pytest.mark.sized(1)
@pytest.mark.parametrize("kind", ["memory", "overlay-memory"])
def test_calls_on_one_name(new_box, uid, kind):
    compare(new_box, kind, uid, itertools.chain.from_iterable(map(on_one_name, [*NAMES, *FURTHER])))


def test_calls_on_two_names(new_box, uid):
    compare(new_box, "memory", uid, (step for pair in itertools.product(NAMES, NAMES) for step in on_two_names(*pair)))
