"""A lesson over HTTP, with real boxes: what students and their teacher do, and what is still there afterwards."""

import contextlib
import io
import itertools
import json
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

import proxybox.teach
from tests.classroom.listening import Classroom, Told, classroom, event_of

for name in ("fastapi", "itsdangerous", "segno", "markdown_it", "sqlalchemy", "uvicorn"):
    pytest.importorskip(name, reason="the extra classroom is not installed")

EXERCISES = Path(proxybox.teach.__file__).parent / "exercises"
GREETING, LEAP = "01-greeting", "02-leap-year"
FORMS = ("csv", "json")
JSON = {"Content-Type": "application/json"}
#: Reading ends after more comments than this without an event; the server sends a comment every 15 s.
SILENT = 4
_names = itertools.count()


def course(folder: Path) -> Path:
    """Makes a course of two exercises whose programs end soon."""
    folder.mkdir(parents=True)
    for exercise in (GREETING, LEAP):
        (folder / exercise).symlink_to(EXERCISES / exercise)
    (folder / "course.toml").write_text('title = "A class"\n[limits]\nmemory = "128M"\n')
    (folder / "syllabus.md").write_text("# Two things\n")
    return folder


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    folder = tmp_path_factory.mktemp("classroom")
    with classroom(folder / "data", course(folder / "course")) as room:
        yield room


