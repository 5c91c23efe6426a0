"""Attacks by requests: without a pass, with a forged pass, and from pages of other origins. Over real HTTP."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")

from itsdangerous import URLSafeSerializer
from starlette.routing import Mount, Route

from proxybox.classroom.app import app
from proxybox.classroom.config import ClassroomConfig
from proxybox.classroom.passes import Passes
from tests.classroom.attacking import Student, Target, write_course

#: Every route that needs no pass. Before you add one, consider what it shows to everybody in the same Wi-Fi.
OPEN = {
    ("GET", "/"),
    ("GET", "/teacher"),
    ("GET", "/sw.js"),
    ("GET", "/static"),
    ("POST", "/api/join"),
    ("POST", "/api/return"),
    ("POST", "/api/leave"),
    ("POST", "/api/teacher/login"),
}


@pytest.fixture(scope="module")
def ada(room: Target) -> Student:
    ada = room.join("Ada")
    ada.put({"solution.py": "# Ada's own code\n"})
    return ada


@pytest.fixture(scope="module")
def mallory(room: Target) -> Student:
    return room.join("Mallory")


@pytest.fixture
def teacher(room: Target) -> httpx.Client:
    return room.teacher()


def each_route(routes: Iterable[Any]) -> Iterator[Any]:
    """Yields all routes, including those of included routers."""
    for route in routes:
        included = getattr(route, "original_router", None)
        yield from [route] if included is None else each_route(included.routes)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Returns method and path of all routes of the application."""
    folder = tmp_path_factory.mktemp("routes")
    edge = app(ClassroomConfig(course=str(write_course(folder / "course")), data=str(folder / "data")))
    edge.lesson.store.close()
    found: list[tuple[str, str]] = []
    for route in each_route(edge._inner.routes):  # type: ignore[attr-defined]
        assert isinstance(route, Mount | Route), route
        methods = (route.methods or {"GET"}) - {"HEAD"} if isinstance(route, Route) else {"GET"}
        found += [(method, route.path) for method in sorted(methods)]
    return found


def filled(path: str, seat: str = "seat") -> str:
    """Returns a path with a value for each of its parameters."""
    seen = {"exercise": "double", "version": "1", "seat": seat, "identity": "identity"}
    return re.sub(r"{(\w+)(?::\w+)?}", lambda name: seen[name[1]], path)


