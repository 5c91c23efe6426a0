"""The edge of the service (ASGI): it handles every request before a door, and every answer after it.

Each request has an id, which its answer has, too, and a log line; a request that a door has accepted has a record in
the audit. Neither contains a key, a query or a body. Refused requests are counted, and only a few are logged: anybody
can send any number of them.

A body that is too large is refused while it is received. Where a key is needed, no body is read without one. All paths
except those of the service's health are answered only with a key for them (access.py), whatever the door itself does.
Requests of web pages of other origins are refused, because the browser may have a password. Where no key is needed,
requests under other host names are refused, too (DNS rebinding): otherwise any page in a user's browser could use the
service.
"""

import contextlib
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

from proxybox.serve.authority import no_key, not_in_scope, unreadable
from proxybox.serve.callers import Caller
from proxybox.serve.config import is_loopback
from proxybox.serve.connections.bodies import SMALL, Body, NotRead, length
from proxybox.serve.connections.room import Room
from proxybox.serve.connections.turns import LoopTurns
from proxybox.serve.keys import Key, KeysError
from proxybox.serve.paths import AccessTable
from proxybox.serve.problems import MEDIA_TYPE, Refusal
from proxybox.serve.service import Service
from proxybox.terminal.harmless import on_one_line

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]
#: A way to present a key: returns the key of a request, or None.
Way = Callable[[HTTPConnection], str | None]

#: An id that a client may give its request.
_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")
#: The most log lines in a second for requests that no door accepts.
_REFUSED_LINES: Final = 10

log = logging.getLogger("proxybox.serve")


@attrs.define(kw_only=True)
class Visit:
    """One request, and the facts about it that the audit stores.

    is_open: whether no key is needed. begun_for: is called with the caller. key, name: of the key, "" until a door has
    accepted the request. policy to cpu: of the run, if there was one.
    """

    id: str
    is_open: bool = False
    begun_for: Callable[[Caller], None] = lambda _: None
    key: str = ""
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
    """Notes that a door does not store the body of its request; to be called before the door reads any of it."""
    body: Body = scope["state"]["body"]
    body.pass_on()


def room_for(scope: Scope, caller: Caller, size: int) -> contextlib.AbstractContextManager[None]:
    """A context with room for a message of a WebSocket, as for a body. Raises Refusal."""
    room: Room = scope["state"]["room"]
    return room.at_once(caller.key or f"@{_address(scope)}", size) if size > SMALL else contextlib.nullcontext()


class _WithoutKey(NotRead):
    def __init__(self) -> None:
        refusal = no_key()
        Refusal.__init__(self, refusal.kind, headers=refusal.headers)


