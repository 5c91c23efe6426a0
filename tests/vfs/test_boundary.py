"""The host's side of a mount: HostRoot opens paths by openat2(2) or by walking instead, and closes its descriptors."""

from __future__ import annotations

import errno
import fcntl
import io
import itertools
import os
import resource
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from proxybox.controller.errors import Denied, SandboxStartError
from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.host.boundary import HostRoot
from proxybox.controller.vfs.nodes import finished
from tests.vfs.conftest import errno_of

T = TypeVar("T")


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def free_descriptor(below: int) -> int:
    """Returns the number of a free descriptor, such that so many with lower numbers are free."""
    used = {int(name) for name in open_descriptors() if os.path.lexists(f"/proc/self/fd/{name}")}
    return next(itertools.islice((fd for fd in itertools.count() if fd not in used), below, None))


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "walk":
        monkeypatch.setattr(boundary, "_SYS_OPENAT2", 9999)
    return request.param


@pytest.fixture
def root(host_folder: Path) -> Iterator[HostRoot]:
    made = HostRoot(host_folder)
    before = open_descriptors()
    yield made
    assert open_descriptors() == before
    made.close()


def test_what_is_opened(root: HostRoot, host_folder: Path, way: str) -> None:
    for path in (b"", b".", b"file", b"./sub//inner", b"sub/", b"out"):
        seen = os.lstat(os.path.join(os.fsencode(host_folder), path.rstrip(b"/")))
        assert (root.look(path).st_ino, root.look(path).st_dev) == (seen.st_ino, seen.st_dev)
        assert boundary._openat2_works is (way == "openat2")
    assert root.read_link(b"out") == b"../outside"
    assert root.identity == (host_folder.stat().st_dev, host_folder.stat().st_ino)


@pytest.mark.parametrize(("path", "codes"), [
    (b"..", [errno.EACCES]), (b"sub/../..", [errno.EACCES]), (b"sub/../../outside", [errno.EACCES]),
    (b"/etc", [errno.EACCES, errno.ENOENT]), (b"out/x", [errno.EACCES, errno.ENOTDIR]), (b"none", [errno.ENOENT]),
    (b"file/x", [errno.ENOTDIR]), (b"a\0b", [errno.EINVAL]),
])  # fmt: skip
def test_what_is_not_opened(root: HostRoot, path: bytes, codes: list[int]) -> None:
    with pytest.raises(OSError) as caught:
        root.open_path(path)
    assert caught.value.errno in codes
    assert isinstance(caught.value, Denied) is (caught.value.errno == errno.EACCES)


@pytest.mark.parametrize("asked", ["mnt_id", "mountinfo"])
def test_another_mount_is_not_entered_by_the_walk(
    root: HostRoot, host_folder: Path, monkeypatch: pytest.MonkeyPatch, way: str, asked: str
) -> None:
    if way == "openat2":
        pytest.skip("the kernel looks")
    sub = (host_folder / "sub").stat().st_ino
    if asked == "mnt_id":
        monkeypatch.setattr(boundary, "_mount_id", lambda fd: (root.mount or 0) + (os.fstat(fd).st_ino == sub))
    else:
        monkeypatch.setattr(root, "mount", None)
        monkeypatch.setattr(boundary, "_mount_points", lambda: {os.fsencode(host_folder / "sub")})
    assert root.look(b"file").st_size
    for path in (b"sub", b"sub/inner"):
        with pytest.raises(Denied, match="leads out"):
            root.look(path)

    def fails(_: object = None) -> None:
        raise OSError(errno.EMFILE, "no descriptor")

    monkeypatch.setattr(boundary, "_mount_id" if asked == "mnt_id" else "_mount_points", fails)
    with pytest.raises(OSError, match="no descriptor left in the controller"):
        root.look(b"file")


def test_mount_points_are_read_with_their_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:1 /x /a\\040b\\134c rw - ext4 /dev/a rw\n"
    monkeypatch.setattr(boundary, "open", lambda *_: io.BytesIO(lines), raising=False)
    assert boundary._mount_points() == {b"/", b"/a b\\c"}


