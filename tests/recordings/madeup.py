"""Records of runs that never happened: whole files, with any calls."""

import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from proxybox.controller import abi
from proxybox.controller.boxes.runsasdata import run_as_data
from proxybox.controller.record.calls import table
from proxybox.controller.record.encoding import Encoder
from proxybox.controller.record.format import FrameKind, FrameWriter
from proxybox.controller.wire.protocol import encode_request

ADDRESS = 1 << 20


def openat(path: bytes, flags: int = 0, dirfd: int = abi.AT_FDCWD) -> bytes:
    """Returns a request to open a file."""
    return encode_request(257, (dirfd, ADDRESS, flags, 0), (path,))


def write(fd: int, data: bytes) -> bytes:
    """Returns a request to write."""
    return encode_request(1, (fd, ADDRESS, len(data)), (data,))


def made_up(
    path: Path, fill: Callable[[Encoder], Iterable[object]], *, run: Any = None, rows: Any = None, **start: Any
) -> Path:
    """Writes a record. fill: encodes events, and yields now and then. run: its result; None for a truncated record."""
    seen = {
        "guest": {"name": "pypy3.11"}, "recorded": "2026-01-01T00:00:00+00:00", "argv": ["/usr/bin/pypy3", "/box/a.py"],
        "policy": {}, "calls": table() if rows is None else rows, **start,
    }  # fmt: skip
    encoder = Encoder(0)
    with path.open("wb") as file:
        writer = FrameWriter(file)
        writer.write(FrameKind.START, json.dumps(seen).encode())
        for _ in itertools.chain(fill(encoder), (None,)):
            if encoder.size:
                writer.write(FrameKind.EVENTS, encoder.take())
        if run is not None:
            end, contents = run_as_data(run)
            if contents:
                writer.write(FrameKind.CONTENT, b"".join(contents))
            writer.write(FrameKind.END, json.dumps(end).encode())
    return path