@attrs.define
class Student:
    """A student's browser with its stream of events."""

    room: Classroom
    http: httpx.Client
    seat: dict[str, Any]
    saves: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    def body(self, code: str | None, **more: Any) -> dict[str, Any]:
        files = {} if code is None else {"files": {"solution.py": code}}
        return {"client": "page", "base": 0, "save": f"save-{next(self.saves)}", **files, **more}

    def post(self, path: str, body: Any, status: int) -> Any:
        answer = self.http.post(f"/api/{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def save(self, code: str, exercise: str = GREETING, **more: Any) -> Any:
        answer = self.http.put(f"/api/exercises/{exercise}/files", json=self.body(code, **more))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self.http.get(f"/api/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def run(self, code: str, exercise: str = GREETING, **more: Any) -> str:
        return self.post(f"exercises/{exercise}/run", self.body(code, **more), 202)["run"]

    def texts(self, exercise: str = GREETING) -> dict[str, str]:
        return self.get(f"exercises/{exercise}")["files"]

    def sitting(self) -> dict[str, Any]:
        return self.get("me")["seat"]


@pytest.fixture
def student(room: Classroom) -> Iterator[Student]:
    yield from _student(room)


@pytest.fixture
def other(room: Classroom) -> Iterator[Student]:
    yield from _student(room)


def _student(room: Classroom) -> Iterator[Student]:
    with room.joined(f"Ada {next(_names)}") as http:
        yield Student(room, http, http.get("/api/me").json()["seat"])


@pytest.fixture
def teacher(room: Classroom) -> Iterator[httpx.Client]:
    with room.teacher() as http:
        yield http


class Events:
    """The events of a stream, one after the other."""

    def __init__(self, answer: httpx.Response) -> None:
        self._told = _told(answer)
        self.seen: list[Told] = []

    def until(self, name: str, holds: Callable[[Any], bool] = lambda data: True) -> Any:
        """Reads to the next event of this name for which a condition holds, and returns its data."""
        for told in self._told:
            self.seen.append(told)
            if told.name == name and holds(told.data):
                return told.data
        raise AssertionError(f"the stream has ended before {name}: {self.seen}")

    def until_each(self, *names: str) -> dict[str, Any]:
        """Reads until an event of each name has come, in any order, and returns their data."""
        found: dict[str, Any] = {}
        while len(found) < len(names):
            told = next(self._told, None)
            assert told is not None, f"the stream has ended with {found}"
            self.seen.append(told)
            if told.name in names:
                found[told.name] = told.data
        return found

    def said(self, run: str, stream: str = "stdout") -> str:
        """Returns the output of a run, as far as it was read."""
        outs = [told.data for told in self.seen if told.name == "out"]
        return "".join(out["text"] for out in outs if out["run"] == run and out["stream"] == stream)


def _told(answer: httpx.Response) -> Iterator[Told]:
    """Yields the events of a stream. It ends when the server has sent only comments for a long time."""
    rest, silent = b"", 0
    for data in answer.iter_raw():
        *pieces, rest = (rest + data).split(b"\n\n")
        told = [each for each in map(event_of, pieces) if each is not None]
        silent = 0 if told else silent + len(pieces)
        if silent > SILENT:
            return
        yield from told


@contextlib.contextmanager
def events(http: httpx.Client, path: str = "/api/events", seen: str = "") -> Iterator[Events]:
    """Opens a stream after the event `seen`, and waits for its first event."""
    with http.stream("GET", path, headers={"Last-Event-ID": seen} if seen else {}) as answer:
        assert answer.status_code == 200, answer.read()
        read = Events(answer)
        read.until("hello")
        yield read


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return answer.json()["detail"]


# --- running ----------------------------------------------------------------------------------------------------------


def test_a_program_prints_and_ends(student: Student) -> None:
    with events(student.http) as read:
        run = student.run("import sys\nprint('hello')\nprint('oh', file=sys.stderr)\n")
        end = read.until("finished")
        assert (end["run"], end["kind"], end["status"]) == (run, "run", "ok")
        assert (read.said(run), read.said(run, "stderr")) == ("hello\n", "oh\n")


def test_an_error_is_told_with_its_line(student: Student) -> None:
    with events(student.http) as read:
        student.run("print('so far')\n\n1 / 0\n")
        error = read.until("finished")["error"]
        assert (error["type"], error["line"]) == ("ZeroDivisionError", 3)


@pytest.mark.parametrize(
    ("code", "line"), [("print('so far')\nx = \\", 2), ("if True:", 1), ("def f():\n", 1), ("x = (1,\n", 1)]
)
def test_a_program_is_run_as_it_is(student: Student, code: str, line: int) -> None:
    with events(student.http) as read:
        student.run(code)
        error = read.until("finished")["error"]
        assert error["type"] in ("SyntaxError", "IndentationError")
        assert error["line"] == line


def test_a_program_has_no_value(student: Student) -> None:
    with events(student.http) as read:
        student.run("print('said')\n6 * 7")
        assert read.until("finished")["status"] == "ok"
        assert "value" not in [told.name for told in read.seen]


def test_every_line_of_much_output_comes_once(student: Student) -> None:
    with events(student.http) as read:
        run = student.run("for n in range(3000): print(n)")
        read.until("finished")
        assert read.said(run) == "".join(f"{n}\n" for n in range(3000))
        assert sum(told.name == "out" for told in read.seen) < 1000  # not one for each line


def test_a_program_reads_what_is_typed(student: Student) -> None:
    with events(student.http) as read:
        run = student.run("name = input('Name? ')\nprint('Hello', name)\nprint(input())")
        read.until("input")
        assert read.said(run) == "Name? "
        student.post("input", {"run": run, "text": "Ada\n"}, 204)
        read.until("input")
        student.post("input", {"run": run, "text": ""}, 204)  # end of file
        assert read.until("finished")["error"]["type"] == "EOFError"
        assert read.said(run) == "Name? Hello Ada\n"


def test_pictures_and_updates_are_shown(student: Student) -> None:
    code = "class P:\n    def _repr_png_(self): return b'picture'\ndisplay(P())\nprint('below')\n"
    with events(student.http) as read:
        run = student.run(code)
        shown = read.until("display")
        read.until("finished")
        assert shown["run"] == run
        assert "image/png" in shown["data"]
        assert read.said(run) == "below\n"


def test_a_program_is_stopped_and_its_box_lives_on(student: Student) -> None:
    with events(student.http) as read:
        run = student.run("kept = 7\nprint('begun', flush=True)\nwhile True: pass")
        read.until("out")
        student.post("stop", {"run": run}, 204)
        assert read.until("finished")["status"] == "cancelled"
        student.post("repl", {"exercise": GREETING, "code": "kept"}, 202)
        assert read.until("value")["text"] == "7"
        read.until("finished")


def test_a_program_that_does_not_let_itself_be_stopped_loses_its_box(student: Student) -> None:
    code = "while True:\n    try:\n        print('begun', flush=True)\n        while True: pass\n"
    code += "    except KeyboardInterrupt:\n        print('no', flush=True)\n"
    with events(student.http) as read:
        run = student.run(code)
        read.until("out", lambda out: "begun" in out["text"])
        student.post("stop", {"run": run}, 204)
        read.until("out", lambda out: "no" in out["text"])
        student.post("stop", {"run": run}, 204)
        assert read.until("finished")["status"] == "cancelled"
        student.run("print('again')")
        assert read.until("finished")["status"] == "ok"


def test_the_prompt_has_the_variables_of_the_last_run(student: Student) -> None:
    with events(student.http) as read:
        student.run("numbers = [1, 2, 3]\n")
        read.until("finished")
        student.post("repl", {"exercise": GREETING, "code": "print('sum')\nsum(numbers)"}, 202)
        assert read.until("value")["text"] == "6"
        end = read.until("finished")
        assert (end["kind"], end["status"]) == ("repl", "ok")
        student.post("repl", {"exercise": GREETING, "code": "numbers = 0"}, 202)
        read.until("finished")
        student.post("repl", {"exercise": GREETING, "code": "numbers"}, 202)
        assert read.until("value")["text"] == "0"


def test_completion_knows_what_the_program_has_defined(student: Student) -> None:
    with events(student.http) as read:
        student.run("a_long_name = 1\n")
        read.until("finished")
    asked = {"exercise": GREETING, "code": "x = 1\na_lo", "cursor": 10}
    found = student.post("complete", asked, 200)
    assert (found["start"], found["matches"]) == (6, ["a_long_name"])


def test_one_thing_runs_at_a_time(student: Student) -> None:
    with events(student.http) as read:
        run = student.run("input()")
        read.until("input")
        assert "Stop it" in refused(student.http.post(f"/api/exercises/{GREETING}/run", json=student.body("1")), 409)
        assert student.get("me")["run"]["run"] == run
        student.post("input", {"run": run, "text": "\n"}, 204)
        read.until("finished")
        assert student.get("me")["run"] is None


@pytest.mark.full
def test_a_program_ends_at_the_limit_of_the_exercise(student: Student) -> None:
    with events(student.http) as read:
        student.run("while True: print('x' * 1000)")
        assert read.until("finished")["status"] in ("time_limit", "output_limit", "call_limit")


def test_what_ran_last_is_there_for_who_comes_later(student: Student) -> None:
    with events(student.http) as read:
        run = student.run("print('kept')")
        read.until("finished")
    output = student.get(f"exercises/{GREETING}")["output"]
    assert [each["event"] for each in output] == ["run", "out", "finished"]
    assert output[1]["data"] == {"run": run, "stream": "stdout", "text": "kept\n"}


# --- tests and hand-ins -----------------------------------------------------------------------------------------------

SOLUTION = "name = input()\nprint('Hello, ' + name + '!')\n"


def test_tests_are_run_and_their_results_kept(student: Student) -> None:
    with events(student.http) as read:
        run = student.post(f"exercises/{GREETING}/check", student.body("print('Hello')\n"), 202)["run"]
        wrong = read.until("checked")
        assert wrong["run"] == run
        assert wrong["results"]["passed"] < wrong["results"]["total"]
        assert read.until("finished")["kind"] == "check"
        solution = next((EXERCISES / GREETING / "solutions").glob("*/solution.py"), None)
        code = solution.read_text() if solution else SOLUTION
        student.post(f"exercises/{GREETING}/check", student.body(code), 202)
        right = read.until("checked")["results"]
        read.until("finished")
    assert right["passed"] == right["total"] > 0
    assert student.get(f"exercises/{GREETING}")["results"]["passed"] == right["passed"]
    mine = next(each for each in student.get("me")["course"]["exercises"] if each["id"] == GREETING)
    assert (mine["now"]["passed"], mine["now"]["total"]) == (right["passed"], right["total"])


def test_what_is_handed_in_is_graded_and_kept_once(student: Student, teacher: httpx.Client) -> None:
    body = student.body("print('mine')\n")
    with events(student.http) as read:
        first = student.post(f"exercises/{GREETING}/hand-in", body, 201)["handed_in"]
        again = student.post(f"exercises/{GREETING}/hand-in", body, 201)["handed_in"]
        assert first["id"] == again["id"]
        graded = read.until("graded")
        assert graded["handed_in"]["id"] == first["id"]
        assert graded["handed_in"]["results"]["total"] > 0
    student.save("print('later')\n")
    seen = teacher.get(f"/api/teacher/seats/{student.seat['id']}", params={"exercise": GREETING}).json()
    assert seen["handed_in"]["id"] == first["id"]
    assert list(seen["seat"]["progress"]) == [GREETING]
    assert seen["seat"]["progress"][GREETING]["handed_in"]["at"] == first["at"]
    archive = zipfile.ZipFile(io.BytesIO(teacher.get("/api/teacher/export/code.zip").content))
    folder = f"{student.seat['name']}/{GREETING}"
    assert archive.read(f"{folder} (handed in)/solution.py") == b"print('mine')\n"
    assert archive.read(f"{folder}/solution.py") == b"print('later')\n"


def test_hints_come_one_at_a_time_and_are_counted(student: Student, teacher: httpx.Client) -> None:
    total = student.get(f"exercises/{GREETING}")["hints"]["total"]
    hints = [student.post(f"exercises/{GREETING}/hint", {}, 200) for _ in range(total)]
    assert [hint["number"] for hint in hints] == list(range(1, total + 1))
    refused(student.http.post(f"/api/exercises/{GREETING}/hint", json={}), 404)
    assert student.get(f"exercises/{GREETING}")["hints"]["shown"] == [hint["html"] for hint in hints]
    student.post("open", {"exercise": GREETING}, 204)
    assert row_of(teacher, student)["hints"] == total


# --- texts and versions -----------------------------------------------------------------------------------------------


def test_the_same_save_is_kept_once(student: Student) -> None:
    first = student.save("one = 1\n", save="the-same")
    student.save("two = 2\n", base=first["version"])
    assert student.save("one = 1\n", save="the-same") == first
    assert student.texts()["solution.py"] == "two = 2\n"


def test_two_pages_that_save_both_stay_in_the_history(student: Student) -> None:
    first = student.save("begun = 1\n")
    assert "conflict" not in student.save("here = 1\n", base=first["version"], client="one")
    late = student.post(
        f"exercises/{GREETING}/run", student.body("there = 1\n", base=first["version"], client="two"), 202
    )
    assert student.texts()["solution.py"] == "there = 1\n"
    assert student.save("so = 1\n", base=first["version"])["conflict"]["version"] == late["version"]
    versions = student.get(f"exercises/{GREETING}/versions")["versions"]
    assert late["version"] in [each["version"] for each in versions]
    kept = student.get(f"exercises/{GREETING}/versions/{late['version']}")
    assert kept["files"]["solution.py"] == "there = 1\n"


def test_saves_that_follow_soon_are_one_version_but_not_what_took_much_away(student: Student) -> None:
    begun = student.save("a = 1\n" * 10)
    grown = student.save("a = 1\n" * 11, base=begun["version"])
    shorter = student.save("a = 1\n", base=grown["version"])
    versions = student.get(f"exercises/{GREETING}/versions")["versions"]
    assert [each["version"] for each in versions] == [shorter["version"], grown["version"], 0]
    kept = student.get(f"exercises/{GREETING}/versions/{grown['version']}")
    assert kept["files"]["solution.py"] == "a = 1\n" * 11


def test_runs_stay_in_the_history(student: Student) -> None:
    saved = student.save("print(1)\n")
    with events(student.http) as read:
        student.run("print(2)\n", base=saved["version"])
        read.until("finished")
    student.save("print(3)\n", base=saved["version"] + 1)
    whys = [each["why"] for each in student.get(f"exercises/{GREETING}/versions")["versions"]]
    assert whys == ["saved", "run", "saved", "starter"]


def test_version_0_is_the_starter(student: Student) -> None:
    starter = student.texts()
    student.save("changed = 1\n")
    assert student.get(f"exercises/{GREETING}/versions/0")["files"] == starter
    refused(student.http.get(f"/api/exercises/{GREETING}/versions/77"), 404)


def test_files_are_added_and_deleted_but_not_the_main_one(student: Student) -> None:
    student.save(
        "import more\nprint(more.n)\n", files={"solution.py": "import more\nprint(more.n)\n", "more.py": "n = 5"}
    )
    with events(student.http) as read:
        run = student.post(f"exercises/{GREETING}/run", student.body(None), 202)["run"]
        read.until("finished")
        assert read.said(run) == "5\n"
    answer = student.http.get(f"/api/exercises/{GREETING}/download")
    assert sorted(zipfile.ZipFile(io.BytesIO(answer.content)).namelist()) == [
        f"{GREETING}/more.py", f"{GREETING}/solution.py",
    ]  # fmt: skip
    student.save("", files={"more.py": None, "solution.py": None})
    assert list(student.texts()) == ["solution.py"]
    assert student.http.get(f"/api/exercises/{GREETING}/download").text == student.texts()["solution.py"]


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({"../solution.py": ""}, 422),
        ({"/etc/passwd": ""}, 422),
        ({".hidden": ""}, 422),
        ({"a": "", "a/b.py": ""}, 422),
        ({f"f{n}.py": "" for n in range(51)}, 413),
        ({"solution.py": "x" * ((1 << 20) + 1)}, 422),
        ({f"f{n}.py": "x" * (1 << 20) for n in range(3)}, 422),
        ({"solution.py": "x" * (5 << 20)}, 413),
    ],
    ids=("above", "absolute", "hidden", "folder", "many", "large", "together", "body"),
)
def test_files_that_are_none_are_refused(student: Student, files: dict[str, str], status: int) -> None:
    before = student.texts()
    refused(student.http.put(f"/api/exercises/{GREETING}/files", json=student.body(None, files=files)), status)
    assert student.texts() == before


