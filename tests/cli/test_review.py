"""`proxybox run --review`, `proxybox review` and `proxybox undo`, with real boxes, on terminals and without."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

COMMAND = (sys.executable, "-m", "proxybox.cli")
SCRIPT = """
import os
text = open("notes").read()
open("notes", "w").write(text.replace("line 2\\n", "LINE 2\\n").replace("line 28\\n", "LINE 28\\n"))
os.unlink("old/x"); os.rmdir("old")
os.mkdir("new"); open("new/a", "w").write("a\\n"); open("new/b", "w").write("\\x1b]0;owned\\x07 b\\n")
print("ran")
raise SystemExit(3)
"""
NOTES = "".join(f"line {number}\n" for number in range(1, 31))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "folder"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "x").write_text("x\n")
    (folder / "notes").write_text(NOTES)
    (folder / "main.py").write_text(SCRIPT)
    return folder


def proxybox(*words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command without a terminal."""
    options = {"stdin": subprocess.DEVNULL} | options
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, check=False, timeout=60, **options
    )


@pytest.fixture
def terminal() -> Iterator[Callable[..., Any]]:
    """Starts the command on a terminal."""
    children = []

    def start(*words: Any) -> Any:
        child = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], *map(str, words)],
            timeout=100,
            encoding="utf-8",
            echo=False,
            dimensions=(50, 200),
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def answers(child: Any, *texts: str) -> str:
    """Types answers to the questions, and returns all output."""
    shown = ""
    for text in texts:
        child.expect_exact(",?] ")
        shown += child.before
        child.sendline(text)
    child.expect(pexpect.EOF)
    child.close()
    return shown + child.before


def contents(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "main.py"]
    return {str(path.relative_to(folder)): path.read_text() for path in paths if ".proxybox" not in str(path)}


BEFORE = {"notes": NOTES, "old/x": "x\n"}


def undone(folder: Path, shown: str) -> None:
    """Undoes the commit with the command that the output names."""
    ident = shown.partition("proxybox undo ")[2].split()[0]
    assert proxybox("undo", ident).stdout == f"the commit to {folder} is undone: the folder is as it was before\n"
    assert contents(folder) == BEFORE
    again = proxybox("undo", ident)
    assert again.returncode == 125
    assert "no unfinished commit" in again.stderr


def test_each_change_is_asked_about(folder: Path, terminal: Callable[..., Any]) -> None:
    child = terminal("run", "--review", folder / "main.py")
    shown = answers(child, "y", "n", "?", "n", "y", "n", "n", "y")
    assert child.exitstatus == 3, "the program's own"
    assert "accept part 1 of 2" in shown
    assert "q - accept nothing more" in shown
    assert "\x1b]0;" not in shown
    assert "4 changes written" in shown
    assert contents(folder) == {"notes": NOTES.replace("line 28\n", "LINE 28\n"), "new/a": "a\n"}
    assert (folder / "old").is_dir()
    undone(folder, shown)


@pytest.mark.full
def test_all_and_none_and_the_rest_of_a_file(folder: Path, terminal: Callable[..., Any]) -> None:
    shown = answers(terminal("run", "--review", folder / "main.py"), "all")
    assert "6 changes written" in shown
    assert not (folder / "old").exists()
    undone(folder, shown)
    shown = answers(terminal("run", "--review", folder / "main.py"), "y", "none")
    assert "nothing was accepted, and nothing was written" in shown
    assert contents(folder) == BEFORE
    shown = answers(terminal("run", "--review", folder / "main.py"), "n", "a", "d")
    assert "passed over: old: accept first that old/x is deleted" in shown
    assert contents(folder) == {**BEFORE, "new/a": "a\n", "new/b": "\x1b]0;owned\x07 b\n"}
    undone(folder, shown)
    shown = answers(terminal("run", "--review", folder / "main.py"), "y", "q")
    assert contents(folder) == {"notes": NOTES}
    assert (folder / "old").is_dir()
    undone(folder, shown)


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_an_interrupt_writes_nothing(folder: Path, terminal: Callable[..., Any], key: str) -> None:
    child = terminal("run", "--review", folder / "main.py")
    child.expect_exact(",?] ")
    child.sendline("y")
    child.expect_exact(",?] ")
    child.send(key)
    child.expect_exact("nothing was written")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130 or child.signalstatus == 2
    assert contents(folder) == BEFORE


def test_answers_that_were_typed_before_the_question_count_for_nothing(
    folder: Path, terminal: Callable[..., Any]
) -> None:
    """A program that has the terminal could make the terminal send something, too."""
    (folder / "main.py").write_text("print('typed?', flush=True); input(); open('evil', 'w').write('x')")
    child = terminal("run", "--review", folder / "main.py")
    child.expect_exact("typed?")
    child.send("go on\rall\rall\rall\r")
    child.expect_exact(",?] ")
    child.sendline("n")
    child.expect_exact("nothing was accepted")
    assert not (folder / "evil").exists()


