"""Ways out of a mount, one in each test."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxybox.controller.errors import Denied, SandboxStartError
from proxybox.controller.vfs.commits.committing import CommitRefused
from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.host.library import library
from proxybox.controller.vfs.host.mount import HostMount
from proxybox.controller.vfs.memory import MemoryDirectory
from proxybox.controller.vfs.nodes import Credentials, Superblock
from proxybox.controller.vfs.overlay.collecting import changes_of
from proxybox.controller.vfs.overlay.mount import OverlayMount
from tests.vfs.commitscenes import commit_overlay

CREATE = os.O_RDWR | os.O_CREAT
HOST_KINDS = ["ro", "rw", "overlay"]


@pytest.fixture(params=HOST_KINDS)
def mounted(request, new_box, host_folder):
    with new_box(request.param, host_folder) as box:
        yield box


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def way_of_opening(request, monkeypatch):
    """Runs each test with openat2, and as on a host that refuses it."""
    if request.param == "walk":
        monkeypatch.setattr(boundary, "_SYS_OPENAT2", 9999)


def test_dotdot_does_not_reach_the_host(mounted, fails):
    for path in (b"../outside", b"../../outside", b"sub/../../outside", b"/../outside"):
        with fails(errno.ENOENT):
            mounted.open(path)


def test_symlink_out_of_the_mount_is_walked_in_the_box_only(mounted, fails):
    for path in (b"out", b"absolute", b"out/x"):
        with fails(errno.ENOENT):
            mounted.open(path)
    assert mounted.read(b"inside") == b"inner\n"


def test_symlinks_do_not_tell_host_paths(mounted, tmp_path):
    assert os.fsencode(tmp_path) not in mounted.readlink(b"absolute")
    assert b"outside" not in mounted.readlink(b"out").replace(b"(outside)", b"")


def test_absolute_symlink_into_the_mount_is_shown_as_a_path_of_the_box(new_box, host_folder):
    (host_folder / "own").symlink_to(host_folder / "file")
    mount = HostMount(str(host_folder), Superblock(), target=b"/m")
    assert mount.root.lookup(b"own").target == b"/m/file"  # type: ignore[attr-defined]
    mount.close()


def test_fifo_neither_shows_nor_blocks(mounted, fails):
    assert b"fifo" not in mounted.names(b".")
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_PATH):
        with fails(errno.ENOENT):
            mounted.open(b"fifo", flags)
    with fails(errno.ENOENT):
        mounted.stat(b"fifo")


def test_fifo_swapped_in_after_the_lookup_does_not_block(new_box, host_folder):
    mount = HostMount(str(host_folder), Superblock())
    node = mount.root.lookup(b"file")  # type: ignore[attr-defined]
    (host_folder / "file").unlink()
    os.mkfifo(host_folder / "file")
    with pytest.raises(Denied):
        node.open(os.O_RDONLY)
    mount.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a device")
def test_device_does_not_exist(new_box, host_folder, fails):
    try:
        os.mknod(host_folder / "null", 0o666 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices may be made here")
    with new_box("rw", host_folder) as box:
        assert b"null" not in box.names(b".")
        with fails(errno.ENOENT):
            box.open(b"null")


def _kernel_mounts() -> list[str]:
    """The places of the kernel's own file systems on this host, one of each kind."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    kinds = ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs")
    return [*{row[2]: row[1] for row in rows if row[2] in kinds}.values(), "/proc/self", "/dev"]


@pytest.mark.parametrize("source", _kernel_mounts())
def test_kernel_filesystems_are_no_sources(source):
    with pytest.raises(SandboxStartError, match="never shown"):
        HostMount(source, Superblock())


def test_kernel_filesystems_below_a_mount_are_not_entered(new_box, fails):
    if boundary._SYS_OPENAT2 == 9999 and not os.path.ismount("/proc"):
        pytest.skip("no /proc mounted")
    with new_box("ro", Path("/")) as box, fails(errno.EACCES):
        box.open(b"proc/self/environ")


def test_missing_source():
    with pytest.raises(SandboxStartError, match="cannot mount"):
        HostMount("/no/such/folder", Superblock())


def test_setid_bits_are_not_shown_and_not_stored(new_box, host_folder):
    with new_box("ro", host_folder) as box:
        assert box.stat(b"setuid").mode & 0o7777 == 0o755
    with new_box("rw", host_folder) as box:
        box.chmod(b"file", 0o6755)
        assert (host_folder / "file").stat().st_mode & 0o7777 == 0o755
        box.open(b"new", CREATE, 0o4777).release()
        assert (host_folder / "new").stat().st_mode & 0o7000 == 0
        box.mkdir(b"folder", 0o2777)
        assert (host_folder / "folder").stat().st_mode & 0o6000 == 0


def test_setid_bits_are_not_committed(host_folder, new_box):
    with new_box("overlay", host_folder) as box:
        box.write(b"new", b"x")
        box.node(b"new").chmod(0o6755)
        assert box.stat(b"new").mode & 0o7777 == 0o6755
        mount = HostMount(str(host_folder), Superblock())
        overlay = OverlayMount(mount.root, Superblock())  # type: ignore[arg-type]
        overlay.root = box.start
        commit_overlay(overlay)
        assert (host_folder / "new").stat().st_mode & 0o7777 == 0o755
        mount.close()


