"""Attacks on connections by bytes on a socket: the same for a service and a classroom, which share their middleware."""

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

pytest.importorskip("fastapi", reason="services are served by FastAPI (extra server)")

from tests.classroom.attacking import Target, patiently, read_all, target
from tests.serve.conftest import Server, serving, serving_two

#: The most bytes of a flood, and the growth of the server's memory that is allowed, in bytes.
_FLOOD, _GROWTH = 24 << 20, 48 << 20
_HEAD: Final = b"HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@attrs.frozen
class Place:
    """A service or a classroom. page: a public path. asks: the head of a request whose body is read."""

    name: str
    pid: int
    port: int
    log: Path
    page: bytes
    asks: bytes

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def answers(self, request: bytes) -> list[bytes]:
        """Returns the statuses of all answers to these bytes. The server must close the connection."""
        with self.connect() as line:
            line.sendall(request)
            return re.findall(rb"HTTP/1\.1 (\d{3}) ", read_all(line))

    def is_well(self) -> bool:
        """Returns whether another client is served."""
        return self.answers(b"GET %s %sConnection: close\r\n\r\n" % (self.page, _HEAD)) == [b"200"]

    def memory(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str, str]]:
    config = 'listen = "127.0.0.1:0"\nworkers = 1\nslots = 1\nlive = 8\n[limits]\nbody = "1M"\nqueue = 8\n'
    with serving_two(tmp_path_factory.mktemp("edge"), config) as (server, one, other):
        yield server, one, other


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("classroom")) as room:
        yield room


