"""Attacks on shared resources: memory, the disk, time, and the order in which things happen."""

import asyncio
import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")

from proxybox.classroom import buckets, connected, hub
from proxybox.classroom.app import app
from proxybox.classroom.boxes import Desk, SeatRun
from proxybox.classroom.config import ClassroomConfig
from proxybox.classroom.connected import Connected
from proxybox.classroom.models import Save
from proxybox.classroom.pageevents import FilesEvent, OutEvent
from proxybox.classroom.records import HandIn
from proxybox.classroom.results import bounded
from proxybox.classroom.seats import Attempts, Seats
from proxybox.classroom.store import ClassStore
from proxybox.serve.callers import Caller
from proxybox.serve.database import StoreError
from proxybox.serve.problems import Refusal
from proxybox.teach.grades import Grade, Verdict
from tests.classroom.attacking import Student, Target, patiently, write_course


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[ClassStore]:
    store = ClassStore(str(tmp_path / "classroom.sqlite"))
    yield store
    store.close()


# --- requests ---------------------------------------------------------------------------------------------------------


def test_who_floods_is_told_to_wait_while_another_works(room: Target) -> None:
    flooder, honest = room.join("Flooder"), room.join("Honest")
    answers = [flooder.http.get("/api/me").status_code for _ in range(1_000)]
    while 429 not in answers:
        answers += [flooder.http.post("/api/hand", json={"up": True}).status_code for _ in range(500)]
    assert set(answers) == {200, 429}
    refused = flooder.http.get("/api/exercises/double")
    while refused.status_code != 429:
        refused = flooder.http.get("/api/exercises/double")
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert honest.put({"solution.py": "1"}).status_code == 200
    assert flooder.http.get("/static/style.css").status_code == 200


def test_large_requests_take_more_of_a_bucket_than_small_ones(room: Target) -> None:
    student = room.join()
    text = "x" * (1 << 20)
    answers = [student.put({"solution.py": text, "more.py": text}).status_code for _ in range(4)]
    assert answers[0] == 200
    assert answers[-1] == 429, "eight megabytes of text at once"


def test_a_bucket_is_in_debt_until_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [buckets.time.monotonic() + 1_000]
    monkeypatch.setattr(buckets.time, "monotonic", lambda: now[0])
    all_of_them = buckets.Buckets()
    for _ in range(200):
        all_of_them.enter("a")
    with pytest.raises(Refusal) as refused:
        all_of_them.enter("a")
    assert refused.value.headers["Retry-After"] == "1"
    all_of_them.enter("b")
    all_of_them.take("a", 4 << 20)
    now[0] += 5
    with pytest.raises(Refusal) as refused:
        all_of_them.enter("a")
    assert refused.value.headers["Retry-After"] == "2"
    now[0] += 2
    all_of_them.enter("a")


def test_all_seats_can_be_taken_and_no_more(tmp_path: Path, kept: ClassStore) -> None:
    seats = Seats(kept, (), 3)

    async def join() -> list[str]:
        joins = (seats.join("1", f"Name {number}", "AAA", "AAA", locked=False) for number in range(20))
        done = await asyncio.gather(*joins, return_exceptions=True)
        return [each.kind if isinstance(each, Refusal) else "joined" for each in done]

    assert sorted(asyncio.run(join())) == ["forbidden"] * 17 + ["joined"] * 3


def test_wrong_codes_of_many_addresses_are_counted_together_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, of_teacher = Attempts(), Attempts(most_of_all=None)
    for number in range(20_000):
        attempts.note(f"address {number % 12_000}")
        of_teacher.note(f"address {number}")
    assert len(attempts._wrong) <= 10_000
    assert len(attempts._all) <= 1_000
    with pytest.raises(Refusal):
        attempts.check("somebody else")
    of_teacher.check("somebody else")
    monkeypatch.setattr("proxybox.classroom.seats.time.monotonic", lambda: 10.0**9)
    attempts.check("somebody else")


# --- bodies (connections: tests/serve/test_connections.py) ------------------------------------------------------------


def test_large_bodies_are_no_headers(room: Target) -> None:
    """Also where one receive has the last piece of a body and much more, and the connection is used again."""
    student = room.join()
    for number in range(3):
        assert student.put({"solution.py": "x" * 300_000 + str(number)}).status_code == 200
        assert student.http.get("/static/style.css").status_code == 200


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_seat_has_few_streams(room: Target) -> None:
    student, other = room.join(), room.join()
    with contextlib.ExitStack() as open_ones:
        for _ in range(6):
            open_ones.enter_context(student.events())
        answer = student.http.get("/api/events")
        assert answer.status_code == 429
        assert answer.headers["retry-after"]
        with other.events() as events:
            assert events.hello["stream"]
    assert patiently(lambda: student.http.get("/api/me").status_code == 200)


