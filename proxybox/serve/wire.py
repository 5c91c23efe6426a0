"""The messages between the service and its worker processes.

    service ── a control socket, and a socket for each job that may run at once ── worker process

A message is one frame of multiprocessing.Connection: its size as a 32-bit big-endian number, then so many bytes. The
service sends JSON. A worker answers a job with messages that have a byte of `AnswerKind`, followed by JSON or by bytes
of a file; the last one is a result or a failure.

A job that takes a file sends a message that it is ready. The service then sends it messages that begin with a byte of
`InputKind`.

Rule: nothing here is pickled. A worker serves hostile guests, and the service, which has the keys, does not let it do
more than answer.
"""

import asyncio
import errno
import json
import os
import socket
import struct
from typing import Any, Final

import attrs

_SIZE: Final = struct.Struct("!i")
#: The most bytes of one message: a result with its files.
MOST: Final = 256 << 20


class AnswerKind:
    """The first byte of an answer: an event, readiness for a file, a piece of a file, the result, the failure."""

    EVENT: Final = b"e"
    READY: Final = b"y"
    DATA: Final = b"d"
    RESULT: Final = b"r"
    FAILURE: Final = b"x"
    #: The kinds of all answers except the last one.
    MEANWHILE: Final = frozenset({EVENT, READY, DATA})


class InputKind:
    """The first byte of a message to a running job: a piece of its input, the end, or that the rest will not come."""

    PIECE: Final = b"p"
    END: Final = b"e"
    GIVEN_UP: Final = b"x"


def packed(message: Any) -> bytes:
    """Returns a message, an object of attrs or plain data, as JSON.

    It is in ASCII: lone surrogates, which a program can print, cannot be encoded otherwise.
    """
    return json.dumps(message, separators=(",", ":"), default=attrs.asdict).encode()


def answer(kind: bytes, message: Any) -> bytes:
    """Returns an answer of a worker as bytes."""
    return kind + packed(message)


class WorkerSocket:
    """The service's end of a socket to a worker. EOFError and OSError mean that the worker has ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._expected = 0  # the size of the next message, once it has been read

    @classmethod
    async def on(cls, end: socket.socket) -> "WorkerSocket":
        """Returns the WorkerSocket on a connected socket, which it owns from now on."""
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end, limit=1 << 18))

    async def send(self, message: Any) -> None:
        """Sends one message, and waits while the socket is full."""
        self.tell(message)
        await self._writer.drain()

    def tell(self, message: Any) -> None:
        """Sends one short message without waiting."""
        self._write(packed(message))

    async def give(self, part: bytes, data: bytes = b"") -> None:
        """Sends a part of a job's input, and waits while the socket is full."""
        self._write(part + data)
        await self._writer.drain()

    def tell_part(self, part: bytes) -> None:
        """Sends a short message about the end of a job's input, without waiting."""
        self._write(part)

    def _write(self, data: bytes) -> None:
        # Once the other end is closed, written data is lost: asyncio drops it, uvloop raises RuntimeError, or reports
        # nothing until an answer is read.
        if self._writer.is_closing() or self._reader.at_eof():
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        self._writer.write(_SIZE.pack(len(data)) + data)

    async def receive(self) -> tuple[bytes, bytes]:
        """Returns the kind of the next answer and its JSON. After a cancellation it can be called again."""
        if not self._expected:
            (self._expected,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
            if not 0 < self._expected <= MOST:
                raise EOFError(f"a message of {self._expected} bytes")
        data = await self._reader.readexactly(self._expected)
        self._expected = 0
        return data[:1], data[1:]

    def close(self) -> None:
        """Closes the socket."""
        self._writer.close()
