"""After a commit exactly the users who could use a file before can do so: ACLs, attributes, owners and groups."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from proxybox import commits
from proxybox.controller.vfs.commits import recovering
from proxybox.controller.vfs.commits.committing import Target, commit_and_keep
from proxybox.controller.vfs.commits.refusals import CommitRefused
from proxybox.controller.vfs.host import attributes, boundary
from proxybox.controller.vfs.overlay.collecting import changes_of
from tests import sweeps
from tests.vfs import rights
from tests.vfs.commitscenes import commit_overlay
from tests.vfs.rights import ACCESS, DEFAULT, FOR_NEW, SOME_REFUSED, acl, as_root, may

sys.path.insert(0, str(Path(__file__).parent))
from commitscenes import Guest, as_user, each_call, killed_at, lower_layer, overlay_over

IS_ROOT = os.geteuid() == 0
TIGHTENED = "user::rw-,user:1003:---,group::---,mask::---,other::---"


@pytest.fixture
def folder(folder_with_rights):
    return folder_with_rights


@pytest.fixture
def overlay(folder):
    with overlay_over(folder) as made:
        yield made


def save_by_rename(guest: Guest) -> None:
    assert guest("write", "f.new") == guest("chmod", "f.new", 0o660) == guest("rename", "f.new", "f") == 0


WAYS = {
    "write": (lambda guest: guest("write", "f"), "f"),
    "saved by a rename": (save_by_rename, "f"),
    "moved": (lambda guest: guest("rename", "f", "other"), "other"),
    "moved into a folder": (lambda guest: guest("rename", "f", "d/other"), "d/other"),
    "with its folder": (lambda guest: guest("rename", "d", "e"), "e/f"),
    "written and moved": (lambda guest: (guest("write", "f"), guest("rename", "f", "other")), "other"),
    "linked": (lambda guest: (guest("link", "f", "other"), guest("write", "other")), "other"),
}


@as_root
@pytest.mark.parametrize("way", WAYS)
def test_who_was_refused_still_is(folder, overlay, way):
    """Without the ACL user 1001 could read the file, and the whole group could write it."""
    os.chown(folder / "f", 1000, 2000)
    os.chown(folder / "d" / "f", 1000, 2000)
    before = rights.of(folder / "f")
    change, name = WAYS[way]
    change(Guest(overlay))
    commit_overlay(overlay)
    assert rights.of(folder / name) == before
    assert not may(folder / name, 1001, 2000)
    assert may(folder / name, 1002, 2000)
    assert not may(folder / name, 1002, 2000, flags=os.O_WRONLY)
    assert may(folder / name, 1003, 1003, flags=os.O_RDWR)


def test_a_moved_folder_keeps_what_it_had(folder, overlay):
    before = rights.of(folder / "d")
    assert Guest(overlay)("rename", "d", "e") == 0
    commit_overlay(overlay)
    assert rights.of(folder / "e") == before


@pytest.mark.parametrize("name", ["f", "d"])
def test_a_changed_mode_changes_the_mask_as_chmod_does(folder, overlay, name):
    guest = Guest(overlay)
    assert guest("chmod", name, 0o710) == 0
    if name == "f":
        assert guest("write", "f") == 0
    (change,) = changes_of(overlay)
    commit_overlay(overlay)
    found = rights.of(folder / name)
    shutil.copytree(folder, folder.parent / "copy")
    os.setxattr(
        folder.parent / "copy" / name, ACCESS, acl(SOME_REFUSED) if name == "f" else dict(change.old_attributes)[ACCESS]
    )
    (folder.parent / "copy" / name).chmod(0o710)
    assert found[0] == 0o710
    assert found[3][ACCESS] == os.getxattr(folder.parent / "copy" / name, ACCESS)
    assert dict(change.attributes) == found[3]


# --- new files ---


DEFAULTS = {"acl": FOR_NEW, "short": "user::rwx,group::r-x,other::---", "none": None}
MODES = [0o666, 0o600, 0o777, 0o644, 0o060]


@pytest.mark.parametrize("default", DEFAULTS)
def test_new_files_are_what_open_makes(folder, overlay, default):
    """Compared with files of open(2) and mkdir(2) beside them. Where there is a default ACL, these ignore the umask."""
    top, guest, made = folder / "d", Guest(overlay), []
    rights.set_default(top, DEFAULTS[default])
    for umask in (0o022, 0o077):
        guest.umask = umask
        before = os.umask(umask)
        try:
            for mode in MODES:
                name = f"{umask:o}-{mode:o}"
                assert guest("create", f"d/{name}", mode) == guest("mkdir", f"d/{name}.d", mode | 0o700) == 0
                assert guest("create", f"d/{name}.d/in", mode) == guest("mkdir", f"d/{name}.d/d", mode | 0o700) == 0
                os.close(os.open(top / f"native-{name}", os.O_CREAT, mode))
                os.mkdir(top / f"native-{name}.d", mode | 0o700)
                os.close(os.open(top / f"native-{name}.d/in", os.O_CREAT, mode))
                os.mkdir(top / f"native-{name}.d/d", mode | 0o700)
                made += [name, f"{name}.d", f"{name}.d/in", f"{name}.d/d"]
        finally:
            os.umask(before)
    commit_overlay(overlay)
    for name in made:
        assert rights.of(top / name) == rights.of(top / f"native-{name}"), name


def test_what_is_staged_inherits_nothing_of_the_folder_around_it(folder, overlay):
    """A file that is older than the default ACL has no ACL, and must not get one when it is written again."""
    os.setxattr(folder, DEFAULT, acl(FOR_NEW))
    before = rights.of(folder / "plain")
    assert ACCESS not in before[3]
    assert Guest(overlay)("write", "plain") == 0
    commit_overlay(overlay)
    assert rights.of(folder / "plain") == before


def test_new_folders_of_a_folder_with_the_set_group_id_bit_have_it(folder, overlay):
    gid = 2000 if IS_ROOT else os.getegid()
    os.chown(folder / "plain.d", -1, gid)
    (folder / "plain.d").chmod(0o2775)
    guest = Guest(overlay)
    assert guest("mkdir", "plain.d/in") == guest("write", "plain.d/in/x") == guest("write", "plain.d/y") == 0
    commit_overlay(overlay)
    assert (folder / "plain.d" / "in").stat().st_mode & 0o7777 == 0o2755
    owner = folder.stat().st_uid
    for name in ("in", "in/x", "y"):
        assert rights.of(folder / "plain.d" / name)[1:3] == (owner, gid), name


# --- what the host changes meanwhile ---

MEANWHILE = {
    "the ACL": lambda folder: os.setxattr(folder / "f", ACCESS, acl(TIGHTENED)),
    "the ACL goes": lambda folder: os.removexattr(folder / "f", ACCESS),
    "an attribute": lambda folder: os.setxattr(folder / "f", "user.note", b"other"),
    "a new attribute": lambda folder: os.setxattr(folder / "f", "user.other", b""),
    "the mode": lambda folder: (folder / "f").chmod(0o600),
    "the default ACL": lambda folder: os.setxattr(folder / "d", DEFAULT, acl("user::rwx,group::---,other::---")),
    "the default ACL goes": lambda folder: os.removexattr(folder / "d", DEFAULT),
}  # fmt: skip


@pytest.mark.parametrize("what", MEANWHILE)
@pytest.mark.parametrize("way", ["written", "moved"])
def test_what_the_host_changes_after_the_review_is_refused(folder, overlay, what, way):
    guest = Guest(overlay)
    assert (guest("write", "f") if way == "written" else guest("rename", "f", "other")) == guest("write", "d/new") == 0
    changes = changes_of(overlay)
    MEANWHILE[what](folder)
    before = rights.of_all(folder)
    with pytest.raises(CommitRefused, match="changed on the host meanwhile"):
        commit_overlay(overlay, changes)
    assert rights.of_all(folder) == before


def test_a_mode_that_the_host_changes_is_refused_for_what_was_moved_too(folder, overlay):
    """In the new place the copy would have the old, wider mode."""
    assert Guest(overlay)("rename", "plain", "other") == 0
    changes = changes_of(overlay)
    (folder / "plain").chmod(0o600)
    with pytest.raises(CommitRefused, match="plain: changed on the host meanwhile"):
        commit_overlay(overlay, changes)


@as_root
def test_an_owner_that_the_host_changes_is_refused(folder, overlay):
    assert Guest(overlay)("write", "f") == 0
    changes = changes_of(overlay)
    os.chown(folder / "f", 1004, -1)
    with pytest.raises(CommitRefused, match="f: changed on the host meanwhile"):
        commit_overlay(overlay, changes)


@pytest.mark.parametrize("exchanges", [True, False])
def test_an_acl_that_is_set_just_before_the_rename_is_what_stays(folder, overlay, monkeypatch, exchanges):
    tightened = acl(TIGHTENED)
    rename, done = boundary.rename, []

    def late(old_fd, old, new_fd, new, flags):
        if not exchanges and flags & 2:
            raise OSError(errno.EINVAL, "no such flag")
        if not done:
            done.append(os.setxattr(folder / "f", ACCESS, tightened))
        rename(old_fd, old, new_fd, new, flags)

    assert Guest(overlay)("write", "f") == 0
    monkeypatch.setattr(boundary, "rename", late)
    with pytest.raises(CommitRefused, match="f: changed on the host while"):
        commit_overlay(overlay)
    assert (folder / "f").read_text() == "f of the host"
    assert os.getxattr(folder / "f", ACCESS) == tightened


@pytest.mark.parametrize("uid", [0, 1000] if IS_ROOT else [os.geteuid()])
@pytest.mark.parametrize("what", ["commit", "undo"])
def test_an_acl_that_is_set_at_any_call_is_never_lost(disk, folder, uid, what):
    """A user whom the host's ACL refuses is refused afterwards, whether the commit is refused or done."""
    for path in (disk, folder, *folder.rglob("*")):
        if IS_ROOT:
            os.chown(path, uid, uid)
    ended = set()
    with as_user(uid):
        for number in sweeps.every(5, 1000):
            (folder / "f").write_text("f of the host")
            os.setxattr(folder / "f", ACCESS, acl(SOME_REFUSED))
            with overlay_over(folder) as overlay:
                assert Guest(overlay)("write", "f") == Guest(overlay)("write", "new") == 0
                target = Target(overlay.host.host, changes_of(overlay), overlay.host.hides)

                def tighten(count, number=number):
                    if count == number:
                        os.setxattr(folder / "f", ACCESS, acl(TIGHTENED))

                work = partial(commit_and_keep, [target])
                if what == "undo":
                    work = partial(commits.undo, work().id)
                with each_call(tighten) as count:
                    try:
                        work()
                        ended.add("done")
                    except CommitRefused:
                        ended.add("refused")
            was_set = number <= count[0]
            assert os.getxattr(folder / "f", ACCESS) == acl(TIGHTENED if was_set else SOME_REFUSED), number
            commits.prune(0)
            (folder / "new").unlink(missing_ok=True)
            if not was_set:
                break
    assert ended == {"done", "refused"}


