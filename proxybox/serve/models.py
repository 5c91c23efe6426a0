"""The bodies of our own REST interface, as pydantic has them: what is checked, and what OpenAPI tells."""

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from proxybox.commands import Echo

#: A path below /box, or a name.
Path = Annotated[str, Field(min_length=1, max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Words = Annotated[list[Annotated[str, Field(max_length=1 << 17)]], Field(max_length=10_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400, description="Seconds of wall time, in place of the policy's limit.")]
Size = int | Annotated[str, Field(max_length=32)]
Duration = float | Annotated[str, Field(max_length=32)]


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not base64: {error}") from None
    return text


class Strict(BaseModel):
    """A body in which a field that does not exist is a fault."""

    model_config = ConfigDict(extra="forbid")


class Bytes(Strict):
    """Bytes, in base64 (RFC 4648)."""

    base64: Annotated[str, AfterValidator(_base64)]


Content = str | Bytes


class Limits(Strict):
    """Limits of one run or session, none looser than the policy's. Sizes are bytes or such as "64M"."""

    wall_time: Duration | None = None
    cpu_time: Duration | None = None
    memory: Size | None = None
    disk: Size | None = None
    files: int | None = None
    open_files: int | None = None
    threads: int | None = None
    calls: int | None = None


class Output(Strict):
    """Limits of what is printed to each stream, none looser than the policy's."""

    limit: Size | None = None
    lines: int | None = None


def _not_here(wanted: bool) -> bool:
    if wanted:
        raise ValueError("a record is of a whole session: ask for it when the session is started")
    return wanted


NoRecord = Annotated[
    bool, AfterValidator(_not_here), Field(description="A record is of a whole session: true is refused.")
]


class Chosen(Strict):
    """What runs and sessions have in common."""

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
        """Returns what a worker is asked: the fields that were given."""
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

    mode: statements ("exec"), those of a program that shows something ("display"), as at a prompt ("interactive"), or
    an expression ("eval").
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
        """As `Session.exec` wants it."""
        return "display" if self.mode == "display" else self.mode == "interactive"


class CallRequest(Strict):
    """A call of something in a session, by its name with dots. Values are plain data, written as docs/serve.md says."""

    name: Name
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Variable(Strict):
    """The value of a variable."""

    value: Any


class VariableRead(Variable):
    """The value of a variable, and whether the session still lives."""

    alive: bool


class CodeRequest(Strict):
    """Source text and a place in it, in characters."""

    code: Annotated[str, Field(max_length=1 << 20)]
    cursor: Annotated[int, Field(ge=0)] | None = None
    detail: Literal[0, 1] = 0


class SnapshotRequest(Strict):
    """A kept state, by its id."""

    snapshot: Name


# --- answers ----------------------------------------------------------------------------------------------------------


class Usage(BaseModel):
    """What a run has cost: seconds, bytes and counts (docs/api.md)."""

    queue: float
    start: float
    wall: float
    cpu: float
    controller: float
    calls: int
    memory: int | None
    input: int
    output: int
    disk: int


class Error(BaseModel):
    """The exception that a program has ended with, as it printed it. Untrusted text."""

    type: str
    message: str
    traceback: str


class Explanation(BaseModel):
    """What a limit, a refusal or an exception means: a name for it, and a text for anybody.

    remedy: what whoever chose the policy can change.
    """

    key: str
    text: str
    remedy: str


class File(BaseModel):
    """A file that has changed. text or base64: its content, if that was asked for.

    attributes: a text for each extended attribute that a commit gives to it, ACLs among them.
    """

    path: str
    kind: str
    type: str
    mode: int
    attributes: list[str] | None = None
    size: int | None = None
    text: str | None = None
    base64: str | None = None


class Inexact(BaseModel):
    """From which call on a replay of a record may do something else than the run, and why."""

    call: int
    why: str


class RunResult(BaseModel):
    """How a program has ended, and what it left: `proxybox.Result` as JSON.

    record, record_fault, record_exact, record_inexact, record_digest: where a record was asked for; it, why it is not
    complete, whether it can be replayed exactly, from where on not, and its digest.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ok", "exit_code": 0, "stdout": "42\n", "stderr": "", "ok": True}]},
    )

    status: str
    exit_code: int | None
    signal: int | None
    why: str
    stdout: str
    stderr: str
    truncated: bool
    error: Error | None
    hint: str
    explanations: list[Explanation]
    usage: Usage
    files: list[File]
    denials: list[dict[str, Any]]
    left_open: list[str]
    unknown_calls: dict[str, int]
    layers: dict[str, str]
    ok: bool
    output: list[tuple[str, str]] | None
    value: Any = None
    record: Bytes | None = None
    record_fault: str | None = None
    record_exact: bool | None = None
    record_inexact: Inexact | None = None
    record_digest: str | None = None


class ExecuteResult(RunResult):
    """The result of a session's call. display: what it has shown. alive: whether the session goes on."""

    display: list[dict[str, Any]]
    alive: bool


class SessionInfo(BaseModel):
    """A session: its age and the time since it was used, in seconds; its state, and the ids of its kept states.

    recorded: whether there is a record of it when it has ended.
    """

    id: str
    policy: str
    language: str
    age: float
    idle: float
    state: Literal["awake", "busy", "asleep"]
    snapshots: list[str]
    recorded: bool


class SessionRecord(BaseModel):
    """The record of a session that has ended, as a run's result tells of its record."""

    record: Bytes
    record_fault: str
    record_inexact: Inexact | None = None
    record_digest: str


class Fault(BaseModel):
    """A fault of a request: where, and what."""

    loc: list[str | int]
    msg: str


class ProblemDetails(BaseModel):
    """Why something was not done (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None
    request_id: str | None = None


class Health(BaseModel):
    """Whether the service takes requests, and why not."""

    status: Literal["starting", "ready", "draining", "failed"]
    why: str
    version: str
