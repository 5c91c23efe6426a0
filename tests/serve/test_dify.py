"""The interface of Dify's sandbox: requests as Dify sends them, and the checks of its own integration tests."""

import base64
import json

import attrs
import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from tests.serve.conftest import Server

CONFIG = """
workers = 1
slots = 1

[limits]
queue = 0

[policies.default]
extends = "default"
limits = { wall_time = 10, cpu_time = 0.5, memory = "256M" }
"""
RUN = "/v1/sandbox/run"


@attrs.frozen
class Client:
    """A client of the service, with its key."""

    server: Server
    key: str

    def ask(self, method: str, path: str, **more: object) -> httpx.Response:
        headers = {"X-Api-Key": self.key}
        return self.server.http.request(method, path, headers=headers, **more)  # type: ignore[arg-type]

    def run(self, code: str, **more: object) -> dict:
        body = {"language": "python3", "code": code, "preload": "", "enable_network": True, **more}
        answer = self.ask("POST", RUN, json=body)
        assert answer.status_code == 200, answer.text
        seen = answer.json()
        assert (seen["code"], seen["message"], set(seen)) == (0, "success", {"code", "message", "data"})
        assert set(seen["data"]) == {"stdout", "stderr", "error", "exit_code"}
        return seen["data"]


def test_a_code_node(client: Client) -> None:
    """A program in the form of Dify's runner: inputs in base64, the result between two marks."""
    inputs = base64.b64encode(json.dumps({"x": "é"}).encode()).decode()
    code = (
        f"def main(x):\n    return {{'result': x * 2}}\nimport json\nfrom base64 import b64decode\n"
        f"output = main(**json.loads(b64decode('{inputs}').decode('utf-8')))\n"
        "print(f'''<<RESULT>>{json.dumps(output, indent=4)}<<RESULT>>''')\n"
    )
    data = client.run(code, dependencies=[{"name": "x", "version": ""}])
    assert json.loads(data["stdout"].split("<<RESULT>>")[1]) == {"result": "éé"}
    assert (data["error"], data["stderr"], data["exit_code"]) == ("", "", 0)


def test_what_is_logged_is_no_error(client: Client) -> None:
    code = "import logging\nlogging.basicConfig(level=logging.INFO)\nlogging.info('Starting task...')\nprint('ok')"
    data = client.run(code)
    assert data == {"stdout": "ok\n", "stderr": "INFO:root:Starting task...\n", "error": "", "exit_code": 0}


KILLED = "the interpreter crashed (signal 9: Killed): avoid deep recursion and ctypes"


@pytest.mark.parametrize(("code", "exit_code", "why", "stderr"), [
    ("raise ValueError('bad input')", 1, "", "ValueError: bad input\n"),
    ("1 +", 1, "", "SyntaxError: invalid syntax\n"),
    ("raise SystemExit(3)", 3, "", ""),
    ("while True: pass", -1, "error: timeout", ""),
    ("import os; os.kill(os.getpid(), 9)", -1, KILLED, ""),
])  # fmt: skip
def test_errors(client: Client, code: str, exit_code: int, why: str, stderr: str) -> None:
    data = client.run(code)
    assert data["exit_code"] == exit_code
    assert data["stderr"].endswith(stderr) if stderr else data["stderr"] == ""
    parts = [f"process exited with code {exit_code}", why, data["stderr"]]
    assert data["error"] == "\n".join(part for part in parts if part)


def test_there_is_no_network_whatever_is_asked_for(client: Client) -> None:
    code = "import socket\nsocket.create_connection(('192.0.2.1', 80), 1)"
    assert "PermissionError" in client.run(code, enable_network=True)["error"]


def test_preload_is_left_out_of_account(client: Client) -> None:
    assert client.run("print(1)", preload="print(2)")["stdout"] == "1\n"


@pytest.mark.parametrize("body", [
    {"language": "nodejs", "code": "1"}, {"language": "", "code": "1"}, {"language": "python3"}, {"code": "1"},
    {"language": "python3", "code": ""}, {"language": "python3", "code": 1}, [], None, "x", {},
])  # fmt: skip
def test_bodies_that_make_no_sense(client: Client, body: object) -> None:
    answer = client.ask("POST", RUN, json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (400, -400, None)
    if isinstance(body, dict) and body.get("language") == "nodejs":
        assert answer.json()["message"] == "unsupported language"


def test_a_body_that_is_no_json(client: Client) -> None:
    answer = client.ask("POST", RUN, content=b"{")
    assert (answer.status_code, answer.json()["code"]) == (400, -400)


def test_dependencies_are_those_of_the_interpreter(client: Client) -> None:
    code = (
        "import importlib.metadata, json\n"
        "print(json.dumps({each.metadata['Name']: each.version for each in importlib.metadata.distributions()}))"
    )
    installed = json.loads(client.run(code)["stdout"])
    for path in ("", "/refresh"):
        seen = client.ask("GET", f"/v1/sandbox/dependencies{path}", params={"language": "python3"}).json()
        assert seen["code"] == 0
        assert {each["name"]: each["version"] for each in seen["data"]["dependencies"]} == installed
    assert client.ask("GET", "/v1/sandbox/dependencies", params={"language": "nodejs"}).status_code == 400
    seen = client.ask("POST", "/v1/sandbox/dependencies/update", json={"language": "python3"}).json()
    assert seen == {"code": 0, "message": "success", "data": {}}


@pytest.mark.parametrize("key", ["", "dify-sandbox"])
def test_a_key_is_needed(client: Client, key: str) -> None:
    stranger = Client(client.server, key)
    for method, path in (
        ("POST", RUN), ("GET", "/v1/sandbox/dependencies?language=python3"),
        ("POST", "/v1/sandbox/dependencies/update"),
    ):  # fmt: skip
        answer = stranger.ask(method, path)
        assert (answer.status_code, answer.content) == (401, b"")


def test_health_needs_no_key(client: Client) -> None:
    answer = client.server.http.get("/health")
    assert (answer.status_code, answer.json()) == (200, "ok")


def test_a_service_that_is_full(clients: tuple[Client, Client]) -> None:
    """For any key that fills it: Dify has no other status for that."""
    one, _ = clients
    headers = {"Accept": "application/x-ndjson", "Authorization": f"Bearer {one.key}"}
    body = {"code": "print('on', flush=True)\nimport time\ntime.sleep(60)"}
    with one.server.http.stream("POST", "/v1/run", json=body, headers=headers) as answer:
        for line in answer.iter_lines():
            event = json.loads(line)
            if event["event"] == "started":
                run = event["run"]
            elif event["event"] == "stdout":
                for client in clients:
                    full = client.ask("POST", RUN, json={"language": "python3", "code": "1"})
                    assert (full.status_code, full.json()["code"]) == (503, -503)
                assert one.server.http.delete(f"/v1/runs/{run}", headers=headers).status_code == 204
    assert clients[1].run("print(1)")["stdout"] == "1\n"