def read_later(topics: Any, seen: Any, *, until: Any) -> list[bytes]:
    """Returns a reader's pieces; the reader takes the first one, and the others only after all events were sent."""

    async def read() -> list[bytes]:
        all_of_them = hub.Hub()
        reader = all_of_them.read(topics, None)
        pieces = reader.pieces()
        found = [await anext(pieces)]
        seen(all_of_them)
        until(all_of_them, reader)
        all_of_them.finish("topic")
        return found + [piece async for piece in pieces]

    return asyncio.run(read())


def printed(text: str) -> OutEvent:
    return OutEvent(run="r", stream="stdout", text=text)


def test_a_slow_reader_is_cut_off_and_what_waited_is_let_go() -> None:
    def tell(all_of_them: hub.Hub) -> None:
        for _ in range(100):
            all_of_them.tell("topic", printed("x" * 100_000))

    def until(_: hub.Hub, reader: hub.Reader) -> None:
        assert reader.ended.is_set()
        assert not reader._waiting

    assert read_later(("topic",), tell, until=until) == [b"retry: 1000\n\n"]


def test_what_waits_is_sent_in_small_pieces_and_counted_until_then() -> None:
    def tell(all_of_them: hub.Hub) -> None:
        for _ in range(100):
            all_of_them.tell("topic", printed("x" * 10_000))

    pieces = read_later(("topic",), tell, until=lambda *_: None)
    assert max(map(len, pieces)) < 80_000
    assert b"".join(pieces).count(b"event: out\n") == 100


def test_many_readers_of_a_topic_share_what_waits_and_the_topic_forgets() -> None:
    async def tell() -> None:
        all_of_them = hub.Hub()
        for number in range(20_000):
            all_of_them.tell("topic", printed("x" * 1_000 + str(number)))
        topic = all_of_them._topics["topic"]
        assert topic.bytes == sum(event.size for event in topic.kept) <= 1 << 19
        all_of_them.tell("topic", printed("y" * 3_000_000))
        assert not topic.kept
        assert all_of_them.read(("topic",), f"{all_of_them._boot}-5")._waiting[-1].name == "resync"

    asyncio.run(tell())


def test_a_student_does_not_cut_off_the_teacher_who_watches() -> None:
    """Two megabytes of text at each save are more than may wait in memory: the page is asked to load them instead."""

    async def watch() -> list[Any]:
        all_of_them = hub.Hub()
        reader = all_of_them.read(("teacher",), None)
        assert all_of_them.watch(reader.id, "seat:x", within="teacher")
        for _ in range(20):
            all_of_them.show("seat:x", FilesEvent(exercise="a", version=1, files={"solution.py": "\u2028" * 2_000_000}))
        assert not reader.ended.is_set()
        return [json.loads(event.data) for event in reader._waiting if event.name == "watched"]

    assert asyncio.run(watch()) == [{"seat": "x", "event": "resync", "data": {}}] * 20


def test_a_browser_that_does_not_read_costs_no_memory(room: Target) -> None:
    student = room.join()
    cookie = student.http.cookies["seat"]
    head = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{room.port}\r\nCookie: seat={cookie}\r\n\r\n"
    code = "for _ in range(90):\n    print('x' * 4000)"
    student.until("finished", code)
    before = room.memory()
    with contextlib.ExitStack() as open_ones:
        for _ in range(3):  # of six: a stream that has just ended may still be counted
            connection = open_ones.enter_context(room.connect())
            connection.sendall(head.encode())
            assert connection.recv(12) == b"HTTP/1.1 200"
        for _ in range(6):
            student.until("finished", code)
        assert room.memory() - before < 40 << 20
        assert room.join().http.get("/api/me").status_code == 200


# --- memory -----------------------------------------------------------------------------------------------------------


def test_what_is_remembered_of_saves_and_hand_ins_has_no_texts(tmp_path: Path) -> None:
    made = app(ClassroomConfig(course=str(write_course(tmp_path / "course")), data=str(tmp_path / "data"))).lesson
    sheet = made.sheet("double")

    async def fill() -> None:
        for number in range(80):
            files = {"solution.py": f"# {number}" + "x" * 100_000}
            body = Save(save=f"save {number}", files=files)
            saved = await made.work.save("seat", sheet, body)
            again = await made.work.save("seat", sheet, body)
            assert (again.version, again.files) == (saved.version, saved.files)
            await made.work.hand_in("seat", sheet, Save(save=f"hand-in {number}"))

    asyncio.run(fill())
    made.store.close()
    assert all(not saved.files for saves in made.work._saves.values() for _, saved in saves)
    assert sum(map(len, made.work._saves.values())) <= 50
    assert all(not handed.files for handed in made.work.handed_in.values())


