"""A worker that a guest has taken over: what it sends ends it, and nothing else."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import AsyncMock

import pytest

from proxybox.result import Result, Status
from proxybox.serve import service, sessions
from proxybox.serve.authority import Authority
from proxybox.serve.callers import ANONYMOUS
from proxybox.serve.config import ServiceConfig, ServiceSessions
from proxybox.serve.jobs import ServiceJobs
from proxybox.serve.results import result_as_json
from proxybox.serve.wire import WorkerSocket
from proxybox.serve.wiredata import ReadyToGive, ReadyToTake
from proxybox.serve.workeranswers import ResultFacts, answer_with_facts
from proxybox.serve.workerjobs import AnyJob, ExecuteJob, FileJob, ForkJob, MemoryJob, RunJob, SnapshotJob
from proxybox.serve.workers import JobFailed, Slot, Transfer, WorkerLost, WorkerProcess
from tests.serve.conftest import Server

RUN = RunJob(policy="p", language="l", code="1")
EXECUTE = ExecuteJob(op="exec", session="s", policy="p", code="1")
SEND = FileJob(op="send_file", session="s", policy="p", path="a", limit=9)
RESULT = result_as_json(Result(status=Status.OK, exit_code=0, stdout_bytes=b"\x7f\xff\n"))
CELL = {**RESULT, "display": [], "alive": True}
DONE = b"r" + answer_with_facts({"alive": True})
GIVE = b'y{"size":3,"digest":"%b"}' % (b"0" * 64)


def message(facts: dict[str, Any], answer: bytes = json.dumps(RESULT).encode()) -> bytes:
    good = {"alive": True, "status": "ok", "why": "", "wall": 0.5, "cpu": 0.5, "start": 0.0}
    return b"r" + json.dumps({**good, **facts}).encode() + b"\n" + answer


async def asked(job: AnyJob, *sent: bytes, transfer: Transfer | None = None) -> tuple[Any, list[Any]]:
    """Returns the answer to a job or the exception, and what became of the worker and its line."""
    config, seen = ServiceConfig(workers=1), list[Any]()
    workers = ServiceJobs(config, Authority(config)).workers
    workers._on_free = lambda _: seen.append("free")
    end, other = socket.socketpair()
    data = b"".join(struct.pack("!i", len(each)) + each for each in sent)
    sending = asyncio.create_task(asyncio.to_thread(other.sendall, data))
    process: Any = SimpleNamespace(process=SimpleNamespace(kill=lambda: seen.append("killed")))
    worker = WorkerProcess(0, process, SimpleNamespace(tell=lambda _: None))  # type: ignore[arg-type]
    line = await WorkerSocket.on(end)
    try:
        async with asyncio.timeout(20):
            answer: Any = await workers.ask(Slot(worker, "run", line), job, transfer=transfer)
    except (WorkerLost, JobFailed) as error:
        answer = error
    await sending
    line.close()
    other.close()
    return answer, seen


def ends_its_worker(job: AnyJob, *sent: bytes, transfer: Transfer | None = None) -> None:
    answer, seen = asyncio.run(asked(job, *sent, transfer=transfer))
    assert (type(answer), seen) == (WorkerLost, ["killed"])


BAD_RESULTS = {
    "no JSON": message({}, b"{nope}"), "no facts": b"r{}", "a list": message({}, b"[]"), "null": message({}, b"null"),
    "no keys": message({}, b"{}"), "nothing": b"r", "deep": b"r" + b"[" * 200_000,
    "deep facts": b"r" + b"[" * 60_000 + b"\n{}", "a deep result": message({}, b'{"status":' + b"[" * 60_000 + b"}"),
    **{f"facts with {fact}": message(fact) for fact in (
        {"status": "\ud800"}, {"status": ["ok"]}, {"status": "fine"}, {"status": None}, {"wall": -1e300},
        {"wall": float("nan")}, {"wall": float("inf")}, {"wall": 10**400}, {"wall": "1"}, {"cpu": "abc"},
        {"cpu": -1}, {"cpu": True}, {"start": [1]}, {"alive": 0}, {"alive": "no"}, {"why": [1]}, {"more": 1},
    )},
    **{f"a result with {key}": message({}, json.dumps({**RESULT, **key}).encode()) for key in (
        {"status": "x"}, {"stdout": 1}, {"usage": {"cpu": "abc"}}, {"usage": None}, {"more": 1}, {"ok": "yes"},
        {"output": [["stdout", "a", "b"]]}, {"error": {"type": 1}}, {"unknown_calls": []}, {"files": [{}]},
    )},
    **{f"a large one with {part!r}": message({}, b'{"stdout":"' + b"a" * (1 << 20) + part) for part in (
        b'"}\n\nevent: stdout\ndata: {}\n\n', b'"}\n\nevent: stdout\ndata: {}', b'\r"}', b'\0"}', b'\xff"}', b'"',
    )},
}  # fmt: skip


@pytest.mark.parametrize("sent", BAD_RESULTS.values(), ids=BAD_RESULTS)
@pytest.mark.parametrize("job", [RUN, EXECUTE])
def test_a_result_of_another_form_ends_its_worker(job: AnyJob, sent: bytes) -> None:
    ends_its_worker(job, sent)


@pytest.mark.parametrize(("job", "sent"), [
    (ForkJob(session="s", copy="t"), b"[[["), (SnapshotJob(op="snapshot", session="s", snapshot="t"), b'{"a": 1}'),
    (MemoryJob(), b"nope"), (SEND, b"{}"), (EXECUTE, json.dumps({**CELL, "alive": 1}).encode()),
])  # fmt: skip
def test_so_does_an_answer_to_another_job(job: AnyJob, sent: bytes) -> None:
    transfer, ready = Transfer(ReadyToGive, _nothing, AsyncMock()), (GIVE,) if job is SEND else ()
    ends_its_worker(job, *ready, b"r{}\n" + sent, transfer=transfer if ready else None)


@pytest.mark.parametrize(("job", "sent"), [
    (RUN, [b"r" + answer_with_facts(RESULT)]), (EXECUTE, [b"r" + answer_with_facts(CELL)]), (SEND, [GIVE, b"da", DONE]),
    (RUN, [b"r" + answer_with_facts({**RESULT, "stdout": "x" * 99_999})]),
])  # fmt: skip
def test_what_a_worker_sends_is_taken(job: AnyJob, sent: list[bytes]) -> None:
    transfer = Transfer(ReadyToGive, _nothing, AsyncMock()) if job is SEND else None
    answer, seen = asyncio.run(asked(job, *sent, transfer=transfer))
    assert seen == ["free"]
    assert json.loads(answer) == json.loads(sent[-1].partition(b"\n")[2])
    assert job is SEND or answer.facts == ResultFacts(status=Status.OK, why="", wall=0, cpu=0, start=0)


@pytest.mark.parametrize("kind", ["foo", "unauthorized", "not_found", "worker_lost", 5, None])
def test_a_failure_that_no_worker_may_report_ends_it(kind: object) -> None:
    ends_its_worker(RUN, b"x" + json.dumps({"type": kind, "message": "\ud800"}).encode())


async def _nothing(_: Any) -> AsyncIterator[bytes]:
    for each in ():
        yield each


@pytest.mark.parametrize(("takes", "sent"), [
    (None, [b'y{"room":1}']), (None, [b"dx"]), (ReadyToTake, [b'y{"room":1}'] * 2), (ReadyToTake, [GIVE]),
    (ReadyToTake, [b'y{"room":-1}']), (ReadyToTake, [b'y{"room":1}', b"dx"]), (ReadyToGive, [b'y{"room":1}']),
    (ReadyToGive, [GIVE.replace(b"3", b"-5")]), (ReadyToGive, [GIVE[:-3] + b'A"}']), (ReadyToGive, [b"dx"]),
    (ReadyToGive, [GIVE.replace(b'"}', b'\\n"}')]), (ReadyToGive, []), (ReadyToGive, [GIVE, GIVE]),
    (None, [b"q{}"]), (None, [b"r"]),
])  # fmt: skip
def test_a_message_about_a_file_that_cannot_come_ends_its_worker(takes: Any, sent: list[bytes]) -> None:
    transfer = takes and Transfer(takes, _nothing, AsyncMock())
    ends_its_worker(RUN if takes is None else SEND, *sent, DONE, transfer=transfer)


class _Broken:
    """A service's jobs that fail as nobody has foreseen."""

    config = SimpleNamespace(limits=SimpleNamespace(artefacts=1 << 20))

    on_lost: ClassVar[list[Any]] = []
    asked = 0

    async def ask_itself(self, *_: Any) -> None:
        self.asked += 1
        raise KeyError("nobody has foreseen this")


