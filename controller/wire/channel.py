"""A pair of pipes, over which bytes are exchanged with a guest.

Everything read here is hostile. The bytes go unread to `RequestReader`, and whole frames go to the dispatcher.
"""

import contextlib
import os
from typing import TYPE_CHECKING

from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.header import REPLY
from proxybox.controller.wire.protocol import RequestReader, encode_reply

if TYPE_CHECKING:
    from proxybox.controller.effects import Reply

#: Bytes per read. Nearly all requests are shorter, and a long payload comes in a few pieces.
READ = 65536


class Channel:
    """The controller's ends of one guest thread's channel."""

    #: Whether a driver may read and write the pipe ends itself (`Serving.serve_alone`): this class does nothing else
    #: then.
    is_plain = True

    __slots__ = ("broken", "reader", "reply_fd", "request_fd", "unsent")

    def __init__(self, request_fd: int, reply_fd: int) -> None:
        self.request_fd = request_fd
        self.reply_fd = reply_fd
        self.reader = RequestReader()
        #: The rest of the one answer that the guest has not read yet, on a non-blocking channel.
        self.unsent: bytes | memoryview = b""
        #: What was wrong with a frame. After that, no request is accepted and nothing is written.
        self.broken: GuestMisbehaved | None = None

    def set_blocking(self, blocking: bool) -> None:
        """Sets whether `receive` and `write` wait; by default they do."""
        os.set_blocking(self.request_fd, blocking)
        os.set_blocking(self.reply_fd, blocking)
        if blocking:
            self.flush()

    def receive(self) -> bytes | None:
        """Returns the next frame, b"" at the end of the channel, or None when no whole frame has come.

        Where the channel is blocking, it waits for bytes. Raises GuestMisbehaved for a malformed frame, and at each
        call after that.
        """
        if self.broken is not None:
            raise self.broken
        data = self.read()
        try:
            return self.understand(data) if data else data
        except GuestMisbehaved as breach:
            self.broken = breach
            raise

    def understand(self, data: bytes) -> bytes | None:
        """Returns the frame that `data` completes, or None. Raises GuestMisbehaved."""
        return self.reader.receive(data)

    def read(self) -> bytes | None:
        """Returns the bytes that have come, b"" at the end of the channel, or None where nothing has come.

        Where the channel is blocking, it waits.
        """
        try:
            return os.read(self.request_fd, READ)
        except BlockingIOError:
            return None

    def send(self, reply: "Reply") -> None:
        """Answers the outstanding call. A guest that has ended is no error: `receive` notices it."""
        self.write(REPLY.pack(16, 0, reply) if reply.__class__ is int else encode_reply(reply[0], reply[1:]))  # type: ignore[index]

    def write(self, data: bytes | memoryview) -> None:
        """Writes all bytes. A non-blocking channel writes as many as the pipe takes, and `flush` writes the rest.

        A guest that has ended is no error.
        """
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
        """Writes as much of the unsent bytes as the pipe takes."""
        if self.unsent:
            data, self.unsent = self.unsent, b""
            self.write(data)

    def close(self) -> None:
        """Closes both ends."""
        for fd in (self.request_fd, self.reply_fd):
            os.close(fd)
