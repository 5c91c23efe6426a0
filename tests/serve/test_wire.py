"""The lines between the service and its workers: a closed other end, and messages of unknown form."""

import asyncio
import json
import socket
from typing import Any

import attrs
import pytest

from proxybox.serve.wire import WorkerSocket, packed
from proxybox.serve.wiredata import (
    JobFailure,
    JobOrder,
    PoolState,
    ReadyToGive,
    ReadyToTake,
    RequestFault,
    WorkerState,
    read,
    read_worker_event,
)
from proxybox.serve.workerjobs import ExecuteJob, OpenJob, RunJob, SnapshotJob, StateJob, message_of, read_job


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_line_whose_other_end_has_gone_says_so(loop: str) -> None:
    async def use() -> None:
        end, other = socket.socketpair()
        line = await WorkerSocket.on(end)
        other.close()
        with pytest.raises(EOFError):
            await line.receive()
        with pytest.raises(BrokenPipeError):  # already when sending, so that no job can have begun
            await line.send(message_of(StateJob(), 1))
        line.close()
        with pytest.raises(BrokenPipeError):
            line.tell(JobOrder(job=1, do="cancel"))

    module = pytest.importorskip(loop, reason="the extra server is not installed")
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        runner.run(asyncio.wait_for(use(), 20))


@pytest.mark.parametrize("data", [
    b"{", b"[]", b"5", b"{}", b'{"event": 5}', b'{"event": "finished", "result": {}}', b'{"event": "stdout"}',
    b'{"event": "stdout", "text": 5}', b'{"event": "stdout", "text": "a", "more": 1}', b'{"event": "record"}',
    b'{"event": "display", "kind": "value", "data": [], "metadata": {}, "wait": false}',
    b'{"event": "display", "kind": "value", "data": {}, "metadata": {}, "wait": "no"}',
    b'{"event": "error", "type": "E", "message": null, "traceback": ""}', b'{"event": []}',
])  # fmt: skip
def test_what_is_no_event_of_a_worker(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_worker_event(data)


@pytest.mark.parametrize(("kind", "data"), [
    (JobFailure, b"[]"), (JobFailure, b'{"type": "invalid"}'), (JobFailure, b'{"type": 5, "message": ""}'),
    (JobFailure, b'{"type": "invalid", "message": "", "errors": [{"loc": "a", "msg": ""}]}'),
    (JobFailure, b'{"type": "invalid", "message": "", "result": 5}'), (ReadyToTake, b'{"room": "5"}'),
    (ReadyToGive, b'{"size": 5}'), (WorkerState, b'{"pid": 1, "pools": [{}], "sessions": 0}'),
    *((WorkerState, b'{"pid": 1, "pools": [%b], "sessions": 0}' % pool) for pool in (
        b'{"policy": 1, "language": "l", "ready": 1, "size": 1}', b'5', b'"ab"',
        b'{"policy": "p", "language": "l", "ready": true, "size": 1}',
        b'{"policy": "p", "language": "l", "ready": 1, "size": 1.5}',
        b'{"policy": "p", "language": "l", "ready": 1, "size": 1, "more": 1}',
    )),
    (WorkerState, b'{"pid": 1, "pools": {}, "sessions": 0}'), (WorkerState, b'{"pid": 1, "pools": [], "sessions": []}'),
    (JobOrder, b'{"job": 1, "do": "else"}'),
])  # fmt: skip
def test_what_a_worker_tells_has_its_form(kind: type, data: bytes) -> None:
    with pytest.raises(ValueError):
        read(kind, data)


def test_what_is_told_is_read_again() -> None:
    fault = RequestFault(loc=["limits", 0], msg="no")
    for seen in (
        JobFailure(type="invalid", message="no", errors=[fault], errno="EIO", result={"a": [1]}),
        WorkerState(pid=1, pools=[PoolState(policy="p", language="l", ready=1, size=2)], sessions=3),
        ReadyToTake(room=5), ReadyToGive(size=5, digest="0" * 64), JobOrder(job=1, do="input", text="x"),
    ):  # fmt: skip
        assert read(type(seen), packed(seen)) == seen


def test_a_job_is_read_again() -> None:
    for job in (
        RunJob(policy="p", language="l", files={"a": "x", "b": {"base64": "eA=="}}, limits={"calls": 5}, timeout=5),
        RunJob(policy="p", language="l", code="1", return_files=["a"], stdin={"base64": ""}, env={"A": "b"}),
        ExecuteJob(op="eval", session="s", policy="p", code="1", echo="display", timeout=0.5), StateJob(),
    ):  # fmt: skip
        message = json.loads(packed(message_of(job, 7)))
        assert (message.pop("job"), read_job(message)) == (7, job)


@pytest.mark.parametrize(("job", "why"), [
    (RunJob(policy="p", language="l", code=5), "code"), (RunJob(policy="p", language="l", args="ab"), "args"),
    (RunJob(policy="p", language="l", files={"a": 5}), "files"), (RunJob(policy=None, language="l"), "policy"),
    (OpenJob(session="s", policy="p", language="l", timeout="5"), "timeout"),
    (SnapshotJob(op="end", session="s", snapshot="t"), "snapshot"),
])  # fmt: skip
def test_a_worker_takes_no_job_of_another_form(job: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_job(json.loads(packed(attrs.asdict(job))))
