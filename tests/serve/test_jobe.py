"""Jobe's interface: the requests of its documentation (restapi.pdf) and of CodeRunner."""

import base64
import hashlib
import json

import attrs
import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from proxybox.serve.config import ServiceConfig
from proxybox.serve.doors.jobe import languages_of
from tests.serve.conftest import Server

BASE = "/jobe/index.php/restapi"
CONFIG = """
workers = 1
slots = 1

[limits]
queue = 0
artefacts = "64K"

[policies.default]
extends = "default"
limits = { wall_time = 20, cpu_time = 10, memory = "256M" }
output = { limit = "1M", on_excess = "end" }
"""


@attrs.frozen
class Client:
    """A client of the service, with its key."""

    server: Server
    key: str

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"X-API-KEY": self.key, **headers}
        return self.server.http.request(method, f"{BASE}/{path}", content=content, headers=headers)

    def run(self, sourcecode: str, agent: str = "CodeRunner", **spec: object) -> dict:
        spec = {"language_id": "python3", "sourcecode": sourcecode, **spec}
        answer = self.ask("POST", "runs", {"run_spec": spec}, **{"User-Agent": agent})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def put(self, content: bytes, identity: str = "") -> str:
        identity = identity or hashlib.md5(content).hexdigest()
        answer = self.ask("PUT", f"files/{identity}", {"file_contents": base64.b64encode(content).decode()})
        assert (answer.status_code, answer.content) == (204, b"")
        return identity


def test_languages_with_the_versions_of_their_interpreters(client: Client) -> None:
    version = client.run("import platform; print(platform.python_version())")["stdout"].strip()
    for path in ("languages", "languages/"):
        answer = client.ask("GET", path)
        assert (answer.status_code, answer.json()) == (200, [["python3", version]])


def test_each_language_of_the_service_has_an_id() -> None:
    assert languages_of(ServiceConfig(languages={"python": {}, "Data": {}})) == {"python3": "python", "data": "Data"}
    assert languages_of(ServiceConfig(languages={"data": {}, "python3": {}})) == {"python3": "python3", "data": "data"}


def test_a_program_runs(client: Client) -> None:
    code = "import sys\nprint(input(), sys.argv, __file__)"
    spec = {"input": "a line\n", "sourcefilename": "__tester__.python3", "parameters": {"runargs": ["a", "'b c'"]}}
    seen = client.run(code, **spec)
    name = "/box/__tester__.python3"
    assert seen.pop("run_id")
    assert seen == {
        "outcome": 15, "cmpinfo": "", "stderr": "", "stdout": f"a line ['{name}', 'a', 'b c'] {name}\n",
    }  # fmt: skip


def test_the_paths_with_a_slash_at_the_end_are_the_same(client: Client) -> None:
    answer = client.ask("POST", "runs/", {"run_spec": {"language_id": "Python3", "sourcecode": "print(1)"}})
    assert answer.json()["stdout"] == "1\n"


@pytest.mark.parametrize(("code", "outcome", "stderr"), [
    ("import sys; print('x', file=sys.stderr)", 15, "x\n"),
    ("1 / 0", 12, "ZeroDivisionError: division by zero\n"),
    ("raise SystemExit(3)", 12, ""),
    ("import os; os.kill(os.getpid(), 9)", 12, "the interpreter crashed (signal 9: Killed"),
    ("print('on')\nwhile True: pass", 13, ""),
    ("kept = []\nwhile True: kept.append(bytearray(1 << 24))", 17, ""),
    ("while True: print('x' * 1000)", 30, ""),
])  # fmt: skip
def test_outcomes(client: Client, code: str, outcome: int, stderr: str) -> None:
    """Outcomes that need no explanation have no stderr: CodeRunner takes any stderr for a runtime error."""
    seen = client.run(code, parameters={"cputime": 0.5 if outcome == 13 else 10})
    assert (seen["outcome"], seen["cmpinfo"]) == (outcome, "")
    assert stderr in seen["stderr"] if stderr else seen["stderr"] == ""


