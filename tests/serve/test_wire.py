"""The lines between the service and its workers, when the other end is gone."""

import asyncio
import socket

import pytest

from proxybox.serve.wire import Line


async def _send_until_it_fails(line: Line) -> None:
    while True:  # the first message may still be taken
        await line.send({"op": "run"})


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_line_whose_other_end_has_gone_says_so(loop: str) -> None:
    async def use() -> None:
        end, other = socket.socketpair()
        line = await Line.on(end)
        other.close()
        with pytest.raises(OSError):
            await _send_until_it_fails(line)
        with pytest.raises(OSError):
            line.tell({"do": "cancel"})
        with pytest.raises((EOFError, OSError)):
            await line.receive()
        line.close()
        with pytest.raises(BrokenPipeError):
            line.tell({"do": "cancel"})

    module = pytest.importorskip(loop, reason="the extra server is not installed")
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        runner.run(asyncio.wait_for(use(), 20))
