"""How the service ends when a signal comes."""

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
    """What of a service a signal reaches."""

    def __init__(self) -> None:
        self.state = "ready"

    async def drain(self) -> None:
        self.state = "draining"


def test_a_signal_in_the_middle_of_a_log_line_ends_the_service(caplog: pytest.LogCaptureFixture) -> None:
    """Its handler may write nothing: whoever writes to standard error already would be entered again."""

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
