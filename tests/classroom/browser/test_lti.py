"""Launches from a learning platform in a real browser: within the platform's page, with cookies for each site."""

import contextlib
import functools
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import attrs
import pytest

jwt = pytest.importorskip("jwt", reason="tokens are PyJWT's (extra classroom)")
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402

from tests.classroom.browser.conftest import PATIENCE, Classroom, close, open_classroom  # noqa: E402

pytestmark = pytest.mark.full  # a browser for each test

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext

CLAIM, DEEP = "https://purl.imsglobal.org/spec/lti/claim", "https://purl.imsglobal.org/spec/lti-dl/claim"
ROLE = "http://purl.imsglobal.org/vocab/lis/v2/membership"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@attrs.define
class Platform:
    """A platform with a page for teachers. url: its site; keys: where its keys are; room: address of the classroom."""

    url: str
    keys: str
    room: str = ""
    code: str = ""
    chosen: list[str] = attrs.field(factory=list)

    def login(self, hint: str) -> str:
        return f"{self.room}/lti/login?iss={self.url}&client_id=tool-1&login_hint={hint}"

    def token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.url, "aud": "tool-1", "sub": "ada", "name": "Ada", "iat": now, "exp": now + 300,
            "nonce": asked["nonce"], f"{CLAIM}/context": {"id": "c-7", "title": "Class 7"},
            f"{CLAIM}/version": "1.3.0", f"{CLAIM}/deployment_id": "7",
            f"{CLAIM}/message_type": "LtiResourceLinkRequest", f"{CLAIM}/custom": {"exercise": "02-echo"},
        }  # fmt: skip
        if asked["login_hint"] == "teach":
            claims |= {"sub": "grace", f"{CLAIM}/roles": [f"{ROLE}#Instructor"]}
        if asked["login_hint"] == "choose":
            claims[f"{CLAIM}/message_type"] = "LtiDeepLinkingRequest"
            claims[f"{DEEP}/deep_linking_settings"] = {
                "deep_link_return_url": f"{self.url}/chosen", "accept_types": ["ltiResourceLink"],
            }  # fmt: skip
        return jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": "one"})


