"""The folders for new and removed files of a commit: on file systems of all kinds, and with users of all kinds."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from proxybox import commits
from proxybox.controller.vfs.commits.refusals import CommitFailed, CommitRefused
from proxybox.controller.vfs.host import boundary
from tests.vfs.commitscenes import commit_overlay

sys.path.insert(0, str(Path(__file__).parent))
from commitscenes import Guest, as_user, killed_at, on_host, overlay_over

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def tmp_path():
    """A folder in memory, if possible: a commit waits for the disk."""
    top = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield top
    shutil.rmtree(top)


@pytest.fixture(params=[0, 1000] if IS_ROOT else [os.geteuid()])
def folder(tmp_path, monkeypatch, request):
    """A folder of a user who commits to it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if IS_ROOT:
        os.chown(tmp_path, request.param, request.param)
    with as_user(request.param):
        made = tmp_path / "folder"
        made.mkdir()
        for name in ("a", "b"):
            (made / name).mkdir()
            (made / name / "x").write_text(name)
        yield made


# --- the commit's own folder is no other ------------------------------------------------------------------------------


@pytest.mark.parametrize("go_on", ["the next commit", "undo"])
def test_a_private_folder_under_the_name_of_one_that_was_never_written_down_is_not_emptied(folder, go_on, monkeypatch):
    """A commit is killed as soon as its own folder exists. Before the next commit the folder's name belongs to a user's
    folder.
    """
    for calls in range(1, 12):
        with overlay_over(folder) as overlay:
            Guest(overlay)("write", "new")
            assert killed_at(calls, lambda: commit_overlay(overlay))
        precious = []
        for own in list(folder.glob(".proxybox-commit-*")):
            own.rename(folder / f"aside{calls}")
            own.mkdir(0o700)
            (own / "keys").write_text("precious")
            precious.append(own / "keys")
        if go_on == "undo":
            for left in commits.unfinished():
                if left.can_undo and not left.paths:
                    commits.undo(left.id)
        else:
            with overlay_over(folder) as overlay:
                Guest(overlay)("write", f"new{calls}")
                try:
                    commit_overlay(overlay)
                except CommitRefused as error:
                    assert "was cut off" in str(error)  # noqa: PT017
        assert [own.exists() for own in precious] == [True] * len(precious)
        for own in precious:
            shutil.rmtree(own.parent)
        shutil.rmtree(folder.parent / "state")


def test_a_folder_that_takes_the_place_while_the_commits_own_is_made_is_not_emptied(folder, monkeypatch):
    (folder / "private").mkdir(0o700)
    (folder / "private" / "keys").write_text("precious")
    make = os.mkdir

    def swapped(path, mode=0o777, *, dir_fd=None):
        make(path, mode, dir_fd=dir_fd)
        if os.fsencode(path).startswith(b".proxybox-commit-"):
            os.rename(folder / os.fsdecode(path), folder / "aside")
            os.rename(folder / "private", folder / os.fsdecode(path))

    with overlay_over(folder) as overlay:
        Guest(overlay)("write", "new")
        monkeypatch.setattr(os, "mkdir", swapped)
        with pytest.raises(CommitFailed, match="Permission denied"):
            commit_overlay(overlay)
    (own,) = folder.glob(".proxybox-commit-*")
    assert (own / "keys").read_text() == "precious"


# --- filesystems without modes ----------------------------------------------------------------------------------------


@pytest.fixture
def no_modes(monkeypatch):
    """Acts like vfat: new files have the mode of the mount, and chmod has no effect."""
    mkdir, create = os.mkdir, boundary.create_file

    def made(path, mode=0o777, *, dir_fd=None):
        mkdir(path, 0o755, dir_fd=dir_fd)

    def created(fd, name, mode):
        return create(fd, name, 0o755)

    def forgotten(*_, **__):
        pass

    monkeypatch.setattr(os, "mkdir", made)
    monkeypatch.setattr(boundary, "create_file", created)
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, forgotten)


def test_a_filesystem_that_keeps_no_modes(folder, no_modes, monkeypatch):
    for number in range(2):
        with overlay_over(folder) as overlay:
            guest = Guest(overlay)
            assert guest("write", f"new{number}") == guest("mkdir", f"d{number}") == guest("write", f"d{number}/y") == 0
            assert guest("chmod", f"d{number}", 0o750) == guest("unlink", f"{'ab'[number]}/x") == 0
            if number == 0:
                commit_overlay(overlay)
            else:
                killed_at(30, lambda: commit_overlay(overlay))
                for left in commits.unfinished():
                    (commits.undo if left.can_undo else commits.resume)(left.id)
                commit_overlay(overlay)
    found = on_host(folder).keys()
    assert found == {"a", "b", "new0", "new1", "d0", "d0/y", "d1", "d1/y"}
    assert commits.unfinished() == []


