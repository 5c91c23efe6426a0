"""Who asks, and the cookies by which that is known."""

from typing import Annotated, Any, Final, TypeAlias

import attrs
from fastapi import Depends, Path, Request, Response
from starlette.requests import HTTPConnection

from proxybox.classroom.lesson import Lesson
from proxybox.classroom.records import Seat
from proxybox.serve.problems import Refusal

#: The cookie of a seat for pages within those of another site.
FRAMED: Final = "framed"
#: Seconds that a browser keeps a cookie: a term.
_KEPT: Final = 200 * 86_400


def lesson_of(request: Request) -> Lesson:
    """The lesson that a request has come to."""
    lesson: Lesson = request.app.state.lesson
    return lesson


def address_of(request: Request) -> str:
    """The address of who asks."""
    return request.client.host if request.client is not None else ""


# --- cookies ----------------------------------------------------------------------------------------------------------


def _name(connection: HTTPConnection, what: str) -> str:
    """The name of a cookie. Under TLS no other host of the same site can set it (RFC 6265bis, section 4.1.3)."""
    return f"__Host-{what}" if connection.scope["scheme"] == "https" else what


def set_cookie(request: Request, response: Response, what: str, value: str) -> None:
    """Gives a browser a pass."""
    response.set_cookie(
        _name(request, what), value, max_age=_KEPT, path="/", httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip


def set_framed_cookie(request: Request, response: Response, value: str, *, kept: int = _KEPT) -> None:
    """Gives a browser the pass of a seat for pages within those of another site, which strict cookies do not reach.

    It is for that site alone: a page within another site's never gets it (Partitioned: CHIPS). kept: seconds; 0 takes
    the pass away.
    """
    name = _name(request, FRAMED)
    response.headers.append(
        "set-cookie", f"{name}={value}; Max-Age={kept}; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"
    )


def forget_cookie(request: Request, response: Response, what: str) -> None:
    """Takes a pass away."""
    secure = request.url.scheme == "https"
    response.delete_cookie(_name(request, what), path="/", httponly=True, samesite="strict", secure=secure)


@attrs.frozen(kw_only=True)
class Asking:
    """Who a browser is by its cookies: a seat, the teacher, both, or nobody."""

    seat: Seat | None
    is_teacher: bool


def who_asks(lesson: Lesson, connection: HTTPConnection) -> Asking:
    """Returns who a browser is. The edge asks once for each request; doors are told by `asking_of`."""
    cookies = connection.cookies
    passes = [cookies.get(_name(connection, what)) for what in (("seat", FRAMED) if lesson.config.embed else ("seat",))]
    seat = next(filter(None, (lesson.seats.of_pass(lesson.passes.seat(told)) for told in passes)), None)
    teacher = lesson.passes.is_teacher(cookies.get(_name(connection, "teacher")), lesson.teacher_generation)
    return Asking(seat=seat, is_teacher=teacher)


def asking_of(request: Request) -> Asking:
    """Who has made a request."""
    asking: Asking = request.scope["state"]["asking"]
    return asking


# --- who may ask ------------------------------------------------------------------------------------------------------


async def _here(request: Request) -> Lesson:
    return lesson_of(request)  # a function that is none of asyncio's would be called in a thread


async def _seat(request: Request) -> Seat:
    seat = asking_of(request).seat
    if seat is None:
        raise Refusal("unauthorized", "This browser has no seat here.")
    return seat


async def _teacher(request: Request) -> None:
    if not asking_of(request).is_teacher:
        raise Refusal("unauthorized", "This is for the teacher.")


#: Parameters of routes: the seat that asks, the number of a version, and the lesson. `FOR_TEACHER` is for routers. They
#: raise Refusal.
Sitting: TypeAlias = Annotated[Seat, Depends(_seat)]
Version: TypeAlias = Annotated[int, Path(ge=0, le=1 << 40)]
Here: TypeAlias = Annotated[Lesson, Depends(_here)]
FOR_TEACHER: Final[Any] = Depends(_teacher)
