"""Files of sessions over HTTP: refused early, written completely or not at all, in parts, and never whole in memory."""

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

pytest.importorskip("fastapi", reason="the service is served by FastAPI (extra server)")

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import StreamingResponse

from proxybox.serve.downloads import _answer, download
from proxybox.serve.wiredata import ReadyToGive
from proxybox.serve.workers import Transfer
from tests.classroom.attacking import patiently, read_all
from tests.serve.conftest import Server, serving
from tests.serve.test_kills import workers

_MIB: Final = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = """listen = "127.0.0.1:0"
workers = 1
slots = 1
live = 4
[limits]
body = "1M"
file = "80M"
[policies.default]
extends = "default"
limits = { disk = "200M", files = 40 }
session = { branches = 2 }
"""
    with serving(tmp_path_factory.mktemp("files"), config) as server:
        yield server


@pytest.fixture
def session(server: Server) -> Iterator[str]:
    session = server.session(limits={"disk": "1M", "files": 40})
    yield session
    server.http.delete(session)


def put(server: Server, session: str, path: str, content: bytes | Iterator[bytes], **more: object) -> httpx.Response:
    return server.http.put(f"{session}/files/{path}", content=content, params=more)  # type: ignore[arg-type]


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_refused_file_leaves_the_one_that_was_there(server: Server, session: str) -> None:
    assert put(server, session, "data", b"old").status_code == 204
    refused = put(server, session, "data", bytes(2 * _MIB))
    assert (refused.status_code, refused.json()["type"]) == (507, "urn:proxybox:disk-limit")
    assert "limits.disk" in refused.json()["detail"]
    in_chunks = put(server, session, "data", (bytes(1 << 16) for _ in range(40)))
    assert (in_chunks.status_code, in_chunks.json()["type"]) == (507, "urn:proxybox:disk-limit")
    assert server.http.get(f"{session}/files/data").content == b"old"
    assert server.execute(session, "import os; print(os.listdir())")["stdout"] == "['data']\n"


def test_a_file_is_refused_before_it_comes(server: Server, session: str) -> None:
    """The client waits for the status 100 before it sends the file (RFC 9110, section 10.1.1), and gets another one."""
    sizes = {2 * _MIB: b"507", 100 * _MIB: b"413", _MIB // 2: b"100"}
    for size, status in sizes.items():
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as line:
            head = f"PUT {session}/files/large HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n"
            line.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert line.recv(1 << 16).split()[1] == status


def test_the_limit_of_one_file_is_named(server: Server, session: str) -> None:
    refused = put(server, session, "data", bytes(81 * _MIB))
    assert (refused.status_code, refused.json()["type"]) == (413, "urn:proxybox:too-large")


def test_a_client_that_leaves_changes_nothing(server: Server, session: str) -> None:
    assert put(server, session, "data", b"old").status_code == 204
    before = len(server.log.read_text())
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60) as line:
        head = f"PUT {session}/files/data HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
        line.sendall(head.encode() + bytes(1000))
        line.shutdown(socket.SHUT_WR)
        read_all(line)
    assert server.http.get(f"{session}/files/data").content == b"old"
    assert patiently(lambda: f"PUT {session}/files/data 499" in server.log.read_text())
    assert "Traceback" not in server.log.read_text()[before:]
    for _ in range(8):  # all lines of the worker can be used
        assert put(server, session, "data", b"new").status_code == 204


@pytest.mark.parametrize(("path", "status", "number"), [
    ("/etc/passwd", 409, "EACCES"), ("nowhere/x", 409, "ENOENT"), (".", 409, "EISDIR"), ("/dev/null", 409, "EINVAL"),
])  # fmt: skip
def test_files_that_cannot_be_written(server: Server, session: str, path: str, status: int, number: str) -> None:
    for content in (b"x", iter((b"x", b"y"))):
        refused = put(server, session, path.replace(".", "%2e") if path == "." else path, content)
        assert (refused.status_code, refused.json()["errno"]) == (status, number)


