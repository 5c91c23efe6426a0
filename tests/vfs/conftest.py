"""Trees of every kind, with methods like the functions of `os`."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxybox.controller.vfs import namei
from proxybox.controller.vfs.host.mount import HostMount
from proxybox.controller.vfs.memory import MemoryDirectory
from proxybox.controller.vfs.nodes import Credentials, Directory, Node, Stat, Superblock
from proxybox.controller.vfs.openfiles import OpenFile
from proxybox.controller.vfs.overlay.mount import OverlayMount
from proxybox.controller.vfs.quota import Quota
from proxybox.controller.vfs.tree import Tree
from tests.vfs import rights
from tests.vfs.rights import ACCESS, DEFAULT, FOR_NEW, SOME_REFUSED, acl

ME = Credentials(1000, 1000)


class Box:
    """A tree with a mount at /m, which is the working directory of calls."""

    def __init__(self, root: Directory, creds: Credentials = ME) -> None:
        self.creds = creds
        self.tree = Tree(MemoryDirectory(Superblock(uid=0, gid=0), 0o755))
        self.tree.mount(b"/m", root)
        self.start: Directory = root

    def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o644) -> OpenFile:
        file = namei.open_file(self.tree, path, self.start, self.creds, flags, mode)
        file.hold()
        return file

    def node(self, path: bytes, follow: bool = True) -> Node:
        return self.tree.resolve(path, self.start, self.creds, follow=follow)

    def stat(self, path: bytes, follow: bool = True) -> Stat:
        return self.node(path, follow).stat()

    def mkdir(self, path: bytes, mode: int = 0o755) -> None:
        namei.mkdir(self.tree, path, self.start, self.creds, mode)

    def rmdir(self, path: bytes) -> None:
        namei.rmdir(self.tree, path, self.start, self.creds)

    def unlink(self, path: bytes) -> None:
        namei.unlink(self.tree, path, self.start, self.creds)

    def symlink(self, target: bytes, path: bytes) -> None:
        namei.symlink(self.tree, target, path, self.start, self.creds)

    def link(self, old: bytes, new: bytes) -> None:
        node = self.node(old, follow=False)
        namei.link(self.tree, node, new, self.start, self.creds)

    def rename(self, old: bytes, new: bytes, flags: int = 0) -> None:
        namei.rename(self.tree, old, self.start, new, self.start, self.creds, flags)

    def chmod(self, path: bytes, mode: int) -> None:
        namei.chmod(self.node(path), self.creds, mode)

    def truncate(self, path: bytes, size: int) -> None:
        namei.truncate(self.node(path), self.creds, size)

    def readlink(self, path: bytes) -> bytes:
        node = self.node(path, follow=False)
        if not hasattr(node, "target"):
            raise OSError(errno.EINVAL, "not a link")
        return bytes(node.target)

    def write(self, path: bytes, data: bytes, mode: int = 0o644) -> None:
        file = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        assert file.write(data) == len(data)
        file.release()

    def read(self, path: bytes) -> bytes:
        file = self.open(path)
        pieces = []
        while piece := file.read(1 << 20):
            assert isinstance(piece, bytes)
            pieces.append(piece)
        file.release()
        return b"".join(pieces)

    def names(self, path: bytes) -> set[bytes]:
        node = self.node(path)
        assert isinstance(node, Directory)
        return {name for name, _, _ in node.entries()}


@contextmanager
def fails(code: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code]


def errno_of(call: Callable[[], object]) -> int:
    """The number of the error that a call raises; 0 for none."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.fixture(name="fails")
def fails_fixture() -> Callable[..., object]:
    return fails


@contextmanager
def new_box(kind: str, folder: Path, creds: Credentials = ME, **quota: int) -> Iterator[Box]:
    superblock = Superblock(dev=9, uid=creds.uid, gid=creds.gid, quota=Quota(**quota))
    if kind == "memory":
        yield Box(MemoryDirectory(superblock, 0o755), creds)
        return
    if kind == "overlay-memory":
        below = MemoryDirectory(Superblock(uid=creds.uid, gid=creds.gid), 0o755)
        yield Box(OverlayMount(below, superblock).root, creds)
        return
    if kind == "rw":
        mount = HostMount(str(folder), superblock, writable=True)
    else:
        mount = HostMount(str(folder), Superblock(uid=creds.uid, gid=creds.gid))
    assert isinstance(mount.root, Directory)
    root = mount.root if kind in ("rw", "ro") else OverlayMount(mount.root, superblock).root
    yield Box(root, creds)
    mount.close()


@pytest.fixture(name="new_box")
def new_box_fixture() -> Callable[..., object]:
    return new_box


@pytest.fixture(params=["memory", "overlay-memory", "overlay", "rw"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    with new_box(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def host_folder(tmp_path: Path) -> Path:
    """A host folder with a file, a folder, links, a FIFO, a dotfile and a set-id file."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_bytes(b"contents\n")
    (folder / "sub" / "inner").write_bytes(b"inner\n")
    (folder / ".secret").write_bytes(b"secret\n")
    (folder / "inside").symlink_to("sub/inner")
    (folder / "out").symlink_to("../outside")
    (folder / "absolute").symlink_to(str(tmp_path / "outside"))
    (tmp_path / "outside").write_bytes(b"outside\n")
    os.mkfifo(folder / "fifo")
    (folder / "setuid").write_bytes(b"#!\n")
    (folder / "setuid").chmod(0o6755)
    return folder


@pytest.fixture(params=["ext4 or so", "tmpfs"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a disk or in memory that every user may enter, with the state folder in it."""
    in_memory = request.param == "tmpfs" and os.access("/dev/shm", os.W_OK)
    top = Path(tempfile.mkdtemp(dir="/dev/shm" if in_memory else None))
    top.chmod(0o755)
    monkeypatch.setenv("XDG_STATE_HOME", str(top / "state"))
    if why := rights.why_not(top):
        pytest.skip(why)
    yield top
    shutil.rmtree(top)


@pytest.fixture
def folder_with_rights(disk: Path) -> Path:
    """A folder with a file and a folder, both with an ACL and an attribute, a plain file, and a plain folder."""
    folder = disk / "folder"
    for name in ("d", "plain.d"):
        (folder / name).mkdir(parents=True)
    for name in ("f", "plain", "d/f"):
        (folder / name).write_text(f"{name} of the host")
        (folder / name).chmod(0o640)
    for name in ("f", "d/f"):
        os.setxattr(folder / name, "user.note", b"kept")
        os.setxattr(folder / name, ACCESS, acl(SOME_REFUSED))
    os.setxattr(folder / "d", ACCESS, acl("user::rwx,user:1001:---,group::r-x,mask::r-x,other::--x"))
    os.setxattr(folder / "d", DEFAULT, acl(FOR_NEW))
    os.setxattr(folder / "d", "user.note", b"of the folder")
    return folder
