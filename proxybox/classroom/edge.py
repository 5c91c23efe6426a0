"""What happens to every request before a door sees it, and to every answer: the edge of the classroom (ASGI).

    promise                                                         by
    no page of another origin changes anything                      Origin, JSON bodies alone, strict cookies
    no name that others control leads to a class (DNS rebinding)    the Host header
    no script runs but our own files                                Content-Security-Policy
    no page shows a class within its own                            frame-ancestors
    nobody sends more than is kept                                  the bound of bodies

https://www.w3.org/TR/CSP3/, RFC 6265bis (SameSite), RFC 6454 (origins)
"""

import secrets
from collections.abc import MutableMapping
from typing import Any, Final

from proxybox.classroom.lesson import Lesson
from proxybox.serve.edge import ASGI, Receive, Scope, Send, TooLarge, Visit, bounded, log, refuse
from proxybox.serve.problems import Refusal

#: Methods that change nothing.
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: The bytes of one request: a text of the most characters, as JSON.
MOST_BODY: Final = 4 << 20
_JSON: Final = b"application/json"
#: Where learning platforms send browsers, from pages of their own: what they bring is signed (lti/launches.py).
_FROM_PLATFORMS: Final = frozenset({"/lti/login", "/lti/launch"})
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


class Edge:
    """Wraps the doors of a lesson."""

    def __init__(self, inner: ASGI, lesson: Lesson) -> None:
        self._inner, self.lesson = inner, lesson

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
        scope.setdefault("state", {}).update(visit=here, nonce=nonce)
        answered = False

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                policy = (b"content-security-policy", _POLICY.format(nonce=nonce).encode())
                own = [header for header in message.get("headers", ()) if header[0] != b"content-security-policy"]
                message["headers"] = [*own, *_HEADERS, policy]
            await send(message)

        try:
            self._check(scope, headers)
            await self._inner(scope, bounded(receive, headers, MOST_BODY), answer)
        except TooLarge as refusal:
            if not answered:
                await refuse(refusal, here, answer)
        except Refusal as refusal:
            await refuse(refusal, here, answer)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raises Refusal for a request that no door sees."""
        host = headers.get(b"host", b"").decode("latin-1")
        if not self.lesson.config.answers_to(_without_port(host)):
            log.warning("a request for the host %r was refused (--name adds a name)", host[:200])
            raise Refusal("forbidden", "This classroom is not reached under this name (proxybox classroom --name).")
        if scope["method"] in _SAFE or scope["path"] in _FROM_PLATFORMS:
            return
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin != f"{scope['scheme']}://{host}":
            raise Refusal("forbidden", "Only pages of this classroom can change anything.")
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _JSON:
            raise Refusal("invalid", errors=[{"loc": ["header", "content-type"], "msg": "want application/json"}])


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() and not (":" in name and not name.startswith("[")) else host
