"""An instructor of a learning platform may see and change the classes of their own courses, and nothing else.

Each route of the teacher's page is tried with the pass of an instructor of another course.
"""

import asyncio
import functools
import io
import json
import zipfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

jwt = pytest.importorskip("jwt", reason="tokens are PyJWT's (extra classroom)")
httpx = pytest.importorskip("httpx", reason="platforms are asked by httpx (extra classroom)")
pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")

from itsdangerous import URLSafeSerializer  # noqa: E402

from proxybox.classroom.authority import _MOST, HOLDS, Instructors  # noqa: E402
from proxybox.classroom.connected import Connected  # noqa: E402
from proxybox.classroom.doors import events, teacher  # noqa: E402
from proxybox.classroom.hub import Hub  # noqa: E402
from proxybox.classroom.models import SeatChange  # noqa: E402
from proxybox.classroom.pageevents import FilesEvent  # noqa: E402
from tests.classroom.launching import (  # noqa: E402
    CLAIM,
    HOST,
    ROLE,
    Double,
    Room,
    a_platform,
    a_room,
    hand_in,
    instructed,
    launched,
)

RIGHT = "def double(n):\n    return 2 * n\n"
OWN = {"Origin": HOST}
#: Size of a delayed body, in bytes.
_LONG = 200


@pytest.fixture(scope="module")
def platform() -> Iterator[Double]:
    with a_platform() as double:
        yield double