@pytest.mark.full
def test_without_a_terminal_a_page_is_written_and_the_review_waits(folder: Path) -> None:
    ended = proxybox("run", "--review", folder / "main.py")
    assert (ended.returncode, ended.stdout) == (3, "ran\n")
    assert contents(folder) == BEFORE
    page = Path(ended.stderr.splitlines()[0].rpartition(": ")[2])
    assert "LINE 28" in page.read_text()
    ((ident,),) = [[each["id"] for each in json.loads(proxybox("review", "--json").stdout)]]
    assert ident in ended.stderr
    assert ident in proxybox("review").stdout
    other = folder.parent / "page.html"
    other.touch(0o644)
    assert proxybox("review", ident, "--page", other).returncode == 0
    assert other.read_text() == page.read_text()
    assert other.stat().st_mode & 0o777 == 0o600, "it shows what files hold that not everybody may read"

    for wrong in ("9", "4.3", "x", "1.", "1.x", "-1"):
        refused = proxybox("review", ident, "--accept", wrong)
        assert refused.returncode in (2, 125), wrong
    assert proxybox("review", ident).returncode == 2, "there is no terminal to ask on"
    assert proxybox("review", ident, "--accept", "all", "--discard").returncode == 2
    assert proxybox("review", "--discard").returncode == 2
    assert proxybox("review", "0" * 16, "--accept", "all").returncode == 125
    assert contents(folder) == BEFORE

    refused = proxybox("review", ident, "--accept", "2")
    assert refused.returncode == 125
    assert "old: accept first that old/x is deleted" in refused.stderr
    numbers = {item: number for number, item in enumerate(["old/x", "old", "new", "new/a", "new/b", "notes"], 1)}
    words = [f"--accept={numbers['new/a']}", f"--accept={numbers['notes']}.1", "--accept=1", "--accept=2"]
    done = proxybox("review", ident, *words)
    assert done.returncode == 0, done.stderr
    assert contents(folder) == {"notes": NOTES.replace("line 2\n", "LINE 2\n"), "new/a": "a\n"}
    assert not (folder / "old").exists()
    assert proxybox("review").stdout == "no review waits\n"
    undone(folder, done.stderr)


@pytest.mark.full
def test_a_review_that_waits_can_be_answered_on_a_terminal_or_thrown_away(
    folder: Path, terminal: Callable[..., Any]
) -> None:
    ident = proxybox("run", "--review", folder / "main.py").stderr.partition("proxybox review ")[2].split()[0]
    assert "still waits" in answers(terminal("review", ident), "q")
    shown = answers(terminal("review", ident), "all")
    undone(folder, shown)
    ident = proxybox("run", "--review", folder / "main.py").stderr.partition("proxybox review ")[2].split()[0]
    assert proxybox("review", ident, "--discard").returncode == 0
    assert proxybox("review").stdout == "no review waits\n"
    assert contents(folder) == BEFORE


def test_a_review_of_files_that_have_changed_since(folder: Path) -> None:
    ident = proxybox("run", "--review", folder / "main.py").stderr.partition("proxybox review ")[2].split()[0]
    (folder / "notes").write_text("the host's")
    refused = proxybox("review", ident, "--accept", "all")
    assert refused.returncode == 125
    assert "notes: changed on the host meanwhile" in refused.stderr
    assert contents(folder) == {**BEFORE, "notes": "the host's"}
    assert ident in proxybox("review").stdout, "it still waits"


def test_what_changes_nothing_and_what_cannot_be_combined(folder: Path) -> None:
    ended = proxybox("run", "--review", "-c", "open('/tmp/x', 'w')", cwd=folder)
    assert (ended.returncode, ended.stderr) == (0, "proxybox: nothing was changed that could be written\n")
    for other in ("--rw", "--json"):
        ended = proxybox("run", "--review", other, "-c", "1", cwd=folder)
        assert ended.returncode == 2
        assert f"--review and {other} exclude each other" in ended.stderr


def test_a_policy_that_copies_the_folder_shows_it_as_an_overlay(folder: Path) -> None:
    ended = proxybox("run", "--policy", "strict", "--review", folder / "main.py")
    assert "changes to review" in ended.stderr


def test_commits_that_can_be_undone_are_listed_and_removed(folder: Path) -> None:
    ident = proxybox("run", "--review", folder / "main.py").stderr.partition("proxybox review ")[2].split()[0]
    done = proxybox("review", ident, "--accept", "all").stderr.partition("proxybox undo ")[2].split()[0]
    shown = proxybox("commits").stdout
    assert shown.startswith("no commit was interrupted\ndone, and can be undone:\n" + done)
    assert f"proxybox commits undo {done}" in shown
    (seen,) = json.loads(proxybox("commits", "--json").stdout)
    assert (seen["id"], seen["is_done"], seen["folder"]) == (done, True, str(folder))
    assert proxybox("commits", "prune", "--older-than", "1h").stdout == "nothing to remove\n"
    assert proxybox("commits", "prune", "--older-than", "x").returncode == 2
    assert proxybox("commits", "prune").stdout == f"{done}  {folder}\n"
    assert proxybox("undo", done).returncode == 125
    assert not list(folder.glob(".proxybox*"))


def test_an_undo_that_files_of_the_user_stand_against(folder: Path) -> None:
    ident = proxybox("run", "--review", folder / "main.py").stderr.partition("proxybox review ")[2].split()[0]
    done = proxybox("review", ident, "--accept", "all").stderr.partition("proxybox undo ")[2].split()[0]
    (folder / "new" / "mine").write_text("mine")
    (folder / "old").write_text("mine, too")
    refused = proxybox("undo", done)
    assert refused.returncode == 125
    assert "new: " in refused.stderr
    assert "old: " in refused.stderr
    assert (folder / "new" / "mine").read_text() == "mine"
    (folder / "new" / "mine").unlink()
    (folder / "old").unlink()
    assert proxybox("undo", done).returncode == 0
    assert contents(folder) == BEFORE
