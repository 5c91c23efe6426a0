"""Whose request begins next: clients take turns, and between two beginnings the event loop serves whatever is ready.

What a request costs before it waits for something (reading its JSON above all) costs all others that time. Three
hundred connections of one client would otherwise begin three hundred requests before anybody else's goes on.

This is no `FairQueue`: there are thousands of turns in a second, and the order of a dict says at once who is next.
"""

import asyncio
from collections import deque


class LoopTurns:
    """The turns of one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._is_taken = False

    async def wait(self, who: str) -> None:
        """Waits for a turn of this client; at once where nobody has begun anything since the loop has last looked."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._next)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(who, deque()).append(turn)
        await turn

    def _next(self) -> None:
        """Gives the next turn to the client whose last turn is the longest ago."""
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
