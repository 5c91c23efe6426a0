"""Turns a service's answers into the objects of the local API: results, objects that a session shows, errors."""

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

#: The beginning of the fault of a record that was received but cannot be written.
_NOT_WRITTEN: Final = "it cannot be written here"

_EXCEPTIONS: Final[Mapping[str, type[ProxyboxError]]] = {
    "session-ended": SandboxClosedError,
    "session-busy": SessionBusy,
    "cannot-copy": CannotCopy,
    "cannot-start": SandboxStartError,
}


class ServiceError(ProxyboxError):
    """The service has refused a request or failed.

    kind: the last part of the problem's type, such as "rate-limited". status: of HTTP; 0 when there was no answer.
    retry_after: seconds until another try makes sense. request_id: the request's id in the log of the service.
    """

    def __init__(
        self, message: str, *, kind: str = "", status: int = 0, retry_after: float | None = None, request_id: str = ""
    ) -> None:
        super().__init__(message)
        self.kind, self.status, self.retry_after, self.request_id = kind, status, retry_after, request_id

    @property
    def pause(self) -> float | None:
        """The seconds after which a client sends the request again by itself; None for never.

        If a worker was lost, the request was begun, maybe twice, and may have ended the workers itself.
        """
        return None if self.kind == "worker-lost" else self.retry_after


def result_of(data: Mapping[str, Any], taking: Taking | None = None) -> Result:
    """Returns the Result that a service has sent. Its output was sent as text, so bytes that are not UTF-8 are escaped.

    taking: the destination of its record.
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
    """A record that a service has sent, with the fields of a Result."""

    record: Path | None = None
    record_fault: str = ""
    record_inexact: Inexact | None = None
    record_digest: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is written, so that it can be removed at the service."""
        return self.record is not None and not self.record_fault.startswith(_NOT_WRITTEN)


class RecordedSession:
    """The common fields of both remote sessions about their record, after they are closed."""

    record: Path | None = None
    record_fault: str = ""
    record_inexact: Inexact | None = None
    record_digest: str = ""

    def _tell(self, recorded: Recorded) -> None:
        """Sets the fields about the record."""
        self.record, self.record_fault, self.record_digest = (
            recorded.record,
            recorded.record_fault,
            recorded.record_digest,
        )
        self.record_inexact = recorded.record_inexact


def record_of(data: Mapping[str, Any], taking: Taking) -> Recorded:
    """Writes the record of an answer to its path; without a record, an existing file is left alone."""
    fault = str(data.get("record_fault") or "")
    try:
        content = base64.b64decode(data["record"]["base64"], validate=True)
    except (KeyError, TypeError, ValueError):  # a service may send any JSON
        return Recorded(None, fault or "the service has sent no record")
    try:
        with io.BufferedWriter(taking.file()) as file:
            file.write(content)
    except OSError as error:
        fault = f"{_NOT_WRITTEN}: {error.strerror}"
    return Recorded(taking.taken, fault, _inexact(data), str(data.get("record_digest") or ""))


def _inexact(data: Mapping[str, Any]) -> Inexact | None:
    """Returns the event from which on a service says that a record is inexact: the first one if it says nothing."""
    with contextlib.suppress(KeyError, RecordError):
        return read_inexact(data["record_inexact"])
    return Inexact(1, "the service does not tell whether it can be replayed exactly")


class _ReceivedFiles(Files):
    """Files of a remote run: they can be read, but not committed."""

    def __init__(self, changes: tuple[Change, ...]) -> None:
        super().__init__()
        self.changes = changes
        self._content = {
            change.name: change.content for change in changes if change.content is not None and change.kind != "deleted"
        }

    def commit(self) -> list[Change]:
        """Raises TypeError: the folder of the files is not on this machine."""
        raise TypeError("the files of a run elsewhere cannot be committed: write them where they are wanted")


def displayed_of(event: DisplayEvent) -> Displayed:
    """Returns an object that a session has shown. Pictures are base64."""
    return Displayed(event.kind, from_json(event.data), from_json(event.metadata), event.wait)


def is_gone(error: Exception) -> bool:
    """Returns whether an exception says that the session or run has ended or does not exist."""
    return isinstance(error, SandboxClosedError) or (isinstance(error, ServiceError) and error.status == 404)


def exception_of(status: int, body: bytes, retry_after: str | None = None) -> Exception:
    """Returns the exception for an answer that reports a failure."""
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
    """Returns the exception for a problem: the one that the local API raises for the same fault."""
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
