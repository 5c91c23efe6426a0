"""Records of sessions at a service: stored when a session has ended, for its key, and for the configured time."""

import asyncio
import base64
import contextlib
import io
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import anyio
import attrs
import httpx
import pytest

import proxybox
from proxybox import AsyncClient, Client, PolicyError
from proxybox.controller.record.format import frames
from proxybox.errors import CannotCopy, SandboxClosedError
from proxybox.records.taking import Taking
from proxybox.remote.answers import record_of as record_of_answer
from proxybox.serve import sessions
from proxybox.serve.callers import ANONYMOUS
from proxybox.serve.config import ServiceSessions
from proxybox.serve.problems import Refusal
from proxybox.serve.sessionrecords import SessionRecords, Take
from proxybox.serve.store import ServiceStore
from proxybox.serve.workerjobs import EndJob
from proxybox.streamevents import RecordPieceEvent
from tests.serve.conftest import CONFIG, Server, serving, serving_two
from tests.serve.test_kills import workers
from tests.serve.test_rest import events

#: Room for three records at once: each counts with its limit, and 2 MiB more for its last part.
LIMITS = '[limits]\nrecord = "256K"\nartefacts = "6912K"\n'
CODE = "import random, time; print(random.random(), time.time())"


@attrs.define
class Place:
    """A service of these tests. mounted: a folder of the host. temporary: its $TMPDIR. one, other: keys."""

    server: Server
    mounted: Path
    temporary: Path
    one: str
    other: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A service whose operator allows records, with two keys."""
    mounted, temporary = tmp_path_factory.mktemp("on-the-host"), tmp_path_factory.mktemp("temporary")
    (mounted / "data.txt").write_text("what is read")
    mounts = f'[policies.mounted]\nfilesystem = {{ mounts = ["{mounted}:/data"] }}\n'
    folder, env = tmp_path_factory.mktemp("recording"), {"TMPDIR": str(temporary)}
    with serving_two(folder, f"{CONFIG}\n{mounts}\n{LIMITS}", env=env) as (server, one, other):
        server.http.headers["Authorization"] = f"Bearer {one}"
        yield Place(server, mounted, temporary, one, other)


@pytest.fixture
def recording(place: Place) -> Iterator[Server]:
    """The service; after the test its first key has no records."""
    yield place.server
    for session in place.server.http.get("/v1/sessions").json():
        assert place.server.http.delete(f"/v1/sessions/{session['id']}").status_code == 204
        place.server.http.delete(f"/v1/sessions/{session['id']}/record")


def record_of(server: Server, session: str) -> dict[str, Any]:
    """Returns the record of a session that has ended, and deletes it from the service."""
    answer = server.http.get(f"{session}/record")
    assert answer.status_code == 200, answer.text
    assert server.http.delete(f"{session}/record").status_code == 204
    seen: dict[str, Any] = answer.json()
    return seen


def kept(seen: dict[str, Any], path: Path) -> Path:
    path.write_bytes(base64.b64decode(seen["record"]["base64"], validate=True))
    return path


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_a_session_that_has_ended_has_its_record(recording: Server, tmp_path: Path) -> None:
    session = recording.session(record=True)
    printed = recording.execute(session, CODE)["stdout"]
    recording.execute(session, "import os; print(os.listdir('.'))")
    assert recording.http.delete(session).status_code == 204
    first, second = (recording.http.get(f"{session}/record").json() for _ in range(2))
    assert first == second
    seen = record_of(recording, session)
    assert seen == first
    assert (seen["record_fault"], len(seen["record_digest"])) == ("", 64)
    again = proxybox.replay(kept(seen, tmp_path / "session.pbx"))
    assert again.ok
    assert printed in again.result.stdout
    gone = recording.http.get(f"{session}/record")
    assert problem(gone) == (410, "no record is kept of this session: the session has ended: it was closed")
    assert recording.http.delete(f"{session}/record").status_code == 410


@pytest.mark.parametrize("more", [
    {"env": {"A": "b"}}, {"files": {"a.txt": "text"}}, {"policy": "strict"}, {"limits": {"memory": "128M"}},
])  # fmt: skip
def test_however_a_session_is_asked_for(recording: Server, more: dict[str, Any], tmp_path: Path) -> None:
    session = recording.session(record=True, **more)
    assert recording.execute(session, CODE)["status"] == "ok"
    assert recording.http.put(f"{session}/files/b.txt", content=b"from outside").status_code == 204
    assert (
        recording.execute(session, "print(open('b.txt').read(), input())", stdin="in")["stdout"] == "from outside in\n"
    )
    recording.http.delete(session)
    assert proxybox.replay(kept(record_of(recording, session), tmp_path / "session.pbx")).ok


def test_only_a_session_that_asks_for_a_record_has_one(recording: Server) -> None:
    session = recording.session()
    assert recording.http.get(session).json()["recorded"] is False
    assert problem(recording.http.get(f"{session}/record")) == (404, "this session is not recorded")
    recording.http.delete(session)
    assert recording.http.get(f"{session}/record").status_code == 410
    assert recording.http.get("/v1/sessions/none/record").status_code == 404


def test_a_session_that_lives_has_no_record_yet_and_cannot_be_copied(recording: Server) -> None:
    session = recording.session(record=True)
    assert recording.http.get(session).json()["recorded"] is True
    for answer in (recording.http.get(f"{session}/record"), recording.http.delete(f"{session}/record")):
        assert problem(answer) == (409, "the session has not ended: its record is there when it has")
    for path in ("fork", "snapshots"):
        answer = recording.post(f"{session}/{path}")
        assert answer.json()["type"] == "urn:proxybox:cannot-copy"
        assert "a session that is recorded cannot be copied" in answer.json()["detail"]
    assert recording.execute(session, "1 + 1")["status"] == "ok"


def test_nobody_else_gets_the_record(place: Place, recording: Server) -> None:
    session = recording.session(record=True)
    others = {"Authorization": f"Bearer {place.other}"}
    for _ in range(2):  # of a session that is open, and then of the same when it has ended
        assert recording.http.get(f"{session}/record", headers=others).status_code == 404
        assert recording.http.delete(f"{session}/record", headers=others).status_code == 404
        recording.http.delete(session)
    assert record_of(recording, session)["record_fault"] == ""


def test_a_record_tells_nothing_of_the_host_that_a_session_does_not(
    place: Place, recording: Server, tmp_path: Path
) -> None:
    session = recording.session(record=True, policy="mounted")
    assert recording.execute(session, "print(open('/data/data.txt').read())")["stdout"] == "what is read\n"
    recording.http.delete(session)
    path = kept(record_of(recording, session), tmp_path / "session.pbx")
    everything = b"".join(frame.data for frame in frames(io.BytesIO(path.read_bytes())))
    assert b"what is read" in everything
    for secret in (place.mounted, place.temporary, recording.data, recording.log.parent):
        assert os.fsencode(secret) not in everything
    assert proxybox.replay(path).ok


def test_without_the_operators_word_there_are_no_records(server: Server) -> None:
    answer = server.post("/v1/sessions", {"record": True})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["loc"] == ["body", "record"]
    assert "limits.record" in error["msg"]
    assert server.http.get("/v1/sessions").json() == []


def test_a_call_has_no_record_of_its_own(recording: Server) -> None:
    session = recording.session()
    answer = recording.post(f"{session}/execute", {"code": "1", "record": True})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["loc"] == ["body", "record"]
    assert "a record is of a whole session" in error["msg"]


def test_the_api_is_described_with_it(server: Server) -> None:
    described = server.http.get("/v1/openapi.json").json()
    assert {*described["paths"]["/v1/sessions/{session}/record"]} == {"get", "delete"}
    schemas = described["components"]["schemas"]
    assert "limits.record" in schemas["SessionRequest"]["properties"]["record"]["description"]
    seen = {"record", "record_fault", "record_inexact", "record_digest"}
    assert seen == {*schemas["SessionRecord"]["properties"]}


# --- how sessions end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "status"), [
    ("import os; os._exit(7)", "error"), ("import os; os.abort()", "crashed"),
    ("import time\ntry:\n while True: pass\nexcept KeyboardInterrupt:\n while True: pass", "time_limit"),
])  # fmt: skip
def test_a_session_that_ends_by_itself_has_its_record(
    recording: Server, code: str, status: str, tmp_path: Path
) -> None:
    session = recording.session(record=True)
    seen = recording.execute(session, code, timeout=0.2)
    assert (seen["status"], seen["alive"]) == (status, False)
    with proxybox.Record(kept(record_of(recording, session), tmp_path / "session.pbx")) as record:
        assert record.result is not None
        assert record.result.status == status


def test_a_session_that_needs_a_larger_record_is_ended_and_says_so(recording: Server, tmp_path: Path) -> None:
    session = recording.session(record=True)
    seen = recording.execute(session, "import os\nwhile True: os.urandom(60_000)")
    assert (seen["status"], seen["alive"]) == ("disk_limit", False)
    seen = record_of(recording, session)
    assert "the record has reached its limit of 262,144 bytes" in seen["record_fault"]
    path = kept(seen, tmp_path / "session.pbx")
    assert path.stat().st_size < (256 << 10) + (2 << 20)
    with proxybox.Record(path) as record:
        assert record.guest


@pytest.mark.parametrize("code", ["print('there', flush=True)\nwhile True: pass", "print('there')\ninput()"])
def test_a_session_that_is_ended_in_a_call_has_its_record(recording: Server, code: str, tmp_path: Path) -> None:
    session = recording.session(record=True)
    for event in events(recording, f"{session}/execute", {"code": code, "interactive": True}):
        if event["event"] == ("input_request" if "input" in code else "stdout"):
            with recording.client() as other:
                other.headers.update(recording.http.headers)
                assert other.delete(session).status_code == 204
    assert event["event"] == "finished" or event["problem"]["type"] == "urn:proxybox:session-ended"
    seen = record_of(recording, session)
    assert seen["record_fault"] == ""
    with proxybox.Record(kept(seen, tmp_path / "session.pbx")) as record:
        assert record.result is not None


def test_nothing_is_left_of_records_that_are_given_up(place: Place, recording: Server) -> None:
    session = recording.session(record=True)
    recording.execute(session, CODE)
    assert not [each for each in place.temporary.rglob("*") if each.is_file()]  # the file has no name
    recording.http.delete(session)
    record_of(recording, session)
    assert not [*recording.data.rglob("*.pbx")]
    with contextlib.closing(ServiceStore(f"sqlite:///{recording.data}/proxybox.sqlite", "test")) as store:
        assert store.used(place.one.split("_")[1]) == 0


def test_what_is_recorded_and_what_is_kept_has_the_room_of_a_key(place: Place, recording: Server) -> None:
    recorded = [recording.session(record=True) for _ in range(3)]
    answer = recording.post("/v1/sessions", {"record": True})
    assert problem(answer) == (
        413, "3 sessions of this key are recorded, and its files leave room for 3 records of 262,144 bytes "
        "(limits.artefacts): end some, or give up records that are kept",
    )  # fmt: skip
    others = {"Authorization": f"Bearer {place.other}"}
    answer = recording.post("/v1/sessions", {"record": True}, headers=others)
    assert answer.status_code == 201
    assert recording.http.delete(f"/v1/sessions/{answer.json()['id']}", headers=others).status_code == 204
    plain = recording.session()  # it needs no such room
    for session in recorded:
        recording.http.delete(session)
    more = [recording.session(record=True) for _ in range(2)]
    status, detail = problem(recording.post("/v1/sessions", {"record": True}))
    assert status == 413
    assert detail.startswith("2 sessions of this key are recorded, and its files leave room for 2 records of 262,144")
    for session in (*recorded, *more):
        recording.http.delete(session)
        record_of(recording, session)
    assert recording.execute(plain, "1")["status"] == "ok"


def test_a_session_of_a_websocket_can_be_recorded(place: Place, recording: Server, tmp_path: Path) -> None:
    pytest.importorskip("websockets", reason="the WebSocket needs the package websockets")
    from tests.serve.test_websocket import talking

    async def work() -> str:
        async with talking(recording) as talk:
            await talk.send(do="open", key=place.one, record=True)
            session = str((await talk.next())["session"])
            await talk.send(do="execute", id="1", code="print(input())")
            await talk.until("input_request")
            await talk.send(do="input", text="from the page\n")
            await talk.until("finished")
            return session

    session = f"/v1/sessions/{asyncio.run(asyncio.wait_for(work(), 60))}"
    while (
        recording.http.get(f"{session}/record").status_code == 409
    ):  # until the service has seen the end of the socket
        pass
    again = proxybox.replay(kept(record_of(recording, session), tmp_path / "session.pbx"))
    assert again.ok
    assert again.result.stdout == "from the page\n"


# --- what kills -------------------------------------------------------------------------------------------------------


def test_a_killed_worker_has_lost_the_record_and_it_is_said(recording: Server) -> None:
    session, ended = (recording.session(record=True) for _ in range(2))
    recording.execute(session, CODE)
    recording.http.delete(ended)
    for pid in workers(recording):
        os.kill(pid, signal.SIGKILL)
    while (answer := recording.http.get(f"{session}/record")).status_code == 409:  # until the service has noticed
        pass
    assert answer.json()["state"] == "lost"
    assert problem(answer) == (
        410, "no record is kept of this session: the session has ended: the process that served it has ended, "
        "and its record is lost with it",
    )  # fmt: skip
    assert record_of(recording, ended)["record_fault"] == ""
    while (answer := recording.post("/v1/sessions", {})).status_code == 503:  # the next worker starts
        assert answer.headers["retry-after"]


@pytest.mark.full
def test_a_record_outlives_its_service(tmp_path: Path) -> None:
    config = f"{CONFIG}\n{LIMITS}"
    with serving(tmp_path / "service", config) as server:
        ended, living = (server.session(record=True) for _ in range(2))
        printed = server.execute(ended, CODE)["stdout"]
        server.http.delete(ended)
        assert server.end() == 0
    with serving(tmp_path / "service", config) as server:
        for session in (ended, living):
            seen = record_of(server, session)
            assert seen["record_fault"] == ""
            again = proxybox.replay(kept(seen, tmp_path / "session.pbx"))
            assert again.ok
            assert (printed in again.result.stdout) == (session == ended)
        killed = server.session(record=True)
        server.process.kill()
        server.process.wait(60)
    with serving(tmp_path / "service", config) as server:
        answer = server.http.get(f"{killed}/record")
        assert problem(answer) == (
            410, "no record is kept of this session: the session has ended: the service was restarted"
        )  # fmt: skip


# --- what is kept -----------------------------------------------------------------------------------------------------


def in_a_loop(test: Callable[[ServiceStore], Any]) -> Callable[[Path], None]:
    """Runs a test in an event loop, with a database of its own."""

    def run(tmp_path: Path) -> None:
        with contextlib.closing(ServiceStore(f"sqlite:///{tmp_path}/db", "test")) as store:
            asyncio.run(test(store))

    run.__name__ = test.__name__
    return run


def told_in(*pieces: bytes, ends: bool = True) -> Callable[[Take], Any]:
    """Returns a worker's function that sends a record in these pieces."""

    async def hand_over(take: Take) -> bytes:
        for piece in pieces:
            await take(RecordPieceEvent(base64=base64.b64encode(piece).decode()))
        return json.dumps({"record_fault": "", "record_digest": "d"} if ends else {}).encode()

    return hand_over


