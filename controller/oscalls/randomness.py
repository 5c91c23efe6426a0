"""Random bytes from the policy's source."""

import errno

from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.header import MAX_PAYLOAD
from proxybox.controller.roles import Addr, Size, UInt
from proxybox.controller.world.state import World

_GRND_FLAGS = 1 | 2 | 4  # NONBLOCK, RANDOM, INSECURE
_GRND_RANDOM_INSECURE = 2 | 4


@oscall(318, effect=CallEffect.RANDOMNESS)
def getrandom(world: World, buf: Addr, count: Size, flags: UInt) -> Reply:
    """getrandom(2): random bytes, at most 1 MiB at once."""
    if flags & ~_GRND_FLAGS or flags & _GRND_RANDOM_INSECURE == _GRND_RANDOM_INSECURE:
        raise OSError(errno.EINVAL, "unknown flags")
    data = world.randomness.give(min(count, MAX_PAYLOAD))
    return (len(data), (buf, data)) if data else 0
