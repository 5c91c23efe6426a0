"""Sessions over REST: variables and files stay, and each end has its reason."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.conftest import Server, serving
from tests.serve.test_rest import events


@pytest.fixture
def session(server: Server) -> Iterator[str]:
    made = server.session()
    yield made
    server.http.delete(made)


def test_a_session_that_is_at_its_limit_before_it_runs_any_code_says_so(server: Server) -> None:
    answer = server.post("/v1/sessions", {"limits": {"calls": 1}})
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["loc"]) == (422, ["body", "limits", "calls"])
    assert "the box was at limits.calls before it could run any code" in error["msg"]
    assert server.execute(server.session(limits={"calls": 100_000}), "print(1)")["stdout"] == "1\n"


def test_variables_stay(server: Server, session: str) -> None:
    assert server.execute(session, "x = 6")["status"] == "ok"
    assert server.execute(session, "x * 7", mode="eval")["value"] == 42


def test_a_prompt_shows_the_value_at_the_end(server: Server, session: str) -> None:
    result = server.execute(session, "x = 6\nx * 7", mode="interactive")
    (shown,) = result["display"]
    assert (shown["kind"], shown["data"]["text/plain"]) == ("value", "42")


def test_a_program_shows_what_it_displays_and_no_value(server: Server, session: str) -> None:
    (shown,) = server.execute(session, "display(1)\n2", mode="display")["display"]
    assert (shown["kind"], shown["data"]["text/plain"]) == ("display", "1")


def test_values_cross_without_loss(server: Server, session: str) -> None:
    value = {"$dict": [[1, {"$tuple": [{"$bytes": "/w=="}, {"$float": "inf"}, {"$int": "0x20000000000000"}]}]]}
    assert server.http.put(f"{session}/variables/v", json={"value": value}).status_code == 204
    assert server.http.get(f"{session}/variables/v").json()["value"] == value
    assert server.execute(session, "v[1][0] == b'\\xff' and v[1][2] == 2**53", mode="eval")["value"] is True


def test_a_variable_that_is_not_there(server: Server, session: str) -> None:
    answer = server.http.get(f"{session}/variables/nothing")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:proxybox:execution-error")
    assert answer.json()["result"]["error"]["type"] == "NameError"
    assert server.http.put(f"{session}/variables/a-b", json={"value": 1}).status_code == 422


def test_something_is_called(server: Server, session: str) -> None:
    server.execute(session, "def add(a, b=0): return a + b")
    assert server.post(f"{session}/call", {"name": "add", "args": [2], "kwargs": {"b": 3}}).json()["value"] == 5


def test_help_for_who_types(server: Server, session: str) -> None:
    server.execute(session, "def greeting(name):\n    'Greets.'\n    return name")
    assert server.post(f"{session}/complete", {"code": "gree"}).json()["matches"] == ["greeting"]
    assert server.post(f"{session}/inspect", {"code": "greeting"}).json()["found"]["doc"] == "Greets."
    assert server.post(f"{session}/is_complete", {"code": "if 1:"}).json()["status"] == "incomplete"


def test_files_come_and_go(server: Server, session: str) -> None:
    assert (
        server.http.put(f"{session}/files/in/a b.bin", params={"parents": True}, content=b"\xff\0").status_code == 204
    )
    code = "with open('out.bin', 'wb') as out: out.write(open('in/a b.bin', 'rb').read()[::-1])"
    assert server.execute(session, code)["status"] == "ok"
    answer = server.http.get(f"{session}/files/out.bin")
    assert answer.content == b"\0\xff"
    assert answer.headers["content-disposition"] == "attachment"
    names = [entry["name"] for entry in server.http.get(f"{session}/files").json()["entries"]]
    assert names == ["in", "out.bin"]
    assert [
        entry["name"] for entry in server.http.get(f"{session}/files", params={"path": "in"}).json()["entries"]
    ] == ["a b.bin"]
    changed = server.http.get(f"{session}/changes").json()["files"]
    assert {"in/a b.bin", "out.bin"} <= {file["path"] for file in changed}


@pytest.mark.parametrize(
    ("path", "name"), [("nothing", "ENOENT"), ("/etc/shadow", "ENOENT"), ("..", "EISDIR"), ("a%00b", "EINVAL")]
)
def test_files_that_cannot_be_read(server: Server, session: str, path: str, name: str) -> None:
    answer = server.http.get(f"{session}/files/{path.replace('..', '%2e%2e')}")
    assert (answer.status_code, answer.json().get("errno")) in ((409, name), (422, None)), answer.text


def test_a_session_begins_with_files(server: Server) -> None:
    session = server.session(files={"a.txt": "hello", "b/c.bin": {"base64": "/w=="}})
    assert server.execute(session, "open('a.txt').read(), open('b/c.bin', 'rb').read()", mode="eval")["value"] == {
        "$tuple": ["hello", {"$bytes": "/w=="}]
    }  # fmt: skip
    server.http.delete(session)


def test_a_copy_goes_its_own_way(server: Server, session: str) -> None:
    server.execute(session, "x = [1]")
    copy = f"/v1/sessions/{server.post(f'{session}/fork').json()['id']}"
    server.execute(copy, "x.append(2)")
    assert server.execute(session, "x", mode="eval")["value"] == [1]
    assert server.execute(copy, "x", mode="eval")["value"] == [1, 2]
    server.http.delete(copy)


def test_a_kept_state_comes_back(server: Server, session: str) -> None:
    server.execute(session, "x = 1")
    kept = server.post(f"{session}/snapshots").json()
    server.execute(session, "x = 2")
    assert server.post(f"{session}/restore", kept).status_code == 204
    assert server.execute(session, "x", mode="eval")["value"] == 1
    assert server.http.delete(f"{session}/snapshots/{kept['snapshot']}").status_code == 204
    assert server.post(f"{session}/restore", kept).status_code == 404


def test_reset_empties_the_namespace(server: Server, session: str) -> None:
    server.execute(session, "x = 1; open('kept', 'w')")
    assert server.post(f"{session}/reset").status_code == 204
    assert server.execute(session, "x")["error"]["type"] == "NameError"
    assert server.execute(session, "open('kept').close()")["status"] == "ok"


def test_a_stream_shows_as_it_happens_and_takes_input(server: Server, session: str) -> None:
    seen = []
    for event in events(
        server,
        f"{session}/execute",
        {"code": "print('n?')\nint(input()) * 2", "mode": "interactive", "interactive": True},
    ):
        seen.append(event["event"])
        if event["event"] == "input_request":
            assert server.post(f"{session}/input", {"text": "21\n"}).status_code == 204
        elif event["event"] == "result":
            assert event["data"]["text/plain"] == "42"
    assert [each for each in seen if each != "stdout"] == ["started", "input_request", "result", "finished"]


def test_an_interrupt_is_a_keyboard_interrupt(server: Server, session: str) -> None:
    for event in events(server, f"{session}/execute", {"code": "print('on', flush=True)\nwhile True: pass"}):
        if event["event"] == "stdout":
            server.post(f"{session}/interrupt")
    assert (event["result"]["status"], event["result"]["error"]["type"]) == ("error", "KeyboardInterrupt")
    assert server.execute(session, "1", mode="eval")["value"] == 1


def test_one_call_at_a_time(server: Server, session: str) -> None:
    for event in events(server, f"{session}/execute", {"code": "input()", "interactive": True}):
        if event["event"] == "input_request":
            answer = server.post(f"{session}/execute", {"code": "1"})
            assert (answer.status_code, answer.json()["type"]) == (409, "urn:proxybox:session-busy")
            server.post(f"{session}/input", {"text": "\n"})
    assert event["result"]["status"] == "ok"


def test_a_client_that_goes_away_interrupts_its_call_alone(server: Server, session: str) -> None:
    server.execute(session, "x = 1")
    for event in events(server, f"{session}/execute", {"code": "while True: input()", "interactive": True}):
        if event["event"] == "input_request":
            break
    answer = server.post(f"{session}/execute", {"code": "x", "mode": "eval"})
    while answer.status_code == 409:  # the program is about to end the call
        answer = server.post(f"{session}/execute", {"code": "x", "mode": "eval"})
    assert answer.json()["value"] == 1


def test_input_that_nobody_waits_for(server: Server, session: str) -> None:
    assert server.post(f"{session}/input", {"text": "x"}).status_code == 409
    assert server.post(f"{session}/interrupt").status_code == 204


# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_closed_session_says_so(server: Server) -> None:
    session = server.session()
    assert server.http.delete(session).status_code == 204
    answer = server.post(f"{session}/execute", {"code": "1"})
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:proxybox:session-ended")
    assert "it was closed" in answer.json()["detail"]
    assert server.http.get("/v1/sessions/never").status_code == 404


def test_a_program_that_ends_its_session(server: Server) -> None:
    session = server.session()
    result = server.execute(session, "import os; os._exit(3)")
    assert (result["alive"], result["exit_code"]) == (False, 3)
    assert server.post(f"{session}/execute", {"code": "1"}).status_code == 410


def test_limits_of_a_session_are_its_own(server: Server) -> None:
    session = server.session(limits={"memory": "64M"}, timeout=5)
    assert server.execute(session, "x = bytearray(200 << 20)")["status"] == "memory_limit"
    server.http.delete(session)
    assert server.post("/v1/sessions", {"limits": {"memory": "10G"}}).status_code == 422


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose sessions sleep and end soon."""
    config = '[sessions]\nsleep_after = "0.2s"\nend_after = "3s"\n'
    with serving(tmp_path_factory.mktemp("hasty"), f"workers = 1\nslots = 1\n{config}") as server:
        yield server


