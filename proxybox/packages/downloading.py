"""Fetches files, and compares their hashes, in a process that cannot start anything (child.py).

Everything is bounded: the size of a file, the number of tries, and the time.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import attrs

from proxybox.packages.refusing import NoArchive

_MOST = 4 << 30
_TRIES, _SECONDS, _PIECE = 3, 60, 1 << 18
_WORTH_ANOTHER_TRY = (408, 429, 500, 502, 503, 504)
_telling = threading.Lock()


def tell(**said: object) -> None:
    """Sends a line of JSON to the process that has started this one."""
    with _telling:  # several threads call this
        print(json.dumps(said), flush=True)


def fetched(network: "IndexOpener", wanted: Mapping[str, Any], folder: str) -> Path:
    """Fetches a file, checks its hashes, and returns its path.

    wanted: its name as `file`, its `url`, its `hashes` (the first must be right, and one of the others if there are
    more), its `size` or None, and as `kept` the path of an earlier copy or "". Raises NoArchive.
    """
    path = Path(folder, wanted["file"])
    if wanted["kept"]:
        with contextlib.suppress(NoArchive, OSError), open(wanted["kept"], "rb") as source:
            _write(source, wanted, path)
            return path
    for tried in range(_TRIES):
        try:
            with network.open(wanted["url"]) as source:
                _write(source, wanted, path)
            return path
        except urllib.error.HTTPError as error:
            if tried + 1 == _TRIES or error.code not in _WORTH_ANOTHER_TRY:
                raise NoArchive(f"{wanted['file']}: the server says {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            if tried + 1 == _TRIES or wanted["url"].startswith("file:"):
                raise NoArchive(f"{wanted['file']}: {getattr(error, 'reason', error)}") from None
        time.sleep(tried)
    raise AssertionError


def _write(source: IO[bytes], wanted: Mapping[str, Any], path: Path) -> None:
    most = wanted["size"] or _MOST
    hashes = {each.partition(":")[0]: hashlib.new(each.partition(":")[0]) for each in wanted["hashes"]}
    size = 0
    with path.open("wb") as file:
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > most:
                raise NoArchive(f"{wanted['file']}: has more than {most:,} bytes, which is the most that it may have")
            for each in hashes.values():
                each.update(piece)
            file.write(piece)
            tell(fetched=len(piece))
    if left := getattr(source, "length", None):
        raise http.client.IncompleteRead(b"", left)
    own, *listed = wanted["hashes"]
    found = {f"{name}:{each.hexdigest()}" for name, each in hashes.items()}
    if own not in found or (listed and not found & set(listed)):
        raise NoArchive(f"{wanted['file']}: its hash is another one: {', '.join(sorted(found))}")


@attrs.define
class IndexOpener:
    """Opens addresses. indexes: addresses of indexes; the name and password of an index are sent only to its host."""

    indexes: Sequence[str]
    _opener: urllib.request.OpenerDirector = attrs.field(init=False)

    @_opener.default
    def _make(self) -> urllib.request.OpenerDirector:
        context = ssl.create_default_context()
        if certificate := os.environ.get("SSL_CLIENT_CERT"):
            context.load_cert_chain(certificate)
        return urllib.request.build_opener(_NoFiles(), urllib.request.HTTPSHandler(context=context))

    @contextlib.contextmanager
    def open(self, url: str) -> Iterator[IO[bytes]]:
        """Opens an address for reading. Raises OSError and HTTPException."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "file":
            with open(urllib.parse.unquote(parts.path), "rb") as file:
                yield file
            return
        host = parts.netloc.rpartition("@")[2]
        request = urllib.request.Request(parts._replace(netloc=host, fragment="").geturl())  # noqa: S310 - http or https
        request.add_header("User-Agent", "proxybox")
        if password := self._password(parts.scheme, host, url):
            coded = base64.b64encode(password.encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {coded}")
        with self._opener.open(request, timeout=_SECONDS) as answer:
            yield answer

    def _password(self, scheme: str, host: str, url: str) -> str:
        """Returns NAME:PASSWORD for a host; "" if there is none."""
        for each in (url, *self.indexes):
            parts = urllib.parse.urlsplit(each)
            user, _, its = parts.netloc.rpartition("@")
            if user and (parts.scheme, its) == (scheme, host):
                return urllib.parse.unquote(user)
        return ""


class _NoFiles(urllib.request.HTTPRedirectHandler):
    """Allows redirections, but only to http or https addresses, and not from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://" if req.full_url.startswith("https:") else ("http://", "https://")):
            raise urllib.error.HTTPError(req.full_url, code, f"leads to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
