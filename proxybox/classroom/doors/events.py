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

#: The most streams of a seat (one for each browser of the student), and of a teacher.
_MOST: Final = 6
_MOST_OF_TEACHER: Final = 20
#: How a client sends the id of the last event: browsers that connect again, and pages that start from a known event.
_HEADER, _QUERY = "last-event-id", "after"


@router.get("/api/events", **sends("text/event-stream"))
async def seat_events(request: Request, lesson: Here, seat: Sitting) -> Response:
    """The events of a seat."""
    topic = f"seat:{seat.id}"
    reader = _read(lesson.hub, request, (topic, EVERYBODY), topic, _MOST)
    lesson.grid.touch(seat.id)
    return _Stream(lesson.hub, reader, lambda: lesson.grid.touch(seat.id))


@router.get("/api/teacher/events", **sends("text/event-stream"))
async def teacher_events(request: Request, lesson: Here, authority: Teaching) -> Response:
    """The events of a teacher's seats, for as long as the teacher's scope is valid."""
    topics = authority.topics
    reader = _read(lesson.hub, request, topics, topics[0], _MOST_OF_TEACHER)
    return _Stream(lesson.hub, reader, lambda: None, authority.seconds)


def _read(hub: Hub, request: Request, topics: tuple[str, ...], own: str, most: int) -> Reader:
    if hub.count(own) >= most:
        raise Refusal("rate-limited", "Too many pages are open.", headers={"Retry-After": "5"})
    seen = request.headers.get(_HEADER) or request.query_params.get(_QUERY)
    return hub.read(topics, seen)


class _Stream(Response):
    """The response that goes on until one side ends it. A browser that does not read is cut off.

    seconds: after which it ends in any case, and the browser connects again; None: never.
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
            if not sending.done() and self._reader.ended.is_set():  # a reading browser gets the last piece
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
