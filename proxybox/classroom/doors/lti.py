"""What platforms ask (lti/). Browsers come here from their pages, so no origin is checked: signatures are."""

from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from proxybox.classroom.doors.asking import lesson_of, set_cookie
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.lti.bridge import Bridge
from proxybox.classroom.lti.launches import SCORE
from proxybox.classroom.lti.platforms import load_platforms
from proxybox.serve.asking import as_json
from proxybox.serve.problems import Refusal

router = APIRouter(prefix="/lti")

#: The cookie that says in which browser a login has begun. It comes back with a form of the platform's page.
_COOKIE: Final = "__Host-lti"
_PATIENCE: Final = 600
#: The most fields of a form.
_MOST_FIELDS: Final = 50
#: A page that goes on by itself: a redirect would still count as the platform's, and bring no strict cookie.
_ON: Final = (
    '<!doctype html><meta charset="utf-8"><title>proxybox</title><meta http-equiv="refresh" content="0;url={}">'
)


def bridge_of(lesson: Lesson) -> Bridge:
    """Returns what stands between a lesson and its platforms.

    Raises PolicyError, ExerciseError, OSError, and ValueError for a key that is none.
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
    url, state = _bridge(request).launches.begin(await _fields(request), _own(request, "/lti/launch"))
    response = RedirectResponse(url, status_code=303)
    response.set_cookie(_COOKIE, state, max_age=_PATIENCE, path="/", secure=True, httponly=True, samesite="none")
    return response


@router.post("/launch")
async def launch(request: Request) -> Response:
    """Ends a login: the browser gets its seat, or is the teacher's."""
    bridge, fields = _bridge(request), await _fields(request)
    if "error" in fields:
        raise Refusal("forbidden", "The platform has refused the launch.")
    arrived = await bridge.launches.finish(
        fields.get("state", ""), request.cookies.get(_COOKIE), fields.get("id_token", "")
    )
    lesson = lesson_of(request)
    if arrived.is_teacher:
        response = Response(_ON.format("/teacher"), media_type="text/html")
        set_cookie(request, response, "teacher", lesson.passes.for_teacher(lesson.teacher_generation))
    else:
        seat = await bridge.arrive(arrived)
        response = Response(_ON.format("/"), media_type="text/html")
        set_cookie(request, response, "seat", lesson.passes.for_seat(seat.id, seat.generation))
    response.delete_cookie(_COOKIE, path="/", secure=True, httponly=True, samesite="none")
    return response


@router.get("/keys")
async def keys(request: Request) -> Response:
    """Our public key (RFC 7517)."""
    return as_json(_bridge(request).key.public)


@router.get("/config.json")
async def config(request: Request) -> Response:
    """What Canvas asks for when a tool is registered by its address."""
    lesson = lesson_of(request)
    placements = [
        {"placement": placement, "message_type": "LtiResourceLinkRequest", "windowTarget": "_blank"}
        for placement in ("assignment_selection", "link_selection")
    ]
    told: dict[str, Any] = {
        "title": lesson.course.title, "description": "proxybox classroom", "scopes": [SCORE],
        "oidc_initiation_url": _own(request, "/lti/login"), "target_link_uri": _own(request, "/lti/launch"),
        "public_jwk_url": _own(request, "/lti/keys"),
        "extensions": [
            {
                "platform": "canvas.instructure.com", "privacy_level": "name_only",
                "settings": {"placements": placements},
            }
        ],
    }  # fmt: skip
    return as_json(told)