def test_a_syntax_error_is_one_of_the_compiler(client: Client) -> None:
    seen = client.run("print(1\n")
    assert (seen["outcome"], seen["stdout"], seen["stderr"]) == (11, "", "")
    assert "SyntaxError" in seen["cmpinfo"]


def test_only_coderunner_knows_the_outcome_of_an_output_limit(client: Client) -> None:
    seen = client.run("while True: print('x' * 1000)", agent="other", parameters={"streamsize": 0.01})
    assert seen["outcome"] == 12
    assert seen["stderr"].strip()
    assert len(seen["stdout"]) == 10_000


def test_limits_are_held_within_the_policys(client: Client) -> None:
    parameters = {
        "cputime": 1e300, "memorylimit": "100000", "disklimit": -1, "streamsize": 1000, "numprocs": "; rm -rf",
    }  # fmt: skip
    assert client.run("print(1)", parameters=parameters)["outcome"] == 15
    assert client.run("print(1)", parameters=[])["outcome"] == 15  # an empty PHP array
    threads = (
        "import threading\nfor _ in range(4): threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    assert [client.run(threads, parameters={"numprocs": count})["outcome"] for count in (2, 8)] == [12, 15]
    assert client.run("open('a', 'wb').write(bytes(2_000_000))", parameters={"disklimit": 1})["outcome"] == 12


def test_options_of_the_interpreter(client: Client) -> None:
    parameters = {"interpreterargs": ["-O"], "runargs": ["x"]}
    seen = client.run("import sys; print(__debug__, sys.argv[1:])", parameters=parameters)
    assert (seen["outcome"], seen["stdout"]) == (15, "False ['x']\n")
    seen = client.run("print(1)", parameters={"interpreterargs": ['-c "print(\\"Blah\\")"']})
    assert (seen["outcome"], seen["stdout"]) == (15, "Blah\n")


def test_files_are_sent_when_the_service_has_not_got_them(client: Client) -> None:
    """Like CodeRunner: it runs, uploads all files after a 404, and runs again."""
    content = b"\xff\0data"
    identity = hashlib.md5(content).hexdigest()
    spec = {
        "language_id": "python3", "sourcecode": "print(open('in.bin', 'rb').read())",
        "file_list": [[identity, "in.bin"], [identity, "copy", True]],
    }  # fmt: skip
    assert client.ask("HEAD", f"files/{identity}").status_code == 404
    answer = client.ask("POST", "runs", {"run_spec": spec})
    assert (answer.status_code, answer.json()[:11]) == (404, "One or more")
    client.put(content)
    assert client.ask("HEAD", f"files/{identity}").status_code == 204
    assert client.ask("POST", "runs", {"run_spec": spec}).json()["stdout"] == f"{content!r}\n"


def test_the_service_can_choose_the_id_of_a_file(client: Client) -> None:
    answer = client.ask("POST", "files", {"file_contents": "eA=="})
    assert (answer.status_code, answer.json()) == (200, hashlib.md5(b"x").hexdigest())
    assert client.run("print(open('a').read())", file_list=[[answer.json(), "a"]])["stdout"] == "x\n"


def test_files_are_those_of_one_key(clients: tuple[Client, Client]) -> None:
    one, other = clients
    one.put(b"ones", "samename1")
    assert other.ask("HEAD", "files/samename1").status_code == 404
    other.put(b"others", "samename1")
    assert [
        client.run("print(open('a').read())", file_list=[["samename1", "a"]])["stdout"] for client in clients
    ] == ["ones\n", "others\n"]  # fmt: skip


def test_the_oldest_files_make_room(client: Client) -> None:
    made = [client.put(bytes([number]) * 10_000) for number in range(8)]
    kept = [client.ask("HEAD", f"files/{identity}").status_code for identity in made]
    assert kept == [404] * 2 + [204] * 6
    body = {"file_contents": base64.b64encode(bytes(70_000)).decode()}
    assert client.ask("PUT", f"files/{'0' * 32}", body).status_code == 413


@pytest.mark.parametrize(("body", "text"), [
    (b"{", "Non-JSON post data received"),
    (b"[]", "Non-JSON post data received"),
    (b"[" * 100_000, "Non-JSON post data received"),
    ({}, "No run_spec attribute found in post data"),
    ({"run_spec": 1}, "No run_spec attribute found in post data"),
    ({"run_spec": {"language_id": "python3"}}, "run_spec is missing the required attribute 'sourcecode'"),
    ({"run_spec": {"sourcecode": ""}}, "run_spec is missing the required attribute 'language_id'"),
    ({"language_id": "c"}, "Language 'c' is not known"),
    ({"sourcecode": 1}, "run_spec.sourcecode: "),
    ({"sourcefilename": "../a.py"}, "The sourcefilename for the run_spec is illegal"),
    ({"sourcefilename": ".a.py"}, "The sourcefilename for the run_spec is illegal"),
    ({"file_list": [["short", "a"]]}, "Invalid file specifier"),
    ({"file_list": [["12345678", "../a"]]}, "Invalid file specifier"),
    ({"file_list": [["12345678", ".."]]}, "Invalid file specifier"),
    ({"file_list": [["12345678"]]}, "Invalid file specifier"),
    ({"file_list": [["12345678", "prog.py"]]}, "Invalid file specifier"),
    ({"parameters": {"runargs": ["'"]}}, "parameters: runargs: No closing quotation"),
    ({"parameters": {"interpreterargs": [1]}}, "parameters: interpreterargs: want a list of texts"),
    ({"parameters": {"runargs": ["a\0b"]}}, "body.args: "),
])  # fmt: skip
def test_specs_that_make_no_sense(client: Client, body: object, text: str) -> None:
    if isinstance(body, dict) and body and "run_spec" not in body:
        body = {"run_spec": {"language_id": "python3", "sourcecode": "", **body}}
    answer = client.ask("POST", "runs", body)
    assert answer.status_code == 400, answer.text
    assert answer.json().startswith(text)


@pytest.mark.parametrize(("identity", "body", "text"), [
    ("12345678", {}, "put: missing file_contents parameter"),
    ("12345678", b"x", "put: missing file_contents parameter"),
    ("12345678", {"file_contents": "*"}, "put: contents of file 12345678 are not valid base-64"),
    ("1234567", {"file_contents": ""}, "put: want a file id of at least 8 letters and digits"),
    ("a.b.c.d.e", {"file_contents": ""}, "put: want a file id of at least 8 letters and digits"),
])  # fmt: skip
def test_files_that_make_no_sense(client: Client, identity: str, body: object, text: str) -> None:
    answer = client.ask("PUT", f"files/{identity}", body)
    assert (answer.status_code, answer.json()) == (400, text)


def test_a_key_is_needed(client: Client) -> None:
    body = {"run_spec": {"language_id": "python3", "sourcecode": ""}}
    for key, text in (("", "Missing API key"), ("2AAA7A5415B4A9B394B54BF1D2E9D", "Unknown API key")):
        stranger = Client(client.server, key)
        for method, path in (("POST", "runs"), ("GET", "languages"), ("PUT", "files/12345678"), ("POST", "files")):
            answer = stranger.ask(method, path, body)
            assert (answer.status_code, answer.json()) == (403, text)
        assert stranger.ask("HEAD", "files/12345678").status_code == 403


def test_a_service_that_is_full(clients: tuple[Client, Client]) -> None:
    """There is one line, and no queue: the key with the line has used its share, and another key gets an overload."""
    one, other = clients
    body = {"code": "print('on', flush=True)\nwhile True: pass"}
    headers = {"Accept": "application/x-ndjson", "Authorization": f"Bearer {one.key}"}
    with one.server.http.stream("POST", "/v1/run", json=body, headers=headers) as answer:
        for line in answer.iter_lines():
            event = json.loads(line)
            if event["event"] == "started":
                run = event["run"]
            elif event["event"] == "stdout":
                assert other.run("print(1)")["outcome"] == 21
                refused = one.ask("POST", "runs", {"run_spec": {"language_id": "python3", "sourcecode": ""}})
                assert refused.status_code == 429
                assert refused.headers["retry-after"]
                ended = one.server.http.delete(f"/v1/runs/{run}", headers=headers)
                assert ended.status_code == 204
    assert other.run("print(1)")["outcome"] == 15
