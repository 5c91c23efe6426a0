"""The end of the service by a signal."""

import asyncio
import logging
import signal
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra server is not installed")

import uvicorn

from proxybox.serve import running


class Serving:
    """The part of a service that a signal's handler uses."""

    def __init__(self) -> None:
        self.state = "ready"

    async def drain(self) -> None:
        self.state = "draining"


def test_a_signal_in_the_middle_of_a_log_line_ends_the_service(caplog: pytest.LogCaptureFixture) -> None:
    """The handler must not write: the interrupted code may be writing to standard error."""

    async def end() -> Any:
        server = running._Server(uvicorn.Config(SimpleNamespace()), Serving(), "nowhere")  # type: ignore[arg-type]
        server.handle_exit(signal.SIGTERM, None)
        assert caplog.messages == []
        while not server.should_exit:
            await asyncio.sleep(0)
        return server

    caplog.set_level(logging.INFO, "proxybox.serve")
    server = asyncio.run(asyncio.wait_for(end(), 20))
    assert caplog.messages == ["ends: SIGTERM"]
    assert not server.force_exit
