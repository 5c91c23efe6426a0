"""Data between the service and a worker, except jobs and their answers (workerjobs.py, workeranswers.py), and events.

`packed` (wire.py) encodes each as JSON; `read` decodes it, and refuses data of another form, because a worker serves
hostile guests. The annotations of a class define its form: nothing is converted, and no further key is allowed.
"""

import json
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import attrs
from attrs.validators import ge, matches_re
from cattrs import Converter, transform_error

from proxybox.controller.status import Status
from proxybox.jsonvalues import JSONObject
from proxybox.policies.errors import shown
from proxybox.streamevents import WorkerEvent, by_tag

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class JobOrder:
    """An order about a job that runs. job: its number. text: a piece of input; an empty one is its end."""

    job: int
    do: Literal["cancel", "interrupt", "input"]
    text: str = ""


@attrs.frozen(kw_only=True)
class RequestFault:
    """A fault of a request: its place and a message."""

    loc: list[str | int]
    msg: str


#: The kinds of problems that a worker may report, with underscores.
FailureType: TypeAlias = Literal[
    "invalid", "session_ended", "session_busy", "cannot_copy", "execution_error", "cannot_start", "file_error",
    "internal_error",
]  # fmt: skip


@attrs.frozen(kw_only=True)
class JobFailure:
    """Why a job has no result. errno: the name of a file's error.

    result: of a command that has failed in the program.
    """

    type: FailureType
    message: str
    errors: list[RequestFault] = attrs.field(factory=list)
    errno: str = ""
    result: JSONObject | None = None


@attrs.frozen(kw_only=True)
class ReadyToTake:
    """A job is ready to take a file. room: bytes that it may have."""

    room: int = attrs.field(validator=ge(0))


@attrs.frozen(kw_only=True)
class ReadyToGive:
    """A job is ready to send a file, or a part of it. digest: its SHA-256, in hexadecimal digits."""

    size: int = attrs.field(validator=ge(0))
    digest: str = attrs.field(validator=matches_re(r"[0-9a-f]{64}"))


Ready: TypeAlias = ReadyToTake | ReadyToGive


@attrs.frozen(kw_only=True)
class FilePart:
    """The part of a file that the service wants: its begin and end."""

    begin: int
    end: int


@attrs.frozen(kw_only=True)
class PoolState:
    """How many boxes of a pool are ready, and the most."""

    policy: str
    language: str
    ready: int
    size: int


@attrs.frozen(kw_only=True)
class WorkerState:
    """The state that a worker reports."""

    pid: int
    pools: list[PoolState]
    sessions: int


# --- reading ----------------------------------------------------------------------------------------------------------


def read(kind: type[T], data: bytes) -> T:
    """Returns an object of a class from its JSON. Raises ValueError for any other form."""
    return structured(kind, json.loads(data))


def read_worker_event(data: bytes) -> WorkerEvent:
    """Returns the event that a worker has sent. Raises ValueError."""
    event: WorkerEvent = tagged(_EVENTS, "event", json.loads(data))
    return event


_EVENTS: Final = by_tag(WorkerEvent, "event")


def tagged(kinds: Mapping[str, Any], tag: str, fields: Any) -> Any:
    """Returns an object of the class that the field `tag` names. Raises ValueError, as `structured`."""
    name = fields.get(tag) if isinstance(fields, dict) else None
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(f"{tag}: want one of {', '.join(kinds)}, got {shown(name)}")
    return structured(kinds[name], fields)


def structured(kind: type[T], fields: Any) -> T:
    """Returns an object of a class from the JSON of its fields. Raises ValueError, which names the fields at fault."""
    try:
        return _strict.structure(_of(dict, fields), kind)
    except RecursionError:
        raise
    except Exception as error:
        raise ValueError(f"{kind.__name__}: {'; '.join(transform_error(error))}") from None


def _of(kind: type[Any], value: Any) -> Any:
    if type(value) is not kind and (kind is not float or type(value) is not int):
        raise ValueError(f"want {kind.__name__}, got {shown(value)}")
    return value


def _reader_of_list(kind: Any) -> Callable[[Any, Any], Any]:
    (each,) = get_args(kind)
    return lambda value, _: [_strict.structure(item, each) for item in _of(list, value)]


def _reader_of_dict(kind: Any) -> Callable[[Any, Any], Any]:
    _, each = get_args(kind)
    return lambda value, _: {name: _strict.structure(item, each) for name, item in _of(dict, value).items()}


def _reader_of_tuple(kind: Any) -> Callable[[Any, Any], Any]:
    kinds = get_args(kind)
    return lambda value, _: tuple(map(_strict.structure, _of_length(len(kinds), value), kinds))


def _of_length(length: int, value: Any) -> list[Any]:
    items: list[Any] = _of(list, value)
    if len(items) != length:
        raise ValueError(f"want {length} items, got {len(items)}")
    return items


def _reader_of_union(kind: Any) -> Callable[[Any, Any], Any]:
    def read(value: Any, _: Any) -> Any:
        if value is None and NoneType in get_args(kind):  # without the exceptions of the others, which take time
            return None
        for each in get_args(kind):
            try:
                return _strict.structure(value, each)
            except Exception:  # noqa: S112 - it is of another kind
                continue
        raise ValueError(f"want {kind}, got {shown(value)}")

    return read


def _is(*origins: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) in origins


_strict: Final = Converter(forbid_extra_keys=True)
for _kind in (str, int, float, bool, NoneType):
    _strict.register_structure_hook(_kind, lambda value, kind: _of(kind, value))
_strict.register_structure_hook(Status, lambda value, _: Status(_of(str, value)))
_strict.register_structure_hook_factory(_is(tuple), _reader_of_tuple)
_strict.register_structure_hook_factory(_is(list), _reader_of_list)
_strict.register_structure_hook_factory(_is(dict), _reader_of_dict)
_strict.register_structure_hook_factory(_is(Union, UnionType), _reader_of_union)
