"""Overlays: which files are copied up, which are visible from below, which changes are reported, and what a commit
writes.
"""

from __future__ import annotations

import errno
import os

import pytest

from proxybox.controller.boxes.worldbuilding import Changed, commit_all
from proxybox.controller.vfs.commits.committing import CommitRefused
from proxybox.controller.vfs.host.mount import HostMount
from proxybox.controller.vfs.memory import from_tree
from proxybox.controller.vfs.nodes import Credentials, Superblock
from proxybox.controller.vfs.overlay.collecting import changes_of
from proxybox.controller.vfs.overlay.mount import OverlayMount
from proxybox.controller.vfs.quota import Quota
from tests.vfs.commitscenes import commit_overlay


@pytest.fixture
def layered(host_folder, new_box):
    """A box, its overlay, and the host folder below."""
    mount = HostMount(str(host_folder), Superblock(), hide_dotfiles=True)
    overlay = OverlayMount(mount.root, Superblock(quota=Quota(bytes=1 << 20)))
    with new_box("memory", host_folder) as box:
        box.tree.mount(b"/o", overlay.root)
        box.start = overlay.root
        yield box, overlay, host_folder
    mount.close()


def kinds(overlay):
    return {(change.kind, change.type, change.name) for change in changes_of(overlay)}


def test_nothing_changes_by_looking(layered):
    box, overlay, _ = layered
    assert box.read(b"file") == b"contents\n"
    box.names(b"sub")
    box.stat(b"sub/inner")
    assert changes_of(overlay) == []
    assert overlay.superblock.quota.used_bytes == 0


def test_the_host_is_not_touched(layered):
    box, overlay, folder = layered
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    box.write(b"file", b"new")
    box.unlink(b"sub/inner")
    box.rename(b"setuid", b"moved")
    box.mkdir(b"made")
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert kinds(overlay) == {
        ("modified", "file", "file"),
        ("deleted", "file", "sub/inner"),
        ("deleted", "file", "setuid"),
        ("added", "file", "moved"),
        ("added", "dir", "made"),
    }


def test_a_reader_sees_a_later_copy_up(layered):
    box, _, _ = layered
    reader = box.open(b"file")
    writer = box.open(b"file", os.O_RDWR)
    writer.pwrite(b"C", 0)
    assert reader.read(100) == b"Contents\n"
    reader.release()
    writer.release()


def test_inode_numbers_survive_a_copy_up(layered):
    box, _, _ = layered
    before = box.stat(b"file").ino
    box.chmod(b"file", 0o600)
    assert box.stat(b"file").ino == before


def test_writing_the_same_is_no_change(layered):
    box, overlay, _ = layered
    box.write(b"file", b"contents\n")
    box.rename(b"file", b"other")
    box.rename(b"other", b"file")
    assert changes_of(overlay) == []


def test_whiteouts(layered, fails):
    box, overlay, _ = layered
    box.unlink(b"file")
    with fails(errno.ENOENT):
        box.stat(b"file")
    assert b"file" not in box.names(b".")
    box.unlink(b"sub/inner")
    box.rmdir(b"sub")
    box.mkdir(b"sub")
    assert box.names(b"sub") == set()
    box.write(b"file", b"again")
    assert box.read(b"file") == b"again"
    assert ("modified", "file", "file") in kinds(overlay)


def test_folders_of_the_host_can_be_renamed(layered):
    box, overlay, _ = layered
    box.rename(b"sub", b"bus")
    assert box.read(b"bus/inner") == b"inner\n"
    box.write(b"bus/inner", b"x")
    assert kinds(overlay) == {
        ("deleted", "dir", "sub"),
        ("deleted", "file", "sub/inner"),
        ("added", "dir", "bus"),
        ("added", "file", "bus/inner"),
    }


def test_copying_up_is_charged(layered, fails):
    box, overlay, folder = layered
    (folder / "large").write_bytes(b"x" * (2 << 20))
    quota = overlay.superblock.quota
    with fails(errno.ENOSPC):
        box.open(b"large", os.O_RDWR)
    assert quota.used_bytes == 0
    assert quota.exceeded
    box.open(b"large", os.O_RDWR | os.O_TRUNC).release()
    assert box.stat(b"large").size == 0


