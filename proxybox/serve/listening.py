"""The common start of our servers: log lines, the limit of descriptors, and the listening socket."""

import contextlib
import errno
import gc
import json
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Final

from proxybox.controller.costs.descriptorshare import raise_own_limit
from proxybox.policies.errors import ProxyboxError

#: Seconds until another thread may run (sys.setswitchinterval): the audit's thread must not delay the event loop.
_SWITCH: Final = 0.0005
#: How many warnings a second the HTTP server may log: anybody can send data that is not a request.
_WARNINGS: Final = 10
#: How many connections wait to be accepted.
_BACKLOG: Final = 2048
#: Advice for an address at which the server cannot listen: for Unix sockets, and for ports.
_DO_FOR_PATH: Final = {
    errno.EADDRINUSE: "end the server that listens there, or remove what is there",
    errno.ENOENT: "make its folder first", errno.ENOTDIR: "make its folder first",
    errno.EACCES: "choose a folder that this user may write to", errno.EPERM: "choose another folder",
    errno.EROFS: "choose a folder that can be written to",
}  # fmt: skip
_DO_FOR_PORT: Final = {
    errno.EADDRINUSE: "end the program that listens there, or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address", errno.EACCES: "choose a port from 1024 on",
}  # fmt: skip


class ListenError(ProxyboxError):
    """A server cannot listen at an address. errno: of the failed call; below 0 for a name (gai_strerror(3))."""

    def __init__(self, shown: str, address: tuple[str, int] | str, error: OSError) -> None:
        self.errno = error.errno or 0
        why = os.strerror(self.errno) if self.errno > 0 else error.strerror or str(error)
        do = (_DO_FOR_PATH if isinstance(address, str) else _DO_FOR_PORT).get(self.errno, "")
        super().__init__(f"cannot listen at {shown}: {why}{f' ({do})' if do else ''}")


def begin(logger: str, *, form: str = "text", level: int = logging.INFO) -> None:
    """Prepares this process to serve. logger: its lines of at least this level go to standard error."""
    _log_to_stderr(logger, form, level)
    raise_own_limit()  # of descriptors: each connection needs one
    sys.setswitchinterval(_SWITCH)


def settle() -> None:
    """Exempts all present objects from later garbage collections: a full collection would delay requests for 0.1 s."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def listening(address: tuple[str, int] | str, shown: str) -> Iterator[socket.socket]:
    """A context with a listening socket for host and port, or for the path of a socket.

    An empty host means all addresses. shown: the address as it was given. Raises ListenError.
    """
    try:
        listener = _bound(address)
    except OSError as error:
        raise ListenError(shown, address, error) from error
    with listener:
        try:
            yield listener
        finally:
            if isinstance(address, str):
                os.unlink(address)


def _bound(address: tuple[str, int] | str) -> socket.socket:
    if isinstance(address, str):
        _remove_left(address)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener
    if address[0] or not socket.has_dualstack_ipv6():
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        listener = socket.create_server(address, family=family, backlog=_BACKLOG)
    else:
        try:
            listener = socket.create_server(address, family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:  # IPv6 is switched off (ip-sysctl, disable_ipv6)
                raise
            listener = socket.create_server(address, backlog=_BACKLOG)
    # Accepted sockets inherit this. Without it, the body of an answer waits for the client's delayed ACK (tcp(7)).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def spoken(listener: socket.socket) -> str:
    """Returns the address at which it listens, for clients, with the port that the kernel has chosen for port 0."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    return f"http://[{name[0]}]:{name[1]}" if ":" in name[0] else f"http://{name[0]}:{name[1]}"


def _remove_left(path: str) -> None:
    """Removes the socket of a service that was killed."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


# --- log lines --------------------------------------------------------------------------------------------------------


def _log_to_stderr(name: str, form: str, level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AsJson() if form == "json" else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for each, least in ((name, level), ("uvicorn", max(level, logging.WARNING))):
        logger = logging.getLogger(each)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)
    handler.addFilter(_few_warnings_of_uvicorn())


def _few_warnings_of_uvicorn() -> Callable[[logging.LogRecord], bool]:
    second, logged = 0.0, 0

    def let_through(record: logging.LogRecord) -> bool:
        nonlocal second, logged
        if record.levelno > logging.WARNING or record.name.partition(".")[0] != "uvicorn":
            return True
        second, logged = (second, logged + 1) if record.created - second < 1 else (record.created, 1)
        return logged <= _WARNINGS

    return let_through


class _AsJson(logging.Formatter):
    """Formats each record as a line with a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        entry = {"at": record.created, "level": record.levelname.lower(), "message": record.getMessage()}
        entry |= getattr(record, "record", {})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)
