"""Runs the service with uvicorn: from its trial to its end."""

import asyncio
import contextlib
import errno
import gc
import json
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from typing import Any, Final

from proxybox.controller.costs.descriptorshare import raise_own_limit
from proxybox.serve.app import app
from proxybox.serve.config import Config
from proxybox.serve.edge import Edge, log
from proxybox.serve.service import Service

import uvicorn  # isort: skip - app says what to install
import uvloop  # isort: skip

#: The exit status of a service that cannot serve.
CANNOT_SERVE: Final = 125
#: Seconds until a thread lets another one go on: the event loop must not wait for the thread that writes the audit.
_SWITCH: Final = 0.0005
#: How many connections wait to be accepted, and what may be wrong with an address.
_BACKLOG: Final = 2048
_CANNOT_LISTEN: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.ENOENT, errno.EINVAL})


def run(config: Config, *, check: bool = False) -> int:
    """Serves until a signal ends it, and returns the exit status. check: tries itself out, and serves nothing.

    Raises OSError when it cannot listen, and StoreError when it cannot open its database.
    """
    _log_to_stderr(config.log)
    raise_own_limit()  # of descriptors: one for each connection
    sys.setswitchinterval(_SWITCH)
    edge = app(config)
    if check:
        return asyncio.run(_check(edge.service))
    with _listening(config) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(edge, listener))


async def _check(service: Service) -> int:
    await service.start()
    try:
        await service.tried()
        return _tell(service, "nowhere, as it was asked to")
    finally:
        await service.close()


async def _serve(edge: Edge, listener: socket.socket) -> int:
    service = edge.service
    await service.start()
    options = uvicorn.Config(
        edge, log_config=None, access_log=False, server_header=False, proxy_headers=False, lifespan="on",
        ws="websockets-sansio", ws_max_size=service.config.limits.body,
        timeout_graceful_shutdown=int(service.config.drain) + 1,
    )  # fmt: skip
    server = _Server(options, service, _spoken(listener))
    watch = asyncio.create_task(server.watch())
    try:
        await server.serve([listener])
    finally:
        watch.cancel()
        await service.close()
    return server.status


def _tell(service: Service, where: str) -> int:
    """Says what came of the trial, and returns the exit status. where: it listens."""
    if service.state == "ready":
        log.info("ready: %s", where)
        return 0
    log.error("refuses to serve: %s", service.why)
    return CANNOT_SERVE


class _Server(uvicorn.Server):
    """A server whose SIGTERM lets what runs come to its end, while further requests are refused with a reason."""

    def __init__(self, options: uvicorn.Config, service: Service, where: str) -> None:
        super().__init__(options)
        self.status = 0
        self._service, self._where, self._loop = service, where, asyncio.get_running_loop()

    async def watch(self) -> None:
        """Ends the server when the service does not stand its trial."""
        await self._service.tried()
        gc.collect()
        gc.freeze()  # what lasts is not looked at again: a full collection would hold up requests for 0.1 s
        if self._service.state != "draining":
            self.status = _tell(self._service, self._where)
            self.should_exit = self.should_exit or bool(self.status)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The first signal lets what runs come to its end; a second one does not wait.

        It may come in the middle of a log line, so the handler itself writes none (signal(7), reentrancy).
        """
        self._loop.call_soon_threadsafe(self._end, signal.Signals(sig).name)

    def _end(self, name: str) -> None:
        if self._service.state == "draining":
            self.should_exit = self.force_exit = True
            return
        log.info("ends: %s", name)
        self._drain = self._loop.create_task(self._service.drain())
        self._drain.add_done_callback(lambda _: setattr(self, "should_exit", True))


# --- where it listens -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _listening(config: Config) -> Iterator[socket.socket]:
    """The socket that it listens at. Raises OSError, which names the address."""
    address = config.address
    try:
        if not isinstance(address, str):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            with socket.create_server(address, family=family, backlog=_BACKLOG) as listener:
                # What it accepts inherits this: else the body of an answer waits for the client's delayed ACK (tcp(7)).
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield listener
            return
        with socket.socket(socket.AF_UNIX) as listener:
            _remove_left(address)
            listener.bind(address)
            try:
                listener.listen(_BACKLOG)
                yield listener
            finally:
                os.unlink(address)
    except OSError as error:
        if error.filename is None and error.errno in _CANNOT_LISTEN:
            raise OSError(error.errno, os.strerror(error.errno), config.listen) from error
        raise


def _spoken(listener: socket.socket) -> str:
    """Where it listens, as a client is told; the port is that which the kernel has chosen for port 0."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    return f"http://[{name[0]}]:{name[1]}" if ":" in name[0] else f"http://{name[0]}:{name[1]}"


def _remove_left(path: str) -> None:
    """Removes a socket that a service which was killed has left behind."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


# --- log lines --------------------------------------------------------------------------------------------------------


def _log_to_stderr(form: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsJson() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("proxybox.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "proxybox.serve" else logging.WARNING)


class _AsJson(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        told = {"at": record.created, "level": record.levelname.lower(), "message": record.getMessage()}
        told |= getattr(record, "record", {})
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)
