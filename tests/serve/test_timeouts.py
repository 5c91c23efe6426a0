"""No door gives a program more time than its policy: our own name the limit, and those of others shorten the time."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import unix_connect

from tests.serve.conftest import Server, serving
from tests.serve.test_mcp import http_client

ENDLESS = "while True: pass"
#: More than the policy allows, in seconds.
LONG = 20


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose programs have one second."""
    config = """
        workers = 1
        slots = 1
        [policies.default]
        extends = "default"
        limits = { wall_time = 1 }
    """
    with serving(tmp_path_factory.mktemp("short"), config) as server:
        yield server


def of_stream(server: Server, path: str, **body: object) -> Any:
    answer = server.post(path, body, headers={"Accept": "application/x-ndjson"})
    return json.loads(answer.text.splitlines()[-1])["problem"]


def of_socket(server: Server, *messages: dict[str, object]) -> Any:
    with unix_connect(server.socket, "ws://localhost/v1/socket") as socket:
        for message in messages:
            socket.send(json.dumps(message))
        while (event := json.loads(socket.recv(timeout=20)))["event"] != "failed":
            pass
        return event["problem"]


REFUSALS = {
    "/v1/run": lambda server: server.post("/v1/run", {"code": "1", "timeout": LONG}).json(),
    "/v1/run as a stream": lambda server: of_stream(server, "/v1/run", code="1", timeout=LONG),
    "/v1/run/stream": lambda server: of_stream(server, "/v1/run/stream", code="1", timeout=LONG),
    "/v1/sessions": lambda server: server.post("/v1/sessions", {"timeout": LONG}).json(),
    "execute": lambda server: server.post(f"{server.session()}/execute", {"code": "1", "timeout": LONG}).json(),
    "execute an expression": lambda server: server.post(
        f"{server.session()}/execute", {"code": "1", "mode": "eval", "timeout": LONG}
    ).json(),
    "execute/stream": lambda server: of_stream(
        server, f"{server.session()}/execute/stream", code="1", timeout=LONG
    ),
    "open in a socket": lambda server: of_socket(server, {"do": "open", "timeout": LONG}),
    "execute in a socket": lambda server: of_socket(
        server, {"do": "open"}, {"do": "execute", "code": "1", "timeout": LONG}
    ),
}  # fmt: skip


@pytest.mark.parametrize("door", REFUSALS)
def test_a_timeout_that_is_looser_than_the_policy_is_refused(short: Server, door: str) -> None:
    problem = REFUSALS[door](short)
    assert (problem["type"], problem["status"]) == ("urn:proxybox:invalid", 422)
    (error,) = problem["errors"]
    assert error["loc"] == ["body", "timeout"]
    assert error["msg"].endswith("looser than the policy, got 20.0 (allowed: at most 1 s)")


def of_mcp(server: Server, tool: str) -> str:
    async def ask() -> Any:
        async with http_client(server, "auto") as client:
            return await client.call_tool(tool, {"code": ENDLESS, "timeout": LONG})

    result = asyncio.run(ask())
    assert "the time limit of 1 s was reached" in result.content[0].text
    return str(result.structured_content["status"])


ENDINGS = {
    "Jobe": lambda server: server.post("/jobe/index.php/restapi/runs", {"run_spec": {
        "language_id": "python3", "sourcecode": ENDLESS, "parameters": {"cputime": LONG},
    }}).json()["outcome"] == 13,
    "SandboxFusion": lambda server: server.post(
        "/run_code", {"language": "python", "code": ENDLESS, "run_timeout": LONG}
    ).json()["run_result"]["status"] == "TimeLimitExceeded",
    "SandboxFusion's cells": lambda server: server.post(
        "/run_jupyter", {"cells": [ENDLESS], "cell_timeout": LONG, "total_timeout": 0}
    ).json()["cells"][0]["error"][0]["ename"] == "KeyboardInterrupt",
    "run_python": lambda server: of_mcp(server, "run_python") == "time_limit",
    "execute": lambda server: of_mcp(server, "execute") == "time_limit",
}  # fmt: skip


@pytest.mark.parametrize("door", ENDINGS)
def test_a_door_of_another_protocol_shortens_it(short: Server, door: str) -> None:
    assert ENDINGS[door](short)


def test_as_long_as_the_policy_is_not_looser(short: Server) -> None:
    assert short.run("print(1)", timeout=1)["stdout"] == "1\n"
    assert short.execute(short.session(timeout=1), "1", timeout=1)["status"] == "ok"
