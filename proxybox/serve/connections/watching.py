"""How long a connection may take: the other side has to send, and to read, at a least rate.

Only the time in which the service waits for the other side counts. It is checked from time to time, so a connection may
exceed a bound until the next check.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from proxybox.serve.connections.bounds import Bounds

#: The most seconds between two checks of a connection; there are at least three checks in its time.
_RHYTHM: Final = 10.0


class ConnectionWatch:
    """Checks one connection until it is stopped.

    on_late: is called when the other side has fallen behind with what it sends. is_awaited: whether the service waits
    for it to send. is_blocked: whether the service waits for it to read.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: Any, bounds: Bounds, on_late: Callable[[], object],
        is_awaited: Callable[[], bool], is_blocked: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._loop, self._transport, self._bounds = loop, transport, bounds
        self._on_late, self._is_awaited, self._is_blocked = on_late, is_awaited, is_blocked
        self._rhythm = min(_RHYTHM, bounds.time / 3)
        self._waited = self._unread = 0.0
        self._come = self._taken = self._left = 0
        self._was_blocked = False
        self._timer = loop.call_later(self._rhythm, self.look)

    def stop(self) -> None:
        """Ends the checks."""
        self._timer.cancel()

    def begin(self) -> None:
        """Starts the measurement of received bytes again."""
        self._waited, self._come = 0.0, 0

    def came(self, size: int) -> None:
        """Counts received bytes, each of which extends the time of the other side."""
        self._come += size

    def look(self) -> None:
        """Ends the connection when the other side has fallen behind."""
        self._timer.cancel()
        self._waited = self._waited + self._rhythm if self._is_awaited() else self._waited
        if self._is_late(self._waited, self._come):
            self._on_late()
        if self._does_not_read():
            self._transport.abort()
            return
        self._timer = self._loop.call_later(self._rhythm, self.look)

    def _does_not_read(self) -> bool:
        is_blocked, left = self._is_blocked() or self._transport.is_closing(), self._transport.get_write_buffer_size()
        if is_blocked and self._was_blocked:
            self._unread += self._rhythm
            self._taken += max(0, self._left - left)
        else:
            self._unread, self._taken = 0.0, 0
        self._was_blocked, self._left = is_blocked, left
        return self._is_late(self._unread, self._taken)

    def _is_late(self, seconds: float, size: int) -> bool:
        return seconds > self._bounds.time + size / self._bounds.rate
