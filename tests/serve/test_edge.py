"""What happens to every request: keys, ids, log lines, the audit, bodies that are too large, pages of other origins."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from proxybox.serve.keys import Keys
from tests.serve.conftest import CONFIG, Server, serving

SECRET = "the-secret-of-the-service"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Keys]]:
    """A service that needs keys, logs in JSON, and has a secret in its environment."""
    folder = tmp_path_factory.mktemp("keyed")
    config = 'require_keys = true\nlog = "json"\nlimits = { body = "64K", artefacts = "1M" }\n'
    with serving(folder, config, env={"SERVICE_SECRET": SECRET}) as server:
        yield server, Keys(server.data / "keys.json")


def _with(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# --- keys -------------------------------------------------------------------------------------------------------------


def test_without_a_key_nothing_runs(keyed: tuple[Server, Keys]) -> None:
    server, _ = keyed
    for headers in ({}, _with("pbx_000000000000_" + "A" * 43), _with("x"), {"Authorization": "Basic eDp5"}, _with("é")):
        answer = server.http.post("/v1/run", json={"code": "1"}, headers={k: v.encode() for k, v in headers.items()})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["type"] == "urn:proxybox:unauthorized"
    assert server.http.get("/v1/health").status_code == 200


def test_a_key_lets_in_until_it_is_revoked(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key = keys.add("short-lived")
    assert server.http.post("/v1/run", json={"code": "1"}, headers=_with(key)).status_code == 200
    keys.revoke("short-lived")
    assert server.http.post("/v1/run", json={"code": "1"}, headers=_with(key)).status_code == 401


def test_a_key_has_its_policies(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    headers = _with(keys.add("strict-only", policies=("strict",)))
    assert server.http.get("/v1/policies", headers=headers).json()["policies"] == ["strict"]
    assert server.http.post("/v1/run", json={"code": "1", "policy": "default"}, headers=headers).status_code == 403
    code = "import threading; threading.Thread(target=print).start()"
    assert server.http.post("/v1/run", json={"code": code}, headers=headers).json()["status"] == "error"


def test_a_session_is_of_the_key_that_opened_it(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    mine, other = _with(keys.add("mine")), _with(keys.add("other"))
    session = server.http.post("/v1/sessions", json={}, headers=mine).json()["id"]
    for method, path in (
        ("GET", ""), ("POST", "/execute"), ("GET", "/files/x"), ("DELETE", ""), ("POST", "/fork"),
        ("POST", "/interrupt"),
    ):  # fmt: skip
        body = {"code": "1"} if path == "/execute" else None
        answer = server.http.request(method, f"/v1/sessions/{session}{path}", json=body, headers=other)
        assert answer.status_code == 404, (method, path)
    assert server.http.get("/v1/sessions", headers=other).json() == []
    assert server.http.delete(f"/v1/sessions/{session}", headers=mine).status_code == 204
    assert server.http.get(f"/v1/sessions/{session}", headers=other).status_code == 404


def test_keys_are_kept_by_the_command(tmp_path: Path) -> None:
    def proxybox(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-P", "-m", "proxybox", "serve", "keys", *words, "--data", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    made = proxybox("add", "moodle", "--policy", "strict", "--concurrency", "2")
    key = made.stdout.strip()
    assert Keys(tmp_path / "keys.json").find(key) is not None
    assert "not shown again" in made.stderr
    listed = json.loads(proxybox("list", "--json").stdout)
    assert [(each["name"], each["policies"], each["concurrency"]) for each in listed] == [("moodle", ["strict"], 2)]
    assert key not in str(listed)
    assert proxybox("add", "moodle").returncode == 125
    assert proxybox("revoke", "moodle").returncode == 0
    assert "revoked" in proxybox("list").stdout
    assert Keys(tmp_path / "keys.json").find(key) is None


# --- what a hostile box finds -----------------------------------------------------------------------------------------

_SEARCH = """
import os, sys, gc
print(dict(os.environ), sys.argv, sys.path)
for path in ("/proc/self/environ", "/proc/1/environ", "/proc/self/cmdline", "/proc/self/maps", "/etc/passwd"):
    try:
        print(path, open(path, "rb").read())
    except OSError as error:
        print(path, error)
print([o for o in gc.get_objects() if isinstance(o, (str, bytes))])
for root, folders, files in os.walk("/"):
    for name in files:
        if name.endswith((".json", ".sqlite", ".toml", ".sock", "socket")) and not root.startswith(sys.prefix):
            print("file", os.path.join(root, name))
