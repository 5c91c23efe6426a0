"""Runs the service with uvicorn: from its trial to its end."""

import asyncio
import socket
from typing import Final

from proxybox.serve.app import app
from proxybox.serve.config import ServiceConfig
from proxybox.serve.edge import ServiceMiddleware, log
from proxybox.serve.listening import begin, listening, settle, spoken
from proxybox.serve.service import Service

import uvicorn  # isort: skip - app reports which extra to install
import uvloop  # isort: skip
from proxybox.serve.connections.http import protocols  # isort: skip
from proxybox.serve.ending import EndingServer  # isort: skip

#: The exit status of a service that cannot serve.
CANNOT_SERVE: Final = 125


def run(config: ServiceConfig, *, check: bool = False) -> int:
    """Serves until a signal, and returns the exit status. check: whether to test the boxes and serve nothing.

    Raises ListenError, and StoreError when it cannot open its database.
    """
    begin("proxybox.serve", form=config.log)
    edge = app(config)
    if check:
        return asyncio.run(_check(edge.service))
    with (
        listening(config.address, config.listen) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_serve(edge, listener))


async def _check(service: Service) -> int:
    await service.start()
    try:
        await service.tried()
        return _tell(service, "nowhere, as it was asked to")
    finally:
        await service.close()


async def _serve(edge: ServiceMiddleware, listener: socket.socket) -> int:
    service = edge.service
    await service.start()
    options = uvicorn.Config(
        edge, log_config=None, access_log=False, server_header=False, proxy_headers=False, lifespan="on",
        **protocols(service.config.connections), ws_max_size=service.config.limits.body,
        timeout_graceful_shutdown=int(service.config.drain) + 1,
    )  # fmt: skip
    server = _Server(options, service, spoken(listener))
    watch = asyncio.create_task(server.watch())
    try:
        await server.serve([listener])
    finally:
        watch.cancel()
        await service.close()
    return server.status


def _tell(service: Service, where: str) -> int:
    """Logs the result of the trial, and returns the exit status. where: the address at which it listens."""
    if service.state == "ready":
        log.info("ready: %s", where)
        return 0
    log.error("refuses to serve: %s", service.why)
    return CANNOT_SERVE


class _Server(EndingServer):
    """A server that, after SIGTERM, waits for its runs, while it refuses further requests with a reason."""

    def __init__(self, options: uvicorn.Config, service: Service, where: str) -> None:
        super().__init__(options, service.drain, log)
        self.status = 0
        self._service, self._where = service, where

    async def watch(self) -> None:
        """Ends the server if the service fails its trial."""
        await self._service.tried()
        settle()
        if self._service.state != "draining":
            self.status = _tell(self._service, self._where)
            self.should_exit = self.should_exit or bool(self.status)
