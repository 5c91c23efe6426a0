"""Requests that two programs could parse in two ways: all are refused, so that no proxy in front reads another request.

The forms that the parser refuses itself (llhttp, in httptools) are not repeated here: two lengths, a length beside
chunks, folded lines, NUL and other control characters, a bare CR or LF, a space before the colon, chunks of a malformed
size.

RFC 9112 (HTTP/1.1), sections 3.2 and 6; RFC 9110, sections 5.3, 7.2 and 10.1.1
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import httptools

from proxybox.serve.problems import Refusal

#: The most fields of a header, and of a trailer.
MOST_FIELDS: Final = 100
_VERSIONS: Final = frozenset({"1.0", "1.1"})
#: Fields that may occur only once: of two, some programs use the first and others the last.
_ONCE: Final = frozenset({
    b"host", b"content-length", b"content-type", b"transfer-encoding", b"authorization", b"x-api-key", b"origin",
    b"expect", b"upgrade", b"range", b"if-range", b"x-request-id",
})  # fmt: skip
#: Characters which gateways (CGI, RFC 3875) may read as the dash in a field's name.
_UNDERSCORED: Final = frozenset({b"content_length", b"transfer_encoding"})
#: The host of a URI with its port (RFC 3986, section 3.2.2). It may be empty.
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


def check(method: bytes, version: str, target: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises Refusal for an ambiguous header. fields: with their names in lower case."""
    if version not in _VERSIONS:
        raise Refusal("bad-version")
    counts = Counter(name for name, _ in fields)
    for name in _ONCE & counts.keys():
        if counts[name] > 1:
            raise _bad(f"want one {name.decode()} field, got {counts[name]}")
    if _UNDERSCORED & counts.keys():
        raise _bad("want content-length and transfer-encoding with a dash")
    form = dict(fields)
    host = form.get(b"host")
    if host is None and version == "1.1":
        raise _bad("want a host field")
    if host is not None and not _HOST.fullmatch(host):
        raise _bad("want the name of a host, and its port, in the host field")
    coding = form.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or version != "1.1"):
        raise _bad("want no transfer-encoding but chunked, and that in HTTP/1.1")
    if form.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise Refusal("expectation-failed")
    _check_target(method, target, host)


def _check_target(method: bytes, target: bytes, host: bytes | None) -> None:
    """Raises Refusal for a target that is not a path, or that names another host."""
    if method == b"CONNECT":
        raise Refusal("method-not-allowed", "this is no proxy")
    if b"#" in target:
        raise _bad("want a target without a fragment")
    if target.startswith(b"/") or (method, target) == (b"OPTIONS", b"*"):
        return
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise _bad("want a path as the target") from None
    authority = (url.host or b"") + (b":%d" % url.port if url.port else b"")
    if url.schema not in (b"http", b"https") or authority.lower() != (host or b"").lower() or url.userinfo:
        raise _bad("want a path as the target, or the address of the host in the host field")


def _bad(detail: str) -> Refusal:
    return Refusal("bad-request", detail)
