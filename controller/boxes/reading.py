"""Reads a record, from its beginning to its end."""

import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import attrs

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.boxes.box import BoxResult
from proxybox.controller.boxes.runsasdata import MOST_CONTENT, run_of_data
from proxybox.controller.errors import RecordError
from proxybox.controller.record import calls, events
from proxybox.controller.record.decoding import Decoder
from proxybox.controller.record.exactness import Inexact, read_inexact
from proxybox.controller.record.format import FrameKind, frames

#: The most signatures of a record, and bytes of one.
_MOST_SIGNATURES, _LONGEST_SIGNATURE = 64, 64 << 10


@attrs.define(eq=False)
class RecordReader:
    """A record, from its beginning to its end, once.

    start: the content of START. run: how the run has ended, when all events were read; None in a record that was cut
    off. inexact: where exact replay ends, as the record says at its end. chain: the hash of everything that was read
    (format.py).
    """

    start: dict[str, Any]
    rows: dict[int, calls.CallForm]
    decoder: Decoder
    _frames: Iterator[Any]
    run: BoxResult | None = None
    inexact: Inexact | None = None
    end: dict[str, Any] | None = None
    chain: bytes = b""
    _ends_at: int = 0
    _file: BinaryIO | None = None
    signatures: list[tuple[bytes, dict[str, Any]]] = attrs.field(factory=list)

    @classmethod
    def open(cls, file: BinaryIO) -> "RecordReader":
        """Begins to read a record. Raises RecordError."""
        rest = frames(file)
        first = next(rest, None)
        if first is None or first.kind != FrameKind.START:
            raise RecordError("the record ends before it tells what was run")
        start = _json(first.data)
        made = cls(start, calls.read_table(start.get("calls")), Decoder(), rest, chain=first.chain)
        made._file = file
        return made

    def events(self) -> Iterator[events.Event]:
        """Yields all events. After the last one, `run` is set, unless the record was cut off. Raises RecordError."""
        pieces: list[bytes] = []
        size = 0
        for frame in self._frames:
            if self.end is not None and frame.kind != FrameKind.SIGNATURE:
                raise RecordError("something follows the end of the record")
            before, self.chain = self.chain, frame.chain
            if frame.kind == FrameKind.EVENTS:
                yield from self.decoder.events(frame.data)
            elif frame.kind == FrameKind.CONTENT:
                size += len(frame.data)
                if size > MOST_CONTENT:
                    raise RecordError("the contents of the record are larger than any record's")
                pieces.append(frame.data)
            elif frame.kind == FrameKind.END:
                self.end = _json(frame.data)
                self.run, self.inexact = run_of_data(self.end, iter(pieces)), read_inexact(self.end.get("inexact"))
                pieces.clear()
            elif frame.kind == FrameKind.SIGNATURE:
                if len(self.signatures) >= _MOST_SIGNATURES or len(frame.data) > _LONGEST_SIGNATURE:
                    raise RecordError("a signature that is too long, or one too many")
                self.signatures.append((before, _json(frame.data)))
            self._ends_at = frame.ends_at
        if self.end is not None and self._file is not None and self._file.seek(0, os.SEEK_END) != self._ends_at:
            raise RecordError("bytes that are no frame follow the end of the record")


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RecordError("a part of the record is no JSON object")
    return value
