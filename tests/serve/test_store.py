"""The service's database, SQLite or PostgreSQL: sessions, files, the audit; and a database that goes away."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the extra server is not installed")

import sqlalchemy as sql

from proxybox.serve import database
from proxybox.serve import store as module
from proxybox.serve.database import StoreError
from proxybox.serve.problems import Refusal
from proxybox.serve.retention import Retention
from proxybox.serve.store import KeyStorageFull, ServiceStore
from tests.serve import postgres
from tests.serve.conftest import serving

KIB = 1024
#: Texts that a database refuses, or could take for an escape.
ODD = ("a\0b", "\udc80", "\ud800x", "\\", "\\0;", "\\5c;", "é\U0001f40d", "")
#: A record of now: each store starts a thread that removes old records.
RECORD = {
    "id": "1", "at": time.time(), "key": "key", "client": "", "method": "GET", "path": "/", "http_status": 200,
    "seconds": 0.1, "policy": "", "language": "", "code_sha256": "", "status": "", "cpu": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/db.sqlite"
    made: str = request.getfixturevalue("server").database()
    return made


@pytest.fixture
def store(url: str) -> Iterator[ServiceStore]:
    with contextlib.closing(ServiceStore(url, "test")) as store:
        yield store


def names(store: ServiceStore, key: str, shelf: str) -> list[str]:
    return [str(file["name"]) for file in store.shelf(key, shelf)]


def audited(url: str) -> list[Any]:
    """Returns the rows of the audit, oldest first."""
    engine = sql.create_engine(url)
    try:
        with engine.connect() as connection:
            return list(connection.execute(sql.text("select id, path, at, cpu from audit order by number")).all())
    finally:
        engine.dispose()


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_sessions_and_their_ends(store: ServiceStore) -> None:
    before = time.time()
    store.begin_session("1", "key", "default", "python")
    known = store.session("1", "key")
    assert known is not None
    assert before <= known["made"] <= time.time()  # in any time zone of the database
    assert (known["state"], known["reason"], known["ended"]) == ("live", "", None)
    assert store.session("1", "other") is store.session("2", "key") is None
    store.end_session("1", "ended", "it was closed")
    store.end_session("1", "lost", "a second end")
    known = store.session("1", "key")
    assert known is not None
    assert (known["state"], known["reason"], known["ended"] >= known["made"]) == ("ended", "it was closed", True)


def test_a_service_that_starts_again_has_lost_its_own_sessions(url: str) -> None:
    with contextlib.closing(ServiceStore(url, "one")) as one, contextlib.closing(ServiceStore(url, "other")) as other:
        one.begin_session("1", "key", "default", "python")
        other.begin_session("2", "key", "default", "python")
        with contextlib.closing(ServiceStore(url, "one")) as again:
            seen = [again.session(identity, "key") for identity in ("1", "2")]
    assert [known and (known["state"], known["reason"]) for known in seen] == [
        ("lost", "the service was restarted"), ("live", ""),
    ]  # fmt: skip


def test_services_that_start_at_the_same_time(url: str) -> None:
    together = threading.Barrier(4)

    def start(number: int) -> None:
        together.wait()
        with contextlib.closing(ServiceStore(url, str(number))) as store:
            store.begin_session(str(number), "key", "default", "python")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(start, range(4)))


def test_a_shelf_is_cleared_and_expires(store: ServiceStore) -> None:
    for shelf in ("a/1", "a/2", "b"):
        for name in ("one", "two"):
            store.put("key", shelf, name, b"x" * 5 * KIB, room=64 * KIB)
    store.put("other", "a/1", "one", b"", room=64 * KIB)
    assert (store.used("key"), store.used("other"), store.used("none")) == (30 * KIB, 4 * KIB, 0)
    assert (store.clear("key", "a/1"), store.clear("key", "a/1"), store.clear("key", "a/")) == (True, False, False)
    assert names(store, "other", "a/1") == ["one"]
    store.expire("a/", time.time() - 60)
    assert names(store, "key", "a/2") == ["one", "two"]
    store.expire("a/", time.time() + 60)
    assert (names(store, "key", "a/2"), names(store, "other", "a/1")) == ([], [])
    assert store.used("key") == 10 * KIB


@pytest.mark.parametrize("text", ODD)
def test_any_text_comes_back(store: ServiceStore, text: str) -> None:
    store.begin_session("1", "key", "default", "python")
    store.end_session("1", "ended", text)
    known = store.session("1", "key")
    assert known is not None
    assert known["reason"] == text
    identity = store.put("key", "shelf", text, b"1", room=16 * KIB)
    assert store.put("key", "shelf", text, b"2", room=16 * KIB) != identity
    assert names(store, "key", "shelf") == [text]
    if text:
        assert store.session(f"1{text}", "key") is None
        assert store.get("key", "shelf", identity + text) is None
        assert not store.remove("key", f"shelf{text}", identity)


# --- files ------------------------------------------------------------------------------------------------------------


def test_files(store: ServiceStore) -> None:
    before, content = time.time(), bytes(range(256))
    identity = store.put("key", "shelf", "name", content, room=16 * KIB)
    assert store.get("key", "shelf", identity) == ("name", content)
    assert store.get("other", "shelf", identity) is store.get("key", "other", identity) is None
    (file,) = store.shelf("key", "shelf")
    assert (file["id"], file["name"], file["size"]) == (identity, "name", 256)
    assert before <= file["made"] <= time.time()
    assert [store.remove(key, "shelf", identity) for key in ("other", "key", "key")] == [False, True, False]
    assert store.shelf("key", "shelf") == []


def test_a_large_file(store: ServiceStore) -> None:
    content = bytes(range(256)) * (128 * KIB)
    identity = store.put("key", "shelf", "large", content, room=len(content))
    assert store.get("key", "shelf", identity) == ("large", content)


def test_files_are_told_in_the_order_of_their_names(store: ServiceStore) -> None:
    """A database would use the order of its locale."""
    for name in ("é", "b", "B", "a", "_", "Z"):
        store.put("key", "shelf", name, b"", room=64 * KIB)
    assert names(store, "key", "shelf") == ["B", "Z", "_", "a", "b", "é"]


def test_empty_files_take_up_room(store: ServiceStore) -> None:
    for number in range(4):
        store.put("key", "shelf", str(number), b"", room=16 * KIB)
    with pytest.raises(KeyStorageFull, match="have 16,384 bytes, and may have 16,384"):
        store.put("key", "shelf", "5", b"", room=16 * KIB)
    assert names(store, "key", "shelf") == ["0", "1", "2", "3"]


def test_what_has_no_room_does_not_remove_what_it_was_to_replace(store: ServiceStore) -> None:
    identity = store.put("key", "shelf", "name", b"1", room=16 * KIB)
    with pytest.raises(KeyStorageFull):
        store.put("key", "shelf", "name", b"x" * 17 * KIB, room=16 * KIB)
    assert store.get("key", "shelf", identity) == ("name", b"1")


def test_the_oldest_files_of_a_door_make_room_for_the_latest(store: ServiceStore) -> None:
    store.put("key", "rest", "theirs", b"x" * 4 * KIB, room=16 * KIB)
    store.put("other", "door/1", "theirs", b"x" * 4 * KIB, room=16 * KIB)
    for number in range(3):
        store.put("key", f"door/{number}", f"{number}", b"x" * 4 * KIB, room=16 * KIB, evict="door/")
    store.put("key", "door/3", "3", b"x" * 5 * KIB, room=16 * KIB, evict="door/")
    assert [names(store, "key", f"door/{number}") for number in range(4)] == [[], [], ["2"], ["3"]]
    assert names(store, "key", "rest") == ["theirs"]
    assert names(store, "other", "door/1") == ["theirs"]


def test_what_has_no_room_at_all_leaves_the_others_alone(store: ServiceStore) -> None:
    store.put("key", "rest", "theirs", b"x" * 8 * KIB, room=16 * KIB)
    store.put("key", "door/1", "1", b"x" * 4 * KIB, room=16 * KIB, evict="door/")
    for size in (9 * KIB, 17 * KIB):
        with pytest.raises(KeyStorageFull):
            store.put("key", "door/2", "2", b"x" * size, room=16 * KIB, evict="door/")
    assert names(store, "key", "door/1") == ["1"]


def test_files_that_come_at_the_same_time_have_the_room_of_their_key_alone(store: ServiceStore) -> None:
    together = threading.Barrier(8)

    def put(number: int) -> bool:
        together.wait()
        try:
            store.put("key", "shelf", str(number), b"x" * 4 * KIB, room=8 * KIB)
        except KeyStorageFull:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(put, range(8))) == 2
    assert len(store.shelf("key", "shelf")) == 2


def test_a_file_that_comes_twice_at_the_same_time_is_kept_once(store: ServiceStore) -> None:
    together = threading.Barrier(4)

    def put(_: int) -> str:
        together.wait()
        return store.put("key", "shelf", "name", b"x", room=64 * KIB, identity="chosen")

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(put, range(4))) == ["chosen"] * 4
    assert names(store, "key", "shelf") == ["name"]


def test_a_key_waits_for_its_own_files_alone_and_not_for_good(
    server: postgres.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another service may have stopped in the middle of a change."""
    monkeypatch.setattr(database, "_WAITING", 0.1)
    url = server.database()
    with contextlib.closing(ServiceStore(url, "one")) as one, contextlib.closing(ServiceStore(url, "other")) as other:
        with one._changing() as connection:
            one._database.take_turns(connection, "key")
            with pytest.raises(StoreError, match="lock timeout"):
                other.put("key", "shelf", "name", b"", room=16 * KIB)
            other.put("another", "shelf", "name", b"", room=16 * KIB)
        other.put("key", "shelf", "name", b"", room=16 * KIB)


