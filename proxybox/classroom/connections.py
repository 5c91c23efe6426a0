"""Connections of browsers, bounded: uvicorn waits for ever for who connects and sends nothing, or a header without end.

bound                                                             what happens beyond it
connections at once: of all, and of one address (a whole class    the newest one is ended
    may come through one)
bytes of a header, and seconds in which it comes                  it is ended
seconds in which the other side takes what is left to be sent     it is ended, and what is left is let go
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_MOST, _MOST_OF_ADDRESS = 4_000, 1_500
_MOST_HEADER: Final = 64 << 10
_HEADER_TIME: Final = 30.0
#: Seconds between two looks at a connection.
_RHYTHM: Final = 10.0


class Connection(HttpToolsProtocol):
    """One connection, as uvicorn's own but for the bounds. _ended: how many requests have come whole."""

    _is_in_header = True
    _header_size = 0
    _ended = 0
    _header_since: float | None = None
    _was_closing = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._header_since = self.loop.time()
        self._timer = self.loop.call_later(_RHYTHM, self._look)
        clients = [getattr(each, "client", None) for each in self.connections]
        mine = sum(each is not None and self.client is not None and each[0] == self.client[0] for each in clients)
        if len(clients) > _MOST or mine > _MOST_OF_ADDRESS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._is_in_header and self._header_since is None:
            self._header_since = self.loop.time()
        ended = self._ended
        super().data_received(data)
        if self._is_in_header and self._ended == ended:  # else most of it was of requests that are whole now
            self._header_size += len(data)
            if self._header_size > _MOST_HEADER and self.transport is not None:
                self.transport.abort()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._is_in_header, self._header_size, self._header_since = False, 0, None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See httptools."""
        self._is_in_header = True
        self._ended += 1
        super().on_message_complete()

    def _look(self) -> None:
        """Ends the connection when its header takes too long, or when it is closed and the other side does not read."""
        is_closing = self.transport.is_closing()
        late = self._header_since is not None and self.loop.time() - self._header_since > _HEADER_TIME
        if late or (is_closing and self._was_closing):
            self.transport.abort()
            return
        self._was_closing = is_closing
        self._timer = self.loop.call_later(_RHYTHM, self._look)
