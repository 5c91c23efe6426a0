"""Journals of commits: where they may be, which data beside them is trusted, and which process continues them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from proxybox import commits
from proxybox.controller.vfs.commits import leading, staging
from proxybox.controller.vfs.commits.committing import Target, commit
from proxybox.controller.vfs.commits.journal import CommitPhase, StateFolder
from proxybox.controller.vfs.commits.leading import LinkWalk
from proxybox.controller.vfs.commits.refusals import CommitFailed, CommitRefused, CommitUnfinished
from proxybox.controller.vfs.host import boundary, links
from proxybox.controller.vfs.host.boundary import HostRoot
from proxybox.controller.vfs.overlay import collecting
from proxybox.controller.vfs.overlay.changes import Change
from proxybox.controller.vfs.overlay.collecting import changes_of
from tests.vfs.commitscenes import commit_overlay

sys.path.insert(0, str(Path(__file__).parent))
from commitscenes import Guest, as_user, each_call, failing_at, failing_from, killed_at, on_host, overlay_over


@pytest.fixture
def tmp_path():
    """A folder in memory, if possible: a commit waits for the disk."""
    top = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield top
    shutil.rmtree(top)


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "proxybox" / "commits"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def overlay(folder, state):
    with overlay_over(folder) as made:
        yield made


def renames(overlay) -> Guest:
    """Afterwards c has the contents of a, x is new, and b does not exist."""
    guest = Guest(overlay)
    assert guest("rename", "a", "c") == guest("write", "x") == guest("unlink", "b") == 0
    return guest


def cut_off(overlay, call=boundary.rename, number=2) -> str:
    """Kills a commit before its call of that number. Returns the commit's id."""
    pid = os.fork()
    if pid == 0:
        try:
            count = [0]

            def watched(*arguments):
                count[0] += 1
                if count[0] == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                call(*arguments)

            boundary.rename = watched
            commit_overlay(overlay)
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    (found,) = commits.unfinished()
    return found.id


# --- the state folder -------------------------------------------------------------------------------------------------


def test_a_journal_is_the_users_alone_and_goes_with_its_commit(overlay, state):
    renames(overlay)
    cut_off(overlay)
    assert state.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in state.glob("*.json")] == [0o600]
    commits.resume(commits.unfinished()[0].id)
    assert [path.name for path in state.iterdir() if path.suffix != ".lock"] == []


def test_a_journal_within_the_folder_is_refused(overlay, folder, monkeypatch, tmp_path):
    renames(overlay)
    before = on_host(folder)
    for where in (folder, folder / "deep" / "er"):
        monkeypatch.setenv("XDG_STATE_HOME", str(where))
        with pytest.raises(CommitRefused, match="set XDG_STATE_HOME"):
            commit_overlay(overlay)
    (tmp_path / "way").symlink_to(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "way"))
    with pytest.raises(CommitRefused, match="set XDG_STATE_HOME"):
        commit_overlay(overlay)
    assert {path: value for path, value in on_host(folder).items() if value[0] == "file"} == before


def test_a_state_folder_of_somebody_elses_is_refused(overlay, folder, state, tmp_path):
    renames(overlay)
    state.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    state.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CommitRefused, match="not a folder of yours"):
        commit_overlay(overlay)
    state.unlink()
    state.write_text("")
    with pytest.raises(CommitRefused, match="XDG_STATE_HOME"):
        commit_overlay(overlay)
    state.unlink()
    if os.geteuid() == 0:
        state.mkdir()
        os.chown(state, 1000, 1000)
        with pytest.raises(CommitRefused, match="not a folder of yours"):
            commit_overlay(overlay)
        os.chown(state, 0, 0)
    assert (folder / "a").exists()


def test_a_state_folder_that_others_may_write_to_is_closed(overlay, state):
    renames(overlay)
    state.mkdir(parents=True)
    state.chmod(0o777)
    state.parent.chmod(0o777)
    commit_overlay(overlay)
    assert state.stat().st_mode & 0o777 == state.parent.stat().st_mode & 0o777 == 0o700


def test_no_home_and_a_relative_state_folder(overlay, monkeypatch, tmp_path):
    renames(overlay)
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    commit_overlay(overlay)
    assert (tmp_path / "home" / ".local" / "state" / "proxybox" / "commits").is_dir()
    monkeypatch.setenv("HOME", "nowhere")
    with pytest.raises(CommitRefused, match="no home"):
        commits.unfinished()


