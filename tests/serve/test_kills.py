"""Workers, guests and the service are killed while they work: each request gets an answer or a clear error."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxybox import Client
from tests.serve.conftest import Server, serving
from tests.serve.test_rest import events


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("doomed"), "workers = 1\nexpress = true\nslots = 2\nlive = 2\n") as server:
        yield server


def workers(server: Server) -> list[int]:
    """The processes of a service that have its boxes."""
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    pids = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in pids if b"worker.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_run_whose_worker_dies_says_so(doomed: Server) -> None:
    for event in events(doomed, "/v1/run", {"code": "input()", "interactive": True}):
        if event["event"] == "input_request":
            for pid in workers(doomed):
                os.kill(pid, signal.SIGKILL)
    assert event["event"] == "finished"
    assert (event["result"]["status"], event["result"]["why"]) == (
        "internal_error", "the process that served the box has ended",
    )  # fmt: skip
    assert doomed.run("print('again')")["stdout"] == "again\n"


def test_a_session_whose_worker_dies_is_lost_and_says_so(doomed: Server) -> None:
    session = doomed.session()
    asleep = doomed.session()
    for event in events(doomed, f"{session}/execute", {"code": "input()", "interactive": True}):
        if event["event"] == "input_request":
            for pid in workers(doomed):
                os.kill(pid, signal.SIGKILL)
    assert event["event"] == "failed"
    assert event["problem"]["type"] == "urn:proxybox:session-ended"
    for lost in (session, asleep):
        answer = doomed.post(f"{lost}/execute", {"code": "1"})
        assert (answer.status_code, answer.json()["state"]) == (410, "lost")
    while (answer := doomed.post("/v1/sessions", {})).status_code == 503:  # the next worker starts
        assert answer.headers["retry-after"]
    assert doomed.execute(f"/v1/sessions/{answer.json()['id']}", "1", mode="eval")["value"] == 1


def test_each_request_is_answered_while_workers_die(doomed: Server) -> None:
    answers: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        with Client("http://localhost", transport=doomed.transport()) as client:
            for number in range(25):
                result = client.run(f"print({number})")
                answers.append(str(result.status))
                assert result.stdout == f"{number}\n" or result.status == "internal_error"

    def kill() -> None:
        for _ in range(3):
            for pid in workers(doomed)[:1]:
                os.kill(pid, signal.SIGKILL)
            stop.wait(0.3)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    killer = threading.Thread(target=kill)
    for thread in (*threads, killer):
        thread.start()
    for thread in (*threads, killer):
        thread.join()
    assert len(answers) == 100
    assert set(answers) <= {"ok", "internal_error"}
    assert doomed.run("print('there is room')")["status"] == "ok"
    metrics = doomed.http.get("/metrics").text
    assert 'proxybox_in_use{kind="run"} 0.0' in metrics


def test_a_guest_that_is_killed_ends_its_own_box(doomed: Server) -> None:
    result = doomed.run("import os; os.kill(os.getpid(), 9)")
    assert (result["status"], result["signal"]) == ("crashed", 9)