async def gathered(pieces: AsyncIterator[bytes]) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(b"".join([piece async for piece in pieces]))
    return seen


@in_a_loop
async def test_a_record_is_kept_in_pieces(store: ServiceStore) -> None:
    records = SessionRecords(store, 1 << 20, 60)
    pieces = [bytes([number]) * 3000 for number in range(12)]
    assert await records.keep("key", "a", told_in(*pieces, b"end")) == ""
    found = await records.find("key", "a")
    assert found is not None
    seen = await gathered(records.as_json(found))
    assert base64.b64decode(seen.pop("record")["base64"]) == b"".join(pieces) + b"end"
    assert seen == {"record_fault": "", "record_digest": "d"}
    assert await records.find("key", "b") is await records.find("other", "a") is None
    store.remove("key", found.shelf, found.pieces[4])
    assert await records.find("key", "a") is None  # a part of it is missing


@in_a_loop
async def test_a_record_that_has_no_room_leaves_nothing_and_says_so(store: ServiceStore) -> None:
    records = SessionRecords(store, 20_000, 60)
    why = await records.keep("key", "a", told_in(b"a" * 12_000, b"b" * 12_000))
    assert "the files of this key have 12,000 bytes, and may have 20,000" in why
    assert await records.keep("key", "b", told_in(ends=False)) == "the process that served the box has ended"
    assert await records.find("key", "a") is await records.find("key", "b") is None
    assert store.used("key") == 0


