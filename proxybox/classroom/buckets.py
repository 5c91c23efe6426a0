"""How much a seat may ask for: a bucket of tokens that fills up again, so that nobody's browser holds up the others.

A request takes one token, and one more for each piece of what it sends, gets, or has kept. It is let in while a token
is left, whatever it takes then: so the largest one is possible, and has to be waited off afterwards.
"""

import time
from typing import Final

import attrs

from proxybox.serve.problems import Refusal

#: The tokens of a full bucket, and those that come each second.
_BURST, _RATE = 200.0, 40.0
#: Bytes, or characters, of what is sent, got or kept, for which a token is taken.
_PIECE: Final = 16 << 10


@attrs.define
class _Bucket:
    left: float = _BURST
    at: float = attrs.field(factory=time.monotonic)

    def fill(self) -> None:
        """Adds the tokens that have come meanwhile."""
        now = time.monotonic()
        self.left, self.at = min(_BURST, self.left + (now - self.at) * _RATE), now


class Buckets:
    """The buckets of all seats."""

    def __init__(self) -> None:
        self._all: dict[str, _Bucket] = {}

    def enter(self, seat: str) -> None:
        """Takes the token of a request. Raises Refusal when none is left."""
        bucket = self._all.setdefault(seat, _Bucket())
        bucket.fill()
        if bucket.left < 1:
            wait = str(int((1 - bucket.left) / _RATE) + 1)
            raise Refusal("rate-limited", "Too many requests.", headers={"Retry-After": wait})
        bucket.left -= 1

    def take(self, seat: str, size: int) -> None:
        """Takes the tokens for so many bytes, or characters; there may be fewer than none left then."""
        self._all.setdefault(seat, _Bucket()).left -= size / _PIECE
