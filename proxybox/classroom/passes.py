"""Passes: signed cookies that identify a browser, for a seat or the teacher with the key. (Instructors: authority.py.)

A pass names its seat and that seat's generation, so that all passes of a seat can be made void at once. It contains no
secret, and nobody can make one without the key, which never leaves the class's database.
"""

import hmac
import secrets
from typing import Any, Final

from itsdangerous import BadData, URLSafeSerializer

#: Letters and digits that people do not confuse.
_SIGNS: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
#: The most characters of a cookie that is read.
_MOST: Final = 500


def new_code(*groups: int) -> str:
    """Returns a random code of groups of letters and digits, such as K7M-4QX for (3, 3): 31 ** 6 possibilities."""
    return "-".join("".join(secrets.choice(_SIGNS) for _ in range(size)) for size in groups)


def normal(code: str) -> str:
    """Returns a typed code in the form in which codes are compared."""
    return "".join(sign for sign in code.upper() if sign.isalnum())


def is_same(attempt: str, code: str) -> bool:
    """Whether a typed text is this code. The time of the comparison does not show how much of it is right."""
    return bool(hmac.compare_digest(normal(attempt).encode("utf-8", "replace"), normal(code).encode()))


class Passes:
    """Makes and reads passes. secret: the class's key."""

    def __init__(self, secret: str) -> None:
        self._seats = URLSafeSerializer(secret, salt="proxybox.classroom.seat")
        # The earlier salt was also that of instructors, who then got the pass of the whole classroom.
        self._teachers = URLSafeSerializer(secret, salt="proxybox.classroom.teacher.key")

    def for_seat(self, seat: str, generation: int) -> str:
        """Returns the pass of a seat."""
        return str(self._seats.dumps([seat, generation]))

    def seat(self, cookie: str | None) -> tuple[str, int] | None:
        """Returns the seat and the generation in a pass; None if it is not valid."""
        found = _loaded(self._seats, cookie)
        if isinstance(found, list) and len(found) == 2 and isinstance(found[0], str) and isinstance(found[1], int):
            return found[0], found[1]
        return None

    def for_teacher(self, generation: int) -> str:
        """Returns the pass of the teacher with the key."""
        return str(self._teachers.dumps(generation))

    def is_teacher(self, cookie: str | None, generation: int) -> bool:
        """Whether this is the pass of the teacher with the key."""
        return bool(_loaded(self._teachers, cookie) == generation)


def _loaded(serializer: URLSafeSerializer, cookie: str | None) -> Any:
    if not cookie or len(cookie) > _MOST:
        return None
    try:
        return serializer.loads(cookie)
    except BadData:
        return None