def test_a_journal_that_lies_in_the_folder_is_none(overlay, folder, state):
    """A submission may contain one, with a commit's folder beside it."""
    renames(overlay)
    ident = cut_off(overlay)
    forged = state / f"{ident}.json"
    (folder / "state").mkdir()
    (folder / "state" / forged.name).write_bytes(forged.read_bytes())
    commits.undo(ident)
    (folder / f".proxybox-commit-{ident}").mkdir(mode=0o700)
    assert commits.unfinished() == []
    with pytest.raises(CommitRefused, match="no unfinished commit"):
        commits.resume(ident)
    for strange in ("../x", "", "a" * 16 + "/..", "A" * 16):
        with pytest.raises(CommitRefused, match="no id"):
            commits.undo(strange)


def test_a_journal_that_makes_no_sense(overlay, state):
    state.mkdir(parents=True)
    for text in ("", "{}", "[]", "\0", json.dumps({"id": "0" * 16, "phase": "over"})):
        (state / f"{'0' * 16}.json").write_text(text)
        with pytest.raises(CommitRefused, match="cannot be read"):
            commits.unfinished()
    renames(overlay)
    assert len(commit_overlay(overlay)) == 4


# --- going on ---------------------------------------------------------------------------------------------------------


def test_what_is_told_of_a_commit_that_was_cut_off(overlay, folder):
    renames(overlay)
    ident = cut_off(overlay)
    (found,) = commits.unfinished()
    assert (found.id, found.folder, found.can_resume, found.can_undo) == (ident, str(folder), True, True)
    assert sorted(found.paths) == ["a", "b", "c", "x"]
    assert Path(found.kept).is_dir()
    assert commits.undo(ident) == found
    assert on_host(folder).keys() == {"a", "b", "c"}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("changed", ["a", "b", "c", "x"])
def test_going_on_stops_where_the_host_has_changed_since(overlay, folder, number, changed):
    renames(overlay)
    ident = cut_off(overlay, number=number)
    (folder / changed).unlink(missing_ok=True)
    (folder / changed).write_text("the host's own")
    before = on_host(folder)
    stopped = 0
    for go_on in (commits.resume, commits.undo):
        try:
            go_on(ident)
        except CommitUnfinished as error:
            stopped += changed in error.why and on_host(folder) == before
        except CommitRefused:
            assert stopped < 1
    assert stopped >= 1
    assert (folder / changed).read_text() == "the host's own"


@pytest.mark.parametrize("slot", ["new", "old"])
def test_what_is_forged_in_the_commits_own_folder_is_not_believed(overlay, folder, slot):
    """The file is changed in place, so that the inode is the same. A box with that folder mounted rw could do that."""
    renames(overlay)
    ident = cut_off(overlay, number=3)  # x is written, c is replaced
    own = folder / f".proxybox-commit-{ident}"
    kept = [path for path in own.iterdir() if path.read_text() == "c"]
    assert len(kept) == 1
    if slot == "old":
        kept[0].write_text("forged")
        with pytest.raises(CommitUnfinished, match="was changed since"):
            commits.undo(ident)
        assert (folder / "c").read_text() == "a"
        kept[0].write_text("c")
    else:
        (folder / "x").write_text("forged")
        with pytest.raises(CommitUnfinished, match="was changed since"):
            commits.undo(ident)
        with pytest.raises(CommitUnfinished, match="was changed since"):
            commits.resume(ident)
        assert (folder / "x").read_text() == "forged"
        (folder / "x").write_text("written 1 in the box")
    commits.resume(ident)


def test_forged_new_contents_are_not_put_in_place(overlay, folder):
    renames(overlay)
    ident = cut_off(overlay, number=1)
    own = folder / f".proxybox-commit-{ident}"
    for path in own.iterdir():
        path.write_text("forged")
    with pytest.raises(CommitUnfinished, match="was changed since"):
        commits.resume(ident)
    assert on_host(folder).keys() >= {"a", "b", "c"}
    commits.undo(ident)
    assert on_host(folder).keys() == {"a", "b", "c"}