"""


def test_a_hostile_box_finds_no_key_no_header_no_environment_no_file(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key = keys.add("of-the-victim")
    header = "what-the-victim-sends"
    headers = {**_with(key), "X-Secret": header, "Cookie": f"session={header}"}
    for body in ({"code": _SEARCH}, {"code": _SEARCH, "policy": "strict"}):
        result = server.http.post("/v1/run", json=body, headers=headers).json()
        said = result["stdout"] + result["stderr"]
        assert "/proc/self/environ" in said, result
        for secret in (key, key.split("_", 2)[2], header, SECRET, str(server.data), "keys.json", "proxybox.sqlite"):
            assert secret not in said


def test_the_workers_of_the_service_have_no_secret_either(keyed: tuple[Server, Keys]) -> None:
    """A box that breaks out into its worker finds no secret in the worker's environment or open files."""
    server, _ = keyed
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    pids = [pid for task in children.parent.parent.iterdir() for pid in (task / "children").read_text().split()]
    assert pids
    for pid in pids:
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        opened = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [path for path in opened if "proxybox.sqlite" in path or "keys.json" in path]


# --- ids, logs, audit -------------------------------------------------------------------------------------------------


def test_each_answer_has_the_id_of_its_request(keyed: tuple[Server, Keys]) -> None:
    server, _ = keyed
    answers = [server.http.get("/v1/health") for _ in range(2)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 2
    answer = server.http.post("/v1/run", json={}, headers={"X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine-1"
    for given in ("a b", "x" * 65, "a\tb"):
        assert server.http.get("/v1/health", headers={"X-Request-Id": given}).headers["x-request-id"] != given


def test_log_lines_and_the_audit_tell_what_was_done_and_no_secret(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key = keys.add("audited")
    code = "print('what-nobody-should-log')"
    headers = {**_with(key), "X-Request-Id": "audited-1"}
    answer = server.http.post("/v1/run?token=in-the-query", json={"code": code, "policy": "strict"}, headers=headers)
    assert answer.json()["status"] == "ok"
    while '"id": "audited-1"' not in (logged := server.log.read_text()):  # it is written after the answer
        pass
    (line,) = [json.loads(line) for line in logged.splitlines() if '"id": "audited-1"' in line]
    assert (line["method"], line["path"], line["http_status"], line["status"]) == ("POST", "/v1/run", 200, "ok")
    assert (line["name"], line["policy"], line["language"]) == ("audited", "strict", "python")
    with sqlite3.connect(f"file:{server.data}/proxybox.sqlite?mode=ro", uri=True) as database:
        rows: list[tuple] = []
        while not rows:
            rows = database.execute(
                "select key, path, status, code_sha256, cpu from audit where id='audited-1'"
            ).fetchall()
        everything = str(database.execute("select * from audit").fetchall())
    database.close()
    (row,) = rows
    assert row[:3] == (key.split("_")[1], "/v1/run", "ok")
    assert len(row[3]) == 64
    assert row[4] > 0
    for secret in (key, key.split("_", 2)[2], "what-nobody-should-log", "in-the-query"):
        assert secret not in logged
        assert secret not in everything


def test_requests_that_are_refused_are_counted_and_fill_no_disk(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    key, operator = keys.add("not-flooding"), keys.add("counts", scope="metrics")
    wrong = _with("pbx_000000000000_" + "A" * 43)

    def counted() -> float:
        seen = server.http.get("/metrics", headers=_with(operator)).text
        found = re.findall(r'^proxybox_requests_total\{route="[^"]*",status="401"\} (.*)$', seen, re.MULTILINE)
        return sum(map(float, found))

    before, began = counted(), time.monotonic()
    for number in range(300):
        headers = wrong if number % 2 else {}
        assert server.http.get(f"/flood/{number}/{'x' * 480}", headers=headers).status_code == 401
        assert server.http.post("/v1/run?flood", json={"code": "1"}, headers=headers).status_code == 401
    seconds = time.monotonic() - began
    assert counted() - before == 600
    headers = {**_with(key), "X-Request-Id": "after-the-flood"}
    assert server.http.get("/flood/with/a/key", headers=headers).status_code == 404
    assert server.http.get("/v1/policies", headers=headers).status_code == 200
    with contextlib.closing(sqlite3.connect(f"file:{server.data}/proxybox.sqlite?mode=ro", uri=True)) as database:
        while not database.execute("select 1 from audit where id = 'after-the-flood'").fetchall():
            pass
        query = "select path, http_status from audit where path like '/flood%' or http_status = 401 or key = ''"
        assert database.execute(query).fetchall() == []
    lines = [line for line in server.log.read_text().splitlines() if '"http_status": 401' in line]
    assert len(lines) < 10 * (seconds + 20)


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_that_is_too_large(keyed: tuple[Server, Keys]) -> None:
    server, keys = keyed
    headers = _with(keys.add("large"))
    code = "#" * (64 << 10)

    def pieces() -> Iterator[bytes]:
        yield b'{"code": "'
        for _ in range(100):
            yield b"#" * 1024
        yield b'"}'

    for answer in (
        server.http.post("/v1/run", json={"code": code}, headers=headers),
        server.http.post("/v1/run", content=pieces(), headers={**headers, "Content-Type": "application/json"}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:proxybox:too-large")
    assert server.http.post("/v1/run", json={"code": "1"}, headers=headers).status_code == 200


def test_who_has_no_key_is_told_so_whatever_the_body_is(keyed: tuple[Server, Keys]) -> None:
    server, _ = keyed
    seen = server.http.get("/v1/policies").json()
    for body in (b"", b"{", b'{"code": 5}', b'{"code": "1"}'):
        answer = server.http.post("/v1/run", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert {**answer.json(), "request_id": ""} == {**seen, "request_id": ""}


# --- its end ----------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_what_runs_comes_to_its_end_and_the_rest_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, "workers = 1\nslots = 2\n") as server:
        results: list[httpx.Response] = []
        with server.http.stream(
            "POST", "/v1/run", json={"code": "print('on', flush=True)\nprint(input())", "interactive": True},
            headers={"Accept": "application/x-ndjson"},
        ) as answer:  # fmt: skip
            for line in answer.iter_lines():
                event = json.loads(line)
                if event["event"] == "started":
                    run = event["run"]
                if event["event"] == "input_request":
                    server.process.terminate()
                    while (refused := server.http.get("/v1/health")).status_code == 200:
                        pass
                    assert refused.json()["status"] == "draining"
                    results.append(server.post("/v1/run", {"code": "1"}))
                    ender = threading.Timer(0, server.post, (f"/v1/runs/{run}/input", {"text": "x\n"}))
                    ender.start()
                    break
        (late,) = results
        assert (late.status_code, late.json()["type"]) == (503, "urn:proxybox:not-ready")
        assert late.headers["retry-after"]
        ender.join()
        assert server.process.wait(30) == 0


def test_a_service_that_does_not_stand_its_trial_refuses_to_serve(tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text(
        f'listen = "unix:{tmp_path}/socket"\ndata = "data"\nworkers = 1\n'
        '[policies.open]\n[policies.open.filesystem]\nmounts = ["/tmp:/tmp", "/var/tmp:/var/tmp"]\n'
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "proxybox", "serve", "--config", str(config), "--check"],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "TMPDIR": "/tmp"},
    )  # fmt: skip
    assert ended.returncode == 125, ended.stderr
    assert "refuses to serve: no file of the host is seen" in ended.stderr


@pytest.mark.full
def test_check_tries_out_and_ends(tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text(f'listen = "unix:{tmp_path}/socket"\ndata = "data"\n{CONFIG}')
    command = [sys.executable, "-P", "-m", "proxybox", "serve", "--config", str(config), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, "ready: " in ended.stderr) == (0, True), ended.stderr


@pytest.mark.sized(2)
@pytest.mark.parametrize(("options", "said"), [
    (["--listen", "nowhere"], "listen: want an address"),
    (["--config", "/nowhere/serve.toml"], "/nowhere/serve.toml: cannot be read"),
    (["--policy", "strikt"], "strikt"),
    (["--database", "mysql+nothing://x"], "database"),
])  # fmt: skip
def test_faults_of_the_command_line_are_one_line(tmp_path: Path, options: list[str], said: str) -> None:
    listen = () if "--listen" in options else ("--listen", "127.0.0.1:0")
    command = [sys.executable, "-P", "-m", "proxybox", "serve", "--data", str(tmp_path), *listen, *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode in (2, 125), ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
