"""The Model Context Protocol over streamable HTTP, at /mcp: the tools of serve/mcp, for many clients.

A client presents a bearer key, as for all doors. Up to protocol version 2025-11-25 it has a session of the protocol
(`Mcp-Session-Id`), which only the same key can use, and which has one kept box. From 2026-07-28 on, requests have no
session, and the client names the box that it wants to use again. Only its own key can use a box, and its id cannot be
guessed, so that clients of one key cannot use each other's boxes.

Clients get no messages except the answers to their requests, so there is no stream to open with GET.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping, MutableMapping
from typing import Any, Final, TypeVar

from proxybox.serve.mcp.server import Context, Tools  # isort: skip - reports which extra to install

import attrs
from fastapi import APIRouter, FastAPI, Request
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.routing import Route

from proxybox.jsonvalues import JSONObject
from proxybox.policies import Policy
from proxybox.serve import asking
from proxybox.serve.asking import bearer, caller_by, service_of
from proxybox.serve.callers import Caller
from proxybox.serve.edge import Receive, Scope, Send, visit
from proxybox.serve.mcp.boxes import McpClient, OnEvent
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service
from proxybox.serve.workeranswers import JobAnswer

T = TypeVar("T")

#: Connections for each session that may exist: a connection without a box costs little.
_CONNECTIONS: Final = 8
#: Bytes that a run may write: its files are returned as a whole.
_MOST_WRITTEN: Final = 16 << 20
_HEADER: Final = "mcp-session-id"


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    config = app.state.service.config
    tools = Tools(_client_of)
    manager = StreamableHTTPSessionManager(
        tools.server, session_idle_timeout=config.sessions.end_after, max_request_body_size=config.limits.body,
        max_sessions=max(1, config.sessions.most) * _CONNECTIONS,
    )  # fmt: skip
    async with manager.run():
        app.state.mcp = tools, manager
        yield


class _Endpoint:
    """The endpoint, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request. Raises Refusal."""
        request = Request(scope, receive)
        caller = caller_by(request, bearer(request))
        if request.method not in ("POST", "DELETE"):
            raise Refusal("method-not-allowed", headers={"Allow": "POST, DELETE"})
        if caller.key:  # the package finds a session of the protocol for the same user only
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=caller.key, scopes=[]))
        tools, manager = request.app.state.mcp
        body: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": await request.body()}]
        answered = 0

        async def next_message() -> MutableMapping[str, Any]:
            return body.pop() if body else await receive()

        async def answer(message: Any) -> None:
            nonlocal answered
            answered = message.get("status", answered)
            await send(message)

        await manager.handle_request(scope, next_message, answer)
        if request.method == "DELETE" and answered == 200:
            await tools.forget(_client(request, caller, request.headers.get(_HEADER)))


router = APIRouter(lifespan=_lifespan, routes=[Route("/mcp", _Endpoint(), include_in_schema=False)])


def _client_of(ctx: Context) -> McpClient:
    """Returns the client that has sent this request. Raises Refusal."""
    request = ctx.request
    assert isinstance(request, Request)  # noqa: S101 - it came by HTTP
    # The manager has checked that the session is the caller's own. From 2026-07-28 on, it does not read this header.
    has_session = ctx.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS
    return _client(request, caller_by(request, bearer(request)), request.headers.get(_HEADER) if has_session else None)


def _client(request: Request, caller: Caller, connection: str | None) -> McpClient:
    boxes = _ServiceBoxes(service_of(request), caller, request)
    return McpClient(boxes=boxes, owner=caller.key, connection=connection)


@attrs.frozen
class _ServiceBoxes:
    """The boxes of a caller, in a service (mcp/boxes.py)."""

    _service: Service
    _caller: Caller
    _request: Request

    @property
    def policy(self) -> Policy:
        """As `McpBoxes.policy`: the first policy that the caller may use."""
        return self._service.config.policies[self._service.jobs.policy(self._caller, None)]

    async def run(self, asked: Mapping[str, Any], on_event: OnEvent | None) -> JSONObject:
        """As `McpBoxes.run`."""
        service, caller = self._service, self._caller
        self._check_files(asked["files"])
        job = {
            **asked, "return_files": True,
            **service.jobs.within(service.jobs.policy(caller, None), {"limits.disk": _MOST_WRITTEN}),
        }  # fmt: skip
        asking.note(self._request, service, caller, job)
        identity = visit(self._request.scope).id
        return self._noted(await _apart(service.run(caller, job, identity=identity, on_event=on_event)))

    async def open(self) -> str:
        """As `McpBoxes.open`."""
        return (await _apart(self._service.sessions.open(self._caller, {}))).id

    async def command(self, session: str, command: str, on_event: OnEvent | None = None, **asked: Any) -> JSONObject:
        """As `McpBoxes.command`."""
        work = self._service.sessions.command(self._caller, session, command, on_event=on_event, **asked)
        if command != "exec":
            made: JSONObject = json.loads(await _apart(work))
            return made
        asking.note(self._request, self._service, self._caller, asked)
        return self._noted(await _apart(work))

    async def end(self, session: str) -> None:
        """As `McpBoxes.end`."""
        await self._service.sessions.end(self._caller, session)

    def living(self) -> Collection[str]:
        """As `McpBoxes.living`."""
        return {session.id for session in self._service.sessions.of(self._caller)}

    def _check_files(self, files: Mapping[str, str]) -> None:
        most = self._service.config.limits.files
        if len(files) > most:
            raise Refusal("invalid", f"files: want at most {most:,} files, got {len(files):,}")

    def _noted(self, data: JobAnswer) -> JSONObject:
        asking.note_result(self._request, data)
        result: JSONObject = json.loads(data)
        return result


async def _apart(work: Coroutine[Any, Any, T]) -> T:
    """Does `work` in a task of its own, which is cancelled once.

    Tools are called in scopes of anyio, which cancel each later await as well, and so the cleanup at the end of a job.
    """
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.wait((doing,))
        return doing.result()
    finally:
        doing.cancel()
