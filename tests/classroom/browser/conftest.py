"""A browser in front of a real classroom: Chromium, driven by Playwright, and `proxybox classroom` in a process."""

import contextlib
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest

from tests.classroom import listening
from tests.classroom.attacking import write_course

if TYPE_CHECKING:
    import subprocess

    from playwright.sync_api import Browser, BrowserContext, Locator, Page

#: Names of installed browsers; none is downloaded.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Options with which the browser needs no display, no GPU and no user other than root, and connects to nothing by
#: itself.
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
#: The limit for each action of a page, in milliseconds, on a busy machine.
PATIENCE = 60_000

COURSE = {
    "course.toml": 'title = "A course of tests"\n',
    "syllabus.md": "# What this is\n\nTwo exercises.\n",
    "01-double/exercise.toml": 'title = "Twice as much"\nhints = ["What is *twice*?", "Try `2 * n`."]\n',
    "01-double/text.md": "# Twice as much\n\nWrite a function `double(n)`.\n",
    "01-double/starter/solution.py": "def double(n):\n    pass\n",
    "01-double/tests/test_double.py": (
        'import pytest\n\n\ndef test_small(student):\n    "Small numbers"\n    student.expect("double", 2, returns=4)\n'
        '\n\n@pytest.mark.hidden\ndef test_hidden(student):\n    "Secret"\n'
        '    student.expect("double", -7, returns=-14)\n'
    ),
    "02-echo/exercise.toml": 'title = "Echo <b>bold</b>"\n',
    "02-echo/text.md": "Write what you read. <script>document.title = 'taken over'</script>\n",
    "02-echo/data/sample/1.in": "one\n",
    "02-echo/data/sample/1.ans": "one\n",
}


@attrs.define(kw_only=True)
class Classroom:
    """An open classroom. url: its first address; code: to join; teacher: the address of the teacher's page."""

    course: Path
    data: Path
    options: tuple[str, ...] = ()
    port: int = 0
    url: str = ""
    code: str = ""
    teacher: str = ""
    process: "subprocess.Popen[str] | None" = None

    def open(self) -> None:
        """Opens the classroom; after `end`, at the same address and with the same data."""
        self.process, opened = listening.start(self.data, self.course, *self.options, port=self.port)
        self.url, self.code, self.teacher = opened["addresses"][0].rstrip("/"), opened["code"], opened["teacher"]
        self.port = int(self.url.rpartition(":")[2])

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ends the classroom by a signal, and waits for the end."""
        process, self.process = self.process, None
        if process is not None:
            listening.end(process, number)


@contextlib.contextmanager
def open_classroom(folder: Path, *options: str, course: Mapping[str, str] = COURSE) -> Iterator[Classroom]:
    """Opens a classroom with the course of these tests for the context."""
    pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")
    room = Classroom(course=write_course(folder / "course", course), data=folder / "data", options=options)
    try:
        room.open()
        yield room
    finally:
        room.end()


@pytest.fixture(scope="module")
def classroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    """A classroom that all tests of a file share: each test has seats of its own."""
    with open_classroom(tmp_path_factory.mktemp("classroom")) as room:
        yield room


@pytest.fixture
def own_classroom(tmp_path: Path) -> Iterator[Classroom]:
    """A classroom for one test alone, which may end it."""
    with open_classroom(tmp_path) as room:
        yield room


# Playwright runs an event loop in this thread until it is stopped. No test of asyncio could run its own loop meanwhile.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """The system's Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="browsers are driven by Playwright (extra browser)")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"there is no Chromium here ({', '.join(BROWSERS)})")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


def close(context: "BrowserContext") -> None:
    """Closes a browser context, after its pages have loaded an empty page.

    Chromium reports a page that is just being replaced as closed, but does not close it (its issue 536385539).
    Playwright then waits without a limit. So each page first finishes a navigation that has begun.
    """
    from playwright.sync_api import Error

    for page in context.pages:
        try:
            page.goto("about:blank")
        except Error:  # interrupted by another navigation
            page.goto("about:blank")
    context.close()


