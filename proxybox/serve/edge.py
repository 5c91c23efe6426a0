"""What happens to every request before a door sees it, and to every answer: the edge of the service (ASGI).

Each request has an id, which its answer bears, too; a log line; and a record in the audit. None of them has a key, a
query or a body in it. A body that is too large is refused while it comes, and without a key, where one is needed, none
is read. A service that needs no key takes nothing from web pages of other origins, nor under a host name that others
control (DNS rebinding): any page that its user looks at could use it otherwise.
"""

import functools
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

import attrs
from starlette.requests import HTTPConnection

from proxybox.serve.config import is_loopback
from proxybox.serve.connections.bodies import Body, NotRead, length
from proxybox.serve.connections.room import Room
from proxybox.serve.connections.turns import Turns
from proxybox.serve.keys import Key, KeysError
from proxybox.serve.problems import MEDIA_TYPE, Refusal
from proxybox.serve.service import Service
from proxybox.terminal.harmless import on_one_line

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]
#: A way to present a key: what of a request is one, or None.
Way = Callable[[HTTPConnection], str | None]

#: An id that a client may give its request.
_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
#: What is answered also while the service takes no requests.
ALWAYS: Final = frozenset({"/", "/health", "/v1/health", "/librechat/health", "/metrics"})

log = logging.getLogger("proxybox.serve")


@attrs.define(kw_only=True)
class Visit:
    """One request, and what the audit keeps of it.

    key: the id of its key. is_open: whether none is needed. policy to cpu: of the run, if there was one.
    """

    id: str
    key: str = ""
    is_open: bool = False
    name: str = ""
    policy: str = ""
    language: str = ""
    code_sha256: str = ""
    status: str = ""
    cpu: float | None = None


def visit(scope: Scope) -> Visit:
    """Returns the visit of a request, which doors complete."""
    made: Visit = scope["state"]["visit"]
    return made


def pass_on_body(scope: Scope) -> None:
    """Says that a door keeps nothing of the body of its request; to be called before it reads any of it."""
    body: Body = scope["state"]["body"]
    body.pass_on()


class _WithoutKey(NotRead):
    def __init__(self) -> None:
        Refusal.__init__(self, "unauthorized", headers={"WWW-Authenticate": "Bearer"})


class Edge:
    """Wraps the doors. ways: in which they are presented keys."""

    def __init__(self, inner: ASGI, service: Service, ways: Sequence[Way]) -> None:
        self._inner, self.service, self._ways = inner, service, ways
        config = service.config
        self._turns = Turns()
        self._room = Room(
            most=config.bodies_of_all, share=config.bodies, queue=config.limits.queue, patience=config.limits.queue_wait
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        here = Visit(id=given.decode() if _ID.match(given) else secrets.token_hex(8))
        scope.setdefault("state", {})["visit"] = here
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send, headers, here)
            return
        await self._http(scope, receive, send, headers, here)

    async def _http(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], here: Visit) -> None:
        began = time.perf_counter()
        answered = 0

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", here.id.encode())]
            await send(message)

        try:
            self._check(scope, headers, here)
            key = self._key(scope)
            who = f"@{_address(scope)}" if key is None else key.id
            await self._turns.wait(who)
            most = self.service.config.limits.body
            async with Body(receive, headers, who=who, most=most, room=self._room, turns=self._turns) as body:
                scope["state"]["body"] = body
                is_read = here.is_open or key is not None or length(headers) == 0
                await self._inner(scope, body if is_read else _unread, answer)
        except Refusal as refusal:
            if not answered:
                await refuse(refusal, here, answer)
        except KeysError as error:  # nobody is let in while nobody can tell who may
            log.error("%s", error)
            await refuse(Refusal("not-ready", "its keys cannot be read"), here, answer)
        finally:
            self._note(scope, here, answered or 499, time.perf_counter() - began)

    async def _websocket(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], here: Visit
    ) -> None:
        try:
            self._check(scope, headers, here)
        except Refusal as refusal:
            log.info("%s %s refused: %s", here.id, "WEBSOCKET", refusal)
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.detail[:120]})
            return
        await self._inner(scope, receive, send)

    # --- checks -------------------------------------------------------------------------------------------------------

    def _check(self, scope: Scope, headers: dict[bytes, bytes], here: Visit) -> None:
        """Raises Refusal for a request that no door sees."""
        service = self.service
        if service.state != "ready" and scope["path"] not in ALWAYS:
            raise Refusal("not-ready", service.why, headers={"Retry-After": "5"})
        here.is_open = service.is_open
        if not here.is_open:
            return
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        if not _is_own_host(host):
            raise Refusal("forbidden", "a service that needs no key answers under names of this machine alone")
        if origin and origin not in service.config.origins and origin.partition("://")[2] != host:
            raise Refusal("forbidden", "pages of this origin may not use the service (origins in its configuration)")

    def _key(self, scope: Scope) -> Key | None:
        """The key that a request presents in any way; its door looks at its own way alone. Raises KeysError."""
        told = (way(HTTPConnection(scope)) for way in self._ways)
        found = (self.service.keys.find(key) for key in told if key)
        return next((key for key in found if key is not None), None)

    # --- what is kept -------------------------------------------------------------------------------------------------

    def _note(self, scope: Scope, here: Visit, status: int, seconds: float) -> None:
        service, path = self.service, on_one_line(scope["path"][:500])
        route = getattr(scope.get("route"), "path", "other")
        service.metrics.requests.labels(route, str(status)).inc()
        service.metrics.latency.labels(route).observe(seconds)
        record = {
            "id": here.id, "at": time.time(), "key": here.key, "client": _address(scope),
            "method": scope["method"][:16], "path": path, "http_status": status, "seconds": round(seconds, 6),
            "policy": here.policy, "language": here.language, "code_sha256": here.code_sha256, "status": here.status,
            "cpu": here.cpu,
        }  # fmt: skip
        if path not in ALWAYS:
            service.store.note(record)
        if log.isEnabledFor(logging.INFO):
            log.info(
                "%s %s %s %d %.1f ms%s", here.id, record["method"], path, status, seconds * 1e3,
                f" {here.status}" if here.status else "", extra={"record": {**record, "name": here.name}},
            )  # fmt: skip


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0])[:255] if client else ""


async def _unread() -> MutableMapping[str, Any]:
    raise _WithoutKey


async def refuse(refusal: Refusal, here: Visit, send: Send) -> None:
    """Answers a request with a refusal."""
    body = json.dumps(refusal.body(here.id)).encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@functools.lru_cache(maxsize=64)
def _is_own_host(host: str) -> bool:
    """Whether a Host header names this machine: a name that others control could lead a browser here."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.removeprefix("[").removesuffix("]")
    return not name or is_loopback(name)