@in_a_loop
async def test_old_records_are_given_up(store: ServiceStore) -> None:
    store.put("key", "files", "a", b"another file", room=1 << 20)
    for age, is_there in ((60.0, True), (-60.0, False)):
        records = SessionRecords(store, 1 << 20, age)
        await records.keep("key", "a", told_in(b"a"))
        await records.expire()
        assert (await records.find("key", "a") is not None) == is_there
    assert store.used("key") == 4096


@in_a_loop
async def test_a_busy_worker_is_asked_again_for_a_record(store: ServiceStore) -> None:
    """The job waits for a free line of the session's worker, and is refused when there is none in time."""
    answers: list[Any] = [Refusal("overloaded"), Refusal("rate-limited"), b'{"record_fault": "", "record_digest": ""}']

    class Busy:
        config = SimpleNamespace(limits=SimpleNamespace(artefacts=1 << 20))
        on_lost: ClassVar[list[Any]] = []

        async def ask(self, *_: Any, **__: Any) -> bytes:
            answer = answers.pop(0)
            if isinstance(answer, Refusal):
                raise answer
            seen: bytes = answer
            return seen

    session: Any = SimpleNamespace(id="a", call=None, worker=SimpleNamespace(number=0, ended=False), caller=ANONYMOUS)
    jobs: Any = Busy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "_RHYTHM", 0)
        assert await sessions.Sessions(ServiceSessions(), jobs, store)._keep_record(session) == ""
        answers[:] = [Refusal("not-ready", "the database cannot be used")]
        seen = await sessions.Sessions(ServiceSessions(), jobs, store)._keep_record(session)
    assert seen == "; its record is lost: the database cannot be used"