def send(http: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    return http.request(method, path, json=None if method == "GET" else {}, **more)


# --- doors without a pass ---------------------------------------------------------------------------------------------


def test_every_door_refuses_who_has_no_pass(room: Target, routes: list[tuple[str, str]]) -> None:
    assert len(routes) > 30
    with room.browser() as anybody:
        answered = {each: send(anybody, each[0], filled(each[1])).status_code for each in routes if each not in OPEN}
    assert {each: status for each, status in answered.items() if status != 401} == {}


def test_the_doors_that_are_open_are_these_and_no_others(room: Target, routes: list[tuple[str, str]]) -> None:
    assert set(routes) >= OPEN, "a door of the list is gone"
    with room.browser() as anybody:
        statuses = {
            each: send(anybody, each[0], {"/static": "/static/style.css"}.get(each[1], each[1])).status_code
            for each in OPEN
        }
    assert all(status != 401 for status in statuses.values()), statuses


def test_every_door_of_the_teacher_refuses_a_seat(room: Target, ada: Student, routes: list[tuple[str, str]]) -> None:
    mine = [each for each in routes if each[1].startswith("/api/teacher") and each not in OPEN]
    assert len(mine) > 15
    answered = {each: send(ada.http, each[0], filled(each[1], ada.id)).status_code for each in mine}
    assert {each: status for each, status in answered.items() if status != 401} == {}
    assert ada.http.get("/teacher").text != room.teacher().get("/teacher").text


def test_every_door_of_students_refuses_the_teacher(room: Target, routes: list[tuple[str, str]]) -> None:
    theirs = [each for each in routes if each[1].startswith("/api/") and "teacher" not in each[1] and each not in OPEN]
    assert len(theirs) > 12
    answered = {each: send(room.teacher(), each[0], filled(each[1])).status_code for each in theirs}
    assert {each: status for each, status in answered.items() if status != 401} == {}


@pytest.mark.parametrize(
    "path",
    [
        "/api/nothing",
        "/api/me/",
        "//api/me",
        "/static/../api/me",
        "/API/ME",
        "/docs",
        "/openapi.json",
        "/api/teacher/state/",
        "/api/teacher/../me",
    ],
)
def test_no_other_spelling_of_a_path_opens_a_door(room: Target, path: str) -> None:
    answer = room.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 (401|404) ", answer), answer[:200]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/lib",
        "/static/vendor/..\\..\\app.py",
    ],
)
def test_static_files_are_those_of_their_folder(room: Target, path: str) -> None:
    answer = room.raw(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 (401|404) ", answer), answer[:200]


# --- cookies ----------------------------------------------------------------------------------------------------------


def forged(ada: Student) -> dict[str, str]:
    """Returns cookies that are no valid pass of Ada's seat, by their fault."""
    mine = ada.http.cookies["seat"]
    payload, _, signature = mine.rpartition(".")
    another = Passes("another key").for_seat(ada.id, 1)
    return {
        "nothing": "",
        "a space": "%20",
        "no signature": payload,
        "an empty signature": payload + ".",
        "half a signature": f"{payload}.{signature[: len(signature) // 2]}",
        "less of it": mine[:-1],
        "another signature": f"{payload}.{'A' * len(signature)}",
        "another key": another,
        "another seat": mine.replace(payload, another.rpartition(".")[0][::-1]),
        "no key": Passes("").for_seat(ada.id, 1),
        "another generation": URLSafeSerializer("", salt="proxybox.classroom.seat").dumps([ada.id, 2]),
        "only an id": ada.id,
        "JSON": f'["{ada.id}",1]',
        "very long": mine + "A" * 5000,
        "twice": mine + mine,
        "a quoted one": f'"{payload}"',
        "bytes": "\xff\xfe.\xff",
        "another separator": mine.replace(".", ":"),
    }


def test_forged_and_cut_cookies_are_no_passes(room: Target, ada: Student) -> None:
    for what, cookie in forged(ada).items():
        for name in ("seat", "teacher"):
            headers = {"Origin": room.url, "Cookie": f"{name}={cookie}".encode("latin-1")}
            with httpx.Client(verify=False, base_url=room.url) as http:
                assert http.get("/api/me", headers=headers).status_code == 401, what
                assert http.get("/api/teacher/state", headers=headers).status_code == 401, what


def test_a_pass_is_for_what_it_was_made_for(room: Target, ada: Student) -> None:
    """Passes of seats and of the teacher have different salts, so that one is never valid as the other."""
    teacher = room.teacher().cookies["teacher"]
    for cookie in (f"teacher={ada.http.cookies['seat']}", f"seat={teacher}", f"__Host-seat={ada.http.cookies['seat']}"):
        with httpx.Client(verify=False, base_url=room.url, headers={"Cookie": cookie}) as http:
            assert http.get("/api/me").status_code == 401
            assert http.get("/api/teacher/state").status_code == 401
    with httpx.Client(verify=False, base_url=room.url, headers={"Cookie": f"seat={ada.http.cookies['seat']}"}) as http:
        assert http.get("/api/me").status_code == 200, "the same browser's cookie, sent as it is"


def test_cookies_are_for_this_site_and_no_scripts(room: Target) -> None:
    with room.browser() as http:
        answer = http.post("/api/join", json={"name": "Cookie", "code": room.code})
        login = http.post("/api/teacher/login", json={"key": room.key})
    for seen in (answer.headers["set-cookie"], login.headers["set-cookie"]):
        assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in seen.split(";")}
        assert "domain" not in seen.lower()