# --- at each moment ---


@pytest.mark.parametrize("way", WAYS)
def test_at_no_moment_is_more_permitted(folder, overlay, way):
    """Before each call that changes the host the file under the new name already has the right permissions."""
    expected = rights.of(folder / "f")
    WAYS[way][0](Guest(overlay))
    name, seen = WAYS[way][1], []

    def look(_):
        if (folder / name).exists():
            seen.append(rights.of(folder / name))

    with each_call(look):
        commit_overlay(overlay)
    assert seen[-1] == expected
    assert all(each == expected for each in seen)


@pytest.mark.sized(8)
@pytest.mark.parametrize("uid", [0, 1000] if IS_ROOT else [os.geteuid()])
@pytest.mark.parametrize("way", ["write", "written and moved", "with its folder"])
def test_a_kill_at_every_call_loses_no_rights(disk, folder, uid, way):
    for path in (disk, folder, *folder.rglob("*")):
        if IS_ROOT:
            os.chown(path, uid, uid)
    with as_user(uid):
        before = rights.of_all(folder)
        for number in sweeps.every(5, 1000):
            shutil.rmtree(disk / "again", ignore_errors=True)
            _copy(folder, disk / "again")
            with overlay_over(disk / "again") as overlay:
                WAYS[way][0](Guest(overlay))
                was_killed = killed_at(number, lambda overlay=overlay: commit_overlay(overlay))
            undoes = number % 2 == 0
            for journal in recovering.journals():
                undoes = undoes or journal.phase == "staging"
                (recovering.undo if undoes and journal.phase != "done" else recovering.resume)(journal.id)
            after = rights.of_all(disk / "again")
            name = WAYS[way][1]
            assert after == before or after[name] == before["d/f" if way == "with its folder" else "f"], number
            if not was_killed:
                assert name in after
                return


