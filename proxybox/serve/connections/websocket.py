"""A connection that has become a WebSocket: uvicorn's own, with bounds that uvicorn does not have.

bound                                                      what happens beyond it
bytes of a message before the service has sent one         closed with 1009
frames of one message                                      closed with 1008
unread bytes of all sockets of its key, or                 closed with 1008
of its address
the rate at which messages are read                        it is ended, and the rest is dropped

Nothing is parsed while a message waits for the door, and nothing is read while the other side does not read. The door
bounds the time of the first message, because it knows when that has arrived.
"""

from collections import deque
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from proxybox.serve.connections.bounds import Peers
from proxybox.serve.connections.watching import ConnectionWatch

#: Bytes that are parsed at once, and the most frames of a message: frames may be empty, so a size alone is no bound.
_PIECE: Final = 4 << 10
_MOST_FRAMES: Final = 1_024
_POLICY_VIOLATION: Final = 1008


class WebSocketConnection(WebSocketsSansIOProtocol):
    """One WebSocket.

    _left: received bytes that are not parsed yet. _whole: bytes of a message that waits for its reader. _held: for whom
    bytes are counted, and how many: the door that reads the first message sets `who` in the state of the scope.
    """

    def __init__(self, *args: Any, peers: Peers, **named: Any) -> None:
        super().__init__(*args, **named)
        self._peers = peers
        self._address = ""
        self._left: deque[bytes] = deque()
        self._most, self.conn.max_message_size = self.conn.max_message_size, peers.bounds.head
        self._watch: ConnectionWatch | None = None
        self._whole = 0
        self._held: tuple[str, int] = "", 0

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._address = "" if self.client is None else self.client[0]
        self._peers.enter(self._address)  # it was within the bounds when it spoke HTTP
        self._watch = ConnectionWatch(
            self.loop, transport, self._peers.bounds, lambda: None, lambda: False, lambda: not self.writable.is_set()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._watch is not None:
            self._watch.stop()
        self._left.clear()
        self._peers.hold(self._held[0], -self._held[1])
        self._held = "", 0
        self._peers.leave(self._address)
        super().connection_lost(exc)

    # --- what comes ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._left.extend(data[at : at + _PIECE] for at in range(0, len(data), _PIECE))
        self._feed()

    async def receive(self) -> Any:
        """See ASGI."""
        message = await super().receive()
        self._whole = 0
        self._feed()
        return message

    def _feed(self) -> None:
        """Parses received bytes, until a message waits for the door."""
        while self._left and not self.read_paused and not self.transport.is_closing():
            super().data_received(self._left.popleft())
        if not self.writable.is_set() and not self.transport.is_closing():
            self.transport.pause_reading()
        self._weigh()

    def _weigh(self) -> None:
        """Counts the unread bytes of this socket, and closes it if its client exceeds the bound."""
        if self.transport.is_closing():
            return
        waiting = self._whole + len(self.conn.reader.buffer) + sum(map(len, (*self._left, *self.frames)))
        key = self.scope["state"].get("who") if self.handshake_initiated else None
        name, held = self._held
        self._held = f"key {key}" if key else self._address, waiting
        self._peers.hold(name, -held)
        if not self._peers.hold(*self._held):
            self._end("too much of this client waits")

    def send_receive_event_to_app(self) -> None:
        """See WebSocketsSansIOProtocol."""
        self._whole = sum(map(len, self.frames))
        super().send_receive_event_to_app()

    def _end(self, why: str) -> None:
        self.conn.fail(_POLICY_VIOLATION, why)
        self.handle_parser_exception()

    def handle_cont(self, event: Frame) -> None:
        """See WebSocketsSansIOProtocol."""
        if len(self.frames) >= _MOST_FRAMES:
            self._end("too many frames")
            return
        super().handle_cont(event)

    # --- what is sent -------------------------------------------------------------------------------------------------

    async def send(self, message: Any) -> None:
        """See ASGI."""
        if message["type"] == "websocket.send":
            self.conn.max_message_size = self._most
        await super().send(message)

    def pause_writing(self) -> None:
        """See asyncio.Protocol. Answers to pings would pile up where the other side does not read."""
        super().pause_writing()
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
