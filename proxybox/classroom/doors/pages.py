"""The pages and the files that they load."""

from pathlib import Path
from typing import Any, Final

import jinja2
from fastapi import APIRouter, Request, Response
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from proxybox.classroom.course import ID
from proxybox.classroom.doors.asking import asking_of, lesson_of
from proxybox.classroom.words import LANGUAGES, Words, negotiate
from proxybox.serve.problems import Refusal

router = APIRouter(include_in_schema=False)

_FOLDER: Final = Path(__file__).parents[1]
_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "pages"), autoescape=True, undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.i18n"],
)  # fmt: skip
#: Caching of these files: a browser asks each time whether they have changed.
_FRESH: Final = {"Cache-Control": "no-cache"}


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """See StaticFiles."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_FRESH)
        return response


#: The scripts and styles, at /static.
files = _Files(directory=_FOLDER / "static")


@router.get("/")
async def student_page(request: Request) -> Response:
    """The student's page; without a seat, the page for joining."""
    return _students(request)


@router.get("/embed/{exercise}")
async def embedded_page(request: Request, exercise: str) -> Response:
    """The student's page framed by another site (edge.py), at one exercise. Without a seat, any id is accepted."""
    lesson = lesson_of(request)
    if not lesson.config.embed:
        raise Refusal("not-found", "This classroom stands in no other pages.")
    if asking_of(request).seat is not None or not ID.fullmatch(exercise):
        lesson.sheet(exercise)
    return _students(request, exercise)


@router.get("/teacher")
async def teacher_page(request: Request) -> Response:
    """The teacher's page; without a teacher's pass, the page that asks for the key."""
    authority = asking_of(request).authority
    if authority is None:
        return page(request, "key.html", has_platforms=bool(lesson_of(request).config.lti))
    return page(request, "teacher.html", is_whole=authority.is_whole)


@router.get("/sw.js")
async def service_worker() -> Response:
    """The service worker. It is at this path so that it controls the whole site."""
    return FileResponse(_FOLDER / "static" / "sw.js", media_type="text/javascript", headers=_FRESH)


def _students(request: Request, exercise: str = "") -> Response:
    name = "join.html" if asking_of(request).seat is None else "student.html"
    return page(request, name, exercise=exercise, home=f"/embed/{exercise}" if exercise else "/")


def page(request: Request, name: str, *, status: int = 200, **more: Any) -> Response:
    """Returns a page in the language of the browser. more: further values for its template."""
    lesson = lesson_of(request)
    words = Words(negotiate(request.cookies.get("language"), request.headers.get("accept-language", "")))
    text = _TEMPLATES.get_template(name).render(
        nonce=request.scope["state"]["nonce"], language=words.language, direction=words.direction, _=words.gettext,
        gettext=words.gettext, ngettext=words.ngettext, messages=words.messages(), languages=LANGUAGES,
        course=lesson.course.title, **more,
    )  # fmt: skip
    return Response(text, status, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-store"})
