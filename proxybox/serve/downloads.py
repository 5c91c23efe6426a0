"""The files of sessions over HTTP: a body is passed on as it arrives, and answers have ranges, tags and conditions.

RFC 9110, sections 8.8.3 (ETag), 13.1.2 (If-None-Match), 13.1.5 (If-Range) and 14 (Range). A request for several ranges
gets the whole file, as that section allows.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse

from proxybox.serve.connections.bodies import TooLarge, length
from proxybox.serve.edge import pass_on_body
from proxybox.serve.problems import Refusal
from proxybox.serve.wire import packed
from proxybox.serve.wiredata import FilePart, ReadyToGive, ReadyToTake
from proxybox.serve.workers import Transfer

#: Pieces of a file that wait for a client that reads slowly.
_AHEAD: Final = 2
_RANGE: Final = re.compile(r"\s*+bytes\s*+=\s*+(\d{0,18})\s*+-\s*+(\d{0,18})\s*+\Z", re.IGNORECASE)
#: The content is untrusted: a browser must not show it as a page.
_HEADERS: Final = {
    "Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff", "Accept-Ranges": "bytes",
    "Cache-Control": "private, no-cache",
}  # fmt: skip

Work = Callable[[Transfer], Coroutine[Any, Any, bytes]]


# --- what comes -------------------------------------------------------------------------------------------------------


def upload(request: Request, most: int) -> tuple[int, Transfer]:
    """Returns the length of a file in a request (0 if it is unknown), and its Transfer.

    most: the most bytes of the file. Raises TooLarge.
    """
    header = length(dict(request.scope["headers"]))
    if (header or 0) > most:
        raise TooLarge(most)
    pass_on_body(request.scope)

    async def on_ready(ready: ReadyToTake) -> AsyncIterator[bytes]:
        taken, room = 0, ready.room
        async for piece in request.stream():
            taken += len(piece)
            if taken > most:
                raise TooLarge(most)
            if taken > room:
                raise Refusal("disk-limit", f"limits.disk leaves room for {room:,} bytes", errno="ENOSPC")
            yield piece

    return header or 0, Transfer(ReadyToTake, on_ready, _nothing)


async def _nothing(_: bytes) -> None:
    pass


# --- what goes --------------------------------------------------------------------------------------------------------


async def download(request: Request, work: Work) -> Response:
    """Returns the answer with a file, or with a part of it. work: makes a worker send the file.

    Raises Refusal.
    """
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
    room = asyncio.Semaphore(_AHEAD)
    answer: asyncio.Future[tuple[int, dict[str, str]]] = asyncio.get_running_loop().create_future()

    async def on_ready(ready: ReadyToGive) -> AsyncIterator[bytes]:
        status, headers, begin, end = _answer(request.method, request.headers, ready.size, f'"{ready.digest}"')
        answer.set_result((status, headers))
        if request.method == "HEAD":
            begin = end = 0
        yield packed(FilePart(begin=begin, end=end))

    async def on_data(piece: bytes) -> None:
        await room.acquire()
        pieces.put_nowait(piece)

    doing = asyncio.ensure_future(work(Transfer(ReadyToGive, on_ready, on_data)))
    doing.add_done_callback(lambda _: pieces.put_nowait(None))  # without room: the client may read no more
    try:
        await asyncio.wait((doing, answer), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            await doing
        status, headers = answer.result()
        if status == 416:
            raise Refusal("range", headers=headers)
    except BaseException:
        doing.cancel()
        raise
    return _Download(_all(pieces, room, doing), doing, status, headers)


async def _all(
    pieces: "asyncio.Queue[bytes | None]", room: asyncio.Semaphore, doing: "asyncio.Future[bytes]"
) -> AsyncIterator[bytes]:
    while (piece := await pieces.get()) is not None:
        room.release()
        yield piece
    doing.result()  # an exception breaks the answer off


class _Download(StreamingResponse):
    """An answer at whose end its job is cancelled."""

    def __init__(
        self, pieces: AsyncIterator[bytes], doing: "asyncio.Future[bytes]", status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(pieces, status, headers, media_type=None if status == 304 else "application/octet-stream")
        self._doing = doing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._doing.cancel()


def _answer(method: str, asked: Headers, size: int, tag: str) -> tuple[int, dict[str, str], int, int]:
    """Returns the status and the header of an answer, and the part of the file that it has: its begin and end."""
    headers = {**_HEADERS, "ETag": tag}
    if _has_tag(asked.get("if-none-match", ""), tag):
        return 304, headers, 0, 0
    wanted = asked.get("range", "") if method == "GET" and asked.get("if-range", tag).strip() == tag else ""
    part = _part(wanted, size)
    if part is None:
        return 200, {**headers, "Content-Length": str(size)}, 0, size
    begin, end = part
    if begin >= end:
        return 416, {**headers, "Content-Range": f"bytes */{size}"}, 0, 0
    headers |= {"Content-Range": f"bytes {begin}-{end - 1}/{size}", "Content-Length": str(end - begin)}
    return 206, headers, begin, end


def _has_tag(header: str, tag: str) -> bool:
    """Returns whether a list of tags has this one, or is "*"."""
    return header.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in header.split(",")}


def _part(wanted: str, size: int) -> tuple[int, int] | None:
    """Returns the begin and end of the requested part, equal if it is empty; None for a header to be ignored."""
    found = _RANGE.match(wanted)
    if found is None:
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    if first:
        return int(first), min(size, int(last) + 1 if last else size)
    return (max(0, size - int(last)), size) if last else None
