"""A program's attacks on the review of its changes, and on undoing accepted ones."""

import os
import resource
import time
from pathlib import Path

import pytest

import proxybox
from proxybox import commits
from proxybox.controller.boxes.worldbuilding import Changed
from proxybox.controller.vfs.overlay.changes import Change
from proxybox.review import Review, ReviewRefused, pending
from proxybox.review.page import page_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("file", "sub/file"):
        (folder / name).write_text("old\n")
    return folder


def run(folder: Path, code: str, **options: object) -> proxybox.Result:
    (folder / "main.py").write_text(code)
    result = proxybox.run(folder / "main.py", **options)  # type: ignore[arg-type]
    assert result.ok, result.stderr
    return result


def accepted(folder: Path, code: str, **options: object) -> str:
    """Runs code, commits all changes, and returns the commit's id."""
    review = run(folder, code, **options).files.review()
    assert review.accept_all() == ()
    return review.commit().id


SEEN = {"filesystem": {"hide_dotfiles": False}}


def test_a_program_that_sees_the_backup_can_neither_take_it_nor_have_it_changed_by_a_commit(folder):
    first = accepted(folder, "open('file', 'w').write('new')")
    (own,) = folder.glob(".proxybox-commit-*")
    attacks = {
        "removes it": "import shutil; shutil.rmtree({own!r})",
        "renames it": "import os; os.rename({own!r}, 'mine')",
        "writes in it": "open({own!r} + '/0', 'w').write('evil')",
        "adds to it": "open({own!r} + '/evil', 'w').write('evil')",
        "makes another": "import os; os.mkdir('.proxybox-commit-0123456789abcdef')",
        "replaces it by a link": "import os, shutil; shutil.rmtree({own!r}); os.symlink('sub', {own!r})",
    }
    for code in attacks.values():
        review = run(folder, code.format(own=own.name), policy=SEEN).files.review()
        assert len(review)
        review.accept_all()
        with pytest.raises(commits.CommitRefused, match=r"\.proxybox-commit-"):
            review.commit()
    commits.undo(first)
    assert (folder / "file").read_text() == "old\n"


@pytest.mark.parametrize("forged", ["the backup", "what was written", "the folder"])
def test_a_backup_that_a_program_has_forged_is_not_put_back(folder, forged):
    """A box with the folder mounted rw, with dotfiles, can change the backup's files in place. Undoing then fails."""
    first = accepted(folder, "open('file', 'w').write('new')")
    (own,) = folder.glob(".proxybox-commit-*")
    code = {
        "the backup": "import os; [open(e.path, 'w').write('evil') for e in os.scandir(own) if e.name != '.gitignore']",
        "what was written": "open('file', 'w').write('evil')",
        "the folder": "import os; os.rename(own, 'aside'); os.mkdir(own); open(own + '/0', 'w').write('evil')",
    }[forged]
    run(folder, f"own = {own.name!r}\n{code}", policy={"filesystem": {"hide_dotfiles": False, "box": "rw"}})
    with pytest.raises(commits.CommitRefused):
        commits.undo(first)
    assert (folder / "file").read_text() == ("evil" if forged == "what was written" else "new")
    assert commits.unfinished() == []
    assert [each.id for each in commits.kept()] == [first]


def test_an_undo_follows_no_link_out_of_the_folder(folder):
    first = accepted(folder, "import os; os.unlink('sub/file'); open('sub/new', 'w').write('new')")
    outside = folder.parent / "outside"
    (folder / "sub").rename(folder / "aside")
    (folder / "sub").symlink_to(outside)
    (outside / "new").write_text("new")
    with pytest.raises(commits.CommitRefused, match="sub/"):
        commits.undo(first)
    assert sorted(path.name for path in outside.iterdir()) == ["new", "secret"]
    (folder / "sub").unlink()
    (folder / "aside").rename(folder / "sub")
    commits.undo(first)
    assert sorted(path.name for path in (folder / "sub").iterdir()) == ["file"]