def test_a_save_of_one_exercise_is_not_taken_for_one_of_another(tmp_path: Path) -> None:
    made = app(ClassroomConfig(course=str(write_course(tmp_path / "course")), data=str(tmp_path / "data"))).lesson

    async def save() -> list[dict[str, str]]:
        for exercise, name in (("double", "solution.py"), ("cases", "main.py")):
            await made.work.save("seat", made.sheet(exercise), Save(save="the same", files={name: exercise}))
        return [dict((await made.work.text("seat", made.sheet(exercise))).files) for exercise in ("double", "cases")]

    texts = asyncio.run(save())
    made.store.close()
    assert texts == [{"solution.py": "double"}, {"main.py": "cases"}]


def test_what_is_kept_of_all_runs_of_a_seat_is_bounded() -> None:
    desk = Desk(Caller())
    for number in range(20):
        run = SeatRun(exercise=f"exercise {number}", kind="run")
        desk.keep(run)
        run.pictures = 4 << 20
    assert list(desk.last) == ["exercise 18", "exercise 19"]


def test_what_a_submission_says_in_its_grade_is_cut() -> None:
    test = Verdict(name="test", status="error", message="m" * 10**6, output="o" * 10**6, fault="f" * 10**6)
    grade = bounded(Grade(student="x", tests=(test,) * 3, code="c" * 10**6, message="x" * 10**6))
    assert len(json.dumps(attrs.asdict(grade))) < 100_000


# --- the disk ---------------------------------------------------------------------------------------------------------


def sizes(path: Path, table: str) -> list[int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(f"select length(files) from {table}")]


