"""How much a seat may request: a token bucket that fills up again, so that no browser makes the others wait.

A request takes one token, and one more for each piece of data that it sends, gets or stores. It is accepted if a token
is left, even if it then takes more than are left. So the largest request is possible, and the seat has to wait after
it.
"""

import time
from typing import Final

import attrs

from proxybox.serve.problems import Refusal

#: The tokens of a full bucket, and the tokens that are added each second.
_BURST, _RATE = 200.0, 40.0
#: Bytes, or characters, of sent, received or stored data, for which one token is taken.
_PIECE: Final = 16 << 10


@attrs.define
class _Bucket:
    left: float = _BURST
    at: float = attrs.field(factory=time.monotonic)

    def fill(self) -> None:
        """Adds the tokens for the time that has passed."""
        now = time.monotonic()
        self.left, self.at = min(_BURST, self.left + (now - self.at) * _RATE), now


class Buckets:
    """The buckets of all seats."""

    def __init__(self) -> None:
        self._all: dict[str, _Bucket] = {}

    def enter(self, seat: str) -> None:
        """Takes the token of a request. Raises Refusal if none is left."""
        bucket = self._all.setdefault(seat, _Bucket())
        bucket.fill()
        if bucket.left < 1:
            wait = str(int((1 - bucket.left) / _RATE) + 1)
            raise Refusal("rate-limited", "Too many requests.", headers={"Retry-After": wait})
        bucket.left -= 1

    def take(self, seat: str, size: int) -> None:
        """Takes the tokens for so many bytes, or characters. The number of tokens may become negative."""
        self._all.setdefault(seat, _Bucket()).left -= size / _PIECE