@attrs.define
class Visitor:
    """A browser context with its own cookies and storage. faults: errors that its pages reported."""

    context: "BrowserContext"
    page: "Page"
    faults: list[str] = attrs.field(factory=list)
    name: str = ""

    def listen(self, page: "Page") -> None:
        """Collects a page's script errors and violations of its content security policy."""
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.faults.append(f"{error}: {error.stack}"))
        page.on("console", lambda said: "Content Security Policy" in said.text and self.faults.append(said.text))

    def close(self) -> None:
        """Closes the browser context; the test fails if a page reported an error."""
        faults = list(self.faults)
        close(self.context)
        assert faults == []

    def join(self, room: Classroom, name: str = "") -> "Page":
        """Takes a seat, as the form does, and waits until the student's page is ready."""
        self.name = name or f"Student {secrets.token_hex(4)}"
        self.ask(room.url, "/api/join", name=self.name, code=room.code)
        self.page.goto(room.url)
        return self.ready()

    def ask(self, url: str, path: str, **body: str) -> None:
        """Sends the request of a page's form; the browser stores the cookie of the answer."""
        answer = self.context.request.post(url + path, data=body, headers={"Origin": url})
        assert answer.ok, answer.text()

    def ready(self) -> "Page":
        """Waits until the page is ready and connected to the server."""
        self.page.locator("body.ready").wait_for()
        self.page.locator('#status[data-kind="saved"]').wait_for()
        return self.page

    def write(self, text: str) -> None:
        """Replaces the whole text of the editor."""
        self.page.locator("#editor .cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.press("Delete")  # otherwise the browser applies the old text's style to the new one
        self.page.keyboard.insert_text(text)

    def run(self, text: str) -> str:
        """Runs a program, waits for its end, and returns its visible output."""
        self.begin(text)
        self.page.locator("#output .end").wait_for()
        return str(self.page.locator("#output").inner_text())

    def begin(self, text: str) -> None:
        """Starts a program, and waits until the output of the last one has gone."""
        self.page.locator("body:not(.running)").wait_for()
        self.write(text)
        before = self.page.locator("#output .end").element_handles()
        self.page.keyboard.press("ControlOrMeta+Enter")
        for each in before:
            each.wait_for_element_state("hidden")


Newcomer = Callable[..., Visitor]


@attrs.define
class Teacher:
    """The teacher without a page: requests to the server."""

    http: httpx.Client

    def send(self, what: str, **body: object) -> Any:
        """Posts a change, and returns the answer."""
        return self._told(self.http.post(f"/api/teacher/{what}", json=body))

    def delete(self, what: str) -> Any:
        """Sends DELETE, and returns the answer."""
        return self._told(self.http.request("DELETE", f"/api/teacher/{what}", json={}))

    def change(self, name: str, **change: object) -> Any:
        """Changes the seat of a student. name: the student's."""
        seats = self._told(self.http.get("/api/teacher/state"))["seats"]
        seat = next(each["id"] for each in seats if each["name"] == name)
        return self._told(self.http.patch(f"/api/teacher/seats/{seat}", json=change))

    @staticmethod
    def _told(answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@pytest.fixture
def teacher(classroom: Classroom) -> Iterator[Teacher]:
    """The teacher of the shared classroom."""
    from tests.classroom import declared  # it needs the extra classroom

    with declared.client(classroom.url, headers={"Origin": classroom.url}) as http:
        somebody = Teacher(http)
        somebody.send("login", key=classroom.teacher.partition("#")[2])
        yield somebody


@pytest.fixture
def visitor(browser: "Browser") -> Iterator["Visitor"]:
    """A browser with a window of 1,000 by 700 pixels; the test fails if a page reports an error."""
    context = browser.new_context(viewport={"width": 1000, "height": 700}, color_scheme="light")
    page = context.new_page()
    somebody = Visitor(context, page)
    somebody.listen(page)
    yield somebody
    somebody.close()


@pytest.fixture
def student(visitor: Visitor, classroom: Classroom) -> Visitor:
    """A browser that has joined."""
    visitor.join(classroom)
    return visitor


@pytest.fixture
def newcomer(browser: "Browser") -> Iterator[Newcomer]:
    """Returns a function that makes further browsers; the test fails if one of their pages reports an error."""
    everybody: list[Visitor] = []

    def make(width: int = 1000, height: int = 700, scheme: str = "light") -> Visitor:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        somebody = Visitor(context, context.new_page())
        somebody.listen(somebody.page)
        everybody.append(somebody)
        return somebody

    yield make
    for each in everybody:
        each.close()


def enter(visitor: Visitor, address: str) -> Visitor:
    """Opens the teacher's page, and waits until it is ready and connected. A key in the address is sent first."""
    page, _, key = address.partition("#")
    if key:
        visitor.ask(page.removesuffix("/teacher"), "/api/teacher/login", key=key)
    visitor.page.goto(page)
    visitor.page.locator('body.teacher.ready #status[data-kind="saved"]').wait_for()
    return visitor


def card(teacher: Visitor, student: Visitor) -> "Locator":
    """Returns the student's card on the teacher's page."""
    return teacher.page.locator(".card", has=teacher.page.get_by_text(student.name, exact=True))


def dialog(page: "Page") -> "Locator":
    """Returns the open dialog."""
    return page.locator("dialog[open]")