def test_the_pass_of_a_removed_seat_is_void_for_ever(room: Target) -> None:
    eve, teacher = room.join("Eve"), room.teacher()
    assert eve.put({"solution.py": "1"}).status_code == 200
    with eve.events() as events:
        assert teacher.patch(f"/api/teacher/seats/{eve.id}", json={"removed": True}).status_code == 200
        assert [name for name, _ in events.rest()] == ["removed"], "the stream has gone on"
    assert eve.http.get("/api/me").status_code == 401
    assert eve.put({"solution.py": "2"}).status_code == 401
    back = {"personal": eve.me["personal"]}
    assert room.browser().post("/api/return", json=back).status_code == 403
    row = teacher.patch(f"/api/teacher/seats/{eve.id}", json={"removed": False}).json()
    assert eve.http.get("/api/me").status_code == 401, "the old pass holds again"
    assert room.browser().post("/api/return", json=back).status_code == 403, "whoever knew the old code is back"
    with room.browser() as http:
        assert http.post("/api/return", json={"personal": row["personal"]}).status_code == 200
        assert http.get("/api/exercises/double").json()["files"] == {"solution.py": "1"}


def test_a_teacher_who_logs_out_makes_kept_passes_void(room: Target) -> None:
    teacher, thief = room.teacher(), room.browser()
    thief.cookies.set("teacher", teacher.cookies["teacher"])
    assert thief.get("/api/teacher/state").status_code == 200
    assert teacher.post("/api/teacher/logout", json={}).status_code == 204
    assert thief.get("/api/teacher/state").status_code == 401
    assert room.teacher().get("/api/teacher/state").status_code == 200


# --- guessing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/join", {"name": "Guess", "code": "AAA-AAA"}),
        ("/api/return", {"personal": "AAAA-AAAA"}),
        ("/api/teacher/login", {"key": "AAAAA-AAAAA-AAAAA"}),
    ],
)
def test_few_codes_can_be_guessed_at_one_address(room: Target, path: str, body: dict[str, str]) -> None:
    with room.browser() as guesser:
        answers = [guesser.post(path, json=body) for _ in range(61)]
    assert [answer.status_code for answer in answers] == [403] * 60 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 61
    assert len({answer.json()["detail"] for answer in answers[:60]}) == 1
    right = {"code": room.code, "personal": "", "key": room.key, "name": "Right"}
    answer = guesser_again(room, path, {name: right[name] for name in body})
    assert answer.status_code in (201, 204, 403), "another address is refused, too"


def guesser_again(room: Target, path: str, body: dict[str, str]) -> httpx.Response:
    with room.browser() as http:
        return http.post(path, json=body)


def test_who_guesses_too_much_does_not_learn_that_a_guess_was_right(room: Target) -> None:
    with room.browser() as guesser:
        for _ in range(60):
            guesser.post("/api/join", json={"name": "Guess", "code": "AAA-AAA"})
        assert guesser.post("/api/join", json={"name": "Guess", "code": room.code}).status_code == 429
        assert guesser.post("/api/teacher/login", json={"key": room.key}).status_code == 204, "it is counted apart"


@pytest.mark.parametrize("code", ["", " ", "-", "\x00", "AAA", "\U0001d400" * 6, "ſ" * 6])
def test_no_code_is_right_but_the_one(room: Target, code: str) -> None:
    with room.browser() as http:
        assert http.post("/api/join", json={"name": "Nobody", "code": code}).status_code == 403
        assert http.post("/api/return", json={"personal": code}).status_code == 403
        assert http.post("/api/teacher/login", json={"key": code}).status_code == 403


def test_a_code_is_no_pattern(room: Target) -> None:
    with room.browser() as http:
        for code in ({"$ne": ""}, ["A"], 0, None, True):
            assert http.post("/api/join", json={"name": "Nobody", "code": code}).status_code == 422


# --- others' things ---------------------------------------------------------------------------------------------------


