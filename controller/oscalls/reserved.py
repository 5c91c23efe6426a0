"""The call that Linux does not have: a warm guest's messages to its caller (exchange/port.py)."""

import errno
from typing import Annotated

from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.roles import Addr, Buffer, Size
from proxybox.controller.world.state import GuestThread, World


@oscall(511, effect=CallEffect.CALLER)
def exchange(
    world: World, thread: GuestThread, message: Annotated[bytes, Buffer("size")], size: Size, answer: Addr, room: Size
) -> Reply:
    """Sends a message to the caller, and stores the caller's answer at `answer`, as far as there is room.

    Raises OSError (ENOSYS) in boxes that have no such caller.
    """
    if world.port is None:
        raise OSError(errno.ENOSYS, "there is nobody to talk to")
    return world.port.exchange(thread.channel, message, answer, room)