def _copy(folder: Path, to: Path) -> None:
    """Copies a folder with its attributes. Python's copytree copies ACLs only if Python knows them."""
    shutil.copytree(folder, to)
    for path in (folder, *folder.rglob("*")):
        for name in os.listxattr(path):
            os.setxattr(to / path.relative_to(folder), name, os.getxattr(path, name))
        (to / path.relative_to(folder)).chmod(path.stat().st_mode & 0o7777)


ON_A_BOMB = {
    "written": lambda guest: guest("write", "f"),
    "moved": lambda guest: guest("rename", "f", "other"),
    "moved with its folder": lambda guest: guest("rename", "d", "e"),
    "changed in its mode": lambda guest: guest("chmod", "f", 0o600),
}


@pytest.fixture
def bombs():
    """A folder with two files that have more attributes than the kernel lists (E2BIG). Most file systems allow
    fewer.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        folder = Path(made)
        (folder / "d").mkdir()
        for path in (folder / "f", folder / "d" / "f"):
            path.write_text("old")
            try:
                for number in range(300):
                    os.setxattr(path, f"user.{number}".ljust(250, "x"), b"")
            except OSError as error:
                pytest.skip(f"/dev/shm stores no attributes: {error}")
            with pytest.raises(OSError, match="Argument list too long"):
                os.listxattr(path)
        yield folder


@pytest.mark.parametrize("way", ON_A_BOMB)
def test_attributes_without_number_are_refused_and_harm_nothing_else(bombs, way):
    """Calls of the box such as open(2) once failed with E2BIG, which no program expects."""
    with overlay_over(bombs) as overlay:
        assert ON_A_BOMB[way](Guest(overlay)) == 0
        with pytest.raises(CommitRefused, match="more names than the kernel lists"):
            commit_overlay(overlay)
    with overlay_over(bombs) as overlay:
        guest = Guest(overlay)
        assert guest("unlink", "f") == guest("write", "new") == 0
        commit_overlay(overlay)
    assert sorted(os.listdir(bombs)) == ["d", "new"]


def test_large_attributes_are_not_read_without_end(bombs, monkeypatch):
    """Sixteen thousand names of large values would be a gigabyte for each read of a file's attributes."""
    path = bombs / "many"
    path.write_text("old")
    for number in range(100):
        os.setxattr(path, f"user.{number}", b"x" * 4000)
    read = []
    getxattr = os.getxattr
    monkeypatch.setattr(os, "getxattr", lambda *given: read.append(given) or getxattr(*given))
    with path.open() as file:
        assert [value is None for _, value in attributes.read(file.fileno())].count(False) == 4
    assert len(read) == 5


