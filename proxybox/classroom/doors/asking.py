"""The sender of a request, and the cookies that identify it."""

from typing import Annotated, Any, Final, TypeAlias

import attrs
from fastapi import Depends, Path, Request, Response
from starlette.requests import HTTPConnection

from proxybox.classroom.authority import WHOLE, TeachingScope
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.records import Seat
from proxybox.serve.problems import Refusal

#: The cookies: of a seat for pages framed by another site; of the teacher with the key; and of an instructor.
FRAMED: Final = "framed"
TEACHER: Final = "teacher"
INSTRUCTOR: Final = "instructor"
#: Seconds for which a browser keeps a cookie: a term.
_KEPT: Final = 200 * 86_400


def lesson_of(request: Request) -> Lesson:
    """Returns the lesson of a request."""
    lesson: Lesson = request.app.state.lesson
    return lesson


def address_of(request: Request) -> str:
    """Returns the address of the client."""
    return request.client.host if request.client is not None else ""


def sends(*media_types: str) -> dict[str, Any]:
    """Returns the options of a route that does not send JSON. media_types: those that it sends."""
    return {"response_class": Response, "responses": {200: {"content": {media: {} for media in media_types}}}}


# --- cookies ----------------------------------------------------------------------------------------------------------


def _name(connection: HTTPConnection, what: str) -> str:
    """The name of a cookie. Under TLS no other host of the same site can set it (RFC 6265bis, section 4.1.3)."""
    return f"__Host-{what}" if connection.scope["scheme"] == "https" else what


def set_cookie(request: Request, response: Response, what: str, value: str, *, kept: int = _KEPT) -> None:
    """Sets the cookie of a pass. kept: seconds."""
    response.set_cookie(
        _name(request, what), value, max_age=kept, path="/", httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip


def set_framed_cookie(request: Request, response: Response, value: str, *, kept: int = _KEPT) -> None:
    """Sets the cookie of a seat for pages framed by another site: browsers do not send strict cookies there.

    It is for that site only: a page framed by a third site does not get it (Partitioned: CHIPS). kept: seconds; 0
    removes the cookie.
    """
    name = _name(request, FRAMED)
    response.headers.append(
        "set-cookie", f"{name}={value}; Max-Age={kept}; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"
    )


def forget_cookie(request: Request, response: Response, what: str) -> None:
    """Removes the cookie of a pass."""
    secure = request.url.scheme == "https"
    response.delete_cookie(_name(request, what), path="/", httponly=True, samesite="strict", secure=secure)


@attrs.frozen(kw_only=True)
class Asking:
    """The identity of a browser by its cookies: a seat, a teacher, both, or neither."""

    seat: Seat | None
    authority: TeachingScope | None


def who_asks(lesson: Lesson, connection: HTTPConnection) -> Asking:
    """Returns the identity of a browser at this moment."""
    cookies = connection.cookies
    passes = [cookies.get(_name(connection, what)) for what in (("seat", FRAMED) if lesson.config.embed else ("seat",))]
    seat = next(filter(None, (lesson.seats.of_pass(lesson.passes.seat(cookie)) for cookie in passes)), None)
    return Asking(seat=seat, authority=_authority(lesson, connection))


def _authority(lesson: Lesson, connection: HTTPConnection) -> TeachingScope | None:
    cookies = connection.cookies
    if lesson.passes.is_teacher(cookies.get(_name(connection, TEACHER)), lesson.teacher_generation):
        return WHOLE
    return lesson.instructors.authority(cookies.get(_name(connection, INSTRUCTOR)))


def instructor_pass(request: Request) -> str | None:
    """Returns the cookie of an instructor's pass; None if there is none."""
    return request.cookies.get(_name(request, INSTRUCTOR))


def asking_of(request: Request) -> Asking:
    """Returns the identity of the sender now: since the edge, the body of the request may have taken an hour."""
    return who_asks(lesson_of(request), request)


# --- permissions ------------------------------------------------------------------------------------------------------


async def _here(request: Request) -> Lesson:
    return lesson_of(request)  # FastAPI would call a function that is not async in a thread


async def _seat(request: Request) -> Seat:
    seat = asking_of(request).seat
    if seat is None:
        raise Refusal("unauthorized", "This browser has no seat here.")
    return seat


async def _teaching(request: Request) -> TeachingScope:
    authority = asking_of(request).authority
    if authority is None:
        raise Refusal("unauthorized", "This is for the teacher.")
    return authority


async def _whole(request: Request) -> None:
    if not (await _teaching(request)).is_whole:
        raise Refusal("forbidden", "This concerns the whole classroom: it is for who has its key.")


#: Parameters of routes: the seat of the sender, the scope of the teacher who sends, the number of a version, and the
#: lesson. `FOR_TEACHERS` and `FOR_WHOLE` are for routers: for all teachers, and for the teacher with the key. They
#: raise Refusal.
Sitting: TypeAlias = Annotated[Seat, Depends(_seat)]
Teaching: TypeAlias = Annotated[TeachingScope, Depends(_teaching)]
Version: TypeAlias = Annotated[int, Path(ge=0, le=1 << 40)]
Here: TypeAlias = Annotated[Lesson, Depends(_here)]
FOR_TEACHERS: Final[Any] = Depends(_teaching)
FOR_WHOLE: Final[Any] = Depends(_whole)
