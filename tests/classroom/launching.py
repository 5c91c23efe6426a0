"""A platform's double that speaks real HTTP, a classroom with TLS that accepts its launches, and their browsers."""

import asyncio
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import attrs
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from proxybox.classroom.edge import ClassroomMiddleware
from proxybox.classroom.lesson import Lesson
from tests.classroom.attacking import write_course
from tests.classroom.listening import within

CLAIM = "https://purl.imsglobal.org/spec/lti/claim"
ROLE = "http://purl.imsglobal.org/vocab/lis/v2/membership#"
SCORE = "https://purl.imsglobal.org/spec/lti-ags/scope/score"
ENDPOINT = "https://purl.imsglobal.org/spec/lti-ags/claim/endpoint"
HOST = "https://localhost:8443"
COURSE = {
    "01-double/exercise.toml": 'title = "Twice"\n',
    "01-double/text.md": "Write `double(n)`.\n",
    "01-double/starter/solution.py": "def double(n):\n    pass\n",
    "01-double/tests/test_double.py": (
        "def test_two(student):\n    student.expect('double', 2, returns=4)\n\n\n"
        "def test_three(student):\n    student.expect('double', 3, returns=6)\n"
    ),
    "02-half/exercise.toml": 'title = "Half"\n',
    "02-half/text.md": "Write `half(n)`.\n",
    "02-half/starter/solution.py": "def half(n):\n    pass\n",
    "02-half/tests/test_half.py": "def test_two(student):\n    student.expect('half', 2, returns=1)\n",
    "03-broken/exercise.toml": 'title = "Broken"\n',
    "03-broken/text.md": "Write `x = 1`.\n",
    "03-broken/tests/test_it.py": "def test(:\n",
}


