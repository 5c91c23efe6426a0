"""Where submissions come from, and what is no submission."""

import os
import zipfile
from pathlib import Path

import pytest

from proxybox.teach.student import Failed
from proxybox.teach.submissions import MOST_FILES, Submission, SubmissionError, find_submissions, read_submission


def files(folder: Path, **content: str) -> Path:
    for name, text in content.items():
        path = folder / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def archive(path: Path, **content: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in content.items():
            made.writestr(name.replace("__", "/").replace("_py", ".py"), text)
    return path


def told(*paths: Path) -> dict[str, list[str]]:
    return {each.student: sorted(each.files) for each in find_submissions(paths, "solution.py")}


def test_files_folders_and_archives(tmp_path: Path) -> None:
    files(tmp_path, ada_py="x = 1", grace__solution_py="y", grace__data="1", notes="no submission", __hidden_py="")
    archive(tmp_path / "alan.zip", solution_py="z", __pycache__="")
    assert told(tmp_path) == {"ada": ["ada.py"], "alan": ["solution.py"], "grace": ["data", "solution.py"]}
    assert told(tmp_path / "ada.py") == {"ada": ["ada.py"]}
    assert told(tmp_path / "grace") == {"grace": ["data", "solution.py"]}


def test_moodle(tmp_path: Path) -> None:
    name = "Ada Lovelace_4711_assignsubmission_file_"
    (tmp_path / name).mkdir()
    (tmp_path / name / "solution.py").write_text("x")
    assert told(tmp_path) == {"Ada Lovelace": ["solution.py"]}
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as made:
        made.writestr(f"{name}/solution.py", "x")
        made.writestr("Alan Turing_12_assignsubmission_file_/a/solution.py", "y")
    assert told(tmp_path / "all.zip") == {"Ada Lovelace": ["solution.py"], "Alan Turing": ["a/solution.py"]}


def test_gradescope(tmp_path: Path) -> None:
    files(tmp_path, submission_1__solution_py="x", submission_2__solution_py="y")
    (tmp_path / "submission_metadata.yml").write_text(
        'submission_1:\n  :submitters:\n  - :name: Ada Lovelace\n    :sid: "1"\n  :created_at: 2026-01-01\n'
        "submission_2:\n  :submitters:\n  - :name: Alan Turing\n"
    )
    assert told(tmp_path) == {"Ada Lovelace": ["solution.py"], "Alan Turing": ["solution.py"]}


def test_two_of_one_name(tmp_path: Path) -> None:
    files(tmp_path, a__ada_py="1", b__ada_py="2")
    with pytest.raises(SubmissionError, match="two submissions of 'ada'"):
        find_submissions([tmp_path / "a" / "ada.py", tmp_path / "b" / "ada.py"], "solution.py")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py", "a/../../evil.py"])
def test_archives_that_lead_out(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(name, "x")
    with pytest.raises(SubmissionError, match="leads out"):
        read_submission(tmp_path / "a.zip")


def test_archives_that_are_bombs_or_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("solution.py", b"\0" * (30 << 20))
    with pytest.raises(SubmissionError, match="MiB"):
        read_submission(tmp_path / "bomb.zip")
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as made:
        for number in range(MOST_FILES + 1):
            made.writestr(f"{number}.py", "")
    with pytest.raises(SubmissionError, match="files"):
        read_submission(tmp_path / "many.zip")
    (tmp_path / "none.zip").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(SubmissionError, match="zip"):
        read_submission(tmp_path / "none.zip")


def test_links_are_not_followed(tmp_path: Path) -> None:
    files(tmp_path / "ada", solution_py="x")
    os.symlink("/etc/passwd", tmp_path / "ada" / "passwd")
    os.symlink("/etc", tmp_path / "ada" / "etc")
    os.symlink("/etc", tmp_path / "grace")
    assert told(tmp_path) == {"ada": ["solution.py"]}


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="No such file"):
        read_submission(tmp_path / "nothing.py")


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({"solution.py": b"1", "other.py": b"2"}, b"1"),
        ({"a/solution.py": b"3", "x.py": b""}, b"3"),
        ({"x.py": b"4"}, b"4"),
    ],
)
def test_the_main_file(held: dict[str, bytes], found: bytes) -> None:
    assert Submission(student="ada", files=held).main("solution.py") == found


@pytest.mark.parametrize("held", [{}, {"x.py": b"", "y.py": b""}, {"notes.txt": b""}])
def test_no_main_file(held: dict[str, bytes]) -> None:
    with pytest.raises(Failed, match=r"There is no file solution\.py"):
        Submission(student="ada", files=held).main("solution.py")