def test_dotfiles_are_hidden(host_folder, fails):
    mount = HostMount(str(host_folder), Superblock(), writable=True, hide_dotfiles=True)
    root = mount.root
    names = {name for name, _, _ in root.entries()}  # type: ignore[attr-defined]
    assert not [name for name in names if name.startswith(b".")]
    me = Credentials()
    with fails(errno.ENOENT):
        root.lookup(b".secret")  # type: ignore[attr-defined]
    for call in (
        lambda: root.create(b".new", 0o644, me),  # type: ignore[attr-defined]
        lambda: root.mkdir(b".new", 0o755, me),  # type: ignore[attr-defined]
        lambda: root.rename(b"file", root, b".secret", 0),  # type: ignore[attr-defined]
        lambda: root.rename(b".secret", root, b"shown", 0),  # type: ignore[attr-defined]
        lambda: root.unlink(b".secret"),  # type: ignore[attr-defined]
        lambda: root.link(b".new", root.lookup(b"file")),  # type: ignore[attr-defined]
    ):
        with fails(errno.EACCES):
            call()
    assert (host_folder / ".secret").read_bytes() == b"secret\n"
    mount.close()


def test_links_that_lead_out_are_not_made_on_the_host(new_box, host_folder, fails):
    with new_box("rw", host_folder) as box:
        for target in (b"/etc/passwd", b"../outside", b"sub/../../outside", b"sub/..", b".", b"./.", b".."):
            with fails(errno.EPERM):
                box.symlink(target, b"evil")
        box.symlink(b"sub/inner", b"good")
        (host_folder / "sub" / "up").symlink_to("../file")
        with fails(errno.EPERM):
            box.rename(b"sub/up", b"up")  # from there the link would lead out
        box.rename(b"sub/up", b"sub/other")
    assert not (host_folder / "evil").is_symlink()


def test_links_that_lead_out_are_not_committed(new_box, host_folder):
    (host_folder / "sub" / "dot").symlink_to(".")
    for target in (
        b"/etc/passwd",
        b"../outside",
        b"sub/../../outside",
        b"sub/dot/../../outside",
        b"out",
        b"new/../../outside",
    ):
        mount = HostMount(str(host_folder), Superblock())
        overlay = OverlayMount(mount.root, Superblock())  # type: ignore[arg-type]
        memory = MemoryDirectory(overlay.superblock)
        memory.symlink(b"evil", target, Credentials())
        overlay.root.attach(b"evil", memory.lookup(b"evil"))  # some of these the overlay itself refuses
        with pytest.raises(CommitRefused, match=r"leads out|behind a name"):
            commit_overlay(overlay)
        mount.close()
    assert not (host_folder / "evil").is_symlink()


def test_hard_links_stay_within_the_mount(new_box, host_folder, fails):
    with new_box("rw", host_folder) as box:
        with fails(errno.EXDEV):
            box.link(b"/m/file", b"/file")
        box.link(b"file", b"again")
    assert (host_folder / "again").stat().st_ino == (host_folder / "file").stat().st_ino


def test_owners_of_the_host_are_not_shown(mounted):
    for path in (b".", b"file", b"sub"):
        assert (mounted.stat(path).uid, mounted.stat(path).gid) == (1000, 1000)


def test_numbers_of_the_host_are_not_shown(mounted, host_folder):
    seen = (host_folder / "file").stat()
    assert mounted.stat(b"file").dev != seen.st_dev
    assert mounted.stat(b"file").ino < 1000


def test_names_with_nul_are_refused(host_folder, fails):
    mount = HostMount(str(host_folder), Superblock(), writable=True)
    with fails(errno.EINVAL):
        mount.root.lookup(b"file\0x")  # type: ignore[attr-defined]
    with fails(errno.EINVAL):
        boundary.rename(0, b"file\0x", 0, b"y", 0)
    mount.close()


SWAPPER = """
import ctypes, os, sys
rename, fd = ctypes.CDLL(None).renameat2, os.open(sys.argv[1], os.O_PATH)
print("swapping", flush=True)
while os.getppid() == int(sys.argv[2]):
    rename(fd, b"sub", fd, b"link", 2)
"""


