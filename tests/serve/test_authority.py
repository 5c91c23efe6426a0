"""The life of a key: what ends with it, and that a service with keys never becomes open again."""

import asyncio
import contextlib
import functools
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxybox.serve.keys import Keys
from tests.serve.conftest import Server, serving
from tests.serve.listening import service

websockets = pytest.importorskip("websockets", reason="the WebSocket needs the package websockets")

SMALL = "workers = 1\nslots = 4\nlive = 8\n"
#: Seconds within which everything must end, on a busy machine.
SOON = 20.0
ENDLESS = "print('on', flush=True)\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass"


def proxybox(*words: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command, like an operator: in another process than the service."""
    command = [sys.executable, "-P", "-m", "proxybox", "serve", "keys", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until a condition holds; fails when it does not within `SOON`."""
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end, "it has not come to that"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Keys]]:
    """A service on loopback with keys; at the start its folder contains only their file."""
    folder = tmp_path_factory.mktemp("authority")
    keys = Keys(folder / "data" / "keys.json")
    keys.add("first")
    limits = "[limits]\nconcurrency = 4\nlive = 8\n"
    with serving(folder, f"{SMALL}{limits}") as server:
        yield server, keys


def run(server: Server, key: str = "", **more: Any) -> httpx.Response:
    headers = {**(bearer(key) if key else {}), **more}
    return server.http.post("/v1/run", json={"code": "print(1)"}, headers=headers)


# --- it never opens again ---------------------------------------------------------------------------------------------


