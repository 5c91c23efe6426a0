"""All exceptions that a user of proxybox can get.

Errors of a program in a box are data (`Result`), unless the caller asks for an exception with `check=True`.
"""

from proxybox.controller.errors import CallbackError as CallbackError
from proxybox.controller.errors import CannotCopy as CannotCopy
from proxybox.controller.errors import GuestMisbehaved as GuestMisbehaved
from proxybox.controller.errors import PackagesError as PackagesError
from proxybox.controller.errors import ProxyboxWarning as ProxyboxWarning
from proxybox.controller.errors import RecordError as RecordError
from proxybox.controller.errors import SandboxClosedError as SandboxClosedError
from proxybox.controller.errors import SandboxStartError as SandboxStartError
from proxybox.controller.errors import SessionBusy as SessionBusy
from proxybox.controller.vfs.commits.refusals import CommitFailed as CommitFailed
from proxybox.controller.vfs.commits.refusals import CommitRefused as CommitRefused
from proxybox.controller.vfs.commits.refusals import CommitUnfinished as CommitUnfinished
from proxybox.policies.errors import PolicyError as PolicyError
from proxybox.policies.errors import ProxyboxError as ProxyboxError
from proxybox.result import CallDenied as CallDenied
from proxybox.result import CallLimitExceeded as CallLimitExceeded
from proxybox.result import DiskLimitExceeded as DiskLimitExceeded
from proxybox.result import ExecutionError as ExecutionError
from proxybox.result import MemoryLimitExceeded as MemoryLimitExceeded
from proxybox.result import OutputLimitExceeded as OutputLimitExceeded
from proxybox.result import TimeLimitExceeded as TimeLimitExceeded


class BatchError(ProxyboxError):
    """The workers of a batch cannot do its work; the text says why."""