def test_a_new_file_takes_the_place_of_the_old_one(server: Server, session: str) -> None:
    """It has the old one's mode. A program that has opened the old file keeps that one. Hard links change together."""
    put(server, session, "a", b"old")
    put(server, session, "two", b"one")
    code = "import os\nos.chmod('a', 0o640)\nheld = open('a')\nos.symlink('a', 'link')"
    server.execute(session, f"{code}\nos.mkdir('folder')\nos.link('two', 'names')")
    assert put(server, session, "link", b"new").status_code == 204
    assert put(server, session, "names", b"both").status_code == 204
    code = "print(held.read(), open('a').read(), oct(os.stat('a').st_mode), os.path.islink('link'), open('two').read())"
    assert server.execute(session, code)["stdout"] == "old new 0o100640 True both\n"
    assert put(server, session, "deep/er/x", b"x").status_code == 409
    assert put(server, session, "deep/er/x", b"x", parents=True).status_code == 204
    listed = server.http.get(f"{session}/files", params={"path": "."}).json()["entries"]
    assert [entry["name"] for entry in listed] == ["a", "deep", "folder", "link", "names", "two"]


def test_there_is_room_for_a_file_that_takes_the_place_of_its_like(server: Server, session: str) -> None:
    """The old file's size counts as free."""
    for content in (bytes(900_000), bytes([1]) * 950_000, b"small", bytes([2]) * 1_000_000):
        assert put(server, session, "data", content).status_code == 204
        assert server.http.get(f"{session}/files/data").content == content
    assert put(server, session, "other", bytes(100_000)).status_code == 507


def test_the_number_of_files_is_a_limit_that_is_named(server: Server, session: str) -> None:
    server.execute(session, "import os\nwhile True:\n    open(str(len(os.listdir())), 'w').close()")
    refused = put(server, session, "another", b"")
    assert (refused.status_code, "limits.files" in refused.json()["detail"]) == (507, True)
    assert put(server, session, "0", b"in its place").status_code == 204


def test_a_file_comes_while_a_call_runs_and_is_there_when_it_has_ended(server: Server, session: str) -> None:
    """The upload may take long: it needs the session only at its end."""
    begun = threading.Event()

    def content() -> Iterator[bytes]:
        yield b"first, "
        begun.set()
        calling.join()
        yield b"second"

    def call() -> None:
        begun.wait()
        server.execute(session, "import os; seen = os.listdir()")

    calling = threading.Thread(target=call)
    calling.start()
    with server.client() as http:
        answer = http.put(f"{session}/files/data", content=content())
    assert answer.status_code == 204
    assert server.execute(session, "print(seen, open('data').read())")["stdout"] == "[] first, second\n"


