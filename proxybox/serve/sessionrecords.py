"""The records of sessions that have ended: each is stored until it is removed, or too old.

A record is sent in pieces from its worker to the database, and from there to its client: no process has all of it in
memory. The last file of its shelf describes the record; if that or one of the pieces is missing, there is no record.
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

#: The prefix of the shelves, and the name of the last file; the names of the pieces are numbers.
_SHELVES: Final = "record/"
_END: Final = "end"
#: Bytes that a record may use beyond its limit: for its last part, and two small files, which count 4 KiB each.
_BEYOND: Final = 2 << 20

#: A function that takes a piece of a record, and one that makes a worker send all pieces, and returns its result.
Take = Callable[[WorkerEvent], Awaitable[object]]
HandOver = Callable[[Take], Awaitable[bytes]]


@attrs.frozen
class KeptRecord:
    """The record of a session. facts: its fault and its digest, as in a Result. pieces: their ids, in order."""

    key: str
    shelf: str
    facts: Mapping[str, str]
    pieces: tuple[str, ...]


class SessionRecords:
    """The stored records of sessions. room: bytes that all files of a key may have.

    age: seconds for which they are stored.
    """

    def __init__(self, store: ServiceStore, room: int, age: float) -> None:
        self._store, self._room, self._age = store, room, age

    async def room_for(self, key: str, limit: int) -> int:
        """Returns how many records of `limit` bytes a key has space for. Raises Refusal."""
        left = self._room - await self._store.ask(self._store.used, key)
        return max(0, left) // (limit + _BEYOND)

    async def keep(self, key: str, session: str, hand_over: HandOver) -> str:
        """Stores the record of a session. Returns "", or the reason if that was impossible."""
        shelf, numbers = _SHELVES + session, itertools.count()

        async def put(name: str, content: bytes) -> None:
            await self._store.ask(self._store.put, key, shelf, name, content, room=self._room)

        async def take(event: WorkerEvent) -> None:
            if isinstance(event, RecordPieceEvent):
                await put(f"{next(numbers):06}", base64.b64decode(event.base64))

        try:
            if not (facts := json.loads(await hand_over(take))):  # its worker has died, and a new one answers
                raise WorkerLost(begun=False)
            await put(_END, json.dumps({**facts, "pieces": next(numbers)}).encode())
        except (KeyStorageFull, Refusal, WorkerLost, ValueError) as error:
            with contextlib.suppress(Refusal):
                await self._store.ask(self._store.clear, key, shelf)
            return str(error)
        return ""

    async def find(self, key: str, session: str) -> KeptRecord | None:
        """Returns the record of a session of this key; None if it has none. Raises Refusal."""
        shelf = _SHELVES + session
        *pieces, end = await self._store.ask(self._store.shelf, key, shelf) or [{"name": ""}]
        found = await self._store.ask(self._store.get, key, shelf, end["id"]) if end["name"] == _END else None
        facts: dict[str, Any] = {"pieces": -1} if found is None else json.loads(found[1])
        if facts.pop("pieces") != len(pieces):
            return None
        return KeptRecord(key, shelf, facts, tuple(piece["id"] for piece in pieces))

    async def as_json(self, record: KeptRecord) -> AsyncIterator[bytes]:
        """Yields a record as JSON, as in a Result, in pieces. Raises Refusal when it is removed meanwhile."""
        yield json.dumps({**record.facts, "record": {"base64": ""}}).encode().removesuffix(b'"}}')
        for piece in record.pieces:
            found = await self._store.ask(self._store.get, record.key, record.shelf, piece)
            if found is None:
                raise Refusal("not-found")
            yield base64.b64encode(found[1])
        yield b'"}}'

    async def remove(self, key: str, session: str) -> bool:
        """Removes a record, and returns whether it existed. Raises Refusal."""
        return await self._store.ask(self._store.clear, key, _SHELVES + session)

    async def expire(self) -> None:
        """Removes all records that are too old. Raises Refusal."""
        await self._store.ask(self._store.expire, _SHELVES, time.time() - self._age)