def test_another_folder_in_the_place_of_the_commits_own(overlay, folder):
    renames(overlay)
    ident = cut_off(overlay)
    own = folder / f".proxybox-commit-{ident}"
    own.rename(folder / "aside")
    own.mkdir(mode=0o700)
    (own / "0").write_text("forged")
    for go_on in (commits.resume, commits.undo):
        with pytest.raises(CommitUnfinished, match="not the folder"):
            go_on(ident)
    own.joinpath("0").unlink()
    own.rmdir()
    (folder / "aside").rename(own)
    commits.resume(ident)
    assert on_host(folder).keys() == {"c", "x"}


def test_another_folder_in_the_place_of_the_target(overlay, folder, tmp_path):
    renames(overlay)
    ident = cut_off(overlay)
    folder.rename(tmp_path / "aside")
    with pytest.raises(CommitRefused, match="not there"):
        commits.resume(ident)
    folder.mkdir()
    with pytest.raises(CommitRefused, match="another folder"):
        commits.undo(ident)
    assert list(folder.iterdir()) == []


def test_a_device_with_another_number(overlay, folder, state):
    """Some file systems get another device number at each start of the machine."""
    renames(overlay)
    ident = cut_off(overlay)
    path = state / f"{ident}.json"
    path.write_text(path.read_text().replace(f'"dev": {folder.stat().st_dev}', '"dev": 4711'))
    commits.resume(ident)
    assert on_host(folder).keys() == {"c", "x"}


def test_a_commit_to_a_folder_in_which_another_was_cut_off(overlay, folder):
    renames(overlay)
    ident = cut_off(overlay)
    with overlay_over(folder) as later:
        Guest(later)("write", "y")
        with pytest.raises(CommitRefused, match=f"proxybox commits resume {ident}"):
            commit_overlay(later)
        commits.undo(ident)
        assert [change.name for change in commit_overlay(later)] == ["y"]


@pytest.mark.parametrize("number", range(1, 12))
def test_what_a_commit_leaves_that_changed_nothing_goes_with_the_next(overlay, folder, number):
    renames(overlay)
    with overlay_over(folder) as earlier:
        Guest(earlier)("write", "y")
        assert killed_at(number, lambda: commit_overlay(earlier))
    commit_overlay(overlay)
    assert on_host(folder).keys() == {"c", "x"}
    assert commits.unfinished() == []


# --- exclusion --------------------------------------------------------------------------------------------------------


def test_two_commits_exclude_each_other(overlay, folder, monkeypatch):
    renames(overlay)
    began, go_on = threading.Event(), threading.Event()
    rename = boundary.rename

    def slowly(*arguments):
        if threading.current_thread() is not threading.main_thread():
            began.set()
            assert go_on.wait(200)
        rename(*arguments)

    monkeypatch.setattr(boundary, "rename", slowly)
    thread = threading.Thread(target=commit_overlay, args=(overlay,))
    thread.start()
    assert began.wait(200)
    try:
        with overlay_over(folder) as other:
            Guest(other)("write", "y")
            with pytest.raises(CommitRefused, match="under way"):
                commit_overlay(other)
        (found,) = commits.unfinished()
        for go in (commits.resume, commits.undo):
            with pytest.raises(CommitRefused, match="under way"):
                go(found.id)
    finally:
        go_on.set()
        thread.join()
    assert on_host(folder).keys() == {"c", "x"}


def test_another_users_commit_excludes_this_one(overlay, folder):
    renames(overlay)
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(CommitRefused, match="under way"):
        commit_overlay(overlay)
    os.close(held)
    assert len(commit_overlay(overlay)) == 4


# --- what is all or nothing -------------------------------------------------------------------------------------------


def test_a_chain_of_renames_goes_from_its_end(overlay, folder, monkeypatch):
    """First c, then b, then a: no content is replaced before it is in its new place."""
    guest = Guest(overlay)
    assert guest("rename", "b", "c") == guest("rename", "a", "b") == 0
    seen = []
    rename = boundary.rename

    def looking(*arguments):
        rename(*arguments)
        seen.append({path.name: path.read_text() for path in folder.iterdir() if path.is_file()})

    monkeypatch.setattr(boundary, "rename", looking)
    commit_overlay(overlay)
    assert seen == [{"a": "a", "b": "b", "c": "b"}, {"a": "a", "b": "a", "c": "b"}, {"b": "a", "c": "b"}]


