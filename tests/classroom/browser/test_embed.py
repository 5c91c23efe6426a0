"""Exercises within pages of another site, in a real browser with separate cookies for each site."""

import contextlib
import functools
import http.server
import ssl
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import pytest

from tests.classroom.browser.conftest import PATIENCE, Classroom, close, open_classroom

pytestmark = pytest.mark.full  # a browser for each test

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page


class Pages(http.server.BaseHTTPRequestHandler):
    """The pages of another site: each shows the exercise in its path. room: address of the classroom."""

    def __init__(self, *arguments: object, room: str) -> None:
        self.room = room
        super().__init__(*arguments)

    def do_GET(self) -> None:
        frame = f'<iframe src="{self.room}{self.path}" width="1100" height="800"></iframe>'
        body = f"<!doctype html><h1>Course</h1>{frame}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@attrs.frozen
class Room:
    """A classroom, a site that may show it, and a site that may not."""

    classroom: Classroom
    school: str
    other: str


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    folder: Path = tmp_path_factory.mktemp("embedded")
    with contextlib.ExitStack() as ending:
        server = ending.enter_context(
            http.server.ThreadingHTTPServer(("127.0.0.2", 0), http.server.BaseHTTPRequestHandler)
        )
        other = ending.enter_context(
            http.server.ThreadingHTTPServer(("127.0.0.3", 0), http.server.BaseHTTPRequestHandler)
        )
        sites = [f"https://{each.server_address[0]}:{each.server_port}" for each in (server, other)]
        classroom = ending.enter_context(open_classroom(folder, "--tls", "--embed", sites[0]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(classroom.data / "certificate.pem")
        for each in (server, other):
            each.RequestHandlerClass = functools.partial(Pages, room=classroom.url)
            each.socket = context.wrap_socket(each.socket, server_side=True)
            threading.Thread(target=each.serve_forever, daemon=True).start()
            ending.callback(each.shutdown)
        yield Room(classroom, *sites)


@pytest.fixture
def context(browser: "Browser") -> Iterator["BrowserContext"]:
    made = browser.new_context(ignore_https_errors=True, viewport={"width": 1200, "height": 900})
    made.set_default_timeout(PATIENCE)
    yield made
    close(made)


def course_page(context: "BrowserContext", site: str, exercise: str) -> "tuple[Page, FrameLocator]":
    """Returns a page of a site that shows an exercise."""
    page = context.new_page()
    page.goto(f"{site}/embed/{exercise}")
    return page, page.frame_locator("iframe")


def join(frame: "FrameLocator", room: Room, name: str) -> None:
    frame.get_by_label("Your name").fill(name)
    frame.get_by_label("Code of the class").fill(room.classroom.code)
    frame.get_by_role("button", name="Join").click()
    frame.locator("body.ready").wait_for()


def test_a_student_joins_works_and_comes_back_within_a_course_page(context: "BrowserContext", room: Room) -> None:
    page, frame = course_page(context, room.school, "02-echo")
    join(frame, room, "Framed")
    assert frame.locator("#title").inner_text() == "Echo <b>bold</b>"
    frame.locator("#editor .cm-content").click()
    page.keyboard.insert_text("print(6 * 7)")
    page.keyboard.press("ControlOrMeta+Enter")
    frame.locator("#output .end").wait_for()
    assert "42" in frame.locator("#output").inner_text()
    page.reload()
    frame.locator("body.ready").wait_for()  # the same seat
    assert "print(6 * 7)" in frame.locator("#editor .cm-content").inner_text()
    frame.locator("#menu summary").click()
    frame.get_by_label("Language").select_option("de")
    frame.get_by_role("button", name="Ausführen").wait_for()


def test_each_exercise_of_a_page_is_shown_at_its_place_with_one_seat(context: "BrowserContext", room: Room) -> None:
    _, frame = course_page(context, room.school, "02-echo")
    join(frame, room, "Framed twice")
    _, second = course_page(context, room.school, "01-double")
    second.locator("body.ready").wait_for()
    assert second.locator("#title").inner_text() == "Twice as much"


def test_the_seat_of_a_site_is_nowhere_else(context: "BrowserContext", room: Room) -> None:
    _, frame = course_page(context, room.school, "02-echo")
    join(frame, room, "Framed alone")
    page = context.new_page()
    page.goto(room.classroom.url)
    page.get_by_label("Code of the class").wait_for()  # nobody has joined yet
    cookies = {each["name"]: each for each in context.cookies()}
    assert "__Host-seat" not in cookies
    assert cookies["__Host-framed"]["sameSite"] == "None"
    assert cookies["__Host-framed"]["httpOnly"]


def test_no_other_site_shows_it(context: "BrowserContext", room: Room) -> None:
    said: list[str] = []
    context.on("console", lambda message: said.append(message.text))
    page, _ = course_page(context, room.other, "02-echo")
    page.wait_for_load_state("networkidle")
    assert any("frame-ancestors" in text for text in said)
    assert [each.url for each in page.frames if each.url.startswith(room.classroom.url)] == []
