"""Reviews of changes that programs in real boxes made: what is shown, what is accepted, and what is written."""

import errno
import hashlib
import os
import shutil
from pathlib import Path

import pytest

import proxybox
from proxybox import commits
from proxybox.review import Review, ReviewRefused
from tests.vfs.commitscenes import as_user

NUMBERS = "".join(f"{number}\n" for number in range(1, 31))
SCRIPT = """
import os
text = open("numbers").read()
text = text.replace("\\n3\\n", "\\nthree\\n").replace("\\n15\\n", "\\n").replace("\\n28\\n", "\\n28\\n28a\\n")
open("numbers", "w").write(text)
os.chmod("tool", 0o755)
open("tool", "a").write("# more\\n")
os.unlink("old/x"); os.unlink("old/y"); os.rmdir("old")
os.makedirs("new/deep"); open("new/deep/file", "w").write("deep")
open("binary", "wb").write(b"\\0new")
os.symlink("numbers", "link"); os.symlink("/etc/passwd", "out")
os.unlink("turned"); os.mkdir("turned"); open("turned/in", "w").write("in")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "folder"
    (folder / "old").mkdir(parents=True)
    for name in ("old/x", "old/y", "tool", "turned", "binary"):
        (folder / name).write_text(f"{name}\n")
    (folder / "binary").write_bytes(b"\0old")
    (folder / "numbers").write_text(NUMBERS)
    (folder / "tool").chmod(0o644)
    return folder


def reviewed(folder: Path, script: str = SCRIPT) -> Review:
    (folder / "main.py").write_text(script)
    result = proxybox.run(folder / "main.py")
    assert result.ok, result.stderr
    return result.files.review()


def numbered(review: Review, name: str, kind: str = "") -> int:
    (found,) = [item.number for item in review if item.name == name and kind in (item.change.kind, "")]
    return found


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_bytes().decode()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not any(part.startswith(".") for part in path.parts)
    }


def test_what_is_shown(folder):
    review = reviewed(folder)
    assert [item.heading for item in review] == [
        "deleted file old/x (mode 0644, 6 bytes)",
        "deleted file old/y (mode 0644, 6 bytes)",
        "deleted folder old (mode 0755)",
        "deleted file turned (mode 0644, 7 bytes)",
        "modified file binary (mode 0644, 4 bytes)",
        "added symbolic link link",
        "added folder new (mode 0755)",
        "added folder new/deep (mode 0755)",
        "added file new/deep/file (mode 0644, 4 bytes)",
        "modified file numbers (mode 0644, 81 -> 86 bytes)",
        "added symbolic link out",
        "modified file tool (mode 0644 -> 0755, 5 -> 12 bytes)",
        "added folder turned (mode 0755)",
        "added file turned/in (mode 0644, 2 bytes)",
    ]
    numbers = review.items[numbered(review, "numbers") - 1]
    assert [hunk.lines for hunk in numbers.hunks] == [
        ("@@ -1,6 +1,6 @@", " 1", " 2", "-3", "+three", " 4", " 5", " 6"),
        ("@@ -12,7 +12,6 @@", " 12", " 13", " 14", "-15", " 16", " 17", " 18"),
        ("@@ -26,5 +25,6 @@", " 26", " 27", " 28", "+28a", " 29", " 30"),
    ]
    assert numbers.diff.splitlines()[1:4] == ["--- a/numbers", "+++ b/numbers", "@@ -1,6 +1,6 @@"]
    tool = review.items[numbered(review, "tool") - 1]
    assert [hunk.kind for hunk in tool.hunks] == ["mode", "lines"]
    assert tool.hunks[0].lines == ("-mode 0644", "+mode 0755")
    (binary,) = review.items[numbered(review, "binary") - 1].hunks
    old, new = (hashlib.sha256(data).hexdigest() for data in (b"\0old", b"\0new"))
    assert binary.lines == (f"-(binary, 4 bytes, SHA-256 {old})", f"+(binary, 4 bytes, SHA-256 {new})")
    assert review.items[numbered(review, "link") - 1].hunks[0].lines == ("+leads to numbers",)
    assert "leads out of the folder" in review.items[numbered(review, "out") - 1].refusal
    assert [line for hunk in review.items[0].hunks for line in hunk.lines] == ["@@ -1,1 +0,0 @@", "-old/x"]


def test_nothing_is_accepted_at_first(folder):
    review = reviewed(folder)
    before = contents(folder)
    done = review.commit()
    assert (done.id, done.written) == ("", ())
    assert contents(folder) == before
    assert commits.kept() == []
    with pytest.raises(ReviewRefused, match="committed already"):
        review.commit()


def test_one_hunk_and_one_mode(folder):
    review = reviewed(folder)
    review.accept(numbered(review, "numbers"), [2])
    review.accept(numbered(review, "tool"), [1])
    before = contents(folder)
    done = review.commit()
    assert [change.name for change in done.written] == ["numbers", "tool"]
    assert contents(folder) == before | {"numbers": NUMBERS.replace("15\n", "")}
    assert (folder / "tool").stat().st_mode & 0o777 == 0o755
    inodes = (folder / "numbers").stat().st_ino
    commits.undo(done.id)
    assert contents(folder) == before
    assert (folder / "tool").stat().st_mode & 0o777 == 0o644
    assert (folder / "numbers").stat().st_ino != inodes
    assert list(folder.glob(".proxybox*")) == []


def test_the_text_without_the_mode(folder):
    review = reviewed(folder)
    review.accept(numbered(review, "tool"), [2])
    review.commit()
    assert (folder / "tool").read_text() == "tool\n# more\n"
    assert (folder / "tool").stat().st_mode & 0o777 == 0o644


def test_a_new_file_brings_its_folders(folder):
    review = reviewed(folder)
    review.accept(numbered(review, "new/deep/file"))
    assert [item.name for item in review if review.accepted(item)] == ["new", "new/deep", "new/deep/file"]
    review.reject(numbered(review, "new"))
    assert not any(review.accepted(item) for item in review)
    review.accept(numbered(review, "new/deep/file"))
    assert [change.name for change in review.commit().written] == ["new", "new/deep", "new/deep/file"]


def test_a_deletion_is_accepted_by_nothing_else(folder):
    review = reviewed(folder)
    with pytest.raises(ReviewRefused, match="turned: accept first that turned is deleted"):
        review.accept(numbered(review, "turned/in"))
    with pytest.raises(ReviewRefused, match="old: accept first that old/x is deleted"):
        review.accept(numbered(review, "old"))
    review.accept(numbered(review, "old/x"))
    with pytest.raises(ReviewRefused, match="old: accept first that old/y is deleted"):
        review.accept(numbered(review, "old"))
    assert [item.name for item in review if review.accepted(item)] == ["old/x"]
    review.accept(numbered(review, "turned", "deleted"))
    review.accept(numbered(review, "turned/in"))
    review.reject(numbered(review, "turned", "deleted"))
    assert [item.name for item in review if review.accepted(item)] == ["old/x"]
    review.commit()
    assert sorted(path.name for path in (folder / "old").iterdir()) == ["y"]
    assert (folder / "turned").read_text() == "turned\n"


def test_everything_but_what_cannot_be_written(folder):
    review = reviewed(folder)
    assert [item.name for item in review.accept_all()] == ["out"]
    assert len(review.commit().written) == len(review) - 1
    assert not (folder / "old").exists()
    assert (folder / "turned" / "in").read_text() == "in"
    assert not (folder / "out").is_symlink()
    (kept,) = commits.kept()
    assert Path(kept.kept).is_dir()
    assert (kept.folder, kept.size) == (str(folder), 81 + 5 + 4 + 6 + 6 + 7)
    before = contents(folder)
    (folder / "turned" / "in").write_text("edited since")
    (folder / "numbers").write_text("edited since")
    with pytest.raises(commits.CommitRefused) as caught:
        commits.undo(kept.id)
    assert sorted(reason.partition(":")[0] for reason in caught.value.reasons) == ["numbers", "turned"]
    assert contents(folder) == before | {"turned/in": "edited since", "numbers": "edited since"}
    assert commits.kept() == [kept]
    assert commits.unfinished() == []


def test_a_mode_that_the_host_has_set_since_stays_when_an_undo_is_refused(folder):
    review = reviewed(folder, "import os; os.mkdir('new', 0o750); open('tool', 'a').write('x')")
    review.accept_all()
    done = review.commit()
    (folder / "new").chmod(0o700)  # the mode that it had during the commit, before it got its own
    (folder / "tool").write_text("edited since")
    with pytest.raises(commits.CommitRefused, match="tool: "):
        commits.undo(done.id)
    assert (folder / "new").stat().st_mode & 0o777 == 0o700
    (kept,) = commits.kept()
    assert kept.id == done.id


def test_hidden_names_and_mounts_without_a_folder_are_not_reviewed(folder):
    (folder / "main.py").write_text("open('.given', 'a').write('x'); open('/tmp/x', 'w'); open('seen', 'w')")
    result = proxybox.run(folder / "main.py", files={".given": "", "given": ""})
    assert [item.name for item in result.files.review()] == ["seen"]


def test_numbers_that_do_not_exist(folder):
    review = reviewed(folder)
    for number in (0, -1, len(review) + 1):
        with pytest.raises(ReviewRefused, match="there is no change"):
            review.accept(number)
    with pytest.raises(ReviewRefused, match="there is no hunk 4"):
        review.accept(numbered(review, "numbers"), [1, 4])
    assert not review.accepted(numbered(review, "numbers"))


HOST = {
    "written": lambda path: path.write_text("the host's"),
    "written with the same size and time": lambda path: same_size_and_time(path),
    "replaced": lambda path: (path.rename(path.parent.parent / "aside"), path.write_text(NUMBERS)),
    "removed": lambda path: path.unlink(),
    "closed": lambda path: path.chmod(0o600),
    "turned into a link": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
}


def same_size_and_time(path: Path) -> None:
    seen = path.stat()
    with path.open("r+") as file:
        file.write("X")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@pytest.mark.parametrize("how", HOST)
def test_a_file_that_the_host_changes_after_the_review_is_not_written(folder, how):
    review = reviewed(folder)
    review.accept(numbered(review, "numbers"), [1])
    review.accept(numbered(review, "new/deep/file"))
    HOST[how](folder / "numbers")
    before = contents(folder)
    with pytest.raises(commits.CommitRefused, match="numbers: "):
        review.commit()
    assert contents(folder) == before
    assert not (folder / "new").exists()
    review.reject(numbered(review, "numbers"))
    review.commit()
    assert contents(folder) == before | {"new/deep/file": "deep"}


def test_a_result_that_changes_after_the_review_changes_nothing(folder):
    (folder / "main.py").write_text("open('new', 'w').write('shown')")
    result = proxybox.run(folder / "main.py")
    review = result.files.review()
    review.accept_all()
    result.files._overlays = ()
    result.files.changes = ()
    review.commit()
    assert (folder / "new").read_text() == "shown"
    (folder / "new").unlink()
    again = proxybox.run(folder / "main.py").files.review()
    again.accept_all()
    object.__setattr__(again.items[0].change, "content", b"not shown")
    with pytest.raises(ReviewRefused, match="not those that were reviewed"):
        again.commit()
    assert not (folder / "new").exists()


@pytest.mark.parametrize("how", ["gone", "closed"])
def test_new_folders_in_a_folder_that_the_host_has_taken_away(folder, how, open_the_way):
    open_the_way(folder)
    (folder / "at" / "in").mkdir(parents=True)
    review = reviewed(folder, "import os; os.makedirs('at/in/new/deep'); open('at/in/new/deep/file', 'w')")
    for path in (folder.parent, folder, *folder.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, 1000, 1000)
    if how == "gone":
        shutil.rmtree(folder / "at")
    else:
        (folder / "at").chmod(0)
    review.accept_all()
    with as_user(1000), pytest.raises(commits.CommitRefused, match="at/in/new: its folder is not there any more"):
        review.commit()
    if how == "closed":
        (folder / "at").chmod(0o755)


def test_two_folders_are_undone_together_or_not_at_all(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").write_text("a")
    mount = proxybox.Mount(target="/other", source=str(other), mode="overlay")
    (folder / "main.py").write_text("open('new', 'w').write('1'); open('/other/a', 'w').write('2')")
    result = proxybox.run(folder / "main.py", filesystem={"mounts": [mount]})
    review = result.files.review()
    assert sorted(item.name for item in review) == ["/other/a", "new"]
    review.accept_all()
    done = review.commit()
    first, second = commits.kept()
    assert first.together == second.together
    assert done.id in first.together
    (folder / "new").write_text("changed since")
    for each in (first.id, second.id):
        with pytest.raises(commits.CommitRefused, match="new: "):
            commits.undo(each)
    assert (other / "a").read_text() == "2"
    (folder / "new").write_text("1")
    commits.undo(second.id)
    assert (other / "a").read_text() == "a"
    assert not (folder / "new").exists()
    assert commits.kept() == []


def test_commits_are_undone_one_after_the_other(folder):
    (folder / "main.py").write_text("t = open('tool').read(); open('tool', 'w').write(t + 'x')")
    idents = []
    for _ in range(3):
        review = proxybox.run(folder / "main.py").files.review()
        review.accept_all()
        idents.append(review.commit().id)
    assert (folder / "tool").read_text() == "tool\nxxx"
    with pytest.raises(commits.CommitRefused, match="tool: changed on the host since"):
        commits.undo(idents[0])
    for ident in reversed(idents):
        commits.undo(ident)
    assert (folder / "tool").read_text() == "tool\n"


def test_what_is_kept_goes_with_age_number_and_size(folder, monkeypatch):
    from proxybox.controller.vfs.commits import keeping

    monkeypatch.setattr(keeping, "MOST_COMMITS", 3)
    (folder / "main.py").write_text("t = open('tool').read(); open('tool', 'w').write(t + 'x')")

    def again():
        review = proxybox.run(folder / "main.py").files.review()
        review.accept_all()
        return review.commit().id

    idents = [again() for _ in range(5)]
    assert [each.id for each in commits.kept()] == idents[2:]
    assert len(list(folder.glob(".proxybox-commit-*"))) == 3
    monkeypatch.setattr(keeping, "MOST_BYTES", 1)
    idents.append(again())
    assert [each.id for each in commits.kept()] == idents[-1:], "the newest stays, however large"
    assert commits.prune(3600) == []
    monkeypatch.setattr(keeping, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(keeping, "MOST_SECONDS", -1.0)
    idents.append(again())
    assert [each.id for each in commits.prune()] == idents[-1:]
    assert list(folder.glob(".proxybox-commit-*")) == []
    with pytest.raises(commits.CommitRefused, match="of which a backup is kept"):
        commits.undo(idents[-1])


def test_a_backup_whose_folder_is_gone_is_forgotten(folder, tmp_path):
    review = reviewed(folder)
    review.accept_all()
    ident = review.commit().id
    folder.rename(tmp_path / "moved")
    with pytest.raises(commits.CommitRefused, match="is not there"):
        commits.undo(ident)
    assert [each.id for each in commits.prune()] == [ident]
    assert commits.kept() == []


def test_a_folder_whose_commit_is_kept_can_go_with_another(folder):
    """Data for undoing is stored at the top of the folder, and not in a folder that may be removed later."""
    (folder / "main.py").write_text("open('old/x', 'w').write('new'); open('old/y', 'w').write('new')")
    review = proxybox.run(folder / "main.py").files.review()
    review.accept_all()
    first = review.commit().id
    (folder / "main.py").write_text("import shutil; shutil.rmtree('old')")
    review = proxybox.run(folder / "main.py").files.review()
    review.accept_all()
    second = review.commit().id
    assert not (folder / "old").exists()
    commits.undo(second)
    commits.undo(first)
    assert (folder / "old" / "x").read_text() == "old/x\n"


def test_a_full_disk_writes_nothing(folder, monkeypatch):
    from proxybox.controller.vfs.commits import staging

    def full(fd, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    review = reviewed(folder)
    review.accept_all()
    before = contents(folder)
    monkeypatch.setattr(staging, "_write_all", full)
    with pytest.raises(commits.CommitFailed) as caught:
        review.commit()
    assert caught.value.errno == errno.ENOSPC
    assert contents(folder) == before
    assert commits.kept() == commits.unfinished() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_commits_and_undoes(folder, open_the_way):
    open_the_way(folder)
    for path in (folder.parent, folder, *folder.rglob("*")):
        os.chown(path, 1000, 1000)
    review = reviewed(folder)
    before = contents(folder)
    with as_user(1000):
        review.accept_all()
        done = review.commit()
        assert (folder / "numbers").stat().st_uid == (folder / "new" / "deep" / "file").stat().st_uid == 1000
    with pytest.raises(commits.CommitRefused, match="not a folder of yours"):
        commits.undo(done.id)
    with as_user(1000):
        commits.undo(done.id)
        assert contents(folder) == before
