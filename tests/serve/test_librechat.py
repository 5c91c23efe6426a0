"""The code interpreter of LibreChat: requests as @librechat/agents and LibreChat send them."""

import json
from datetime import datetime

import attrs
import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from proxybox import Result
from proxybox.policies import Mount, PolicyError, evolve, preset
from proxybox.serve import worker
from proxybox.serve.jobprograms import program_of
from proxybox.serve.setup import Interpreter, Setup
from proxybox.serve.workerjobs import RunJob
from tests.explained import PROGRAMS
from tests.serve.conftest import Server

CONFIG = """
workers = 1
slots = 1

[limits]
queue = 0
files = 3
artefacts = "64K"
body = "1M"

[policies.default]
extends = "default"
limits = { wall_time = 10, cpu_time = 1, memory = "256M" }
"""


@attrs.frozen
class Client:
    """A client of the service, with its key."""

    server: Server
    key: str

    def ask(self, method: str, path: str, **more: object) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return self.server.http.request(method, f"/librechat/{path}", headers=headers, **more)  # type: ignore[arg-type]

    def run(self, code: str, **more: object) -> dict:
        answer = self.ask("POST", "exec", json={"lang": "py", "code": code, "user_id": "u", **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, files: dict[str, bytes], path: str = "upload", **fields: str) -> dict:
        sent = [("file", (name, content)) for name, content in files.items()]
        answer = self.ask("POST", path, data={"kind": "user", "id": "u", **fields}, files=sent)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refs(self, files: dict[str, bytes], **fields: str) -> list[dict]:
        seen = self.upload(files, **fields)
        return [ref(seen["storage_session_id"], file["fileId"], file["filename"]) for file in seen["files"]]

    def download(self, session: str, identity: str) -> httpx.Response:
        return self.ask("GET", f"download/{session}/{identity}", params={"kind": "user", "id": "u"})


def ref(session: str, identity: str, name: str) -> dict:
    return {"id": identity, "resource_id": "u", "storage_session_id": session, "name": name, "kind": "user"}


def test_a_program_runs_in_its_folder(client: Client) -> None:
    code = "import os, sys\nprint(os.getcwd(), sys.argv, os.listdir('.'), sys.path[0])"
    seen = client.run(code, args=["a b"], entity_id="e", session_id="s", runtime_session_hint="h")
    assert len(seen.pop("session_id")) == 21
    assert seen.pop("wall_time") > 0
    assert seen == {
        "stdout": "/mnt/data ['/mnt/data/main.py', 'a b'] ['main.py'] /mnt/data\n", "stderr": "", "files": [],
        "code": 0, "signal": None, "message": None, "status": None,
    }  # fmt: skip


def test_files_go_in_and_come_out(client: Client) -> None:
    refs = client.refs({"data/in.csv": b"1,2\n", "helper.py": b"def twice(x): return x * 2"})
    code = (
        "from helper import twice\nimport os\n"
        "with open('/mnt/data/data/in.csv', 'a') as file: file.write('3,4\\n')\n"
        "os.mkdir('out')\nopen('out/plot.png', 'wb').write(b'\\x89PNG\\xff')\n"
        "os.remove('helper.py')\nprint(twice(open('data/in.csv').read()))"
    )
    seen = client.run(code, files=refs)
    assert seen["stdout"] == "1,2\n3,4\n" * 2 + "\n"
    assert seen["deleted_files"] == ["helper.py"]
    files = {file["name"]: file for file in seen["files"]}
    assert set(files) == {"data/in.csv", "out/plot.png"}
    assert {file["storage_session_id"] for file in seen["files"]} == {seen["session_id"]}
    assert files["data/in.csv"]["modified_from"] == {
        "id": refs[0]["id"], "storage_session_id": refs[0]["storage_session_id"],
    }  # fmt: skip
    for name, content in (("data/in.csv", b"1,2\n3,4\n"), ("out/plot.png", b"\x89PNG\xff")):
        answer = client.download(seen["session_id"], files[name]["id"])
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-disposition"].endswith(name.rpartition("/")[2])
        assert answer.headers["x-content-type-options"] == "nosniff"
    later = [ref(seen["session_id"], files["out/plot.png"]["id"], "plot.png")]
    seen = client.run("print(open('plot.png', 'rb').read())", files=later)
    assert seen["stdout"] == "b'\\x89PNG\\xff'\n"
    assert [(file["id"], file["inherited"]) for file in seen["files"]] == [(later[0]["id"], True)]


def test_a_file_whose_name_is_no_text_comes_out(client: Client) -> None:
    seen = client.run(r"open(b'a\x80\\b', 'w').write('content')")
    (file,) = seen["files"]
    assert file["name"] == "a\udc80\\b"
    answer = client.download(seen["session_id"], file["id"])
    assert answer.content == b"content"
    assert answer.headers["content-disposition"].endswith("''a%80%5Cb")


def run_in_its_folder(filesystem: dict) -> Result:
    """Runs a program in /mnt/data, like a worker, under a policy with this filesystem."""
    policy = evolve(preset("default"), filesystem=filesystem)
    made = worker._Worker(Setup(policies={"p": policy}, interpreters={"l": Interpreter()}, slots=1, input_wait=1))
    code = "import os\nprint(sorted(os.listdir('/mnt')))\nopen('a', 'w')"
    asked = RunJob(policy="p", language="l", folder="/mnt/data", entry="b.py", files={"b.py": code})
    with made.sandbox_at(asked) as sandbox:
        return sandbox.run_program(program_of(asked))


def test_the_folder_is_no_way_around_the_policy() -> None:
    result = run_in_its_folder({"box": "ro"})
    assert result.stderr.endswith("OSError: [Errno 30] Read-only file system: 'a'\n")
    result = run_in_its_folder({"mounts": [Mount("/mnt", {"theirs": "x"})]})
    assert (result.stdout, list(result.files)) == ("['data', 'theirs']\n", ["/mnt/data/a"])
    with pytest.raises(PolicyError, match="/mnt/data is the target of two mounts"):
        run_in_its_folder({"mounts": [Mount("/mnt/data", {"theirs": "x"})]})


def test_a_run_that_fails_leaves_no_files(client: Client) -> None:
    for code in ("1 / 0", "raise SystemExit(1)", "import os; os.kill(os.getpid(), 9)", "while True: pass"):
        seen = client.run(f"open('a.txt', 'w').write('1')\n{code}")
        assert seen["files"] == []
        assert seen["code"] != 0


@pytest.mark.parametrize(("code", "exit_code", "signal", "status", "stderr"), [
    ("1 / 0", 1, None, "RE", "ZeroDivisionError"),
    ("1 +", 1, None, "RE", "SyntaxError"),
    ("import os; os.kill(os.getpid(), 11)", None, "SIGSEGV", "SG", "the interpreter crashed (signal 11: Segmentation"),
    ("while True: pass", None, "SIGKILL", "TO", "the processor time limit of 1 s was reached: do less at a time"),
])  # fmt: skip
def test_what_a_run_ends_with_is_in_what_the_model_sees(
    client: Client, code: str, exit_code: int | None, signal: str | None, status: str, stderr: str
) -> None:
    seen = client.run(code)
    assert (seen["code"], seen["signal"], seen["status"]) == (exit_code, signal, status)
    assert stderr in seen["stderr"]


@pytest.mark.parametrize("wants", PROGRAMS)
def test_what_a_box_has_not_is_told_as_everywhere(client: Client, wants: str) -> None:
    code, text = PROGRAMS[wants]
    seen = client.run(code)
    assert text in seen["stderr"]
    assert "limits." not in seen["stderr"].rpartition("Error")[2]


def test_names_of_kept_programs_do_not_meet_that_of_the_code(client: Client) -> None:
    refs = client.refs({"main.py": b"kept"})
    seen = client.run("print(__file__, open('main.py').read())", files=refs)
    assert seen["stdout"] == "/mnt/data/main1.py kept\n"


def test_read_only_files_do_not_come_back(client: Client) -> None:
    refs = client.refs({"skill.md": b"x"}, kind="skill", version="1", read_only="true")
    seen = client.run("open('skill.md', 'a').write('y'); open('new.md', 'w').write('z')", files=refs)
    assert [(file["name"], file.get("inherited")) for file in seen["files"]] == [("new.md", None), ("skill.md", True)]


def test_a_batch_of_files_and_what_is_known_of_one(client: Client) -> None:
    seen = client.upload({"a/b.txt": b"1", "é.txt": b"22"}, "upload/batch")
    assert (seen["message"], seen["succeeded"], seen["failed"]) == ("success", 2, 0)
    assert [(file["status"], file["filename"]) for file in seen["files"]] == [
        ("success", "a/b.txt"), ("success", "é.txt"),
    ]  # fmt: skip
    session, identity = seen["storage_session_id"], seen["files"][1]["fileId"]
    known = client.ask("GET", f"sessions/{session}/objects/{identity}").json()
    assert (known["originalFilename"], known["size"], known["contentType"]) == ("é.txt", 2, "text/plain")
    assert datetime.fromisoformat(known["lastModified"]).tzinfo
    assert client.ask("DELETE", f"files/{session}/{identity}").status_code == 200
    for method, path in (("GET", f"sessions/{session}/objects/{identity}"), ("DELETE", f"files/{session}/{identity}")):
        answer = client.ask(method, path)
        assert (answer.status_code, answer.json()["error"]) == (404, "File not found")
    assert client.download(session, identity).status_code == 404


def test_files_are_those_of_one_key(clients: tuple[Client, Client]) -> None:
    one, other = clients
    (file,) = one.refs({"a.txt": b"1"})
    answer = other.ask("POST", "exec", json={"lang": "py", "code": "1", "files": [file]})
    assert (answer.status_code, answer.json()) == (403, {"error": "Unauthorized file reference"})
    assert other.download(file["storage_session_id"], file["id"]).status_code == 404
    assert other.ask("DELETE", f"files/{file['storage_session_id']}/{file['id']}").status_code == 404
    assert one.download(file["storage_session_id"], file["id"]).content == b"1"


def test_the_oldest_files_make_room(client: Client) -> None:
    made = [client.refs({"a": bytes(20_000)})[0] for _ in range(4)]
    found = [client.download(each["storage_session_id"], each["id"]).status_code for each in made]
    assert found == [404, 200, 200, 200]
    seen = client.run("open('large', 'wb').write(bytes(70_000)); open('small', 'w').write('x')")
    assert [file["name"] for file in seen["files"]] == ["small"]
    assert seen["artifact_delivery"] == {
        "code": "artifact_delivery_failed", "status": "partial", "attempted": 2, "delivered": 1, "failed": 1,
    }  # fmt: skip


@pytest.mark.parametrize("lang", ["bash", "js", ""])
def test_other_languages_are_refused_for_good(client: Client, lang: str) -> None:
    answer = client.ask("POST", "exec", json={"lang": lang, "code": "ls"})
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_capability")
    answer = client.ask("POST", "exec/programmatic", json={"code": "1", "tools": []})
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_capability")


@pytest.mark.parametrize("body", [
    {}, [], {"lang": "py"}, {"code": "1"}, {"lang": "py", "code": 1}, {"lang": "py", "code": "1", "args": "a"},
    {"lang": "py", "code": "1", "args": ["\0"]}, {"lang": "py", "code": "1", "files": [{"id": "a"}]},
    *({"lang": "py", "code": "1", "files": [ref("s" * 21, "w" * 21, name)]} for name in ("../a", "/a", "a//b", "")),
    {"lang": "py", "code": "1", "files": [ref("s" * 21, "w" * 21, name) for name in ("a", "a/b")]},
])  # fmt: skip
def test_bodies_that_make_no_sense(client: Client, body: object) -> None:
    answer = client.ask("POST", "exec", json=body)
    assert (answer.status_code, set(answer.json())) == (400, {"error"})


@pytest.mark.parametrize("session", ["s" * 21, "short", "..", "%2e%2e"])
def test_sessions_that_there_are_not(client: Client, session: str) -> None:
    assert client.download(session, "w" * 21).status_code == 404
    file = ref(session, "w" * 21, "a")
    assert client.ask("POST", "exec", json={"lang": "py", "code": "1", "files": [file]}).status_code == 403


def test_uploads_that_make_no_sense(client: Client) -> None:
    for more in (
        {"json": {}}, {"data": {"kind": "user"}}, {"files": [("file", ("../a", b"1"))]},
        {"files": [("file", (f"{number}", b"1")) for number in range(4)]},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ):  # fmt: skip
        headers = {"Authorization": f"Bearer {client.key}", **more.pop("headers", {})}  # type: ignore[dict-item]
        for path in ("upload", "upload/batch"):
            answer = client.server.http.post(f"/librechat/{path}", headers=headers, **more)  # type: ignore[arg-type]
            assert (answer.status_code, set(answer.json())) == (400, {"error"})
    assert client.ask("POST", "upload", files=[("file", ("a", bytes(70_000)))]).status_code == 413


def test_a_key_is_needed(client: Client) -> None:
    body = {"lang": "py", "code": "1"}
    for key in ("", "eyJhbGciOiJFZERTQSJ9.e30.c2ln"):
        stranger = Client(client.server, key)
        for method, path in (("POST", "exec"), ("POST", "upload"), ("GET", f"download/{'s' * 21}/{'w' * 21}")):
            answer = stranger.ask(method, path, **({"json": body} if method == "POST" else {}))
            assert (answer.status_code, set(answer.json())) == (401, {"error"})
    answer = client.server.http.post("/librechat/exec", json=body, headers={"X-API-Key": client.key})
    assert answer.status_code == 200  # as clients before 2026 send it


def test_health_needs_no_key(client: Client) -> None:
    assert client.server.http.get("/librechat/health").status_code == 200


def test_a_service_that_is_full(clients: tuple[Client, Client]) -> None:
    one, other = clients
    headers = {"Accept": "application/x-ndjson", "Authorization": f"Bearer {one.key}"}
    body = {"code": "print('on', flush=True)\nimport time\ntime.sleep(60)"}
    with one.server.http.stream("POST", "/v1/run", json=body, headers=headers) as answer:
        for line in answer.iter_lines():
            event = json.loads(line)
            if event["event"] == "started":
                run = event["run"]
            elif event["event"] == "stdout":
                full = one.ask("POST", "exec", json={"lang": "py", "code": "1"})
                assert full.status_code == 429
                seen = full.json()
                assert (seen["error"], str(seen["retry_after_seconds"])) == (
                    "rate_limited",
                    full.headers["retry-after"],
                )
                assert other.ask("POST", "exec", json={"lang": "py", "code": "1"}).status_code == 503
                assert one.server.http.delete(f"/v1/runs/{run}", headers=headers).status_code == 204
    assert other.run("print(1)")["stdout"] == "1\n"