def test_versions_of_a_seat_are_bounded_however_they_are_made(
    tmp_path: Path, kept: ClassStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a page that chooses its saves so that no new version has a number divisible by eight."""
    monkeypatch.setattr(connected, "MOST_BYTES", 1 << 20)

    async def fill() -> None:
        for number in range(200):
            why = "saved" if number % 8 in (6, 7) else "run"
            files = {"solution.py": f"{number}" + "x" * 50_000}
            await kept.do(
                Connected.save,
                "seat",
                "double",
                lambda _, files=files: files,
                now=float(number),
                why=why,
                base=0,
                save=f"{number}",
            )

    asyncio.run(fill())
    assert sum(sizes(tmp_path / "classroom.sqlite", "texts")) < 3 << 20


def test_hand_ins_of_a_seat_are_bounded(tmp_path: Path, kept: ClassStore) -> None:
    async def fill() -> None:
        for number in range(60):
            files = {"solution.py": "x" * (2 << 20 if number % 2 else 10)}
            handed = HandIn(id=f"{number}", seat="seat", exercise="double", at=float(number), late=False, files=files)
            await kept.do(Connected.hand_in, handed, f"{number}")

    asyncio.run(fill())
    assert sum(sizes(tmp_path / "classroom.sqlite", "handins")) < 12 << 20


def test_a_hand_in_that_comes_again_is_not_the_latest(tmp_path: Path) -> None:
    made = app(ClassroomConfig(course=str(write_course(tmp_path / "course")), data=str(tmp_path / "data"))).lesson
    sheet = made.sheet("double")

    async def hand_in() -> list[str]:
        first, _ = await made.work.hand_in("seat", sheet, Save(save="one", files={"solution.py": "1"}))
        second, _ = await made.work.hand_in("seat", sheet, Save(save="two", files={"solution.py": "2"}))
        again, _ = await made.work.hand_in("seat", sheet, Save(save="one", files={"solution.py": "1"}))
        assert again.id == first.id
        return [second.id, made.work.handed_in["seat", "double"].id]

    second, latest = asyncio.run(hand_in())
    made.store.close()
    assert second == latest


def test_a_full_disk_is_told_and_nothing_is_answered_as_kept(room: Target) -> None:
    """Another process has locked the database. No write succeeds, and no answer claims that one did."""
    student = room.join()
    student.put({"solution.py": "before"})
    path = room.data / "classroom.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        answers = {
            "save": student.put({"solution.py": "lost"}),
            "hand-in": student.ask("hand-in"),
            "join": room.browser().post("/api/join", json={"name": "Lost", "code": room.code}),
        }
        other.execute("ROLLBACK")
    for what, answer in answers.items():
        assert answer.status_code == 503, what
        assert "kept" in answer.json()["detail"]
        assert answer.headers["retry-after"]
        assert "sqlite" not in answer.text.lower()
        assert answer.headers["content-security-policy"]
    seen = student.http.get("/api/exercises/double").json()
    assert seen["files"] == {"solution.py": "before"}
    assert seen["handed_in"] is None
    assert student.put({"solution.py": "after"}).status_code == 200
    assert room.browser().post("/api/join", json={"name": "Lost", "code": room.code}).status_code == 201


def test_a_page_that_cannot_be_written_fails_the_save(tmp_path: Path, kept: ClassStore) -> None:
    async def save(text: str) -> Any:
        return await kept.do(
            Connected.save, "seat", "double", lambda _: {"solution.py": text}, now=0.0, why="run", base=0, save=text[:3]
        )

    asyncio.run(save("one"))
    with kept._database.changing() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreError, match="full"):
        asyncio.run(save("two" + "x" * 100_000))
    assert asyncio.run(kept.do(Connected.text, "seat", "double")).files == {"solution.py": "one"}


# --- the order of things ----------------------------------------------------------------------------------------------


def at_once(count: int, do: Any) -> list[Any]:
    """Calls `do` in `count` threads at the same moment, and returns the results."""
    found: list[Any] = []
    gate = threading.Barrier(count)

    def one() -> None:
        gate.wait()
        found.append(do())

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def apart(room: Target, student: Student) -> httpx.Client:
    http = room.browser()
    http.cookies.set("seat", student.http.cookies["seat"])
    return http


def test_hints_asked_for_at_once_are_counted_each(room: Target) -> None:
    student = room.join()
    answers = at_once(6, lambda: apart(room, student).post("/api/exercises/double/hint", json={}))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [404] * 3
    assert sorted(answer.json()["number"] for answer in answers if answer.status_code == 200) == [1, 2, 3]


def test_of_runs_asked_for_at_once_one_begins(room: Target) -> None:
    student = room.join()
    body = {"files": {"solution.py": "input()"}}
    with student.events() as events:
        answers = at_once(5, lambda: apart(room, student).post("/api/exercises/double/run", json=body))
        assert sorted(answer.status_code for answer in answers) == [202] + [409] * 4
        run = next(answer.json()["run"] for answer in answers if answer.status_code == 202)
        events.until("input")
        student.http.post("/api/stop", json={"run": run})
        seen = events.until("finished")
    assert [data["run"] for name, data in seen if name in ("run", "finished")][-1] == run


def test_a_hand_in_sent_twice_is_one(room: Target) -> None:
    student = room.join()
    body = {"files": {"solution.py": "1"}, "save": "once"}
    answers = at_once(4, lambda: apart(room, student).post("/api/exercises/double/hand-in", json=body))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["handed_in"]["id"] for answer in answers}) == 1


def test_of_people_who_take_a_name_at_once_one_has_it(room: Target) -> None:
    answers = at_once(5, lambda: room.browser().post("/api/join", json={"name": "Wanted", "code": room.code}))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 4
    first, second = room.join(), room.join()
    teacher = room.teacher()
    seen = [
        teacher.patch(f"/api/teacher/seats/{each.id}", json={"name": "Both"}).status_code for each in (first, second)
    ]
    assert seen == [200, 409]


def test_nothing_begins_in_a_class_that_is_paused_meanwhile(tmp_path: Path) -> None:
    """While the files of a run are saved, the teacher pauses all, or removes the seat."""
    made = app(ClassroomConfig(course=str(write_course(tmp_path / "course")), data=str(tmp_path / "data"))).lesson

    async def race(pause: Any) -> str:
        await made._load()
        seat = await made.seats.add(f"Seat {pause.__name__}")
        boxes: Any = type("Boxes", (), {"running": lambda *_: None, "run": None, "begin_check": None, "prompt": None})()
        made.boxes = made.grid.boxes = boxes
        save = made.work.save

        async def saving(*args: Any) -> Any:
            saved = await save(*args)
            pause(seat)
            return saved

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(made.work, "save", saving)
            found = []
            for do in (made.run, made.check):
                with pytest.raises(Refusal) as refused:
                    await do(seat, "double", Save(files={"solution.py": "1"}))
                found.append(refused.value.kind)
        made.everybody.is_frozen = False
        return " ".join(found)

    def freeze(_: Any) -> None:
        made.everybody.is_frozen = True

    def remove(seat: Any) -> None:
        seat.removed = True

    assert [asyncio.run(race(each)) for each in (freeze, remove)] == ["locked locked"] * 2
    made.store.close()


def test_completions_and_runs_at_once_leave_one_box(room: Target) -> None:
    """A forgotten box would count against its seat for a quarter of an hour."""
    student = room.join()
    ask = {"exercise": "double", "code": "pri", "cursor": 3}
    for _ in range(4):
        at_once(3, lambda: apart(room, student).post("/api/complete", json=ask).status_code)
        threads = [
            threading.Thread(target=lambda: apart(room, student).post("/api/complete", json=ask)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        seen = student.until("finished", "print('still')")
        for thread in threads:
            thread.join()
        assert seen[-1][1]["status"] == "ok", seen[-1]
