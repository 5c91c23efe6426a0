"""Properties of a file that a commit cannot preserve: which changes are refused, which are made, and what a review
shows.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from proxybox import commits
from proxybox.controller.boxes.worldbuilding import Changed
from proxybox.controller.vfs.commits.refusals import CommitFailed, CommitRefused
from proxybox.controller.vfs.host import attributes
from proxybox.controller.vfs.overlay.collecting import changes_of
from proxybox.review import Review, pending
from tests.vfs import rights
from tests.vfs.commitscenes import commit_overlay
from tests.vfs.rights import ACCESS, CAPABILITY, FOR_NEW, NET_RAW, SOME_REFUSED, acl, as_root, may

sys.path.insert(0, str(Path(__file__).parent))
from commitscenes import Guest, as_user, overlay_over


@pytest.fixture
def folder(folder_with_rights):
    return folder_with_rights


@pytest.fixture
def overlay(folder):
    with overlay_over(folder) as made:
        yield made


def given_to_a_user(disk: Path) -> None:
    for path in (disk, *disk.rglob("*")):
        os.chown(path, 1000, 1000)


# --- what cannot be carried ---


@as_root
def test_what_cannot_be_carried_is_refused_and_named(disk, folder):
    given_to_a_user(disk)
    os.setxattr(folder / "f", "security.unknown", b"label")
    before = rights.of_all(folder)
    with as_user(1000), overlay_over(folder) as overlay:
        assert Guest(overlay)("write", "f") == Guest(overlay)("write", "d/f") == 0
        with pytest.raises(CommitRefused, match=r"f: its extended attribute security\.unknown cannot be kept: Op"):
            commit_overlay(overlay)
        assert rights.of_all(folder) == before
        assert Guest(overlay)("unlink", "f") == 0
        commit_overlay(overlay)  # a removed file needs no attributes
    assert not (folder / "f").exists()


@as_root
def test_root_carries_every_attribute(folder, overlay):
    for name in ("security.unknown", "trusted.unknown"):
        os.setxattr(folder / "f", name, b"label")
    before = rights.of(folder / "f")
    assert Guest(overlay)("write", "f") == 0
    commit_overlay(overlay)
    assert rights.of(folder / "f") == before


@pytest.mark.parametrize("disk", ["tmpfs"], indirect=True)  # it stores attributes of this size
def test_attributes_that_are_too_large_to_be_kept_are_refused(folder, overlay):
    os.setxattr(folder / "f", "user.large", bytes(attributes.MAX_BYTES + 1))
    assert Guest(overlay)("write", "f") == 0
    with pytest.raises(CommitRefused, match=r"f: its extended attribute user\.large cannot be read, or is too"):
        commit_overlay(overlay)


@as_root
@pytest.mark.parametrize(
    ("mode", "has_acl", "is_written"), [(0o644, False, True), (0o640, False, False), (0o644, True, False)]
)
def test_a_group_that_cannot_be_given_is_refused_where_it_matters(disk, folder, mode, has_acl, is_written):
    """The committer's own group would get the rights of the file's group."""
    given_to_a_user(disk)
    plain = folder / "plain"
    os.chown(plain, 1000, 2000)
    plain.chmod(mode)
    if has_acl:
        os.setxattr(plain, ACCESS, acl("user::rw-,user:1001:---,group::r--,mask::r--,other::r--"))
    with as_user(1000), overlay_over(folder) as overlay:
        assert Guest(overlay)("write", "plain") == 0
        if is_written:
            commit_overlay(overlay)
            assert rights.of(plain)[:3] == (mode, 1000, 1000)
        else:
            with pytest.raises(
                CommitRefused, match="plain: it is to be of group 2000, to which you cannot give a file and"
            ):
                commit_overlay(overlay)
            assert rights.of(plain)[:3] == (mode, 1000, 2000)


@as_root
def test_a_user_keeps_the_group_of_what_is_replaced(disk, folder):
    given_to_a_user(disk)
    os.chown(folder / "plain", 1004, 2000)
    (folder / "plain").chmod(0o664)
    before = os.getgroups()
    os.setgroups([2000])
    try:
        with as_user(1000), overlay_over(folder) as overlay:
            assert Guest(overlay)("write", "plain") == 0
            (item,) = review_of(overlay).items
            assert "the file belongs to user 1004; the new one will be yours" in item.notes
            commit_overlay(overlay)
    finally:
        os.setgroups(before)
    assert rights.of(folder / "plain")[:3] == (0o664, 1000, 2000)


@as_root
def test_root_leaves_a_moved_file_to_its_owner(folder, overlay):
    """The owner of its new folder could read the file otherwise."""
    os.chown(folder / "plain", 1004, 2000)
    (folder / "plain").chmod(0o600)
    os.chown(folder / "plain.d", 1000, 1000)
    assert Guest(overlay)("rename", "plain", "plain.d/moved") == 0
    commit_overlay(overlay)
    assert rights.of(folder / "plain.d" / "moved")[:3] == (0o600, 1004, 2000)
    assert not may(folder / "plain.d" / "moved", 1000, 1000)


# --- what goes, and what only the filesystem has ---


def test_set_id_bits_go_as_when_anybody_writes(folder, overlay):
    (folder / "plain").chmod(0o6755)
    assert Guest(overlay)("write", "plain") == 0
    (item,) = review_of(overlay).items
    assert "its set-id bits go, as when anybody writes to the file" in item.notes
    commit_overlay(overlay)
    assert (folder / "plain").stat().st_mode & 0o7777 == 0o755


@as_root
def test_capabilities_go_as_when_anybody_writes(folder, overlay):
    os.setxattr(folder / "plain", CAPABILITY, NET_RAW)
    assert Guest(overlay)("write", "plain") == 0
    (item,) = review_of(overlay).items
    assert "security.capability goes, as when anybody writes to the file" in item.notes
    commit_overlay(overlay)
    assert rights.of(folder / "plain")[3] == {}


@as_root
@pytest.mark.parametrize("flag", [0x10, 0x20], ids=["immutable", "append-only"])
@pytest.mark.parametrize("change", ["write", "unlink"])
def test_a_file_that_chattr_protects_is_not_replaced(folder, overlay, flag, change):
    """The flags are those of chattr(1), set by FS_IOC_SETFLAGS."""
    before = rights.of_all(folder)
    assert Guest(overlay)(change, "plain") == Guest(overlay)("write", "new") == 0
    changes = changes_of(overlay)
    with flagged(folder / "plain", flag):
        with pytest.raises(CommitFailed, match="the commit was undone"):
            commit_overlay(overlay, changes)
        assert rights.of_all(folder) == before


@contextmanager
def flagged(path: Path, flag: int) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.ioctl(fd, 0x40086602, struct.pack("l", flag))
        except OSError as error:
            pytest.skip(f"the filesystem of {path} has no such flags: {error.strerror}")
        yield
    finally:
        with suppress(OSError):  # also after an error: ext4 was seen to set the flag and to return one
            fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0))
        os.close(fd)


def test_other_names_of_a_file_keep_what_it_was(folder, overlay):
    os.link(folder / "f", folder.parent / "other")
    assert Guest(overlay)("write", "f") == 0
    (item,) = review_of(overlay).items
    assert "the file has 2 names (hard links): under the others it stays as it was" in item.notes
    commit_overlay(overlay)
    assert (folder.parent / "other").read_text() == "f of the host"
    assert rights.of(folder / "f")[3] == rights.of(folder.parent / "other")[3]


def test_holes_stay_holes(folder, overlay):
    with (folder / "f").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
        file.truncate(9 << 20)
    assert Guest(overlay)("rename", "f", "moved") == 0
    whole = (folder / "f").read_bytes()
    commit_overlay(overlay)
    assert (folder / "moved").read_bytes() == whole
    assert (folder / "moved").stat().st_blocks * 512 < 1 << 20


# --- the review ---


def review_of(overlay) -> Review:
    root, hides = overlay.host.host, overlay.host.hide_dotfiles
    return Review([Changed(os.fsdecode(root.path), hides, tuple(changes_of(overlay)), identity=root.identity)])


def test_a_review_shows_acls_as_part_of_the_mode(folder, overlay):
    guest = Guest(overlay)
    assert guest("write", "f") == guest("write", "d/new") == guest("unlink", "d/f") == guest("chmod", "d", 0o700) == 0
    review = review_of(overlay)
    shown = {item.change.name: item for item in review}
    assert "mode 0660+" in shown["f"].heading
    assert shown["f"].notes == (f"acl {SOME_REFUSED}", "user.note (4 bytes)")
    assert shown["d/new"].heading.startswith("added file d/new (mode 0640+")
    assert shown["d/new"].notes == ("acl user::rw-,user:1003:rwx,group::r-x,mask::r--,other::---",)
    assert "mode 0660+" in shown["d/f"].heading
    assert f"acl {SOME_REFUSED}" in shown["d/f"].notes
    (hunk,) = shown["d"].hunks
    assert hunk.lines == (
        "-mode 0751+",
        "-acl user::rwx,user:1001:---,group::r-x,mask::r-x,other::--x",
        "+mode 0700+",
        "+acl user::rwx,user:1001:---,group::r-x,mask::---,other::---",
        f" default acl {FOR_NEW}",
        " user.note (13 bytes)",
    )
    for item in review:
        assert all(note in item.diff for note in item.notes)


def test_a_rejected_mode_keeps_the_acl_as_it_was(folder, overlay):
    before = rights.of(folder / "f")
    guest = Guest(overlay)
    assert guest("write", "f") == guest("chmod", "f", 0o700) == 0
    review = review_of(overlay)
    (item,) = review.items
    (lines,) = (hunk.number for hunk in item.hunks if hunk.kind != "mode")
    review.accept(item, [lines])
    review.commit()
    assert (folder / "f").read_bytes() != b"f of the host"
    assert rights.of(folder / "f") == before
    commits.prune(0)


def test_a_kept_review_has_the_acls_and_is_known_by_them(folder, overlay):
    guest = Guest(overlay)
    assert guest("write", "f") == guest("write", "d/new") == 0
    review = review_of(overlay)
    pending.keep(review)
    assert pending.load(review.id).overlays == review.overlays
    page = Path(pending.waiting()[0].page).read_text()
    assert f"acl {SOME_REFUSED}" in page
    pending.discard(review.id)
    for text, is_same in ((SOME_REFUSED, True), (SOME_REFUSED.replace("1001", "1002"), False)):
        os.setxattr(folder / "f", ACCESS, acl(text))
        with overlay_over(folder) as again:
            guest = Guest(again)
            assert guest("write", "f") == guest("write", "d/new") == 0
            assert (review_of(again).id == review.id) is is_same