@pytest.mark.parametrize("left", range(4))
def test_a_lack_of_descriptors_is_the_system_s(root: HostRoot, left: int) -> None:
    """In every call the guest gets ENFILE, and descriptors opened before are closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = free_descriptor(left)
    of_guests = [
        lambda: root.look(b"sub/inner"), lambda: root.list_directory(b""), lambda: root.has_entry(b"", lambda _: True),
        lambda: os.close(root.open_file(b"file", os.O_RDONLY)),
    ]  # fmt: skip
    of_commits = [lambda: root.kinds(b"", 1), lambda: root.again().close(), lambda: root.below(b"sub").close()]
    for call in of_guests + of_commits:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            code = errno_of(call)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert code in {3: (0,), 0: (errno.ENFILE, errno.EMFILE)}.get(left, (0, errno.ENFILE, errno.EMFILE))
        assert code != errno.EMFILE or call in of_commits


def test_a_folder_that_cannot_be_a_root_leaves_nothing_open(host_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()
    for source in (host_folder / "file", host_folder / "none", Path("/proc"), Path("/dev")):
        with pytest.raises(SandboxStartError, match="cannot mount"):
            HostRoot(source)
        assert open_descriptors() == before

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(boundary, "_mount_id", interrupt)
    # its traceback refers to the root, so only `close` can close the descriptor
    with pytest.raises(KeyboardInterrupt) as caught:
        HostRoot(host_folder)
    assert open_descriptors() == before
    assert caught.tb


def test_roots_of_the_same_folder_and_of_one_below_are_closed_each_for_itself(host_folder: Path) -> None:
    root = HostRoot(host_folder)
    again, below = root.again(), root.below(b"sub")
    assert (again.identity, again.mount, again.device) == (root.identity, root.mount, root.device)
    assert (below.path, below.has_holes) == (os.fsencode(host_folder / "sub"), root.has_holes)
    with pytest.raises(OSError, match="not a directory"):
        root.below(b"file")
    root.close()
    root.close()
    assert root.fd == -1
    with pytest.raises(OSError) as caught:
        root.look(b"file")
    assert caught.value.errno == errno.EBADF
    assert again.look(b"sub/inner").st_ino == below.look(b"inner").st_ino
    fds = again.fd, below.fd
    del again, below
    assert not {str(fd) for fd in fds} & {*open_descriptors()}


def test_entries_that_are_shown(root: HostRoot, host_folder: Path) -> None:
    names = [name for name, _, _ in root.list_directory(b"")]
    assert names == [b".secret", b"absolute", b"file", b"inside", b"out", b"setuid", b"sub"]
    kinds = {name: kind for name, kind, _ in root.list_directory(b"")}
    assert [kinds[name] for name in (b"out", b"file", b"sub")] == [stat.S_IFLNK, stat.S_IFREG, stat.S_IFDIR]
    assert root.list_directory(b"")[2][2] == (root.identity[0], (host_folder / "file").stat().st_ino)
    assert not root.has_entry(b"", lambda name: name == b"fifo")
    assert root.has_entry(b"", lambda name: name == b"file")
    for call in (root.list_directory, lambda path: root.has_entry(path, bool)):
        with pytest.raises(NotADirectoryError):
            call(b"file")
    assert {(b"fifo", 0), (b"sub", stat.S_IFDIR)} < {*root.kinds(b"", 99)}
    assert [len(root.kinds(b"", limit)) for limit in (-5, 0, 2)] == [1, 1, 3]


@pytest.mark.parametrize(("count", "fits"), [(256, True), (257, False), (600, False)])
def test_so_many_entries_are_listed(
    root: HostRoot, host_folder: Path, monkeypatch: pytest.MonkeyPatch, count: int, fits: bool
) -> None:
    monkeypatch.setattr(boundary, "MAX_ENTRIES", 256)
    for number in range(count):
        (host_folder / "sub" / f"{number:03}").touch()
    (host_folder / "sub" / "inner").unlink()
    turns = []
    if fits:
        found = finished(_counted(root.listing(b"sub"), turns))
        assert [name for name, _, _ in found] == [b"%03d" % number for number in range(count)]
        assert len(turns) == 4  # portions of 128, each read and then merged
    else:
        assert errno_of(lambda: root.list_directory(b"sub")) == errno.ENOMEM


def _counted(work: Generator[None, None, T], turns: list[None]) -> Generator[None, None, T]:
    """Does the same work, and appends an item to `turns` for each turn."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value
        turns.append(None)
        yield


