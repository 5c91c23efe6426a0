"""What a service answers, as the objects that the API here has: results, what a session shows, errors."""

import base64
import contextlib
import errno
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from proxybox.commands import Displayed
from proxybox.controller.record.exactness import Inexact, read_inexact
from proxybox.controller.world.output import Transcript
from proxybox.errors import (
    CannotCopy,
    ExecutionError,
    PolicyError,
    ProxyboxError,
    RecordError,
    SandboxClosedError,
    SandboxStartError,
    SessionBusy,
)  # fmt: skip
from proxybox.jsonvalues import from_json
from proxybox.policies import Problem
from proxybox.records.taking import Taking
from proxybox.result import Files, Result
from proxybox.resultjson import fields_of
from proxybox.streamevents import DisplayEvent

from proxybox.controller.vfs.overlay.changes import Change  # isort: skip

#: How the fault of a record begins that has come, and is not kept here.
_NOT_WRITTEN: Final = "it cannot be written here"

_EXCEPTIONS: Final[Mapping[str, type[ProxyboxError]]] = {
    "session-ended": SandboxClosedError,
    "session-busy": SessionBusy,
    "cannot-copy": CannotCopy,
    "cannot-start": SandboxStartError,
}


class ServiceError(ProxyboxError):
    """The service did not do what was asked.

    kind: the last part of the problem's type, such as "rate-limited". status: of HTTP; 0 when there was no answer.
    retry_after: seconds, when another try makes sense. request_id: by which the service's own log knows the request.
    """

    def __init__(
        self, message: str, *, kind: str = "", status: int = 0, retry_after: float | None = None, request_id: str = ""
    ) -> None:
        super().__init__(message)
        self.kind, self.status, self.retry_after, self.request_id = kind, status, retry_after, request_id

    @property
    def pause(self) -> float | None:
        """After how many seconds a client sends the request again by itself; None for never.

        Where a worker was lost, the request was begun, maybe twice, and may be what has ended the workers.
        """
        return None if self.kind == "worker-lost" else self.retry_after


def result_of(data: Mapping[str, Any], taking: Taking | None = None) -> Result:
    """Returns the Result that a service has sent. Its text came as text, so bytes that are no UTF-8 are escaped.

    taking: where the record that came with it goes.
    """
    fields, transcript = fields_of(data), Transcript()
    alone = (("stdout", data["stdout"]), ("stderr", data["stderr"]))
    for stream, text in data.get("output") or alone:
        transcript.append(stream, text.encode("utf-8", "surrogatepass"))
    if taking is not None:
        fields |= attrs.asdict(record_of(data, taking), recurse=False)
    return Result(**{**fields, "files": _ReceivedFiles(fields["files"])}, printed=transcript.interleaved())


@attrs.frozen
class Recorded:
    """A record that a service has sent, as a Result tells of it."""

    record: Path | None = None
    record_fault: str = ""
    record_inexact: Inexact | None = None
    record_digest: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is written, so that the service need not have it any longer."""
        return self.record is not None and not self.record_fault.startswith(_NOT_WRITTEN)


class RecordedSession:
    """What both remote sessions tell of their record, once they are closed."""

    record: Path | None = None
    record_fault: str = ""
    record_inexact: Inexact | None = None
    record_digest: str = ""

    def _tell(self, recorded: Recorded) -> None:
        """Sets what came of the record."""
        self.record, self.record_fault, self.record_digest = (
            recorded.record,
            recorded.record_fault,
            recorded.record_digest,
        )
        self.record_inexact = recorded.record_inexact


def record_of(data: Mapping[str, Any], taking: Taking) -> Recorded:
    """Writes the record that came with an answer where it is wanted; without one, what is there is left alone."""
    fault = str(data.get("record_fault") or "")
    try:
        content = base64.b64decode(data["record"]["base64"], validate=True)
    except (KeyError, TypeError, ValueError):  # a service may send whatever it likes
        return Recorded(None, fault or "the service has sent no record")
    try:
        with io.BufferedWriter(taking.file()) as file:
            file.write(content)
    except OSError as error:
        fault = f"{_NOT_WRITTEN}: {error.strerror}"
    return Recorded(taking.taken, fault, _inexact(data), str(data.get("record_digest") or ""))


def _inexact(data: Mapping[str, Any]) -> Inexact | None:
    """Returns from where on a service says that a record is inexact: from its beginning on where it says nothing."""
    with contextlib.suppress(KeyError, RecordError):
        return read_inexact(data["record_inexact"])
    return Inexact(1, "the service does not tell whether it can be replayed exactly")


class _ReceivedFiles(Files):
    """Files of a run elsewhere: they can be read, and not be committed."""

    def __init__(self, changes: tuple[Change, ...]) -> None:
        super().__init__()
        self.changes = changes
        self._content = {
            change.name: change.content for change in changes if change.content is not None and change.kind != "deleted"
        }

    def commit(self) -> list[Change]:
        """Raises TypeError: the folder that they belong to is not here."""
        raise TypeError("the files of a run elsewhere cannot be committed: write them where they are wanted")


def displayed_of(event: DisplayEvent) -> Displayed:
    """Returns what a session has shown. Pictures are base64."""
    return Displayed(event.kind, from_json(event.data), from_json(event.metadata), event.wait)


def is_gone(error: Exception) -> bool:
    """Whether an exception says that what was asked for has ended, or is not there."""
    return isinstance(error, SandboxClosedError) or (isinstance(error, ServiceError) and error.status == 404)


def exception_of(status: int, body: bytes, retry_after: str | None = None) -> Exception:
    """Returns the exception for an answer that is none of what was asked for."""
    try:
        problem: Any = json.loads(body)
        kind = problem["type"].rpartition(":")[2]
        detail = str(problem["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ServiceError(f"the service answered with HTTP status {status}", status=status)
    return exception_of_problem(problem, kind, detail, status, retry_after)


def exception_of_problem(
    problem: Mapping[str, Any], kind: str, detail: str, status: int, retry_after: str | None
) -> Exception:
    """Returns the exception for a problem, of the kind that the same fault has here."""
    if kind == "invalid":
        faults = problem.get("errors") or [{"loc": [], "msg": detail}]
        return PolicyError(*(Problem(key=_place(fault["loc"]), message=fault["msg"]) for fault in faults))
    if kind in ("file-error", "disk-limit"):
        number = getattr(errno, str(problem.get("errno")), errno.EIO)
        return OSError(number, detail)
    if kind == "execution-error" and "result" in problem:
        return ExecutionError(result_of(problem["result"]))
    if kind in _EXCEPTIONS:
        return _EXCEPTIONS[kind](detail)
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return ServiceError(
        detail, kind=kind, status=status, retry_after=seconds, request_id=str(problem.get("request_id", ""))
    )


def _place(loc: Any) -> str:
    return ".".join(str(part) for part in loc if part != "body")
