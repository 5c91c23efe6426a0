"""Wheels and other archives for tests, and an index of them on this machine."""

import base64
import contextlib
import hashlib
import html
import http.server
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path

import attrs

REGULAR, LINK = 0o100644, 0o120777


def digest(text: str | bytes) -> str:
    """Returns the hash of a file as a RECORD has it."""
    data = text.encode() if isinstance(text, str) else text
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def wheel(
    folder: Path, name: str, tag: str = "py3-none-any", files: Mapping[str, str] | None = None, *,
    version: str = "1.0", requires: tuple[str, ...] = (), unlisted: Mapping[str, str] | None = None,
    modes: Mapping[str, int] | None = None, listed: str = "", **modules: str,
) -> Path:  # fmt: skip
    """Makes a wheel of modules and other files.

    unlisted: additional files, which its RECORD does not have. listed: additional lines of its RECORD.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    content = {
        **{f"{module}.py": text for module, text in modules.items()}, **(files or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }  # fmt: skip
    record = "".join(f"{file},{digest(text)},{len(text.encode())}\n" for file, text in content.items())
    record += f"{info}/RECORD,,\n{listed}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, text in {**content, **(unlisted or {}), f"{info}/RECORD": record}.items():
            entry = zipfile.ZipInfo(file)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (modes or {}).get(file, REGULAR) << 16
            archive.writestr(entry, text)
    return path


def source_archive(folder: Path, name: str, hurt: str, *, backend: bool = False) -> Path:
    """Makes an archive that runs `hurt` when it is built: by setup.py, or by a build backend of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0.tar.gz"
    files = {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
    if backend:
        files["pyproject.toml"] = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
        files["own.py"] = hurt
    else:
        files["setup.py"] = f"{hurt}\nfrom setuptools import setup\nsetup(name={name!r}, version='1.0')\n"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


@attrs.define
class Index:
    """An index (PEP 503, and PEP 691 on request) of a folder, on this machine.

    asked: the path and the headers of each request. password: NAME:PASSWORD, without which each answer is 401. stalls:
    the path of a file of which only half is sent, until `go_on`.
    """

    folder: Path
    password: str = ""
    stalls: str = ""
    asked: list[tuple[str, Mapping[str, str]]] = attrs.field(factory=list)
    _server: http.server.ThreadingHTTPServer = attrs.field(init=False)
    _thread: threading.Thread = attrs.field(init=False)
    _stalled: threading.Event = attrs.field(init=False, factory=threading.Event)
    _going_on: threading.Event = attrs.field(init=False, factory=threading.Event)

    def __enter__(self) -> "Index":
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                index.asked.append((self.path, dict(self.headers)))
                code, kind, body = index._answer(self.path, self.headers)
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if code == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.end_headers()
                if self.command == "HEAD":
                    return
                if self.path == index.stalls:
                    half = len(body) // 2
                    self.wfile.write(body[:half])
                    index._stalled.set()
                    index._going_on.wait()
                    body = body[half:]
                with contextlib.suppress(OSError):  # the client has gone
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def wait_until_it_stalls(self) -> None:
        assert self._stalled.wait(timeout=100)

    def go_on(self) -> None:
        self._going_on.set()

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.password + '@' if self.password else ''}{self.host}/simple/"

    def said(self) -> str:
        """Returns all requests as text, with decoded passwords."""
        return repr(self.asked) + repr(
            [base64.b64decode(each) for each in re.findall(r"Basic (\S+?)'", repr(self.asked))]
        )

    def _answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        coded = base64.b64encode(self.password.encode()).decode()
        if self.password and headers.get("Authorization") != f"Basic {coded}":
            return 401, "text/plain", b""
        kind, _, name = path.strip("/").partition("/")
        if kind == "files" and (self.folder / name).is_file() and "/" not in name:
            return 200, "application/octet-stream", (self.folder / name).read_bytes()
        found = [each for each in self.folder.iterdir() if re.sub(r"[-_.]+", "-", each.name).startswith(f"{name}-")]
        if kind != "simple" or not found:
            return 404, "text/plain", b""
        hashes = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in found}
        if "json" in headers.get("Accept", ""):
            files = [
                {"filename": file, "url": f"/files/{file}", "hashes": {"sha256": each}} for file, each in hashes.items()
            ]
            body = json.dumps({"meta": {"api-version": "1.0"}, "name": name, "files": files})
            return 200, "application/vnd.pypi.simple.v1+json", body.encode()
        links = "".join(
            f'<a href="/files/{file}#sha256={each}">{html.escape(file)}</a>' for file, each in hashes.items()
        )
        return 200, "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