def test_no_parameter_names_another_seat(room: Target, ada: Student, mallory: Student) -> None:
    """A pass determines the seat. Anything else in a request that names a seat is ignored."""
    tries = [
        mallory.http.get(f"/api/exercises/double?seat={ada.id}"),
        mallory.http.get("/api/exercises/double", headers={"X-Seat": ada.id, "X-Forwarded-User": ada.id}),
        mallory.http.get(f"/api/me?id={ada.id}"),
        mallory.http.get("/api/exercises/double/versions/1"),
        mallory.http.get("/api/exercises/double/download"),
        mallory.http.get(f"/api/exercises/{ada.id}"),
    ]
    for answer in tries:
        assert "Ada" not in answer.text
        assert ada.me["personal"] not in answer.text
    body = {"files": {"solution.py": "# taken over\n"}, "seat": ada.id}
    assert mallory.http.put("/api/exercises/double/files", json=body).status_code == 422
    assert "taken over" not in ada.http.get("/api/exercises/double").text


@pytest.mark.parametrize(
    "exercise", ["nothing", "..", "double%2f..", "DOUBLE", "double%00", "x" * 65, "%ff", "__proto__"]
)
@pytest.mark.parametrize("what", ["", "/versions", "/versions/0", "/download"])
def test_exercises_that_do_not_exist(room: Target, mallory: Student, exercise: str, what: str) -> None:
    assert mallory.http.get(f"/api/exercises/{exercise}{what}").status_code in (404, 422)


@pytest.mark.parametrize(
    "version", ["-1", "9" * 30, "9" * 5000, "1.0", "1e3", "0x1", "%31%30%30%30", "²", "NaN", "null"]
)
def test_versions_that_do_not_exist(teacher: httpx.Client, mallory: Student, version: str) -> None:
    assert mallory.http.get(f"/api/exercises/double/versions/{version}").status_code in (404, 422)
    path = f"/api/teacher/seats/{mallory.id}/exercises/double/versions/{version}"
    assert teacher.get(path).status_code in (404, 422)


def test_a_run_of_another_seat_is_neither_stopped_nor_fed(room: Target, ada: Student, mallory: Student) -> None:
    with ada.events() as events:
        run = ada.ask("run", {"solution.py": "print('You said', input())"}).json()["run"]
        events.until("input")
        assert mallory.http.post("/api/stop", json={"run": run}).status_code == 404
        assert mallory.http.post("/api/input", json={"run": run, "text": "from Mallory\n"}).status_code == 404
        assert ada.http.post("/api/input", json={"run": run, "text": "from Ada\n"}).status_code == 204
        seen = events.until("finished")
    assert "".join(data["text"] for name, data in seen if name == "out") == "You said from Ada\n"
    assert seen[-1][1]["status"] == "ok"


def test_a_stream_tells_nothing_of_other_seats(room: Target, ada: Student, mallory: Student) -> None:
    with mallory.events() as events:
        ada.until("finished", "print('only for Ada')")
        ada.http.post("/api/hand", json={"up": True})
        mallory.http.post("/api/hand", json={"up": True})
        seen = events.until("seat")
    assert {name for name, _ in seen} == {"seat"}
    assert all("Ada" not in str(data) and ada.id not in str(data) for _, data in seen)


def test_only_the_teachers_own_streams_watch(teacher: httpx.Client, ada: Student, mallory: Student) -> None:
    """Even a teacher who was tricked into naming a student's stream does not show that student another seat."""
    with mallory.events() as events:
        asked = {"stream": events.hello["stream"], "seat": ada.id}
        assert mallory.http.post("/api/teacher/watch", json=asked).status_code == 401
        assert teacher.post("/api/teacher/watch", json=asked).status_code == 404


# --- pages of other origins -------------------------------------------------------------------------------------------


