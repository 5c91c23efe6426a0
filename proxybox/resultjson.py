"""A `Result` as JSON, and read from JSON: each key is declared here once.

    KEYS           of `Result.to_dict`, and with it of `proxybox run --json`
    SERVED_KEYS    which a service adds for a run
    RECORD_KEYS    for a run that was recorded

OpenAPI's description of a service's answer comes from the types here (serve/models.py), and a client's Result by `read`
(remote/answers.py). A new field of `Result` gets one row here, or its name is added to BESIDE.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, TypeVar

import attrs

from proxybox.controller.audit import Denial
from proxybox.controller.boxes.box import Usage
from proxybox.controller.record.exactness import Inexact, as_data, read_inexact
from proxybox.controller.status import GuestError, Status
from proxybox.controller.vfs.host.attributes import texts
from proxybox.controller.vfs.overlay.changes import Change
from proxybox.explanations import Explanation
from proxybox.jsonvalues import from_json, to_json

T = TypeVar("T")


@attrs.frozen
class JsonKey:
    """One key of the JSON of a Result.

    type: its type in OpenAPI. write: makes its value from a Result. field: the field of Result that is read from it;
    empty if other keys contain the same. read: makes the value of this field.
    """

    name: str
    type: Any
    write: Callable[[Any], Any]
    field: str = ""
    read: Callable[[Any], Any] = lambda value: value


#: The metadata of a field that is not always sent, and is None then.
SOMETIMES: Final = MappingProxyType({"sometimes": True})


@attrs.frozen
class CountedDenial(Denial):
    """A call that was refused, why, and how often."""

    count: int


@attrs.frozen(kw_only=True)
class ChangedFile:
    """A file that has changed. text or base64: its content, if the caller wants it.

    attributes: a text for each extended attribute that a commit sets on it, including ACLs.
    """

    path: str
    kind: str
    type: str
    mode: int
    attributes: list[str] | None = attrs.field(default=None, metadata=SOMETIMES)
    size: int | None = attrs.field(default=None, metadata=SOMETIMES)
    text: str | None = attrs.field(default=None, metadata=SOMETIMES)
    base64: str | None = attrs.field(default=None, metadata=SOMETIMES)


@attrs.frozen
class InBase64:
    """Bytes, in base64 (RFC 4648)."""

    base64: str


def _same(name: str, kind: Any) -> JsonKey:
    """Makes a key whose value is the same in JSON and in the Result."""
    return JsonKey(name, kind, attrgetter(name), name)


def known(kind: type[T], data: Mapping[str, Any]) -> T:
    """Makes an object of an attrs class from the keys that are its fields. A later service may send more keys."""
    names = [field.name for field in attrs.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: data[name] for name in names if name in data})


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _denials(result: Any) -> list[dict[str, Any]]:
    return [{**attrs.asdict(denial), "count": count} for denial, count in result.denials.items()]


def _value(result: Any) -> Any:
    try:
        return to_json(result.value)
    except (TypeError, ValueError):
        return None


def _change(change: Change) -> dict[str, Any]:
    item: dict[str, Any] = {"path": change.name, "kind": change.kind, "type": change.type, "mode": change.mode}
    if change.attributes:
        item["attributes"] = texts(change.attributes)
    if change.content is not None:
        item["size"] = len(change.content)
        try:
            item["text"] = change.content.decode()
        except UnicodeDecodeError:
            item["text"] = None
    return item


def _read_change(entry: Mapping[str, Any]) -> Change:
    text, encoded = entry.get("text"), entry.get("base64")
    return Change(
        name=entry["path"], path=entry["path"].encode("utf-8", "surrogateescape"), kind=entry["kind"],
        type=entry["type"], mode=entry["mode"],
        content=_bytes(text) if text is not None else None if encoded is None else base64.b64decode(encoded),
    )  # fmt: skip


KEYS: Final = (
    JsonKey("status", str, lambda result: result.status.value, "status", Status),
    _same("exit_code", int | None),
    _same("signal", int | None),
    _same("why", str),
    JsonKey("stdout", str, attrgetter("stdout"), "stdout_bytes", _bytes),
    JsonKey("stderr", str, attrgetter("stderr"), "stderr_bytes", _bytes),
    _same("truncated", bool),
    JsonKey(
        "error", GuestError | None,
        lambda result: None if result.error is None else attrs.asdict(result.error),
        "error", lambda data: None if data is None else known(GuestError, data),
    ),
    JsonKey("hint", str, attrgetter("hint")),
    JsonKey(
        "explanations", list[Explanation], lambda result: [attrs.asdict(each) for each in result.explanations],
        "explanations", lambda data: tuple(known(Explanation, each) for each in data),
    ),
    JsonKey("usage", Usage, lambda result: attrs.asdict(result.usage), "usage", lambda data: known(Usage, data)),
    JsonKey(
        "files", list[ChangedFile], lambda result: [_change(each) for each in result.files.changes],
        "files", lambda data: tuple(map(_read_change, data)),
    ),
    JsonKey(
        "denials", list[CountedDenial], _denials,
        "denials", lambda data: {known(Denial, each): each["count"] for each in data},
    ),
    JsonKey("left_open", list[str], lambda result: list(result.left_open), "left_open", tuple),
    JsonKey(
        "unknown_calls", dict[str, int],
        lambda result: {str(number): count for number, count in result.unknown_calls.items()},
        "unknown_calls", lambda data: {int(number): count for number, count in data.items()},
    ),
    JsonKey("layers", dict[str, str], lambda result: dict(result.layers), "layers"),
)  # fmt: skip

#: `output` is None if the program printed to only one stream: it would say nothing new.
SERVED_KEYS: Final = (
    JsonKey("ok", bool, attrgetter("ok")),
    JsonKey(
        "output", list[tuple[str, str]] | None,
        lambda result: result.output if result.stdout_bytes and result.stderr_bytes else None,
    ),
    JsonKey("value", Any, _value, "value", from_json),
)  # fmt: skip

RECORD_KEYS: Final = (
    JsonKey("record", InBase64 | None, lambda result: str(result.record)),
    JsonKey("record_fault", str, attrgetter("record_fault"), "record_fault"),
    JsonKey("record_exact", bool, attrgetter("record_exact")),
    JsonKey(
        "record_inexact", Inexact | None, lambda result: as_data(result.record_inexact), "record_inexact", read_inexact
    ),
    JsonKey("record_digest", str, attrgetter("record_digest"), "record_digest"),
)

#: The fields of Result that are no keys: the path of its record, and the order of both streams (see `output`).
BESIDE: Final = frozenset({"record", "_printed", "_neutralised"})


def written(result: Any, keys: Iterable[JsonKey]) -> dict[str, Any]:
    """Returns the values of these keys of a Result."""
    return {key.name: key.write(result) for key in keys}


def fields_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the Result that a service has sent, without those of its record."""
    return {key.field: key.read(data[key.name]) for key in (*KEYS, *SERVED_KEYS) if key.field and key.name in data}