def test_another_users_folder_is_not_taken_for_one_of_a_filesystem_without_modes(folder, monkeypatch):
    make = os.mkdir

    def opened(path, mode=0o777, *, dir_fd=None):
        make(path, 0o777 if os.fsencode(path).startswith(b".proxybox-commit-") else mode, dir_fd=dir_fd)

    with overlay_over(folder) as overlay:
        Guest(overlay)("write", "new")
        monkeypatch.setattr(os, "mkdir", opened)
        before = os.umask(0)
        try:
            with pytest.raises(CommitFailed, match="Permission denied"):
                commit_overlay(overlay)
        finally:
            os.umask(before)
    assert on_host(folder).keys() == {"a", "a/x", "b", "b/x"}
    assert commits.unfinished() == []


# --- overlayfs --------------------------------------------------------------------------------------------------------

ON_OVERLAYFS = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from commitscenes import Guest, commit_overlay, on_host, overlay_over
from proxybox.controller.vfs.commits import apart
from proxybox.controller.vfs.commits.refusals import CommitFailed
from proxybox.controller.vfs.host import boundary
folder = Path("merged")
fd = os.open(folder, os.O_RDONLY)
assert boundary.filesystem_type(fd) == apart.OVERLAYFS
before = on_host(folder)
def change(overlay):
    guest = Guest(overlay)
    assert guest("rename", "a", "c") == guest("write", "a") == guest("unlink", "b/x") == guest("rmdir", "b") == 0
with overlay_over(folder) as overlay:
    change(overlay)
    write_out = boundary.write_out
    count = []
    def failing(fd):
        count.append(fd)
        if len(count) == 2:
            raise OSError(5, "when all was done")
    boundary.write_out = failing
    try:
        commit_overlay(overlay)
    except CommitFailed:
        pass
    assert on_host(folder) == before, on_host(folder)
    boundary.write_out = write_out
with overlay_over(folder) as overlay:  # of a box that is shown the folders that were made again
    change(overlay)
    commit_overlay(overlay)
