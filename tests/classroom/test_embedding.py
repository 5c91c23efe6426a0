"""Pages of the classroom within pages of another site: which sites may show them, and what such a page gets."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")
import httpx

from proxybox.classroom.config import ClassroomConfig
from proxybox.policies import PolicyError
from tests.classroom.attacking import write_course
from tests.classroom.declared import client_within
from tests.classroom.listening import within

HOST, SCHOOL, OTHER = "https://localhost:8443", "https://school.test", "https://other.test:8443"


@attrs.frozen
class Room:
    edge: Any
    loop: asyncio.Runner

    def browser(self, cookie: str = "") -> httpx.AsyncClient:
        headers = {"Origin": HOST, **({"Cookie": cookie} if cookie else {})}
        return client_within(self.edge, HOST, headers=headers)

    async def join(self, name: str, *, framed: bool = True) -> list[str]:
        """Takes a seat, and returns the cookies that come."""
        async with self.browser() as browser:
            body = {"name": name, "code": self.edge.lesson.everybody.code, "framed": framed}
            answer = await browser.post("/api/join", json=body)
            assert answer.status_code == 201, answer.text
            return answer.headers.get_list("set-cookie")


def opened(folder: Path, **more: Any) -> Iterator[Room]:
    course = write_course(folder / "course")
    with within(course=str(course), data=str(folder / "data"), tls="self", **more) as (edge, loop):
        yield Room(edge, loop)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A classroom that two sites may show."""
    yield from opened(tmp_path_factory.mktemp("class"), embed=(SCHOOL, OTHER))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A classroom that no site may show."""
    yield from opened(tmp_path_factory.mktemp("closed"))


def ancestors(answer: httpx.Response) -> str:
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    return policy["frame-ancestors"]


def test_only_the_pages_for_it_are_shown_within_others(room: Room) -> None:
    async def ask() -> None:
        cookie = (await room.join("Ada"))[0].partition(";")[0]
        for browser in (room.browser(), room.browser(cookie)):
            async with browser:
                shown = await browser.get("/embed/double")
                assert (shown.status_code, ancestors(shown)) == (200, f"{SCHOOL} {OTHER}")
                for path in ("/", "/teacher", "/api/me", "/static/style.css", "/embed", "/sw.js"):
                    assert ancestors(await browser.get(path)) == "'none'", path

    room.loop.run(ask())


def test_a_page_within_another_is_at_its_exercise(room: Room) -> None:
    async def ask() -> None:
        cookie = (await room.join("Bea"))[0].partition(";")[0]
        async with room.browser() as nobody, room.browser(cookie) as student:
            assert 'data-home="/embed/cases"' in (await nobody.get("/embed/cases")).text
            assert (await nobody.get("/embed/nothing")).status_code == 200  # it is not revealed which exercises exist
            assert 'data-exercise="cases"' in (await student.get("/embed/cases")).text
            assert (await student.get("/embed/nothing")).status_code == 404
            for browser in (nobody, student):
                assert (await browser.get("/embed/%22%3E%3Cscript%3E")).status_code == 404

    room.loop.run(ask())


def test_a_seat_within_another_page_has_a_cookie_of_that_site_alone(room: Room) -> None:
    async def ask() -> None:
        (cookie,) = await room.join("Cleo")
        assert cookie.startswith("__Host-framed=")
        assert cookie.endswith("; Path=/; HttpOnly; Secure; SameSite=None; Partitioned")
        async with room.browser(cookie.partition(";")[0]) as student:
            assert (await student.get("/api/me")).json()["seat"]["name"] == "Cleo"
            left = (await student.post("/api/leave", json={})).headers.get_list("set-cookie")
            assert any(each.startswith("__Host-framed=; Max-Age=0; ") and "Partitioned" in each for each in left)
        (strict,) = await room.join("Dora", framed=False)
        assert strict.startswith("__Host-seat=")
        assert "SameSite=strict" in strict

    room.loop.run(ask())


def test_a_pass_that_is_void_hides_none_that_is_not(room: Room) -> None:
    """A browser sends the strict cookie, too, to a frame within a site of the same domain."""

    async def ask() -> None:
        own, framed = (await room.join("Gil", framed=False))[0], (await room.join("Gil again"))[0]
        void = own.partition(";")[0][:-1] + "?"
        async with room.browser(f"{void}; {framed.partition(';')[0]}") as student:
            assert (await student.get("/api/me")).json()["seat"]["name"] == "Gil again"

    room.loop.run(ask())


def test_pages_of_other_sites_cannot_even_ask(room: Room) -> None:
    """Also with a browser that knows no partitioned cookies and sends the cookie for all sites."""

    async def ask() -> None:
        cookie = (await room.join("Hal"))[0].partition(";")[0]
        async with room.browser(cookie) as student:
            for site, status in (("same-origin", 200), ("cross-site", 403)):
                answer = await student.get("/api/me", headers={"Sec-Fetch-Site": site})
                assert answer.status_code == status
            assert (await student.get("/embed/double", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 200

    room.loop.run(ask())


@pytest.mark.parametrize("origin", [SCHOOL, OTHER, "null", ""])
def test_the_page_around_it_changes_nothing(room: Room, origin: str) -> None:
    async def ask() -> None:
        cookie = (await room.join(f"Eve {origin}"))[0].partition(";")[0]
        async with room.browser(cookie) as student:
            student.headers["Origin"] = origin
            answer = await student.post("/api/hand", json={"up": True})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in (await student.get("/api/me")).headers

    room.loop.run(ask())


def test_without_being_wanted_there_is_none_of_it(closed: Room) -> None:
    async def ask() -> None:
        (cookie,) = await closed.join("Finn")
        assert cookie.startswith("__Host-seat=")
        given = cookie.partition(";")[0].partition("=")[2]
        async with closed.browser(f"__Host-framed={given}") as framed, closed.browser(f"__Host-seat={given}") as own:
            assert (await framed.get("/api/me")).status_code == 401
            assert (await framed.get("/embed/double")).status_code == 401
            assert (await own.get("/embed/double")).status_code == 404
            assert ancestors(await own.get("/embed/double")) == "'none'"

    closed.loop.run(ask())


@pytest.mark.parametrize(("given", "kept"), [
    ("https://School.Example", "https://school.example"), ("https://school.example:443/", "https://school.example"),
    ("https://school.example:8443", "https://school.example:8443"), ("https://[FD00:0::2]", "https://[fd00::2]"),
])  # fmt: skip
def test_origins_are_written_as_browsers_do(given: str, kept: str) -> None:
    assert ClassroomConfig(data="/kept", tls="self", embed=[given]).embed == (kept,)


@pytest.mark.parametrize("given", [
    "http://school.example", "school.example", "https://", "https://school.example/course", "https://a b.example",
    "https://school.example; script-src *", "https://*.example", "https://school.example?x", "https://u@school.example",
    "https://[fe80::1%x;sandbox]",
    "https://school.example:99999", "'self'", "*", "data:", "https://school.example:8443 https://other.example",
])  # fmt: skip
def test_what_is_no_origin_is_refused(given: str) -> None:
    with pytest.raises(PolicyError, match="want an origin with TLS") as raised:
        ClassroomConfig(data="/kept", tls="self", embed=[given])
    assert "embed" in str(raised.value)


def test_it_needs_tls() -> None:
    with pytest.raises(PolicyError, match="need TLS"):
        ClassroomConfig(data="/kept", embed=[SCHOOL])
