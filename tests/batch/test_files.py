"""The two files of `proxybox batch`: jobs, which are checked on reading, and results, which survive a cut."""

import contextlib
import fcntl
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from proxybox import Policy
from proxybox.batch import jobs as reading
from proxybox.batch.jobs import JobFile, JobsError
from proxybox.batch.results import Results, ResultsError


def jobs(folder: Path, *lines: object, policy: Policy | None = None) -> JobFile:
    text = b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines)
    return JobFile(io.BytesIO(text), str(folder), policy or Policy())


def wrong(folder: Path, *lines: object) -> str:
    with contextlib.closing(jobs(folder, *lines)) as made, pytest.raises(JobsError) as caught:
        made.check()
    return str(caught.value)


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_has_what_run_takes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/main.py").write_bytes(b"# coding: latin-1\nprint('\xe4')")
    (tmp_path / "in.txt").write_text("input")
    made = jobs(
        tmp_path,
        {"id": "ada", "code": "1", "stdin": "x", "args": ["a"], "files": {"d/f": "text", "g": {"file": "in.txt"}}},
        b"",
        {"file": "sub/main.py", "stdin": {"file": "in.txt"}, "timeout": "500ms"},
        {"id": 7, "code": ""},
    )
    assert made.check() == 3
    first, second, third = made.read()
    assert (first.id, third.id) == ("ada", "7")
    assert first.keywords == {"code": "1", "stdin": "x", "args": ["a"], "files": {"d/f": "text", "g": b"input"}}
    assert second.keywords == {
        "code": b"# coding: latin-1\nprint('\xe4')", "stdin": b"input", "timeout": 0.5,
    }  # fmt: skip
    assert second.id == f"3-{second.digest}"
    made.close()


def test_a_job_that_has_changed_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("input")
    job = {"code": "1", "stdin": {"file": "in.txt"}, "timeout": 5}

    def digest(**more: Any) -> str:
        (found,) = jobs(tmp_path, {**job, **more}).read()
        return found.digest

    before = digest()
    assert before == digest() == digest(id="a")
    assert len({before, digest(code="2"), digest(args=["a"]), digest(timeout=4), digest(files={"a": ""})}) == 5
    (tmp_path / "in.txt").write_text("another")
    assert digest() != before


def test_no_job_has_more_time_than_the_policy_gives(tmp_path: Path) -> None:
    lines = {"code": "", "timeout": 3}, {"code": "", "timeout": "none"}, {"code": "", "timeout": 1}, {"code": ""}
    limited = jobs(tmp_path, *lines, policy=Policy(limits={"wall_time": 2}))
    assert [job.keywords.get("timeout") for job in limited.read()] == [2, 2, 1, None]
    free = jobs(tmp_path, *lines, policy=Policy(limits={"wall_time": None}))
    assert [job.keywords.get("timeout") for job in free.read()] == [3, "none", 1, None]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"no json", "it is no JSON"),
        (b"[" * 100_000, "it is nested too deep"),
        (b"\xff", "it is no JSON"),
        ([1], "want a JSON object, got [1]"),
        ({}, "want either code, which is a text, or file, which is a path"),
        ({"code": "", "file": "x"}, "want either code"),
        ({"code": 1}, "code: want source text (str), got 1"),
        ({"code": "", "stdn": ""}, "'stdn' is no key of a job (allowed: id, code, file, stdin, args, files, timeout)"),
        ({"code": "", "stdin": 1}, 'stdin: want a text or {"file": PATH}, got 1'),
        ({"code": "", "stdin": {"file": "a", "b": 1}}, 'want a text or {"file": PATH}'),
        ({"code": "", "args": "a b"}, "args: want a list of texts (str)"),
        ({"code": "", "args": [1]}, "args[0]: want text (str), got 1"),
        ({"code": "", "files": ["a"]}, "files: want an object of names and their content"),
        ({"code": "", "files": {"../a": ""}}, "files: '../a' is no path below /box"),
        ({"code": "", "files": {"main.py": ""}}, "'main.py' is the name of the code itself"),
        ({"code": "", "timeout": 0}, "timeout: want a duration above 0"),
        ({"code": "", "id": ""}, "id: want 1 to 256 characters"),
        ({"code": "", "id": True}, "id: want a text or a whole number, got True"),
        (b'{"code": "", "id": 1%s}' % (b"0" * 5000), "it is no JSON"),
        ({"file": 3}, "file: want text (str), got 3"),
    ],
)  # fmt: skip
def test_lines_that_make_no_sense(tmp_path: Path, line: object, words: str) -> None:
    said = wrong(tmp_path, {"code": ""}, line, {"code": ""})
    assert said.startswith("line 2: ")
    assert words in said


