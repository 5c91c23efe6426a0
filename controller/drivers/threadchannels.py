"""The channels of a guest that is served: each has a thread, whose call it brings."""

from collections.abc import Iterable

import attrs

from proxybox.controller.effects import Blocked
from proxybox.controller.wire.channel import Channel
from proxybox.controller.world.state import GuestThread


@attrs.define(eq=False)
class ThreadChannel:
    """A channel and its thread.

    thread: None where the last one has ended and no other has taken its place. blocked: what the thread's call waits
    for; None where no call waits.
    """

    channel: Channel
    thread: GuestThread | None = None
    blocked: Blocked | None = None


def any_waits(lines: Iterable[ThreadChannel]) -> bool:
    """Whether a call waits for something."""
    return any(line.blocked is not None for line in lines)