class Pages(http.server.BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any, platform: Platform) -> None:
        self.platform = platform
        super().__init__(*arguments)

    def do_GET(self) -> None:
        path, asked = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
        if path == "/keys":
            seen = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
            self.answer(json.dumps({"keys": [{**seen, "kid": "one", "alg": "RS256", "use": "sig"}]}))
        elif path == "/auth":
            fields = {"state": asked["state"], "id_token": self.platform.token(asked)}
            inputs = "".join(f'<input name="{name}" value="{escape(value)}">' for name, value in fields.items())
            form = f'<form method="post" action="{escape(asked["redirect_uri"])}">{inputs}</form>'
            self.answer(f"<!doctype html>{form}<script>document.forms[0].submit()</script>")
        else:
            frame = f'<iframe src="{escape(self.platform.login("choose"))}" width="900" height="600"></iframe>'
            self.answer(f"<!doctype html><h1>Course</h1>{frame}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.platform.chosen += parse_qs(body)["JWT"]
        self.answer("<!doctype html><p>The course has a link more.</p>")

    def answer(self, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder: Path = tmp_path_factory.mktemp("lti")
    with contextlib.ExitStack() as ending:
        site, keys = (
            ending.enter_context(http.server.ThreadingHTTPServer((host, 0), http.server.BaseHTTPRequestHandler))
            for host in ("127.0.0.2", "127.0.0.1")
        )
        made = Platform(f"https://127.0.0.2:{site.server_port}", f"http://127.0.0.1:{keys.server_port}/keys")
        settings = {
            "issuer": made.url, "client_id": "tool-1", "auth_login_url": f"{made.url}/auth",
            "auth_token_url": f"{made.url}/token", "key_set_url": made.keys,
        }  # fmt: skip
        lines = [
            "[[platforms]]",
            'deployments = ["7"]',
            "teachers = true",
            *(f'{name} = "{value}"' for name, value in settings.items()),
        ]
        (folder / "lti.toml").write_text("\n".join([*lines, ""]))
        room: Classroom = ending.enter_context(open_classroom(folder, "--tls", "--lti", str(folder / "lti.toml")))
        made.room, made.code = room.url, room.code
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(room.data / "certificate.pem")
        site.socket = context.wrap_socket(site.socket, server_side=True)
        for server in (site, keys):
            server.RequestHandlerClass = functools.partial(Pages, platform=made)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            ending.callback(server.shutdown)
        yield made


@pytest.fixture
def context(browser: "Browser") -> Iterator["BrowserContext"]:
    made = browser.new_context(ignore_https_errors=True, viewport={"width": 1000, "height": 800})
    made.set_default_timeout(PATIENCE)
    yield made
    close(made)


def test_an_exercise_is_chosen_within_the_platforms_page(context: "BrowserContext", platform: Platform) -> None:
    """The page to choose from sends its answer by itself; a link then opens the chosen exercise."""
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{platform.url}/course")
    frame = page.frame_locator("iframe")
    frame.get_by_label("Exercise").select_option("02-echo")
    frame.get_by_role("button", name="Use this one").click()
    frame.get_by_text("The course has a link more.").wait_for()
    (item,) = jwt.decode(platform.chosen[-1], options={"verify_signature": False})[f"{DEEP}/content_items"]
    assert (item["title"], item["custom"]) == ("Echo <b>bold</b>", {"exercise": "02-echo"})
    assert item["url"] == f"{platform.room}/lti/launch"
    assert [text for text in said if "Content Security Policy" in text] == []


def test_a_link_opens_its_exercise_in_a_window_of_its_own(context: "BrowserContext", platform: Platform) -> None:
    page = context.new_page()
    page.goto(platform.login("open"))
    page.locator("body.ready").wait_for()
    assert page.locator("#title").inner_text() == "Echo <b>bold</b>"


def test_an_instructor_has_a_page_for_the_own_class(
    browser: "Browser", context: "BrowserContext", platform: Platform
) -> None:
    """It shows the seats of that class and no settings of the whole classroom, and follows the events of the class."""
    student = context.new_page()
    student.goto(platform.login("open"))
    student.locator("body.ready").wait_for()
    others = browser.new_context(ignore_https_errors=True)
    by_code = others.new_page()
    by_code.set_default_timeout(PATIENCE)
    by_code.goto(platform.room)
    by_code.get_by_label("Your name").fill("Bo by code")
    by_code.get_by_label("Code of the class").fill(platform.code)
    by_code.get_by_role("button", name="Join").click()
    by_code.locator("body.ready").wait_for()

    page = others.new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(platform.login("teach"))
    page.locator('body.teacher.ready #status[data-kind="saved"]').wait_for()
    assert page.locator(".card").count() == 1
    for name in ("Joining", "Freeze all", "Push exercise …", "Share code …"):
        assert page.get_by_role("button", name=name).count() == 0
    assert page.locator("#chosen-class option").all_inner_texts() == ["All", "Class 7"]
    student.locator("#hand").click()
    page.locator("#hands li").wait_for()
    page.locator(".card", has_text="Ada").click()
    page.locator("#seat-code .cm-content").wait_for()
    assert page.get_by_role("button", name="Rename …").is_visible()
    assert page.get_by_role("button", name="Share …").count() == 0
    page.get_by_role("button", name="Lower hand").click()
    page.locator("#hands-empty").wait_for()
    page.get_by_role("link", name="Results").click()
    page.locator("#progress tr", has_text="Ada").wait_for()
    assert page.locator("#progress tr", has_text="Bo by code").count() == 0
    with page.expect_download() as began:
        page.get_by_role("link", name="All code (zip)").click()
    assert began.value.failure() is None
    close(others)
    assert faults == []