def test_an_undo_brings_back_all_rights(folder, overlay):
    before = rights.of_all(folder)
    guest = Guest(overlay)
    assert guest("write", "f") == guest("rename", "d", "e") == guest("chmod", "plain.d", 0o700) == 0
    done = commit_and_keep([Target(overlay.host.host, changes_of(overlay), overlay.host.hides)])
    assert rights.of_all(folder) != before
    commits.undo(done.id)
    assert rights.of_all(folder) == before


def test_an_undo_is_refused_where_rights_were_changed_since(folder, overlay):
    """Undoing would replace the restricted permissions by the former, wider ones."""
    assert Guest(overlay)("write", "f") == 0
    done = commit_and_keep([Target(overlay.host.host, changes_of(overlay), overlay.host.hides)])
    os.setxattr(folder / "f", ACCESS, acl(TIGHTENED))
    with pytest.raises(CommitRefused, match="was changed since"):
        commits.undo(done.id)
    commits.prune(0)


@pytest.mark.parametrize("disk", ["tmpfs"], indirect=True)  # tmpfs does not reuse an inode number at once
def test_folders_that_are_taken_apart_come_back_with_their_rights(folder):
    before = rights.of_all(folder)
    with overlay_over(folder) as overlay, lower_layer(folder):
        assert Guest(overlay)("rename", "d", "e") == 0
        done = commit_and_keep([Target(overlay.host.host, changes_of(overlay), overlay.host.hides)])
        commits.undo(done.id)
    assert rights.of_all(folder) == before