def test_diffs(layered):
    box, overlay, _ = layered
    box.write(b"file", b"contents\nmore")
    (change,) = changes_of(overlay, prefix="/o")
    assert change.name == "/o/file"
    assert change.diff().splitlines()[2:] == [
        "@@ -1 +1,2 @@",
        " contents",
        "+more",
        "\\ No newline at end of file",
    ]
    box.write(b"file", b"\xff\x00")
    assert "Binary" in changes_of(overlay)[0].diff()


def test_commit(layered):
    box, overlay, folder = layered
    box.write(b"file", b"new contents")
    box.chmod(b"file", 0o640)
    box.mkdir(b"made")
    box.write(b"made/deep", b"deep")
    box.symlink(b"../file", b"made/link")
    box.unlink(b"sub/inner")
    box.rmdir(b"sub")
    box.unlink(b"inside")
    assert [(change.kind, change.name) for change in commit_overlay(overlay)] == [
        ("modified", "file"),
        ("deleted", "inside"),
        ("added", "made"),
        ("added", "made/deep"),
        ("added", "made/link"),
        ("deleted", "sub"),
        ("deleted", "sub/inner"),
    ]
    assert (folder / "file").read_bytes() == b"new contents"
    assert (folder / "file").stat().st_mode & 0o777 == 0o640
    assert (folder / "made" / "deep").read_bytes() == b"deep"
    assert os.readlink(folder / "made" / "link") == "../file"
    assert not (folder / "sub").exists()
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [".secret", "absolute", "fifo", "file", "made", "out", "setuid"]
    )


def test_commit_leaves_hidden_names_out(layered):
    box, overlay, folder = layered
    box.write(b".secret", b"mine")
    box.write(b"shown", b"")
    assert [change.name for change in commit_overlay(overlay)] == ["shown"]
    assert (folder / ".secret").read_bytes() == b"secret\n"
    assert (folder / "shown").exists()


def test_what_lies_over_no_host_folder_is_written_nowhere():
    overlay = OverlayMount(from_tree({"a": "b"}, Superblock()), Superblock())
    overlay.root.create(b"new", 0o644, Credentials())
    changes = tuple(changes_of(overlay))
    assert [change.name for change in changes] == ["new"]
    assert commit_all([Changed(None, False, changes)]) == []


def test_over_data_of_the_callers(new_box, tmp_path):
    below = from_tree({"data": {"x": "1", "y": b"\xff"}}, Superblock())
    overlay = OverlayMount(below, Superblock())
    with new_box("memory", tmp_path) as box:
        box.tree.mount(b"/o", overlay.root)
        box.start = overlay.root
        box.write(b"data/x", b"2")
        assert box.read(b"data/y") == b"\xff"
    assert below.lookup(b"data").lookup(b"x").pread(9, 0) == b"1"
    assert kinds(overlay) == {("modified", "file", "data/x")}


def test_deep_folders_and_huge_sparse_files_are_reported_within_bounds(layered):
    box, overlay, _ = layered
    for number in range(20):
        box.open(b"sparse%d" % number, os.O_RDWR | os.O_CREAT).truncate(1 << 40)
    box.write(b"small", b"x")
    with pytest.raises(CommitRefused, match="too large"):
        commit_overlay(overlay)
    for _ in range(3000):
        box.mkdir(b"d")
        box.start = box.node(b"d")
    changes = {change.name: change for change in changes_of(overlay)}
    assert changes["sparse3"].content is None
    assert changes["small"].content == b"x"
    assert "d/d/d" in changes
    with pytest.raises(CommitRefused, match="were not kept"):
        commit_overlay(overlay)


def test_an_unnamed_file_can_be_given_a_name(layered):
    box, overlay, _ = layered
    quota = overlay.superblock.quota
    before = quota.used_inodes
    file = box.open(b".", os.O_TMPFILE | os.O_RDWR)
    file.write(b"x")
    for name in (b"named", b".named"):
        overlay.root.link(name, file.node)
        assert box.read(name) == b"x"
    for name in (b"named", b".named"):
        box.unlink(name)
    file.release()
    assert quota.used_inodes == before
