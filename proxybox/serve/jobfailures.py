"""The failure that a worker sends to the service when a job has raised an exception."""

import errno
import os
import re
import traceback
from typing import Final

import attrs

from proxybox.controller.boxes.boxfiles import DiskLimitReached
from proxybox.errors import (
    CannotCopy,
    ExecutionError,
    PolicyError,
    SandboxClosedError,
    SandboxStartError,
    SessionBusy,
)  # fmt: skip
from proxybox.policies import Problem
from proxybox.serve.filetransfers import GivenUp
from proxybox.serve.results import result_as_json
from proxybox.serve.wiredata import FailureType, JobFailure, RequestFault

#: The beginning of the message about an invalid parameter.
_PARAMETER: Final = re.compile(r"([a-z_]+)(?:\[[^\]]*\])?: ")


def failure_of(error: Exception) -> JobFailure:
    """Returns the failure for an exception."""
    for kind, name in _FAILURES:
        if isinstance(error, kind):
            return _detailed(error, JobFailure(type=name, message=str(error)))
    traceback.print_exception(error)
    return JobFailure(type="internal_error", message=type(error).__name__)


def _detailed(error: Exception, failure: JobFailure) -> JobFailure:
    if isinstance(error, PolicyError):
        faults = [RequestFault(loc=_place(problem), msg=str(problem)) for problem in error.problems]
        return attrs.evolve(failure, errors=faults)
    if isinstance(error, OSError):
        number = error.errno or errno.EIO
        message = str(error.strerror) if isinstance(error, DiskLimitReached) else os.strerror(number)
        return attrs.evolve(failure, errno=errno.errorcode.get(number, "EIO"), message=message)
    if isinstance(error, ExecutionError):
        return attrs.evolve(failure, result=result_as_json(error.result))
    return failure


def _place(problem: Problem) -> list[str | int]:
    """Returns the place of a fault: a policy's key, or the parameter at the message's beginning (argumentchecks.py)."""
    named = _PARAMETER.match(problem.message)
    key = problem.key or (named.group(1) if named else "")
    return [*key.split(".")] if key else []


_FAILURES: Final[tuple[tuple[type[Exception], FailureType], ...]] = (
    (PolicyError, "invalid"),
    (SandboxClosedError, "session_ended"),
    (SessionBusy, "session_busy"),
    (CannotCopy, "cannot_copy"),
    (ExecutionError, "execution_error"),
    (SandboxStartError, "cannot_start"),
    (OSError, "file_error"),
    (GivenUp, "invalid"),
    (ValueError, "invalid"),
    (TypeError, "invalid"),
)
