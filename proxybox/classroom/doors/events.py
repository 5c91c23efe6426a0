"""Streams of events (hub.py): one for a seat, and one for a teacher."""

import asyncio
import contextlib
from collections.abc import MutableMapping
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from proxybox.classroom.doors.asking import Here, Sitting, Teaching, sends
from proxybox.classroom.hub import EVERYBODY, Hub, Reader
from proxybox.serve.problems import Refusal

router = APIRouter()

#: How many streams a seat may have, one for each browser of its student; and so a teacher.
_MOST: Final = 6
_MOST_OF_TEACHER: Final = 20
#: How the id of the last event is told: by browsers that come back, and by pages that begin where others have ended.
_HEADER, _QUERY = "last-event-id", "after"


@router.get("/api/events", **sends("text/event-stream"))
async def seat_events(request: Request, lesson: Here, seat: Sitting) -> Response:
    """What concerns a seat."""
    topic = f"seat:{seat.id}"
    reader = _read(lesson.hub, request, (topic, EVERYBODY), topic, _MOST)
    lesson.grid.touch(seat.id)
    return _Stream(lesson.hub, reader, lambda: lesson.grid.touch(seat.id))


@router.get("/api/teacher/events", **sends("text/event-stream"))
async def teacher_events(request: Request, lesson: Here, authority: Teaching) -> Response:
    """What concerns those whom a teacher teaches, for as long as that holds."""
    topics = authority.topics
    reader = _read(lesson.hub, request, topics, topics[0], _MOST_OF_TEACHER)
    return _Stream(lesson.hub, reader, lambda: None, authority.seconds)


def _read(hub: Hub, request: Request, topics: tuple[str, ...], own: str, most: int) -> Reader:
    if hub.count(own) >= most:
        raise Refusal("rate-limited", "Too many pages are open.", headers={"Retry-After": "5"})
    seen = request.headers.get(_HEADER) or request.query_params.get(_QUERY)
    return hub.read(topics, seen)


class _Stream(Response):
    """The answer that goes on until one of both sides ends it. A browser that does not read is not waited for.

    seconds: after which it ends in any case, and the browser asks anew; None: never.
    """

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, reader: Reader, on_end: Any, seconds: float | None = None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._hub, self._reader, self._on_end, self._seconds = hub, reader, on_end, seconds
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the stream."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send(send))
        ends = [asyncio.create_task(_gone(receive)), asyncio.create_task(self._reader.ended.wait())]
        try:
            await asyncio.wait({sending, *ends}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done() and self._reader.ended.is_set():  # it sends its last piece, if somebody reads it
                await asyncio.wait({sending}, timeout=0.2)
        finally:
            self._hub.leave(self._reader)
            for task in (sending, *ends):
                task.cancel()
            await asyncio.gather(sending, *ends, return_exceptions=True)
            self._on_end()

    async def _send(self, send: Any) -> None:
        with contextlib.suppress(OSError):
            async for piece in self._reader.pieces():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    message: MutableMapping[str, Any] = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()
