"""The lines between the service and its workers, when the other end is gone."""

import asyncio
import socket

import pytest

from proxybox.serve.wire import WorkerSocket


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
