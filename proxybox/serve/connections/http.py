"""A connection that speaks HTTP/1.1: uvicorn's own, with bounds that uvicorn does not have.

bound                                                             what happens beyond it
connections at once: of all, and of one address                   the newest one gets a 503
bytes of a header; its fields                                     431
bytes of the framing of chunks and of trailers                    400
seconds until a header is complete; the rate of a body            408
the rate at which an answer is read                               it is ended, and the rest is dropped
requests that wait for the answers to those before them           it is ended
bytes of a body that no door reads                                reading is paused; then it is ended
bytes from one address that no door has read yet                  503

If an answer has begun, the connection is closed instead.
"""

import asyncio
import functools
import json
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxybox.serve.connections import forms
from proxybox.serve.connections.bounds import Bounds, Peers
from proxybox.serve.connections.watching import ConnectionWatch
from proxybox.serve.connections.websocket import WebSocketConnection
from proxybox.serve.problems import MEDIA_TYPE, Refusal

#: Bytes that the parser gets at once where they may not be a body.
_PIECE: Final = 16 << 10
#: Requests that wait for the answer to an earlier one, on one connection.
_MOST_WAITING: Final = 8
#: Bytes of a body that are read and dropped after its answer, so that the client can read the answer.
_MOST_DROPPED: Final = 1 << 20


def protocols(bounds: Bounds) -> dict[str, Any]:
    """Returns uvicorn's options for connections within these bounds."""
    peers = Peers(bounds)
    return {
        "http": functools.partial(Connection, peers=peers),
        "ws": functools.partial(WebSocketConnection, peers=peers),
    }


