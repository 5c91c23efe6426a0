"""Workers, guests and the service are killed while they work: each request gets an answer or a clear error."""

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxybox import Client, ServiceError
from proxybox.serve.opening import OWN, own_doors
from tests.serve.conftest import Server, serving
from tests.serve.test_rest import events

CONFIG = """
workers = 1
express = {}
slots = 6
live = 2
limits = {{ concurrency = 6 }}

[policies.default]
limits = {{ wall_time = 60, cpu_time = 60 }}

[policies.writes]
limits = {{ wall_time = 60, cpu_time = 60 }}

[[policies.writes.filesystem.mounts]]
target = "/out"
source = "{}"
mode = "rw"
"""


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with one worker: each kill ends everything that runs, and no other worker can repeat it meanwhile."""
    config = CONFIG.format("false", tmp_path_factory.mktemp("out"))
    with serving(tmp_path_factory.mktemp("doomed"), config) as server:
        yield server


@pytest.fixture
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with two workers, one of which is the express."""
    config = CONFIG.format("true", tmp_path_factory.mktemp("out"))
    with serving(tmp_path_factory.mktemp("doubled"), config) as server:
        yield server


def workers(server: Server) -> list[int]:
    """Returns the processes of a service that serve its boxes."""
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    pids = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in pids if b"worker.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def lost(answer: httpx.Response) -> bool:
    """Returns whether an answer says that the worker was lost, and when to try again."""
    problem = answer.json()
    return (answer.status_code, answer.headers["retry-after"], answer.headers["content-type"], problem["type"]) == (
        503, "1", "application/problem+json", "urn:proxybox:worker-lost",
    )  # fmt: skip


def metric(server: Server, name: str) -> int:
    """Returns a number from the service's metrics."""
    text = server.http.get("/metrics").text
    return next(int(float(line.rpartition(" ")[2])) for line in text.splitlines() if line.startswith(f"{name} "))


def in_use(server: Server) -> int:
    """Returns the number of current runs."""
    return metric(server, 'proxybox_in_use{kind="run"}')


def kill(server: Server) -> int:
    """Kills the workers, waits until the service has noticed that, and returns their number."""
    lost, found = metric(server, "proxybox_workers_lost_total"), workers(server)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    while metric(server, "proxybox_workers_lost_total") < lost + len(found):
        pass
    return len(found)


def kill_while(server: Server, answers: Sequence[Future[Any]], times: int) -> int:
    """Kills the workers up to `times` times while all requests run, or until one is answered; returns how often."""
    for done in range(times):
        while in_use(server) < len(answers):
            if any(answer.done() for answer in answers):
                return done
        kill(server)
    return times


#: A run that only a kill or its limit ends.
ENDLESS = {"code": "while True: pass", "timeout": 9}


def test_a_run_whose_worker_dies_is_done_by_another(doomed: Server) -> None:
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(doomed.post, "/v1/run", {**ENDLESS, "timeout": 2})
        assert kill_while(doomed, [answer], 1) == 1
        assert (answer.result().status_code, answer.result().json()["status"]) == (200, "time_limit")


def test_a_run_that_ends_two_workers_is_not_tried_again(doomed: Server) -> None:
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(doomed.post, "/v1/run", ENDLESS)
        assert kill_while(doomed, [answer], 9) == 2, answer.result().text
        assert lost(answer.result())
    assert doomed.run("print('again')")["stdout"] == "again\n"


def test_a_run_that_can_change_files_of_the_host_is_not_tried_again(doomed: Server) -> None:
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(doomed.post, "/v1/run", {**ENDLESS, "policy": "writes"})
        assert kill_while(doomed, [answer], 9) == 1
        assert lost(answer.result())


@pytest.mark.parametrize("silent", [True, False])
def test_a_run_of_which_something_was_told_is_not_tried_again(doomed: Server, silent: bool) -> None:
    code = "while True: pass" if silent else "print('begun', flush=True)\nwhile True: pass"
    killed = 0
    for event in events(doomed, "/v1/run", {"code": code, "timeout": 2}):
        if event["event"] == ("started" if silent else "stdout") and not killed:
            while silent and not in_use(doomed):
                pass
            killed = kill(doomed)
    assert killed
    if silent:
        assert (event["event"], event["result"]["status"]) == ("finished", "time_limit")
    else:
        assert (event["event"], event["problem"]["type"]) == ("failed", "urn:proxybox:worker-lost")