def _sessions(jobs: Any) -> sessions.Sessions:
    made = sessions.Sessions(ServiceSessions(records=False), jobs, SimpleNamespace())  # type: ignore[arg-type]
    worker: Any = SimpleNamespace(number=0, ended=False)
    for name in "ab":
        made._all[name] = sessions.Served(
            id=name, caller=ANONYMOUS, worker=worker, policy="", language="", used=sessions.time.monotonic() - 200
        )
    return made


def test_one_fault_does_not_end_the_care_for_all_sessions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sessions, "_RHYTHM", 0)
    jobs = _Broken()

    async def watch() -> None:
        watching = asyncio.create_task(_sessions(jobs)._watch())
        async with asyncio.timeout(20):
            while jobs.asked < 2:
                await asyncio.sleep(0)
        assert not watching.done()
        watching.cancel()

    asyncio.run(watch())
    assert "nobody has foreseen this" in caplog.text


def test_a_service_ends_its_workers_and_its_store_whatever_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    async def close() -> None:
        made = service.Service(ServiceConfig(data=str(tmp_path), workers=1))
        made.jobs = SimpleNamespace(workers=SimpleNamespace(close=AsyncMock(side_effect=ValueError)))  # type: ignore[assignment]
        made.store = SimpleNamespace(close=lambda: ended.append("store"))  # type: ignore[assignment]
        made.sessions = _sessions(jobs := _Broken())
        await made.close()
        assert jobs.asked == 2

    asyncio.run(asyncio.wait_for(close(), 20))
    assert ended == ["store"]
    assert "nobody has foreseen this" in caplog.text


@pytest.mark.parametrize("more", [
    {"timeout": True}, {"timeout": "5"}, {"limits": {"wall_time": True}}, {"limits": {"calls": True}},
    {"limits": {"memory": True}}, {"limits": {"calls": "5"}},
])  # fmt: skip
def test_seconds_and_counts_are_numbers(server: Server, more: dict[str, Any]) -> None:
    assert server.post("/v1/run", {"code": "1", **more}).status_code == 422
    assert server.run("1", timeout=5, limits={"wall_time": 5, "calls": 100_000})["status"] == "ok"
