"""The bodies of our own REST interface as models of pydantic, which check them and describe them for OpenAPI."""

import base64
import binascii
import functools
import inspect
import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, create_model, model_validator

from proxybox.commands import Completeness, Completion, Displayed, Echo, Inspection
from proxybox.controller.boxes.boxfiles import FileEntry
from proxybox.policies.declaring import Measure
from proxybox.policies.keys import of_one_run
from proxybox.result import Result, Status
from proxybox.resultjson import KEYS, RECORD_KEYS, SERVED_KEYS, ChangedFile, JsonKey, written
from proxybox.serve.describing import model_of, model_of_keys
from proxybox.serve.sessionstate import SessionState
from proxybox.serve.wiredata import RequestFault
from proxybox.streamevents import DisplayEvent, FinishedEvent, StreamEvent
from proxybox.streamevents import SocketEvent as AnySocketEvent

#: A path below /box, or a name.
Path = Annotated[str, Field(min_length=1, max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Words = Annotated[list[Annotated[str, Field(max_length=1 << 17)]], Field(max_length=10_000)]
Seconds = Annotated[
    float, Field(gt=0, le=86_400, strict=True, description="Seconds of wall time, in place of the policy's limit.")
]
Count = Annotated[int, Field(strict=True)]
Size = Count | Annotated[str, Field(max_length=32)]
Duration = Annotated[float, Field(strict=True)] | Annotated[str, Field(max_length=32)]


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not base64: {error}") from None
    return text


class Strict(BaseModel):
    """A body in which an unknown field is a fault."""

    model_config = ConfigDict(extra="forbid")


class Bytes(Strict):
    """Bytes, in base64 (RFC 4648)."""

    base64: Annotated[str, AfterValidator(_base64)]


Content = str | Bytes


def _of_one_run(section: str, doc: str) -> Any:
    """Returns the model of the keys of a section that a run may tighten, made from their declarations."""
    kinds: dict[Measure, Any] = {Measure.SIZE: Size, Measure.DURATION: Duration, Measure.COUNT: Count}
    fields: dict[str, Any] = {}
    for name, key in of_one_run(section).items():
        kind = Literal[key.choices] if key.choices else kinds[key.facts.measure]
        fields[name] = (Annotated[kind | None, Field(description=key.described)], None)
    return create_model(section.title(), __base__=Strict, __doc__=doc, **fields)


if TYPE_CHECKING:
    Limits: TypeAlias = Strict
    Output: TypeAlias = Strict
else:
    Limits = _of_one_run(
        "limits", 'Limits of one run or session, none looser than the policy\'s. Sizes are bytes or such as "64M".'
    )
    Output = _of_one_run("output", "Limits of what is printed to each stream, none looser than the policy's.")


def _not_here(wanted: bool) -> bool:
    if wanted:
        raise ValueError("a record is of a whole session: ask for it when the session is started")
    return wanted


NoRecord = Annotated[
    bool, AfterValidator(_not_here), Field(description="A record is of a whole session: true is refused.")
]


class Chosen(Strict):
    """The common fields of runs and sessions."""

    policy: Name | None = Field(None, description="A policy of the service; its first one by default.")
    language: Name | None = Field(None, description="A language of the service; its first one by default.")
    limits: Limits | None = None
    output: Output | None = None
    env: Annotated[dict[Name, str], Field(max_length=256)] | None = Field(
        None, description="Environment variables. A run with some starts an interpreter of its own, which takes longer."
    )
    files: Annotated[dict[Path, Content], Field(max_length=100_000)] | None = Field(
        None, description="Files in /box: their text, or their bytes in base64."
    )
    timeout: Seconds | None = None

    def asked(self) -> dict[str, Any]:
        """Returns the fields that the client has sent, for a worker."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class RunRequest(Chosen):
    """A program to run: `code`, or `files` with the `entry` to start."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"code": "print(input())", "stdin": "6 * 7"}]},
    )

    code: Annotated[str, Field(max_length=64 << 20)] | None = None
    entry: Path | None = Field(None, description="The path of the file to run.")
    stdin: Content | None = None
    args: Words = []
    return_files: bool = Field(False, description="Whether the result has the contents of files that have changed.")
    record: bool = Field(
        False, description="Whether the result has a record of the run, if the service allows that (limits.record)."
    )
    interactive: bool = Field(
        False, description="Whether a program that reads more than `stdin` asks for it: an `input_request` event."
    )

    @model_validator(mode="after")
    def _has_a_program(self) -> "RunRequest":
        if (self.code is None) == (self.entry is None):
            raise ValueError("want either code, or files with an entry")
        if self.entry is not None and self.entry not in (self.files or {}):
            raise ValueError("entry is not among the files")
        return self


#: The forms of RunRequest in OpenAPI: a name, its required fields, and the fields of other forms.
RUN_FORMS: Final = (("RunOfCode", ("code",), ("entry",)), ("RunOfFiles", ("entry", "files"), ("code",)))


class Input(Strict):
    """A piece of standard input. An empty one is its end."""

    text: Annotated[str, Field(max_length=1 << 20)]


class SessionRequest(Chosen):
    """A session to start. `timeout` is for each of its calls."""

    record: bool = Field(
        False,
        description="Whether there is a record of the session when it has ended (GET /v1/sessions/ID/record), if the "
        "service allows that (limits.record).",
    )


class ExecuteRequest(Strict):
    """Code for a session.

    mode: "exec" for statements, "display" for those of a program that shows objects, "interactive" for statements as at
    a prompt, or "eval" for an expression.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "x = 6 * 7\nx", "mode": "interactive"}]})

    code: Annotated[str, Field(max_length=64 << 20)]
    mode: Literal["exec", "eval", "interactive", "display"] = "exec"
    name: Annotated[str, Field(max_length=256)] = Field("", description="The file name in tracebacks.")
    stdin: Content | None = None
    interactive: bool = Field(False, description="As for a run.")
    timeout: Seconds | None = None
    record: NoRecord = False

    @property
    def echo(self) -> Echo:
        """The argument `echo` of `Session.exec`."""
        return "display" if self.mode == "display" else self.mode == "interactive"


class CallRequest(Strict):
    """A call of an object in a session, by its name, which may have dots.

    Values are plain data in the form of docs/serve.md.
    """

    name: Name
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Variable(Strict):
    """The value of a variable."""

    value: Any


class CodeRequest(Strict):
    """Source text and a position in it, in characters."""

    code: Annotated[str, Field(max_length=1 << 20)]
    cursor: Annotated[int, Field(ge=0)] | None = None
    detail: Literal[0, 1] = 0


class SnapshotRequest(Strict):
    """A stored state, by its id."""

    snapshot: Name


# --- answers ----------------------------------------------------------------------------------------------------------


def _types(*keys: JsonKey) -> dict[str, Any]:
    return {key.name: key.type for key in keys}


#: `proxybox.Result` as JSON, with a field for each of its keys (resultjson.py).
RunResult = model_of_keys(
    "RunResult",
    """How a program has ended, and what it left.

    record, record_fault, record_exact, record_inexact, record_digest: where a record was asked for; it, why it is not
    complete, whether it can be replayed exactly, from where on not, and its digest.
    """,
    _types(*KEYS, *SERVED_KEYS, *RECORD_KEYS), absent=tuple(_types(*RECORD_KEYS)),
)  # fmt: skip
#: An example of a result.
RUN_RESULT: Final = written(Result(status=Status.OK, exit_code=0, stdout_bytes=b"42\n"), (*KEYS, *SERVED_KEYS))
#: The result of a call of a session.
ExecuteResult = model_of_keys(
    "ExecuteResult",
    "The result of a session's call. display: what it has shown. alive: whether the session goes on.",
    {"display": list[Displayed], "alive": bool}, base=RunResult,
)  # fmt: skip
SessionInfo = model_of(SessionState, "SessionInfo")
SessionInfos: Final[Any] = list[SessionInfo]  # type: ignore[valid-type]


SessionRecord = model_of_keys(
    "SessionRecord",
    "The record of a session that has ended, as a run's result tells of its record.",
    {key: kind for key, kind in _types(*RECORD_KEYS).items() if key != "record_exact"}, absent=("record_inexact",),
)  # fmt: skip


def _of_session(name: str, doc: str, keys: Mapping[str, Any], base: type[BaseModel] | None = None) -> type[BaseModel]:
    """Returns the model of a session's answer, which always has `alive`: whether the session still exists."""
    return model_of_keys(name, doc, {**keys, "alive": bool}, base=base)


Completions = _of_session(
    "Completions", "The names that may stand at the cursor. Untrusted text.", {}, model_of(Completion)
)
Inspected = _of_session(
    "Inspected", "What is known of an object; null when nothing is. Untrusted text.", {"found": Inspection | None}
)
WholeOrNot = _of_session(
    "WholeOrNot", "Whether statements are complete, and the next line's indent.", {}, model_of(Completeness)
)
FolderEntries = _of_session("FolderEntries", "The entries of a folder, by name.", {"entries": list[FileEntry]})
SessionChanges = _of_session(
    "SessionChanges", "The files that a session has changed, without contents.", {"files": list[ChangedFile]}
)
VariableRead = _of_session("VariableRead", "The value of a variable.", {"value": Any})


class PoliciesAndLanguages(BaseModel):
    """The names that requests may have; requests that name none get the first of each."""

    policies: list[str]
    languages: list[str]


class ProblemDetails(BaseModel):
    """Why a request was refused or failed (RFC 9457).

    errors: the faults of a request. errno: the name of a file's error. state, reason: how a session has ended. result:
    of a command that has failed in the program.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: list[model_of(RequestFault, "Fault")] | None = None  # type: ignore[valid-type]
    request_id: str | None = None
    errno: str | None = None
    state: str | None = None
    reason: str | None = None
    result: RunResult | None = None  # type: ignore[valid-type]


class Health(BaseModel):
    """Whether the service takes requests, and why not."""

    status: Literal["starting", "ready", "draining", "failed"]
    why: str
    version: str


# --- events -----------------------------------------------------------------------------------------------------------


def _event(kind: Any, name: str, more: Mapping[str, Any], result: Any, absent: tuple[str, ...] = ()) -> Any:
    """Returns the model of an event (streamevents.py), with the fields that a door adds.

    result: the model of its result.
    """
    keys = {**more, **get_type_hints(kind)}
    keys |= {key: model for key, model in (("result", result), ("problem", ProblemDetails)) if key in keys}
    return model_of_keys(name, inspect.getdoc(kind) or "", keys, absent=absent)


def _one_of(made: Iterable[Any]) -> Any:
    return Annotated[functools.reduce(operator.or_, made), Field(discriminator="event")]


_OF_RUNS: Final = {
    kind: _event(kind, kind.__name__, {"seq": int}, RunResult) for kind in get_args(StreamEvent) if kind != DisplayEvent
}
_OF_CALLS: Final = {
    **_OF_RUNS,
    FinishedEvent: _event(FinishedEvent, "ExecuteFinishedEvent", {"seq": int}, ExecuteResult),
    DisplayEvent: _event(DisplayEvent, "DisplayEvent", {"seq": int}, None),
}
_OF_SOCKETS: Final = [
    _event(kind, f"Socket{kind.__name__}", {"id": str}, ExecuteResult, ("id",)) for kind in get_args(AnySocketEvent)
]


class RunEvent(RootModel[_one_of(_OF_RUNS.values())]):  # type: ignore[misc]
    """An event of a run. seq: the number of the event, from 0 on."""


class ExecuteEvent(RootModel[_one_of(_OF_CALLS.values())]):  # type: ignore[misc]
    """An event of a call of a session. seq: the number of the event, from 0 on."""


class SocketEvent(RootModel[_one_of(_OF_SOCKETS)]):  # type: ignore[misc]
    """An event of a WebSocket. id: that of the message which it answers."""
