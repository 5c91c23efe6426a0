"""Attacks by texts: names of people and of files, programs, bodies, and the files that a teacher downloads."""

import csv
import io
import json
import ntpath
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")

from tests.classroom.attacking import Student, Target

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def teacher(room: Target) -> httpx.Client:
    return room.teacher()


@pytest.fixture
def student(room: Target) -> Student:
    return room.join()


def join(room: Target, name: Any) -> httpx.Response:
    return room.browser().post("/api/join", json={"name": name, "code": room.code})


# --- names of people --------------------------------------------------------------------------------------------------

NO_NAMES = {
    "empty": "",
    "spaces": "   ",
    "long": "x" * 41,
    "very long": "x" * 100_000,
    "NUL": "a\0b",
    "escape": "a\x1b[31mb",
    "delete": "a\x7fb",
    "C1": "a\x9bb",
    "right to left": "a\u202eb",
    "isolate": "a\u2066b",
    "zero width": "a\u200bb",
    "joiner": "a\u200db",
    "soft hyphen": "a\u00adb",
    "byte order mark": "a\ufeffb",
    "tag": "a\U000e0041b",
    "filler": "\u3164",
    "half filler": "\uffa0",
    "choseong": "\u115f\u1160",
    "braille blank": "\u2800",
    "variant": "a\ufe0fb",
    "grapheme joiner": "a\u034fb",
    "private": "\ue000",
    "no character": "\ufffe",
    "unassigned": "\U000e0fff",
    "only a mark": "\u0301",
    "marks": "a" + "\u0301" * 20,
    "line separator": "a\u2028\u202eb",
}


@pytest.mark.parametrize("what", NO_NAMES)
def test_names_that_hide_something_are_none(room: Target, what: str) -> None:
    answer = join(room, NO_NAMES[what])
    assert answer.status_code in (413, 422)
    assert not NO_NAMES[what] or NO_NAMES[what] not in answer.text


@pytest.mark.parametrize("name", [["Ada"], {"a": 1}, 7, None, True])
def test_names_that_are_no_texts(room: Target, name: Any) -> None:
    assert join(room, name).status_code == 422


def test_a_lone_surrogate_is_no_name_and_no_fault(room: Target) -> None:
    body = b'{"name": "a\\ud800b", "code": "' + room.code.encode() + b'"}'
    answer = room.browser().post("/api/join", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Grace", "grace"),
        ("Lin us", "Lin  us"),
        ("Zoë", "Zoe\u0308"),
        ("Fin", "\ufb01n"),
        ("Straße", "STRASSE"),
        ("Max1", "Max\uff11"),
        ("Kim", "\u212aim"),
        ("Ida", "\u2160da".lower().replace("\u2170", "I")),
        (" Eva", "Eva\u00a0"),
    ],
)
def test_a_name_is_one_seats_however_it_is_written(room: Target, first: str, second: str) -> None:
    assert join(room, first).status_code == 201
    assert join(room, second).status_code == 409


def test_names_with_markup_are_shown_as_text(room: Target, teacher: httpx.Client) -> None:
    """JSON answers have their own media type, not HTML's. No HTML page contains a name."""
    answer = join(room, MARKUP)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert MARKUP not in teacher.get("/teacher").text
    assert MARKUP in [row["name"] for row in teacher.get("/api/teacher/state").json()["seats"]]
    assert join(room, MARKUP).json()["detail"].find("<") < 0, "a refusal repeats what was sent"


# --- names of files ---------------------------------------------------------------------------------------------------

