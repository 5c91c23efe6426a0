"""Which paths need a key, and of which scope: every route of the service is requested, so that none is forgotten."""

import asyncio
import base64
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxybox.serve.access import SCOPES
from proxybox.serve.app import app
from proxybox.serve.config import ServiceConfig
from proxybox.serve.keys import Keys
from proxybox.serve.opening import opened, own_doors
from proxybox.serve.paths import AccessTable
from tests.serve.conftest import Server, serving

websockets = pytest.importorskip("websockets", reason="the WebSocket needs the package websockets")

#: Statuses for requests without a key: 401; Jobe's protocol has 403.
REFUSED = (401, 403)
#: Paths that do not exist; only requests with a key get a 404.
NOWHERE = ("/nothing/of/the/kind", "/v1/nothing", "/docs")
#: All doors of this distribution, and their paths.
OWN, DOORS = opened(own_doors())
TABLE = AccessTable(DOORS)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    """A service with a key of each scope; and the keys, by scope."""
    folder = tmp_path_factory.mktemp("access")
    keys = Keys(folder / "data" / "keys.json")
    made = {scope: keys.add(scope, scope=scope) for scope in SCOPES}
    config = 'workers = 1\nslots = 2\norigins = ["https://page.example"]\n'
    with serving(folder, config) as server:
        yield server, made


def _routes() -> list[tuple[str, str]]:
    """Returns methods and paths of all routes, and of some paths that do not exist."""
    found = [(method, path) for path in NOWHERE for method in ("GET", "POST")]
    routers = [door.router for door in (*OWN, *DOORS)]
    of_doors: list[Any] = [route for router in routers for route in router.routes]
    inner: Any = app(ServiceConfig(data="/nowhere"))._inner
    for route in [*of_doors, *(route for route in inner.routes if hasattr(route, "path"))]:
        path = re.sub(r"\{[^}]*\}", "12345678", route.path)
        found += [(method, path) for method in sorted(getattr(route, "methods", None) or ("GET", "POST", "DELETE"))]
    return [(method, path) for method, path in found if path != "/v1/socket"]


ROUTES = _routes()


