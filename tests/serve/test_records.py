"""Records of runs at a service: a request can ask for one if the operator allows that; nobody else gets it."""

import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import attrs
import pytest

import proxybox
from proxybox import AsyncClient, Client
from proxybox.controller.record.format import frames
from tests.serve.conftest import CONFIG, Server, serving

CODE = "import random, time; print(random.random(), time.time())"


@attrs.define
class Place:
    """The folders of these tests' service. mounted: a folder of the host. temporary: its $TMPDIR."""

    mounted: Path
    temporary: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    mounted, temporary = tmp_path_factory.mktemp("on-the-host"), tmp_path_factory.mktemp("temporary")
    (mounted / "data.txt").write_text("what is read")
    return Place(mounted, temporary)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, place: Place) -> Iterator[Server]:
    """A service whose operator allows records."""
    mounts = f'[policies.mounted]\nfilesystem = {{ mounts = ["{place.mounted}:/data"] }}\n'
    config = f'{CONFIG}\n{mounts}\n[limits]\nrecord = "256K"\n'
    folder, env = tmp_path_factory.mktemp("recording"), {"TMPDIR": str(place.temporary)}
    with serving(folder, config, env=env) as server:
        yield server


def kept(seen: dict, path: Path) -> Path:
    """Writes the record of a result to a file."""
    path.write_bytes(base64.b64decode(seen["record"]["base64"], validate=True))
    return path


def test_a_run_brings_its_record_back(recording: Server, tmp_path: Path) -> None:
    seen = recording.run(CODE, record=True)
    assert (seen["status"], seen["record_fault"]) == ("ok", "")
    again = proxybox.replay(kept(seen, tmp_path / "run.pbx"))
    assert again.ok
    assert again.result.stdout == seen["stdout"]
    assert len(seen["record_digest"]) == 64


def test_a_run_that_asks_for_none_has_none(recording: Server) -> None:
    for more in ({}, {"record": False}):
        assert "record" not in recording.run("print(1)", **more)


@pytest.mark.parametrize("more", [
    {"env": {"A": "b"}}, {"files": {"main.py": "print('b')"}, "entry": "main.py", "code": None}, {"stdin": "b\n"},
    {"policy": "strict"}, {"limits": {"memory": "128M"}},
])  # fmt: skip
def test_however_a_run_is_asked_for(recording: Server, more: dict, tmp_path: Path) -> None:
    body = {"code": "import sys; print(sys.stdin.read())", "record": True, **more}
    seen = recording.post("/v1/run", {key: value for key, value in body.items() if value is not None}).json()
    assert seen["status"] == "ok", seen
    assert proxybox.replay(kept(seen, tmp_path / "run.pbx")).result.stdout == seen["stdout"]


def test_a_stream_ends_with_the_record(recording: Server, tmp_path: Path) -> None:
    answer = recording.post("/v1/run", {"code": CODE, "record": True}, headers={"Accept": "application/x-ndjson"})
    *before, last = map(json.loads, answer.text.splitlines())
    assert last["event"] == "finished"
    assert all("record" not in event for event in before)
    assert proxybox.replay(kept(last["result"], tmp_path / "run.pbx")).ok


def test_a_record_tells_nothing_of_the_host_that_a_run_does_not(
    recording: Server, place: Place, tmp_path: Path
) -> None:
    seen = recording.run("print(open('/data/data.txt').read())", policy="mounted", record=True)
    assert seen["stdout"] == "what is read\n"
    data = base64.b64decode(seen["record"]["base64"])
    everything = b"".join(frame.data for frame in frames(io.BytesIO(data)))
    assert b"what is read" in everything
    for secret in (place.mounted, recording.data, place.temporary, recording.log.parent):
        assert os.fsencode(secret) not in everything
    assert proxybox.replay(kept(seen, tmp_path / "run.pbx")).ok


def test_a_run_that_needs_a_larger_record_is_ended_and_says_so(recording: Server, tmp_path: Path) -> None:
    seen = recording.run("import os\nwhile True: print(len(os.urandom(60_000)))", record=True)
    assert seen["status"] == "disk_limit"
    for text in (seen["why"], seen["record_fault"]):
        assert "the record has reached its limit of 262,144 bytes" in text
    assert len(seen["record"]["base64"]) < 12 << 20
    with proxybox.Record(kept(seen, tmp_path / "run.pbx")) as record:
        assert record.result is None or record.result.status == "disk_limit"
        assert record.guest


def test_a_run_that_its_caller_ends_has_its_record_all_the_same(recording: Server, tmp_path: Path) -> None:
    code, headers = "print('there', flush=True)\nwhile True: pass", {"Accept": "application/x-ndjson"}
    with recording.http.stream("POST", "/v1/run", json={"code": code, "record": True}, headers=headers) as answer:
        lines = map(json.loads, answer.iter_lines())
        run = next(lines)["run"]
        assert next(lines)["text"] == "there\n"
        with recording.client() as other:
            assert other.delete(f"/v1/runs/{run}").status_code == 204
        last = list(lines)[-1]
    assert last["result"]["status"] == "cancelled"
    with proxybox.Record(kept(last["result"], tmp_path / "run.pbx")) as record:
        assert record.result is not None


def test_nothing_is_left_on_the_disk_nor_in_the_log(recording: Server, place: Place) -> None:
    seen = recording.run(CODE, record=True)
    assert not [*place.temporary.rglob("*.pbx"), *recording.data.rglob("*.pbx")]
    assert not [each for each in place.temporary.iterdir() if each.is_file()]
    assert seen["record"]["base64"][:40].encode() not in recording.log.read_bytes()


# --- clients ----------------------------------------------------------------------------------------------------------


def test_clients_keep_records_as_sandboxes_do(recording: Server, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    with Client(recording.address, transport=recording.transport(), record=folder) as client:
        printed: list[str] = []
        results = [client.run(CODE), client.run(CODE, on_stdout=printed.append)]
        assert [result.record for result in results] == [folder / "0001.pbx", folder / "0002.pbx"]
        named = client.run("1 / 0", record=tmp_path / "named.pbx")
    assert named.record == tmp_path / "named.pbx"
    assert named.record.stat().st_mode & 0o777 == 0o600
    assert printed == [results[1].stdout]
    for result in (*results, named):
        assert (result.record_fault, len(result.record_digest)) == ("", 64)
        again = proxybox.replay(result.record)
        assert again.ok
        assert (again.result.stdout, again.result.stderr) == (result.stdout, result.stderr)


def test_a_client_in_a_loop_keeps_records(recording: Server, tmp_path: Path) -> None:
    async def run() -> proxybox.Result:
        transport = recording.async_transport()
        async with AsyncClient(recording.address, transport=transport, record=tmp_path) as client:
            await client.run(CODE)
            return await client.run(CODE, on_stdout=lambda _: None)

    result = anyio.run(run)
    assert result.record == tmp_path / "0002.pbx"
    for path in (tmp_path / "0001.pbx", result.record):
        assert proxybox.replay(path).ok


def test_a_client_that_cannot_write_has_the_result_all_the_same(recording: Server, tmp_path: Path) -> None:
    with Client(recording.address, transport=recording.transport()) as client:
        result = client.run("print(1)", record=tmp_path / "nowhere" / "run.pbx")
    assert (result.stdout, result.record) == ("1\n", None)
    assert "cannot be written here: No such file or directory" in result.record_fault
