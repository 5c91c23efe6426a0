"""Boxes that try to make the controller read, compare or store too much, or end it with an error."""

from __future__ import annotations

import errno
import os
import stat
import time

import pytest

from proxybox.controller.vfs.commits.committing import CommitRefused
from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.host.mount import HostMount
from proxybox.controller.vfs.memory import MemoryDirectory
from proxybox.controller.vfs.nodes import Credentials, Directory, Superblock
from proxybox.controller.vfs.overlay import collecting
from proxybox.controller.vfs.overlay.changes import MAX_DIFF_BYTES, Change
from proxybox.controller.vfs.overlay.collecting import changes_of
from proxybox.controller.vfs.overlay.mount import WHITEOUTS_IN_A_PAGE, OverlayMount
from proxybox.controller.vfs.quota import Quota
from tests.vfs.commitscenes import commit_overlay

LIMIT = 4 << 20


@pytest.fixture
def layered(tmp_path, new_box):
    """A box of root, its overlay of 4 MiB, and the host folder below."""
    mount = HostMount(str(tmp_path), Superblock())
    overlay = OverlayMount(mount.root, Superblock(quota=Quota(bytes=LIMIT)))
    with new_box("memory", tmp_path) as box:
        box.tree.mount(b"/o", overlay.root)
        box.start = overlay.root
        yield box, overlay, tmp_path
    mount.close()


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def found(changes):
    return {change.name: change for change in changes}


def test_a_huge_sparse_file_is_refused_before_it_is_read(layered, fails):
    box, overlay, folder = layered
    sparse(folder / "big", 1 << 42)
    start = time.thread_time()
    with fails(errno.ENOSPC):
        box.open(b"big", os.O_WRONLY | os.O_APPEND)
    with fails(errno.ENOSPC):
        box.chmod(b"big", 0o600)
    assert time.thread_time() - start < 1
    assert overlay.superblock.quota.exceeded
    assert overlay.superblock.quota.used_bytes == overlay.superblock.quota.used_inodes == 0


def test_a_huge_sparse_file_in_place_of_another_is_not_compared(layered):
    box, overlay, folder = layered
    sparse(folder / "big", 1 << 42)
    box.write(b"new", b"")
    box.truncate(b"new", 1 << 42)
    box.rename(b"new", b"big")
    start = time.thread_time()
    change = found(changes_of(overlay))["big"]
    assert time.thread_time() - start < 1
    assert (change.kind, change.content, change.old) == ("modified", None, None)


def test_what_is_compared_is_bounded_in_all(layered, monkeypatch):
    box, overlay, folder = layered
    monkeypatch.setattr(collecting, "_same", lambda one, other: True)
    for number in range(4):
        sparse(folder / str(number), 100 << 20)
        box.write(b"new", b"")
        box.truncate(b"new", 100 << 20)
        box.chmod(b"new", 0o644)
        box.rename(b"new", b"%d" % number)
    assert set(found(changes_of(overlay))) == {"2", "3"}


def refuse(*_):
    raise PermissionError(errno.EACCES, "not for the controller's user")


def test_a_file_that_cannot_be_read_is_reported_without_its_contents(layered, monkeypatch):
    box, overlay, folder = layered
    for name in ("gone", "moved", "replaced"):
        (folder / name).write_bytes(b"secret")
    monkeypatch.setattr(boundary, "reopen", refuse)
    box.unlink(b"gone")
    box.rename(b"moved", b"here")
    box.write(b"new", b"public")
    box.rename(b"new", b"replaced")
    changes = found(changes_of(overlay))
    assert {name: (change.kind, change.old, change.content) for name, change in changes.items()} == {
        "gone": ("deleted", None, None),
        "moved": ("deleted", None, None),
        "here": ("added", None, None),
        "replaced": ("modified", None, b"public"),
    }


def test_a_folder_that_cannot_be_listed_is_reported_alone(layered, monkeypatch):
    box, overlay, folder = layered
    (folder / "locked").mkdir()
    (folder / "locked" / "inner").touch()
    box.rename(b"locked", b"moved")
    box.write(b"z", b"")
    monkeypatch.setattr(boundary.HostRoot, "listing", refuse)
    assert set(found(changes_of(overlay))) == {"locked", "moved", "z"}


def test_a_write_below_a_thousand_folders_does_not_recurse(tmp_path, new_box):
    below = MemoryDirectory(Superblock())
    here: Directory = below
    for _ in range(1500):
        here = here.mkdir(b"d", 0o755, Credentials())
    overlay = OverlayMount(below, Superblock())
    with new_box("memory", tmp_path) as box:
        box.start = overlay.root
        for _ in range(1500):
            box.start = box.start.lookup(b"d")
        box.write(b"new", b"x")
    assert [(change.kind, change.path) for change in changes_of(overlay)] == [("added", b"d/" * 1500 + b"new")]


def test_zeros_of_sparse_files_are_kept_no_more_than_the_disk_limit(layered):
    box, overlay, _ = layered
    for number in range(10):
        box.write(b"%d" % number, b"")
        box.truncate(b"%d" % number, 1 << 20)
    kept = [change.content for change in changes_of(overlay) if change.content is not None]
    assert sum(map(len, kept)) == LIMIT


def test_two_overlays_share_a_budget(layered):
    box, overlay, _ = layered
    box.write(b"x", bytes(3 << 20))
    budget = collecting.ChangesBudget.of(overlay.superblock.quota)
    assert changes_of(overlay, budget=budget)[0].content is not None
    assert changes_of(overlay, budget=budget)[0].content is None


def test_links_to_one_file_are_not_kept_without_end(layered):
    box, overlay, _ = layered
    box.write(b"0", bytes(1 << 20))
    for number in range(1, 100):
        box.link(b"0", b"%d" % number)
    kept = [change.content for change in changes_of(overlay) if change.content is not None]
    assert sum(map(len, kept)) == LIMIT