def test_a_full_disk_of_the_host_takes_no_line_of_a_worker(server: Server, session: str) -> None:
    """The rest of a file that could not be written must not be read as the worker's next job."""
    (worker,) = workers(server)
    former = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (_MIB, former[1]))
    try:
        large = server.session(limits={"disk": "100M"})
        seen = [put(server, large, "f", bytes(8 * _MIB)) for _ in range(4)]  # as many as the worker has lines
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, former)
    assert [answer.status_code for answer in seen] == [500] * 4
    assert "internal-error" in seen[0].text
    assert [put(server, large, "f", b"small").status_code for _ in range(4)] == [204] * 4
    assert server.http.get(f"{large}/files/f").content == b"small"
    server.http.delete(large)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_parts_tags_and_conditions(server: Server, session: str) -> None:
    content = bytes(range(256)) * 10
    put(server, session, "data", content)
    url = f"{session}/files/data"
    whole, head = server.http.get(url), server.http.head(url)
    tag = f'"{hashlib.sha256(content).hexdigest()}"'
    assert (whole.status_code, whole.content, whole.headers["etag"]) == (200, content, tag)
    for name in ("etag", "content-length", "accept-ranges", "content-type", "content-disposition"):
        assert head.headers[name] == whole.headers[name]
    assert (head.status_code, head.content) == (200, b"")
    part = server.http.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, content[10:20], "bytes 10-19/2560")
    none = server.http.get(url, headers={"Range": "bytes=2560-"})
    assert (none.status_code, none.headers["content-range"]) == (416, "bytes */2560")
    assert none.json()["type"] == "urn:proxybox:range"
    same = server.http.get(url, headers={"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert server.http.head(url, headers={"If-None-Match": f'"x", W/{tag}'}).status_code == 304
    put(server, session, "data", content[::-1])
    assert server.http.get(url, headers={"If-None-Match": tag}).status_code == 200
    assert server.http.get(url, headers={"Range": "bytes=0-9", "If-Range": tag}).status_code == 200
    assert server.http.head(f"{session}/files/nowhere").status_code == 409


@pytest.mark.full
def test_a_tag_is_of_the_content_where_clocks_stand_still(tmp_path: Path) -> None:
    config = 'workers = 1\nslots = 1\nlive = 2\n[policies.default]\ntime = { kind = "frozen", start = 0 }\n'
    with serving(tmp_path, config) as server:
        session = server.session()
        tags = []
        for text in ("one", "two"):
            server.execute(session, f"with open('data', 'w') as file: file.write('{text}')")
            tags.append(server.http.head(f"{session}/files/data").headers["etag"])
        assert tags[0] != tags[1]


@pytest.mark.parametrize(("wanted", "status", "part"), [
    ("", 200, (0, 100)), ("bytes=0-", 206, (0, 100)), ("bytes=0-0", 206, (0, 1)), ("bytes=99-99", 206, (99, 100)),
    ("bytes=90-1000", 206, (90, 100)), ("bytes=-5", 206, (95, 100)), ("bytes=-1000", 206, (0, 100)),
    ("Bytes = 5 - 6", 206, (5, 7)), ("bytes=100-", 416, (0, 0)), ("bytes=100-200", 416, (0, 0)),
    ("bytes=-0", 416, (0, 0)), ("bytes=6-5", 200, (0, 100)), ("bytes=-", 200, (0, 100)), ("bytes=", 200, (0, 100)),
    ("bytes=0-1,3-4", 200, (0, 100)), ("lines=0-1", 200, (0, 100)), ("bytes=x-y", 200, (0, 100)),
    ("bytes=0-" + "9" * 30, 200, (0, 100)), ("bytes=--5", 200, (0, 100)),
])  # fmt: skip
def test_which_part_is_wanted(wanted: str, status: int, part: tuple[int, int]) -> None:
    answered = _answer("GET", Headers({"range": wanted}), 100, '"x"')
    assert (answered[0], answered[2:]) == (status, part)
    if status == 206:
        assert answered[1]["Content-Length"] == str(part[1] - part[0])


def test_a_part_of_nothing_cannot_be_had() -> None:
    assert _answer("GET", Headers({"range": "bytes=0-"}), 0, '"x"')[0] == 416
    assert _answer("GET", Headers({}), 0, '"x"')[0] == 200


# --- large ones -------------------------------------------------------------------------------------------------------


def _peak(pid: int) -> int:
    """Returns the peak of a process's resident memory, in bytes (proc_pid_status(5))."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


def test_a_large_file_is_never_whole_in_the_memory_of_the_service(server: Server) -> None:
    session = server.session()
    piece, count = os.urandom(_MIB), 64
    assert put(server, session, "small", piece).status_code == 204
    server.http.get(f"{session}/files/small")
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    before = _peak(server.process.pid)
    assert put(server, session, "large", (piece for _ in range(count))).status_code == 204
    digest, size = hashlib.sha256(), 0
    with server.http.stream("GET", f"{session}/files/large") as answer:
        for got in answer.iter_bytes():
            digest.update(got)
            size += len(got)
    assert (size, f'"{digest.hexdigest()}"') == (count * _MIB, answer.headers["etag"])
    grown = _peak(server.process.pid) - before
    print(f"grown by {grown >> 10} KiB")
    assert grown < 16 * _MIB
    server.http.delete(session)


def test_a_client_that_reads_no_further_holds_nothing_up(server: Server) -> None:
    session = server.session()
    put(server, session, "large", (bytes(_MIB) for _ in range(32)))
    with server.client() as slow, slow.stream("GET", f"{session}/files/large") as answer:
        pieces = answer.iter_raw(1000)
        assert len(next(pieces)) == 1000
        assert server.execute(session, "open('large', 'w').close()")["error"] is None
    for _ in range(8):
        assert server.http.get(f"{session}/files/large").content == b""
    server.http.delete(session)


def test_the_end_of_a_download_that_nobody_reads_waits_for_nobody() -> None:
    """Otherwise each of them leaves a task, and a log line when the task is collected."""
    asyncio.run(asyncio.wait_for(_a_download_that_nobody_reads(), 20))


async def _a_download_that_nobody_reads() -> None:
    scope = {"type": "http", "method": "GET", "headers": [], "path": "/", "query_string": b""}

    async def work(transfer: Transfer) -> bytes:
        async for _ in transfer.on_ready(ReadyToGive(size=3, digest="0" * 64)):
            pass
        while True:
            await transfer.on_data(b"piece")

    before = asyncio.all_tasks()
    answer = await download(Request(scope), work)
    assert isinstance(answer, StreamingResponse)
    (doing,) = asyncio.all_tasks() - before
    for _ in range(5):
        await asyncio.sleep(0)
    doing.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    read = [piece async for piece in _until_cancelled(answer.body_iterator)]
    assert read == [b"piece"] * 2


async def _until_cancelled(pieces: AsyncIterator[Any]) -> AsyncIterator[Any]:
    with contextlib.suppress(asyncio.CancelledError):
        async for piece in pieces:
            yield piece


def test_who_gives_up_a_download_interrupts_no_call(server: Server) -> None:
    session = server.session()
    put(server, session, "large", (bytes(_MIB) for _ in range(32)))
    with server.http.stream("POST", f"{session}/execute", json={"code": "input()", "interactive": True},
                            headers={"Accept": "application/x-ndjson"}) as call:  # fmt: skip
        lines = call.iter_lines()
        while "input_request" not in next(lines):
            pass
        for command in ("large", "nothing"):
            with server.client() as http, http.stream("GET", f"{session}/files/{command}") as answer:
                assert answer.status_code == 409
        assert server.post(f"{session}/input", {"text": "x\n"}).status_code == 204
        assert json.loads(list(lines)[-1])["result"]["error"] is None
    with server.client() as slow, slow.stream("GET", f"{session}/files/large") as answer:
        pieces = answer.iter_raw(1000)
        next(pieces)
    assert patiently(lambda: f"GET {session}/files/large 200" in server.log.read_text())
    assert server.execute(session, "1")["error"] is None
    server.http.delete(session)


# --- beside others ----------------------------------------------------------------------------------------------------


def test_files_that_are_slow_on_their_way_hold_up_no_call(server: Server) -> None:
    """Also of the same key: calls of sessions have lines of their own."""
    session = server.session(limits={"disk": "100M"})
    begun = f"PUT {session}/files/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000000\r\n\r\nx".encode()
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with contextlib.ExitStack() as open_ones:
        for _ in range(3):  # all that one key may have at once
            open_ones.enter_context(socket.create_connection(address)).sendall(begun)
        assert patiently(lambda: 'proxybox_in_use{kind="file"} 3.0' in server.http.get("/metrics").text)
        assert server.execute(session, "print('called')")["stdout"] == "called\n"
    assert server.http.delete(session).status_code == 204


@pytest.mark.full
def test_a_file_has_so_much_time(tmp_path: Path) -> None:
    config = """listen = "127.0.0.1:0"
workers = 1
slots = 1
live = 4
[limits]
file = "64K"
[connections]
time = "1s"
"""
    with serving(tmp_path, config) as server:
        session = server.session()
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=60) as line:
            line.sendall(f"PUT {session}/files/f HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n".encode())
            answer = b""
            line.settimeout(0.1)
            for _ in range(600):  # faster than connections.rate, and slower than a file must be
                with contextlib.suppress(TimeoutError):
                    answer += line.recv(1_000)
                    break
                line.sendall(b"x" * 300)
            line.settimeout(60)
            answer += read_all(line)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"too slow on its way" in answer
        assert put(server, session, "f", b"x" * 60_000).status_code == 204