def _ask(server: Server, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    return server.http.request(method, path, headers=headers)


def test_all_doors_are_walked() -> None:
    paths = {path for _, path in ROUTES}
    assert {"/", "/metrics", "/v1/openapi.json", "/v1/run", "/mcp"} < paths
    for door in DOORS:
        assert any(path.startswith(door.clients) for path in paths), door.clients


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_path_needs_a_key_but_health(keyed: tuple[Server, dict[str, str]], method: str, path: str) -> None:
    server, _ = keyed
    for headers in ({}, {"Authorization": "Bearer pbx_000000000000_" + "A" * 43}, {"X-Api-Key": "x"}):
        answer = _ask(server, method, path, headers)
        if path in TABLE.health:
            assert answer.status_code not in REFUSED
        else:
            assert answer.status_code in REFUSED, (answer.status_code, answer.text)


@pytest.mark.parametrize("kind", ["Content-Length: 60000", "Transfer-Encoding: chunked"])
def test_no_body_is_waited_for_without_a_key(keyed: tuple[Server, dict[str, str]], kind: str) -> None:
    server, _ = keyed
    for method, path in ROUTES:
        if method not in ("POST", "PUT") or path in NOWHERE:
            continue
        for key in ("", "Authorization: Bearer pbx_000000000000_" + "A" * 43 + "\r\n", "X-Api-Key: wrong\r\n"):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(server.url.removeprefix("unix:"))
                head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                line.sendall(f"{head}{key}{kind}\r\n\r\n".encode())
                seen = line.recv(1 << 16)
            assert seen.startswith(tuple(f"HTTP/1.1 {status} ".encode() for status in REFUSED)), (path, seen)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_has_the_paths_of_its_scope_and_no_others(keyed: tuple[Server, dict[str, str]], scope: str) -> None:
    server, made = keyed
    headers = {"Authorization": f"Bearer {made[scope]}", "X-Api-Key": made[scope]}  # each door has its own header
    for method, path in ROUTES:
        if path in TABLE.health:
            continue
        answer = _ask(server, method, path, headers)
        expected = TABLE.may_use(scope, path) or path in NOWHERE
        assert (answer.status_code not in REFUSED) == expected, (method, path, answer.status_code, answer.text)


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_a_websocket_is_for_clients(keyed: tuple[Server, dict[str, str]], scope: str) -> None:
    server, made = keyed

    async def talk() -> dict:
        async with websockets.unix_connect(server.url.removeprefix("unix:"), "ws://localhost/v1/socket") as connection:
            await connection.send(json.dumps({"do": "open", "key": made[scope]}))
            return json.loads(await connection.recv())

    seen = asyncio.run(asyncio.wait_for(talk(), 60))
    assert seen["event"] == ("opened" if scope == "client" else "failed")
    assert scope == "client" or seen["problem"]["status"] == 403


def test_every_route_stands_in_the_table() -> None:
    paths = {path for _, path in ROUTES} - set(NOWHERE)
    unknown = {
        path for path in paths if path not in TABLE.health and not any(TABLE.may_use(scope, path) for scope in SCOPES)
    }
    assert not unknown, (
        "each path belongs to a scope, or needs no key: proxybox/serve/access.py, or `clients` and `health` of the door"
    )


@pytest.mark.parametrize(("scope", "path", "may"), [
    ("client", "/v1/run", True), ("client", "/v1", False), ("client", "/v1x/run", False), ("client", "/", False),
    ("client", "/metrics", False), ("client", "/metrics/", False), ("operator", "/", True),
    ("operator", "/v1/run", False), ("operator", "//", False), ("metrics", "/", False), ("metrics", "/metrics", True),
    ("metrics", "/metrics/x", False), ("client", "//v1/run", False), ("client", "", False),
])  # fmt: skip
def test_the_table(scope: str, path: str, may: bool) -> None:
    assert AccessTable().may_use(scope, path) is may


def test_the_documents_name_the_paths_that_need_no_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| none |")]
    assert set(re.findall(r"`(/[^`]*)`", row)) == TABLE.health
    for scope, paths in TABLE.scopes.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{scope}` |")]
        assert set(re.findall(r"`(/[^`]*)`", row)) == set(paths), scope


# --- pages of other origins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("origin", "status"), [
    ("", 200), ("http://localhost", 200), ("https://page.example", 200), ("http://evil.example", 403), ("null", 403),
    ("http://localhost.evil", 403), ("https://page.example.evil", 403), ("http://page.example", 403),
])  # fmt: skip
def test_a_browser_that_has_the_password_brings_it_to_no_other_page(
    keyed: tuple[Server, dict[str, str]], origin: str, status: int
) -> None:
    server, made = keyed
    headers = {"Origin": origin} if origin else {}
    for path, scope in (("/", "operator"), ("/metrics", "operator"), ("/v1/policies", "client")):
        seen = f"Bearer {made[scope]}" if scope == "client" else _basic(made[scope])
        assert server.http.get(path, headers={**headers, "Authorization": seen}).status_code == status, path
    form = {"payload": (None, json.dumps({"code": "x = 1", "globals_dict": {}}))}
    headers["Authorization"] = _basic(made["client"])
    assert server.http.post("/api/v0/code-exec", files=form, headers=headers).status_code == status


def _basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{key}".encode()).decode()


def test_a_page_that_is_named_may_ask_before_it_sends_its_key(keyed: tuple[Server, dict[str, str]]) -> None:
    server, _ = keyed
    headers = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    answer = server.http.options("/v1/run", headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://page.example")
    assert server.http.options("/v1/run", headers={**headers, "Origin": "https://evil.example"}).status_code == 403
    for path in ("/v1/nothing", "/metrics", "/mcp", "/nothing/of/the/kind"):  # existing or not
        same = server.http.options(path, headers=headers)
        assert (same.status_code, same.content) == (200, answer.content)
        assert {**same.headers, "date": "", "x-request-id": ""} == {**answer.headers, "date": "", "x-request-id": ""}


@pytest.mark.parametrize("lacks", ["Origin", "Access-Control-Request-Method", "both"])
def test_no_other_options_are_told_without_a_key(keyed: tuple[Server, dict[str, str]], lacks: str) -> None:
    server, _ = keyed
    headers = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    seen = {name: value for name, value in headers.items() if lacks not in (name, "both")}
    if lacks == "Access-Control-Request-Method":
        seen["Origin"] = "http://localhost"  # the service's own origin
    for path in ("/v1/run", "/v1/nothing", "/metrics", "/"):
        answer = server.http.options(path, headers=seen)
        assert (answer.status_code, "allow" in answer.headers) == (401, False), path


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_a_websocket_of_another_page_is_refused(keyed: tuple[Server, dict[str, str]], origin: str) -> None:
    server, _ = keyed

    async def talk() -> None:
        path = server.url.removeprefix("unix:")
        async with websockets.unix_connect(path, "ws://localhost/v1/socket", origin=origin):
            pass

    with pytest.raises(websockets.InvalidStatus):
        asyncio.run(asyncio.wait_for(talk(), 60))