NO_FILES = [
    "",
    ".",
    "..",
    "../solution.py",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../b.py",
    "a/./b.py",
    "a//b.py",
    "a/",
    "/",
    "C:\\x.py",
    "C:x.py",
    "..\\x.py",
    "a\\b.py",
    "a\0.py",
    "a\n.py",
    "a.py\n",
    "\ta.py",
    " a.py",
    "a.py ",
    "a.py.",
    "a/ b.py",
    ".hidden",
    "a/.b",
    ".git/config",
    "con",
    "CON.py",
    "nul.txt",
    "aux",
    "com1.py",
    "lpt9",
    "com\u00b9.txt",
    "con .py",
    "a/prn.txt",
    "a:b.py",
    "a?.py",
    "a*.py",
    "a|b",
    "<a>.py",
    '"a".py',
    "a;b",
    "~",
    "~root/x",
    "-rf",
    "$HOME",
    "%2e%2e/x",
    "a\u202eyp.txt",
    "a\u200b.py",
    "e\u0301.py",
    "\uff0e\uff0e/x",
    "\u2024\u2024/x",
    "a\u2044b",
    "a\u2215b",
    "\ud800.py",
    "x" * 65,
    "a/b/c/d/e.py",
    "x/" * 60 + "y",
]


@pytest.mark.parametrize("name", NO_FILES)
def test_names_of_files_that_lead_elsewhere_are_none(student: Student, name: str) -> None:
    for what in ("put", "run", "check", "hand-in"):
        body = json.dumps({"files": {name: "1"}})
        path = f"/api/exercises/double/{'files' if what == 'put' else what}"
        kind = {"Content-Type": "application/json"}
        answer = student.http.request("PUT" if what == "put" else "POST", path, content=body, headers=kind)
        assert answer.status_code == 422, (what, name)


@pytest.mark.parametrize(
    "files",
    [
        {"data": "1", "data/x.txt": "2"},
        {"a/b": "1", "a/b/c": "2"},
        {"Solution.py": "1"},
        {"SOLUTION.PY": "1"},
        {"solution.py/x": "1"},
        {"\uff53olution.py": "1"},
        {"a.txt": "1", "A.TXT": "2"},
        {"Data/x": "1", "data": "2"},
        {"table.txt/x": "1"},
        {"TABLE.txt": "1"},
    ],
)
def test_files_do_not_take_the_place_of_others(student: Student, files: dict[str, str]) -> None:
    assert student.put(files).status_code == 422
    assert student.http.get("/api/exercises/double").json()["version"] == 0


@pytest.mark.parametrize("what", ["run", "check", "hand-in"])
def test_the_exercises_own_files_cannot_be_changed(student: Student, what: str) -> None:
    for text in ("mine", None):
        answer = student.http.post(f"/api/exercises/double/{what}", json={"files": {"table.txt": text}})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["loc"] == ["body", "files", "table.txt"]
    seen = student.until("finished", "print(open('table.txt').read())")
    assert "lies beside" in str(seen)


def test_the_main_file_stays(student: Student) -> None:
    student.put({"solution.py": "1", "other.py": "2"})
    student.put({"solution.py": None, "other.py": None})
    assert student.http.get("/api/exercises/double").json()["files"] == {"solution.py": "1"}


# --- texts ------------------------------------------------------------------------------------------------------------

TEXTS = {
    "NUL": "a\0b",
    "markup": MARKUP + "</script><script>alert(1)</script>",
    "lines": "a\r\nb\rc\u2028d\u2029e\x85f\x0bg\x0ch",
    "escapes": "\x1b]0;title\x07\x1b[2J",
    "backslashes": "\\5c;\\0;\\d800;\\\\",
    "direction": "\u202e\u2066",
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "an event": "\n\nid: 1\nevent: removed\ndata: {}\n\n",
    "BOM": "\ufeffx = 1",
}


@pytest.mark.parametrize("what", TEXTS)
def test_texts_are_kept_and_given_back_as_they_are(student: Student, teacher: httpx.Client, what: str) -> None:
    text = TEXTS[what]
    assert student.put({"solution.py": text}).status_code == 200
    assert student.http.get("/api/exercises/double").json()["files"]["solution.py"] == text
    assert student.http.get("/api/exercises/double/versions/1").json()["files"]["solution.py"] == text
    assert student.http.get("/api/exercises/double/download").content == text.encode()
    assert teacher.get(f"/api/teacher/seats/{student.id}?exercise=double").json()["files"]["solution.py"] == text
    for kind in ("run", "hand-in"):
        assert student.ask(kind).status_code in (201, 202)