def test_former_contents_and_paths_are_kept_within_bounds(layered):
    box, overlay, folder = layered
    for number in range(6):
        (folder / str(number)).write_bytes(bytes(MAX_DIFF_BYTES))
        box.unlink(b"%d" % number)
    budget = collecting.ChangesBudget(contents=0, old=3 * MAX_DIFF_BYTES, changes=5)
    changes = changes_of(overlay, budget=budget)
    assert [len(change.old or b"") for change in changes] == [MAX_DIFF_BYTES] * 3 + [0] * 2
    assert len(changes_of(overlay, budget=collecting.ChangesBudget(contents=0, paths=6))) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_name_swapped_during_a_commit_is_not_given_away(layered, tmp_path_factory, monkeypatch):
    box, overlay, folder = layered
    os.chown(folder, 1000, 1000)
    box.write(b"file", b"x")
    box.mkdir(b"made")
    box.symlink(b"file", b"link")
    others = tmp_path_factory.mktemp("other") / "others"
    others.write_bytes(b"root's")
    change_owner = boundary.change_owner

    def swap_first(fd, uid, gid):
        if stat.S_ISREG(os.fstat(fd).st_mode):
            staged = next(path for path in folder.iterdir() if path.name.startswith(".proxybox-commit-")) / "0"
            staged.unlink()
            os.link(others, staged)
        change_owner(fd, uid, gid)

    monkeypatch.setattr(boundary, "change_owner", swap_first)
    commit_overlay(overlay)
    assert others.stat().st_uid == 0
    assert (folder / "made").stat().st_uid == (folder / "link").lstat().st_uid == 1000


def test_a_commit_of_many_changes_is_not_quadratic(layered):
    _, overlay, _ = layered
    changes = [
        Change(name=f"{number}", path=b"%d" % number, kind="deleted", type="file", mode=0o644)
        for number in range(20_000)
    ]
    start = time.thread_time()
    with pytest.raises(CommitRefused):
        commit_overlay(overlay, changes)
    assert time.thread_time() - start < 10


# --- what was removed -------------------------------------------------------------------------------------------------


def test_removed_names_are_charged(layered):
    """Each is stored in order to hide it: some 460 bytes that were once not charged."""
    box, overlay, folder = layered
    for number in range(600):
        (folder / f"f{number}").touch()
    (folder / "d").mkdir()
    quota = overlay.superblock.quota
    for number in range(200):
        box.unlink(b"f%d" % number)
        box.rename(b"f%d" % (200 + number), b"new")
        box.rename(b"f%d" % (400 + number), b"f%d" % (200 + number))
    box.rmdir(b"d")
    assert overlay.whiteouts == 605
    assert quota.used_bytes >= 600 * 460 + 3400
    for number in range(200):  # the same names again: nothing is stored twice
        box.unlink(b"f%d" % (200 + number))
        box.write(b"f%d" % number, b"")
        box.unlink(b"f%d" % number)
    assert overlay.whiteouts == 605


CALLS = {
    "unlink": lambda box: box.unlink(b"a"),
    "rmdir": lambda box: box.rmdir(b"d"),
    "rename": lambda box: box.rename(b"a", b"new"),
    "rename over": lambda box: box.rename(b"a", b"b"),
    "exchange": lambda box: box.rename(b"a", b"b", 2),
    "a folder": lambda box: box.rename(b"d", b"new"),
    "over a folder": lambda box: box.rename(b"own folder", b"d"),
}


@pytest.mark.parametrize("removed", range(7))
@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_half_removed_where_no_room_is_left(layered, fails, call, removed):
    """It is refused before anything changes. Files that the box has made itself can always be removed."""
    box, overlay, folder = layered
    for name in ("a", "b", *(f"f{number}" for number in range(removed))):
        (folder / name).write_text(name)
    (folder / "d").mkdir()
    box.write(b"own", b"")
    box.mkdir(b"own folder")
    for number in range(removed):
        box.unlink(b"f%d" % number)
    quota = overlay.superblock.quota
    quota.charge_pages(quota.free_pages())
    before, whiteouts = box.names(b"."), overlay.whiteouts
    try:
        CALLS[call](box)
    except OSError as error:
        seen = error.errno
        assert (box.names(b"."), overlay.whiteouts) == (before, whiteouts)
        assert box.read(b"a") == b"a"
    else:
        seen = 0
        assert overlay.whiteouts > whiteouts
        assert removed  # otherwise no page was charged yet
    assert seen in (0, errno.ENOSPC)
    if -removed % WHITEOUTS_IN_A_PAGE >= 5 * (1 if call in ("unlink", "rmdir") else 2):
        assert not seen
    assert quota.free_pages() == 0
    box.unlink(b"own")
    assert b"own" not in box.names(b".")


def test_a_file_that_the_host_has_removed_meanwhile_is_charged_before_it_is_moved(layered, fails):
    """It was copied up, so a whiteout remains though the file below no longer exists."""
    box, overlay, folder = layered
    for number in range(WHITEOUTS_IN_A_PAGE):
        (folder / f"f{number}").touch()
    (folder / "a").write_text("a")
    box.write(b"b", b"b")
    for number in range(WHITEOUTS_IN_A_PAGE):
        box.unlink(b"f%d" % number)
    box.chmod(b"a", 0o600)
    (folder / "a").unlink()
    quota = overlay.superblock.quota
    quota.charge_pages(quota.free_pages())
    with fails(errno.ENOSPC):
        box.rename(b"a", b"b")
    assert box.names(b".") == {b"a", b"b"}
    assert box.read(b"b") == b"b"