def test_another_page_is_told_of_a_save(student: Student) -> None:
    with events(student.http) as read:
        saved = student.save("new = 1\n", client="another")
        assert read.until("saved") == {"exercise": GREETING, "version": saved["version"], "client": "another"}


# --- streams ----------------------------------------------------------------------------------------------------------


def test_who_comes_back_gets_what_came_meanwhile_once(student: Student) -> None:
    with events(student.http) as read:
        student.save("a = 1\n")
        read.until("saved")
        seen = read.seen[-1].id
    missed = [student.save(f"a = {n}\n")["version"] for n in range(2, 5)]
    with events(student.http, seen=seen) as read:
        assert [read.until("saved")["version"] for _ in missed] == missed
        last = read.seen[-1].id
    with events(student.http, seen=last) as read:
        student.save("a = 9\n")
        read.until("saved")
        assert [told.name for told in read.seen] == ["hello", "saved"]


@pytest.mark.parametrize("seen", ["00000000-5", "nonsense", "-", "{boot}-99999999", "{boot}-x"])
def test_who_comes_back_from_another_life_loads_everything_again(student: Student, seen: str) -> None:
    boot = student.get("me")["event"].partition("-")[0]
    with events(student.http, seen=seen.format(boot=boot)) as read:
        read.until("resync")