class ServiceMiddleware:
    """Wraps the doors. ways: functions that find the key of a request."""

    def __init__(self, inner: ASGI, service: Service, ways: Sequence[Way]) -> None:
        self._inner, self.service, self._ways = inner, service, ways
        config = service.config
        self._turns = LoopTurns()
        self._room = Room(
            most=config.bodies_of_all, share=config.bodies, queue=config.limits.queue, patience=config.limits.queue_wait
        )
        self._second, self._refused = 0.0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"")
        here = Visit(id=request_id.decode() if _ID.match(request_id) else secrets.token_hex(8))
        scope.setdefault("state", {})["visit"] = here
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send, headers, here)
            return
        await self._http(scope, receive, send, headers, here)

    async def _http(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], here: Visit) -> None:
        began = time.perf_counter()
        answered, is_stopped = 0, False
        access, is_preflight = self.service.authority.access, self._is_preflight(scope, headers)

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal answered, is_stopped
            if is_stopped:
                return
            if message["type"] == "http.response.start":
                if not is_preflight and (refusal := _not_to_be_told(access, scope, here, message["status"], scopes)):
                    await refuse(refusal, here, answer)
                    is_stopped = True
                    return
                answered = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", here.id.encode())]
            await send(message)

        scopes: tuple[str, ...] = ()
        try:
            with self.service.authority.visiting() as here.begun_for:
                self._check(scope, headers, here)
                keys = self._keys(scope)
                scopes = tuple(key.scope for key in keys)
                who = keys[0].id if keys else f"@{_address(scope)}"
                await self._turns.wait(who)
                most = self.service.config.limits.body
                async with Body(receive, headers, who=who, most=most, room=self._room, turns=self._turns) as body:
                    scope["state"]["body"] = body
                    is_read = here.is_open or length(headers) == 0 or _may_any(access, scopes, scope["path"])
                    await self._inner(scope, body if is_read else _unread, answer)
        except (Refusal, KeysError) as error:
            if not answered:  # otherwise the connection is closed
                await refuse(error if isinstance(error, Refusal) else unreadable(), here, answer)
        finally:
            self._note(scope, here, answered or 499, time.perf_counter() - began)

    async def _websocket(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], here: Visit
    ) -> None:
        began = time.perf_counter()
        scope["state"]["room"] = self._room
        try:
            self._check(scope, headers, here)
            with contextlib.suppress(Refusal), self.service.authority.visiting() as here.begun_for:
                await self._inner(scope, receive, send)
        except (Refusal, KeysError) as error:
            refusal = error if isinstance(error, Refusal) else unreadable()
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.detail[:120]})
        finally:
            self._note(scope, here, 101 if here.name else 403, time.perf_counter() - began)

    # --- checks -------------------------------------------------------------------------------------------------------

    def _check(self, scope: Scope, headers: dict[bytes, bytes], here: Visit) -> None:
        """Raises Refusal for a request that no door gets."""
        service = self.service
        if service.state != "ready" and scope["path"] not in service.authority.access.always:
            raise Refusal("not-ready", service.why, headers={"Retry-After": "5"})
        here.is_open = service.authority.is_open
        origin = headers.get(b"origin", b"").decode("latin-1")
        host = headers.get(b"host", b"").decode("latin-1")
        if here.is_open and not _is_own_host(host):
            raise Refusal("forbidden", "a service that needs no key answers under names of this machine alone")
        if origin and origin not in service.config.origins and origin.partition("://")[2] != host:
            raise Refusal("forbidden", "pages of this origin may not use the service (origins in its configuration)")

    def _is_preflight(self, scope: Scope, headers: dict[bytes, bytes]) -> bool:
        """Returns whether a browser asks if a page of a known origin may send a request: that question has no key.

        https://fetch.spec.whatwg.org/#cors-preflight-request. Starlette's CORSMiddleware answers, in the same way for
        each path, so that the answer reveals nothing.
        """
        return (
            scope["method"] == "OPTIONS"
            and b"access-control-request-method" in headers
            and headers.get(b"origin", b"").decode("latin-1") in self.service.config.origins
        )

    def _keys(self, scope: Scope) -> tuple[Key, ...]:
        """Returns the keys that a request presents, in any way; its door uses its own way alone. Raises KeysError."""
        presented = (way(HTTPConnection(scope)) for way in self._ways)
        found = (self.service.authority.keys.find(key) for key in presented if key)
        return tuple(each[0] for each in found if each is not None)

    # --- what is kept -------------------------------------------------------------------------------------------------

    def _note(self, scope: Scope, here: Visit, status: int, seconds: float) -> None:
        service, path = self.service, on_one_line(scope["path"][:500])
        route = getattr(scope.get("route"), "path", "other")
        service.metrics.requests.labels(route, str(status)).inc()
        if scope["type"] == "http":
            service.metrics.latency.labels(route).observe(seconds)
        record = {
            "id": here.id, "at": time.time(), "key": here.key, "client": _address(scope),
            "method": scope.get("method", "WEBSOCKET")[:16], "path": path, "http_status": status,
            "seconds": round(seconds, 6), "policy": here.policy, "language": here.language,
            "code_sha256": here.code_sha256, "status": here.status, "cpu": here.cpu,
        }  # fmt: skip
        if here.name and path not in service.authority.access.always:
            service.store.note(record)
        if log.isEnabledFor(logging.INFO) and (here.name or self._may_log()):
            log.info(
                "%s %s %s %d %.1f ms%s", here.id, record["method"], path, status, seconds * 1e3,
                f" {here.status}" if here.status else "", extra={"record": {**record, "name": here.name}},
            )  # fmt: skip

    def _may_log(self) -> bool:
        """Returns whether one more refused request gets a log line; a later line reports how many had none."""
        now, self._refused = time.monotonic(), self._refused + 1
        if now - self._second >= 1:
            if self._refused > _REFUSED_LINES + 1:
                log.info("%d more requests that no door let in", self._refused - 1 - _REFUSED_LINES)
            self._second, self._refused = now, 1
        return self._refused <= _REFUSED_LINES


def _may_any(access: AccessTable, scopes: Sequence[str], path: str) -> bool:
    return any(access.may_use(each, path) for each in scopes)


def _not_to_be_told(
    access: AccessTable, scope: Scope, here: Visit, status: int, scopes: Sequence[str]
) -> Refusal | None:
    """Returns the refusal that replaces the answer of a door which has not checked the key; None to keep the answer.

    scopes: of the keys that were presented.
    """
    path = scope["path"]
    if here.is_open or here.name or path in access.health or status in (401, 403, 413) or status >= 500:
        return None
    if not scopes:
        return no_key()
    return None if status == 404 or _may_any(access, scopes, path) else not_in_scope()


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
    """Returns whether a Host header names this machine: others could make a name of theirs point to it."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.removeprefix("[").removesuffix("]")
    return not name or is_loopback(name)