def origins(room: Target) -> dict[str, str | None]:
    port = room.port
    return {
        "none": None,
        "null": "null",
        "empty": "",
        "another": "https://evil.example",
        "another port": f"http://127.0.0.1:{port + 1}",
        "no port": "http://127.0.0.1",
        "another scheme": f"https://127.0.0.1:{port}",
        "a name of it": f"http://localhost:{port}",
        "a longer name": f"http://127.0.0.1:{port}.evil.example",
        "a longer port": f"http://127.0.0.1:{port}0",
        "a user": f"http://127.0.0.1:{port}@evil.example",
        "a path": f"http://127.0.0.1:{port}/",
        "capitals": f"HTTP://127.0.0.1:{port}",
        "two": f"http://127.0.0.1:{port}, https://evil.example",
        "another number": f"http://127.1:{port}",
    }


CHANGES = [
    ("POST", "/api/join", {"name": "Crossed", "code": "?"}),
    ("POST", "/api/leave", {}),
    ("POST", "/api/hand", {"up": True}),
    ("PUT", "/api/exercises/double/files", {"files": {"solution.py": "crossed"}}),
    ("POST", "/api/teacher/freeze", {"frozen": True}),
    ("POST", "/api/teacher/code", {}),
    ("DELETE", "/api/teacher/share/x", {}),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_pages_of_other_origins_change_nothing(room: Target, ada: Student, method: str, path: str, body: Any) -> None:
    cookies = {"seat": ada.http.cookies["seat"], "teacher": room.teacher().cookies["teacher"]}
    for what, origin in origins(room).items():
        headers = {} if origin is None else {"Origin": origin}
        with httpx.Client(verify=False, base_url=room.url, cookies=cookies, headers=headers) as http:
            assert http.request(method, path, json=body).status_code == 403, what


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "application/jsonp",
        "text/plain; application/json",
        "application/x-json",
        "text/json",
        "application/merge-patch+json",
        "application/json,text/plain",
    ],
)
def test_what_a_form_can_send_changes_nothing(room: Target, ada: Student, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = ada.http.post("/api/hand", content=b'{"up": true}', headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["header", "content-type"]


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_no_header_makes_a_change_of_a_look(room: Target, ada: Student, header: str) -> None:
    assert ada.http.get("/api/hand", headers={header: "POST"}).status_code == 405
    assert ada.http.post("/api/hand?_method=DELETE", json={"up": False}, headers={header: "DELETE"}).status_code == 200
    assert ada.http.request("GET", "/api/hand?_method=POST", json={"up": True}).status_code == 405


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "OPTIONS", "HEAD", "QUERY"])
def test_other_methods_do_nothing(room: Target, ada: Student, method: str) -> None:
    answer = ada.http.request(method, "/api/hand")
    assert answer.status_code in (400, 403, 405, 422)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_no_page_of_another_origin_is_allowed_to_read(room: Target, ada: Student) -> None:
    answer = ada.http.get("/api/me", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:{port}",
        "",
        "127.0.0.1@evil.example",
        "evil.example#127.0.0.1",
        "0x7f.1",
        "2130706433",
        "lan",
        "[evil.example]",
        "localhost\u0430".encode().decode("latin-1"),
        "*",
        "127.0.0.1:80:90",
        "[",
        "[::1",
        "127.0.0.1:{port}, evil.example",
    ],
)
def test_no_name_that_others_control_leads_here(room: Target, ada: Student, host: str) -> None:
    """DNS rebinding: a page of evil.example has the same origin once that name resolves to this address."""
    seen = host.format(port=room.port)
    cookie = f"Cookie: seat={ada.http.cookies['seat']}\r\n"
    for head in (
        f"GET /api/me HTTP/1.1\r\nHost: {seen}\r\n",
        f"GET / HTTP/1.1\r\nHost: {seen}\r\n",
        f"POST /api/hand HTTP/1.1\r\nHost: {seen}\r\nOrigin: http://{seen}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n",
    ):
        answer = room.raw(f"{head}{cookie}Connection: close\r\n\r\n{{}}".encode("latin-1"))
        assert re.match(rb"HTTP/1.1 (403|400) ", answer), answer[:200]
        assert b"Ada" not in answer


