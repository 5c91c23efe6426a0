"""The service's answers to requests that it refuses or that fail: problem details (RFC 9457).

    {"type": "urn:proxybox:session-ended", "title": "...", "status": 410, "detail": "...", "request_id": "..."}

Rule: answers reveal nothing of the service itself, neither paths nor tracebacks. Doors of other protocols turn a
`Refusal` into the form that their clients know.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from proxybox.jsonvalues import JSONObject

log = logging.getLogger("proxybox.serve")

MEDIA_TYPE: Final = "application/problem+json"

#: Every kind of problem, with its HTTP status and its title. The kind is the last part of the problem's type.
KINDS: Final[Mapping[str, tuple[int, str]]] = {
    "bad-request": (400, "The request can be read in more than one way, or in none"),
    "timeout": (408, "The request came too slowly"),
    "expectation-failed": (417, "The service does not know what is expected of it"),
    "header-too-large": (431, "The header of the request is too large"),
    "bad-version": (505, "The service speaks HTTP/1.1"),
    "invalid": (422, "The request makes no sense"),
    "range": (416, "The file has no such part"),
    "too-large": (413, "The request is too large"),
    "unauthorized": (401, "A key is needed, and this is none"),
    "forbidden": (403, "This key may not do that"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "This cannot be done here"),
    "conflict": (409, "There is such a thing already"),
    "session-busy": (409, "The session is in another call"),
    "cannot-copy": (409, "The session cannot be copied"),
    "execution-error": (409, "The program did not do what was asked of it"),
    "file-error": (409, "The file cannot be used like that"),
    "session-ended": (410, "The session has ended"),
    "locked": (423, "This cannot be changed at the moment"),
    "upgrade-required": (426, "This is a WebSocket"),
    "rate-limited": (429, "Too many requests of this key"),
    "internal-error": (500, "A fault of the service"),
    "cannot-start": (503, "No box can be started"),
    "disk-limit": (507, "The session has no room for that"),
    "overloaded": (503, "Too many requests"),
    "not-ready": (503, "The service does not take requests now"),
    "worker-lost": (503, "The process that served the box has ended"),
}


class Refusal(Exception):
    """A request is refused or has failed. errors: its faults, each with `loc` and `msg`.

    more: further fields of the answer.
    """

    def __init__(
        self, kind: str, detail: str = "", *, errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        self.kind, self.errors, self.more = kind, tuple(errors), more
        self.status, self.title = KINDS[kind]
        self.detail = detail or self.title
        self.headers = dict(headers or {})
        Exception.__init__(self, self.detail)

    def body(self, request_id: str = "") -> JSONObject:
        """Returns the problem details."""
        body = {
            "type": f"urn:proxybox:{self.kind}", "title": self.title, "status": self.status, "detail": self.detail,
            **self.more,
        }  # fmt: skip
        if self.errors:
            body["errors"] = list(self.errors)
        if request_id:
            body["request_id"] = request_id
        return body


def of_status(status: int) -> Refusal:
    """Returns the refusal for a status that the web framework has chosen."""
    for kind in ("not-found", "method-not-allowed", "too-large"):
        if KINDS[kind][0] == status:
            return Refusal(kind)
    if status < 500:
        return Refusal("invalid", HTTPStatus(status).phrase)
    return Refusal("internal-error")


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """A context for a step of work that goes on after an exception, which is logged. what: has then happened."""
    try:
        yield
    except Exception:
        log.exception("%s", what)