class Stuck:
    """A service's jobs, whose workers have no free line until `wanted` jobs have come. asked: their sessions."""

    config = SimpleNamespace(limits=SimpleNamespace(artefacts=1 << 20))
    on_lost: ClassVar[list[Any]] = []

    def __init__(self, wanted: int) -> None:
        self.asked, self._wanted, self._all = list[str](), wanted, asyncio.Event()

    async def ask(self, kind: str, caller: Any, job: EndJob, **_: Any) -> bytes:
        self.asked.append(job.session)
        if len(self.asked) == self._wanted:
            self._all.set()
        await self._all.wait()
        return b'{"record_fault": "", "record_digest": ""}'


async def idle_ones(jobs: Any, store: ServiceStore) -> sessions.Sessions:
    """Returns three recorded sessions that nobody has used for long."""
    all_of_them = sessions.Sessions(ServiceSessions(records=False), jobs, store)
    worker: Any = SimpleNamespace(number=0, ended=False)
    for name in "abc":
        all_of_them._all[name] = sessions.Served(
            id=name, caller=ANONYMOUS, worker=worker, policy="", language="", recorded=True, used=-1e9
        )
    return all_of_them


@in_a_loop
async def test_sessions_that_nobody_uses_do_not_wait_for_the_records_of_others(store: ServiceStore) -> None:
    """A worker without free lines delays the first record, but no other session."""
    jobs = Stuck(3)
    idle = await idle_ones(jobs, store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "_RHYTHM", 0)
        watching = asyncio.create_task(idle.watch())
        async with asyncio.timeout(20):
            await jobs._all.wait()
            while idle._closing:
                await asyncio.sleep(0)
        watching.cancel()
    assert sorted(jobs.asked) == ["a", "b", "c"]


