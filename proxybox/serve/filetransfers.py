"""Files of sessions on their way, as a worker sees them: each is in a file without a name, and never whole in memory.

What comes is written to the session when it is whole, and what goes is what the file was at one moment: so neither the
session waits for a slow client, nor has a client half of one file and half of another.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import IO, Any, Final, TypeVar

from proxybox import commands
from proxybox.controller.boxes.boxfiles import PIECE
from proxybox.errors import SessionBusy
from proxybox.serve.wire import Kind, Part, packed
from proxybox.session import Session

#: Seconds for which a file that comes waits for the end of a call, before and after, and between two tries.
_PATIENCE: Final = 30.0
_RHYTHM: Final = 0.02
#: Bytes of the longest message of the service: a piece of a body.
_MOST: Final = 16 << 20

T = TypeVar("T")
Give = Callable[[bytes, bytes], None]


class GivenUp(Exception):
    """The service has nothing more to give: its client has gone away, or sent too much."""


def receive(session: Session, asked: Mapping[str, Any], line: Connection, give: Give) -> None:
    """Takes a file and writes it into a session. asked: path, size (0 where nobody knows), parents.

    It is refused before any of it comes where there is no room. Raises OSError and GivenUp.
    """
    path, size, parents = asked["path"], asked["size"], bool(asked.get("parents"))
    room = _when_at_rest(lambda: session._at_rest(commands.rooming(path, size, parents)))
    with tempfile.TemporaryFile() as file:
        give(Kind.READY, packed({"room": room}))
        for piece in _parts(line):
            file.write(piece)
        size = file.tell()
        _when_at_rest(lambda: session._at_rest(commands.writing_pieces(path, _pieces(file, 0, size), size, parents)))


def send(session: Session, asked: Mapping[str, Any], line: Connection, give: Give) -> None:
    """Hands over a part of a file, which the service names when it knows the file's size and its SHA-256.

    asked: path, limit (bytes of the file). Raises OSError and GivenUp.
    """
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as file:

        def take(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        session._at_rest(commands.copying(asked["path"], asked["limit"], take))
        give(Kind.READY, packed({"size": file.tell(), "digest": digest.hexdigest()}))
        part = json.loads(b"".join(_parts(line)))
        for piece in _pieces(file, part["from"], part["to"]):
            give(Kind.DATA, piece)


def _parts(line: Connection) -> Iterator[bytes]:
    while True:
        part = line.recv_bytes(_MOST)
        if part[:1] == Part.GIVEN_UP:
            raise GivenUp
        if part[:1] == Part.END:
            return
        yield part[1:]


def _pieces(file: IO[bytes], begin: int, end: int) -> Iterator[bytes]:
    file.seek(begin)
    while begin < end and (piece := file.read(min(PIECE, end - begin))):
        yield piece
        begin += len(piece)


def _when_at_rest(work: Callable[[], T]) -> T:
    """Does `work` as soon as no call runs in its session. Raises SessionBusy when that takes too long."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return work()
        except SessionBusy:
            if time.monotonic() > until:
                raise
        time.sleep(_RHYTHM)
