"""A pipe pair: the only place where bytes are exchanged with a guest.

Everything read here is hostile. It goes to `RequestReader` unseen, and a frame to the dispatcher.
"""

import contextlib
import os
from typing import TYPE_CHECKING

from proxybox.controller.protocol import REPLY, RequestReader, encode_reply

if TYPE_CHECKING:
    from proxybox.controller.effects import Blocked, Reply
    from proxybox.controller.world import GuestThread

#: Bytes per read: nearly all requests are shorter, and a payload comes in few pieces.
READ = 65536


class Channel:
    """The controller's ends of one guest thread's channel."""

    __slots__ = ("blocked", "reader", "reply_fd", "request_fd", "thread")

    def __init__(self, request_fd: int, reply_fd: int) -> None:
        self.request_fd = request_fd
        self.reply_fd = reply_fd
        self.reader = RequestReader()
        self.thread: GuestThread | None = None
        self.blocked: Blocked | None = None

    def receive(self) -> bytes | None:
        """The next frame, b"" at the end of the channel, None when only a part of a frame came. Waits for bytes."""
        data = os.read(self.request_fd, READ)
        if not data:
            return data
        return self.reader.receive(data)

    def send(self, reply: "Reply") -> None:
        """Answers the outstanding call. A guest that has gone is not an error: its end is seen by `receive`."""
        self.write(REPLY.pack(16, 0, reply) if reply.__class__ is int else encode_reply(reply[0], reply[1:]))  # type: ignore[index]

    def write(self, data: bytes) -> None:
        """All of the bytes, to whoever still reads."""
        with contextlib.suppress(BrokenPipeError):
            written = os.write(self.reply_fd, data)
            while written < len(data):
                data = data[written:]
                written = os.write(self.reply_fd, data)

    def close(self) -> None:
        """Closes both ends."""
        for fd in (self.request_fd, self.reply_fd):
            os.close(fd)