@pytest.fixture(scope="module")
def room(platform: Double, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A classroom for tests that do not depend on other seats in it."""
    with a_room(tmp_path_factory.mktemp("room"), platform) as room:
        yield room


@attrs.frozen
class Classes:
    """A classroom with two classes; Ada has handed in in each. seats: Ada's seat ids, by course."""

    room: Room
    seats: dict[str, str]


@pytest.fixture
def classes(platform: Double, tmp_path: Path) -> Iterator[Classes]:
    """New classes for each test: other tests' teachers and seats would be part of the answers."""
    with a_room(tmp_path, platform) as room:
        yield room.loop.run(_with_students(room, platform))


async def _with_students(room: Room, platform: Double) -> Classes:
    seats = {}
    for course in ("seven", "eight"):
        async with room.browser() as student:
            told = {f"{CLAIM}/context": {"id": course, "title": f"Class {course}"}}
            await launched(student, platform, sub=f"ada of {course}", name="Ada", **told)
            seats[course] = (await student.get("/api/me")).json()["seat"]["id"]
            await hand_in(student, "01-double", f"{RIGHT}# of {course}\n")
    return Classes(room, seats)


def filled(path: str, seat: str) -> str:
    return path.format(seat=seat, exercise="01-double", version="1", identity="none")


#: The bodies of requests that change a seat.
BODIES: dict[str, dict[str, Any]] = {"/api/teacher/seats/{seat}": {"locked": True}}


def test_an_instructor_has_the_own_class_and_no_seat_of_another_one(classes: Classes, platform: Double) -> None:
    async def lesson() -> None:
        async with classes.room.browser() as seven:
            answer = await instructed(seven, platform, "seven", sub="teacher of seven")
            assert 'content="0;url=/teacher"' in answer.text
            assert "__Host-instructor=" in "".join(answer.headers.get_list("set-cookie"))
            assert "__Host-teacher=" not in "".join(answer.headers.get_list("set-cookie"))
            state = (await seven.get("/api/teacher/state")).json()
            assert [row["id"] for row in state["seats"]] == [classes.seats["seven"]]
            assert [each["title"] for each in state["classes"]] == ["seven"]
            assert state["whole"] is False
            assert {"join", "course_fault"} & state.keys() == set()
            assert classes.room.lesson.everybody.code not in json.dumps(state)
            for route in (each for each in teacher.guarded.routes if "{seat}" in each.path):
                for method in route.methods - {"HEAD"}:
                    answers = [
                        await seven.request(
                            method,
                            filled(route.path, classes.seats[of]),
                            headers=OWN,
                            json=None if method == "GET" else BODIES[route.path],
                        )
                        for of in ("eight", "seven")
                    ]
                    assert [each.status_code for each in answers] == [404, 200], route.path
                    assert answers[0].json()["detail"] == "There is no such seat."
            assert not classes.room.lesson.seats.find(classes.seats["eight"]).locked
            await seven.patch(filled("/api/teacher/seats/{seat}", classes.seats["seven"]), headers=OWN,
                              json={"locked": False})  # fmt: skip

    classes.room.loop.run(lesson())


def test_what_is_for_everybody_is_for_who_has_the_key(classes: Classes, platform: Double) -> None:
    """An instructor is refused whatever the body is: the answer comes before the body is read."""

    async def lesson() -> None:
        async with classes.room.browser() as seven:
            await instructed(seven, platform, "seven", sub="teacher of seven")
            doors = [(method, each.path) for each in teacher.whole.routes for method in each.methods - {"HEAD"}]
            assert len(doors) > 7
            for method, path in doors:
                json_body = None if method == "GET" else {}
                answer = await seven.request(method, filled(path, "none"), headers=OWN, json=json_body)
                assert (answer.status_code, "has its key" in answer.text) == (403, True), path
            share = {"title": "t", "exercise": "01-double", "seat": classes.seats["eight"]}
            assert (await seven.post("/api/teacher/share", headers=OWN, json=share)).status_code == 403
        everybody = classes.room.lesson.everybody
        assert (everybody.is_frozen, everybody.is_locked, everybody.pushed, everybody.shares) == (
            False,
            False,
            None,
            {},
        )

    classes.room.loop.run(lesson())


def test_each_door_of_teachers_is_of_one_of_the_three_kinds() -> None:
    """A new route that concerns neither a seat nor everybody must be added here and tested below."""
    others = {each.path.removeprefix("/api/teacher") for each in teacher.guarded.routes if "{seat}" not in each.path}
    assert others == {
        "/logout", "/state", "/watch", "/errors", "/grade-again", "/similar", "/formats", "/export/grades",
        "/export/code.zip", "/export/runs.csv",
    }  # fmt: skip
    assert {each.path for each in teacher.router.routes} == {"/api/teacher/login"}
    assert [each.path for each in events.router.routes if "teacher" in each.path] == ["/api/teacher/events"]


def test_what_is_taken_home_is_of_the_own_class(classes: Classes, platform: Double) -> None:
    async def lesson() -> None:
        room, query = classes.room, {"exercise": "01-double", "format": "csv"}
        other = next(each.id for each in room.lesson.classes if each.context == "eight")
        async with room.browser() as seven:
            await instructed(seven, platform, "seven", sub="teacher of seven")
            grades = await seven.get("/api/teacher/export/grades", params=query)
            assert grades.text.count("Ada") == 1
            for of in (other, ""):
                for path in ("export/grades", "similar"):
                    answer = await seven.get(f"/api/teacher/{path}", params={**query, "class": of})
                    assert answer.status_code == 404, (path, of)
            archive = zipfile.ZipFile(io.BytesIO((await seven.get("/api/teacher/export/code.zip")).content))
            texts = [archive.read(name).decode() for name in archive.namelist()]
            assert len(texts) == 2  # the text, and the hand-in
            assert all("# of seven" in text for text in texts)
            assert {name.partition("/")[0] for name in archive.namelist()} == {"Ada"}
            similar = (await seven.get("/api/teacher/similar", params={"exercise": "01-double"})).json()
            assert (similar["count"], similar["pairs"]) == (1, [])
            count = (await seven.post("/api/teacher/grade-again", headers=OWN, json={"exercise": None})).json()
            assert count == {"count": 1}

    classes.room.loop.run(lesson())


def test_what_tests_say_of_a_submission_of_another_class_is_not_told(classes: Classes, platform: Double) -> None:
    """Where tests are wrong their messages may quote values that a submission has returned."""

    async def lesson() -> None:
        lesson = classes.room.lesson
        async with classes.room.browser() as seven:
            await instructed(seven, platform, "seven", sub="teacher of seven")
            lesson.grading.faults["01-double"] = "TypeError: 'secret of eight'"
            told = stream(classes.room, seven)
            async with asyncio.timeout(60):
                await anext(told)
                lesson.tell_state()
                state = {}
                while "grading_faults" not in state:
                    _, state = await anext(told)
            await told.aclose()
            for each in (state, (await seven.get("/api/teacher/state")).json()):
                assert each["grading_faults"] == {"01-double": ""}
            key = {"key": lesson.teacher_key}
            await seven.post("/api/teacher/login", headers=OWN, json=key)
            assert "secret of eight" in (await seven.get("/api/teacher/state")).text

    classes.room.loop.run(lesson())


def test_runs_and_errors_are_of_the_own_class(classes: Classes, platform: Double) -> None:
    async def lesson() -> None:
        room = classes.room
        async with room.browser() as student, room.browser() as seven, room.browser() as eight:
            told = {f"{CLAIM}/context": {"id": "eight", "title": "eight"}}
            await launched(student, platform, sub="ada of eight", name="Ada", **told)
            body = {"files": {"solution.py": "secret_of_eight\n"}}
            assert (await student.post("/api/exercises/01-double/run", headers=OWN, json=body)).status_code == 202
            await instructed(seven, platform, "seven", sub="teacher of seven")
            await instructed(eight, platform, "eight", sub="teacher of eight")
            async with asyncio.timeout(60):
                while not (await eight.get("/api/teacher/errors")).json()["errors"]:
                    await asyncio.sleep(0.02)
                while "secret_of_eight" not in (await eight.get("/api/teacher/export/runs.csv")).text:
                    await asyncio.sleep(0.02)
            assert (await seven.get("/api/teacher/errors")).json() == {"errors": []}
            assert (await seven.get("/api/teacher/export/runs.csv")).text.count("\n") == 1  # the head

    classes.room.loop.run(lesson())


async def stream(room: Room, browser: Any) -> AsyncIterator[tuple[str, Any]]:
    """Yields the events of a teacher's stream.

    It calls the ASGI application: httpx's transport waits for the answer's end.
    """
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
        elif body := message.get("body", b""):
            pieces.put_nowait(body)
        elif not message.get("more_body"):
            pieces.put_nowait(b"")

    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": "/api/teacher/events", "raw_path": b"",
        "query_string": b"", "scheme": "https", "root_path": "", "client": ("127.0.0.1", 1), "state": {},
        "headers": [(b"host", HOST.removeprefix("https://").encode()), (b"cookie", cookies.encode())],
    }  # fmt: skip
    serving = asyncio.create_task(room.edge(scope, receive, send))
    try:
        while piece := await pieces.get():
            for each in piece.decode().split("\n\n"):
                fields = dict(line.split(": ", 1) for line in each.splitlines() if ": " in line)
                if fields.get("event", "errors") != "errors":  # those of other tests may still arrive
                    yield fields["event"], json.loads(fields["data"])
    finally:
        gone.set()
        await serving


