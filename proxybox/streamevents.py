"""Events that are sent while code runs elsewhere: those of a service's streams and WebSockets, and of its workers.

Each is declared once. A worker sends its service those of `WorkerEvent` (serve/wire.py). The doors of the service pass
them on to clients, together with their own events, and add a number or an id. OpenAPI's models are made from these
classes (serve/models.py), and clients read them with `read_stream_event`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args, get_type_hints

import attrs

from proxybox.jsonvalues import JSONObject

#: The streams of a program.
Stream: TypeAlias = Literal["stdout", "stderr"]


@attrs.frozen
class TextEvent:
    """Text that the program has printed to one of its streams."""

    event: Stream
    text: str


@attrs.frozen
class InputRequestEvent:
    """The program waits for input."""

    event: Literal["input_request"] = "input_request"


@attrs.frozen(kw_only=True)
class DisplayEvent:
    """Something that the program has shown (`Displayed`), with bytes in base64. "result": the value of the code."""

    event: Literal["display", "result"] = "display"
    kind: str
    data: JSONObject
    metadata: JSONObject
    wait: bool


@attrs.frozen(kw_only=True)
class RecordPieceEvent:
    """A piece of the record of a session that has ended."""

    event: Literal["record"] = "record"
    base64: str


@attrs.frozen(kw_only=True)
class StartedEvent:
    """The first event of a stream. run: the id by which a client sends input to a run, interrupts it and ends it."""

    event: Literal["started"] = "started"
    run: str


@attrs.frozen(kw_only=True)
class ErrorEvent:
    """The exception that has ended the program, as printed, and cut if it is long. Untrusted text."""

    event: Literal["error"] = "error"
    type: str
    message: str
    traceback: str


@attrs.frozen(kw_only=True)
class FinishedEvent:
    """The last event: how the run has ended."""

    event: Literal["finished"] = "finished"
    result: JSONObject


@attrs.frozen(kw_only=True)
class FailedEvent:
    """The last event if there is no result: the reason."""

    event: Literal["failed"] = "failed"
    problem: JSONObject


@attrs.frozen(kw_only=True)
class OpenedEvent:
    """The session of a WebSocket has started."""

    event: Literal["opened"] = "opened"
    session: str


@attrs.frozen(kw_only=True)
class CallStartedEvent:
    """A call in the session of a WebSocket has begun."""

    event: Literal["started"] = "started"


@attrs.frozen(kw_only=True)
class CompletedEvent:
    """The names that can complete the word at the cursor. Untrusted text. start: where the word begins."""

    event: Literal["completed"] = "completed"
    start: int
    matches: list[str]
    alive: bool


WorkerEvent: TypeAlias = TextEvent | InputRequestEvent | DisplayEvent | ErrorEvent | RecordPieceEvent
StreamEvent: TypeAlias = (
    TextEvent | InputRequestEvent | DisplayEvent | StartedEvent | ErrorEvent | FinishedEvent | FailedEvent
)
SocketEvent: TypeAlias = (
    TextEvent | InputRequestEvent | DisplayEvent | CallStartedEvent | ErrorEvent | FinishedEvent | FailedEvent
    | OpenedEvent | CompletedEvent
)  # fmt: skip


def by_tag(union: Any, tag: str) -> Mapping[str, Any]:
    """Returns the classes of a union by the values that their field `tag` may have."""
    return {name: kind for kind in get_args(union) for name in get_args(get_type_hints(kind)[tag])}


_OF_STREAMS: Final = by_tag(StreamEvent, "event")


def as_data(event: WorkerEvent | StreamEvent | SocketEvent) -> JSONObject:
    """Returns an event as a JSON object."""
    return attrs.asdict(event, recurse=False)


def as_json(event: StreamEvent | SocketEvent, **more: Any) -> bytes:
    """Returns an event as JSON, with further keys."""
    return json.dumps({**more, **as_data(event)}).encode()


def finished_as_json(result: bytes, **more: Any) -> bytes:
    """Returns a FinishedEvent as JSON. result: is JSON, and may be large: it is passed on without being read."""
    return b'%b, "event": "finished", "result": %b}' % (json.dumps(more).encode()[:-1], result)


def for_clients(event: WorkerEvent) -> Iterator[TextEvent | InputRequestEvent | DisplayEvent | ErrorEvent]:
    """Yields the events that clients get for one event of a worker: values as results, and no pieces of records."""
    if isinstance(event, DisplayEvent) and event.kind == "value":
        yield attrs.evolve(event, event="result")
    elif not isinstance(event, RecordPieceEvent):
        yield event


def read_stream_event(data: Mapping[str, Any]) -> StreamEvent | None:
    """Returns the event that a service has sent; None for an unknown event, of a later version of the service."""
    kind = _OF_STREAMS.get(data["event"])
    if kind is None:
        return None
    names = [field.name for field in attrs.fields(kind)]
    event: StreamEvent = kind(**{name: data[name] for name in names if name in data})
    return event
