"""The jobs that the service sends to a worker: one class for each, which the worker reads strictly (`read_job`).

A message is the JSON of one of them, with the number of the job as `job`. Its `op` names the class. The function that
does a job defines its answer (worker.py, sessioncommands.py).
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from proxybox.commands import Echo
from proxybox.jsonvalues import JSONObject
from proxybox.serve.wiredata import tagged
from proxybox.streamevents import by_tag

#: Bytes: as text, or in base64 as {"base64": ...}.
Content: TypeAlias = str | dict[str, str]


@attrs.frozen(kw_only=True)
class RunJob:
    """Runs a program: `code`, or `files` with the path of the one to start, `entry`.

    folder: the folder of the files in the box, in place of /box. options: of the interpreter, before the program.
    return_files: whether the result has the contents of changed files, or the paths of those whose content it has.
    stream: whether events are wanted.
    """

    op: Literal["run"] = "run"
    policy: str
    language: str
    code: str | None = None
    entry: str | None = None
    args: list[str] = attrs.field(factory=list)
    options: list[str] = attrs.field(factory=list)
    files: dict[str, Content] = attrs.field(factory=dict)
    folder: str = ""
    stdin: Content | None = None
    interactive: bool = False
    env: dict[str, str] | None = None
    limits: JSONObject | None = None
    output: JSONObject | None = None
    timeout: float | None = None
    return_files: bool | list[str] = False
    record: bool = False
    stream: bool = False


@attrs.frozen(kw_only=True)
class OpenJob:
    """Starts a session. timeout: of each of its calls."""

    op: Literal["open"] = "open"
    session: str
    policy: str
    language: str
    files: dict[str, Content] = attrs.field(factory=dict)
    env: dict[str, str] | None = None
    limits: JSONObject | None = None
    output: JSONObject | None = None
    timeout: float | None = None
    record: bool = False


@attrs.frozen(kw_only=True)
class ForkJob:
    """Makes a copy of a session. copy: its id."""

    op: Literal["fork"] = "fork"
    session: str
    copy: str


@attrs.frozen(kw_only=True)
class SnapshotJob:
    """Stores the state of a session, restores a stored state, or removes one."""

    op: Literal["snapshot", "restore", "forget"]
    session: str
    snapshot: str


@attrs.frozen(kw_only=True)
class EndJob:
    """Ends a session, and sends its record, if it has one, in pieces."""

    op: Literal["end"] = "end"
    session: str


@attrs.frozen(kw_only=True)
class SleepJob:
    """Puts a session to sleep; one that is busy stays awake."""

    op: Literal["sleep"] = "sleep"
    session: str


@attrs.frozen(kw_only=True)
class StateJob:
    """Requests a `WorkerState`."""

    op: Literal["state"] = "state"


@attrs.frozen(kw_only=True)
class MemoryJob:
    """Returns unused memory to the kernel."""

    op: Literal["give_back"] = "give_back"


# --- commands of a session --------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class CommandJob:
    """The common fields of the commands of a session.

    policy: the name of the session's. stream: whether events are wanted. weigh: whether the answer has the bytes of
    memory that the session uses.
    """

    session: str
    policy: str
    stream: bool = False
    weigh: bool = False


@attrs.frozen(kw_only=True)
class ExecuteJob(CommandJob):
    """Runs statements, or evaluates an expression. name, echo: as for `Session.exec`; not for an expression."""

    op: Literal["exec", "eval"]
    code: str
    name: str = ""
    echo: Echo = False
    stdin: Content | None = None
    interactive: bool = False
    timeout: float | None = None


@attrs.frozen(kw_only=True)
class CallJob(CommandJob):
    """Calls an object by its name."""

    op: Literal["call"] = "call"
    name: str
    args: list[Any] = attrs.field(factory=list)
    kwargs: JSONObject = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class SetJob(CommandJob):
    """Sets a variable."""

    op: Literal["set"] = "set"
    name: str
    value: Any


@attrs.frozen(kw_only=True)
class GetJob(CommandJob):
    """Reads a variable."""

    op: Literal["get"] = "get"
    name: str


@attrs.frozen(kw_only=True)
class CodeJob(CommandJob):
    """Requests completions at a position in code, facts about the object there, or whether the code is complete."""

    op: Literal["complete", "inspect", "is_complete"]
    code: str
    cursor: int | None = None
    detail: Literal[0, 1] = 0


@attrs.frozen(kw_only=True)
class ResetJob(CommandJob):
    """Empties the namespace."""

    op: Literal["reset"] = "reset"


@attrs.frozen(kw_only=True)
class FileJob(CommandJob):
    """Reads a file, or sends it in pieces. limit: the most bytes of the file."""

    op: Literal["read_file", "send_file"]
    path: str
    limit: int


@attrs.frozen(kw_only=True)
class WriteFileJob(CommandJob):
    """Writes a file. parents: whether its folders are made, too."""

    op: Literal["write_file"] = "write_file"
    path: str
    base64: str
    parents: bool = False


@attrs.frozen(kw_only=True)
class ReceiveFileJob(CommandJob):
    """Receives a file in pieces. size: in bytes; 0 if it is unknown."""

    op: Literal["receive_file"] = "receive_file"
    path: str
    size: int
    parents: bool = False


@attrs.frozen(kw_only=True)
class FolderJob(CommandJob):
    """Lists a folder."""

    op: Literal["list_files"] = "list_files"
    path: str


@attrs.frozen(kw_only=True)
class ChangesJob(CommandJob):
    """Lists the files that the session has changed."""

    op: Literal["changes"] = "changes"


# --- all of them ------------------------------------------------------------------------------------------------------

SessionCommand: TypeAlias = (
    ExecuteJob | CallJob | SetJob | GetJob | CodeJob | ResetJob | FileJob | WriteFileJob | ReceiveFileJob | FolderJob
    | ChangesJob
)  # fmt: skip
AnyJob: TypeAlias = (
    RunJob | OpenJob | ForkJob | SnapshotJob | EndJob | SleepJob | StateJob | MemoryJob | SessionCommand
)  # fmt: skip

_COMMANDS: Final[Mapping[str, Any]] = by_tag(SessionCommand, "op")
_JOBS: Final[Mapping[str, Any]] = by_tag(AnyJob, "op")


def command_job(command: str, fields: Mapping[str, Any]) -> SessionCommand:
    """Returns the job for a command of a session, by the command's name. Raises KeyError and TypeError."""
    job: SessionCommand = _COMMANDS[command](op=command, **fields)
    return job


def message_of(job: AnyJob, number: int) -> JSONObject:
    """Returns the message that is sent to a worker."""
    return {**attrs.asdict(job, recurse=False), "job": number}


def read_job(fields: JSONObject) -> AnyJob:
    """Returns the job of a message without its number. Raises ValueError for any other form."""
    job: AnyJob = tagged(_JOBS, "op", fields)
    return job