def test_two_hosts_are_none(room: Target) -> None:
    answer = room.raw(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1.1 (403|400) ", answer)


# --- headers ----------------------------------------------------------------------------------------------------------


def answers(room: Target, ada: Student) -> dict[str, httpx.Response]:
    """Returns answers of all kinds, by name."""
    http, anybody, teacher = ada.http, room.browser(), room.teacher()
    grades = "/api/teacher/export/grades?exercise=double&format=csv"
    return {
        "page": http.get("/"),
        "join page": anybody.get("/"),
        "key page": anybody.get("/teacher"),
        "teacher's page": teacher.get("/teacher"),
        "script": http.get("/static/vendor/codemirror.js"),
        "no script": http.get("/static/no.js"),
        "JSON": http.get("/api/me"),
        "no door": http.get("/api/no"),
        "no pass": anybody.get("/api/me"),
        "a fault": http.post("/api/hand", json={}),
        "broken": http.post("/api/hand", content=b"{", headers={"content-type": "application/json"}),
        "crossed": http.post("/api/hand", json={}, headers={"Origin": "null"}),
        "method": http.delete("/api/me"),
        "too large": http.post("/api/hand", content=b"1" * (5 << 20), headers={"content-type": "application/json"}),
        "download": http.get("/api/exercises/double/download"),
        "grades": teacher.get(grades),
        "other host": http.get("/", headers={"Host": "x"}),
        "left": anybody.post("/api/leave", json={}),
        "picture": teacher.get("/api/teacher/qr.svg"),
        "worker": http.get("/sw.js"),
        "wrong code": anybody.post("/api/return", json={"personal": "x"}),
    }


def test_every_answer_has_the_headers_that_keep_pages_apart(room: Target, ada: Student) -> None:
    nonces = set()
    for what, answer in answers(room, ada).items():
        headers = answer.headers
        policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
        assert len(headers.get_list("content-security-policy")) == 1, what
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'", what
        assert policy["script-src"] == policy["connect-src"] == policy["form-action"] == "'self'", what
        assert "unsafe" not in headers["content-security-policy"], what
        assert headers["x-content-type-options"] == "nosniff", what
        assert headers["referrer-policy"] == "no-referrer", what
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin", what
        assert headers["cache-control"] in ("no-store", "no-cache"), what
        assert "server" not in headers, what
        nonces.add(policy["style-src"])
    assert len(nonces) == len(answers(room, ada)), "a nonce has come twice"


def test_nothing_that_is_somebodys_stays_in_a_cache(room: Target, ada: Student) -> None:
    kept = {what for what, answer in answers(room, ada).items() if answer.headers["cache-control"] != "no-store"}
    assert kept <= {"script", "no script", "worker"}


def test_pages_have_no_script_and_no_style_within(room: Target, ada: Student) -> None:
    for what in ("page", "join page", "key page", "teacher's page"):
        text = answers(room, ada)[what].text
        scripts = re.findall(r"<script\b([^>]*)>", text)
        assert scripts, what
        assert all("src=" in script or 'type="application/json"' in script for script in scripts), what
        assert not re.search(r"<[^>]+\s(?:on\w+|style)\s*=", text), what
        assert "<style" not in text, what


def test_scripts_make_html_of_nothing_that_came_from_outside() -> None:
    """Only `setTrusted` (lib/dom.js) makes HTML, and only from the server's HTML of Markdown."""
    folder = Path(__file__).parents[2] / "proxybox/classroom/static"
    made = re.compile(
        r"\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.srcdoc|"
        r"createContextualFragment|DOMParser"
    )
    found = {
        (path.name, line.strip())
        for path in folder.rglob("*.js")
        if path.parent.name != "vendor"
        for line in path.read_text().splitlines()
        if made.search(line)
    }
    assert {name for name, _ in found} <= {"dom.js"}
    assert len(found) <= 1, found
    for path in folder.rglob("*.js"):
        for called in re.findall(r"setTrusted\(([^;]*)\);", path.read_text()) if path.parent.name != "vendor" else ():
            assert re.search(r"html\b", called), (path.name, called)