def test_an_error_that_no_undo_can_mend_names_both_ways(overlay, folder):
    renames(overlay)
    told = []
    for number in range(1, 60):
        with each_call(failing_from(number)):
            try:
                commit_overlay(overlay)
            except CommitUnfinished as error:
                told.append(error)
                break
            except (CommitFailed, CommitRefused):
                continue
    (unfinished,) = told
    assert unfinished.errno == errno.EIO
    assert f"proxybox commits resume {unfinished.id}" in str(unfinished)
    assert f"proxybox commits undo {unfinished.id}" in str(unfinished)
    commits.undo(unfinished.id)
    assert on_host(folder).keys() == {"a", "b", "c"}


def test_two_folders_are_committed_together_or_not_at_all(state, tmp_path):
    for number in range(1, 200):
        one, other = tmp_path / f"one{number}", tmp_path / f"other{number}"
        for folder in (one, other):
            folder.mkdir()
            (folder / "a").write_text("a")
        with overlay_over(one) as first, overlay_over(other) as second:
            assert Guest(first)("rename", "a", "b") == Guest(second)("rename", "a", "c") == 0
            targets = [Target(each.host.host, changes_of(each), each.host.hides) for each in (first, second)]
            with each_call(failing_at(number)) as count, suppress(CommitFailed, CommitRefused):
                commit(targets)
            for left in commits.unfinished():
                assert not left.can_undo
                commits.resume(left.id)
        assert (os.listdir(one), os.listdir(other)) in ((["a"], ["a"]), (["b"], ["c"])), number
        if count[0] < number:
            return
    raise AssertionError("there is no end to it")


def test_a_folder_that_was_mounted_twice_and_changed_in_both_places(overlay, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    with overlay_over(tmp_path / "link") as second:
        targets = [Target(each.host.host, changes_of(each), each.host.hides) for each in (overlay, second)]
        assert commit(targets) == []
        assert Guest(overlay)("unlink", "a") == Guest(second)("unlink", "b") == 0
        targets = [Target(each.host.host, changes_of(each), each.host.hides) for each in (overlay, second)]
        with pytest.raises(CommitRefused, match="is mounted twice, and was changed in both places"):
            commit(targets)
        assert on_host(folder).keys() == {"a", "b", "c"}
        commit(targets[:1])
    assert on_host(folder).keys() == {"b", "c"}


def interrupting_at(number):
    def before(count):
        if count == number:
            raise KeyboardInterrupt

    return before


ENDS = {"an error": failing_at, "errors from then on": failing_from, "an interrupt": interrupting_at, "a kill": None}


@pytest.mark.sized(2)
@pytest.mark.parametrize("end", ENDS)
def test_two_folders_are_both_old_or_both_new_after_every_end(state, tmp_path, end):
    """The commit is interrupted at each call. If one of the folders can no longer be undone, the other is to be
    resumed.
    """
    for number in range(1, 200):
        one, other = tmp_path / f"{number}" / "one", tmp_path / f"{number}" / "other"
        for folder in (one, other):
            folder.mkdir(parents=True)
            (folder / "a").write_text("a")
        with overlay_over(one) as first, overlay_over(other) as second:
            assert Guest(first)("rename", "a", "b") == Guest(second)("rename", "a", "c") == 0
            targets = [Target(each.host.host, changes_of(each), each.host.hides) for each in (first, second)]
            told, is_over = end_at(ENDS[end], number, lambda targets=targets: commit(targets))
            if isinstance(told, (CommitFailed, CommitRefused)):
                assert (os.path.exists(one / "a"), os.path.exists(other / "a")) == (True, True), (number, told)
            left = commits.unfinished()
            assert left or not isinstance(told, CommitUnfinished)
            forward = any(not each.can_undo for each in left)
            for each in left:
                (commits.resume if forward else commits.undo)(each.id)
        assert (os.listdir(one), os.listdir(other)) in ((["a"], ["a"]), (["b"], ["c"])), (number, told)
        assert commits.unfinished() == []
        if is_over:
            return
    raise AssertionError("there is no end to it")


@pytest.mark.parametrize("times", [1, 2])
def test_the_second_of_two_folders_cannot_be_noted_as_done_nor_the_first_be_taken_back(
    state, tmp_path, monkeypatch, times
):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("a")
    real, done, refused = StateFolder.save, [], []

    def save(self, journal):
        later = journal.phase is CommitPhase.DONE and done and journal.id not in done
        if (later and len(refused) < times) or (journal.phase is CommitPhase.APPLYING and journal.id in done):
            refused.append(journal.id)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, journal)
        if journal.phase is CommitPhase.DONE:
            done.append(journal.id)

    with overlay_over(tmp_path / "one") as first, overlay_over(tmp_path / "other") as second:
        assert Guest(first)("rename", "a", "b") == Guest(second)("rename", "a", "b") == 0
        targets = [Target(each.host.host, changes_of(each), each.host.hides) for each in (first, second)]
        with monkeypatch.context() as patch:
            patch.setattr(StateFolder, "save", save)
            if times == 1:
                commit(targets)
            else:
                with pytest.raises(CommitUnfinished, match=r"all is written, but that .*/other is cannot be noted"):
                    commit(targets)
    assert (tmp_path / "one" / "b").exists()
    assert (tmp_path / "other" / "b").exists()
    left = commits.unfinished()
    assert [(each.can_resume, each.can_undo) for each in left] == ([] if times == 1 else [(True, False), (True, True)])
    for each in left:
        commits.resume(each.id)
    assert os.listdir(tmp_path / "one") == os.listdir(tmp_path / "other") == ["b"]


