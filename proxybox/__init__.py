"""proxybox runs untrusted Python in a sealed PyPy; a trusted controller answers or denies each of its OS calls.

    >>> import proxybox
    >>> proxybox.run("print(6 * 7)").stdout
    '42\\n'

Each exported name is imported when it is first used.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proxybox.aio.pool import AsyncPool as AsyncPool
    from proxybox.aio.sandbox import AsyncSandbox as AsyncSandbox
    from proxybox.aio.session import AsyncSession as AsyncSession
    from proxybox.api import run as run
    from proxybox.api import run_file as run_file
    from proxybox.batch.mapping import map as map  # noqa: A004 - it is called proxybox.map
    from proxybox.commands import Completeness as Completeness
    from proxybox.commands import Completion as Completion
    from proxybox.commands import Displayed as Displayed
    from proxybox.commands import Inspection as Inspection
    from proxybox.controller.audit import Answer as Answer
    from proxybox.controller.audit import Denial as Denial
    from proxybox.controller.audit import Deny as Deny
    from proxybox.controller.audit import OSCall as OSCall
    from proxybox.controller.exchange.hostfunctions import HostFunction as HostFunction
    from proxybox.controller.record.exactness import Inexact as Inexact
    from proxybox.controller.record.parting import Frame as Frame
    from proxybox.controller.world.stdin import Terminal as Terminal
    from proxybox.diagnosis import Diagnosis as Diagnosis
    from proxybox.diagnosis import Layer as Layer
    from proxybox.diagnosis import diagnose as diagnose
    from proxybox.errors import BatchError as BatchError
    from proxybox.errors import CallbackError as CallbackError
    from proxybox.errors import CallDenied as CallDenied
    from proxybox.errors import CallLimitExceeded as CallLimitExceeded
    from proxybox.errors import CannotCopy as CannotCopy
    from proxybox.errors import CommitRefused as CommitRefused
    from proxybox.errors import DiskLimitExceeded as DiskLimitExceeded
    from proxybox.errors import ExecutionError as ExecutionError
    from proxybox.errors import GuestMisbehaved as GuestMisbehaved
    from proxybox.errors import MemoryLimitExceeded as MemoryLimitExceeded
    from proxybox.errors import OutputLimitExceeded as OutputLimitExceeded
    from proxybox.errors import PolicyError as PolicyError
    from proxybox.errors import ProxyboxError as ProxyboxError
    from proxybox.errors import RecordError as RecordError
    from proxybox.errors import SandboxClosedError as SandboxClosedError
    from proxybox.errors import SandboxStartError as SandboxStartError
    from proxybox.errors import SessionBusy as SessionBusy
    from proxybox.errors import TimeLimitExceeded as TimeLimitExceeded
    from proxybox.evaluating.evaluator import Evaluator as Evaluator
    from proxybox.evaluating.shared import evaluate as evaluate
    from proxybox.explanations import Explanation as Explanation
    from proxybox.policies import Environment as Environment
    from proxybox.policies import Filesystem as Filesystem
    from proxybox.policies import Limits as Limits
    from proxybox.policies import Mount as Mount
    from proxybox.policies import Network as Network
    from proxybox.policies import Output as Output
    from proxybox.policies import Policy as Policy
    from proxybox.policies import SessionLimits as SessionLimits
    from proxybox.policies import Time as Time
    from proxybox.pool.pool import Pool as Pool
    from proxybox.program import Program as Program
    from proxybox.records.record import Record as Record
    from proxybox.records.replaying import Replay as Replay
    from proxybox.records.replaying import ReplayedCall as ReplayedCall
    from proxybox.records.replaying import replay as replay
    from proxybox.remote.aclient import AsyncClient as AsyncClient
    from proxybox.remote.answers import ServiceError as ServiceError
    from proxybox.remote.client import Client as Client
    from proxybox.result import Files as Files
    from proxybox.result import GuestError as GuestError
    from proxybox.result import Result as Result
    from proxybox.result import Status as Status
    from proxybox.result import Usage as Usage
    from proxybox.running import Running as Running
    from proxybox.sandbox import Sandbox as Sandbox
    from proxybox.session import FileEntry as FileEntry
    from proxybox.session import Finished as Finished
    from proxybox.session import Printed as Printed
    from proxybox.session import Session as Session
    from proxybox.session import Snapshot as Snapshot

__version__ = "0.1.0"
"""The version of this package, as in its metadata."""

_HOMES = {
    "proxybox.aio.pool": ("AsyncPool",),
    "proxybox.aio.sandbox": ("AsyncSandbox",),
    "proxybox.aio.session": ("AsyncSession",),
    "proxybox.api": ("run", "run_file"),
    "proxybox.batch.mapping": ("map",),
    "proxybox.commands": ("Completeness", "Completion", "Displayed", "Inspection"),
    "proxybox.controller.audit": ("Answer", "Denial", "Deny", "OSCall"),
    "proxybox.controller.exchange.hostfunctions": ("HostFunction",),
    "proxybox.controller.world.stdin": ("Terminal",),
    "proxybox.diagnosis": ("Diagnosis", "Layer", "diagnose"),
    "proxybox.errors": (
        "BatchError", "CallDenied", "CallLimitExceeded", "CallbackError", "CannotCopy", "CommitRefused",
        "DiskLimitExceeded", "ExecutionError", "GuestMisbehaved", "MemoryLimitExceeded", "OutputLimitExceeded",
        "PolicyError", "ProxyboxError", "RecordError", "SandboxClosedError", "SandboxStartError", "SessionBusy",
        "TimeLimitExceeded",
    ),
    "proxybox.evaluating.evaluator": ("Evaluator",),
    "proxybox.evaluating.shared": ("evaluate",),
    "proxybox.explanations": ("Explanation",),
    "proxybox.policies": (
        "Environment", "Filesystem", "Limits", "Mount", "Network", "Output", "Policy", "SessionLimits", "Time",
    ),
    "proxybox.pool.pool": ("Pool",),
    "proxybox.program": ("Program",),
    "proxybox.records.record": ("Record",),
    "proxybox.controller.record.exactness": ("Inexact",),
    "proxybox.controller.record.parting": ("Frame",),
    "proxybox.records.replaying": ("Replay", "ReplayedCall", "replay"),
    "proxybox.remote.aclient": ("AsyncClient",),
    "proxybox.remote.answers": ("ServiceError",),
    "proxybox.remote.client": ("Client",),
    "proxybox.result": ("Files", "GuestError", "Result", "Status", "Usage"),
    "proxybox.running": ("Running",),
    "proxybox.sandbox": ("Sandbox",),
    "proxybox.session": ("FileEntry", "Finished", "Printed", "Session", "Snapshot"),
}  # fmt: skip
#: Packages from extras that the names of some modules need.
_NEEDS = {
    "proxybox.aio.": ("anyio",), "proxybox.remote.client": ("httpx",), "proxybox.remote.aclient": ("httpx", "anyio"),
}  # fmt: skip
#: Names that `import *` leaves out, because they would hide Python's builtins.
_HIDING = ("map",)
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def _all() -> list[str]:
    """Returns the names for `import *`, without those whose extra is not installed.

    It does not call the builtin `map`: after the first use of `proxybox.map`, that name is our own function here.
    """
    missing = tuple(home for home, needed in _NEEDS.items() if not all(find_spec(name) for name in needed))
    names = (name for name, home in _HOME_OF.items() if not home.startswith(missing) and name not in _HIDING)
    return ["__version__", *sorted(names)]


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return _all()
    if name not in _HOME_OF:
        raise AttributeError(f"module 'proxybox' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*_all(), *_HIDING]