@in_a_loop
async def test_a_service_that_ends_asks_for_all_records_at_once(store: ServiceStore) -> None:
    jobs = Stuck(3)
    idle = await idle_ones(jobs, store)
    async with asyncio.timeout(20):
        await idle.close()
    assert [await idle._records.find(ANONYMOUS.key, name) is not None for name in "abc"] == [True] * 3


# --- clients ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(place: Place, tmp_path: Path) -> Iterator[Client]:
    options: dict[str, Any] = {"transport": place.server.transport(), "record": tmp_path / "records"}
    with Client(place.server.address, place.one, **options) as client:
        yield client


def test_a_client_keeps_records_of_sessions_as_a_sandbox_does(
    recording: Server, client: Client, tmp_path: Path
) -> None:
    with client.session() as session:
        printed = session.exec(CODE).stdout
        with pytest.raises(CannotCopy, match="recorded"):
            session.fork()
        assert session.record is None
    with client.session(record=tmp_path / "named.pbx") as named:
        named.exec("import os; os._exit(1)")
    assert (session.record, named.record) == (tmp_path / "records" / "0001.pbx", tmp_path / "named.pbx")
    for each in (session, named):
        assert each.record is not None
        assert (each.record_fault, len(each.record_digest)) == ("", 64)
        assert proxybox.replay(each.record).ok
        assert recording.http.get(f"/v1/sessions/{each.id}/record").status_code == 410  # the service no longer has it
    assert printed in proxybox.replay(session.record).result.stdout
    session.close()
    assert session.record_fault == ""


