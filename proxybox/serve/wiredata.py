"""What crosses between the service and a worker besides events (streamevents.py) and results, which clients get.

`packed` (wire.py) makes JSON of each; `read` makes an object of it again, and takes nothing of another form: a worker
serves hostile guests.
"""

import json
from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeVar

import attrs
from attrs.validators import instance_of, optional

from proxybox.jsonvalues import JSONObject

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class JobOrder:
    """An order about a job that runs. job: its number. text: a piece of input; an empty one is its end."""

    job: int
    do: Literal["cancel", "interrupt", "input"]
    text: str = ""


@attrs.frozen(kw_only=True)
class RequestFault:
    """Where what was asked for makes no sense, and why."""

    loc: list[str | int] = attrs.field(validator=instance_of(list))
    msg: str = attrs.field(validator=instance_of(str))


def _faults(data: Sequence[RequestFault | JSONObject]) -> list[RequestFault]:
    return [each if isinstance(each, RequestFault) else RequestFault(**each) for each in data]


@attrs.frozen(kw_only=True)
class JobFailure:
    """Why a job has no result. type: the kind of a problem, with underscores. errno: its name, of a file's error.

    result: of a command that has failed in the program.
    """

    type: str = attrs.field(validator=instance_of(str))
    message: str = attrs.field(validator=instance_of(str))
    errors: list[RequestFault] = attrs.field(factory=list, converter=_faults)
    errno: str = attrs.field(default="", validator=instance_of(str))
    result: JSONObject | None = attrs.field(default=None, validator=optional(instance_of(dict)))


@attrs.frozen(kw_only=True)
class ReadyToTake:
    """A job is ready to take a file. room: bytes that it may have."""

    room: int = attrs.field(validator=instance_of(int))


@attrs.frozen(kw_only=True)
class ReadyToGive:
    """A job is ready to hand over a file, or a part of it. digest: its SHA-256, in hexadecimal digits."""

    size: int = attrs.field(validator=instance_of(int))
    digest: str = attrs.field(validator=instance_of(str))


Ready: TypeAlias = ReadyToTake | ReadyToGive


@attrs.frozen(kw_only=True)
class FilePart:
    """The part of a file that the service wants: from where, to where."""

    begin: int
    end: int


@attrs.frozen(kw_only=True)
class PoolState:
    """How many boxes of a pool stand ready, and how many may."""

    policy: str
    language: str
    ready: int
    size: int


def _pools(data: Sequence[PoolState | JSONObject]) -> list[PoolState]:
    return [each if isinstance(each, PoolState) else PoolState(**each) for each in data]


@attrs.frozen(kw_only=True)
class WorkerState:
    """What a worker says of itself."""

    pid: int = attrs.field(validator=instance_of(int))
    pools: list[PoolState] = attrs.field(converter=_pools)
    sessions: int = attrs.field(validator=instance_of(int))


def read(kind: type[T], data: bytes) -> T:
    """Returns an object of a class that JSON stands for. Raises ValueError for what has another form."""
    try:
        return kind(**json.loads(data))
    except TypeError as error:
        raise ValueError(str(error)) from None


def read_ready(data: bytes) -> Ready:
    """Returns which way a job is ready for a file. Raises ValueError."""
    return read(ReadyToTake, data) if b'"room"' in data else read(ReadyToGive, data)