# --- the audit --------------------------------------------------------------------------------------------------------


def test_the_audit_has_every_record_that_can_be_written(url: str) -> None:
    with contextlib.closing(ServiceStore(url, "test")) as store:
        store.note({**RECORD, "id": "1", "path": "/a\0"})
        store.note({**RECORD, "id": None})
        store.note({**RECORD, "id": "3", "cpu": 0.25})
    assert store.records_lost == 1
    assert [(row[0], *row[2:]) for row in audited(url)] == [("1", RECORD["at"], None), ("3", RECORD["at"], 0.25)]


def test_no_more_records_wait_than_are_allowed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEHIND", 5)
    monkeypatch.setattr(module, "_RHYTHM", 3600)
    with contextlib.closing(ServiceStore(url, "test")) as store:
        for number in range(8):
            store.note({**RECORD, "id": str(number)})
    assert store.records_lost == 3
    assert [row[0] for row in audited(url)] == ["0", "1", "2", "3", "4"]


# --- a database that goes away ----------------------------------------------------------------------------------------


@pytest.fixture
def place(server: postgres.Postgres) -> str:
    """The URL of a database in PostgreSQL, with a short timeout of connections."""
    return f"{server.database()}&connect_timeout=2"


@pytest.fixture
def there(place: str) -> Iterator[ServiceStore]:
    with contextlib.closing(ServiceStore(place, "test")) as store:
        store.begin_session("1", "key", "default", "python")
        yield store


