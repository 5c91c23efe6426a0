"""The records of sessions that have ended: each stays until it is given up, or old.

A record goes from its worker to the database, and from there to its client, in pieces: nobody has it in memory at once.
The last file of its shelf tells what the record is; without it, or without one of the pieces, there is none.
"""

import base64
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import attrs

from proxybox.serve.problems import Refusal
from proxybox.serve.store import KeyStorageFull, ServiceStore
from proxybox.serve.workers import WorkerLost
from proxybox.streamevents import RecordPieceEvent, WorkerEvent

#: How the names of the shelves begin, and the name of the last file; those of the pieces are numbers.
_SHELVES: Final = "record/"
_END: Final = "end"
#: What a record may take up of a key's room beyond its limit: its last part, and two small files, which count 4 KiB.
_BEYOND: Final = 2 << 20

#: A function that takes a piece of a record, and one that has a worker tell all of them, and then returns what it says.
Take = Callable[[WorkerEvent], Awaitable[object]]
HandOver = Callable[[Take], Awaitable[bytes]]


@attrs.frozen
class KeptRecord:
    """The record of a session. facts: its fault and its digest, as a Result has them. pieces: their ids, in order."""

    key: str
    shelf: str
    facts: Mapping[str, str]
    pieces: tuple[str, ...]


class SessionRecords:
    """What is kept of sessions' records. room: bytes that all files of a key may have. age: seconds that they stay."""

    def __init__(self, store: ServiceStore, room: int, age: float) -> None:
        self._store, self._room, self._age = store, room, age

    async def room_for(self, key: str, limit: int) -> int:
        """Returns for how many records of `limit` bytes a key has room. Raises Refusal."""
        left = self._room - await self._store.ask(self._store.used, key)
        return max(0, left) // (limit + _BEYOND)

    async def keep(self, key: str, session: str, hand_over: HandOver) -> str:
        """Keeps the record of a session, and returns why it could not be kept; "" when it is."""
        shelf, numbers = _SHELVES + session, itertools.count()

        async def put(name: str, content: bytes) -> None:
            await self._store.ask(self._store.put, key, shelf, name, content, room=self._room)

        async def take(event: WorkerEvent) -> None:
            if isinstance(event, RecordPieceEvent):
                await put(f"{next(numbers):06}", base64.b64decode(event.base64))

        try:
            if not (facts := json.loads(await hand_over(take))):  # of another worker, in the place of one that has died
                raise WorkerLost(begun=False)
            await put(_END, json.dumps({**facts, "pieces": next(numbers)}).encode())
        except (KeyStorageFull, Refusal, WorkerLost) as error:
            with contextlib.suppress(Refusal):
                await self._store.ask(self._store.clear, key, shelf)
            return str(error)
        return ""

    async def find(self, key: str, session: str) -> KeptRecord | None:
        """Returns the record of a session of this key; None when there is none. Raises Refusal."""
        shelf = _SHELVES + session
        *pieces, end = await self._store.ask(self._store.shelf, key, shelf) or [{"name": ""}]
        found = await self._store.ask(self._store.get, key, shelf, end["id"]) if end["name"] == _END else None
        facts: dict[str, Any] = {"pieces": -1} if found is None else json.loads(found[1])
        if facts.pop("pieces") != len(pieces):
            return None
        return KeptRecord(key, shelf, facts, tuple(piece["id"] for piece in pieces))

    async def as_json(self, record: KeptRecord) -> AsyncIterator[bytes]:
        """Yields a record as a Result has it in JSON, in pieces. Raises Refusal when it is given up meanwhile."""
        yield json.dumps({**record.facts, "record": {"base64": ""}}).encode().removesuffix(b'"}}')
        for piece in record.pieces:
            found = await self._store.ask(self._store.get, record.key, record.shelf, piece)
            if found is None:
                raise Refusal("not-found")
            yield base64.b64encode(found[1])
        yield b'"}}'

    async def remove(self, key: str, session: str) -> bool:
        """Gives up a record, and returns whether there was one. Raises Refusal."""
        return await self._store.ask(self._store.clear, key, _SHELVES + session)

    async def expire(self) -> None:
        """Gives up all records that are old. Raises Refusal."""
        await self._store.ask(self._store.expire, _SHELVES, time.time() - self._age)