class Connection(HttpToolsProtocol):
    """One connection.

    _is_in_body: whether the header of the latest request is complete, and its body is not. _is_asked: whether a door
    has begun to read that body. _head: bytes so far of an incomplete header. _framing, _since_body: bytes of framing in
    the body, in all and since its last byte of content. _ended: how many requests are complete.
    """

    _is_in_body = _is_asked = _has_left = _is_refused = _is_lingering = False
    _head = _body = _framing = _since_body = _fields = _ended = _unread = _dropped = 0

    def __init__(self, *args: Any, peers: Peers, **named: Any) -> None:
        super().__init__(*args, **named)
        self._peers, self._bounds = peers, peers.bounds
        self._inner, self.app = self.app, self._serve
        self._address = ""
        self._watch: ConnectionWatch | None = None
        self._refusal: Refusal | None = None

    # --- its beginning and its end ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._address = "" if self.client is None else self.client[0]
        self._watch = ConnectionWatch(
            self.loop, transport, self._bounds, self._late, self._is_awaited, lambda: self.flow.write_paused
        )
        if not self._peers.enter(self._address):
            self._refuse(Refusal("overloaded", "there are too many connections", headers={"Retry-After": "5"}))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._leave()
        super().connection_lost(exc)

    def _leave(self) -> None:
        if not self._has_left and self._watch is not None:
            self._has_left = True
            self._watch.stop()
            self._peers.leave(self._address)
            self._weigh(0)

    def handle_websocket_upgrade(self) -> None:
        """See HttpToolsProtocol."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(Refusal("bad-request", "want an upgrade after the answers to what was asked before"))
            return
        self._leave()
        super().handle_websocket_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Answers as if the client had requested no upgrade; the parser reads nothing after it."""
        self.cycle.keep_alive = False

    # --- what comes ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        at = 0
        while at < len(data) and not self._is_refused and not self._has_left and not self.transport.is_closing():
            piece = data[at : at + _PIECE] if not self._is_in_body else data[at:]
            at += len(piece)
            self._take(piece)
        if self._is_refused or self._has_left or self.transport.is_closing():
            return
        if self._is_in_body and not self._is_asked and not self.cycle.response_complete:
            self.flow.pause_reading()
        if not self._weigh(self._waiting()):
            self._refuse(Refusal("overloaded", "too much of this address waits", headers={"Retry-After": "5"}))

    def _take(self, piece: bytes) -> None:
        """Parses a piece, and counts its bytes that are not content of a body."""
        body, ended = self._body, self._ended
        super().data_received(piece)
        if self._is_refused or self._has_left:
            return
        assert self._watch is not None  # noqa: S101 - it has been connected
        if self._ended != ended:  # most of the piece was part of requests that are complete now
            self._head = self._framing = self._since_body = self._body = 0
            self._watch.begin()
            return
        own = self._body - body
        self._watch.came(own)
        if not self._is_in_body:
            self._head += len(piece)
            if self._head > self._bounds.head:
                self._refuse(Refusal("header-too-large"))
            return
        self._framing += len(piece) - own
        self._since_body = 0 if own else self._since_body + len(piece)
        if self._framing > self._bounds.head + self._body // 2 or self._since_body > self._bounds.head:
            self._refuse(Refusal("bad-request", "more framing and trailers than body"))

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self._fields = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools. Fields of a trailer are dropped: no door reads them, and they arrive after all checks."""
        self._fields += 1
        if self._fields > forms.MOST_FIELDS:
            self._stop(Refusal("header-too-large", f"want at most {forms.MOST_FIELDS} fields"))
        if not self._is_in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See httptools."""
        try:
            forms.check(self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        except Refusal as refusal:
            self._stop(refusal)
        if len(self.pipeline) >= _MOST_WAITING:
            self._stop(Refusal("bad-request", f"want at most {_MOST_WAITING} requests before an answer"))
        self._is_in_body, self._is_asked, self._fields, self._dropped = True, False, 0, 0
        super().on_headers_complete()
        if not self._is_upgrade():
            self.cycle.transport = _Closing(self)  # type: ignore[assignment]  # what of one an answer uses

    def _is_upgrade(self) -> bool:
        return bool(self.parser.should_upgrade() and self._should_upgrade())

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._body += len(body)
        if self.cycle is not None and self.cycle.response_complete:
            self._dropped += len(body)
            if self._dropped > _MOST_DROPPED:
                self.transport.abort()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._is_in_body = False
        self._ended += 1
        super().on_message_complete()
        if self._is_lingering:
            self.transport.close()

    # --- what is asked for --------------------------------------------------------------------------------------------

    async def _serve(self, scope: Any, receive: Any, send: Any) -> Any:
        async def read() -> Any:
            self._is_asked = True
            message = await receive()
            self._weigh(self._waiting())
            return message

        async def write(message: Any) -> None:
            if message["type"] == "http.response.start" and self._is_in_body and not self.pipeline:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        return await self._inner(scope, read, write)

    def close(self) -> None:
        """Ends the connection after an answer.

        First the rest of its request is read and dropped, up to `_MOST_DROPPED` bytes: if the connection is closed
        while the client sends, the client may lose the answer, too (RFC 9112, section 9.6).
        """
        if not self._is_in_body or self.transport.is_closing():
            self.transport.close()
            return
        self._is_lingering = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def _waiting(self) -> int:
        """Returns the bytes of this connection that were received, and that no door has read."""
        bodies = sum(len(cycle.body) for cycle, _ in self.pipeline)
        return self._head + bodies + (0 if self.cycle is None else len(self.cycle.body))

    def _weigh(self, unread: int) -> bool:
        """Counts the unread bytes of this connection, and returns whether its address is within the bound."""
        change, self._unread = unread - self._unread, unread
        return self._peers.hold(self._address, change)

    # --- what is too much ---------------------------------------------------------------------------------------------

    def _is_awaited(self) -> bool:
        """Returns whether the service waits for the rest of a request.

        Between two requests, uvicorn's own timeout applies.
        """
        return not self.flow.read_paused and (self._is_in_body or self._head > 0 or not self._ended)

    def _late(self) -> None:
        if self._is_lingering:
            self.transport.abort()
        self._refuse(Refusal("timeout"))

    def _stop(self, refusal: Refusal) -> None:
        """Makes the parser stop; it then calls `send_400_response`. Raises Refusal."""
        self._refusal = refusal
        raise refusal

    def send_400_response(self, msg: str) -> None:
        """See HttpToolsProtocol."""
        self._refuse(self._refusal or Refusal("bad-request", "this is no request of HTTP/1.1"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answers with a refusal and ends the connection; only ends it if an answer has begun or must come before."""
        if self._is_refused:
            return
        self._is_refused = True
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete
        is_of_it = self._is_in_body and not self.pipeline  # whether `cycle` would answer the refused request
        if is_answering and (cycle.response_started or not is_of_it):
            self.transport.abort()
            return
        if is_answering:
            cycle.disconnected = True
            cycle.message_event.set()
        self._weigh(0)
        self.flow.resume_reading()
        self.transport.write(answer(refusal))
        self.transport.close()


class _Closing:
    """The transport of an answer; `close` is left to the connection."""

    def __init__(self, connection: Connection) -> None:
        self.write, self.is_closing = connection.transport.write, connection.transport.is_closing
        self.close = connection.close


def answer(refusal: Refusal) -> bytes:
    """Returns the last answer of a connection."""
    body = json.dumps(refusal.body()).encode()
    fields = {
        **refusal.headers, "Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close",
    }  # fmt: skip
    head = f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}\r\n"
    return (head + "".join(f"{name.lower()}: {value}\r\n" for name, value in fields.items()) + "\r\n").encode() + body