def test_a_file_is_opened_with_its_access_mode_alone(root: HostRoot, host_folder: Path) -> None:
    for flags, length in ((os.O_RDWR | os.O_APPEND | os.O_SYNC, 9), (os.O_RDONLY | os.O_CREAT, 9), (os.O_TRUNC | 1, 0)):
        fd = root.open_file(b"file", flags)
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_SYNC) == flags & os.O_ACCMODE
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert os.fstat(fd).st_size == length
        os.close(fd)
    for path in (b"fifo", b"sub", b"out"):
        with pytest.raises(Denied, match="neither a regular file"):
            root.open_file(path, os.O_RDONLY)


def test_set_id_bits_are_lost_by_writing_and_never_stored(root: HostRoot, host_folder: Path) -> None:
    file, folder = host_folder / "setuid", host_folder / "sub"
    for flags, mode in ((os.O_RDONLY, 0o6755), (os.O_WRONLY, 0o755)):
        os.close(root.open_file(b"setuid", flags))
        assert stat.S_IMODE(file.stat().st_mode) == mode
    folder.chmod(0o3755)
    for path, changed in ((b"setuid", 0o1710), (b"sub", 0o3710)):
        with root.path_fd(path) as fd:
            boundary.change_mode(fd, 0o5710)
            assert stat.S_IMODE(os.fstat(fd).st_mode) == changed
            boundary.restore_mode(fd, 0o104750)
            assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o4750


def test_a_new_file(root: HostRoot, host_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = boundary.create_file(root.fd, b"new", 0o7640)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o1640
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    os.close(fd)
    for name in (b"new", b"out", b"none/new"):
        with pytest.raises(OSError, match=r"exists|directory"):
            boundary.create_file(root.fd, name, 0o600)

    def fails(*_: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "fchmod", fails)
    with pytest.raises(OSError, match="no"):
        boundary.create_file(root.fd, b"other", 0o600)


def test_times_owners_and_names(root: HostRoot, host_folder: Path) -> None:
    with root.path_fd(b"file") as fd:
        boundary.change_times(fd, 1, 2)
        boundary.change_owner(fd, os.geteuid(), os.getegid())
    boundary.change_link_times(root.fd, b"out", 3, 4)
    assert [(each.st_atime_ns, each.st_mtime_ns) for each in (root.look(b"file"), root.look(b"out"))] == [
        (1, 2),
        (3, 4),
    ]
    boundary.rename(root.fd, b"file", root.fd, b"moved", 0)
    assert (host_folder / "moved").read_bytes() == b"contents\n"
    for old, new, code in ((b"a\0", b"b", errno.EINVAL), (b"a", b"b\0", errno.EINVAL), (b"file", b"b", errno.ENOENT)):
        with pytest.raises(OSError) as caught:
            boundary.rename(root.fd, old, root.fd, new, 0)
        assert caught.value.errno == code
    boundary.write_out(root.fd)


def test_filesystems(root: HostRoot) -> None:
    assert root.has_holes is (boundary.filesystem_type(root.fd) in boundary._WITH_HOLES)
    assert boundary.filesystem_type(-1) == 0
    with pytest.raises(OSError, match="statfs failed"):
        boundary._filesystem(-1)
    with open("/proc/self/mounts", "rb") as file:
        assert boundary.filesystem_type(file.fileno()) == boundary._filesystem(file.fileno()) in boundary._REFUSED


def test_why_a_source_cannot_be_mounted(host_folder: Path) -> None:
    (host_folder / "loop").symlink_to("loop")
    said = {
        "file": "",
        "sub": "",
        "none": "does not exist",
        "file/x": "does not exist",
        "fifo": "is neither a file nor",
    }
    for name, words in {**said, "loop": "cannot be reached"}.items():
        assert boundary.why_no_mount(str(host_folder / name)).startswith(words)
        assert bool(boundary.why_no_mount(str(host_folder / name))) is bool(words)