def test_a_service_closes_with_its_first_key_and_stays_closed(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with serving(tmp_path, SMALL) as server:
        assert run(server).status_code == 200
        key = proxybox("add", "only", "--data", data).stdout.strip()
        assert [run(server).status_code, run(server, key).status_code] == [401, 200]
        assert proxybox("revoke", "only", "--data", data).returncode == 0
        assert [run(server).status_code, run(server, key).status_code] == [401, 401]
        (tmp_path / "data" / "keys.json").unlink()
        assert [run(server).status_code, run(server, key).status_code] == [503, 503]
        answer = server.http.get("/v1/policies")
        assert answer.json()["detail"] == "its keys cannot be read"
    ended = subprocess.run(service(tmp_path / "serve.toml"), capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 125
    assert "the file of keys is missing, though keys were made" in ended.stderr
    again = proxybox("add", "again", "--data", data).stdout.strip()
    with serving(tmp_path, SMALL) as server:
        assert [run(server).status_code, run(server, again).status_code] == [401, 200]


@pytest.mark.sized(1)
@pytest.mark.parametrize(("content", "said"), [
    (None, "no such file of keys, which the configuration names"), (b"", "not a file of keys"),
    (b"{}", "not a file of keys"),
])  # fmt: skip
def test_a_file_of_keys_that_is_named_has_to_be_one(tmp_path: Path, content: bytes | None, said: str) -> None:
    config = tmp_path / "serve.toml"
    config.write_text(f'listen = "unix:{tmp_path}/socket"\ndata = "data"\nkeys = "named.json"\n{SMALL}')
    if content is not None:
        (tmp_path / "named.json").write_bytes(content)
    ended = subprocess.run(service(config), capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 125, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_who_has_named_a_file_of_keys_once_needs_keys_for_good(tmp_path: Path) -> None:
    (tmp_path / "named.json").write_text('{"keys": []}')
    with serving(tmp_path, f'keys = "named.json"\n{SMALL}') as server:
        assert run(server).status_code == 401
        assert "no key is good, so nobody is let in" in server.log.read_text()
    with (
        pytest.raises(RuntimeError, match="the file of keys is missing, though keys were made"),
        serving(tmp_path, SMALL),
    ):
        pass


# --- what ends with a key ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def streaming(server: Server, path: str, body: dict[str, Any], key: str) -> Iterator[Iterator[dict[str, Any]]]:
    headers = {**bearer(key), "Accept": "application/x-ndjson"}
    with (
        server.client() as client,
        client.stream("POST", path, json=body, headers=headers, timeout=SOON) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        yield (json.loads(line) for line in answer.iter_lines())


def until(events: Iterator[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(event for event in events if event["event"] == name)


def test_a_run_ends_with_its_key(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key = keys.add("runs")
    with streaming(server, "/v1/run", {"code": ENDLESS, "timeout": 9}, key) as events:
        until(events, "stdout")
        keys.revoke("runs")
        seen = until(events, "failed")
        assert seen["problem"]["detail"] == "the key was revoked, or has expired"
        assert list(events) == []


def test_a_stream_that_nobody_reads_ends_with_its_key(keyed: tuple[Server, Keys]) -> None:
    """Its box and its answer end at once, however much data has not been read yet."""
    server, keys = keyed
    key = keys.add("unread")
    code = "while True: print('x' * 1000)"
    with streaming(server, "/v1/run", {"code": code}, key) as events:
        until(events, "stdout")
        keys.revoke("unread")
        wait_until_idle(server, keys)
        seen = []
        with contextlib.suppress(httpx.RemoteProtocolError):  # the answer is cut off, without a message
            seen += [event["event"] for event in events]
        assert "finished" not in seen


def wait_until_idle(server: Server, keys: Keys) -> None:
    """Waits until the metrics show no box in use."""
    operator = keys.add("operator", scope="metrics")
    try:
        metrics = functools.partial(server.http.get, "/metrics", headers=bearer(operator))
        eventually(lambda: 'proxybox_in_use{kind="run"} 0.0' in metrics().text)
    finally:
        keys.revoke("operator")


def test_a_session_and_its_call_end_with_their_key(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key, other = keys.add("sessions"), keys.add("others")
    mine, idle = (server.http.post("/v1/sessions", json={}, headers=bearer(key)).json()["id"] for _ in range(2))
    theirs = server.http.post("/v1/sessions", json={}, headers=bearer(other)).json()["id"]
    with streaming(server, f"/v1/sessions/{mine}/execute", {"code": ENDLESS}, key) as events:
        until(events, "stdout")
        keys.revoke("sessions")
        assert until(events, "failed")["problem"]["status"] == 401
    wanted = {(mine, "its key was revoked, or has expired"), (idle, "its key was revoked, or has expired")}
    eventually(lambda: ended_sessions(server, key) == wanted)
    assert server.http.get(f"/v1/sessions/{theirs}", headers=bearer(other)).status_code == 200
    keys.revoke("others")


def ended_sessions(server: Server, key: str) -> set[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(f"file:{server.data}/proxybox.sqlite?mode=ro", uri=True)) as database:
        query = "select id, reason from sessions where key = ? and state = 'ended'"
        return set(database.execute(query, (key.split("_")[1],)))


def in_a_loop(work: Any) -> None:
    asyncio.run(asyncio.wait_for(work, 3 * SOON))


@contextlib.asynccontextmanager
async def talking(server: Server, **options: Any) -> Any:
    path = server.url.removeprefix("unix:")
    async with websockets.unix_connect(path, "ws://localhost/v1/socket", **options) as connection:
        yield connection


async def only(connection: Any, event: str) -> None:
    """Receives messages of this kind until the connection is closed."""
    while True:
        assert json.loads(await connection.recv())["event"] == event


@pytest.mark.parametrize("doing", ["nothing", "a call"])
def test_a_websocket_ends_with_its_key_which_another_process_has_revoked(
    keyed: tuple[Server, Keys], doing: str
) -> None:
    server, keys = keyed
    key = keys.add("sockets")

    async def talk() -> None:
        async with talking(server) as connection:
            await connection.send(json.dumps({"do": "open", "key": key}))
            session = json.loads(await connection.recv())["session"]
            if doing == "a call":
                await connection.send(json.dumps({"do": "execute", "id": "1", "code": ENDLESS}))
                while json.loads(await connection.recv())["event"] != "stdout":
                    pass
            revoked = await asyncio.to_thread(proxybox, "revoke", "sockets", "--data", str(server.data))
            assert revoked.returncode == 0
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await only(connection, "failed")
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "the key was revoked, or has expired")
            while session not in {identity for identity, _ in ended_sessions(server, key)}:
                await asyncio.sleep(0)

    in_a_loop(talk())


def test_what_goes_on_without_a_key_ends_when_there_is_one(tmp_path: Path) -> None:
    with serving(tmp_path, SMALL) as server:

        async def talk() -> None:
            async with talking(server) as connection:
                await connection.send(json.dumps({"do": "open"}))
                await connection.recv()
                key = Keys(server.data / "keys.json").add("first")
                with pytest.raises(websockets.ConnectionClosed):
                    await connection.recv()
            assert run(server, key).status_code == 200

        in_a_loop(talk())


def test_what_a_former_secret_began_ends_with_it_and_the_session_stays(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    former = keys.add("rotated")
    session = server.http.post("/v1/sessions", json={}, headers=bearer(former)).json()["id"]
    with streaming(server, "/v1/run", {"code": ENDLESS, "timeout": 9}, former) as events:
        until(events, "stdout")
        made = proxybox("rotate", "rotated", "--grace", "0", "--data", str(server.data), "--json")
        assert until(events, "failed")["problem"]["status"] == 401
    key = json.loads(made.stdout)["key"]
    assert [run(server, former).status_code, run(server, key).status_code] == [401, 200]
    assert server.http.get(f"/v1/sessions/{session}", headers=bearer(key)).status_code == 200
    keys.revoke("rotated")


def test_a_file_that_waits_for_the_end_of_a_call_is_not_written_for_a_former_secret(
    keyed: tuple[Server, Keys],
) -> None:
    """The whole file has arrived, but its client got a 401."""
    server, keys = keyed
    former, now, meter = keys.add("waits"), keys.rotate("waits", grace=60)[0], keys.add("meter", scope="metrics")
    session = server.http.post("/v1/sessions", json={}, headers=bearer(now)).json()["id"]
    path, begun, answers = f"/v1/sessions/{session}", threading.Event(), []

    def call() -> None:
        with streaming(server, f"{path}/execute", {"code": "print('on', flush=True)\nwhile True: pass"}, now) as events:
            until(events, "stdout")
            begun.set()
            until(events, "finished")

    calling = threading.Thread(target=call)

    def content() -> Iterator[bytes]:
        yield from [bytes(1 << 20)] * 16  # too much to wait in buffers, so the worker has begun to read it
        calling.start()
        begun.wait()
        yield b"the end"

    def put() -> None:
        with server.client() as http:
            answers.append(http.put(f"{path}/files/late", content=content(), headers=bearer(former)))

    putting = threading.Thread(target=put)
    putting.start()
    begun.wait()
    keys.rotate("waits", grace=60)  # this ends the former secret at once
    putting.join()
    assert answers[0].status_code == 401
    assert server.http.post(f"{path}/interrupt", headers=bearer(now)).status_code == 204
    calling.join()
    in_use = 'proxybox_in_use{kind="file"} 0.0'
    eventually(lambda: in_use in server.http.get("/metrics", headers=bearer(meter)).text)
    listed = server.http.get(f"{path}/files", headers=bearer(now)).json()["entries"]
    assert "late" not in [each["name"] for each in listed]
    for name in ("waits", "meter"):
        keys.revoke(name)


def test_what_an_expired_key_began_ends_with_it(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key = keys.add("expires", expires=time.time() + 3)
    with streaming(server, "/v1/run", {"code": ENDLESS, "timeout": 9}, key) as events:
        assert until(events, "failed")["problem"]["status"] == 401
    assert run(server, key).status_code == 401


def test_while_the_keys_cannot_be_read_nothing_begins(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key = keys.add("unreadable")

    async def talk() -> None:
        async with talking(server) as connection:
            await connection.send(json.dumps({"do": "open", "key": key}))
            await connection.send(json.dumps({"do": "complete", "id": "0", "code": "pri"}))
            while json.loads(await connection.recv())["event"] != "completed":
                pass
            away = keys.path.with_name("away")
            keys.path.rename(away)
            try:
                assert run(server, key).status_code == 503
                await connection.send(json.dumps({"do": "execute", "id": "1", "code": "1"}))
                events = [json.loads(await connection.recv()) for _ in range(2)]
                assert [event["event"] for event in events] == ["started", "failed"]
                assert events[1]["problem"]["detail"] == "its keys cannot be read"
                with pytest.raises(websockets.InvalidStatus):
                    await websockets.unix_connect(server.url.removeprefix("unix:"), "ws://localhost/v1/socket")
            finally:
                away.rename(keys.path)
            await connection.send(json.dumps({"do": "execute", "id": "2", "code": "1"}))
            while json.loads(await connection.recv())["event"] != "finished":
                pass

    in_a_loop(talk())
    keys.revoke("unreadable")


# --- ids of requests --------------------------------------------------------------------------------------------------

_ASKS = {"code": "print('hello', input())", "interactive": True}


@contextlib.contextmanager
def asking(server: Server, key: str, identity: str) -> Iterator[Iterator[dict[str, Any]]]:
    """A run with this id that waits for input."""
    headers = {**bearer(key), "Accept": "application/x-ndjson", "X-Request-Id": identity}
    with (
        server.client() as client,
        client.stream("POST", "/v1/run", json=_ASKS, headers=headers, timeout=SOON) as answer,
    ):
        events = (json.loads(line) for line in answer.iter_lines())
        until(events, "input_request")
        yield events


def test_no_key_touches_the_run_of_another_by_its_id(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    one, other = keys.add("one"), keys.add("other")
    with asking(server, one, "trace-1") as events:
        assert run(server, other, **{"X-Request-Id": "trace-1"}).json()["stdout"] == "1\n"
        for method, path in (("POST", "/input"), ("POST", "/interrupt"), ("DELETE", "")):
            body = {"text": "x\n"} if path == "/input" else None
            answer = server.http.request(method, f"/v1/runs/trace-1{path}", json=body, headers=bearer(other))
            assert answer.status_code == 404, (method, path)
        with asking(server, other, "trace-1") as theirs:  # both at once, with the same id
            for key, each, name in ((other, theirs, "B"), (one, events, "A")):
                answer = server.http.post("/v1/runs/trace-1/input", json={"text": f"{name}\n"}, headers=bearer(key))
                assert answer.status_code == 204
                assert until(each, "finished")["result"]["stdout"].endswith(f"hello {name}\n")
    for name in ("one", "other"):
        keys.revoke(name)


def test_a_second_run_of_the_same_id_is_refused_while_the_first_goes_on(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key = keys.add("twice")
    with asking(server, key, "trace-2") as events:
        for headers in ({}, {"Accept": "application/x-ndjson"}):
            answer = run(server, key, **{"X-Request-Id": "trace-2"}, **headers)
            assert (answer.status_code, answer.json()["type"]) == (409, "urn:proxybox:conflict")
        answer = server.http.post("/v1/runs/trace-2/input", json={"text": "x\n"}, headers=bearer(key))
        assert answer.status_code == 204
        assert until(events, "finished")["result"]["status"] == "ok"
    assert run(server, key, **{"X-Request-Id": "trace-2"}).status_code == 200
    keys.revoke("twice")


def test_of_many_runs_of_one_id_one_is_let_in(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key = keys.add("many")
    answers: list[int] = []
    begin = threading.Barrier(8)

    def ask() -> None:
        with server.client() as client:
            begin.wait()
            body = {"code": "import time; time.sleep(1)"}
            answer = client.post("/v1/run", json=body, headers={**bearer(key), "X-Request-Id": "trace-3"})
            answers.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {200, 409}
    keys.revoke("many")