class Double:
    """A platform: its keys, its tokens for tools, and its received scores. down: whether it refuses scores now."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.scores: list[tuple[str, dict[str, Any]]] = []
        self.got = threading.Condition()
        self.assertions: list[str] = []
        self.down = False
        self.asked_for_keys = 0
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                double.asked_for_keys += 1
                seen = jwt.algorithms.RSAAlgorithm.to_jwk(double.key.public_key(), as_dict=True)
                self.answer(200, {"keys": [{**seen, "kid": "one", "alg": "RS256", "use": "sig"}]})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/token":
                    fields = parse_qs(body.decode())
                    double.assertions += fields["client_assertion"]
                    assert fields["scope"] == [SCORE]
                    self.answer(200, {"access_token": "for-grades", "expires_in": 3600})
                elif double.down:
                    with double.got:
                        double.down = False
                        double.got.notify_all()
                    self.answer(503, {})
                else:
                    assert self.headers["Authorization"] == "Bearer for-grades"
                    assert self.headers["Content-Type"] == "application/vnd.ims.lis.v1.score+json"
                    self.answer(200, {})
                    with double.got:
                        double.scores.append((self.path, json.loads(body)))
                        double.got.notify_all()

            def answer(self, status: int, seen: Mapping[str, Any]) -> None:
                data = json.dumps(seen).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def settings(self, *, teachers: bool = True, **more: str) -> str:
        seen = {
            "issuer": self.url, "client_id": "tool-1", "auth_login_url": f"{self.url}/auth",
            "auth_token_url": f"{self.url}/token", "key_set_url": f"{self.url}/keys", **more,
        }  # fmt: skip
        lines = [f'{key} = "{value}"' for key, value in seen.items()]
        return "\n".join(
            ["[[platforms]]", 'deployments = ["7"]', *(["teachers = true"] if teachers else []), *lines, ""]
        )

    def claims(self, asked: Mapping[str, str], **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": asked["client_id"], "sub": "user-1", "name": "Ada Lovelace",
            "iat": now, "exp": now + 300, "nonce": asked["nonce"],
            f"{CLAIM}/version": "1.3.0", f"{CLAIM}/message_type": "LtiResourceLinkRequest",
            f"{CLAIM}/deployment_id": "7", f"{CLAIM}/roles": [f"{ROLE}Learner"],
            f"{CLAIM}/custom": {"exercise": "01-double"},
            ENDPOINT: {"scope": [SCORE], "lineitem": f"{self.url}/lines/5?page=1"},
            **changes,
        }  # fmt: skip
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, claims: Mapping[str, Any], key: Any = None, **headers: Any) -> str:
        return jwt.encode(dict(claims), key or self.key, algorithm="RS256", headers={"kid": "one", **headers})

    def wait_for_score(self, user: str) -> tuple[str, dict[str, Any]]:
        """Waits for a user's first score, and returns its path and the score.

        Scores of earlier tests may still arrive.
        """

        def found() -> list[tuple[str, dict[str, Any]]]:
            return [each for each in self.scores if each[1]["userId"] == user]

        with self.got:
            assert self.got.wait_for(found, 60)
            return found()[0]


def line(platform: "Double", name: str) -> dict[str, Any]:
    """Returns the claim of a link with a column of grades of its own."""
    return {"scope": [SCORE], "lineitem": f"{platform.url}/lines/{name}"}


@contextlib.contextmanager
def a_platform() -> Iterator[Double]:
    """A platform for the context."""
    double = Double()
    yield double
    double.close()


@attrs.frozen
class Room:
    """An open class, and the event loop that serves it."""

    edge: ClassroomMiddleware
    loop: asyncio.Runner

    def browser(self) -> Any:
        """Returns a new browser."""
        from tests.classroom.declared import client_within  # it needs the extra classroom

        return client_within(self.edge, HOST)

    @property
    def lesson(self) -> Lesson:
        return self.edge.lesson


@contextlib.contextmanager
def a_room(folder: Path, platform: Double, *, teachers: bool = True) -> Iterator[Room]:
    """A classroom that accepts launches from a platform."""
    course = write_course(folder / "course", COURSE)
    (folder / "lti.toml").write_text(platform.settings(teachers=teachers))
    with within(
        course=str(course), data=str(folder / "data"), tls="self", lti=str(folder / "lti.toml")
    ) as (edge, loop):  # fmt: skip
        yield Room(edge, loop)


async def login(browser: Any, platform: Double) -> dict[str, str]:
    """Begins a login as the platform's page does, and returns the parameters of the request to the platform."""
    form = {"iss": platform.url, "login_hint": "someone", "client_id": "tool-1", "lti_message_hint": "link-9"}
    answer = await browser.post("/lti/login", data=form, headers={"Origin": platform.url})
    assert answer.status_code == 303, answer.text
    seen = urlsplit(answer.headers["location"])
    asked = dict(parse_qsl(seen.query))
    assert f"{seen.scheme}://{seen.netloc}{seen.path}" == f"{platform.url}/auth"
    assert asked["redirect_uri"] == f"{HOST}/lti/launch"
    assert (asked["login_hint"], asked["lti_message_hint"]) == ("someone", "link-9")
    return asked


async def launch(browser: Any, platform: Double, token: str, state: str) -> Any:
    form = {"id_token": token, "state": state}
    return await browser.post("/lti/launch", data=form, headers={"Origin": platform.url})


async def launched(browser: Any, platform: Double, **changes: Any) -> Any:
    asked = await login(browser, platform)
    return await launch(browser, platform, platform.sign(platform.claims(asked, **changes)), asked["state"])


async def instructed(browser: Any, platform: Double, context: str, *, title: str = "", **changes: Any) -> Any:
    """Launches as an instructor of a course of the platform."""
    seen = {f"{CLAIM}/context": {"id": context, "title": title or context}, f"{CLAIM}/roles": [f"{ROLE}Instructor"]}
    return await launched(browser, platform, **seen, **changes)


async def hand_in(browser: Any, exercise: str, code: str) -> None:
    """Hands in, and waits for the grade."""
    body = {"files": {"solution.py": code}}
    answer = await browser.post(f"/api/exercises/{exercise}/hand-in", json=body, headers={"Origin": HOST})
    assert answer.status_code == 201, answer.text
    await until(browser, exercise, lambda seen: seen["handed_in"]["score"] is not None)


async def until(browser: Any, exercise: str, holds: Callable[[Any], bool]) -> None:
    """Waits until a condition holds for the student's view of an exercise."""
    async with asyncio.timeout(60):
        while not holds((await browser.get(f"/api/exercises/{exercise}")).json()):
            await asyncio.sleep(0.02)
