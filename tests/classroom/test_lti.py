"""Launches from learning platforms and grades that go back, with a platform's double (launching.py).

In each attack exactly one property of the signed token is wrong.
"""

import asyncio
import datetime
import html
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

jwt = pytest.importorskip("jwt", reason="tokens are PyJWT's (extra classroom)")
httpx = pytest.importorskip("httpx", reason="platforms are asked by httpx (extra classroom)")
pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")
from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402

from proxybox.classroom.config import ClassroomConfig  # noqa: E402
from proxybox.classroom.connected import Connected  # noqa: E402
from proxybox.classroom.lti.bridge import Bridge  # noqa: E402
from proxybox.classroom.lti.launches import Launches  # noqa: E402
from proxybox.classroom.lti.platforms import Platform, load_platforms  # noqa: E402
from proxybox.policies import PolicyError  # noqa: E402
from proxybox.serve.problems import Refusal  # noqa: E402
from tests.classroom.launching import (  # noqa: E402
    CLAIM,
    ENDPOINT,
    HOST,
    ROLE,
    Double,
    Room,
    a_platform,
    a_room,
    hand_in,
    instructed,
    launch,
    launched,
    line,
    login,
    until,
)


@pytest.fixture(scope="module")
def platform() -> Iterator[Double]:
    with a_platform() as double:
        yield double


