"""A real service: `proxybox serve` in a process of its own, with a real client."""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

from proxybox.serve.keys import Keys
from tests.serve.declared import CheckedAsyncTransport, CheckedTransport
from tests.serve.listening import listening, service

#: The configuration of each service in a test, unless the test sets `workers`; more is added before it.
CONFIG = """
workers = 1
slots = 2
live = 4

[policies.default]
extends = "default"
limits = { wall_time = 10, cpu_time = 5, memory = "256M" }
session = { branches = 4 }

[policies.strict]
extends = "strict"
"""


@attrs.define(kw_only=True)
class Server:
    """A running service. url: as its log names it. log: the file of its log lines."""

    url: str
    data: Path
    log: Path
    process: "subprocess.Popen[bytes]"
    http: httpx.Client = attrs.field(init=False, repr=False)

    def client(self) -> httpx.Client:
        """Returns a client with connections of its own."""
        return httpx.Client(base_url=self.address, transport=self.transport(), timeout=60)

    def transport(self) -> httpx.HTTPTransport:
        return CheckedTransport(uds=self.socket)

    def async_transport(self) -> httpx.AsyncHTTPTransport:
        return CheckedAsyncTransport(uds=self.socket)

    @property
    def socket(self) -> str | None:
        """The path of the service's socket; None if it listens at a port."""
        return self.url.removeprefix("unix:") if self.url.startswith("unix:") else None

    @property
    def address(self) -> str:
        return "http://localhost" if self.url.startswith("unix:") else self.url

    def post(self, path: str, body: object = None, **more: object) -> httpx.Response:
        return self.http.post(path, json=body, **more)  # type: ignore[arg-type]

    def run(self, code: str, **more: object) -> dict:
        answer = self.post("/v1/run", {"code": code, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def session(self, **asked: object) -> str:
        answer = self.post("/v1/sessions", asked)
        assert answer.status_code == 201, answer.text
        return f"/v1/sessions/{answer.json()['id']}"

    def session_again(self) -> str:
        """Starts a session as soon as the next worker is ready."""
        while (answer := self.post("/v1/sessions", {})).status_code == 503:
            assert answer.headers["retry-after"]
        return f"/v1/sessions/{answer.json()['id']}"

    def execute(self, session: str, code: str, **more: object) -> dict:
        answer = self.post(f"{session}/execute", {"code": code, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def end(self) -> int:
        """Ends the service as a service manager does, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


Serve = Callable[..., contextlib.AbstractContextManager[Server]]


@contextlib.contextmanager
def serving(folder: Path, config: str = "", *options: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    """Runs a service with this configuration before `CONFIG`, and waits until it is ready.

    It has no express worker unless the configuration says so: that is one interpreter less to start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, socket = folder / "serve.toml", folder / "socket"
    listen = "" if "listen" in config else f'listen = "unix:{socket}"'
    express = "" if "express" in config else "express = false"
    file.write_text(f'{listen}\n{express}\ndata = "data"\n{config}\n' + ("" if "workers" in config else CONFIG))
    with listening(service(file, *options), folder / "log", env=env) as begun:
        server = Server(url=begun.where, data=folder / "data", log=begun.log, process=begun.process)
        with server.client() as server.http:
            yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that needs no key."""
    with serving(tmp_path_factory.mktemp("serve")) as server:
        yield server


@contextlib.contextmanager
def serving_two(folder: Path, config: str, env: dict[str, str] | None = None) -> Iterator[tuple[Server, str, str]]:
    """A service that needs a key, and two keys."""
    keys = Keys(folder / "data" / "keys.json")
    one, other = keys.add("one"), keys.add("other")
    with serving(folder, config, env=env) as server:
        yield server, one, other


@pytest.fixture(scope="module")
def clients(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Two of the file's own `Client`, each with a key, of a service with the file's CONFIG."""
    with serving_two(tmp_path_factory.mktemp("two"), request.module.CONFIG) as (server, *keys):
        one, other = (request.module.Client(server, key) for key in keys)
        yield one, other


@pytest.fixture
def client(clients: tuple[Any, Any]) -> Any:
    return clients[0]
