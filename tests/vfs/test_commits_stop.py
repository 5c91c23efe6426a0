"""A commit never removes a change of the host that was made after the box had read the file, or during the commit."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from proxybox.controller.boxes.copyingfiles import Copier
from proxybox.controller.vfs.commits import committing
from proxybox.controller.vfs.commits.refusals import CommitRefused
from proxybox.controller.vfs.overlay import collecting
from proxybox.controller.vfs.overlay.collecting import changes_of
from tests.vfs.commitscenes import commit_overlay

sys.path.insert(0, str(Path(__file__).parent))
from commitscenes import Guest, on_host, overlay_over


@pytest.fixture
def tmp_path():
    """A folder in memory, if possible: a commit waits for the disk."""
    top = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield top
    shutil.rmtree(top)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "folder"
    fill(folder)
    return folder


def fill(folder):
    (folder / "d" / "in").mkdir(parents=True)
    for name in ("d/old", "d/in/deep", "keep"):
        (folder / name).write_text(name)
    (folder / "d" / "link").symlink_to("old")


@pytest.fixture
def overlay(folder):
    with overlay_over(folder) as made:
        yield made


REMOVED = [
    ("unlink", "d/in/deep"), ("rmdir", "d/in"), ("unlink", "d/old"), ("unlink", "d/link"), ("rmdir", "d"),
]  # fmt: skip
GONE = {
    "removed": REMOVED,
    "removed and made again": [*REMOVED, ("mkdir", "d")],
    "removed and made a file": [*REMOVED, ("write", "d")],
    "moved and removed": [("rename", "d", "e"), *((name, "e" + path[1:]) for name, path in REMOVED)],
    "written and moved": [("write", "d/old"), ("write", "d/in/deep"), ("rename", "d", "e")],
    "moved and written": [("rename", "d", "e"), ("write", "e/old"), ("write", "e/in/deep")],
    "moved twice": [("write", "d/in/deep"), ("write", "d/old"), ("rename", "d", "e"), ("rename", "e", "f")],
    "moved there and back": [
        ("write", "d/in/deep"), ("write", "d/old"), ("rename", "d", "e"), ("rename", "e", "d"),
    ],
    "emptied into a folder of its own": [
        ("mkdir", "n"), ("rename", "d/old", "n/old"), ("rename", "d/in", "n/in"), ("write", "n/in/deep"),
        ("unlink", "d/link"), ("rmdir", "d"),
    ],
    "moved with links to what is in it": [
        ("link", "d/old", "one"), ("link", "d/in/deep", "two"), ("rename", "d", "e"),
    ],
}  # fmt: skip
CHANGES = {
    "written": lambda folder: (folder / "d" / "old").write_text("the host's word"),
    "written deep in it": lambda folder: (folder / "d" / "in" / "deep").write_text("the host's word"),
    "another file of that name": lambda folder: (
        (folder / "new").write_text("d/old"),
        (folder / "new").replace(folder / "d" / "old"),
    ),
}
REPLACED = {
    "another folder, empty": lambda folder: (
        (folder / "d").rename(folder / "kept"),
        (folder / "d").mkdir(),
    ),
    "another folder that holds the same": lambda folder: (
        (folder / "d").rename(folder / "kept"),
        shutil.copytree(folder / "kept", folder / "d", symlinks=True),
    ),
    "a file": lambda folder: ((folder / "d").rename(folder / "kept"), (folder / "d").write_text("the host's word")),
}
COME = {
    "a new file": lambda folder: (folder / "d" / "new").write_text("the host's word"),
    "a new file deep in it": lambda folder: (folder / "d" / "in" / "new").write_text("the host's word"),
    "a new folder": lambda folder: (
        (folder / "d" / "more").mkdir(),
        (folder / "d" / "more" / "new").write_text("the host's word"),
    ),
}


def stops(overlay, folder):
    before = on_host(folder)
    with pytest.raises(CommitRefused, match=r"meanwhile|were not kept"):
        commit_overlay(overlay)
    assert on_host(folder) == before


@pytest.mark.parametrize("change", [*CHANGES, *REPLACED])
@pytest.mark.parametrize("gone", GONE)
def test_what_has_changed_in_a_folder_after_the_box_took_it_away(overlay, folder, gone, change):
    guest = Guest(overlay)
    assert [guest(*step) for step in GONE[gone]] == [0] * len(GONE[gone])
    (CHANGES | REPLACED)[change](folder)
    stops(overlay, folder)


def test_a_folder_in_the_place_of_a_file_that_the_box_removed(overlay, folder):
    assert Guest(overlay)("unlink", "keep") == 0
    (folder / "keep").unlink()
    (folder / "keep").mkdir()
    stops(overlay, folder)
    (folder / "keep" / "new").write_text("the host's word")
    stops(overlay, folder)


@pytest.mark.parametrize("come", COME)
@pytest.mark.parametrize("gone", [each for each in GONE if "removed" in each or "emptied" in each])
def test_what_has_come_to_a_folder_after_the_box_removed_it(overlay, folder, gone, come):
    guest = Guest(overlay)
    assert [guest(*step) for step in GONE[gone]] == [0] * len(GONE[gone])
    if gone == "emptied into a folder of its own" and come == "a new file deep in it":
        return  # `in` was moved, not removed: new files in it move with it
    COME[come](folder)
    stops(overlay, folder)


@pytest.mark.parametrize("gone", GONE)
def test_a_folder_that_the_host_leaves_alone_goes(overlay, folder, gone):
    guest = Guest(overlay)
    assert [guest(*step) for step in GONE[gone]] == [0] * len(GONE[gone])
    commit_overlay(overlay)
    assert not (folder / "d" / "old").exists() or gone == "moved there and back"


@pytest.mark.parametrize("come", COME)
def test_what_comes_to_a_folder_that_was_moved_unread_moves_with_it(overlay, folder, come):
    assert Guest(overlay)("rename", "d", "e") == 0
    COME[come](folder)
    before = {name: seen for name, seen in on_host(folder).items() if name != "keep"}
    commit_overlay(overlay)
    after = on_host(folder)
    assert {"e" + name[1:]: seen for name, seen in before.items()} == {n: s for n, s in after.items() if n != "keep"}


@pytest.mark.parametrize("moved", ["a", "z"])  # without the right order, one would be collected before the old place
@pytest.mark.parametrize("change", [*CHANGES, *COME])
def test_a_folder_moved_unread_that_changes_while_the_changes_are_collected(
    overlay, folder, change, moved, monkeypatch
):
    assert Guest(overlay)("rename", "d", moved) == 0
    real, count = collecting._Collector.keep, 0

    def keep(self, *arguments, **named):
        nonlocal count
        count += 1
        if count == number:
            (CHANGES | COME)[change](folder)
        return real(self, *arguments, **named)

    monkeypatch.setattr(collecting._Collector, "keep", keep)
    for number in range(1, 20):
        count = 0
        changes = changes_of(overlay)
        if count < number:
            return
        try:
            commit_overlay(overlay, changes)
        except CommitRefused:
            shutil.rmtree(folder / "d")
            fill(folder)
        else:
            contents = {content for _, _, content in on_host(folder).values()}
            assert change == "another file of that name" or b"the host's word" in contents
            shutil.rmtree(folder / moved)
            fill(folder)
    raise AssertionError("there is no end to it")


def test_a_copy_of_the_box_knows_what_the_box_was_shown(overlay, folder):
    guest = Guest(overlay)
    assert [guest(*step) for step in REMOVED] == [0] * len(REMOVED)
    with contextlib.ExitStack() as closing:
        copier = Copier(closing)
        copy = copier.of(overlay)
        copier.finish()
        (folder / "d" / "in" / "deep").write_text("the host's word")
        stops(copy, folder)
        (folder / "d" / "in" / "deep").write_text("in/deep")
        stops(copy, folder)  # it is a different file all the same
        assert [change.name for change in changes_of(copy)] == [change.name for change in changes_of(overlay)]
        assert "d/in/deep" in [change.name for change in changes_of(copy)]


# --- during the commit ------------------------------------------------------------------------------------------------

IN_BETWEEN = {
    "when the first file is staged": ("stage", 1, False),
    "when the last file was staged": ("stage", 3, True),
    "before its fingerprint is taken": ("fingerprint", 2, False),
    "when its fingerprint was taken": ("fingerprint", 2, True),
    "when all is written out": ("in_order", 1, True),
}
TAKEN = {
    "the folder removed": REMOVED,
    "the folder replaced": [*REMOVED, ("write", "d")],
    "the folder moved": [("rename", "d", "e")],
    "its files removed": [("unlink", "d/old"), ("unlink", "d/in/deep")],
    "its files written": [("write", "d/old"), ("write", "d/in/deep")],
}


@pytest.mark.parametrize("when", IN_BETWEEN)
@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("change", [*CHANGES, *COME])
def test_what_changes_between_the_plan_and_the_first_step(overlay, folder, taken, when, change, monkeypatch):
    if taken.startswith("its files") and change in COME:
        return  # new files beside them stay there
    guest = Guest(overlay)
    steps = [("write", "a"), *TAKEN[taken], ("write", "z")]
    assert [guest(*step) for step in steps] == [0] * len(steps)
    name, number, after = IN_BETWEEN[when]
    real, count, before = getattr(committing, name), 0, {}

    def in_between(*arguments, **named):
        nonlocal count
        count += 1
        if count == number and not after:
            come()
        result = real(*arguments, **named)
        if count == number and after:
            come()
        return result

    def come():
        (CHANGES | COME)[change](folder)
        before.update({name: seen for name, seen in on_host(folder).items() if ".proxybox-commit" not in name})

    monkeypatch.setattr(committing, name, in_between)
    with pytest.raises(CommitRefused):
        commit_overlay(overlay)
    assert before
    assert on_host(folder) == before
