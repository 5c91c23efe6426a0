"""Requests from platforms (lti/). Browsers come from pages of platforms: signatures are checked, not the origin."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from proxybox.classroom.authority import HOLDS
from proxybox.classroom.doors.asking import INSTRUCTOR, lesson_of, set_cookie
from proxybox.classroom.doors.pages import page
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.lti.bridge import Bridge
from proxybox.classroom.lti.launches import SCORE, DeepLinkRequest
from proxybox.classroom.lti.platforms import load_platforms
from proxybox.policies.errors import nearest
from proxybox.serve.asking import as_json
from proxybox.serve.problems import Refusal
from proxybox.terminal.harmless import on_one_line

router = APIRouter(prefix="/lti")

#: The cookie that identifies the browser in which a login has begun. It returns with a form of the platform's page.
_COOKIE: Final = "__Host-lti"
_LAUNCH: Final = "/lti/launch"
_PATIENCE: Final = 600
#: The most fields of a form.
_MOST_FIELDS: Final = 50
#: The most characters of the id of an unknown exercise that are shown.
_MOST_TOLD: Final = 100
#: A page that loads the next one by itself: a redirect would count as the platform's, and browsers would send no strict
#: cookie.
_ON: Final = (
    '<!doctype html><meta charset="utf-8"><title>proxybox</title><meta http-equiv="refresh" content="0;url={}">'
)


def bridge_of(lesson: Lesson) -> Bridge:
    """Returns the bridge between a lesson and its platforms.

    Raises PolicyError, ExerciseError, OSError, and ValueError for an invalid key.
    """
    return Bridge(lesson, load_platforms(Path(lesson.config.lti)))


def _bridge(request: Request) -> Bridge:
    bridge: Bridge = request.app.state.bridge
    return bridge


async def _fields(request: Request) -> dict[str, str]:
    form = request.query_params if request.method == "GET" else await request.form(max_files=0, max_fields=_MOST_FIELDS)
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _own(request: Request, path: str) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', '')}{path}"


@router.get("/login")
@router.post("/login")
async def login(request: Request) -> Response:
    """Begins a login."""
    try:
        url, state = _bridge(request).launches.begin(await _fields(request), _own(request, _LAUNCH))
    except Refusal as refusal:
        return _refused(request, refusal)
    response = RedirectResponse(url, status_code=303)
    _keep_state(response, state, _PATIENCE)
    return response


def _keep_state(response: Response, state: str, seconds: int) -> None:
    """Stores the state of a login in a cookie, also within the platform's page (Partitioned: CHIPS)."""
    response.headers.append(
        "set-cookie",
        f"{_COOKIE}={state}; Max-Age={seconds}; Path=/; HttpOnly; Secure; SameSite=None; Partitioned",
    )


@router.post("/launch")
async def launch(request: Request) -> Response:
    """Ends a login: the browser gets a seat or a class's teacher, or may choose a link."""
    try:
        response = await _launched(request, await _fields(request))
    except Refusal as refusal:
        response = _refused(request, refusal)
    _keep_state(response, "", 0)
    return response


async def _launched(request: Request, fields: Mapping[str, str]) -> Response:
    if "error" in fields:
        raise Refusal("forbidden", "The platform has refused the launch.")
    bridge, lesson = _bridge(request), lesson_of(request)
    arrived = await bridge.launches.finish(
        fields.get("state", ""), request.cookies.get(_COOKIE), fields.get("id_token", "")
    )
    if isinstance(arrived, DeepLinkRequest):
        _belong_to(request, arrived)
        return page(
            request, "lti-choose.html", word=bridge.launches.offer(arrived), exercises=list(lesson.sheets.values())
        )
    if not arrived.is_instructor:
        bridge.teaches_no_longer(arrived)
    if arrived.exercise and arrived.exercise not in lesson.sheets:
        return page(
            request, "lti-unknown.html", status=404, exercise=on_one_line(arrived.exercise)[:_MOST_TOLD],
            meant=nearest(arrived.exercise[:_MOST_TOLD], lesson.sheets) or "", exercises=list(lesson.sheets.values()),
        )  # fmt: skip
    if arrived.is_instructor:
        response = Response(_ON.format("/teacher"), media_type="text/html")
        set_cookie(request, response, INSTRUCTOR, await bridge.arrive_teaching(arrived), kept=int(HOLDS))
        return response
    seat = await bridge.arrive(arrived)
    response = Response(_ON.format("/"), media_type="text/html")
    set_cookie(request, response, "seat", lesson.passes.for_seat(seat.id, seat.generation))
    return response


@router.post("/choose")
async def choose(request: Request) -> Response:
    """Returns a page that sends the chosen link to the platform, signed."""
    try:
        bridge, fields = _bridge(request), await _fields(request)
        choice = bridge.launches.chosen(fields.get("word", ""))
        token = bridge.answer(choice, fields.get("exercise", ""), _own(request, _LAUNCH))
    except Refusal as refusal:
        return _refused(request, refusal)
    _belong_to(request, choice)
    return page(request, "lti-answer.html", url=choice.url, token=token)


def _belong_to(request: Request, choice: DeepLinkRequest) -> None:
    """Allows the platform's page to frame ours (edge.py)."""
    request.scope["state"]["platform"] = choice.origin


def _refused(request: Request, refusal: Refusal) -> Response:
    """An error page for people: browsers come here by links."""
    return page(request, "lti-refused.html", status=refusal.status, why=refusal.detail)


@router.get("/keys")
async def keys(request: Request) -> Response:
    """Our public key (RFC 7517)."""
    return as_json(_bridge(request).key.public)


@router.get("/config.json")
async def config(request: Request) -> Response:
    """The configuration that Canvas requests when a tool is registered by its URL."""
    lesson = lesson_of(request)
    placements = [
        {"placement": placement, "message_type": "LtiDeepLinkingRequest"}
        for placement in ("assignment_selection", "link_selection")
    ]
    body: dict[str, Any] = {
        "title": lesson.course.title, "description": "proxybox classroom", "scopes": [SCORE],
        "oidc_initiation_url": _own(request, "/lti/login"), "target_link_uri": _own(request, _LAUNCH),
        "public_jwk_url": _own(request, "/lti/keys"),
        "extensions": [
            {
                "platform": "canvas.instructure.com", "privacy_level": "name_only",
                "settings": {"placements": placements},
            }
        ],
    }  # fmt: skip
    return as_json(body)