def test_a_run_that_was_given_input_is_not_tried_again(doomed: Server) -> None:
    for event in events(doomed, "/v1/run", {"code": "input()", "interactive": True}):
        if event["event"] == "input_request":
            for pid in workers(doomed):
                os.kill(pid, signal.SIGKILL)
    assert (event["event"], event["problem"]["type"]) == ("failed", "urn:proxybox:worker-lost")
    assert doomed.run("print('again')")["stdout"] == "again\n"


#: A run for each of the other doors: its path, and the arguments of httpx.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "jobe": ("/jobe/index.php/restapi/runs", {
        "json": {"run_spec": {"language_id": "python3", "sourcecode": ENDLESS["code"], "parameters": {"cputime": 9}}}
    }),
    "dify": ("/v1/sandbox/run", {"json": {"language": "python3", "code": ENDLESS["code"]}}),
    "librechat": ("/librechat/exec", {"json": {"lang": "py", "code": ENDLESS["code"]}}),
    "sandboxfusion": ("/run_code", {"json": {"language": "python", "code": ENDLESS["code"]}}),
    "codejail": ("/api/v0/code-exec", {
        "data": {"payload": json.dumps({"code": ENDLESS["code"], "globals_dict": {}})}
    }),
}  # fmt: skip


def test_every_door_tells_it(doomed: Server) -> None:
    runs = dict(RUNS[name] for name in own_doors() if name not in OWN)
    with ThreadPoolExecutor() as threads, doomed.client() as client:
        answers = {path: threads.submit(client.post, path, **sent) for path, sent in runs.items()}
        assert kill_while(doomed, [*answers.values()], 9) == 2
        seen = {path: (answer.result().status_code, answer.result().headers.get("retry-after"))
                for path, answer in answers.items()}  # fmt: skip
    assert seen == dict.fromkeys(runs, (503, "1"))


def test_a_client_raises(doomed: Server) -> None:
    with ThreadPoolExecutor() as threads, Client("http://localhost", transport=doomed.transport()) as client:
        answer = threads.submit(client.run, ENDLESS["code"], timeout=9)
        assert kill_while(doomed, [answer], 9) == 2
        with pytest.raises(ServiceError, match="the process that served the box has ended") as error:
            answer.result()
    assert (error.value.kind, error.value.status, error.value.retry_after) == ("worker-lost", 503, 1.0)


def test_a_session_whose_worker_dies_is_lost_and_says_so(doomed: Server) -> None:
    session, asleep = doomed.session_again(), doomed.session()  # the last test has ended the worker
    for event in events(doomed, f"{session}/execute", {"code": "input()", "interactive": True}):
        if event["event"] == "input_request":
            for pid in workers(doomed):
                os.kill(pid, signal.SIGKILL)
    assert event["event"] == "failed"
    assert event["problem"]["type"] == "urn:proxybox:session-ended"
    for lost in (session, asleep):
        answer = doomed.post(f"{lost}/execute", {"code": "1"})
        assert (answer.status_code, answer.json()["state"]) == (410, "lost")
    assert doomed.execute(doomed.session_again(), "1", mode="eval")["value"] == 1


def test_each_request_is_answered_while_workers_die(doubled: Server) -> None:
    answers: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        with Client("http://localhost", transport=doubled.transport()) as client:
            for number in range(25):
                try:
                    result = client.run(f"print({number})")
                except ServiceError as error:
                    answers.append(error.kind)
                    continue
                answers.append(str(result.status))
                assert result.stdout == f"{number}\n"

    def kill() -> None:
        for _ in range(3):
            for pid in workers(doubled)[:1]:
                os.kill(pid, signal.SIGKILL)
            stop.wait(0.3)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    killer = threading.Thread(target=kill)
    for thread in (*threads, killer):
        thread.start()
    for thread in (*threads, killer):
        thread.join()
    assert len(answers) == 100
    assert set(answers) <= {"ok", "worker-lost"}
    assert doubled.run("print('there is room')")["status"] == "ok"
    metrics = doubled.http.get("/metrics").text
    assert 'proxybox_in_use{kind="run"} 0.0' in metrics


def test_a_guest_that_is_killed_ends_its_own_box(doomed: Server) -> None:
    result = doomed.run("import os; os.kill(os.getpid(), 9)")
    assert (result["status"], result["signal"]) == ("crashed", 9)
