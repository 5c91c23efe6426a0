"""Our own REST interface: runs, streams of events, and refusals."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from proxybox import Client, PolicyError
from proxybox.policies import preset
from proxybox.policies.keys import OF_ONE_RUN, of_one_run
from proxybox.streamevents import finished_as_json
from tests.serve.conftest import Server


def events(server: Server, path: str, body: dict, kind: str = "application/x-ndjson") -> Iterator[dict]:
    """Yields the events of a stream, as they come."""
    with server.http.stream("POST", path, json=body, headers={"Accept": kind}) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith(kind)
        for line in answer.iter_lines():
            if kind == "application/x-ndjson":
                yield json.loads(line)
            elif line.startswith("data: "):
                yield json.loads(line[6:])


def test_a_program_runs(server: Server) -> None:
    result = server.run("import sys\nprint(input(), sys.argv[1:])", stdin="6 * 7", args=["a", "b"])
    assert (result["status"], result["stdout"], result["ok"]) == ("ok", "6 * 7 ['a', 'b']\n", True)
    assert result["usage"]["cpu"] > 0
    assert result["layers"]["seal"]


@pytest.mark.parametrize(("code", "status"), [
    ("1 +", "syntax_error"), ("1 / 0", "error"), ("import os; os.kill(os.getpid(), 9)", "crashed"),
    ("while True: pass", "time_limit"), ("x = bytearray(1 << 30)", "memory_limit"), ("raise SystemExit(3)", "error"),
])  # fmt: skip
def test_what_goes_wrong_in_a_program_is_no_fault_of_the_request(server: Server, code: str, status: str) -> None:
    assert server.run(code, limits={"cpu_time": 0.3})["status"] == status


def test_files_and_an_entry(server: Server) -> None:
    body = {
        "files": {
            "src/app.py": "from helper import twice\nopen('out.bin', 'wb').write(twice(open('data.bin', 'rb').read()))",
            "src/helper.py": "def twice(data): return data * 2",
            "data.bin": {"base64": base64.b64encode(b"\xff\0").decode()},
        },
        "entry": "src/app.py",
        "return_files": True,
    }
    result = server.post("/v1/run", body).json()
    assert result["status"] == "ok", result
    files = {file["path"]: file for file in result["files"]}
    assert base64.b64decode(files["out.bin"]["base64"]) == b"\xff\0\xff\0"


def test_contents_of_files_come_only_when_they_are_asked_for(server: Server) -> None:
    code = "open('a.txt', 'w').write('hello')"
    (plain,), (full,) = (server.run(code, return_files=wanted)["files"] for wanted in (False, True))
    assert (plain["path"], plain["size"], plain.get("text")) == ("a.txt", 5, None)
    assert full["text"] == "hello"


def test_variables_of_the_environment(server: Server) -> None:
    assert server.run("import os; print(os.environ['WHO'])", env={"WHO": "me"})["stdout"] == "me\n"


def test_limits_can_be_tightened_and_not_loosened(server: Server) -> None:
    assert server.run("print('x' * 100)", output={"limit": 10})["stdout"] == "x" * 10
    answer = server.post(
        "/v1/run", {"code": "1", "limits": {"wall_time": 100, "memory": "1G"}, "output": {"limit": "1G"}}
    )
    assert answer.status_code == 422
    problem = answer.json()
    assert {tuple(error["loc"]) for error in problem["errors"]} == {
        ("body", "limits", "wall_time"), ("body", "limits", "memory"), ("body", "output", "limit"),
    }  # fmt: skip
    assert "at most" in problem["errors"][0]["msg"]


def test_each_key_that_one_run_may_tighten_is_taken(server: Server) -> None:
    """Each with its value in the policy, which is not looser."""
    described = server.http.get("/v1/openapi.json").json()["components"]["schemas"]
    for section in OF_ONE_RUN:
        wanted = {name: key.of(preset("strict")) for name, key in of_one_run(section).items()}
        assert described[section.title()]["properties"].keys() == wanted.keys()
        result = server.run(
            "print(1)", policy="strict", **{section: {name: value for name, value in wanted.items() if value}}
        )
        assert (result["status"], result["stdout"]) == ("ok", "1\n")
    ended = server.run("print('x' * 100)", output={"limit": 10, "on_excess": "end"})
    assert ended["status"] == "output_limit"
    assert server.post("/v1/run", {"code": "1", "limits": {"input_wait": "free"}}).status_code == 422
    assert server.post("/v1/run", {"code": "1", "limits": {"nursery": "4M"}}).status_code == 422


def test_policies_and_languages_go_by_their_names(server: Server) -> None:
    seen = server.http.get("/v1/policies").json()
    assert seen == {"policies": ["default", "strict"], "languages": ["python"]}
    code = "import threading; threading.Thread(target=print).start()"
    assert server.run(code)["status"] == "ok"
    assert server.run(code, policy="strict")["status"] == "error"
    for field in ("policy", "language"):
        answer = server.post("/v1/run", {"code": "1", field: "none"})
        assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["body", field])


@pytest.mark.parametrize(("body", "place"), [
    ({}, ["body"]),
    ({"code": "1", "entry": "a.py"}, ["body"]),
    ({"entry": "a.py", "files": {"b.py": "1"}}, ["body"]),
    ({"code": 5}, ["body", "code"]),
    ({"code": "1", "cod": "1"}, ["body", "cod"]),
    ({"code": "1", "args": "one"}, ["body", "args"]),
    ({"code": "1", "args": ["a\0b"]}, ["body", "args"]),
    ({"code": "1", "files": {"../up": "x"}}, ["body", "files"]),
    ({"code": "1", "files": {"a": {"base64": "*"}}}, ["body", "files", "a", "Bytes", "base64"]),
    ({"code": "1", "files": {"main.py": "x"}}, ["body", "files"]),
    ({"code": "1", "limits": {"wall": 1}}, ["body", "limits", "wall"]),
    ({"code": "1", "limits": {"cpu_time": "soon"}}, ["body", "limits", "cpu_time"]),
    ({"code": "1", "timeout": 0}, ["body", "timeout"]),
    ({"code": "1", "env": {"LD_PRELOAD": "x"}}, ["body", "env"]),
    ({"code": "1", "interactive": True}, ["body", "interactive"]),
])  # fmt: skip
def test_a_body_that_makes_no_sense_is_told_where(server: Server, body: dict, place: list) -> None:
    answer = server.post("/v1/run", body)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["type"] == "urn:proxybox:invalid"
    places = [error["loc"] for error in problem["errors"]]
    assert any(found[: len(place)] == place for found in places), places


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"null", b'{"code": "\\ud800"}', b"[" * 100_000])
def test_what_is_no_json_is_refused(server: Server, body: bytes) -> None:
    answer = server.http.post("/v1/run", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_does_not_exist(server: Server) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/run", 405),
        ("POST", "/v1/runs/x/interrupt", 404),
    ):
        answer = server.http.request(method, path)
        assert (answer.status_code, answer.json()["status"]) == (status, status)


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "kind"), [
    ("/v1/run", "application/x-ndjson"), ("/v1/run", "text/event-stream"), ("/v1/run/stream", "application/x-ndjson"),
])  # fmt: skip
def test_a_stream_tells_what_happens(server: Server, path: str, kind: str) -> None:
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 / 0"
    seen = list(events(server, path, {"code": code}, kind))
    assert [event["seq"] for event in seen] == list(range(len(seen)))
    assert [seen[0]["event"], seen[-2]["event"], seen[-1]["event"]] == ["started", "error", "finished"]
    assert "".join(event["text"] for event in seen if event["event"] == "stdout") == "out\n"
    assert seen[-2]["type"] == "ZeroDivisionError"
    assert seen[-1]["result"]["status"] == "error"


def test_streams_are_operations_of_their_own(server: Server) -> None:
    """Without an Accept header they send server-sent events."""
    session = server.session()
    for path, body, seen in (
        ("/v1/run/stream", {"code": "print(6)", "interactive": True}, "stdout"),
        (f"{session}/execute/stream", {"code": "6", "mode": "interactive"}, "result"),
    ):
        answer = server.post(path, body)
        assert answer.headers["content-type"].startswith("text/event-stream")
        names = [line[7:] for line in answer.text.split("\n") if line.startswith("event: ")]
        assert names == ["started", seen, "finished"]
    assert server.post(f"{session}/execute/stream", {}).status_code == 422


def test_what_is_printed_comes_as_it_is_printed(server: Server) -> None:
    code = "print('first')\nprint('got', input())"
    run = ""
    texts = []
    for event in events(server, "/v1/run", {"code": code, "interactive": True}):
        if event["event"] == "started":
            run = event["run"]
        elif event["event"] == "stdout":
            texts.append(event["text"])
        elif event["event"] == "input_request":
            assert "".join(texts) == "first\n"  # it came while the program waited
            assert server.post(f"/v1/runs/{run}/input", {"text": "line\n"}).status_code == 204
    assert "".join(texts) == "first\ngot line\n"


def test_an_empty_input_is_its_end(server: Server) -> None:
    for event in events(
        server, "/v1/run", {"code": "import sys; print(repr(sys.stdin.read()))", "interactive": True, "stdin": "x"}
    ):
        if event["event"] == "started":
            run = event["run"]
        elif event["event"] == "input_request":
            server.post(f"/v1/runs/{run}/input", {"text": ""})
    assert event["result"]["stdout"] == "'x'\n"


@pytest.mark.parametrize(("method", "path", "ends"), [("POST", "/interrupt", "crashed"), ("DELETE", "", "cancelled")])
def test_a_run_is_ended_from_outside(server: Server, method: str, path: str, ends: str) -> None:
    for event in events(server, "/v1/run", {"code": "print('on')\nwhile True: input()", "interactive": True}):
        if event["event"] == "started":
            run = event["run"]
        elif event["event"] == "input_request":
            assert server.http.request(method, f"/v1/runs/{run}{path}").status_code == 204
    assert event["event"] == "finished"
    assert event["result"]["status"] == ends


def test_a_client_that_goes_away_has_its_box_ended(server: Server) -> None:
    """There are two lines for interactive runs: if they were not freed, the last runs would wait."""
    for _ in range(5):
        for event in events(server, "/v1/run", {"code": "input()", "interactive": True}):
            if event["event"] == "input_request":
                break
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            server.http.post("/v1/run", json={"code": "while True: pass"}, timeout=0.3)
    assert server.run("print('there is room')")["status"] == "ok"


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_health(server: Server) -> None:
    assert server.http.get("/v1/health").json()["status"] == "ready"


def test_the_result_of_a_stream_is_passed_on_unread() -> None:
    """Parsing a large one would block the service meanwhile."""
    broken = b'{"status": "ok", a large result'
    seen = finished_as_json(broken, seq=5)
    assert seen == b'{"seq": 5, "event": "finished", "result": %b}' % broken
    assert json.loads(finished_as_json(b'{"a": [1]}', id='"')) == {
        "id": '"', "event": "finished", "result": {"a": [1]},
    }  # fmt: skip


def test_an_exception_is_told_before_the_result_and_a_long_one_in_part(server: Server) -> None:
    path = f"{server.session()}/execute/stream"
    *_, error, finished = events(server, path, {"code": "raise ValueError('x' * 100_000)"})
    whole = finished["result"]["error"]
    assert (error["event"], error["type"], finished["event"]) == ("error", "ValueError", "finished")
    assert (error["message"], error["traceback"]) == (whole["message"][:65536], whole["traceback"][:65536])


# --- records, where the operator allows none -----------------------------------------------------------------------


def test_without_the_operators_word_there_are_no_records(server: Server) -> None:
    for headers in ({}, {"Accept": "application/x-ndjson"}):
        answer = server.post("/v1/run", {"code": "1", "record": True}, headers=headers)
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["loc"] == ["body", "record"]
        assert "limits.record" in error["msg"]


def test_the_api_is_described_with_it(server: Server) -> None:
    described = server.http.get("/v1/openapi.json").json()["components"]["schemas"]
    assert "limits.record" in described["RunOfCode"]["properties"]["record"]["description"]
    assert {"record", "record_fault", "record_digest"} <= {*described["RunResult"]["properties"]}


def test_a_client_that_is_refused_leaves_no_file(server: Server, tmp_path: Path) -> None:
    with Client(server.address, transport=server.transport()) as client:
        with pytest.raises(PolicyError, match=r"limits\.record"):
            client.run("1", record=tmp_path / "run.pbx")
        with pytest.raises(PolicyError, match="is a folder"):
            client.run("1", record=tmp_path)
        assert client.run("print(1)").record is None
    assert not [*tmp_path.iterdir()]


# --- pages of other origins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("headers", "status"), [
    ({}, 200), ({"Host": "localhost:8000"}, 200), ({"Host": "127.0.0.1"}, 200), ({"Host": "[::1]:8000"}, 200),
    ({"Host": "evil.example"}, 403), ({"Host": "127.0.0.1.evil.example"}, 403), ({"Host": "10.0.0.1"}, 403),
    ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Origin": "http://localhost.evil"}, 403),
    ({"Origin": "http://localhost", "Host": "localhost"}, 200),
])  # fmt: skip
def test_an_open_service_takes_nothing_from_pages(server: Server, headers: dict[str, str], status: int) -> None:
    assert server.http.post("/v1/run", json={"code": "1"}, headers=headers).status_code == status


def test_a_form_of_a_page_is_no_request(server: Server) -> None:
    body = json.dumps({"code": "1"})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert server.http.post("/v1/run", content=body, headers={"Content-Type": kind}).status_code == 422
