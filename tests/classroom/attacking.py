"""A classroom to attack: a real server, its honest students, and attackers.

Attackers come from their own addresses within 127.0.0.0/8, so that their wrong codes are counted separately.
"""

import contextlib
import itertools
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import httpx

from tests.classroom.listening import classroom, log_of

if TYPE_CHECKING:
    import subprocess

#: An exercise with everything that students must not see; each of these texts contains the word SECRET.
COURSE: Final[Mapping[str, str]] = {
    "course.toml": 'title = "Course"\nlessons = ["double", "cases"]\nseats = 40\n',
    "double/exercise.toml": 'title = "Double"\nhints = ["First hint.", "Second hint.", "Third hint."]\n',
    "double/text.md": "# Double\n\nWrite `double`.\n",
    "double/starter/solution.py": "def double(number):\n    return 0\n",
    "double/files/table.txt": "lies beside\n",
    "double/tests/test_double.py": """\
import pytest


@pytest.mark.hidden
def test_first(student):
    "Hidden SECRET name"
    student.expect("double", 918273, returns=1836546)  # SECRET comment


def test_shown(student):
    "Two"
    student.expect("double", 2, returns=4)


@pytest.mark.hidden
def test_last(student):
    "Another SECRET name"
    student.expect("double", "SECRETinput", returns="SECRETinputSECRETinput")


def test_shown_last(student):
    "Three"
    student.expect("double", 3, returns=6)
""",
    "double/solutions/right.py": "def double(number):\n    SECRET_solution = 2 * number\n    return SECRET_solution\n",
    "double/wrong/zero.py": "def double(number):\n    return 0  # SECRET wrong\n",
    "cases/exercise.toml": 'title = "Cases"\nfile = "main.py"\n',
    "cases/text.md": "# Cases\n",
    "cases/data/sample/1.in": "1\n",
    "cases/data/sample/1.ans": "2\n",
    "cases/data/secret/1.in": "SECRETcase\n",
    "cases/data/secret/1.ans": "SECRETanswer\n",
}
#: Parts of the course that only the teacher may see.
SECRETS: Final = ("SECRET", "918273", "1836546")
_ADDRESSES: Final = (f"127.0.{high}.{low}" for high in range(1, 250) for low in range(1, 250))
_numbers: Final = itertools.count(1)


@attrs.frozen
class Student:
    """A student with a seat. http: the browser."""

    http: httpx.Client
    me: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.me["id"])

    def put(self, files: Mapping[str, str | None], exercise: str = "double", **more: Any) -> httpx.Response:
        return self.http.put(f"/api/exercises/{exercise}/files", json={"files": files, "save": _new_save(), **more})

    def ask(self, what: str, files: Mapping[str, str] | None = None, exercise: str = "double") -> httpx.Response:
        """Sends "run", "check" or "hand-in" for an exercise."""
        body = {"save": _new_save(), **({} if files is None else {"files": files})}
        return self.http.post(f"/api/exercises/{exercise}/{what}", json=body)

    def events(self, after: str = "") -> "Events":
        """Returns the stream of this student's events."""
        return Events(self.http, f"/api/events?after={after}" if after else "/api/events")

    def until(self, what: str, code: str, kind: str = "run", exercise: str = "double") -> list[tuple[str, Any]]:
        """Runs code as the main file, and returns all events of the run up to the first one named `what`."""
        main = "solution.py" if exercise == "double" else "main.py"
        with self.events() as events:
            answer = self.ask(kind, {main: code}, exercise)
            assert answer.status_code in (201, 202), answer.text
            return events.until(what)


def _new_save() -> str:
    return f"save-{next(_numbers)}"


class Events:
    """A stream of events, as a client reads it."""

    def __init__(self, http: httpx.Client, path: str) -> None:
        self._http, self._path = http, path
        self._closing = contextlib.ExitStack()
        self.raw: list[str] = []

    def __enter__(self) -> "Events":
        answer = self._closing.enter_context(self._http.stream("GET", self._path, timeout=60))
        assert answer.status_code == 200
        self._lines = answer.iter_lines()
        self.hello = self.next()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def next(self) -> tuple[str, Any]:
        """Returns the name and the data of the next event. Raises StopIteration when the stream has ended."""
        name = ""
        while True:
            line = next(self._lines)
            self.raw.append(line)
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return name, json.loads(line.removeprefix("data: "))

    def until(self, what: str) -> list[tuple[str, Any]]:
        """Returns all events up to the first one named `what`, which is the last of them."""
        found = []
        while not found or found[-1][0] != what:
            found.append(self.next())
        return found

    def rest(self) -> list[tuple[str, Any]]:
        """Returns all events until the stream ends."""
        found = []
        with contextlib.suppress(StopIteration, httpx.RemoteProtocolError):
            while True:
                found.append(self.next())
        return found


@attrs.define
class Target:
    """A running classroom."""

    process: "subprocess.Popen[str]"
    url: str
    code: str
    key: str
    data: Path
    log: Path
    closing: contextlib.ExitStack

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def browser(self, *, headers: Mapping[str, str] | None = None, address: str | None = None) -> httpx.Client:
        """Returns a browser without a cookie, with an address of its own."""
        from tests.classroom import declared  # it needs the extra classroom

        headers = {"Origin": self.url} if headers is None else headers
        http = declared.client(self.url, address=address or next(_ADDRESSES), headers=headers)
        self.closing.callback(http.close)
        return http

    def join(self, name: str = "") -> Student:
        """Joins with a new browser, and returns the student."""
        http = self.browser()
        answer = http.post("/api/join", json={"name": name or f"Student {next(_numbers)}", "code": self.code})
        assert answer.status_code == 201, answer.text
        return Student(http, answer.json()["seat"])

    def teacher(self) -> httpx.Client:
        """Returns a browser that has logged in as the teacher."""
        http = self.browser()
        assert http.post("/api/teacher/login", json={"key": self.key}).status_code == 204
        return http

    def connect(self) -> socket.socket:
        """Opens a TCP connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60, source_address=(next(_ADDRESSES), 0))

    def raw(self, request: bytes) -> bytes:
        """Sends a request, and returns all bytes until the server closes the connection."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_all(connection)

    def memory(self) -> int:
        """Returns the resident memory of the server's process in bytes (proc_pid_statm(5))."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Returns the number of the server's open descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def read_all(connection: socket.socket) -> bytes:
    """Returns all bytes until the other side closes the connection."""
    pieces = []
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def write_course(folder: Path, files: Mapping[str, str] = COURSE) -> Path:
    """Writes the files of a course."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def patiently(holds: Any, seconds: float = 30.0) -> bool:
    """Waits until a condition holds, and returns whether it does. For values without events: memory, descriptors."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def target(folder: Path, *options: str, files: Mapping[str, str] = COURSE) -> Iterator[Target]:
    """Opens a classroom for the context."""
    course, data = write_course(folder / "course", files), folder / "data"
    with classroom(data, course, *options) as room, contextlib.ExitStack() as closing:
        yield Target(room.process, room.url, room.code, room.key, data, log_of(data), closing)
