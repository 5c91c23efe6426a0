"""Transfers of sessions' files in a worker: each is in a file without a name, and never as a whole in memory.

A received file is written to the session when it is complete, and a sent file is a copy of one moment: the session does
not wait for a slow client, and a client does not get parts of two versions.
"""

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import IO, Final, TypeVar

from proxybox import commands
from proxybox.controller.boxes.boxfiles import PIECE
from proxybox.errors import SessionBusy
from proxybox.serve.wire import AnswerKind, InputKind, packed
from proxybox.serve.wiredata import FilePart, ReadyToGive, ReadyToTake, read
from proxybox.serve.workerjobs import FileJob, ReceiveFileJob
from proxybox.session import Session

#: Seconds for which a transfer waits for the end of a call, before and after it, and between two tries.
_PATIENCE: Final = 30.0
_RHYTHM: Final = 0.02
#: Bytes of the longest message of the service: a piece of a body.
_MOST: Final = 16 << 20

T = TypeVar("T")
Give = Callable[[bytes, bytes], None]


class GivenUp(Exception):
    """The service sends no more: its client has closed its connection, has sent too much, or is no longer allowed."""


class HostIsFull(Exception):
    """The host has no space for a file in transfer. Its session is not at fault."""


def receive(
    session: Session, command: ReceiveFileJob, line: Connection, give: Give, is_given_up: Callable[[], bool]
) -> None:
    """Receives a file and writes it into a session.

    It is refused before it is sent if there is no space. is_given_up: whether the client no longer waits for it, or is
    no longer allowed to write it. Raises OSError, GivenUp and HostIsFull.
    """
    path, size, parents = command.path, command.size, command.parents
    room = _when_at_rest(lambda: session._at_rest(commands.rooming(path, size, parents)), is_given_up)
    with tempfile.TemporaryFile(buffering=0) as file:
        give(AnswerKind.READY, packed(ReadyToTake(room=room)))
        with _parts_of(line) as parts:
            for piece in parts:
                _keep(file, piece)
        size = file.tell()
        _when_at_rest(
            lambda: session._at_rest(commands.writing_pieces(path, _pieces(file, 0, size), size, parents)), is_given_up
        )


def send(session: Session, command: FileJob, line: Connection, give: Give) -> None:
    """Sends a part of a file, which the service chooses when it knows the file's size and its SHA-256.

    Raises OSError, GivenUp and HostIsFull.
    """
    digest = hashlib.sha256()
    with tempfile.TemporaryFile(buffering=0) as file:

        def take(piece: bytes) -> None:
            digest.update(piece)
            _keep(file, piece)

        session._at_rest(commands.copying(command.path, command.limit, take))
        give(AnswerKind.READY, packed(ReadyToGive(size=file.tell(), digest=digest.hexdigest())))
        part = read(FilePart, b"".join(_parts(line)))
        for piece in _pieces(file, part.begin, part.end):
            give(AnswerKind.DATA, piece)


def _keep(file: IO[bytes], piece: bytes) -> None:
    """Writes a piece to a file without a buffer. Raises HostIsFull."""
    left = memoryview(piece)
    while left:
        try:
            left = left[file.write(left) :]
        except OSError as error:
            raise HostIsFull(f"a file on its way could not be kept: {error.strerror}") from error


@contextlib.contextmanager
def _parts_of(line: Connection) -> Iterator[Iterator[bytes]]:
    """The parts that the service sends.

    All are read, also after a failure: unread parts would be taken for the next job.
    """
    parts = _parts(line)
    try:
        yield parts
    finally:
        with contextlib.suppress(GivenUp):
            for _ in parts:
                pass


def _parts(line: Connection) -> Iterator[bytes]:
    while True:
        part = line.recv_bytes(_MOST)
        if part[:1] == InputKind.GIVEN_UP:
            raise GivenUp
        if part[:1] == InputKind.END:
            return
        yield part[1:]


def _pieces(file: IO[bytes], begin: int, end: int) -> Iterator[bytes]:
    file.seek(begin)
    while begin < end and (piece := file.read(min(PIECE, end - begin))):
        yield piece
        begin += len(piece)


def _when_at_rest(work: Callable[[], T], is_given_up: Callable[[], bool]) -> T:
    """Does `work` as soon as no call runs in its session. Raises SessionBusy when that takes too long, and GivenUp."""
    until = time.monotonic() + _PATIENCE
    while True:
        if is_given_up():
            raise GivenUp
        try:
            return work()
        except SessionBusy:
            if time.monotonic() > until:
                raise
        time.sleep(_RHYTHM)
