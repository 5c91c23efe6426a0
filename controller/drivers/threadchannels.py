"""The channels of a guest that is served. Each channel carries the calls of one thread."""

from collections.abc import Iterable

import attrs

from proxybox.controller.effects import Blocked
from proxybox.controller.wire.channel import Channel
from proxybox.controller.world.state import GuestThread


@attrs.define(eq=False)
class ThreadChannel:
    """A channel and its thread.

    thread: None where the thread has ended and no other uses the channel. blocked: the wait of the thread's call; None
    where no call waits.
    """

    channel: Channel
    thread: GuestThread | None = None
    blocked: Blocked | None = None


def any_waits(lines: Iterable[ThreadChannel]) -> bool:
    """Whether any of the channels has a call that waits."""
    return any(line.blocked is not None for line in lines)
