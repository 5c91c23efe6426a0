"""Which client's request begins next: clients take turns, and between two turns the event loop runs whatever is ready.

The work of a request before its first wait (above all reading its JSON) blocks all others. Without turns, three hundred
connections of one client would begin three hundred requests before another client's request goes on.

This is not a `FairQueue`: there are thousands of turns in a second, and the order of a dict is a fast queue of clients.
"""

import asyncio
from collections import deque


class LoopTurns:
    """The turns of one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._is_taken = False

    async def wait(self, who: str) -> None:
        """Waits for a turn of this client; returns at once if no turn was taken in this pass of the event loop."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._next)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(who, deque()).append(turn)
        await turn

    def _next(self) -> None:
        """Starts the next turn: of the client whose last turn is the longest ago."""
        while self._waiting:
            who = next(iter(self._waiting))
            mine = self._waiting.pop(who)
            turn = mine.popleft()
            if mine:
                self._waiting[who] = mine  # behind all others
            if not turn.done():
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._is_taken = False