def test_a_stream_tells_of_the_own_class_alone(classes: Classes, platform: Double) -> None:
    """Rows, and events of a watched seat. A teacher of one class cannot make a stream watch a seat of another class."""

    async def lesson() -> None:
        room, seats, lesson = classes.room, classes.seats, classes.room.lesson
        async with room.browser() as seven, room.browser() as eight:
            await instructed(seven, platform, "seven", sub="teacher of seven")
            await instructed(eight, platform, "eight", sub="teacher of eight")
            async with asyncio.timeout(60):
                told, others = stream(room, seven), stream(room, eight)
                (_, hello), (_, of_eight) = await anext(told), await anext(others)
                for who, seat, at, status in (
                    (seven, seats["eight"], hello, 404),
                    (seven, seats["seven"], of_eight, 404),  # another teacher's stream
                    (seven, seats["seven"], hello, 204),
                ):
                    body = {"stream": at["stream"], "seat": seat, "page": "p"}
                    answer = await who.post("/api/teacher/watch", headers=OWN, json=body)
                    assert answer.status_code == status
                secret = FilesEvent(exercise="a", version=1, files={"secret": "of eight"})
                lesson.hub.show(f"seat:{seats['eight']}", secret)
                lesson.grid.touch(seats["eight"])
                assert (await anext(others))[1]["id"] == seats["eight"]  # the teacher of that class gets it
                lesson.grid.touch(seats["seven"])
                lesson.tell_state()
                seen = [await anext(told), await anext(told)]
                assert {name for name, _ in seen} == {"row", "state"}
                for name, data in seen:
                    if name == "row":
                        assert data["id"] == seats["seven"]
                    else:
                        assert data.keys() == {"frozen", "pushed", "grading_faults"}
                await told.aclose()
                await others.aclose()

    classes.room.loop.run(lesson())


def test_who_is_no_longer_an_instructor_loses_the_class_and_its_stream(classes: Classes, platform: Double) -> None:
    async def lesson() -> None:
        room = classes.room
        async with room.browser() as teacher, room.browser() as elsewhere:
            await instructed(teacher, platform, "seven", sub="changing")
            await instructed(teacher, platform, "eight", sub="changing")
            rows = (await teacher.get("/api/teacher/state")).json()["seats"]
            assert {row["id"] for row in rows} >= set(classes.seats.values())
            async with asyncio.timeout(60):
                told = stream(room, teacher)
                await anext(told)
                as_learner = {f"{CLAIM}/context": {"id": "eight", "title": "eight"}}
                await launched(elsewhere, platform, sub="changing", name="Changed", **as_learner)
                *rows, last = [name async for name, _ in told]
                assert last == "course"  # the page loads everything again; and the stream has ended
                assert set(rows) <= {"row"}  # from hand-ins that were graded meanwhile
            left = {row["id"] for row in (await teacher.get("/api/teacher/state")).json()["seats"]}
            assert left & set(classes.seats.values()) == {classes.seats["seven"]}
            assert (await elsewhere.get("/api/teacher/state")).status_code == 401

    classes.room.loop.run(lesson())