after = on_host(folder)
assert after.keys() == {"a", "c", "c/x"} and after["c/x"][2] == b"a", after
"""


@pytest.mark.skipif(not IS_ROOT, reason="mounts are root's")
@pytest.mark.parametrize("lower_is_elsewhere", [False, True])
def test_folders_of_a_lower_layer_of_a_real_overlayfs(tmp_path, lower_is_elsewhere):
    lower = Path(tempfile.mkdtemp()) if lower_is_elsewhere else tmp_path / "lower"
    for name in ("a", "b"):
        (lower / name).mkdir(parents=True)
        (lower / name / "x").write_text(name)
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    mount = f"mount -t overlay none -o lowerdir={lower},upperdir=upper,workdir=work merged"
    tests = str(Path(__file__).parent)
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    probe = f"mkdir u w m; mount -t overlay none -o lowerdir={lower},upperdir=u,workdir=w m"
    can_mount = subprocess.run(["unshare", "-m", "sh", "-ec", probe], cwd=tmp_path, capture_output=True, check=False)
    if can_mount.returncode:
        pytest.skip(f"no overlayfs can be mounted here: {can_mount.stderr.decode().strip()}")
    command = ["unshare", "-m", "sh", "-ec", f'{mount}; exec "$0" -c "$1" "$2"', sys.executable, ON_OVERLAYFS, tests]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    if lower_is_elsewhere:
        shutil.rmtree(lower)
    assert done.returncode == 0, done.stderr


# --- where a commit's own folder can be made --------------------------------------------------------------------------


@pytest.fixture
def closed(folder):
    """Makes the folder read-only for users to whom permissions apply. Its folders a and b stay writable."""
    folder.chmod(0o555)
    yield folder
    for each in (folder, folder / "a", folder / "b"):
        each.chmod(0o755)


def test_a_folder_that_is_opened_by_the_commit_that_writes_to_it(folder):
    (folder / "a").chmod(0o555)
    with overlay_over(folder) as overlay:
        guest = Guest(overlay)
        assert guest("chmod", "a", 0o755) == guest("write", "a/new") == 0
        commit_overlay(overlay)
    assert on_host(folder).keys() == {"a", "a/x", "a/new", "b", "b/x"}


def test_a_folder_that_is_closed_by_the_commit_that_writes_to_it(folder):
    with overlay_over(folder) as overlay:
        guest = Guest(overlay)
        assert guest("write", "a/new") == guest("chmod", "a", 0o555) == 0
        commit_overlay(overlay)
    assert on_host(folder).keys() == {"a", "a/x", "a/new", "b", "b/x"}
    assert commits.unfinished() == []
    (folder / "a").chmod(0o755)


def test_two_folders_that_can_be_written_to_below_one_that_cannot(closed):
    with overlay_over(closed) as overlay:
        guest = Guest(overlay)
        assert guest("write", "a/new") == guest("rename", "b/x", "a/x") == guest("write", "b/new") == 0
        commit_overlay(overlay)
    assert on_host(closed).keys() == {"a", "a/x", "a/new", "b", "b/new"}


def test_the_mode_of_a_folder_below_one_that_cannot_be_written_to(closed):
    with overlay_over(closed) as overlay:
        guest = Guest(overlay)
        assert guest("chmod", "a", 0o700) == guest("write", "a/new") == 0
        commit_overlay(overlay)
    assert on_host(closed).keys() == {"a", "a/x", "a/new", "b", "b/x"}
    assert stat.S_IMODE((closed / "a").stat().st_mode) == 0o700


def test_a_kill_of_a_commit_that_is_staged_beside_the_places_it_writes_to(closed):
    for number in range(1, 1000):
        with overlay_over(closed) as overlay:
            guest = Guest(overlay)
            assert guest("write", f"a/n{number}") == guest("write", f"b/n{number}") == 0
            was_killed = killed_at(number, lambda: commit_overlay(overlay))
        for left in commits.unfinished():
            (commits.undo if left.can_undo else commits.resume)(left.id)
        found = on_host(closed).keys()
        assert not [name for name in found if ".proxybox-commit" in name]
        assert (f"a/n{number}" in found) == (f"b/n{number}" in found)
        if not was_killed:
            return


# --- owners and modes -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not IS_ROOT, reason="root alone gives files away")
@pytest.mark.parametrize("how", ["write", "rename over", "folder"])
def test_a_file_of_roots_in_a_users_folder_stays_roots(tmp_path, monkeypatch, how):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = tmp_path / "folder"
    made.mkdir()
    (made / "theirs").write_text("theirs")
    (made / "token").write_text("root's")
    (made / "token").chmod(0o600)
    for each in (made, made / "theirs"):
        os.chown(each, 1000, 1000)
    with overlay_over(made) as overlay:
        guest = Guest(overlay)
        if how == "write":
            assert guest("write", "token") == 0
        elif how == "rename over":
            assert guest("rename", "theirs", "token") == 0
        else:
            assert guest("unlink", "token") == guest("mkdir", "token") == guest("write", "token/x") == 0
        assert guest("write", "new") == 0
        commit_overlay(overlay)
    assert (made / "token").stat().st_uid == 0
    assert how != "folder" or (made / "token" / "x").stat().st_uid == 0
    assert (made / "new").stat().st_uid == 1000


def test_a_chmod_of_the_box_leaves_set_id_bits_that_it_was_not_shown(folder):
    (folder / "a").chmod(0o2775)
    for mode in (0o750, 0o775):
        with overlay_over(folder) as overlay:
            assert Guest(overlay)("chmod", "a", mode) == 0
            commit_overlay(overlay)
        assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o2000 | mode


def test_a_commit_that_changes_a_mode_and_is_killed_can_be_undone_and_finished_with_set_id_bits(folder):
    for number in range(1, 1000):
        (folder / "a").chmod(0o2775)
        with overlay_over(folder) as overlay:
            guest = Guest(overlay)
            assert guest("chmod", "a", 0o750) == guest("write", "b/new") == 0
            was_killed = killed_at(number, lambda: commit_overlay(overlay))
        for left in commits.unfinished():
            (commits.undo if left.can_undo else commits.resume)(left.id)
        done = (folder / "b" / "new").exists()
        assert stat.S_IMODE((folder / "a").stat().st_mode) == (0o2750 if done else 0o2775)
        (folder / "b" / "new").unlink(missing_ok=True)
        if not was_killed:
            return


def test_an_error_while_a_folder_is_staged_leaves_no_descriptor(folder, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "refused by the host")

    held = []
    with overlay_over(folder) as overlay:
        Guest(overlay)("mkdir", "d")
        monkeypatch.setattr(boundary, "restore_mode", refused)
        for _ in range(4):
            with pytest.raises(CommitFailed):
                commit_overlay(overlay)
            gc.collect()
            held.append(len(os.listdir("/proc/self/fd")))
    assert len(set(held)) == 1


# --- what others do to the folder itself ------------------------------------------------------------------------------


def test_a_lock_that_another_program_holds_of_the_folder_is_named(folder):
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    with overlay_over(folder) as overlay:
        Guest(overlay)("write", "new")
        with pytest.raises(CommitRefused, match=r"folder is locked \(flock\).*lslocks"):
            commit_overlay(overlay)
        os.close(held)
        commit_overlay(overlay)


def test_a_folder_that_cannot_be_read_any_more_is_a_refusal(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if IS_ROOT:
        os.chown(tmp_path, 1000, 1000)
    with as_user(1000):
        made = tmp_path / "folder"
        made.mkdir()
        with overlay_over(made) as overlay:
            Guest(overlay)("write", "new")
            made.chmod(0o300)
            with pytest.raises(CommitRefused, match="cannot be read"):
                commit_overlay(overlay)
            made.chmod(0o700)