def test_who_has_missed_too_much_loads_everything_again(student: Student) -> None:
    seen = student.get("me")["event"]
    with events(student.http) as read:
        for _ in range(3):  # more than the server stores
            student.run("for n in range(3000): print('x' * 70)")
            read.until("finished")
    with events(student.http, seen=seen) as read:
        read.until("resync")


def test_who_does_not_read_is_cut_off_and_holds_nobody_up(student: Student, teacher: httpx.Client) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in student.http.cookies.items())
    large = {"exercise": GREETING, "title": "Large", "files": {"a.py": "#" * 95_000}}
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", student.room.port))
        slow.sendall(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        with events(student.http) as read:
            for _ in range(100):  # more than may wait for one reader, and more than the kernel buffers
                share = teacher.post("/api/teacher/share", json=large).json()
                assert read.until("share")["id"] == share["id"]
                teacher.delete(f"/api/teacher/share/{share['id']}", headers=JSON)
            student.run("print('still here')")
            assert read.until("finished")["status"] == "ok"
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        size = 0
        while data := slow.recv(1 << 20):  # the rest, and then the end
            size += len(data)
        assert size < 100 * 95_000


# --- the class --------------------------------------------------------------------------------------------------------


def row_of(teacher: httpx.Client, student: Student) -> dict[str, Any]:
    rows = teacher.get("/api/teacher/state").json()["seats"]
    return next(row for row in rows if row["id"] == student.seat["id"])


def change(teacher: httpx.Client, student: Student, **what: Any) -> dict[str, Any]:
    answer = teacher.patch(f"/api/teacher/seats/{student.seat['id']}", json=what)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_grid_shows_what_a_seat_does(student: Student, teacher: httpx.Client) -> None:
    mine = student.seat["id"]
    with events(teacher, "/api/teacher/events") as grid, events(student.http) as read:
        grid.until("row", lambda row: row["id"] == mine and row["online"])
        student.post("open", {"exercise": LEAP}, 204)
        grid.until("row", lambda row: row["id"] == mine and row["exercise"] == LEAP)
        run = student.run("input()\n1 / 0", LEAP)
        grid.until("row", lambda row: row["id"] == mine and row["running"])
        read.until("input")
        student.post("input", {"run": run, "text": "\n"}, 204)
        read.until("finished")
        row = grid.until("row", lambda row: row["id"] == mine and row["error"])
        assert row["error"] == "ZeroDivisionError: division by zero (line 2)"
        assert not row["running"]
    found = teacher.get("/api/teacher/errors", params={"exercise": LEAP}).json()["errors"]
    assert {
        "error": "ZeroDivisionError: division by zero",
        "count": 1,
        "seats": [mine],
        "example": row["error"],
    } in found


def test_a_hand_is_raised_and_lowered(student: Student, teacher: httpx.Client) -> None:
    mine = student.seat["id"]
    with events(teacher, "/api/teacher/events") as grid, events(student.http) as read:
        raised = student.post("hand", {"up": True}, 200)["hand"]
        assert student.post("hand", {"up": True}, 200)["hand"] == raised  # the time at which the hand was first raised
        grid.until("row", lambda row: row["id"] == mine and row["hand"] == raised)
        assert change(teacher, student, hand=False)["hand"] is None
        read.until("seat", lambda seat: seat["hand"] is None)


def test_the_teacher_watches_a_seat(student: Student, other: Student, teacher: httpx.Client) -> None:
    mine = student.seat["id"]
    with events(teacher, "/api/teacher/events") as grid:
        stream = grid.seen[0].data["stream"]
        watch = {"stream": stream, "seat": mine}
        assert teacher.post("/api/teacher/watch", json=watch).status_code == 204
        other.save("not = 'seen'\n")
        with events(student.http) as read:
            student.run("print('seen')\n")
            read.until("finished")
        watched = grid.until("watched", lambda told: told["event"] == "text")
        assert watched["seat"] == mine
        assert watched["data"]["files"]["solution.py"] == "print('seen')\n"
        assert grid.until("watched", lambda told: told["event"] == "out")["data"]["text"] == "seen\n"
        grid.until("watched", lambda told: told["event"] == "finished")
        assert teacher.post("/api/teacher/watch", json={"stream": stream, "seat": None}).status_code == 204
    assert teacher.post("/api/teacher/watch", json={"stream": "none", "seat": mine}).status_code == 404
    looked = teacher.get(f"/api/teacher/seats/{mine}", params={"exercise": GREETING}).json()
    assert looked["files"]["solution.py"] == "print('seen')\n"
    assert [each["event"] for each in looked["output"]] == ["run", "out", "finished"]


def test_a_class_that_is_frozen_runs_nothing_but_keeps_what_is_typed(student: Student, teacher: httpx.Client) -> None:
    with events(student.http) as read:
        student.run("print('begun', flush=True)\nwhile True: pass")
        read.until("out")
        assert teacher.post("/api/teacher/freeze", json={"frozen": True}).json()["frozen"] is True
        try:
            told = read.until_each("finished", "freeze")
            assert told["finished"]["status"] == "cancelled"
            assert told["freeze"] == {"frozen": True}
            for path in ("run", "check"):
                refused(student.http.post(f"/api/exercises/{GREETING}/{path}", json=student.body("1")), 423)
            refused(student.http.post("/api/repl", json={"exercise": GREETING, "code": "1"}), 423)
            student.save("typed = 'meanwhile'\n")
        finally:
            teacher.post("/api/teacher/freeze", json={"frozen": False})
        read.until("freeze", lambda freeze: not freeze["frozen"])
        student.run("print('again')")
        assert read.until("finished")["status"] == "ok"


def test_an_exercise_is_pushed_to_all(student: Student, teacher: httpx.Client) -> None:
    with events(student.http) as read:
        teacher.post("/api/teacher/push", json={"exercise": LEAP})
        assert read.until("push") == {"exercise": LEAP}
        assert student.get("me")["pushed"] == LEAP
        teacher.post("/api/teacher/push", json={"exercise": None})
        assert read.until("push") == {"exercise": None}
    assert teacher.post("/api/teacher/push", json={"exercise": "none"}).status_code == 404


def test_code_of_a_student_is_shared_without_the_name(student: Student, other: Student, teacher: httpx.Client) -> None:
    student.save("mine = 1\n")
    with events(other.http) as read:
        asked = {"seat": student.seat["id"], "exercise": GREETING, "title": "Look at this"}
        share = teacher.post("/api/teacher/share", json=asked).json()
        seen = read.until("share")
        assert seen == share
        assert (seen["files"]["solution.py"], seen["by"]) == ("mine = 1\n", "student")
        assert student.seat["id"] not in json.dumps(seen)
        assert student.seat["name"] not in json.dumps(seen)
        assert share in other.get("me")["shares"]
        assert teacher.delete(f"/api/teacher/share/{share['id']}", headers=JSON).status_code == 204
        assert read.until("unshare") == {"id": share["id"]}
    assert share not in other.get("me")["shares"]


def test_a_seat_that_is_locked_runs_nothing(student: Student, teacher: httpx.Client) -> None:
    with events(student.http) as read:
        student.run("print('begun', flush=True)\nwhile True: pass")
        read.until("out")
        assert change(teacher, student, locked=True)["locked"] is True
        told = read.until_each("finished", "seat")
        assert told["seat"]["locked"] is True
        assert told["finished"]["status"] == "cancelled"
    refused(student.http.post(f"/api/exercises/{GREETING}/run", json=student.body("1")), 423)
    change(teacher, student, locked=False)
    with events(student.http) as read:
        student.run("print('again')")
        assert read.until("finished")["status"] == "ok"


def test_a_class_that_is_locked_takes_nobody_else(room: Classroom, student: Student, teacher: httpx.Client) -> None:
    teacher.post("/api/teacher/lock", json={"locked": True})
    try:
        with room.client() as late:
            assert "teacher" in refused(late.post("/api/join", json={"name": "Late", "code": room.code}), 403)
            own = {"personal": student.seat["personal"]}
            assert late.post("/api/return", json=own).json()["seat"]["id"] == student.seat["id"]
    finally:
        teacher.post("/api/teacher/lock", json={"locked": False})


def test_a_seat_is_renamed_removed_and_given_back(room: Classroom, student: Student, teacher: httpx.Client) -> None:
    student.save("mine = 1\n")
    with events(student.http) as read:
        new = f"Lovelace {next(_names)}"
        assert change(teacher, student, name=new)["name"] == new
        read.until("seat", lambda seat: seat["name"] == new)
        assert change(teacher, student, removed=True)["removed"] is True
        read.until("removed")
    refused(student.http.get("/api/me"), 401)
    personal = change(teacher, student, removed=False)["personal"]
    refused(student.http.get("/api/me"), 401)  # the old pass stays void
    with room.client() as back:
        assert back.post("/api/return", json={"personal": personal}).status_code == 200
        assert back.get(f"/api/exercises/{GREETING}").json()["files"]["solution.py"] == "mine = 1\n"


def test_a_teacher_takes_home_grades_code_and_runs(student: Student, teacher: httpx.Client) -> None:
    with events(student.http) as read:
        student.run("print(1)\n")
        read.until("finished")
        student.post(f"exercises/{GREETING}/hand-in", student.body("print('mine')\n"), 201)
        read.until("graded")
    formats = [each["name"] for each in teacher.get("/api/teacher/formats").json()["formats"]]
    assert set(FORMS) <= set(formats)
    for form in formats:
        answer = teacher.get("/api/teacher/export/grades", params={"exercise": GREETING, "format": form})
        assert answer.status_code == 200, (form, answer.text)
        assert answer.content, form
    csv = teacher.get("/api/teacher/export/grades", params={"exercise": GREETING, "format": "csv"}).text
    assert student.seat["name"] in csv
    runs = teacher.get("/api/teacher/export/runs.csv").text
    assert any(line.startswith(f"{student.seat['name']},{GREETING},run,") for line in runs.splitlines())


# --- another day ------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_everything_is_there_another_day(tmp_path: Path) -> None:
    lessons = course(tmp_path / "course")
    with classroom(tmp_path / "data", lessons) as room, room.joined("Ada") as http, room.teacher() as teacher:
        student = Student(room, http, http.get("/api/me").json()["seat"])
        student.save("kept = 1\n")
        student.post("open", {"exercise": GREETING}, 204)
        student.post("hand", {"up": True}, 200)
        student.post(f"exercises/{GREETING}/hint", {}, 200)
        handed = student.post(f"exercises/{LEAP}/hand-in", student.body("print(1)\n"), 201)["handed_in"]
        teacher.post("/api/teacher/push", json={"exercise": LEAP})
        share = {"exercise": GREETING, "title": "Mine", "files": {"a.py": "1"}}
        assert teacher.post("/api/teacher/share", json=share).status_code == 201
        port, code, seat, seen = room.port, room.code, student.sitting(), student.get("me")["event"]
        cookies = dict(http.cookies), dict(teacher.cookies)
        room.kill(all_of_it=True)
    with classroom(tmp_path / "data", lessons, port=port) as room, room.client() as http, room.client() as teacher:
        http.cookies.update(cookies[0])
        teacher.cookies.update(cookies[1])
        assert room.code == code
        student = Student(room, http, seat)
        with events(http, seen=seen) as read:
            read.until("resync")
        assert student.sitting() == seat
        assert student.texts()["solution.py"] == "kept = 1\n"
        assert len(student.get(f"exercises/{GREETING}")["hints"]["shown"]) == 1
        assert student.get("me")["pushed"] == LEAP
        assert [each["title"] for each in student.get("me")["shares"]] == ["Mine"]
        with events(http) as read:  # a hand-in that was not graded before the kill is graded now
            mine = student.get(f"exercises/{LEAP}")["handed_in"]
            if mine["results"] is None:
                mine = read.until("graded")["handed_in"]
        assert mine["id"] == handed["id"]
        assert mine["results"] is not None
        row = row_of(teacher, student)
        assert (row["name"], row["hand"], list(row["progress"])) == ("Ada", seat["hand"], [LEAP])