def end_at(how, number, work):
    """Interrupts the work at a call. Returns the exception, and whether the work had ended before that call."""
    if how is None:
        return None, not killed_at(number, work)
    with each_call(how(number)) as count:
        try:
            work()
        except (CommitFailed, CommitRefused, CommitUnfinished, KeyboardInterrupt) as error:
            return error, False
    return None, count[0] < number


def test_an_interrupt_undoes_a_commit(overlay, folder):
    renames(overlay)
    before = on_host(folder)
    for number in range(1, 100):
        with each_call(interrupting_at(number)), pytest.raises(KeyboardInterrupt):
            commit_overlay(overlay)
        if on_host(folder) != before:
            break
        assert commits.unfinished() == []
    (found,) = commits.unfinished()  # the commit was done, and only the cleaning up remains
    assert not found.can_undo
    commits.resume(found.id)
    assert on_host(folder).keys() == {"c", "x"}


def test_changes_that_were_not_kept_are_not_committed_by_halves(overlay, folder, monkeypatch):
    """A move is one deletion and one addition, and the addition may be among the changes that were not stored."""
    guest = Guest(overlay)
    assert guest("mkdir", "z") == guest("rename", "a", "z/a") == guest("rename", "b", "z/b") == 0
    monkeypatch.setattr(collecting, "MAX_CHANGES", 3)
    budget = collecting.ChangesBudget(contents=1000, changes=3)
    assert [change.name for change in changes_of(overlay, budget=budget)] == ["a", "b", "z"]
    assert budget.left_out > 0
    monkeypatch.setattr(
        collecting.ChangesBudget, "of", lambda quota: collecting.ChangesBudget(contents=1000, changes=3)
    )
    with pytest.raises(CommitRefused, match="were not kept"):
        commit_overlay(overlay)
    assert on_host(folder).keys() == {"a", "b", "c"}


def test_a_path_that_is_too_long_is_not_lost(overlay, folder):
    guest = Guest(overlay)
    deep, here = "d" * 250, overlay.root
    for _ in range(17):
        assert guest("mkdir", deep) == 0
        guest._start = here = here.lookup(deep.encode())
    overlay.root.rename(b"a", here, b"a", 0)
    with pytest.raises(CommitRefused, match="were not kept"):
        commit_overlay(overlay)
    assert (folder / "a").read_text() == "a"


def test_a_folder_that_hands_down_its_group(overlay, folder):
    folder.chmod(0o2775)
    guest = Guest(overlay)
    assert (
        guest("mkdir", "d")
        == guest("mkdir", "d/e")
        == guest("rename", "a", "d/e/a")
        == guest("chmod", "d/e", 0o755)
        == 0
    )
    commit_overlay(overlay)
    for made in (folder / "d", folder / "d" / "e"):
        assert made.stat().st_mode & 0o7777 == 0o2755
        assert made.stat().st_gid == folder.stat().st_gid


def test_root_empties_no_folder_that_has_taken_the_place_of_its_own(overlay, folder, monkeypatch):
    renames(overlay)
    (folder / "precious").mkdir()
    (folder / "precious" / "file").write_text("precious")
    empty = staging.empty

    def swap_first(root):
        (own,) = folder.glob(".proxybox-commit-*")
        own.rename(folder / "aside")
        (folder / "precious").rename(own)
        empty(root)

    monkeypatch.setattr(staging, "empty", swap_first)
    commit_overlay(overlay)
    (own,) = folder.glob(".proxybox-commit-*")
    assert (own / "file").read_text() == "precious"
    assert list((folder / "aside").iterdir()) == []


