"""Every answer in these tests is compared with an OpenAPI description: the service's, or another application's.

`CheckedTransport` and `CheckedAsyncTransport` are between a client and the service, and `check_message` gets the
messages of a WebSocket. An answer whose status, media type, or any key of its body is not declared raises
AssertionError, with a message that says what to do.
"""

import functools
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import attrs
import httpx
import jsonschema
import pytest

pytest.importorskip("fastapi", reason="the service is made of FastAPI (extra server)")

from proxybox.jsonvalues import JSONObject
from proxybox.serve.app import app
from proxybox.serve.config import ServiceConfig

_LINES, _SSE = "application/x-ndjson", "text/event-stream"


@attrs.frozen(eq=False)
class Declared:
    """Answers of an application. openapi: makes its description. paths: those described. where: to declare more."""

    openapi: Callable[[], JSONObject]
    paths: re.Pattern[str]
    where: str


SERVICE: Final = Declared(
    openapi=lambda: app(ServiceConfig(data="/nowhere"))._inner.openapi(),  # type: ignore[attr-defined]
    paths=re.compile(r"/v1/(?!sandbox/|ping|openapi\.json\Z)"),
    where="declare it in proxybox/serve/doors/rest.py, or in proxybox/serve/models.py and openapi.py",
)


@functools.cache
def description(of: Declared = SERVICE) -> JSONObject:
    """Returns the description, with objects that have only declared keys. Clients are told that there may be more."""
    made: JSONObject = json.loads(json.dumps(of.openapi()))
    for schema in made["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return made


@functools.cache
def _validator(schema: str, of: Declared) -> Any:
    root = {**json.loads(schema), "components": description(of)["components"]}
    return jsonschema.Draft202012Validator(root)


def check(value: Any, schema: JSONObject, what: str, of: Declared = SERVICE) -> None:
    """Compares a JSON value with a schema of the description. what: a name for the message."""
    named = description(of)["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
    if kinds := named.get("discriminator", {}).get("mapping"):
        kind = value[named["discriminator"]["propertyName"]]
        assert kind in kinds, f"{what}: it is not declared\n{of.where}"
        schema = {"$ref": kinds[kind]}
    for error in _validator(json.dumps(schema), of).iter_errors(value):
        place = "".join(f"[{each!r}]" for each in error.absolute_path)
        raise AssertionError(f"{what}{place}: {error.message[-300:]}\n{of.where}")


def check_message(message: JSONObject) -> None:
    """Compares a message from a WebSocket."""
    check(message, {"$ref": "#/components/schemas/SocketEvent"}, f"an event {message.get('event')!r} of /v1/socket")


@functools.cache
def _paths(of: Declared) -> list[tuple[re.Pattern[str], str]]:
    def pattern(path: str) -> str:
        return re.sub(r"\\\{(\w+)\\\}", lambda found: ".+" if found[1] == "path" else "[^/]+", re.escape(path))

    paths = sorted(description(of)["paths"], key=len, reverse=True)
    return [(re.compile(pattern(path) + r"\Z"), path) for path in paths]


def _operation(request: httpx.Request, media: str, of: Declared) -> tuple[str, JSONObject | None]:
    """Returns the path and the operation that are declared for a request."""
    path = request.url.path
    found = next((template for pattern, template in _paths(of) if pattern.match(path)), None)
    if found is None:
        return path, None
    if media in (_LINES, _SSE) and f"{found}/stream" in description(of)["paths"]:
        found += "/stream"  # the operation that the Accept header of a request for the path without /stream chooses
    return found, description(of)["paths"][found].get(request.method.lower())


class _Body:
    """The body of one answer, and what is declared of it."""

    def __init__(self, what: str, media: str, declared: JSONObject, of: Declared) -> None:
        self._what, self._media, self._declared, self._of = what, media, declared, of
        self._data = b""

    def take(self, piece: bytes) -> None:
        """Takes a part of the body."""
        if self._media in (_LINES, _SSE) and "x-itemSchema" in self._declared:
            *lines, self._data = (self._data + piece).split(b"\n")
            for line in lines:
                if line.removeprefix(b"data: ").startswith(b"{"):
                    event = json.loads(line.removeprefix(b"data: "))
                    what = f"{self._what}: an event {event.get('event')!r}"
                    check(event, self._declared["x-itemSchema"], what, self._of)
        elif self._media.endswith("json"):
            self._data += piece

    def end(self) -> None:
        """Compares the whole body, if it is JSON."""
        if self._media.endswith("/json") or self._media.endswith("+json"):
            check(json.loads(self._data), self._declared["schema"], self._what, self._of)


def expected(request: httpx.Request, response: httpx.Response, of: Declared = SERVICE) -> _Body | None:
    """Compares the head of an answer, and returns its body; None for paths that are not described."""
    media = response.headers.get("content-type", "").partition(";")[0]
    path, operation = _operation(request, media, of)
    what = f"{request.method} {path} has answered {response.status_code} {media}".rstrip()
    if operation is None:
        if not of.paths.match(request.url.path) or request.method == "OPTIONS":
            return None  # a page, or a door of another protocol
        assert response.status_code >= 400, f"{what}: the description has no such operation\n{of.where}"
        problem = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
        return None if request.method == "HEAD" else _Body(what, media, problem, of)
    declared = operation["responses"].get(str(response.status_code))
    assert declared is not None, f"{what}: this status is not declared\n{of.where}"
    kinds = declared.get("content", {})
    if not media or request.method == "HEAD":
        is_bare = not kinds or request.method == "HEAD" or response.status_code == 304
        assert is_bare, f"{what}: it has no body\n{of.where}"
        return None
    assert media in kinds, f"{what}: declared are {', '.join(kinds) or 'no bodies'}\n{of.where}"
    return _Body(what, media, kinds[media], of)


class _Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, inner: Any, body: _Body) -> None:
        self._inner, self._body = inner, body

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._body.take(piece)
            yield piece
        self._body.end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            self._body.take(piece)
            yield piece
        self._body.end()

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


def checked(request: httpx.Request, response: httpx.Response, of: Declared = SERVICE) -> httpx.Response:
    """Compares the head of an answer at once, and its body while it is read."""
    body = expected(request, response, of)
    if body is not None:
        response.stream = _Stream(response.stream, body)
    return response


class CheckedTransport(httpx.HTTPTransport):
    """An httpx transport that compares answers."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return checked(request, super().handle_request(request))


class CheckedAsyncTransport(httpx.AsyncHTTPTransport):
    """The same transport for event loops."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return checked(request, await super().handle_async_request(request))
