"""How much of the service a connection, and all connections of one address, may use."""

from collections import Counter
from typing import Final

import attrs

from proxybox.policies.building import model
from proxybox.policies.checks import between, limited, to_whole
from proxybox.policies.sizes import to_duration, to_size

_HEAD: Final = 'a size from 4K to 1M, such as "64K"'
_HELD: Final = 'a size of 1M or more, such as "64M"'
_RATE: Final = 'a size from 1 byte to 1M, such as "1K"'
_TIME: Final = 'a duration from 1s to an hour, such as "30s"'
_COUNT: Final = "a whole number from 1 to 1,000,000"


def _to_head(value: int | str) -> int:
    return limited(to_size, value, _HEAD)


def _to_held(value: int | str) -> int:
    return limited(to_size, value, _HELD)


def _to_rate(value: int | str) -> int:
    return limited(to_size, value, _RATE)


def _to_time(value: float | str) -> float:
    return limited(to_duration, value, _TIME)


@model("connections")
@attrs.frozen(kw_only=True)
class Bounds:
    """Bounds of connections.

    Those over Unix sockets have no address: only the bounds for all connections apply to them. most: connections at
    once. of_address: those of one address. head: bytes outside of bodies: a request line with its header, the framing
    of chunks, trailers, and the first message of a WebSocket. time: seconds in which a whole header arrives, and for
    which a body, or the reader of an answer, may be slower than `rate`. rate: bytes a second. unread: bytes of one
    address, or of all WebSockets of a key, that were received, and that no door has read yet.
    """

    most: int = attrs.field(default=4_000, converter=to_whole, validator=between(1, 1_000_000, _COUNT))
    of_address: int = attrs.field(default=1_500, converter=to_whole, validator=between(1, 1_000_000, _COUNT))
    head: int = attrs.field(default=64 << 10, converter=_to_head, validator=between(4 << 10, 1 << 20, _HEAD))
    time: float = attrs.field(default=30.0, converter=_to_time, validator=between(1, 3_600, _TIME))
    rate: int = attrs.field(default=1 << 10, converter=_to_rate, validator=between(1, 1 << 20, _RATE))
    unread: int = attrs.field(default=64 << 20, converter=_to_held, validator=between(1 << 20, 1 << 40, _HELD))


class Peers:
    """Counts the connections and the unread bytes of each address."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.count = 0
        self._connections: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Counts one more connection, and returns whether it is within the bounds. address: empty if it has none."""
        self.count += 1
        if address:
            self._connections[address] += 1
        return self.count <= self.bounds.most and self._connections[address] <= self.bounds.of_address

    def leave(self, address: str) -> None:
        """Counts a connection that has ended."""
        self.count -= 1
        self._less(self._connections, address, 1)

    def hold(self, address: str, change: int) -> bool:
        """Adds `change`, also if negative, to an address's unread bytes; returns whether they are within the bound."""
        if not address or change < 0:
            self._less(self._unread, address, -change)
            return True
        self._unread[address] += change
        return self._unread[address] <= self.bounds.unread

    @staticmethod
    def _less(counter: Counter[str], address: str, number: int) -> None:
        if address:
            counter[address] -= number
            if counter[address] <= 0:
                del counter[address]
