"""Grading on a cluster: dask's scheduler and workers in their own processes. One worker is killed while it grades."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxybox.teach.records import FILE

pytestmark = pytest.mark.full  # starts clusters

pytest.importorskip("distributed")

CODE = "def is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)\n"
#: A test that kills its worker the first time that it tests the first submission of the last task.
KILLER = """
import os, signal
from pathlib import Path

def test_kill(student):
    "Goes on"
    if student.get("NUMBER") == 4 and not Path({mark!r}).exists():
        Path({mark!r}).write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
"""


#: Runs in another process, because the client leaves threads behind.
WAIT = """
import sys
from distributed import Client
with Client(scheduler_file=sys.argv[1], timeout=60) as client:
    client.wait_for_workers(2, timeout=60)
    print(client.scheduler.address)
"""


def _python(code: str, *words: str, folder: Path | None = None) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def proxybox(folder: Path, *words: str) -> None:
    print(_python("from proxybox.cli import main; raise SystemExit(main())", *words, folder=folder))


class Cluster:
    """A scheduler and two workers, each with a nanny process that starts it again."""

    def __init__(self, folder: Path, **environment: str) -> None:
        # Files of a killed worker stay in the test's folder.
        self._environment = {**os.environ, "TMPDIR": str(folder), **environment}
        self.file = folder / "scheduler.json"
        common = ["--scheduler-file", str(self.file)]
        self._processes = [
            self._start(folder, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *common)
        ]
        self._processes += [
            self._start(
                folder, "worker", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder), *common
            )
            for _ in range(2)
        ]
        self.address = _python(WAIT, str(self.file))

    def _start(self, folder: Path, what: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words]
        log = (folder / f"{what}.log").open("ab")
        with log:
            return subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, start_new_session=True, env=self._environment
            )

    def close(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(200)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    with contextlib.ExitStack() as closing:

        def started(**environment: str) -> Cluster:
            folder = tmp_path / "cluster"
            folder.mkdir()
            made = Cluster(folder, **environment)
            closing.callback(made.close)
            return made

        yield started


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != FILE}


@pytest.mark.parametrize("environment", [{}, {"PYTHONSAFEPATH": "1", "PYTHONPATH": ":"}], ids=["", "PYTHONPATH"])
def test_workers_that_take_modules_from_where_they_were_started(
    start: Callable[..., Cluster], tmp_path: Path, environment: dict[str, str]
) -> None:
    """Such workers get no tasks, and the check imports nothing from there either."""
    cluster = start(**environment)
    mark = tmp_path / "mark"
    (tmp_path / "cluster/proxybox.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    (tmp_path / "homework").mkdir()
    (tmp_path / "homework/a.py").write_text(CODE)
    command = [sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())", "grade", "02-leap-year",
               "homework", "--cluster", cluster.address]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 125, done.stdout
    assert done.stderr.startswith("proxybox: 2 of the cluster's workers (such as tcp://127.0.0.1:")
    assert "start them with PYTHONSAFEPATH=1 dask worker" in done.stderr
    assert not mark.exists()
    later = ("from proxybox.batch import clusters\nfrom proxybox.cli import main\n"
             "clusters.unsafe_workers = lambda _: ()\nraise SystemExit(main())")  # fmt: skip
    command[2] = later  # as if the workers had joined after the check
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("proxybox: Workers that have joined the cluster meanwhile take")
    assert not mark.exists()


def test_a_worker_is_killed_in_the_middle(start: Callable[..., Cluster], tmp_path: Path) -> None:
    """Its tasks go to another worker, and the results are the same, byte for byte, as on one machine."""
    cluster = start(PYTHONSAFEPATH="1")
    mark = tmp_path / "mark"
    proxybox(tmp_path, "exercise", "new", "exercise", "--from", "02-leap-year")
    (tmp_path / "exercise/tests/test_kill.py").write_text(KILLER.format(mark=str(mark)))
    (tmp_path / "homework").mkdir()
    for number in range(6):
        (tmp_path / f"homework/s{number:02}.py").write_text(f"NUMBER = {number}\n{CODE}")
    grade = ["grade", "exercise", "homework", "-f", "gradescope", "-f", "junit", "-o"]
    began = time.monotonic()
    proxybox(tmp_path, *grade, "far", "--cluster", cluster.address)
    print(f"{time.monotonic() - began:.1f} s")
    killed = int(mark.read_text())
    assert not Path(f"/proc/{killed}").exists()
    proxybox(tmp_path, *grade, "near")
    near, far = contents(tmp_path / "near"), contents(tmp_path / "far")
    assert near.keys() == far.keys()
    assert near == far
    assert b"6 submissions, 6 passed everything" in near["report.html"]


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    """In another process: a client that cannot connect leaves its thread behind, too."""
    (tmp_path / "homework").mkdir()
    (tmp_path / "homework/ada.py").write_text(CODE)
    soon = "from proxybox.cli import clusters, main\nclusters.CONNECT = 1\nraise SystemExit(main())"
    words = ["grade", "02-leap-year", "homework", "--cluster", "tcp://127.0.0.1:1"]
    command = [sys.executable, "-c", soon, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, "--cluster: can't reach" in done.stderr) == (125, True), done.stderr