async def held_back(browser: Any, method: str, path: str, body: dict[str, Any], until: Awaitable[Any]) -> int:
    """Sends a request whose body follows only after `until`. Returns the status of the answer."""

    async def content() -> AsyncIterator[bytes]:
        await until
        yield json.dumps(body).encode().ljust(_LONG)

    headers = {**OWN, "Content-Type": "application/json", "Content-Length": str(_LONG)}
    answer = await browser.request(method, path, headers=headers, content=content())
    return int(answer.status_code)


def test_a_request_that_was_begun_in_time_and_held_back_changes_nothing(classes: Classes, platform: Double) -> None:
    """A teacher who loses a class, logs out or is removed may have begun requests whose bodies arrive slowly."""

    async def lesson() -> None:
        room, seats, lesson = classes.room, classes.seats, classes.room.lesson
        of_eight = {f"{CLAIM}/context": {"id": "eight", "title": "eight"}}
        seat = lesson.seats.find(seats["eight"])
        async with room.browser() as teacher, room.browser() as elsewhere, room.browser() as student:

            async def teaches() -> None:
                for course in ("seven", "eight"):
                    await instructed(teacher, platform, course, sub="changing")

            loses = functools.partial(launched, elsewhere, platform, sub="changing", name="Changed", **of_eight)
            await teaches()
            path = filled("/api/teacher/seats/{seat}", seat.id)
            assert (await held_back(teacher, "PATCH", path, {"locked": True}, loses()), seat.locked) == (404, False)
            await teaches()
            watch = {"seat": seat.id, "page": "p"}
            told: list[AsyncIterator[tuple[str, Any]]] = []

            async def loses_and_reads() -> None:
                await loses()
                told.append(stream(room, teacher))
                watch["stream"] = (await anext(told[0]))[1]["stream"]

            assert await held_back(teacher, "POST", "/api/teacher/watch", watch, loses_and_reads()) == 404
            await told[0].aclose()  # type: ignore[attr-defined]

            key = {"key": lesson.teacher_key}
            for browser in (teacher, elsewhere):
                await browser.post("/api/teacher/login", headers=OWN, json=key)
            leaves = elsewhere.post("/api/teacher/logout", headers=OWN, json={})
            push = {"exercise": "02-half"}
            teacher.cookies.delete("__Host-instructor")
            assert await held_back(teacher, "POST", "/api/teacher/push", push, leaves) == 401
            assert lesson.everybody.pushed is None

            await launched(student, platform, sub="ada of eight", name="Ada", **of_eight)
            removed = lesson.change_seat(seat, SeatChange(removed=True))
            body = {"files": {"solution.py": "after = 1\n"}}
            assert await held_back(student, "POST", "/api/exercises/01-double/hand-in", body, removed) == 401
            (handed,) = await lesson.store.do(Connected.handins, seat.id, "01-double")
            assert "after" not in handed.files["solution.py"]

    classes.room.loop.run(lesson())