def test_all_lines_that_are_wrong_are_told(tmp_path: Path) -> None:
    said = wrong(tmp_path, *[{}] * 30).splitlines()
    assert [line.partition(":")[0] for line in said[:20]] == [f"line {number}" for number in range(1, 21)]
    assert said[20:] == ["and 10 more lines"]


def test_an_id_is_that_of_one_line(tmp_path: Path) -> None:
    lines = {"id": "7", "code": ""}, {"code": ""}, {"code": ""}, {"id": 7, "code": "1"}
    assert wrong(tmp_path, *lines) == "line 4: id: '7' is that of line 1, too"


def test_a_line_that_is_too_long_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_LINE", 100)
    said = wrong(tmp_path, {"code": "x" * 1000}, {"code": ""}, {})
    assert [line.partition(":")[0] for line in said.splitlines()] == ["line 1", "line 3"]
    assert "want at most" in said


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "a/../../secret", ".", "", "a//b", "./a", "a\0"])
def test_paths_that_lead_elsewhere(tmp_path: Path, path: str) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "secret").write_text("secret")
    assert "file: want a relative path below the folder of the jobs" in wrong(tmp_path / "jobs", {"file": path})


def test_what_is_no_file_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links may come from submissions; reading a pipe would never end."""
    folder = tmp_path / "jobs"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inside").symlink_to("real")
    (folder / "real").write_text("")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    for path in ("link", "inside", "up/secret", "pipe", "sub"):
        assert "want a regular file, reached without symbolic links" in wrong(folder, {"file": path})
    assert wrong(folder, {"code": "", "files": {"a": {"file": "gone"}}}).endswith("No such file or directory: 'gone'")
    monkeypatch.setattr(reading, "_MOST_FILE", 10)
    (folder / "real").write_text("x" * 11)
    assert "file: want at most" in wrong(folder, {"file": "real"})


def test_a_file_that_is_gone_when_its_job_runs(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    made = jobs(tmp_path, {"file": "a.py"})
    assert made.check() == 1
    (tmp_path / "a.py").unlink()
    with pytest.raises(JobsError, match="line 1: No such file or directory"):
        list(made.read())


# --- results ----------------------------------------------------------------------------------------------------------


def written(path: Path, *idents: str, status: str = "ok") -> bytes:
    results = Results(path)
    for ident in idents:
        results.add(ident, f"digest of {ident}", {"status": status, "stdout": "\ud800 ü\n"})
    results.close()
    return path.read_bytes()


def test_results_are_known_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    written(path, "a", "b")
    written(path, "b", status="error")
    results = Results(path)
    results.close()
    assert {ident: (known.job, known.status) for ident, known in results.known.items()} == {
        "a": ("digest of a", "ok"), "b": ("digest of b", "error"),
    }  # fmt: skip


def test_a_line_that_was_cut_off_is_removed(tmp_path: Path) -> None:
    """At any byte of the line; the next result is a line of its own."""
    path = tmp_path / "results.jsonl"
    first = written(path, "a")
    whole = written(path, "b")
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        results = Results(path)
        assert list(results.known) == (["a"] if end >= len(first) else [])
        assert results.repaired == (end - len(first) if end >= len(first) else end)
        results.add("c", "", {"status": "ok"})
        results.close()
        lines = path.read_bytes().splitlines()
        assert [json.loads(line)["id"] for line in lines] == (["a", "c"] if end >= len(first) else ["c"])


@pytest.mark.parametrize("content", [b"notes", b"notes\n", b"{}\n", b"[1]\n", b'{"id": 1}\n', b"\n", b'{"a": 1'])
def test_a_file_of_something_else_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match="this is no file of results"):
        Results(path)
    assert path.read_bytes() == content


def test_lines_in_the_middle_that_are_broken_count_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = written(path, "a")
    path.write_bytes(first + b"\xff\0\n" + b"[" * 100_000 + b"\n" + first.replace(b'"a"', b'"b"'))
    results = Results(path)
    results.close()
    assert set(results.known) == {"a", "b"}


def test_a_file_that_is_not_only_ones_own(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    (tmp_path / "link").symlink_to("there")
    os.link(tmp_path / "there", tmp_path / "twin")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "twin", "pipe"):
        with pytest.raises(OSError):
            Results(tmp_path / name)


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    written(path, "a")
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ResultsError, match="another process writes there now"):
            Results(path)