@pytest.fixture(scope="module", params=["serve", "classroom"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "serve":
        server, key, _ = request.getfixturevalue("service")
        asks = (
            b"POST /v1/run " + _HEAD + b"Authorization: Bearer %s\r\nContent-Type: application/json\r\n" % key.encode()
        )
        port = int(server.url.rpartition(":")[2])
        return Place("serve", server.process.pid, port, server.log, b"/v1/health", asks)
    room: Target = request.getfixturevalue("room")
    cookie = "; ".join(f"{name}={value}" for name, value in room.join().http.cookies.items())
    origin = f"Host: 127.0.0.1:{room.port}\r\nOrigin: {room.url}\r\nCookie: {cookie}\r\n"
    asks = f"PUT /api/exercises/double/files HTTP/1.1\r\n{origin}Content-Type: application/json\r\n".encode()
    return Place("classroom", room.process.pid, room.port, room.log, b"/static/style.css", asks)


# --- forms ------------------------------------------------------------------------------------------------------------

_POST: Final = b"POST /nowhere " + _HEAD
_CHUNKED: Final = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
#: Requests that two programs could understand differently, or that no server must accept, with the refusal's status.
_FORMS: Final = {
    "a length and chunks": (_POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks and a length": (_POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    "two equal lengths": (_POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "two lengths": (_POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", 400),
    "a list of lengths": (_POST + b"Content-Length: 4, 4\r\n\r\nabcd", 400),
    "a length with a sign": (_POST + b"Content-Length: +4\r\n\r\nabcd", 400),
    "an empty length": (_POST + b"Content-Length:\r\n\r\n", 400),
    "a length in another base": (_POST + b"Content-Length: 0x4\r\n\r\nabcd", 400),
    "a length with an underscore": (_POST + b"Content_Length: 4\r\n\r\nabcd", 400),
    "a coding with an underscore": (_POST + b"Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "an unknown coding": (_POST + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
    "a coding before chunks": (_POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "a coding after chunks": (_POST + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400),
    "two codings": (_POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a coding after a tab": (_POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n", 400),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "lines without CR": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "a folded line": (b"GET / " + _HEAD + b"X: 1\r\n Authorization: b\r\n\r\n", 400),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\nHost: b\r\n\r\n", 400),
    "a field without a name": (b"GET / " + _HEAD + b": a\r\n\r\n", 400),
    "a field without a colon": (b"GET / " + _HEAD + b"X\r\n\r\n", 400),
    "CR in a value": (b"GET / " + _HEAD + b"X: a\rAuthorization: b\r\n\r\n", 400),
    "NUL in a value": (b"GET / " + _HEAD + b"X: a\0b\r\n\r\n", 400),
    "NUL in a name": (b"GET / " + _HEAD + b"X\0: a\r\n\r\n", 400),
    "two hosts": (b"GET / " + _HEAD + b"Host: evil.example\r\n\r\n", 400),
    "the same host twice": (b"GET / " + _HEAD + b"Host: 127.0.0.1\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a host with a user": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1@evil.example\r\n\r\n", 400),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1/x\r\n\r\n", 400),
    "two keys": (b"GET / " + _HEAD + b"Authorization: a\r\nAuthorization: b\r\n\r\n", 400),
    "two origins": (b"GET / " + _HEAD + b"Origin: http://a\r\nOrigin: http://b\r\n\r\n", 400),
    "two content types": (_POST + b"Content-Type: text/plain\r\nContent-Type: application/json\r\n\r\n", 400),
    "another host's address": (b"GET http://evil.example/ " + _HEAD + b"\r\n", 400),
    "an address with a user": (b"GET http://a@127.0.0.1/ " + _HEAD + b"\r\n", 400),
    "a proxy's request": (b"CONNECT evil.example:443 " + _HEAD + b"\r\n", 405),
    "a star": (b"GET * " + _HEAD + b"\r\n", 400),
    "a fragment": (b"GET /#/../admin " + _HEAD + b"\r\n", 400),
    "a target that is no ASCII": (b"GET /\xc3\xa9 " + _HEAD + b"\r\n", 400),
    "a space in the target": (b"GET /a HTTP/1.1 " + _HEAD + b"\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 505),
    "a later version": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "no such version": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a method in small letters": (b"get / " + _HEAD + b"\r\n", 400),
    "an unknown expectation": (_POST + b"Expect: everything\r\nContent-Length: 1\r\n\r\na", 417),
    "a chunk's extension with LF": (_CHUNKED + b"3;a=\nb\r\nabc\r\n0\r\n\r\n", 400),
    "chunks without CR": (_CHUNKED + b"3\nabc\n0\n\n", 400),
    "a chunk's size in another base": (_CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk's size with a sign": (_CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk's size with a space": (_CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", 400),
    "a chunk's size beyond 64 bits": (_CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk that does not end": (_CHUNKED + b"3\r\nabcXX0\r\n\r\n", 400),
    "a length in the trailer": (_CHUNKED + b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n", 400),
    "a second request after garbage": (b"GARBAGE\r\n\r\nGET / " + _HEAD + b"\r\n", 400),
    "many fields": (b"GET / " + _HEAD + b"X: 1\r\n" * 101 + b"\r\n", 431),
}


@pytest.mark.parametrize("form", _FORMS)
def test_what_can_be_read_in_two_ways_is_refused(place: Place, form: str) -> None:
    """A request with wrong framing of its body may get an early answer: its door need not have read the body."""
    request, status = _FORMS[form]
    answers = place.answers(request)
    assert len(answers) <= 1, answers
    early = (b"401", b"403", b"404") if request.startswith(_CHUNKED) else ()
    assert not answers or answers[0] in (b"%d" % status, *early)
    assert answers or request.startswith(_CHUNKED)


#: Requests that are unusual and unambiguous.
_ALLOWED: Final = {
    "HTTP/1.0": b"GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n",
    "empty lines before": b"\r\n\r\nGET %s " + _HEAD + b"Connection: close\r\n\r\n",
    "the own address": b"GET http://127.0.0.1%s " + _HEAD + b"Connection: close\r\n\r\n",
    "an upgrade that is not to be had": b"GET %s " + _HEAD
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    "a field with high bytes": b"GET %s " + _HEAD + b"X: \xe9\r\nConnection: close\r\n\r\n",
    "a body that means nothing": b"GET %s " + _HEAD + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc",
}  # fmt: skip


@pytest.mark.parametrize("form", _ALLOWED)
def test_what_is_unusual_and_means_one_thing_is_answered(place: Place, form: str) -> None:
    assert place.answers(_ALLOWED[form] % place.page) == [b"200"]


def test_two_requests_at_once_have_two_answers(place: Place) -> None:
    one = b"GET %s %s" % (place.page, _HEAD)
    assert place.answers(one + b"\r\n" + one + b"Connection: close\r\n\r\n") == [b"200", b"200"]


def test_a_trailer_is_no_header(service: tuple[Server, str, str]) -> None:
    server, key, _ = service
    request = b"POST /v1/run " + _HEAD + (
        b"Authorization: Bearer %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b'Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Request-Id: of-the-trailer\r\n\r\n' % key.encode()
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as line:
        line.sendall(request)
        answer = read_all(line)
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b"of-the-trailer" not in answer


# --- what has no end --------------------------------------------------------------------------------------------------


def _endless(begin: bytes, *pieces: bytes) -> Iterator[bytes]:
    yield begin
    sent = 0
    while sent < _FLOOD:
        for piece in pieces:
            yield piece
            sent += len(piece)


_LONG: Final = b"a" * (64 << 10)
_FIELDS: Final = b"".join(b"h%05d: x\r\n" % number for number in range(6_000))
#: Endless data that is not part of a body.
_FLOODS: Final[dict[str, Callable[[Place], Iterator[bytes]]]] = {
    "a field": lambda place: _endless(b"GET %s %sX: " % (place.page, _HEAD), _LONG),
    "the name of a field": lambda place: _endless(b"GET %s %s" % (place.page, _HEAD), _LONG),
    "fields": lambda place: _endless(b"GET %s %s" % (place.page, _HEAD), _FIELDS),
    "an address": lambda _: _endless(b"GET /", _LONG),
    "a method": lambda _: _endless(b"", _LONG),
    "an address after a request": lambda place: _endless(b"GET %s %s\r\nGET /" % (place.page, _HEAD), _LONG),
    "empty lines": lambda _: _endless(b"", b"\r\n" * (32 << 10)),
    "a trailer of one field": lambda place: _endless(
        place.asks + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", _LONG
    ),
    "a trailer of one field, unasked": lambda place: _endless(
        b"GET %s %sTransfer-Encoding: chunked\r\n\r\n0\r\nX: " % (place.page, _HEAD), _LONG
    ),
    "a trailer of many fields": lambda place: _endless(
        b"GET %s %sTransfer-Encoding: chunked\r\n\r\n0\r\n" % (place.page, _HEAD), _FIELDS
    ),
    "a chunk's extension": lambda place: _endless(place.asks + b"Transfer-Encoding: chunked\r\n\r\n1;a=", _LONG),
    "chunks with long extensions": lambda place: _endless(
        b"GET %s %sTransfer-Encoding: chunked\r\n\r\n" % (place.page, _HEAD), b"1;" + _LONG[:1000] + b"\r\na\r\n"
    ),
    "chunks of one byte": lambda place: _endless(
        b"GET %s %sTransfer-Encoding: chunked\r\n\r\n" % (place.page, _HEAD), b"1\r\na\r\n" * 10_000
    ),
    "a body that nobody reads": lambda place: _endless(
        b"POST /nowhere %sContent-Length: 999999999\r\n\r\n" % _HEAD, _LONG
    ),
    "requests": lambda place: _endless(b"", b"GET %s %s\r\n" % (place.page, _HEAD) * 500),
}  # fmt: skip


@pytest.mark.parametrize("flood", _FLOODS)
def test_what_has_no_end_is_cut_off(place: Place, flood: str) -> None:
    """The answers are not read, so that endless requests are cut off, too."""
    before = place.memory()
    with place.connect() as line, contextlib.suppress(ConnectionError):
        line.settimeout(120)
        for piece in _FLOODS[flood](place):
            line.sendall(piece)
        pytest.fail(f"{_FLOOD:,} bytes were taken")
    assert place.is_well()
    assert place.memory() - before < _GROWTH


# --- who goes away ----------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_in_the_middle_of_a_body_is_one_line(place: Place) -> None:
    assert place.is_well()
    said = place.log.read_text()
    for body in (b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"):
        if place.name == "classroom" and b"chunked" in body:
            continue  # the classroom takes no chunks
        with place.connect() as line:
            line.sendall(place.asks + body)
            line.shutdown(socket.SHUT_WR)
            read_all(line)
    mark = f"GET /nowhere-{place.name} HTTP/1.1\r\nHost: 127.0.0.1:{place.port}\r\nConnection: close\r\n\r\n"
    place.answers(mark.encode())
    if place.name == "serve":  # repeated, because earlier tests may have used up the log lines of this second
        assert patiently(lambda: "/nowhere-serve" in place.log.read_text() or not place.answers(mark.encode()))
    new = [line for line in place.log.read_text()[len(said) :].splitlines() if line]
    new = [line for line in new if "/nowhere-serve" not in line and "more requests" not in line]
    assert not [line for line in new if "Traceback" in line or "Error" in line], new
    if place.name == "serve":
        assert len([line for line in new if "POST /v1/run 499" in line]) == 2, new
        assert len(new) == 2, new


def test_what_is_no_request_fills_no_log(place: Place) -> None:
    before = place.log.read_text().count("Invalid HTTP request")
    began = time.monotonic()
    for _ in range(100):
        assert place.answers(b"no request\r\n\r\n") == [b"400"]
    seconds = time.monotonic() - began
    assert place.log.read_text().count("Invalid HTTP request") - before <= 10 * (int(seconds) + 2)


# --- WebSockets -------------------------------------------------------------------------------------------------------


def _frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Returns a client's frame with a mask of zeros (RFC 6455, section 5.2)."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4) + data


@contextlib.contextmanager
def _websocket(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=120) as line:
        line.sendall(
            b"GET /v1/socket " + _HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += line.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 ")
        yield line


#: Messages before the client has sent a key, and the code with which each ends (RFC 6455, section 7.4.1).
_BEFORE_A_KEY: Final = {
    "a large message": (_frame(1, b"a" * 60_000, fin=False) + _frame(0, b"a" * 60_000), 1009),
    "empty frames": (_frame(1, b"", fin=False) + _frame(0, b"", fin=False) * 2_000, 1008),
    "nonsense": (_frame(1, b"{}"), 1008),
    "a wrong key": (_frame(1, b'{"do": "open", "key": "pbx_000000000000_x"}'), 1008),
}


@pytest.mark.sized(1)
@pytest.mark.parametrize("what", _BEFORE_A_KEY)
def test_what_comes_by_a_websocket_before_a_key_is_bounded(service: tuple[Server, str, str], what: str) -> None:
    sent, code = _BEFORE_A_KEY[what]
    with _websocket(service[0]) as line, contextlib.suppress(ConnectionError):
        line.sendall(sent)
        said = read_all(line)
        at = said.rindex(code.to_bytes(2, "big"))
        assert said[at - 2] == 0x88


@pytest.mark.parametrize("what", ["pings", "messages that are answered", "frames of a message that was refused"])
def test_a_websocket_that_does_not_read_takes_no_memory(service: tuple[Server, str, str], what: str) -> None:
    """The server stops reading, so that the client's data waits in the kernel."""
    server, key, _ = service
    opening = _frame(1, json.dumps({"do": "open", "key": key}).encode())
    begin, piece = {
        "pings": (opening, _frame(9, b"p" * 125) * 500),
        "messages that are answered": (opening, _frame(1, b'{"do": "nonsense"}') * 500),
        "frames of a message that was refused": (_frame(1, fin=False), _frame(0, fin=False) * 10_000),
    }[what]
    memory = Path(f"/proc/{server.process.pid}/statm")
    before = int(memory.read_text().split()[1])
    with _websocket(server) as line:
        line.settimeout(1)  # then the kernel's buffers are full
        with contextlib.suppress(TimeoutError, ConnectionError):
            for each in _endless(begin, piece):
                line.sendall(each)
            pytest.fail(f"{_FLOOD:,} bytes were taken")
        assert server.http.get("/v1/health").status_code == 200
        assert (int(memory.read_text().split()[1]) - before) * os.sysconf("SC_PAGE_SIZE") < _GROWTH


@pytest.mark.full
def test_a_websocket_whose_first_message_does_not_come_is_closed(tmp_path: Path) -> None:
    config = 'listen = "127.0.0.1:0"\nworkers = 1\nslots = 1\nlive = 1\n[connections]\ntime = "1s"\n'
    with serving(tmp_path, config) as server:
        with _websocket(server) as line:
            said = read_all(line)
        assert said[0] == 0x88
        assert said[2:4] == (1008).to_bytes(2, "big")
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as line:
            line.sendall(b"POST /v1/run " + _HEAD + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
            assert read_all(line).startswith(b"HTTP/1.1 408 ")  # the same without the body
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as line:
            line.sendall(b"GET / HTTP/1.1\r\n")
            assert read_all(line).startswith(b"HTTP/1.1 408 ")  # the same without the rest of the header


def test_messages_of_all_sockets_of_a_key_that_do_not_come_whole_are_bounded(tmp_path: Path) -> None:
    config = (
        'listen = "127.0.0.1:0"\nworkers = 1\nslots = 1\nlive = 4\n[limits]\nbody = "1M"\n'
        '[connections]\nunread = "4M"\n'
    )
    with serving_two(tmp_path, config) as (server, one, other), contextlib.ExitStack() as open_ones:
        of_key = {"Authorization": f"Bearer {one}"}
        session = server.post("/v1/sessions", {}, headers=of_key).json()["id"]
        attach = _frame(1, json.dumps({"do": "attach", "key": one, "session": session}).encode())
        part = _frame(1, b" " * 60_000, fin=False) + _frame(0, b" " * 60_000, fin=False) * 14
        held = 0
        for _ in range(10):
            line = open_ones.enter_context(_websocket(server))
            line.sendall(attach)
            assert b'"opened"' in line.recv(1_000)
            try:
                line.sendall(part)
                line.sendall(_frame(9, b"is it well?"))
                held += line.recv(1) == b"\x8a"  # a pong; otherwise it was closed or reset
            except ConnectionError:
                pass
        assert held == 4
        assert server.http.get("/v1/health").status_code == 200
        with _websocket(server) as line:  # the other key has its own bound, at the same address
            line.sendall(_frame(1, json.dumps({"do": "open", "key": other}).encode()))
            assert b'"opened"' in line.recv(1_000)
            line.sendall(part + _frame(9))
            assert line.recv(1) == b"\x8a"


def test_whole_messages_of_a_key_have_room_or_are_refused(tmp_path: Path) -> None:
    config = 'listen = "127.0.0.1:0"\nworkers = 1\nslots = 1\nlive = 4\n[limits]\nbody = "1M"\nbodies = "1M"\n'
    with serving_two(tmp_path, config) as (server, one, _), contextlib.ExitStack() as open_ones:
        lines = [open_ones.enter_context(_websocket(server)) for _ in range(2)]
        code = "import time; time.sleep(1000)" + " " * 600_000
        whole = json.dumps({"do": "execute", "code": code}).encode()
        pieces = [whole[at : at + 60_000] for at in range(0, len(whole), 60_000)]
        said = []
        for line in lines:
            line.sendall(_frame(1, json.dumps({"do": "open", "key": one}).encode()))
            assert b'"opened"' in line.recv(1_000)
            for at, piece in enumerate(pieces):
                line.sendall(_frame(0 if at else 1, piece, fin=at == len(pieces) - 1))
            answer = line.recv(1_000)
            while b'"started"' not in answer:
                answer += line.recv(1_000)
            said.append(answer)
        while b"urn:proxybox:rate-limited" not in said[1]:
            said[1] += (more := lines[1].recv(1_000))
            assert more, said[1]
        lines[0].sendall(_frame(1, b'{"do": "interrupt"}'))
        while b'"finished"' not in said[0]:
            said[0] += (more := lines[0].recv(10_000))
            assert more, said[0]


# --- one key beside another -------------------------------------------------------------------------------------------


def test_a_key_holds_no_more_memory_than_its_share(service: tuple[Server, str, str]) -> None:
    """Of forty waiting requests of 1 MB, those beyond the share are not read, and those beyond the queue refused."""
    server, one, other = service
    port = int(server.url.rpartition(":")[2])
    code = "import time\ntime.sleep(0.2)"
    body = json.dumps({"code": code, "files": {"x.txt": "é" * 500_000}}, ensure_ascii=False).encode()
    head = b"POST /v1/run %sAuthorization: Bearer %s\r\nContent-Type: application/json\r\nConnection: close\r\n" % (
        _HEAD, one.encode(),
    )  # fmt: skip
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    answers: list[bytes] = []

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=100) as line:
            with contextlib.suppress(ConnectionError):
                line.sendall(request)
            answers.append(read_all(line))

    memory = Path(f"/proc/{server.process.pid}/statm")
    before, most = int(memory.read_text().split()[1]), 0
    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    statuses = set()
    while any(thread.is_alive() for thread in threads):
        most = max(most, int(memory.read_text().split()[1]))
        answer = server.post("/v1/run", {"code": "1"}, headers={"Authorization": f"Bearer {other}"})
        statuses.add(answer.status_code)
    assert (most - before) * os.sysconf("SC_PAGE_SIZE") < 80 << 20
    assert statuses == {200}
    seen = [re.match(rb"HTTP/1.1 (\d{3}) ", answer) for answer in answers]
    codes = {match[1] for match in seen if match}
    assert codes == {b"200", b"429"}, codes
    assert all(b"\r\nretry-after: " in answer for answer in answers if answer.startswith(b"HTTP/1.1 429 "))
