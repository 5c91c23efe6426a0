"""The edge of the classroom (ASGI middleware): it checks each request before a door gets it, and each response.

    promise                                                         by
    without a pass, a browser can only read how to join             OPEN: every other path needs a pass
    a void pass changes nothing, even if its request began          doors check it again (asking.py)
    before it became void
    no page of another origin changes anything                      Origin, only JSON bodies, strict cookies
    no DNS name of others leads to a class (DNS rebinding)          the Host header
    only scripts in our own files run                               Content-Security-Policy
    only pages that `embed` names can frame a class, under          frame-ancestors
    /embed/, and a platform in which a link is chosen
    no request is larger than what is stored, or endless            bounds of bodies and of connections
    no seat makes the others wait                                   its bucket (buckets.py)
    nothing of a class stays in a browser's cache                   Cache-Control

https://www.w3.org/TR/CSP3/, RFC 6265bis (SameSite), RFC 6454 (origins)
"""

import secrets
from collections.abc import MutableMapping
from typing import Any, Final

from starlette.requests import HTTPConnection

from proxybox.classroom.doors.asking import Asking, who_asks
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.records import Seat
from proxybox.serve.connections.bodies import bounded
from proxybox.serve.connections.turns import LoopTurns
from proxybox.serve.edge import ASGI, Receive, Scope, Send, Visit, log, refuse
from proxybox.serve.problems import Refusal

#: Only pages of the classroom request these paths, never those of other sites (https://www.w3.org/TR/fetch-metadata/).
_ASKED_BY_PAGES: Final = "/api/"
#: Methods that change nothing.
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: Paths that need no pass: pages and their files, and those that give or take away a pass.
OPEN: Final = frozenset({"/", "/teacher", "/sw.js", "/api/join", "/api/return", "/api/leave", "/api/teacher/login"})
OPEN_FOLDER: Final = "/static/"
#: The student's page for frames of other pages, those that `embed` names.
EMBEDDED: Final = "/embed/"
#: The most bytes of a request: the longest text, as JSON; and without a pass.
MOST_BODY: Final = 4 << 20
_MOST_WITHOUT_PASS: Final = 4 << 10
_JSON: Final = b"application/json"
#: The paths to which learning platforms send browsers from their own pages, with signed data (lti/launches.py); and the
#: paths that platforms request themselves. The most bytes of a form with a signed token.
_FROM_PLATFORMS: Final = frozenset({"/lti/login", "/lti/launch", "/lti/choose"})
_FOR_PLATFORMS: Final = frozenset({"/lti/keys", "/lti/config.json"})
_MOST_OF_PLATFORM: Final = 128 << 10
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'self'{form}; frame-ancestors {ancestors}"
)
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


class ClassroomMiddleware:
    """Wraps the doors of a lesson."""

    def __init__(self, inner: ASGI, lesson: Lesson) -> None:
        self._inner, self.lesson, self._turns = inner, lesson, LoopTurns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = dict(scope["headers"])
        here, nonce = Visit(id=secrets.token_hex(8)), secrets.token_urlsafe(16)
        asking = who_asks(self.lesson, HTTPConnection(scope))
        state = scope.setdefault("state", {})
        state.update(visit=here, nonce=nonce, platform="")
        answered = False
        buckets, seat = self.lesson.buckets, asking.seat
        is_embedded = bool(self.lesson.config.embed) and scope["path"].startswith(EMBEDDED)

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                platform = state["platform"]  # its page may frame ours, and receives the chosen link (doors/lti.py)
                ancestors = platform or (" ".join(self.lesson.config.embed) if is_embedded else "'none'")
                csp = _POLICY.format(nonce=nonce, ancestors=ancestors, form=f" {platform}" if platform else "")
                policy = (b"content-security-policy", csp.encode())
                own = [header for header in message.get("headers", ()) if header[0] != b"content-security-policy"]
                if not any(name == b"cache-control" for name, _ in own):
                    own.append((b"cache-control", b"no-store"))
                message["headers"] = [*own, *_HEADERS, policy]
            elif seat is not None and not message.get("more_body") and not scope["path"].startswith(OPEN_FOLDER):
                buckets.take(seat.id, len(message.get("body", b"")))
            await send(message)

        try:
            self._check(scope, headers)
            most = self._let_in(scope["path"], asking)
            within = bounded(receive, headers, most)
            if seat is not None:
                buckets.take(seat.id, int(headers.get(b"content-length", b"0")))
            await self._turns.wait(_who(scope, seat))
            await self._inner(scope, within, answer)
        except Refusal as refusal:
            if not answered:
                await refuse(refusal, here, answer)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raises Refusal for a request that must not reach a door."""
        host = headers.get(b"host", b"").decode("latin-1")
        if not self.lesson.config.answers_to(_without_port(host)):
            log.warning("a request for the host %r was refused (--name adds a name)", host[:200])
            raise Refusal(
                "forbidden", "This classroom is not reached under this name. Open the address that your teacher shows."
            )
        if headers.get(b"sec-fetch-site") == b"cross-site" and scope["path"].startswith(_ASKED_BY_PAGES):
            raise Refusal("forbidden", "Only pages of this classroom can ask this.")
        if scope["method"] in _SAFE or scope["path"] in _FROM_PLATFORMS:
            return
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin != f"{scope['scheme']}://{host}":
            raise Refusal("forbidden", "Only pages of this classroom can change anything.")
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _JSON:
            raise Refusal("invalid", errors=[{"loc": ["header", "content-type"], "msg": "want application/json"}])
        if b"transfer-encoding" in headers:  # browsers send the length, so it is known before the text is read
            raise Refusal("invalid", errors=[{"loc": ["header", "transfer-encoding"], "msg": "want content-length"}])

    def _let_in(self, path: str, asking: Asking) -> int:
        """Returns how many bytes a request may have. Raises Refusal if it has no pass, or no token left."""
        if path in OPEN or path.startswith(OPEN_FOLDER):
            return _MOST_WITHOUT_PASS
        if self.lesson.config.embed and path.startswith(EMBEDDED):
            return _MOST_WITHOUT_PASS
        if self.lesson.config.lti and (path in _FROM_PLATFORMS or path in _FOR_PLATFORMS):
            return _MOST_OF_PLATFORM
        if asking.seat is None and asking.authority is None:
            raise Refusal("unauthorized", "This browser has no seat here.")
        if asking.seat is not None and asking.authority is None:
            self.lesson.buckets.enter(asking.seat.id)
        return MOST_BODY


def _who(scope: Scope, seat: Seat | None) -> str:
    """The key for taking turns: a seat, or an address without one."""
    client = scope.get("client")
    return seat.id if seat is not None else f"@{client[0] if client else ''}"


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and not (":" in name and not name.startswith("[")) else host
