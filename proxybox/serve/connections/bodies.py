"""The body of a request as its door reads it: bounded in size, counted in the room of its client, and in its turn."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from starlette.exceptions import HTTPException

from proxybox.serve.connections.room import Room
from proxybox.serve.connections.turns import LoopTurns
from proxybox.serve.problems import Refusal

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: Bodies up to this many bytes need no room: each connection may hold as many.
SMALL: Final = 16 << 10


class NotRead(Refusal, HTTPException):  # type: ignore[misc]  # of both it is only told what Refusal has
    """The base of the exceptions for bodies that are not read.

    It is also an HTTPException, so that the framework does not report it as a fault of the body's form.
    """

    @property
    def status_code(self) -> int:  # type: ignore[override]
        """The same as `status`."""
        return self.status


class TooLarge(NotRead):
    """The body is too large. most: the bytes that it may have."""

    def __init__(self, most: int) -> None:
        Refusal.__init__(self, "too-large", f"a request may have {most:,} bytes")


class NoRoomForBody(NotRead):
    """There is no room for the body now."""

    def __init__(self, refusal: Refusal) -> None:
        Refusal.__init__(self, refusal.kind, refusal.detail, headers=refusal.headers)


def length(headers: Mapping[bytes, bytes]) -> int | None:
    """Returns the length of a request's body by its header; None for a body in chunks."""
    if b"transfer-encoding" in headers:
        return None
    content_length = headers.get(b"content-length", b"0")
    return int(content_length) if content_length.isdigit() and len(content_length) <= 18 else 1 << 62


def bounded(receive: Receive, headers: Mapping[bytes, bytes], most: int) -> Receive:
    """Returns a `receive` that raises TooLarge after `most` bytes. Raises TooLarge if the header announces more."""
    if (length(headers) or 0) > most:
        raise TooLarge(most)
    taken = 0

    async def within() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > most:
                raise TooLarge(most)
        return message

    return within


class Body:
    """A body that a door may read: a `receive`. The end of the context releases its room.

    who: the client. most: its most bytes; a body that is passed on while it arrives (`pass_on`) may have more.
    """

    def __init__(
        self, receive: Receive, headers: Mapping[bytes, bytes], *, who: str, most: int, room: Room, turns: LoopTurns
    ) -> None:
        self._receive, self._within, self._headers, self._most = receive, receive, headers, most
        self._who, self._room, self._turns = who, room, turns
        self._held = self._taken = 0
        self._is_begun = self._is_whole = False

    async def __aenter__(self) -> "Body":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._held:
            self._room.give(self._who, self._held)

    def pass_on(self) -> None:
        """Notes that the door does not store the body: it is not bounded and needs no room.

        To be called before it is read.
        """
        self._is_begun = self._is_whole = True

    async def __call__(self) -> MutableMapping[str, Any]:
        """The `receive` of ASGI. Raises TooLarge and NoRoomForBody."""
        if not self._is_begun:
            self._is_begun = True
            self._within = bounded(self._receive, self._headers, self._most)
            await self._make_room(length(self._headers) or 0)
        message = await self._within()
        if self._is_whole or message["type"] != "http.request":
            return message
        self._taken += len(message.get("body", b""))
        if not self._held and self._taken > SMALL:
            await self._make_room(self._most)  # it is in chunks, so its size is not known
        if not message.get("more_body", False):
            self._is_whole = True
            if self._taken > SMALL:
                await self._turns.wait(self._who)
        return message

    async def _make_room(self, size: int) -> None:
        if size > SMALL:
            try:
                await self._room.take(self._who, size)
            except Refusal as refusal:
                raise NoRoomForBody(refusal) from None
            self._held = size
