"""The lines between the service and its workers, when the other end is gone."""

import asyncio
import socket
from collections.abc import Callable

import pytest

uvloop = pytest.importorskip("uvloop", reason="the extra server is not installed")

from proxybox.serve.wire import Line

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_a_line_whose_other_end_has_gone_says_so(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def use() -> None:
        end, other = socket.socketpair()
        line = await Line.on(end)
        other.close()
        with pytest.raises(OSError):  # noqa: PT011 - the kernel's word, or ours
            while True:  # the first message may still be taken
                await line.send({"op": "run"})
        with pytest.raises(OSError):  # noqa: PT011
            line.tell({"do": "cancel"})
        with pytest.raises((EOFError, OSError)):
            await line.receive()
        line.close()
        with pytest.raises(BrokenPipeError):
            line.tell({"do": "cancel"})

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(use(), 20))
