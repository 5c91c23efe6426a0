"""The lines between the service and its workers: when the other end is gone, and what has no form that is known."""

import asyncio
import socket

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
)
from proxybox.streamevents import read_worker_event


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_line_whose_other_end_has_gone_says_so(loop: str) -> None:
    async def use() -> None:
        end, other = socket.socketpair()
        line = await WorkerSocket.on(end)
        other.close()
        with pytest.raises(EOFError):
            await line.receive()
        with pytest.raises(BrokenPipeError):  # and not only at the next answer: nothing can have begun
            await line.send({"op": "run"})
        line.close()
        with pytest.raises(BrokenPipeError):
            line.tell({"do": "cancel"})

    module = pytest.importorskip(loop, reason="the extra server is not installed")
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        runner.run(asyncio.wait_for(use(), 20))


@pytest.mark.parametrize("data", [
    b"{", b"[]", b"5", b"{}", b'{"event": 5}', b'{"event": "finished", "result": {}}', b'{"event": "stdout"}',
    b'{"event": "stdout", "text": 5}', b'{"event": "stdout", "text": "a", "more": 1}', b'{"event": "record"}',
    b'{"event": "display", "kind": "value", "data": [], "metadata": {}, "wait": false}',
])  # fmt: skip
def test_what_is_no_event_of_a_worker(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        read_worker_event(data)


@pytest.mark.parametrize(("kind", "data"), [
    (JobFailure, b"[]"), (JobFailure, b'{"type": "invalid"}'), (JobFailure, b'{"type": 5, "message": ""}'),
    (JobFailure, b'{"type": "invalid", "message": "", "errors": [{"loc": "a", "msg": ""}]}'),
    (JobFailure, b'{"type": "invalid", "message": "", "result": 5}'), (ReadyToTake, b'{"room": "5"}'),
    (ReadyToGive, b'{"size": 5}'), (WorkerState, b'{"pid": 1, "pools": [{}], "sessions": 0}'),
])  # fmt: skip
def test_what_a_worker_tells_has_its_form(kind: type, data: bytes) -> None:
    with pytest.raises(ValueError):
        read(kind, data)


def test_what_is_told_is_read_again() -> None:
    fault = RequestFault(loc=["limits", 0], msg="no")
    for seen in (
        JobFailure(type="invalid", message="no", errors=[fault], errno="EIO", result={"a": [1]}),
        WorkerState(pid=1, pools=[PoolState(policy="p", language="l", ready=1, size=2)], sessions=3),
        ReadyToTake(room=5), ReadyToGive(size=5, digest="d"), JobOrder(job=1, do="input", text="x"),
    ):  # fmt: skip
        assert read(type(seen), packed(seen)) == seen
