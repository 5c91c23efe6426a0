"""Converts a Run to JSON and contents, which are at the end of a record, and back."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from proxybox.controller.audit import Denial
from proxybox.controller.boxes.box import BoxResult, Usage
from proxybox.controller.boxes.worldbuilding import Changed
from proxybox.controller.drivers.blocking import Outcome
from proxybox.controller.errors import RecordError
from proxybox.controller.status import Status
from proxybox.controller.vfs.overlay.changes import Change
from proxybox.controller.world.output import Interleaved

#: The most bytes of all contents that END names.
MOST_CONTENT: Final = 512 << 20
#: The most bytes of the list of changed files, and the most values in it: each value takes 100 bytes of memory.
_MOST_LIST, _MOST_VALUES = 128 << 20, 2 << 20


def run_as_data(run: BoxResult) -> tuple[dict[str, Any], list[bytes]]:
    """Returns a Run as data for JSON, and the contents that it names, in order."""
    contents: list[bytes] = []

    def number(data: bytes | None) -> int | None:
        if data is None:
            return None
        contents.append(data)
        return len(contents) - 1

    printed = [number(run.output.stdout), number(run.output.stderr)]
    end = {
        "outcome": {**attrs.asdict(run.outcome), "status": run.outcome.status and str(run.outcome.status)},
        "stdout": printed[0],  # earlier versions read these
        "stderr": printed[1],
        "turns": list(run.output.ends),
        "printed": printed,
        "truncated": run.truncated,
        "exceeded": sorted(run.exceeded),
        "out_of_memory": run.out_of_memory,
        "denials": [[*attrs.astuple(denial), count] for denial, count in run.denials.items()],
        "unknown": [list(each) for each in run.unknown.items()],
        "layers": dict(run.layers),
        "usage": attrs.asdict(run.usage),
        "changes": number(json.dumps([
            [
                {
                    "name": change.name.encode("utf-8", "surrogateescape").hex(), "path": change.path.hex(),
                    "kind": change.kind, "type": change.type, "mode": change.mode, "content": number(change.content),
                    "target": number(change.target), "old": number(change.old),
                }
                for change in overlay.changes
            ]
            for overlay in run.changes
        ]).encode()),
        "left_out": [overlay.left_out for overlay in run.changes],
    }  # fmt: skip
    end["sizes"] = [len(content) for content in contents]
    return end, contents


def run_of_data(end: Any, pieces: Iterator[bytes]) -> BoxResult:
    """Returns the Run of the data in END. Raises RecordError for data that `run_as_data` does not make."""
    try:
        sizes = [int(size) for size in end["sizes"]]
        if min(sizes, default=0) < 0 or sum(sizes) > MOST_CONTENT:
            raise ValueError("contents of an impossible size")
        joined = b"".join(pieces)
        if len(joined) != sum(sizes):
            raise ValueError("contents that are not there")
        contents, at = [], 0
        for size in sizes:
            contents.append(joined[at : at + size])
            at += size
        return _run_of_data(end, lambda number: None if number is None else contents[_index(number)])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise RecordError(f"the end of the record makes no sense: {error}") from None


def _index(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError("no number of a content")
    return number


def _run_of_data(end: Any, content: Callable[[Any], Any]) -> BoxResult:
    stored = end["outcome"]
    status = None if stored["status"] is None else Status(stored["status"])
    usage, printed, told_changes = end["usage"], end["printed"], _listed(content(end["changes"]))
    fields = {each.name for each in attrs.fields(Usage)}
    changed = [
        Changed(None, False, tuple(_change(each, content) for each in overlay), int(left_out))
        for overlay, left_out in zip(told_changes, end["left_out"], strict=True)
    ]
    return BoxResult(
        outcome=Outcome(_number(stored["exit_code"]), _number(stored["signal"]), status, str(stored["why"])),
        output=Interleaved(content(printed[0]), content(printed[1]), [int(each) for each in end["turns"]]),
        truncated=bool(end["truncated"]),
        exceeded=frozenset(map(str, end["exceeded"])),
        out_of_memory=bool(end["out_of_memory"]),
        changes=tuple(changed),
        denials={Denial(str(call), str(number), str(why)): int(count) for call, number, why, count in end["denials"]},
        unknown={int(number): int(count) for number, count in end["unknown"]},
        layers={str(name): str(state) for name, state in end["layers"].items()},
        usage=Usage(**{name: _amount(name, value) for name, value in usage.items() if name in fields}),
    )


def _listed(data: bytes) -> Any:
    """Returns the list of changed files. Its size is checked here, because it may have been compressed to much less."""
    if len(data) > _MOST_LIST or sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise ValueError("more changed files than are read")
    return json.loads(data)


def _amount(name: str, value: Any) -> Any:
    if value is None and name == "memory":
        return None
    if type(value) not in (int, float) or not abs(value) < 1 << 63:
        raise ValueError(f"no amount of {name}")
    return value


def _number(value: Any) -> int | None:
    if value is not None and type(value) is not int:
        raise TypeError("no number")
    return value


def _change(stored: Any, content: Callable[[Any], Any]) -> Change:
    return Change(
        name=bytes.fromhex(stored["name"]).decode("utf-8", "surrogateescape"), path=bytes.fromhex(stored["path"]),
        kind=str(stored["kind"]), type=str(stored["type"]), mode=int(stored["mode"]),
        content=content(stored["content"]), target=content(stored["target"]), old=content(stored["old"]),
    )  # fmt: skip
