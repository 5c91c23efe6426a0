"""`proxybox batch` as users type it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())", "batch"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def batch(tmp_path: Path) -> Run:
    def run(*words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *words], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False, **options
        )

    return run


def write(path: Path, *jobs: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(job) + "\n" for job in jobs))


def results(path: Path) -> list[tuple[str, str, str]]:
    lines = map(json.loads, path.read_text().splitlines())
    return [(line["id"], line["result"]["status"], line["result"]["stdout"]) for line in lines]


JOBS = (
    {"id": "ada", "code": "print(input())", "stdin": "3\n"},
    {"id": "bob", "file": "bob.py", "args": ["x"]},
    {"id": "eve", "code": "while True: pass", "timeout": 0.2},
    {"id": "dan", "code": "1/0"},
)


def test_only_what_has_no_result_runs(batch: Run, tmp_path: Path) -> None:
    (tmp_path / "bob.py").write_text("import sys; print(sys.argv)")
    write(tmp_path / "jobs.jsonl", *JOBS)
    done = batch("jobs.jsonl", "-n", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "4 jobs: 2 ok, 1 error, 1 time limit. Results: results.jsonl\n"
    first = results(tmp_path / "results.jsonl")
    assert sorted(first) == [
        ("ada", "ok", "3\n"), ("bob", "ok", "['/box/main.py', 'x']\n"), ("dan", "error", ""), ("eve", "time_limit", ""),
    ]  # fmt: skip
    (tmp_path / "bob.py").write_text("print('new')")
    write(tmp_path / "jobs.jsonl", *JOBS, {"id": "fay", "code": "print(6)"})
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"id": "fay", "job": ')
    done = batch("jobs.jsonl", "-n", "1", "--check", "--json")
    assert done.returncode == 1
    assert done.stderr == "proxybox: results.jsonl: removed 21 bytes of an incomplete line\n"
    assert json.loads(done.stdout) == {"jobs": 5, "statuses": {"ok": 3, "error": 1, "time_limit": 1}}
    assert sorted(results(tmp_path / "results.jsonl")[4:]) == [("bob", "ok", "new\n"), ("fay", "ok", "6\n")]


def test_from_a_pipe_to_a_pipe(batch: Run, tmp_path: Path) -> None:
    """Input files are found in the current folder."""
    (tmp_path / "in.txt").write_text("hello")
    job = {"code": "print(input())", "stdin": {"file": "in.txt"}}
    done = batch("-", "--output", "-", "-n", "1", input=json.dumps(job) + "\n")
    assert (done.returncode, done.stderr) == (0, "1 job: 1 ok\n")
    line = json.loads(done.stdout)
    assert (line["id"], line["result"]["stdout"]) == (f"1-{line['job']}", "hello\n")
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_nothing_runs_while_a_line_is_wrong(batch: Run, tmp_path: Path) -> None:
    write(tmp_path / "jobs.jsonl", {"code": "1"}, {"cod": "1"}, {"file": "../x"})
    done = batch("jobs.jsonl")
    assert done.returncode == 125
    seen = done.stderr.splitlines()
    assert seen[0].startswith("proxybox: jobs.jsonl: line 2: 'cod' is no key of a job")
    assert seen[1].startswith("jobs.jsonl: line 3: file: want a relative path")
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["gone.jsonl"], 125, "can't read gone.jsonl: No such file or directory"),
        (["."], 125, "can't read .: Is a directory"),
        (["jobs.jsonl", "-o", "no/such/file"], 125, "can't write to no/such/file: No such file or directory"),
        (["jobs.jsonl", "-o", "jobs.jsonl"], 125, "jobs.jsonl: this is no file of results: name another one"),
        (["jobs.jsonl", "--policy", "strickt"], 125, "strict"),
        (["jobs.jsonl", "--timeout", "x"], 2, "--timeout"),
        (["jobs.jsonl", "-n", "0"], 2, "-n"),
    ],
)
def test_what_makes_no_sense(batch: Run, tmp_path: Path, words: list[str], status: int, said: str) -> None:
    write(tmp_path / "jobs.jsonl", {"code": "1"})
    done = batch(*words)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.sized(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_goes_on_where_it_was_cut_off(batch: Run, tmp_path: Path, number: int) -> None:
    """A program notes each of its runs.

    A job with a result in the file has run once, whatever has ended the command.
    """
    (tmp_path / "notes").mkdir()
    code = (
        "import os, sys\nos.write(os.open('/notes/' + sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), b'x')\n"
        "if sys.argv[2] == 'waits':\n    import time; time.sleep(300)"
    )
    jobs = [
        {"id": str(n), "code": code, "args": [str(n), "waits" if n == 40 else ""], "timeout": 300} for n in range(60)
    ]
    write(tmp_path / "jobs.jsonl", *jobs)
    words = ["jobs.jsonl", "-n", "1", "--mount", "notes:/notes:rw", "--timeout", "1000"]
    process = subprocess.Popen([*COMMAND, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "notes/40").exists():
            assert time.monotonic() < end, "too late"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert said == "\nproxybox: interrupted; run the same command to go on\n"
    before = {ident for ident, *_ in results(tmp_path / "results.jsonl")}
    assert before
    assert "40" not in before
    jobs[40]["args"][1] = ""
    write(tmp_path / "jobs.jsonl", *jobs)
    done = batch(*words)
    assert (done.returncode, done.stdout) == (0, "60 jobs: 60 ok. Results: results.jsonl\n"), done.stderr
    assert sorted(ident for ident, *_ in results(tmp_path / "results.jsonl")) == sorted(job["id"] for job in jobs)
    runs = {path.name: len(path.read_bytes()) for path in (tmp_path / "notes").iterdir()}
    assert {runs[ident] for ident in before} == {1}
    assert set(runs) == {job["id"] for job in jobs}


@pytest.mark.full
def test_a_cluster_that_is_not_there(batch: Run, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    write(tmp_path / "jobs.jsonl", {"code": "1"})
    soon = "from proxybox.cli import clusters, main\nclusters.CONNECT = 1\nraise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", soon, "batch", "jobs.jsonl", "--cluster", "tcp://127.0.0.1:1"], cwd=tmp_path,
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, "--cluster: can't reach" in done.stderr) == (125, True), done.stderr
