"""Errors of the trusted side.

Rule: a guest can cause `GuestMisbehaved`, `Denied`, `EndBox` and plain `OSError`. Any other exception is a fault of
proxybox.
"""

import sys
import warnings

from proxybox.controller.status import Status
from proxybox.policies.errors import ProxyboxError


class SandboxStartError(ProxyboxError):
    """A box could not be started: no interpreter, no compiled stub, or a host that refuses a mandatory layer.

    limit: the policy's key, such as "limits.calls", of a box that was at its limit before it could run any code.
    """

    def __init__(self, message: str, *, limit: str = "") -> None:
        super().__init__(message)
        self.limit = limit


class ProxyboxWarning(UserWarning):
    """A function works, but not as well as it could; the text says why, and what to do."""


def warn(message: str) -> None:
    """Warns the code that has called proxybox (ProxyboxWarning), once for each place of a call."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("proxybox."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, ProxyboxWarning, stacklevel=level)


class RecordError(ProxyboxError):
    """A record of a run cannot be read, or cannot be replayed here; the text says what is wrong and what to do."""


class PackagesError(SandboxStartError):
    """Packages that cannot be installed: requirements that are invalid, or for which no wheels are found."""


class SandboxClosedError(ProxyboxError):
    """The box was used after it had been closed."""


class CannotCopy(ProxyboxError):
    """A running program cannot be copied in its current state; it continues undisturbed."""


class SessionBusy(ProxyboxError, RuntimeError):
    """A session was used, by another thread or by a callback, while one of its calls ran."""


class CallbackError(ProxyboxError):
    """In an event loop, a function of the caller raised a BaseException that is no Exception: the `__cause__`.

    SystemExit and the like would end the loop with all its tasks, and the CancelledError of another task would look as
    if this task was cancelled.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"a function of the caller has raised {type(error).__name__}")


class GuestMisbehaved(ProxyboxError):
    """The guest broke the protocol of the wire. Only its box ends."""


class Denied(OSError):
    """A refusal by policy: the guest sees only the errno, the caller sees the reason in `Result.denials`.

    Takes an errno and the reason in words, as OSError does.
    """


class EndBox(Exception):
    """Ends the box from inside a call because the policy says so; this is not an error.

    status: the status that the Result gets. why: the reason in words.
    """

    def __init__(self, status: Status | str, why: str) -> None:
        super().__init__(why)
        self.status = Status(status)
        self.why = why
