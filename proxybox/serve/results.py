"""Results, and the objects that programs show, as the JSON that clients get."""

import base64
from collections.abc import Collection

from proxybox.commands import Displayed
from proxybox.jsonvalues import JSONObject, to_json
from proxybox.result import Result
from proxybox.resultjson import KEYS, RECORD_KEYS, SERVED_KEYS, written
from proxybox.streamevents import DisplayEvent


def result_as_json(
    result: Result, *, contents: bool | Collection[str] = False, record: bytes | None = None
) -> JSONObject:
    """Returns a result as JSON, with the contents of all files, of none, or of the named ones.

    record: the bytes of its record; None if it was not requested.
    """
    made = written(result, (*KEYS, *SERVED_KEYS) if record is None else (*KEYS, *SERVED_KEYS, *RECORD_KEYS))
    for entry in made["files"]:
        text = entry.pop("text", None)
        wanted = contents if isinstance(contents, bool) else entry["path"] in contents
        if wanted and "size" in entry:
            if text is None:
                entry["base64"] = base64.b64encode(result.files[entry["path"]]).decode()
            else:
                entry["text"] = text
    if record is not None:
        made["record"] = {"base64": base64.b64encode(record).decode()} if record else None
    return made


def display_event(shown: Displayed) -> DisplayEvent:
    """Returns the event for an object that a program has shown; pictures in bytes become base64."""
    data = {
        kind: base64.b64encode(content).decode() if isinstance(content, bytes) else content
        for kind, content in shown.data.items()
    }
    return DisplayEvent(
        kind=shown.kind, data=to_json(data), metadata=to_json(dict(shown.metadata)), wait=shown.wait
    )  # fmt: skip
