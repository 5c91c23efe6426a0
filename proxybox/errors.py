"""Every exception that a user of proxybox can meet.

What a program in a box does wrong is data (`Result`), unless `check=True` asks for an exception.
"""

from typing import TYPE_CHECKING

from proxybox.controller.errors import CannotCopy as CannotCopy
from proxybox.controller.errors import GuestMisbehaved as GuestMisbehaved
from proxybox.controller.errors import SandboxClosedError as SandboxClosedError
from proxybox.controller.errors import SandboxStartError as SandboxStartError
from proxybox.controller.errors import SessionBusy as SessionBusy
from proxybox.controller.vfs.commits.refusals import CommitFailed as CommitFailed
from proxybox.controller.vfs.commits.refusals import CommitRefused as CommitRefused
from proxybox.controller.vfs.commits.refusals import CommitUnfinished as CommitUnfinished
from proxybox.policies.errors import PolicyError as PolicyError
from proxybox.policies.errors import ProxyboxError as ProxyboxError

if TYPE_CHECKING:
    from proxybox.result import Result


class ExecutionError(ProxyboxError):
    """A program did not end well. `result` tells everything about it."""

    def __init__(self, result: "Result") -> None:
        super().__init__(result.summary())
        self.result = result


class TimeLimitExceeded(ExecutionError):
    """The wall time or CPU time of the policy was used up."""


class MemoryLimitExceeded(ExecutionError):
    """The program ended for want of memory that the policy does not give."""


class OutputLimitExceeded(ExecutionError):
    """The program printed more than the policy allows, and the policy ends it for that."""


class DiskLimitExceeded(ExecutionError):
    """The program failed after it had used up the space or the number of files of the policy."""


class CallLimitExceeded(ExecutionError):
    """The program made more OS calls than the policy allows."""


class CallDenied(ExecutionError):
    """A call was refused, and the policy ends the box for that."""