@pytest.fixture
def secrets(host_folder, tmp_path):
    """A folder outside, and a link to it beside `sub`."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "inner").write_bytes(b"secret\n")
    (host_folder / "link").symlink_to(folder)
    return folder


def test_a_folder_swapped_for_a_link_again_and_again_never_leads_out(host_folder, new_box, secrets):
    """openat2 exists for this race: another process swaps `sub` and a link to a folder outside."""
    command = [sys.executable, "-c", SWAPPER, str(host_folder), str(os.getpid())]
    seen: set[bytes] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout is not None
            swapper.stdout.readline()
            with new_box("rw", host_folder) as box:
                for number in range(1000):
                    try:
                        seen.add(box.read(b"sub/inner"))
                        box.write(b"sub/made%d" % number, b"x")
                        box.unlink(b"sub/made%d" % number)
                    except OSError as error:
                        seen.add(errno.errorcode[error.errno or 0].encode())
        finally:
            swapper.kill()
    assert b"secret\n" not in seen
    assert {path.name for path in secrets.iterdir()} == {"inner"}


@pytest.mark.parametrize("kind", HOST_KINDS)
def test_a_folder_swapped_for_a_link_at_the_worst_moment(host_folder, new_box, secrets, monkeypatch, fails, kind):
    """The swap happens after `sub` was found to be a folder, and before anything in it is opened."""
    opens = boundary.HostRoot.open_path
    swapped = []

    def swap_first(root: boundary.HostRoot, relative: bytes) -> int:
        if relative.startswith(b"sub/") and not swapped:
            boundary.rename(root.fd, b"sub", root.fd, b"link", 2)
            swapped.append(relative)
        return opens(root, relative)

    monkeypatch.setattr(boundary.HostRoot, "open_path", swap_first)
    with new_box(kind, host_folder) as box:
        with pytest.raises(OSError, match=r"out|folder|entry|directory"):
            box.read(b"sub/inner")
        assert swapped
        if kind == "rw":
            with pytest.raises(OSError, match=r"entry|out"):
                box.write(b"sub/new", b"x")
    assert {path.name for path in secrets.iterdir()} == {"inner"}


def test_large_directories_are_capped(tmp_path, monkeypatch, new_box, fails):
    monkeypatch.setattr(boundary, "MAX_ENTRIES", 10)
    for number in range(11):
        (tmp_path / str(number)).touch()
    with new_box("ro", tmp_path) as box, fails(errno.ENOMEM):
        box.names(b".")


def test_commit_refuses_what_changed_meanwhile(host_folder, new_box):
    mount = HostMount(str(host_folder), Superblock())
    overlay = OverlayMount(mount.root, Superblock())  # type: ignore[arg-type]
    overlay.root.lookup(b"file").pwrite(b"C", 0)  # type: ignore[attr-defined]
    overlay.root.create(b"new", 0o644, Credentials())
    changes = changes_of(overlay)
    (host_folder / "file").write_bytes(b"somebody else's")
    (host_folder / "new").write_bytes(b"somebody else's")
    with pytest.raises(CommitRefused) as caught:
        commit_overlay(overlay, changes)
    assert len(caught.value.reasons) == 2
    assert (host_folder / "file").read_bytes() == b"somebody else's"
    mount.close()


def test_descriptors_are_closed_with_the_mount(host_folder, new_box, fails):
    before = len(os.listdir("/proc/self/fd"))
    with new_box("rw", host_folder) as box:
        for _ in range(10):
            box.read(b"file")
            with fails(errno.ENOENT):
                box.read(b"none")
        assert len(os.listdir("/proc/self/fd")) == before + 1
        held = box.open(b"file")
        assert len(os.listdir("/proc/self/fd")) == before + 2
    assert len(os.listdir("/proc/self/fd")) == before
    with fails(errno.EBADF):
        held.read(1)


def test_library_is_immutable_and_shared(host_folder, fails, new_box):
    first = library(str(host_folder), b"/lib/x")
    assert library(str(host_folder), b"/lib/x") is first
    node = first.root.lookup(b"file")
    assert node.open(os.O_RDONLY).read(100) == b"contents\n"
    shutil.rmtree(host_folder)
    assert node.open(os.O_RDONLY).read(100) == b"contents\n"
    with fails(errno.EROFS):
        first.root.create(b"new", 0o644, Credentials())
    with fails(errno.ENOENT):
        first.root.lookup(b"fifo")


@pytest.mark.parametrize("holes", [True, False])
def test_a_write_that_fails_does_not_eat_the_quota(tmp_path, new_box, fails, monkeypatch, holes):
    with new_box("rw", tmp_path, bytes=1 << 20) as box:
        quota = box.start.superblock.quota
        file = box.open(b"a", os.O_RDWR | os.O_CREAT)
        file.node._mount.host.has_holes = holes
        if not holes:
            with fails(errno.ENOSPC):
                file.truncate(1 << 40)
            with fails(errno.ENOSPC):
                file.pwrite(b"x", 1 << 40)
        assert file.pwrite(b"", 1 << 19) == 0
        assert quota.used_bytes == 0
        with monkeypatch.context() as full:
            full.setattr(os, "pwrite", full_host)
            full.setattr(os, "ftruncate", full_host)
            for attempt in (lambda: file.write(bytes(8192)), lambda: file.truncate(1 << 19)):
                with fails(errno.EIO):
                    attempt()
        assert quota.used_bytes == 0
        assert file.pwrite(bytes(2 << 20), 0) == 1 << 20
        assert quota.used_bytes == 1 << 20
        file.truncate(0)
        assert quota.used_bytes == 0
        file.release()


def full_host(*_):
    raise OSError(errno.EIO, "the host's disk is broken")