def test_a_client_in_a_loop_does_so_too(place: Place, recording: Server, tmp_path: Path) -> None:
    async def work() -> None:
        transport = recording.async_transport()
        async with AsyncClient(recording.address, place.one, transport=transport) as client:
            async with await client.session() as plain:
                pass
            async with await client.session(record=tmp_path / "session.pbx") as session:
                await session.exec(CODE)
        assert (plain.record, plain.record_fault) == (None, "")
        assert (session.record, session.record_fault) == (tmp_path / "session.pbx", "")
        assert len(session.record_digest) == 64

    anyio.run(work)
    assert proxybox.replay(tmp_path / "session.pbx").ok


def test_a_client_says_what_became_of_a_record(recording: Server, client: Client, tmp_path: Path) -> None:
    with client.session(record=tmp_path / "nowhere" / "session.pbx") as session:
        pass
    assert (session.record, session.record_fault) == (None, "it cannot be written here: No such file or directory")
    assert record_of(recording, f"/v1/sessions/{session.id}")["record_fault"] == ""  # the service still has it
    with client.session() as session:
        recording.http.delete(f"/v1/sessions/{session.id}")
        record_of(recording, f"/v1/sessions/{session.id}")
        with pytest.raises(SandboxClosedError):
            session.exec("1")
    assert session.record is None
    assert session.record_fault == "no record is kept of this session: the session has ended: it was closed"


def test_a_client_that_is_refused_leaves_no_file(server: Server, tmp_path: Path) -> None:
    transport, refused = server.transport(), pytest.raises(PolicyError, match=r"limits\.record")
    with Client(server.address, transport=transport) as client, refused:
        client.session(record=tmp_path / "session.pbx")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("record", [{}, "x", [], 5, {"base64": 5}, {"base64": "a"}, {"base64": "a\n==="}, None])
def test_a_service_that_sends_no_record_spoils_no_file(record: object, tmp_path: Path) -> None:
    (tmp_path / "a.pbx").write_text("an earlier record")
    seen = record_of_answer({"record": record}, Taking.to(tmp_path / "a.pbx"))
    assert (seen.record, seen.record_fault, seen.is_here) == (None, "the service has sent no record", False)
    assert (tmp_path / "a.pbx").read_text() == "an earlier record"


def test_sessions_at_the_same_time_have_each_their_own(recording: Server, client: Client, tmp_path: Path) -> None:
    def work(number: int) -> None:
        with client.session(record=tmp_path / f"{number}.pbx") as session:
            session.exec(f"print('this is {number}')")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        assert proxybox.replay(tmp_path / f"{number}.pbx").result.stdout == f"this is {number}\n"
