"""Random trees, reviewed and committed while others change the folder; `python -m tests.soak.reviews` runs 10,000."""

import functools
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from proxybox.controller.vfs.commits import keeping, recovering
from proxybox.controller.vfs.commits.refusals import CommitRefused
from tests import sweeps
from tests.review.scenes import Case, one, remove, shown
from tests.vfs.commitscenes import as_user, each_call, failing_at, killed_at, lower_layer, on_host


@pytest.fixture(params=[0, 1000] if os.geteuid() == 0 else [os.geteuid()])
def top(request, monkeypatch):
    """A folder of the user who commits, in memory if possible."""
    with as_user(request.param):
        top = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        monkeypatch.setenv("XDG_STATE_HOME", str(top / "state"))
        yield top
        shutil.rmtree(top)


@pytest.mark.sized(1)
def test_nothing_is_lost_and_nothing_is_written_that_was_not_accepted(top):
    ends = {one(top, seed) for seed in sweeps.spread(range(300), 100)}
    assert {"written, undone", "written, undo refused", "refused", "killed", "nothing accepted"} <= ends


def whole(top: Path, seed: int) -> Case:
    """Returns a case in which nobody else changes anything."""
    case = Case(top, seed)
    assert not case.meddler.events
    return case


@functools.cache
def fitting(uid: int, count: int) -> list[int]:
    """Returns the seeds of cases with several changes, of which some are accepted, and some only in part."""
    top, found = Path(os.environ["XDG_STATE_HOME"]).parent, []
    for seed in range(1000, 2000):
        case = Case(top, seed)
        chosen = [(item, case.review.accepted(item)) for item in case.review]
        is_partial = any(0 < len(numbers) < len(item.hunks) for item, numbers in chosen)
        kinds = {item.change.kind for item, numbers in chosen if numbers}
        can = not any(item.refusal for item in case.review) and not case.meddler.events
        if can and is_partial and len(kinds) >= 2:
            before = on_host(case.folder)
            try:
                ident = case.review.commit().id
            except CommitRefused:
                pass
            else:
                recovering.undo(ident)
                assert on_host(case.folder) == before
                found.append(seed)
        remove(case.folder)
        if len(found) == count:
            return found
    raise AssertionError("there are no such cases")


@pytest.fixture
def seeds(top):
    return fitting(os.geteuid(), 2)


def forget(case: Case) -> None:
    keeping.prune(0)
    assert not [name for name in os.listdir(case.folder) if name.startswith(".proxybox-commit-")]
    assert recovering.journals() == []
    remove(case.folder)


def after_of(top: Path, seed: int):
    """Returns the states of the folder before and after the commit."""
    case = whole(top, seed)
    before = on_host(case.folder)
    case.review.commit()
    after = shown(on_host(case.folder))
    forget(case)
    return before, after


@pytest.mark.sized(3)
@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.parametrize("is_lower", [False, True], ids=["plain", "lower layer"])
def test_a_kill_at_every_call_of_a_commit_in_part_is_resumed_or_undone_whole(top, seeds, resumes, is_lower):
    for seed in seeds:
        before, after = after_of(top, seed)
        for number in sweeps.every(5, 1000, first=1 + seed % 5):
            case = whole(top, seed)
            with lower_layer(case.folder) if is_lower else as_user(os.geteuid()):
                was_killed = killed_at(number, case.review.commit)
                forward = not was_killed
                for journal in recovering.journals():
                    forward = journal.phase == "done" or (resumes and journal.phase == "applying")
                    (recovering.resume if forward else recovering.undo)(journal.id)
                now = shown(on_host(case.folder))
                assert now in (before, after), (seed, number)
                for journal in keeping.kept_journals():
                    assert now == after, (seed, number)
                    recovering.undo(journal.id)
                    assert on_host(case.folder) == before
            forget(case)
            if not was_killed:
                assert forward
                break


@pytest.mark.sized(4)
@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.parametrize("is_lower", [False, True], ids=["plain", "lower layer"])
def test_a_kill_at_every_call_of_an_undo_is_gone_on_with_or_taken_back_whole(top, seeds, resumes, is_lower):
    for seed in seeds:
        before, after = after_of(top, seed)
        for number in sweeps.every(5, 1000, first=1 + seed % 5):
            case = whole(top, seed)
            with lower_layer(case.folder) if is_lower else as_user(os.geteuid()):
                ident = case.review.commit().id
                was_killed = killed_at(number, functools.partial(recovering.undo, ident))
                left = recovering.journals()
                resumed = bool(left) and resumes and left[0].phase == "applying"
                if left:
                    (recovering.resume if resumed else recovering.undo)(ident)
                elif was_killed:  # nothing was recorded yet, or nothing is left to do
                    assert shown(on_host(case.folder)) in (before, after)
                if resumed:
                    assert shown(on_host(case.folder)) == after, (seed, number)
                for journal in keeping.kept_journals():
                    recovering.undo(journal.id)
                assert on_host(case.folder) == before, (seed, number)
            forget(case)
            if not was_killed:
                break


def test_an_error_at_every_call_of_an_undo_leaves_the_commit_done_or_to_be_gone_on_with(top, seeds):
    for seed in seeds:
        before, after = after_of(top, seed)
        for number in sweeps.every(5, 1000, first=1 + seed % 5):
            case = whole(top, seed)
            ident = case.review.commit().id
            with each_call(failing_at(number)) as count:
                try:
                    recovering.undo(ident)
                except (CommitRefused, OSError):
                    if not recovering.journals():
                        assert shown(on_host(case.folder)) == after, (seed, number)
            for journal in (*recovering.journals(), *keeping.kept_journals()):
                recovering.undo(journal.id)
            assert on_host(case.folder) == before, (seed, number)
            forget(case)
            if count[0] < number:
                break
