"""Results, and what programs show, as the JSON that clients get."""

import base64
from collections.abc import Collection
from typing import Any

from proxybox.commands import Displayed
from proxybox.controller.record.exactness import as_data
from proxybox.jsonvalues import to_json
from proxybox.result import Result


def result_as_json(
    result: Result, *, contents: bool | Collection[str] = False, record: bytes | None = None
) -> dict[str, Any]:
    """Returns `Result.to_dict` with the value, and with the contents of all files, of none, or of those named.

    record: the bytes of its record, where it was asked for.
    """
    made = result.to_dict()
    made["ok"] = result.ok
    made["output"] = result.output if result.stdout_bytes and result.stderr_bytes else None  # else it says nothing new
    try:
        made["value"] = to_json(result.value)
    except (TypeError, ValueError):
        made["value"] = None
    for entry in made["files"]:
        text = entry.pop("text", None)
        wanted = contents if isinstance(contents, bool) else entry["path"] in contents
        if wanted and "size" in entry:
            if text is None:
                entry["base64"] = base64.b64encode(result.files[entry["path"]]).decode()
            else:
                entry["text"] = text
    if record is not None:
        made |= {
            "record_fault": result.record_fault, "record_exact": result.record_exact,
            "record_inexact": as_data(result.record_inexact), "record_digest": result.record_digest,
        }  # fmt: skip
        made["record"] = {"base64": base64.b64encode(record).decode()} if record else None
    return made


def displayed_as_json(shown: Displayed) -> dict[str, Any]:
    """Returns what a program has shown: pictures, which may be bytes, in base64."""
    data = {
        kind: base64.b64encode(content).decode() if isinstance(content, bytes) else content
        for kind, content in shown.data.items()
    }
    return {"kind": shown.kind, "data": to_json(data), "metadata": to_json(dict(shown.metadata)), "wait": shown.wait}