@pytest.mark.parametrize("what", ["sub", "folder"])
def test_a_folder_that_becomes_a_link_between_the_review_and_the_commit(folder, what):
    review = run(folder, "open('sub/file', 'w').write('evil'); open('sub/new', 'w').write('evil')").files.review()
    review.accept_all()
    place = folder if what == "folder" else folder / "sub"
    place.rename(place.parent / "aside")
    place.symlink_to(folder.parent / "outside")
    with pytest.raises(commits.CommitRefused):
        review.commit()
    assert sorted(path.name for path in (folder.parent / "outside").iterdir()) == ["secret"]


LINKS = {
    "absolute": "os.symlink('/etc/passwd', 'l')",
    "up": "os.symlink('../outside/secret', 'l')",
    "by another one": "os.symlink('..', 'sub/up'); os.symlink('sub/up/sub/up', 'fine'); os.symlink('../../x', 'sub/l')",
}


@pytest.mark.parametrize("how", LINKS)
def test_a_link_that_leads_out_cannot_be_accepted(folder, how):
    review = run(folder, "import os; " + LINKS[how]).files.review()
    (link,) = [item for item in review if item.refusal]
    assert "leads out of the folder" in link.refusal
    with pytest.raises(ReviewRefused, match="leads out of the folder"):
        review.accept(link)
    assert review.accept_all() == (link,)
    review.commit()
    assert not os.path.lexists(folder / link.change.name)


def test_a_link_that_leads_out_by_one_of_the_hosts(folder):
    (folder / "out").symlink_to("../outside")
    review = run(folder, "import os; os.symlink('out/secret', 'l')").files.review()
    (link,) = review
    assert "leads out of the folder" in link.refusal


def test_names_that_forge_other_lines_or_act_on_a_terminal(folder):
    names = "('a\\n+++ b\\n@@ -1,1 +1,1 @@', '\\x1b]0;x\\x07', '\\u202egpj.exe', '-y')"
    code = f"[open(name, 'w').close() for name in {names}]"
    review = run(folder, code).files.review()
    for item in review:
        for text in (item.name, item.heading, *item.diff.splitlines()):
            assert text.isprintable(), text
        assert not any(line.startswith("@@ -1,1 +1,1 @@") for line in item.diff.splitlines())


def added(name: str, content: bytes = b"", kind: str = "file") -> Change:
    return Change(name=name, path=name.encode(), kind="added", type=kind, mode=0o644, content=content)


BOMBS = {
    "many files": lambda: [added(f"f{number}") for number in range(50_000)],
    "many lines": lambda: [added(f"f{number}", b"\n" * (1 << 20)) for number in range(30)],
    "deep folders": lambda: [added("/".join("d" * depth), kind="dir") for depth in range(1, 1400)],
    "many parts": lambda: [
        Change(
            name=f"f{number}", path=b"f%d" % number, kind="modified", type="file", mode=0o644, old_mode=0o644,
            old=b"".join(b"%d\n" % line for line in range(40_000)),
            content=b"".join(b"%d\n" % (line * (line % 9 > 0)) for line in range(40_000)),
        ) for number in range(10)
    ],
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_changes_that_are_many_large_or_deep_are_reviewed_in_bounded_time_and_memory(folder, bomb):
    changes = tuple(BOMBS[bomb]())
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    review = Review([Changed(str(folder), True, changes)])
    assert review.accept_all() == ()
    assert page_of(review)
    review.reject(1)
    assert time.process_time() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # KiB


def test_changes_that_were_not_all_kept_cannot_be_accepted_by_halves(folder):
    review = Review([Changed(str(folder), True, (added("a"),), 3)])
    with pytest.raises(ReviewRefused, match="3 changes of this folder were not kept"):
        review.accept(1)
    assert len(review.accept_all()) == 1


def test_a_journal_or_a_review_that_a_program_brings_is_none(folder):
    review = run(folder, "open('new', 'w').write('x')").files.review()
    waiting = pending.keep(review)
    for name in (f"{waiting.id}.json", f"{waiting.id}.html"):
        (folder / name).write_bytes((Path(waiting.page).parent / name).read_bytes())
    pending.discard(waiting.id)
    with pytest.raises(ReviewRefused, match="no review"):
        pending.load(waiting.id)
