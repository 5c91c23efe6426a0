"""How our servers end: they wait first until their tasks have ended."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn


class EndingServer(uvicorn.Server):
    """A server that ends after a signal as soon as `drain` has returned; a second signal ends it at once.

    log: the logger for these events.
    """

    def __init__(self, options: uvicorn.Config, drain: Callable[[], Awaitable[None]], log: logging.Logger) -> None:
        super().__init__(options)
        self._drain, self._log, self._loop = drain, log, asyncio.get_running_loop()
        self._draining: asyncio.Future[None] | None = None

    @property
    def is_ending(self) -> bool:
        """Whether a signal has come."""
        return self._draining is not None

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Writes no log line: the signal may arrive while another one is being written (signal(7), reentrancy)."""
        self._loop.call_soon_threadsafe(self._end, signal.Signals(sig).name)

    def _end(self, name: str) -> None:
        if self._draining is not None:
            self.should_exit = self.force_exit = True
            return
        self._log.info("ends: %s", name)
        self._draining = asyncio.ensure_future(self._drain())
        self._draining.add_done_callback(lambda _: setattr(self, "should_exit", True))
