"""How much a connection may take of the service, and how much all of one address."""

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
    """What connections may take. Those over sockets in folders have no address: for them only what concerns all holds.

    most: connections at once. of_address: those of one address. head: bytes of what is no body: a request line with its
    header, the framing of chunks, trailers, and the first message of a WebSocket. time: seconds in which a header comes
    whole, and for which a body, or whoever reads an answer, may fall behind. rate: bytes a second with which they do
    not. unread: bytes of one address, or of all WebSockets of a key, that have come and that nothing has asked for yet.
    """

    most: int = attrs.field(default=4_000, converter=to_whole, validator=between(1, 1_000_000, _COUNT))
    of_address: int = attrs.field(default=1_500, converter=to_whole, validator=between(1, 1_000_000, _COUNT))
    head: int = attrs.field(default=64 << 10, converter=_to_head, validator=between(4 << 10, 1 << 20, _HEAD))
    time: float = attrs.field(default=30.0, converter=_to_time, validator=between(1, 3_600, _TIME))
    rate: int = attrs.field(default=1 << 10, converter=_to_rate, validator=between(1, 1 << 20, _RATE))
    unread: int = attrs.field(default=64 << 20, converter=_to_held, validator=between(1 << 20, 1 << 40, _HELD))


class Peers:
    """Who is connected: how many connections each address has, and how many unread bytes."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.count = 0
        self._connections: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Counts one more connection, and returns whether there is room for it. address: empty where there is none."""
        self.count += 1
        if address:
            self._connections[address] += 1
        return self.count <= self.bounds.most and self._connections[address] <= self.bounds.of_address

    def leave(self, address: str) -> None:
        """Counts one connection less."""
        self.count -= 1
        self._less(self._connections, address, 1)

    def hold(self, address: str, change: int) -> bool:
        """Counts unread bytes, more or fewer, and returns whether there is room for them."""
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