# --- what links may cost ----------------------------------------------------------------------------------------------


def link(path: str, target: bytes) -> Change:
    return Change(name=path, path=path.encode(), kind="added", type="symlink", mode=0o777, target=target)


def never(name):
    """Hides no name."""
    return False


def test_links_through_many_names_cost_no_more_than_the_budget(folder, monkeypatch):
    """Forty links of 2,047 names each, for every link of the commit."""
    (folder / "d").mkdir()
    chain = [link(f"l{number}", b"d/" + b"./" * 900 + b"../" * 0 + b"m/" * 900 + b"x") for number in range(1000)]
    folders = [
        Change(name="", path=b"d/" + b"/".join([b"m"] * depth), kind="added", type="dir", mode=0o755)
        for depth in range(1, 901)
    ]
    loops = [link(f"k{number}", b"k%d" % (number + 1) + b"/m" * 1000) for number in range(1000)]
    changes = {change.path: change for change in (*chain, *folders, *loops)}
    looked = []
    root = HostRoot(folder)
    look = HostRoot.path_fd
    monkeypatch.setattr(HostRoot, "path_fd", lambda self, path: looked.append(path) or look(self, path))
    walk = LinkWalk(root, changes, {}, never)
    reasons = walk.refusals()
    assert any("too many names" in reason for reason in reasons)
    assert walk.steps <= leading.MAX_STEPS + 5000
    assert len(looked) <= leading.MAX_STEPS / 16
    root.close()


def test_each_name_on_the_host_is_looked_up_once(folder, monkeypatch):
    (folder / "d" / "e").mkdir(parents=True)
    looked = []
    root = HostRoot(folder)
    look = HostRoot.path_fd
    monkeypatch.setattr(HostRoot, "path_fd", lambda self, path: looked.append(path) or look(self, path))
    walk = LinkWalk(root, {b"l%d" % n: link(f"l{n}", b"d/e/f") for n in range(1000)}, {}, never)
    assert walk.refusals() == []
    assert [path for path in looked if path.startswith(b"d/")] == [b"d/e", b"d/e/f", *[b"d", b"d/e"][1:]]
    root.close()


def test_a_folder_with_more_entries_than_are_looked_through(overlay, folder, monkeypatch):
    monkeypatch.setattr(leading, "MAX_STANDING", 2)
    guest = Guest(overlay)
    assert guest("symlink", "a", "l") == 0
    with pytest.raises(CommitRefused, match="more than 2 entries"):
        commit_overlay(overlay)
    assert guest("unlink", "l") == guest("write", "x") == 0
    commit_overlay(overlay)


def test_a_large_folder_is_not_moved_on_the_host_at_once(folder, new_box, monkeypatch, fails):
    monkeypatch.setattr(links, "MAX_SEARCHED", 3)
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "f").mkdir()
    for number in range(3):
        (folder / "d" / str(number)).write_text("")
    with new_box("rw", folder) as box:
        with fails(errno.EXDEV):
            box.rename(b"d", b"f/d")
        box.rename(b"d", b"g")
        (folder / "g" / "2").unlink()
        box.rename(b"g", b"f/d")
    with new_box("overlay", folder) as box:
        box.write(b"f/d/2", b"")
        box.rename(b"f/d", b"d")
    assert (folder / "f" / "d" / "e").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_what_another_user_may_not_write_to_is_refused_with_all_undone(overlay, folder, tmp_path):
    tmp_path.chmod(0o711)
    (folder / "closed").mkdir()
    (folder / "closed" / "f").write_text("f")
    guest = renames(overlay)
    assert guest("unlink", "closed/f") == 0
    changes = changes_of(overlay)
    os.chown(folder, 1000, 1000)
    before = on_host(folder)
    others_state = tmp_path / "others"
    others_state.mkdir()
    os.chown(others_state, 1000, 1000)
    with as_user(1000), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(others_state))
        with pytest.raises(CommitFailed) as caught:
            commit_overlay(overlay, changes)
    assert caught.value.errno == errno.EACCES
    assert "undone" in str(caught.value)
    assert on_host(folder) == before
