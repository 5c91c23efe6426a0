"""A pipe pair: the only place where bytes are exchanged with a guest.

Everything read here is hostile. It goes to `RequestReader` unseen, and a frame to the dispatcher.
"""

import contextlib
import os
from typing import TYPE_CHECKING

from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.header import REPLY
from proxybox.controller.wire.protocol import RequestReader, encode_reply

if TYPE_CHECKING:
    from proxybox.controller.effects import Reply

#: Bytes per read: nearly all requests are shorter, and a payload comes in few pieces.
READ = 65536


class Channel:
    """The controller's ends of one guest thread's channel."""

    #: Whether a driver may read and write it by itself (`Serving.serve_alone`).
    is_plain = True

    __slots__ = ("broken", "reader", "reply_fd", "request_fd", "unsent")

    def __init__(self, request_fd: int, reply_fd: int) -> None:
        self.request_fd = request_fd
        self.reply_fd = reply_fd
        self.reader = RequestReader()
        #: What is left of the one answer that the guest has not read, where writing does not wait.
        self.unsent: bytes | memoryview = b""
        #: What was wrong with a frame. Nothing is read or written any more then.
        self.broken: GuestMisbehaved | None = None

    def set_blocking(self, blocking: bool) -> None:
        """Whether `receive` and `write` wait, as they do at first."""
        os.set_blocking(self.request_fd, blocking)
        os.set_blocking(self.reply_fd, blocking)
        if blocking:
            self.flush()

    def receive(self) -> bytes | None:
        """The next frame, b"" at the end of the channel, None when only a part of a frame came, or nothing. Waits for
        bytes, where it is blocking. Raises GuestMisbehaved, and again each time after that."""
        if self.broken is not None:
            raise self.broken
        data = self.read()
        try:
            return self.understand(data) if data else data
        except GuestMisbehaved as breach:
            self.broken = breach
            raise

    def understand(self, data: bytes) -> bytes | None:
        """The frame that these bytes complete, or None. Raises GuestMisbehaved."""
        return self.reader.receive(data)

    def read(self) -> bytes | None:
        """What has come, b"" at the end of the channel, None where nothing has. Waits, where it is blocking."""
        try:
            return os.read(self.request_fd, READ)
        except BlockingIOError:
            return None

    def send(self, reply: "Reply") -> None:
        """Answers the outstanding call. A guest that has gone is not an error: its end is seen by `receive`."""
        self.write(REPLY.pack(16, 0, reply) if reply.__class__ is int else encode_reply(reply[0], reply[1:]))  # type: ignore[index]

    def write(self, data: bytes | memoryview) -> None:
        """All of the bytes, to whoever still reads; or what the pipe takes, and the rest by `flush`."""
        if self.broken is not None:
            return
        with contextlib.suppress(BrokenPipeError):
            try:
                written = os.write(self.reply_fd, data)
                if written < len(data):
                    data = memoryview(data)
                    while data := data[written:]:
                        written = os.write(self.reply_fd, data)
            except BlockingIOError:
                self.unsent = data

    def flush(self) -> None:
        """Goes on with what is unsent."""
        if self.unsent:
            data, self.unsent = self.unsent, b""
            self.write(data)

    def close(self) -> None:
        """Closes both ends."""
        for fd in (self.request_fd, self.reply_fd):
            os.close(fd)
