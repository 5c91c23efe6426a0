"""Records that were changed by somebody who knows the format: whole again, with a chain that holds."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxybox.controller.record.format import FrameKind, FrameWriter, RecordFrame, frames


def frames_of(path: Path) -> list[RecordFrame]:
    """The frames of a record."""
    with path.open("rb") as file:
        return list(frames(file))


def written(path: Path, changed: list[tuple[int, bytes]]) -> Path:
    """Writes a record of these frames, whose chain holds."""
    with path.open("wb") as file:
        writer = FrameWriter(file)
        for kind, data in changed:
            writer.write(FrameKind(kind), data)
    return path


def changed(path: Path, kind: FrameKind, change: Callable[[bytes], bytes]) -> Path:
    """Changes all frames of one kind."""
    found = [(each.kind, change(each.data) if each.kind == kind else each.data) for each in frames_of(path)]
    return written(path, found)


def with_start(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Changes what START tells; the function changes the dict in place."""

    def change_json(data: bytes) -> bytes:
        seen = json.loads(data)
        change(seen)
        return json.dumps(seen).encode()

    return changed(path, FrameKind.START, change_json)


def read_whole(data: bytes) -> list[RecordFrame]:
    """All frames of a record's bytes."""
    return list(frames(io.BytesIO(data)))
