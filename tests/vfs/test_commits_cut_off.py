"""Commits of random changes to random trees, with an error and a kill at every call that changes the host.

An interrupted commit is finished or undone, by itself or from its journal. Then the folder has exactly the contents and
modes that the box saw, or its former ones. In between all data is somewhere in the folder.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as some

from proxybox.controller.abi import RENAME_EXCHANGE
from proxybox.controller.vfs.commits import apart, committing, recovering
from proxybox.controller.vfs.commits.refusals import CommitFailed, CommitRefused, CommitUnfinished
from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.overlay.collecting import changes_of
from tests import sweeps
from tests.vfs.commitscenes import commit_overlay

sys.path.insert(0, str(Path(__file__).parent))
from commitscenes import (
    Guest,
    State,
    as_user,
    each_call,
    failing_at,
    failing_from,
    in_box,
    killed_at,
    lower_layer,
    on_host,
    overlay_over,
    populate,
)

NAMES = some.sampled_from(["a", "b", "c"])
PATHS = some.lists(NAMES, min_size=1, max_size=3).map("/".join)
HOST = some.lists(
    some.tuples(some.sampled_from(["file", "file", "folder", "link", "closed"]), PATHS), min_size=2, max_size=8
)
STEPS = some.lists(
    some.one_of(
        some.tuples(some.just("write"), PATHS),
        some.tuples(some.just("mkdir"), PATHS),
        some.tuples(some.just("unlink"), PATHS),
        some.tuples(some.just("rmdir"), PATHS),
        some.tuples(some.just("symlink"), NAMES, PATHS),
        some.tuples(some.just("link"), PATHS, PATHS),
        some.tuples(some.just("rename"), PATHS, PATHS, some.sampled_from([0, 0, RENAME_EXCHANGE])),
        some.tuples(some.just("rename"), NAMES, NAMES, some.sampled_from([0, RENAME_EXCHANGE])),
        some.tuples(some.just("chmod"), PATHS, some.sampled_from([0o755, 0o700, 0o555, 0o500, 0o000])),
    ),
    min_size=1,
    max_size=8,
)
#: Cases in which the order matters: into a new folder, over a folder, in a circle, a closed folder, a file for a
#: folder.
EXAMPLES = [
    ([("file", "a"), ("file", "b")], [("mkdir", "c"), ("rename", "a", "c/a"), ("chmod", "c", 0o555)]),
    ([("file", "a/a"), ("file", "b/b")], [("rename", "a", "b", RENAME_EXCHANGE)]),
    ([("file", "a/b/c"), ("folder", "c")], [("rename", "a", "c"), ("symlink", "c", "a"), ("chmod", "c/b", 0)]),
    ([("file", "a"), ("file", "b"), ("file", "c")], [("rename", "a", "b", 2), ("rename", "b", "c", 2)]),
    ([("file", "a/b"), ("closed", "a")], [("rename", "a", "c"), ("chmod", "c", 0o755), ("write", "c/c")]),
    ([("file", "a/a"), ("file", "b")], [("unlink", "a/a"), ("rmdir", "a"), ("rename", "b", "a"), ("chmod", "a", 0)]),
]


def examples(test):  # type: ignore[no-untyped-def]
    for tree, steps in EXAMPLES:
        test = example(tree=tree, steps=steps)(test)
    every = int(os.environ.get("PROXYBOX_EXAMPLES", "2"))
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    phases = [Phase.explicit, Phase.generate]
    return settings(
        max_examples=every, deadline=None, derandomize=every == 2, phases=phases, suppress_health_check=health
    )(given(tree=HOST, steps=STEPS)(test))


class Scene:
    """A folder of the host, and a box that has changed it."""

    def __init__(self, folder: Path, tree: list[tuple[str, str]], steps: list[tuple[object, ...]]) -> None:
        self.folder = folder
        populate(folder, tree)
        self.before = on_host(folder)
        with overlay_over(folder) as overlay:
            guest = Guest(overlay)
            for name, *arguments in steps:
                guest(str(name), *arguments)
            self.changes = changes_of(overlay)
            self.after = in_box(overlay)

    def commit(self) -> None:
        with overlay_over(self.folder) as overlay:
            commit_overlay(overlay, self.changes)

    def now(self) -> State:
        return on_host(self.folder)

    def nothing_is_lost(self, *, gaps: bool = False) -> None:
        """Asserts that all contents are still in the folder, in their old places, or in their new ones where these were
        free.
        """
        now = self.now()
        shown = {path: value for path, value in now.items() if ".proxybox-commit-" not in path}
        if contents(self.after) <= contents(shown) and shown.keys() == self.after.keys():
            return
        assert contents(self.before) <= contents(now)
        for content in contents(self.before) & contents(self.after):
            new = places(self.after, content)
            if not gaps and (new & places(self.before, content) or any(map(self._is_free, new))):
                assert places(shown, content) & (new | places(self.before, content)), content

    def _is_free(self, path: str) -> bool:
        """Whether neither that path nor a replaced folder above it existed."""
        parts = path.split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
        replaced = {change.name for change in self.changes if (change.kind, change.type) != ("modified", "dir")}
        return not above & replaced.intersection(self.before)


def contents(state: State) -> set[bytes]:
    return {content for kind, _, content in state.values() if kind == "file"}


def places(state: State, content: bytes) -> set[str]:
    return {path for path, (kind, _, found) in state.items() if kind == "file" and found == content}


@contextmanager
def folders(uid: int) -> Iterator[Path]:
    """A folder for many scenes, and the state folder beside it, owned by that user."""
    with as_user(uid), pytest.MonkeyPatch.context() as patch:
        # In memory, if possible: a commit waits for the disk, and there are hundreds.
        top = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        patch.setenv("XDG_STATE_HOME", str(top / "state"))
        try:
            yield top
        finally:
            remove(top)


def remove(folder: Path) -> None:
    for where, names, _ in os.walk(folder):
        for name in names:
            if not os.path.islink(os.path.join(where, name)):
                os.chmod(os.path.join(where, name), 0o700)
    shutil.rmtree(folder)


@contextmanager
def scene(top: Path, tree: list[tuple[str, str]], steps: list[tuple[object, ...]]) -> Iterator[Scene]:
    folder = top / "folder"
    folder.mkdir()
    try:
        yield Scene(folder, tree, steps)
    finally:
        assert not [path for path in on_host(folder) if ".proxybox-commit-" in path], "its own folder is left"
        assert recovering.journals() == []
        remove(folder)


USERS = [0, 1000] if os.geteuid() == 0 else [os.geteuid()]


def without_flags(patch: pytest.MonkeyPatch, refused: int) -> None:
    """Acts like a file system that does not know some flags of renameat2(2)."""
    rename = boundary.rename

    def plain(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int) -> None:
        if flags & refused:
            raise OSError(errno.EINVAL, "no such flag")
        rename(old_fd, old, new_fd, new, flags)

    patch.setattr(boundary, "rename", plain)


@pytest.mark.parametrize("refused", [0, 2, 3], ids=["all flags", "no exchange", "no flags"])
@pytest.mark.parametrize("uid", USERS)
@examples
def test_a_commit_makes_the_folder_what_the_box_saw(uid, refused, tree, steps):
    with folders(uid) as top, scene(top, tree, steps) as made, pytest.MonkeyPatch.context() as patch:
        without_flags(patch, refused)
        made.commit()
        assert made.now() == made.after


@pytest.mark.parametrize("uid", USERS)
@examples
def test_an_error_at_every_call_undoes_the_commit(uid, tree, steps):
    with folders(uid) as top:
        for number in sweeps.every(5, 1000, first=1 + len(steps) % 5):
            with scene(top, tree, steps) as made:
                with each_call(failing_at(number)) as count:
                    failed = False
                    try:
                        made.commit()
                    except (CommitFailed, CommitRefused):
                        failed = True
                if (
                    not failed and count[0] >= number
                ):  # while the finished commit cleaned up: the next commit completes that
                    for journal in recovering.journals():
                        recovering.resume(journal.id)
                assert made.now() == (made.before if failed else made.after)
            if count[0] < number:
                return


@pytest.mark.parametrize("uid", USERS[-1:])
@examples
def test_an_error_at_every_call_and_at_all_after_it_leaves_a_journal(uid, tree, steps):
    with folders(uid) as top:
        seen: list[bool] = []
        for number in sweeps.every(5, 1000, first=1 + len(steps) % 5):
            with scene(top, tree, steps) as made:
                with each_call(failing_from(number)) as count:
                    try:
                        made.commit()
                    except CommitUnfinished as error:
                        seen.append(f"proxybox commits resume {error.id}" in str(error))
                    except (CommitFailed, CommitRefused):
                        pass
                made.nothing_is_lost()
                settle(made, number)
            if count[0] < number:
                assert all(seen)
                return


@pytest.mark.sized(1)
@pytest.mark.parametrize(("uid", "refused"), [(USERS[0], 3), (USERS[-1], 0)], ids=["no flags", "all flags"])
@examples
def test_a_kill_at_every_call_loses_nothing(uid, refused, tree, steps):
    with folders(uid) as top, pytest.MonkeyPatch.context() as patch:
        without_flags(patch, refused)
        for number in sweeps.every(5, 1000, first=1 + len(steps) % 5):
            with scene(top, tree, steps) as made:
                was_killed = killed_at(number, made.commit)
                made.nothing_is_lost(gaps=bool(refused))
                settle(made, number)
            if not was_killed:
                return


def settle(made: Scene, number: int) -> None:
    """Finishes or undoes an interrupted commit. Every second time, that is killed first, too."""
    for journal in recovering.journals():
        finishes = journal.phase == "done" or (journal.phase == "applying" and number % 2 == 1)
        go_on = partial(recovering.resume if finishes else recovering.undo, journal.id)
        if number % 4 > 1:
            killed_at(number // 4 + 1, go_on)
            made.nothing_is_lost(gaps=True)
        if recovering.journals():
            go_on()
        assert made.now() == (made.after if finishes else made.before)
    assert made.now() in (made.before, made.after)


#: A tree of folders that is removed or moved, and replaced by a file and by a folder with the same names.
LOWER = [("file", "a/b/x"), ("file", "a/y"), ("link", "a/l"), ("closed", "a/b/c"), ("file", "b/b"), ("file", "c/x/y")]
LOWER_STEPS = [
    [("rename", "a", "d")],
    [("rename", "a", "d"), ("write", "a")],
    [("rename", "a", "d"), ("mkdir", "a"), ("mkdir", "a/b"), ("write", "a/b/x"), ("write", "a/y"), ("mkdir", "a/b/c")],
    [("rename", "a", "c", RENAME_EXCHANGE), ("rename", "b/b", "a/n"), ("rmdir", "b"), ("chmod", "c", 0o500)],
]


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize("steps", LOWER_STEPS)
def test_folders_of_a_lower_layer_are_taken_apart(uid, steps):
    with folders(uid) as top, scene(top, LOWER, steps) as made, lower_layer(made.folder):
        made.commit()
        assert made.now() == made.after


@pytest.mark.parametrize("steps", LOWER_STEPS)
def test_an_error_at_every_call_while_folders_are_taken_apart_undoes_the_commit(steps):
    with folders(USERS[-1]) as top:
        for number in sweeps.every(5, 1000, first=1 + LOWER_STEPS.index(steps)):
            with scene(top, LOWER, steps) as made, lower_layer(made.folder):
                with each_call(failing_at(number)) as count:
                    failed = False
                    try:
                        made.commit()
                    except (CommitFailed, CommitRefused):
                        failed = True
                for journal in recovering.journals():
                    recovering.resume(journal.id)
                assert made.now() == (made.before if failed else made.after)
            if count[0] < number:
                return


@pytest.mark.sized(2)
@pytest.mark.parametrize("steps", LOWER_STEPS)
def test_a_kill_at_every_call_while_folders_are_taken_apart_loses_nothing(steps):
    with folders(USERS[0]) as top:
        for number in sweeps.every(5, 1000, first=1 + LOWER_STEPS.index(steps)):
            with scene(top, LOWER, steps) as made, lower_layer(made.folder):
                was_killed = killed_at(number, made.commit)
                made.nothing_is_lost(gaps=True)
                settle(made, number)
            if not was_killed:
                return


@pytest.mark.sized(2)
@pytest.mark.parametrize("go_on", [recovering.undo, recovering.resume])
@pytest.mark.parametrize("steps", LOWER_STEPS)
def test_an_undo_that_is_cut_off_while_folders_are_made_again_can_be_gone_on_with_or_taken_back(steps, go_on):
    with folders(USERS[0]) as top:
        for number in sweeps.every(5, 1000, first=1 + LOWER_STEPS.index(steps)):
            with scene(top, LOWER, steps) as made, lower_layer(made.folder), pytest.MonkeyPatch.context() as patch:
                patch.setattr(committing.Commit, "close", lambda _: os.kill(os.getpid(), signal.SIGKILL))
                assert killed_at(10_000, made.commit)
                (journal,) = recovering.journals()
                was_killed = killed_at(number, partial(recovering.undo, journal.id))
                made.nothing_is_lost(gaps=True)
                resumed = False
                for left in recovering.journals():
                    resumed = go_on is recovering.resume and left.phase == "applying"
                    (recovering.undo if left.phase == "undone" else go_on)(left.id)
                assert made.now() == (made.after if resumed else made.before)
            if not was_killed:
                return


def test_what_appears_in_a_folder_while_it_is_taken_apart_stays_and_stops_the_commit(monkeypatch):
    remove_folders = apart.remove_folders

    with folders(USERS[-1]) as top, scene(top, LOWER, LOWER_STEPS[2]) as made, lower_layer(made.folder):

        def late(*arguments):
            (made.folder / "a" / "appeared").write_text("by somebody else")
            remove_folders(*arguments)

        monkeypatch.setattr(apart, "remove_folders", late)
        with pytest.raises(CommitRefused, match="appeared in it"):
            made.commit()
        found = made.now()
        assert found.pop("a/appeared")[2] == b"by somebody else"
        assert found == made.before