@pytest.mark.full
def test_a_launch_that_leads_nowhere_takes_a_class_as_well(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            await instructed(browser, platform, "seven", sub="changing elsewhere")
            assert (await browser.get("/api/teacher/state")).status_code == 200
            before = list(room.lesson.classes)
            for course in ("seven", "a course that nobody has come from"):
                told = {f"{CLAIM}/context": {"id": course}, f"{CLAIM}/custom": {"exercise": "none"}}
                assert (await launched(browser, platform, sub="changing elsewhere", **told)).status_code == 404
            assert (await browser.get("/api/teacher/state")).status_code == 401
            assert list(room.lesson.classes) == before, "a class is made and named by who arrives in it"

    room.loop.run(lesson())


def test_logging_out_ends_all_passes_of_an_instructor_and_no_others(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as one, room.browser() as two, room.browser() as other:
            for browser, user in ((one, "leaving"), (two, "leaving"), (other, "staying")):
                await instructed(browser, platform, "seven", sub=user)
            kept = dict(one.cookies)
            assert (await one.post("/api/teacher/logout", headers=OWN, json={})).status_code == 204
            one.cookies.update(kept)
            statuses = [(await each.get("/api/teacher/state")).status_code for each in (one, two, other)]
            assert statuses == [401, 401, 200]
            page = (await one.get("/teacher")).text
            assert "Open the link there once more." in page

    room.loop.run(lesson())


def test_who_has_the_key_stays_the_teacher_of_all_after_a_launch(classes: Classes, platform: Double) -> None:
    async def lesson() -> None:
        async with classes.room.browser() as teacher:
            key = {"key": classes.room.lesson.teacher_key}
            assert (await teacher.post("/api/teacher/login", headers=OWN, json=key)).status_code == 204
            await instructed(teacher, platform, "seven", sub="with the key")
            state = (await teacher.get("/api/teacher/state")).json()
            assert state["whole"] is True
            assert {row["id"] for row in state["seats"]} >= set(classes.seats.values())

    classes.room.loop.run(lesson())


@pytest.mark.parametrize("roles", [
    [f"{ROLE}Learner", "x#Instructor-not"], ["https://evil.example/membership#Instructor"],
    ["http://purl.imsglobal.org/vocab/lis/v2/institution/person#Instructor"], f"{ROLE}Instructor",
    [[f"{ROLE}Instructor"]],
])  # fmt: skip
def test_who_does_not_teach_in_the_course_is_a_student(room: Room, platform: Double, roles: Any) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            told = {f"{CLAIM}/context": {"id": "seven"}, f"{CLAIM}/roles": roles}
            await launched(browser, platform, sub="no instructor", **told)
            statuses = [(await browser.get(path)).status_code for path in ("/api/teacher/state", "/api/me")]
            assert statuses == [401, 200]

    room.loop.run(lesson())


def test_a_link_that_stands_in_no_course_makes_nobody_a_teacher(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            answer = await launched(browser, platform, sub="nowhere", **{f"{CLAIM}/roles": [f"{ROLE}Instructor"]})
            assert (answer.status_code, "in which course" in answer.text) == (403, True)
            assert (await browser.get("/api/teacher/state")).status_code == 401

    room.loop.run(lesson())


def test_instructors_are_students_where_the_list_does_not_say_teachers(
    platform: Double, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with a_room(tmp_path_factory.mktemp("default"), platform, teachers=False) as room:

        async def lesson() -> None:
            async with room.browser() as browser:
                await instructed(browser, platform, "seven", sub="by default")
                statuses = [(await browser.get(path)).status_code for path in ("/api/teacher/state", "/api/me")]
                assert statuses == [401, 200]

        room.loop.run(lesson())


def test_a_pass_of_before_which_instructors_had_too_opens_nothing(room: Room) -> None:
    """Instructors once got the pass for the whole classroom, valid for 200 days."""

    async def lesson() -> None:
        secret = await room.lesson.store.do(Connected.fact, "secret")
        old = URLSafeSerializer(secret, salt="proxybox.classroom.teacher").dumps(1)
        async with room.browser() as browser:
            for name in ("__Host-teacher", "__Host-instructor"):
                browser.cookies.set(name, str(old))
            assert (await browser.get("/api/teacher/state")).status_code == 401

    room.loop.run(lesson())


# --- instructors, without a classroom ---------------------------------------------------------------------------------


def test_a_launch_makes_a_teacher_for_half_a_day() -> None:
    now = [0.0]
    instructors = Instructors(Hub(), lambda: now[0])
    token = instructors.teaches("p", "u", "seven")
    now[0] = HOLDS / 2
    assert instructors.teaches("p", "u", "eight") == token
    authority = instructors.authority(token)
    assert authority is not None
    assert (authority.classes, authority.seconds) == ({"seven", "eight"}, HOLDS / 2)
    now[0] = HOLDS
    authority = instructors.authority(token)
    assert authority is not None
    assert authority.classes == {"eight"}
    now[0] = 2 * HOLDS
    assert instructors.authority(token) is None


def test_the_same_user_of_another_platform_is_somebody_else() -> None:
    instructors = Instructors(Hub())
    tokens = {instructors.teaches(platform, "u", "seven") for platform in ("p", "q")}
    assert len(tokens) == 2
    instructors.teaches_no_longer("p", "u", "seven")
    assert sorted(instructors.authority(each) is None for each in tokens) == [False, True]


def test_nothing_stands_for_who_shows_no_pass() -> None:
    instructors = Instructors(Hub())
    instructors.teaches("p", "u", "seven")
    assert [instructors.authority(each) for each in (None, "", "x")] == [None] * 3


def test_instructors_and_what_is_told_them_are_bounded() -> None:
    hub = Hub()
    instructors = Instructors(hub)
    first = instructors.teaches("p", "first", "seven")
    for number in range(_MOST):
        instructors.teaches("p", f"u{number}", "seven")
    assert instructors.authority(first) is None
    assert len(instructors._tokens) == len(instructors._known) == _MOST
    assert len(hub._topics) == _MOST
