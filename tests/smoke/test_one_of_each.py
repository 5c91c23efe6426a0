"""One run of each kind, from end to end: the tests with boxes of `make test-quick`."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    zygotepool.close()
    reaper.settle()


def proxybox_command(*words: str, folder: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "proxybox.cli", *words]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, check=False, timeout=100)


def test_a_box(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("open('out.txt', 'w').write(input()); open('/etc/passwd', 'w')")
    result = proxybox.run(tmp_path / "main.py", stdin="given")
    assert (result.status, result.exit_code) == (proxybox.Status.ERROR, 1)
    assert result.files["out.txt"] == b"given"
    assert not (tmp_path / "out.txt").exists()
    assert "PermissionError" in result.stderr or "Read-only file system" in result.stderr


def test_warm_boxes() -> None:
    with proxybox.Sandbox(warm=True) as box:
        runs = [box.run("import sys; print(len(sys.modules), 'x' in globals()); x = 1") for _ in range(3)]
    assert all(run.ok and run.stdout.endswith(" False\n") for run in runs)


def test_a_session() -> None:
    with (
        proxybox.Sandbox(session={"branches": 1}, functions={"double": lambda n: 2 * n}) as box,
        box.session() as session,
    ):
        session.exec("import host; x = host.double(21)")
        with session.fork() as other:
            other.exec("x += 1")
            assert (session.eval("x").value, other.eval("x").value) == (42, 43)
        assert session.exec("while True: pass", timeout=0.2).status == proxybox.Status.TIME_LIMIT
        assert session.eval("x").value == 42


def test_in_an_event_loop() -> None:
    async def main() -> str:
        async with proxybox.AsyncSandbox() as box:
            return str((await box.run("print(6 * 7)")).stdout)

    assert asyncio.run(main()) == "42\n"


def test_the_command_line(tmp_path: Path) -> None:
    done = proxybox_command("run", "--json", "-c", "print(6 * 7)", folder=tmp_path)
    seen = json.loads(done.stdout)
    assert (done.returncode, seen["status"], seen["stdout"]) == (0, "ok", "42\n")
    traced = proxybox_command("trace", "--denied", "-c", "import socket; socket.socket()", folder=tmp_path)
    assert "[denied: network: none]" in traced.stderr


def test_the_prompt_without_a_terminal(tmp_path: Path) -> None:
    done = proxybox_command("repl", folder=tmp_path, stdin="print(6 * 7)\n")
    assert (done.returncode, done.stdout) == (0, "42\n")


@pytest.mark.full
def test_grading(tmp_path: Path) -> None:
    (tmp_path / "homework").mkdir()
    right = "def is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)\n"
    (tmp_path / "homework/ada.py").write_text(right)
    (tmp_path / "homework/bob.py").write_text("def is_leap(year):\n    return True\n")
    done = proxybox_command("grade", "02-leap-year", "homework", "--jobs", "1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    grades = json.loads((tmp_path / "grades/grades.json").read_text())["grades"]
    assert {each["student"]: each["status"] for each in grades} == {"ada": "ok", "bob": "wrong_answer"}
    assert "2 submissions, 1 passed everything" in (tmp_path / "grades/report.html").read_text()