LONE = '"\\ud800"'


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/api/exercises/double/files", '{"files": {"solution.py": %s}}'),
        ("PUT", "/api/exercises/double/files", '{"files": {%s: "x"}}'),
        ("POST", "/api/repl", '{"exercise": "double", "code": %s}'),
        ("POST", "/api/complete", '{"exercise": "double", "code": %s, "cursor": 1}'),
        ("POST", "/api/open", '{"exercise": %s}'),
        ("POST", "/api/stop", '{"run": %s}'),
        ("POST", "/api/input", '{"run": %s, "text": "x"}'),
        ("POST", "/api/input", '{"run": "x", "text": %s}'),
        ("POST", "/api/return", '{"personal": %s}'),
        ("POST", "/api/join", '{"name": "x", "code": %s}'),
        ("POST", "/api/teacher/login", '{"key": %s}'),
    ],
)
def test_lone_surrogates_are_refused_and_are_no_fault(student: Student, method: str, path: str, body: str) -> None:
    for text in (LONE, '"\\udc80x"', '"\\u0000"'):
        kind = {"Content-Type": "application/json"}
        answer = student.http.request(method, path, content=(body % text).encode(), headers=kind)
        assert answer.status_code < 500, text
        assert "\\u0000" in text or answer.status_code >= 400
    answer = student.http.put(
        "/api/exercises/double/files",
        content=b'{"client": "\\ud800", "save": "\\udfff\\u0000", "files": {"solution.py": "1"}}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422


# --- bodies -----------------------------------------------------------------------------------------------------------


def big(count: int) -> dict[str, bytes]:
    many = ",".join(f'"{number}.py": ""' for number in range(count))
    return {
        "a paste": b'{"files": {"solution.py": "' + b"x" * (10 << 20) + b'"}}',
        "a file": b'{"files": {"solution.py": "' + b"x" * ((1 << 20) + 1) + b'"}}',
        "all files": json.dumps({"files": {f"{number}.py": "x" * (1 << 20) for number in range(3)}}).encode(),
        "many files": b'{"files": {%s}}' % many.encode(),
        "many bad files": b'{"files": {%s}}' % ",".join(f'"/{number}": 1' for number in range(count)).encode(),
        "many fields": b"{%s}" % ",".join(f'"{number}": 1' for number in range(count)).encode(),
        "deep lists": b'{"files": ' + b"[" * 500_000 + b"]" * 500_000 + b"}",
        "deep objects": b'{"files": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
        "a number": b'{"base": ' + b"9" * 1_000_000 + b"}",
        "a float": b'{"base": 1e999999}',
        "no number": b'{"base": NaN}',
        "a string for a number": b'{"base": "1"}',
        "a float for a number": b'{"base": 1.0}',
        "less than none": b'{"base": -1}',
        "a list": b"[]",
        "null": b"null",
        "nothing": b"",
        "half": b'{"files": {',
        "two": b"{}{}",
        "bytes": b"\xff\xfe{}\x00",
        "UTF-16": '{"files": {}}'.encode("utf-16"),
        "a long id": json.dumps({"save": "x" * 65, "files": {"solution.py": ""}}).encode(),
    }


@pytest.mark.parametrize("what", big(1))
def test_bodies_that_are_too_much_are_refused(room: Target, what: str) -> None:
    student = room.join()
    kind = {"Content-Type": "application/json"}
    answer = student.http.put("/api/exercises/double/files", content=big(120_000)[what], headers=kind)
    assert answer.status_code in (413, 422), answer.text[:300]
    assert len(answer.content) < 20_000
    assert answer.headers["content-type"] == "application/problem+json"


def test_of_two_values_of_a_key_one_counts(student: Student) -> None:
    body = b'{"files": {"solution.py": "first"}, "files": {"solution.py": "second", "../x": "1"}}'
    kind = {"Content-Type": "application/json"}
    assert student.http.put("/api/exercises/double/files", content=body, headers=kind).status_code == 422
    assert student.http.get("/api/exercises/double").json()["version"] == 0


def test_who_has_no_pass_is_not_read(room: Target) -> None:
    """Without a pass the server does not wait for the body: most of it never arrives, but the answer does."""
    head = f"Host: 127.0.0.1:{room.port}\r\nOrigin: {room.url}\r\nContent-Type: application/json\r\n"
    for path, size in (("/api/exercises/double/files", 100), ("/api/join", 5000), ("/api/teacher/freeze", 100)):
        with room.connect() as connection:
            connection.sendall(f"PUT {path} HTTP/1.1\r\n{head}Content-Length: {size}\r\n\r\n{{".encode())
            assert re.match(rb"HTTP/1.1 (401|413) ", connection.recv(100)), path


def test_a_body_tells_how_long_it_is(room: Target, student: Student) -> None:
    """A chunked body, which could be endless, is refused before it is read; browsers send none."""
    head = (
        f"Host: 127.0.0.1:{room.port}\r\nOrigin: {room.url}\r\nContent-Type: application/json\r\n"
        f"Cookie: seat={student.http.cookies['seat']}\r\n"
    )
    with room.connect() as connection:
        connection.sendall(
            f"PUT /api/exercises/double/files HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 422 ")
    for length in ("-1", "+5", "0x10", "9" * 30, "5, 6", "5\r\nContent-Length: 6"):
        answer = room.raw(
            f"POST /api/hand HTTP/1.1\r\n{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{{}}".encode()
        )
        assert re.match(rb"HTTP/1.1 4\d\d ", answer), (length, answer)


# --- what a teacher takes home ----------------------------------------------------------------------------------------

#: Names of people that would be paths, formulas, devices, or the same folder on another system.
HOSTILE = [
    "../../evil",
    "/etc/passwd",
    "C:\\Windows\\x",
    "..",
    "...",
    "CON",
    "nul.txt",
    "com1",
    "Kurt.",
    "Kurt",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "a;=2+5",
    "\uff1d9+1",
    '"quoted", x',
    "a/b",
    "a?b",
    "a:b",
    "a*b",
    "]]>&<x/>",
    "{{7*7}}",
    "%s%n",
    "~",
    "x' OR 1=1 --",
]


@pytest.fixture(scope="module")
def handed(room: Target, teacher: httpx.Client) -> dict[str, Student]:
    """Everybody has handed in something, with hostile texts of their own."""
    students = {name: room.join(name) for name in HOSTILE}
    with teacher.stream("GET", "/api/teacher/events") as _:
        for name, student in students.items():
            shown = f"'\\x1b[31m\\0]]>', chr(0xd800), '{MARKUP}'"
            code = f"# {name}\ndef double(n):\n    print({shown})\n    return '=cmd|x'\n"
            answer = student.ask("hand-in", {"solution.py": code, "handed-in/solution.py": "forged", "a/b.txt": "x"})
            assert answer.status_code == 201
            assert student.ask("run", {"solution.py": "raise ValueError('=1+1;=2\\n=3')"}).status_code == 202
    return students


def is_reserved(name: str) -> bool:
    """Returns whether Windows takes a part of a path for a device, such as NUL."""
    if hasattr(ntpath, "isreserved"):  # since Python 3.13
        return ntpath.isreserved(name)
    return any(PureWindowsPath(part).is_reserved() for part in name.split("/"))


def is_within(name: str) -> bool:
    """Returns whether a name in an archive stays in its folder, on any system."""
    windows = PureWindowsPath(name)
    parts = PurePosixPath(name).parts
    return not (
        windows.drive
        or windows.is_absolute()
        or ".." in windows.parts
        or "\\" in name
        or name.startswith("/")
        or is_reserved(name)
        or any(part != part.rstrip(" .") or re.search(r'[<>:"|?*\0-\x1f]', part) for part in parts)
    )


def test_the_archive_of_all_code_stays_in_its_folder(handed: dict[str, Student], teacher: httpx.Client) -> None:
    answer = teacher.get("/api/teacher/export/code.zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="code.zip"'
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert [name for name in names if not is_within(name)] == []
    assert len({name.casefold() for name in names}) == len(names), "one file takes the place of another"
    folders = {name.partition("/")[0].casefold() for name in names if "double (handed in)/solution.py" in name}
    seats = teacher.get("/api/teacher/state").json()["seats"]
    assert len(folders) == sum("double" in seat["progress"] for seat in seats) >= len(handed)


def test_what_was_handed_in_cannot_be_forged_in_the_archive(handed: dict[str, Student], teacher: httpx.Client) -> None:
    archive = zipfile.ZipFile(io.BytesIO(teacher.get("/api/teacher/export/code.zip").content))
    found = {name: archive.read(name) for name in archive.namelist() if name.startswith("Kurt/")}
    assert found["Kurt/double/handed-in/solution.py"] == b"forged"
    assert b"def double" in found["Kurt/double (handed in)/solution.py"]


def test_tables_have_no_formulas(handed: dict[str, Student], teacher: httpx.Client) -> None:
    for path in ("export/runs.csv", "export/grades?exercise=double&format=csv"):
        text = teacher.get(f"/api/teacher/{path}").content.decode()
        for separator in (",", ";", "\t"):
            cells = [cell for row in csv.reader(io.StringIO(text), delimiter=separator) for cell in row]
            assert [cell for cell in cells if cell.startswith(("=", "+", "@", "-", "\uff1d", "\t", "\r"))] == [], path
        assert "\0" not in text
        assert "\x1b" not in text


def test_every_format_of_grades_takes_hostile_texts(handed: dict[str, Student], teacher: httpx.Client) -> None:
    formats = [each["name"] for each in teacher.get("/api/teacher/formats").json()["formats"]]
    assert len(formats) > 5
    for form in formats:
        answer = teacher.get(f"/api/teacher/export/grades?exercise=double&format={form}")
        assert answer.status_code == 200, form
        disposition = answer.headers["content-disposition"]
        assert re.fullmatch(r'attachment; filename="[A-Za-z0-9._-]+"', disposition), disposition
        files = {disposition.partition('"')[2][:-1]: answer.content}
        if answer.headers["content-type"] == "application/zip":
            archive = zipfile.ZipFile(io.BytesIO(answer.content))
            files = {name: archive.read(name) for name in archive.namelist()}
            assert len(files) == len({name.casefold() for name in archive.namelist()}) >= len(handed), form
        for name, data in files.items():
            assert is_within(name), (form, name)
            assert b"\x1b" not in data, form
            if name.endswith(".json"):
                json.loads(data)
            elif name.endswith(".xml"):
                ElementTree.fromstring(data)
            elif name.endswith((".html", ".md")):
                assert MARKUP.encode() not in data, form


@pytest.mark.parametrize(
    "query",
    [
        "exercise=../x&format=csv",
        "exercise=double&format=../../x",
        "exercise=double",
        "format=csv",
        "exercise=double&format=%00",
        "exercise=double&format=csv%0d%0aX: y",
    ],
)
def test_no_other_exports(teacher: httpx.Client, query: str) -> None:
    answer = teacher.get(f"/api/teacher/export/grades?{query}")
    assert answer.status_code in (404, 422)
    assert "x" not in answer.headers


def test_a_download_is_a_file_and_no_page(student: Student) -> None:
    student.put({"solution.py": MARKUP})
    answer = student.http.get("/api/exercises/double/download")
    assert answer.headers["content-disposition"] == 'attachment; filename="solution.py"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    student.put({"data/\u00fcber -+.txt": "x"})
    archive = zipfile.ZipFile(io.BytesIO(student.http.get("/api/exercises/double/download").content))
    assert archive.namelist() == ["double/solution.py", "double/data/\u00fcber -+.txt"]


def test_nothing_of_all_this_was_a_fault_of_the_server(room: Target, handed: dict[str, Student]) -> None:
    assert "Traceback" not in room.log.read_text()
