"""Records that were changed by somebody who knows the format: complete, with a valid hash chain."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxybox.controller.record.format import FrameKind, FrameWriter, RecordFrame, frames


def frames_of(path: Path) -> list[RecordFrame]:
    """Returns the frames of a record."""
    with path.open("rb") as file:
        return list(frames(file))


def written(path: Path, changed: list[tuple[int, bytes]]) -> Path:
    """Writes a record of these frames, with a valid hash chain."""
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
    """Changes the content of START. change: changes the dict in place."""

    def change_json(data: bytes) -> bytes:
        seen = json.loads(data)
        change(seen)
        return json.dumps(seen).encode()

    return changed(path, FrameKind.START, change_json)


def read_whole(data: bytes) -> list[RecordFrame]:
    """Returns all frames in a record's bytes."""
    return list(frames(io.BytesIO(data)))