def _ask(store: ServiceStore) -> Any:
    return asyncio.run(store.ask(store.session, "1", "key"))


def _is_refused(store: ServiceStore) -> None:
    with pytest.raises(Refusal, match=r"^the database cannot be used$") as refused:
        _ask(store)
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "5"})


def test_a_server_that_ends_and_is_back(
    there: ServiceStore, place: str, server: postgres.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records for the audit wait until the server is back."""
    tried, write = threading.Event(), there._write_at_once

    def try_to_write(records: Any) -> None:
        try:
            write(records)
        finally:
            tried.set()

    monkeypatch.setattr(there, "_write_at_once", try_to_write)
    server.stop()
    try:
        with pytest.raises(StoreError, match=r"the database cannot be used: .*No such file or directory"):
            there.session("1", "key")
        _is_refused(there)
        with pytest.raises(StoreError, match=r"the database cannot be opened: .*No such file or directory"):
            ServiceStore(place, "another")
        there.note(RECORD)
        tried.wait()
    finally:
        server.start()
    assert _ask(there)["state"] == "live"
    there.close()
    assert (there.records_lost, len(audited(place))) == (0, 1)


@pytest.mark.full
def test_a_server_that_falls_silent(
    there: ServiceStore, server: postgres.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread waits for ever, and the service can end."""
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with server.silent():
        stuck = there._threads.submit(there.session, "1", "key")
        _is_refused(there)
        assert isinstance(stuck.exception(), StoreError)
    monkeypatch.undo()
    assert _ask(there)["state"] == "live"
    monkeypatch.setattr(module, "_AT_THE_END", 0.1)
    with server.silent():
        there.note(RECORD)
        there.close()
    assert there.records_lost == 1


@pytest.mark.full
def test_a_service_whose_database_goes_away(place: str, server: postgres.Postgres, tmp_path: Path) -> None:
    """Runs need no database; other requests are refused until it is back. Then the ends of sessions are stored."""
    with (
        serving(tmp_path, f'database = "{place}"') as service,
        contextlib.closing(ServiceStore(place, "another")) as other,
    ):
        other.begin_session("theirs", "", "default", "python")
        kept, ended = service.session(), service.session()
        server.stop()
        try:
            assert service.run("print(1)")["stdout"] == "1\n"
            assert service.execute(kept, "print(2)")["stdout"] == "2\n"
            answer = service.post("/v1/sessions", {})
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:proxybox:not-ready")
            assert answer.headers["retry-after"] == "5"
            assert service.http.get("/v1/sessions/unknown").status_code == 503
            assert service.http.delete(ended).status_code == 204
            assert service.http.get(ended).json()["reason"] == "it was closed"
        finally:
            server.start()
        assert service.execute(service.session(), "print(3)")["stdout"] == "3\n"
        seen = [service.http.get(f"/v1/sessions/{identity}") for identity in ("%00", "theirs")]
        assert [answer.status_code for answer in seen] == [404, 404]
        assert "another service has it" in seen[1].json()["detail"]
        while _state(other, ended) != ["ended", "it was closed"]:
            pass  # the service tries each second
        assert _state(other, kept) == ["live", ""]
        assert service.end() == 0
        assert _state(other, kept) == ["ended", "the service has ended"]
    assert [row[1] for row in audited(place)].count("/v1/run") == 1


def _state(store: ServiceStore, session: str) -> list[str]:
    known = store.session(session.rpartition("/")[2], "")
    assert known is not None
    return [known["state"], known["reason"]]


# --- what cannot be opened --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_driver_that_is_missing(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"psycopg is not installed: pip install 'proxybox\[postgres\]'"):
        ServiceStore(f"{scheme}://user:secret@localhost/db", "test")


def test_a_database_of_another_encoding(server: postgres.Postgres) -> None:
    with pytest.raises(StoreError, match=r"its encoding is LATIN1 \(allowed: UTF8\)"):
        ServiceStore(server.database("LATIN1"), "test")


@pytest.mark.parametrize(("url", "words"), [
    ("sqlite+aiosqlite://", "sqlite.aiosqlite is for asyncio"), ("mysql+nothing://", "plugin"), ("nowhere", "URL"),
    ("sqlite:////proc/nowhere/db", "No such file"),
])  # fmt: skip
def test_urls_of_no_database(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=f"the database cannot be opened: .*{words}"):
        ServiceStore(url, "test")


# --- what does not stay -----------------------------------------------------------------------------------------------


def test_records_that_are_old_are_removed(url: str) -> None:
    now = time.time()
    with contextlib.closing(ServiceStore(url, "test", Retention(records="1h", files="2h"))) as store:
        store._write_at_once([{**RECORD, "id": str(number), "at": now + 10.0 * number} for number in range(10)])
        store.begin_session("1", "key", "default", "python")
        identity = store.put("key", "shelf", "name", b"1", room=16 * KIB)
        store.remove_old(now + 3600 + 50)
        assert [row[0] for row in audited(url)] == ["5", "6", "7", "8", "9"]
        assert store.session("1", "key") is None
        assert store.get("key", "shelf", identity) == ("name", b"1")
        store.remove_old(time.time() + 7210)
        assert store.get("key", "shelf", identity) is None


def test_the_audit_has_a_size(url: str) -> None:
    """The oldest records are removed, and some more, so that the next check need not remove any."""
    now, path = time.time(), "/" + "x" * 499
    with contextlib.closing(ServiceStore(url, "test", Retention(audit="1M"))) as store:
        for first in range(0, 8000, 1000):
            store._write_at_once([{**RECORD, "id": str(first + n), "at": now, "path": path} for n in range(1000)])
        store.remove_old(now)
        kept = [int(row[0]) for row in audited(url)]
        assert kept == list(range(8000 - len(kept), 8000))
        assert 0.8 * (1 << 20) < 660 * len(kept) < 1 << 20
        store.remove_old(now)
        assert len(audited(url)) == len(kept)


def test_how_sessions_have_ended_has_a_size(url: str) -> None:
    with contextlib.closing(ServiceStore(url, "test", Retention(sessions="1M"))) as store:
        with store._changing() as connection:
            rows = [
                {"id": str(n), "service": "s", "key": "key", "policy": "p", "language": "l", "made": float(n),
                 "state": "ended", "reason": "x" * 1000, "ended": 1.0} for n in range(2000)
            ]  # fmt: skip
            connection.execute(module._sessions.insert(), rows)
        store._thin_out(module._sessions, module._sessions.c.made, module._sessions.c.made, 0.0, 1 << 20)
        assert store.session("1999", "key") is not None
        assert store.session("1000", "key") is None


def test_the_room_that_a_record_takes_up_is_about_what_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with contextlib.closing(ServiceStore(f"sqlite:///{path}", "test")) as store:
        rows = [{**RECORD, "id": f"{n:016x}", "at": time.time(), "path": "/v1/run", "code_sha256": "0" * 64}
                for n in range(10_000)]  # fmt: skip
        store._write_at_once(rows)
    taken, counted = path.stat().st_size / len(rows), module._ROW + 16 + 3 + 3 + 7 + 64
    assert 0.6 * counted < taken < 1.2 * counted


def test_old_records_are_removed_while_the_service_runs(tmp_path: Path) -> None:
    """The audit's thread checks at its start, and once a minute."""
    url = f"sqlite:///{tmp_path}/db.sqlite"
    with contextlib.closing(ServiceStore(url, "test")) as store:
        store._write_at_once([{**RECORD, "at": 1.0}])
    with contextlib.closing(ServiceStore(url, "test")):
        while audited(url):
            pass