@pytest.mark.full
def test_a_session_that_nobody_uses_sleeps_and_wakes_and_ends(hasty: Server) -> None:
    session = hasty.session()
    hasty.execute(session, "x = 1")
    while hasty.http.get(session).json()["state"] != "asleep":
        pass
    assert hasty.execute(session, "x", mode="eval")["value"] == 1
    assert hasty.http.get(session).json()["state"] == "awake"
    while hasty.http.get(session).status_code == 200:
        pass
    answer = hasty.post(f"{session}/execute", {"code": "1"})
    assert answer.status_code == 410
    assert "nobody had used it for 3 s" in answer.json()["detail"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service in which each key may have two sessions."""
    with serving(tmp_path_factory.mktemp("few"), "workers = 1\nslots = 1\n[sessions]\nshare = 2\n") as server:
        yield server


def test_a_key_has_a_number_of_sessions(few: Server) -> None:
    made = [few.session() for _ in range(2)]
    answer = few.post("/v1/sessions", {})
    assert (answer.status_code, answer.json()["type"]) == (429, "urn:proxybox:rate-limited")
    assert int(answer.headers["retry-after"]) > 0
    few.http.delete(made[0])
    few.http.delete(few.session())
    few.http.delete(made[1])


def test_sessions_opened_at_once_do_not_pass_the_number(few: Server) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(few.post("/v1/sessions", {}).status_code)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 201, 429, 429, 429, 429]
    for session in few.http.get("/v1/sessions").json():
        few.http.delete(f"/v1/sessions/{session['id']}")


@pytest.mark.full
def test_a_restarted_service_says_that_its_sessions_are_lost(tmp_path: Path) -> None:
    config = "workers = 1\nslots = 1\n"
    with serving(tmp_path, config) as server:
        lost, closed = server.session(), server.session()
        server.http.delete(closed)
        server.process.kill()
    with serving(tmp_path, config) as server:
        for session, said in ((lost, "the service was restarted"), (closed, "it was closed")):
            answer = server.post(f"{session}/execute", {"code": "1"})
            assert answer.status_code == 410
            assert said in answer.json()["detail"]


@pytest.mark.full
def test_a_service_without_records_says_of_no_session_how_it_has_ended(tmp_path: Path) -> None:
    with serving(tmp_path, "workers = 1\nslots = 1\n[sessions]\nrecords = false\n") as server:
        session = server.session()
        assert server.execute(session, "x = 1")["status"] == "ok"
        server.http.delete(session)
        for gone in (session, "/v1/sessions/none"):
            answer = server.post(f"{gone}/execute", {"code": "1"})
            assert (answer.status_code, answer.json()["detail"]) == (410, "the session has ended, or there was none")
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "proxybox.sqlite")) as database:
        assert database.execute("select count(*) from sessions").fetchone() == (0,)


def test_a_session_with_variables_of_its_own_and_its_copies(server: Server) -> None:
    session = server.session(env={"WHO": "me"})
    code = "import os; os.environ['WHO']"
    copy = f"/v1/sessions/{server.post(f'{session}/fork').json()['id']}"
    server.http.delete(session)
    assert server.execute(copy, code, mode="interactive")["display"][0]["data"]["text/plain"] == "'me'"
    server.http.delete(copy)


def test_what_a_call_left_open_is_told_and_what_it_wrote_is_there(server: Server, session: str) -> None:
    code = "open('r', 'w').write('abc')\nf = open('f', 'w')\nf.write('abc')"
    assert server.execute(session, code)["left_open"] == ["/box/f"]
    assert server.execute(session, "open('r').read() + open('f').read()", mode="eval")["value"] == "abcabc"
    assert server.http.get(f"{session}/files/r").content == b"abc"