@pytest.fixture(scope="module")
def room(platform: Double, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """One classroom for all tests: each test has users of its own."""
    with a_room(tmp_path_factory.mktemp("class"), platform) as made:
        yield made


def test_a_student_has_the_same_seat_each_time_and_the_grade_goes_back(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as first, room.browser() as second:
            platform.scores.clear()
            answer = await launched(first, platform)
            assert answer.status_code == 200
            assert 'content="0;url=/"' in answer.text
            cookies = answer.headers.get_list("set-cookie")
            assert any(re.match(r"__Host-seat=.*HttpOnly.*SameSite=strict; Secure", each) for each in cookies)
            me = (await first.get("/api/me")).json()["seat"]
            assert me["name"].startswith("Ada Lovelace")  # another test may have had an Ada before
            assert me["exercise"] == "01-double"

            await launched(second, platform)
            assert (await second.get("/api/me")).json()["seat"]["id"] == me["id"]

            body = {"files": {"solution.py": "def double(n):\n    return 4\n"}, "save": "1"}
            own = {"Origin": HOST}
            answer = await first.post("/api/exercises/01-double/hand-in", json=body, headers=own)
            assert answer.status_code == 201, answer.text
            path, score = await asyncio.to_thread(platform.wait_for_score, "user-1")
            assert path == "/lines/5/scores?page=1"
            assert (score["userId"], score["scoreGiven"], score["scoreMaximum"]) == ("user-1", 50.0, 100)
            assert score["gradingProgress"] == "FullyGraded"

            signed = jwt.decode(
                platform.assertions[0],
                jwt.PyJWKSet.from_dict((await first.get("/lti/keys")).json()).keys[0].key,
                algorithms=["RS256"], audience=f"{platform.url}/token", issuer="tool-1",
            )  # fmt: skip
            assert signed["sub"] == "tool-1"

    room.loop.run(lesson())


def test_a_grade_that_the_platform_does_not_take_is_brought_when_the_class_opens_again(
    room: Room, platform: Double
) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            platform.scores.clear()
            platform.down = True
            await launched(browser, platform, sub="user-2", **{f"{CLAIM}/custom": None})  # a link to the whole course
            body = {"files": {"solution.py": "def double(n):\n    return 2 * n\n"}, "save": "1"}
            await browser.post("/api/exercises/01-double/hand-in", json=body, headers={"Origin": HOST})

            def refused() -> bool:
                with platform.got:
                    return platform.got.wait_for(lambda: not platform.down, 60)

            assert await asyncio.to_thread(refused)
            assert [each for each in platform.scores if each[1]["userId"] == "user-2"] == []
            async with Bridge(room.lesson, load_platforms(Path(room.lesson.config.lti))).open():
                _, score = await asyncio.to_thread(platform.wait_for_score, "user-2")
            assert (score["userId"], score["scoreGiven"]) == ("user-2", 33.33)  # one of three exercises

    room.loop.run(lesson())


def test_a_link_that_is_opened_after_the_hand_in_brings_its_grade(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            await launched(browser, platform, sub="late", **{ENDPOINT: None})  # a link without a column of grades
            await hand_in(browser, "01-double", "def double(n):\n    return 4\n")
            await launched(browser, platform, sub="late")
            _, score = await asyncio.to_thread(platform.wait_for_score, "late")
            assert score["scoreGiven"] == 50.0

    room.loop.run(lesson())


def test_what_is_tested_after_the_hand_in_changes_no_grade(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            await launched(browser, platform, sub="tester", **{ENDPOINT: None})
            await hand_in(browser, "01-double", "def double(n):\n    return 2 * n\n")
            body = {"files": {"solution.py": "def double(n):\n    return 0\n"}}
            await browser.post("/api/exercises/01-double/check", json=body, headers={"Origin": HOST})
            await until(browser, "01-double", lambda seen: seen["results"] is not None)
            await launched(browser, platform, sub="tester")
            _, score = await asyncio.to_thread(platform.wait_for_score, "tester")
            assert score["scoreGiven"] == 100.0

    room.loop.run(lesson())


def test_a_grade_that_could_not_be_given_is_not_brought_as_none(room: Room, platform: Double) -> None:
    """While the tests are wrong no points are sent. Once they are corrected, the grade is sent with a later time."""

    async def lesson() -> None:
        tests = Path(room.lesson.config.course, "03-broken/tests/test_it.py")
        async with room.browser() as browser:
            await launched(browser, platform, sub="waits", **{f"{CLAIM}/custom": {"exercise": "03-broken"}})
            answer = await browser.post(
                "/api/exercises/03-broken/hand-in", json={"files": {"solution.py": "x = 1\n"}}, headers={"Origin": HOST}
            )
            handed = answer.json()["handed_in"]["at"]
            await until(browser, "03-broken", lambda seen: seen["handed_in"]["has_failed"])
            assert [each for each in platform.scores if each[1]["userId"] == "waits"] == []
            tests.write_text("def test_it(student):\n    assert student.get('x') == 1\n")
            _, score = await asyncio.to_thread(platform.wait_for_score, "waits")
            assert score["scoreGiven"] == 100.0
            assert datetime.datetime.fromisoformat(score["timestamp"]).timestamp() > handed

    room.loop.run(lesson())


@pytest.mark.parametrize("roles", [["Learner"], ["Instructor"]])
def test_an_exercise_that_is_not_there_is_told_on_a_page(room: Room, platform: Double, roles: list[str]) -> None:
    """Only the teacher can correct the link. Nobody gets a seat, another exercise, or the mean of the course."""

    async def lesson() -> None:
        async def kept() -> Any:
            lines = await room.lesson.store.do(Connected.lines)
            return len(list(room.lesson.seats)), [(each.seat, each.exercise, each.url) for each in lines]

        before = await kept()
        async with room.browser() as browser:
            claims = {f"{CLAIM}/custom": {"exercise": "01-duoble<b>"}, f"{CLAIM}/roles": [f"{ROLE}{roles[0]}"]}
            answer = await launched(browser, platform, sub=f"lost {roles}", **claims)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
            for words in ("01-duoble&lt;b&gt;", "Did it mean 01-double?", "exercise=02-half"):
                assert words in answer.text, words
            assert "__Host-seat" not in str(answer.headers)
            assert (await browser.get("/api/me")).status_code == 401
        assert await kept() == before

    room.loop.run(lesson())


def test_what_is_refused_is_told_on_a_page(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            asked = await login(browser, platform)
            answer = await launch(browser, platform, "no token", asked["state"])
            assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
            assert "is not believed" in answer.text

    room.loop.run(lesson())


# --- classes ----------------------------------------------------------------------------------------------------------


def test_each_course_of_a_platform_is_a_class_of_its_own(room: Room, platform: Double) -> None:
    """Each has its own seats, names and grades, also for a student in two courses."""

    async def lesson() -> None:
        seats = {}
        for context, title in (("c-7", "Class 7"), ("c-8", "Class 8"), ("c-7", "Class 7 now")):
            seen = {f"{CLAIM}/context": {"id": context, "title": title}, ENDPOINT: line(platform, context)}
            async with room.browser() as browser:
                await launched(browser, platform, sub="of two", name="Grace", **seen)
                me = (await browser.get("/api/me")).json()["seat"]
                assert me["name"] == "Grace"  # in both courses
                assert seats.setdefault(context, me["id"]) == me["id"]
                if title == "Class 7":
                    await hand_in(browser, "01-double", "def double(n):\n    return 2 * n\n")
        path, score = await asyncio.to_thread(platform.wait_for_score, "of two")
        assert (path, score["scoreGiven"]) == ("/lines/c-7/scores", 100.0)
        assert [each[0] for each in platform.scores if each[1]["userId"] == "of two"] == ["/lines/c-7/scores"]

        async with room.browser() as teacher:
            for context, title in (("c-7", "Class 7 now"), ("c-8", "Class 8")):
                await instructed(teacher, platform, context, sub="user-3", title=title)
            state = (await teacher.get("/api/teacher/state")).json()
            titles = ("Class 7 now", "Class 8")
            classes = {each["title"]: each["id"] for each in state["classes"] if each["title"] in titles}
            assert set(classes) == set(titles)
            assert "Class 7" not in {each["title"] for each in state["classes"]}
            of = {row["id"]: row["class"] for row in state["seats"]}
            assert {title: of[seats[f"c-{title[6]}"]] for title in classes} == classes
            query = {"exercise": "01-double", "format": "csv"}
            for title, count in (("Class 7 now", 1), ("Class 8", 0)):
                answer = await teacher.get("/api/teacher/export/grades", params={**query, "class": classes[title]})
                assert answer.text.count("Grace") == count
            answer = await teacher.get("/api/teacher/export/grades", params={**query, "class": "none"})
            assert answer.status_code == 404

    room.loop.run(lesson())


def test_who_came_before_there_were_classes_keeps_the_seat_in_the_first_one(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        found = []
        for context in (None, {"id": "c-1", "label": "First"}, {"id": "c-2"}):
            async with room.browser() as browser:
                await launched(browser, platform, sub="old", name="Old", **{f"{CLAIM}/context": context})
                found.append((await browser.get("/api/me")).json()["seat"]["id"])
        assert found[0] == found[1] != found[2]

    room.loop.run(lesson())


# --- deep linking -----------------------------------------------------------------------------------------------------


def choosing(platform: Double, **settings: Any) -> dict[str, Any]:
    """Returns the claims of a platform that asks for a link to be added to a course."""
    seen = {
        "deep_link_return_url": f"{platform.url}/chosen?course=4", "accept_types": ["link", "ltiResourceLink"],
        "accept_presentation_document_targets": ["iframe", "window"], "data": "opaque <data>", **settings,
    }  # fmt: skip
    return {
        f"{CLAIM}/message_type": "LtiDeepLinkingRequest", f"{CLAIM}/roles": [f"{ROLE}Instructor"],
        f"{CLAIM}/custom": None, "https://purl.imsglobal.org/spec/lti-dl/claim/deep_linking_settings": seen,
    }  # fmt: skip


def policy_of(answer: Any) -> dict[str, str]:
    seen = answer.headers["content-security-policy"].split(";")
    return dict(part.strip().partition(" ")[::2] for part in seen)


def field(answer: Any, name: str) -> str:
    return html.unescape(re.search(f'name="{name}" value="([^"]*)"', answer.text)[1])


@pytest.mark.parametrize(("exercise", "title"), [("02-half", "Half"), ("", "course")])
def test_an_exercise_is_chosen_on_a_page(room: Room, platform: Double, exercise: str, title: str) -> None:
    """The platform may show the page within its own.

    The classroom signs the answer, and sends it to the platform once.
    """

    async def lesson() -> None:
        before = len(list(room.lesson.seats))
        async with room.browser() as browser:
            page = await launched(browser, platform, sub="chooser", **choosing(platform))
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert "Twice" in page.text
            assert policy_of(page)["frame-ancestors"] == platform.url
            assert "__Host-seat" not in str(page.headers)
            form = {"word": field(page, "word"), "exercise": exercise}
            answer = await browser.post("/lti/choose", data=form, headers={"Origin": HOST})
            assert f'action="{platform.url}/chosen?course=4"' in answer.text
            assert policy_of(answer)["form-action"] == f"'self' {platform.url}"
            keys = jwt.PyJWKSet.from_dict((await browser.get("/lti/keys")).json()).keys
            seen = jwt.decode(
                field(answer, "JWT"), keys[0].key, algorithms=["RS256"], audience=platform.url, issuer="tool-1",
                options={"require": ["exp", "iat", "nonce"]},
            )  # fmt: skip
            assert seen[f"{CLAIM}/message_type"] == "LtiDeepLinkingResponse"
            assert (seen[f"{CLAIM}/deployment_id"], seen[f"{CLAIM}/version"]) == ("7", "1.3.0")
            assert seen["https://purl.imsglobal.org/spec/lti-dl/claim/data"] == "opaque <data>"
            (item,) = seen["https://purl.imsglobal.org/spec/lti-dl/claim/content_items"]
            assert (item["type"], item["title"], item["url"]) == ("ltiResourceLink", title, f"{HOST}/lti/launch")
            assert item.get("custom") == ({"exercise": exercise} if exercise else None)
            assert item["lineItem"]["scoreMaximum"] == 100
            again = await browser.post("/lti/choose", data=form, headers={"Origin": HOST})
            assert again.status_code == 403
        assert len(list(room.lesson.seats)) == before

    room.loop.run(lesson())


@pytest.mark.parametrize(
    ("settings", "form"),
    [
        ({"accept_types": ["html"]}, None),
        ({"accept_types": 7}, None),
        ({"deep_link_return_url": "http://elsewhere.example/"}, None),
        ({"deep_link_return_url": "javascript:alert(1)"}, None),
        ({"deep_link_return_url": "https://a.example;script-src *"}, None),
        ({"deep_link_return_url": "https://a.example 'self'/"}, None),
        ({"deep_link_return_url": "https://[::1"}, None),
        ({"deep_link_return_url": 7}, None),
        ({}, {"exercise": "../none"}),
        ({}, {"word": "made up"}),
    ],
)
def test_what_cannot_be_chosen(room: Room, platform: Double, settings: Any, form: Any) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            page = await launched(browser, platform, sub="chooser", **choosing(platform, **settings))
            if form is None:
                assert page.status_code == 422
                return
            seen = {"word": field(page, "word"), "exercise": "02-half", **form}
            answer = await browser.post("/lti/choose", data=seen, headers={"Origin": HOST})
            assert answer.status_code in (403, 404)
            assert "JWT" not in answer.text
            assert policy_of(answer)["frame-ancestors"] == "'none'"

    room.loop.run(lesson())


def test_a_platform_that_takes_no_column_gets_none(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            page = await launched(
                browser, platform, sub="chooser", **choosing(platform, accept_lineitem=False, data=None)
            )
            form = {"word": field(page, "word"), "exercise": "02-half"}
            answer = await browser.post("/lti/choose", data=form, headers={"Origin": HOST})
            seen = jwt.decode(field(answer, "JWT"), options={"verify_signature": False})
            (item,) = seen["https://purl.imsglobal.org/spec/lti-dl/claim/content_items"]
            assert "lineItem" not in item
            assert "https://purl.imsglobal.org/spec/lti-dl/claim/data" not in seen

    room.loop.run(lesson())


OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
FORGED: dict[str, Callable[[Double, Mapping[str, str]], str]] = {
    "signed by somebody else": lambda p, asked: p.sign(p.claims(asked), OTHER),
    "signed with a key that the platform has not": lambda p, asked: p.sign(p.claims(asked), kid="two"),
    "not signed": lambda p, asked: jwt.encode(p.claims(asked), None, algorithm="none", headers={"kid": "one"}),
    "signed with the public key as a secret": lambda p, asked: jwt.encode(
        p.claims(asked), "x" * 64, algorithm="HS256", headers={"kid": "one"}
    ),
    "for another tool": lambda p, asked: p.sign(p.claims(asked, aud="tool-2")),
    "for several tools": lambda p, asked: p.sign(p.claims(asked, aud=["tool-1", "tool-2"])),
    "made for another party": lambda p, asked: p.sign(p.claims(asked, azp="tool-2")),
    "of another issuer": lambda p, asked: p.sign(p.claims(asked, iss="https://elsewhere.example")),
    "expired": lambda p, asked: p.sign(p.claims(asked, exp=int(time.time()) - 3600)),
    "without an end": lambda p, asked: p.sign(p.claims(asked, exp=None)),
    "of another login": lambda p, asked: p.sign(p.claims(asked, nonce="another")),
    "without a nonce": lambda p, asked: p.sign(p.claims(asked, nonce=None)),
    "without a user": lambda p, asked: p.sign(p.claims(asked, sub=None)),
    "of another deployment": lambda p, asked: p.sign(p.claims(asked, **{f"{CLAIM}/deployment_id": "8"})),
    "of another version": lambda p, asked: p.sign(p.claims(asked, **{f"{CLAIM}/version": "1.1"})),
    "of another kind": lambda p, asked: p.sign(p.claims(asked, **{f"{CLAIM}/message_type": "LtiSubmissionReview"})),
    "no token": lambda p, asked: "a.b.c",
    "empty": lambda p, asked: "",
    "too long": lambda p, asked: p.sign(p.claims(asked, name="x" * 100_000)),
}


def test_what_is_not_signed_for_this_login_gives_no_seat(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        before = len(list(room.lesson.seats))
        for what, forge in FORGED.items():
            async with room.browser() as browser:
                asked = await login(browser, platform)
                answer = await launch(browser, platform, forge(platform, asked), asked["state"])
                assert answer.status_code in (403, 413, 422), f"{what}: {answer.status_code} {answer.text}"
                assert "__Host-seat" not in answer.headers.get("set-cookie", ""), what
                assert (await browser.get("/api/me")).status_code == 401, what
        assert len(list(room.lesson.seats)) == before
        assert platform.asked_for_keys < 5  # unknown keys do not cause a request each time

    room.loop.run(lesson())


def test_a_platform_that_does_not_answer_keeps_no_launch_waiting(platform: Double) -> None:
    """Without a pass anybody can have keys fetched, by unsigned tokens, any number of times."""
    given = tomllib.loads(platform.settings())["platforms"][0]
    silent = Platform(**{**given, "issuer": "https://silent.example", "key_set_url": "https://silent.example/keys"})
    asked: list[str] = []

    async def lesson() -> None:
        answering, looking = asyncio.Event(), asyncio.Event()

        async def answer(request: Any) -> Any:
            asked.append(request.url.host)
            if request.url.host == "silent.example":
                looking.set()
                await answering.wait()
                return httpx.Response(503)
            key = jwt.algorithms.RSAAlgorithm.to_jwk(platform.key.public_key(), as_dict=True)
            return httpx.Response(200, json={"keys": [{**key, "kid": "one"}]})

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            launches = Launches([Platform(**given), silent], client)

            async def forged() -> None:
                _, state = launches.begin({"iss": silent.issuer}, HOST)
                with pytest.raises(Refusal, match="cannot be had"):
                    await launches.finish(state, state, platform.sign({}))

            async with asyncio.timeout(60), asyncio.TaskGroup() as attack:
                for _ in range(9):
                    attack.create_task(forged())
                await looking.wait()
                url, state = launches.begin({"iss": platform.url}, HOST)
                claims = platform.claims(dict(parse_qsl(urlsplit(url).query)))
                assert (await launches.finish(state, state, platform.sign(claims))).platform.issuer == platform.url
                answering.set()  # not before: the honest launch did not wait for it

    asyncio.run(lesson())
    assert sorted(asked) == ["127.0.0.1", "silent.example"]  # the waiting launches made no request of their own


def test_a_launch_is_good_once_and_in_the_browser_in_which_it_began(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as victim, room.browser() as thief:
            asked = await login(victim, platform)
            token = platform.sign(platform.claims(asked))
            assert (await launch(thief, platform, token, asked["state"])).status_code == 403  # login CSRF, too
            asked = await login(victim, platform)
            token = platform.sign(platform.claims(asked))
            assert (await launch(victim, platform, token, asked["state"])).status_code == 200
            assert (await launch(victim, platform, token, asked["state"])).status_code == 403
            assert (await launch(victim, platform, token, "made up")).status_code == 403

    room.loop.run(lesson())


def test_names_of_platforms_are_made_fit(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        names = ["Ada", "Ada", "<b>Ada</b>", "A\u202eda", "  ", "x" * 500]
        for number, name in enumerate(names):
            async with room.browser() as browser:
                assert (await launched(browser, platform, sub=f"named-{number}", name=name)).status_code == 200
        assert [seat.name for seat in room.lesson.seats][-6:] == [
            "Ada", "Ada 2", "<b>Ada</b>", "Student", "Student 2", "x" * 36,
        ]  # fmt: skip

    room.loop.run(lesson())


def test_a_removed_seat_stays_removed_and_others_cannot_begin_a_login(room: Room, platform: Double) -> None:
    async def lesson() -> None:
        async with room.browser() as browser:
            await launched(browser, platform, sub="user-4", name="Eve")
            (seat,) = [seat for seat in room.lesson.seats if seat.name == "Eve"]
            await room.lesson.seats.remove(seat, True)
            assert (await launched(browser, platform, sub="user-4")).status_code == 403
            form = {"iss": "https://elsewhere.example", "login_hint": "x"}
            assert (await browser.post("/lti/login", data=form)).status_code == 403
            assert (await browser.get("/lti/config.json")).json()["public_jwk_url"] == f"{HOST}/lti/keys"

    room.loop.run(lesson())


def test_faults_of_the_file_are_all_told(tmp_path: Path) -> None:
    path = tmp_path / "lti.toml"
    path.write_text(
        '[[platforms]]\nissuer = "http://moodle.example"\nclient_id = ""\ndeployments = []\nteacher = true\n'
    )
    with pytest.raises(PolicyError) as refused:
        load_platforms(path)
    seen = str(refused.value)
    for words in ("platforms[0].issuer", "https://", "platforms[0].client_id", "platforms[0].deployments", "teachers"):
        assert words in seen
    path.write_text("platforms = []\n")
    with pytest.raises(PolicyError, match=r"at least one \[\[platforms\]\]"):
        load_platforms(path)


def test_lti_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="LTI needs TLS"):
        ClassroomConfig(data=str(tmp_path), lti="lti.toml")


def test_a_platform_stands_there_once() -> None:
    seen = Platform(
        issuer="https://a.example", client_id="1", deployments=("1",), auth_login_url="https://a.example/a",
        auth_token_url="https://a.example/t", key_set_url="https://a.example/k",
    )  # fmt: skip
    assert seen.name == "https://a.example 1"
