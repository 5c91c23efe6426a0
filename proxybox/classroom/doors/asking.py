"""Who asks, and the cookies by which that is known."""

import time
from typing import Annotated, Any, Final, TypeAlias

import attrs
from fastapi import Depends, Request, Response

from proxybox.classroom.lesson import Lesson
from proxybox.classroom.store import Seat
from proxybox.serve.problems import Refusal

#: Seconds that a browser keeps a cookie: a term.
_KEPT: Final = 200 * 86_400
#: Requests that a seat may make at once, and how many more each second.
_BURST, _RATE = 200.0, 40.0


def lesson_of(request: Request) -> Lesson:
    """The lesson that a request has come to."""
    lesson: Lesson = request.app.state.lesson
    return lesson


def address_of(request: Request) -> str:
    """The address of who asks."""
    return request.client.host if request.client is not None else ""


# --- cookies ----------------------------------------------------------------------------------------------------------


def _name(request: Request, what: str) -> str:
    """The name of a cookie. Under TLS no other host of the same site can set it (RFC 6265bis, section 4.1.3)."""
    return f"__Host-{what}" if request.url.scheme == "https" else what


def set_cookie(request: Request, response: Response, what: str, value: str) -> None:
    """Gives a browser a pass."""
    response.set_cookie(
        _name(request, what), value, max_age=_KEPT, path="/", httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip


def forget_cookie(request: Request, response: Response, what: str) -> None:
    """Takes a pass away."""
    secure = request.url.scheme == "https"
    response.delete_cookie(_name(request, what), path="/", httponly=True, samesite="strict", secure=secure)


def seat_by_cookie(request: Request) -> Seat | None:
    """The seat of a browser; None without one."""
    lesson = lesson_of(request)
    return lesson.seats.of_pass(lesson.passes.seat(request.cookies.get(_name(request, "seat"))))


def is_teacher(request: Request) -> bool:
    """Whether a browser is the teacher's."""
    lesson = lesson_of(request)
    return lesson.passes.is_teacher(request.cookies.get(_name(request, "teacher")), lesson.teacher_generation)


# --- who may ask ------------------------------------------------------------------------------------------------------


@attrs.define
class _Bucket:
    """How many requests a seat may make now, and when that was so."""

    left: float = _BURST
    at: float = attrs.field(factory=time.monotonic)

    def take(self) -> bool:
        """Takes one, if there is one."""
        now = time.monotonic()
        self.left = min(_BURST, self.left + (now - self.at) * _RATE)
        self.at = now
        self.left -= 1 if self.left >= 1 else 0
        return self.left >= 1


async def _seat(request: Request) -> Seat:
    seat = seat_by_cookie(request)
    if seat is None:
        raise Refusal("unauthorized", "This browser has no seat here.")
    buckets: dict[str, _Bucket] = request.app.state.buckets
    if not buckets.setdefault(seat.id, _Bucket()).take():
        raise Refusal("rate-limited", "Too many requests.", headers={"Retry-After": "1"})
    return seat


async def _teacher(request: Request) -> None:
    if not is_teacher(request):
        raise Refusal("unauthorized", "This is for the teacher.")


#: Parameters of routes: the seat that asks, and the lesson. `FOR_TEACHER` is for routers. Raise Refusal.
Sitting: TypeAlias = Annotated[Seat, Depends(_seat)]
Here: TypeAlias = Annotated[Lesson, Depends(lesson_of)]
FOR_TEACHER: Final[Any] = Depends(_teacher)
