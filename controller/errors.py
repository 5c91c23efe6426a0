"""What can go wrong on the trusted side, apart from what a guest's own code does.

Rule: a guest can cause `GuestMisbehaved`, `Denied` and plain `OSError`; every other exception is our bug.
"""

from proxybox.controller.status import Status
from proxybox.policies.errors import ProxyboxError


class SandboxStartError(ProxyboxError):
    """A box could not be started: no interpreter, no compiler output, or a host that refuses what is mandatory."""


class SandboxClosedError(ProxyboxError):
    """The box was used after it had been closed."""


class CannotCopy(ProxyboxError):
    """A running program cannot be copied as it is now; it goes on undisturbed."""


class SessionBusy(ProxyboxError, RuntimeError):
    """A session does one thing at a time: another thread, or a callback, has asked for something while a call ran."""


class GuestMisbehaved(ProxyboxError):
    """The guest broke the protocol of the wire. Its box ends; nothing else does."""


class Denied(OSError):
    """A refusal by policy: the guest sees only the errno, the caller sees the reason in `Result.denials`.

    Takes an errno and the reason in words, as OSError does.
    """


class EndBox(Exception):
    """Ends the box from inside a call, by decision of the policy: not an error of anybody's.

    status: what the Result will carry. why: in words.
    """

    def __init__(self, status: Status | str, why: str) -> None:
        super().__init__(why)
        self.status = Status(status)
        self.why = why
